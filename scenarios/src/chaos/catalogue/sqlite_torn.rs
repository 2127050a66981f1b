//! A database of SQLite was copied while it was written.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::staged::{Kind, Time};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "sqlite-torn",
    class: Class::Source,
    summary: "a database of SQLite was copied while it was written",
    what: "Some pages are from before a transaction and some from after it. The file opens, and most \
        queries work.",
    notice: "An integrity check reads all pages, and finds what does not fit.",
    act: "Capture SQLite by its online backup (`sqlite:` in a capture), never as a file.",
    seen: &["ttionya/vaultwarden-backup#107"],
    not_verified: "A torn copy whose pages happen to fit.",
    codes: &["sqlite."],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let databases = staged.of_kind(&[Kind::Sqlite])?;
        let large: Vec<_> = databases.into_iter().filter(|file| file.size >= 8 * PAGE as u64).collect();
        let database = large.choose(rng).ok_or_else(|| nothing("this tag has no SQLite database of some size"))?;
        let mut content = staged.read(database)?;
        let pages = content.len() / PAGE;
        // The second half is from an earlier moment, when what is in the next page was in this one.
        content.copy_within((pages / 2) * PAGE..(pages - 1) * PAGE, (pages / 2 + 1) * PAGE);
        staged.write(&database.path, &content, Time::Now)?;
        Ok(format!("half of the pages of {}", staged.name(&database.path)))
    })
}

/// The usual size of a page.
const PAGE: usize = 4096;
