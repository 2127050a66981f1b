//! A live database of SQLite was copied without its -wal.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use std::path::{Path, PathBuf};

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::staged::{Kind, StagedFile};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "sqlite-without-wal",
    class: Class::Source,
    summary: "a live database of SQLite was copied without its -wal",
    what: "The newest transactions are in the file beside the database. A backup of `*.db` leaves it out; \
        what is left is sound, and old.",
    notice: "The file says that it needs a -wal, and the rows of the last hours are missing.",
    act: "Capture SQLite by its online backup (`sqlite:` in a capture).",
    seen: &["dani-garcia/vaultwarden#4418"],
    not_verified: "Databases that were not in WAL mode.",
    codes: &["sqlite.wal_missing", "sqlite.rows_fell", "sqlite.table_vanished", "freshness."],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let with_wal = |file: &StagedFile| beside(&file.path, "-wal").metadata().is_ok_and(|meta| meta.len() > 0);
        let databases: Vec<_> = staged.of_kind(&[Kind::Sqlite])?.into_iter().filter(with_wal).collect();
        let database = databases.choose(rng).ok_or_else(|| nothing("no SQLite database of this tag has a -wal"))?;
        for suffix in ["-wal", "-shm"] {
            let path = beside(&database.path, suffix);
            if path.exists() {
                staged.remove(&path)?;
            }
        }
        Ok(format!("{} has no -wal", staged.name(&database.path)))
    })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}
