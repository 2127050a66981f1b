//! The dump job is dead, and its last dump is backed up again and again.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::staged::Kind;
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "dump-stale",
    class: Class::Source,
    summary: "the dump job is dead, and its last dump is backed up again and again",
    what: "Dump and upload are two jobs. The first fails, the second succeeds every day with the same file.",
    notice: "The snapshot is new, and no data in it is newer than last time.",
    act: "Repair the dump job; better, let one job make the dump and the snapshot.",
    seen: &[],
    not_verified: "Data that nobody changes in fact: there the same content is right, and `newest_data_max` cannot \
        hold.",
    codes: &["freshness."],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, _| {
        let times: Vec<_> = victim.snapshots(staged.tags.first().map_or("", String::as_str))?.into_iter().map(|one| one.time).collect();
        let apart = times.windows(2).filter_map(|pair| Some(pair.first()?.duration_since(*pair.last()?))).max();
        let apart = apart.filter(|_| times.len() >= SNAPSHOTS_MIN).ok_or_else(|| nothing("there is no rhythm yet"))?;
        if staged.time.duration_since(staged.snapshot.time).saturating_mul(4) < apart.saturating_mul(3) {
            return Err(nothing("the next dump is not due yet"));
        }
        match staged.of_kind(&[Kind::Sql, Kind::SqlGz])?.len() {
            0 => Err(nothing("this tag has no SQL dump")),
            dumps => Ok(format!("the same {dumps} dumps as last time")),
        }
    })
}

/// In fewer nobody can see that each has a dump of its own.
const SNAPSHOTS_MIN: usize = 4;
