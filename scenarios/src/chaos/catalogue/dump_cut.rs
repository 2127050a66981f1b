//! A packed dump is cut short.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::staged::{Kind, Time};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "dump-cut",
    class: Class::Source,
    summary: "a packed dump is cut short",
    what: "The disk was full, or the job was killed, while the dump was written. The file is uploaded \
        without an error.",
    notice: "The packed stream has no end.",
    act: "Make the job fail with the program that dumps (`set -o pipefail`, or a capture that firedrill \
        runs), and dump again.",
    seen: &["k0lter/autopostgresqlbackup#2"],
    not_verified: "Dumps that are not SQL packed by gzip; other kinds have tests of their own.",
    codes: &["gzip.truncated", "gzip.damaged", "sql_dump.truncated"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let dumps = staged.of_kind(&[Kind::SqlGz])?;
        let dump = dumps.choose(rng).ok_or_else(|| nothing("this tag has no SQL packed by gzip"))?;
        let mut content = staged.read(dump)?;
        content.truncate(rng.random_range(20..content.len()));
        staged.write(&dump.path, &content, Time::Now)?;
        Ok(format!("{} has {} of {} bytes", staged.name(&dump.path), content.len(), dump.size))
    })
}
