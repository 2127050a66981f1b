//! A dump is empty.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::sql::Sql;
use crate::chaos::staged::Kind;
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "dump-empty",
    class: Class::Source,
    summary: "a dump is empty",
    what: "The dump failed at once, and what was packed and uploaded is nothing: a gzip of 20 bytes, or a \
        file of none.",
    notice: "The file holds no SQL.",
    act: "Make the job fail with the program that dumps (`set -o pipefail`, or a capture that firedrill \
        runs), and dump again.",
    seen: &["Skyfay/DBackup#154", "distillium/remnawave-backup-restore#39"],
    not_verified: "Nothing more than that.",
    codes: &["sql_dump.", "gzip.", "shape.file_emptied", "shape.dump_shrank", "structure.", "shape.all_empty", "shape.empty"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let dumps = staged.of_kind(&[Kind::Sql, Kind::SqlGz])?;
        let dump = dumps.choose(rng).ok_or_else(|| nothing("this tag has no SQL dump"))?;
        let mut sql = Sql::read(staged, dump)?;
        sql.text.clear();
        sql.write(staged, dump)?;
        Ok(format!("{} holds nothing", staged.name(&dump.path)))
    })
}
