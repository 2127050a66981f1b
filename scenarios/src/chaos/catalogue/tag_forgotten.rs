//! All snapshots of a tag are gone.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::Victim;

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "tag-forgotten",
    class: Class::Retention,
    summary: "all snapshots of a tag are gone",
    what: "A policy was applied to all snapshots at once instead of those of each tag. Every check passes.",
    notice: "Nothing is found for a tag that was verified before.",
    act: "Group by tag. Restore the snapshots from a copy that does not replicate deletions.",
    seen: &["restic/restic#4484", "restic/restic#5586"],
    not_verified: "Tags that are in no config and were never verified.",
    codes: &["snapshot.missing", "shape.snapshot_gone"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.first_of(rng, |tag, _| {
        let snapshots = victim.snapshots(tag)?;
        victim.forget_of(tag, &snapshots, &format!("all {} snapshots are gone", snapshots.len()))
    })
}
