//! All but the newest snapshot of a tag are gone.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "history-gone",
    class: Class::Retention,
    summary: "all but the newest snapshot of a tag are gone",
    what: "A typing error in the policy keeps one snapshot instead of many. The newest one restores; there \
        is no way back beyond it.",
    notice: "Snapshots that were known are gone, more than the policy drops.",
    act: "Correct the policy. Restore the snapshots from a copy that does not replicate deletions.",
    seen: &[],
    not_verified: "History that was lost before the first verified drill.",
    codes: &["shape.history_gone", "shape.snapshot_gone"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.first_of(rng, |tag, _| {
        let snapshots = victim.snapshots(tag)?;
        let old = snapshots.get(1..).filter(|old| old.len() >= HISTORY_MIN);
        let old = old.ok_or_else(|| nothing(format!("{tag} has a short history")))?;
        victim.forget_of(tag, old, &format!("{} older snapshots are gone", old.len()))
    })
}

/// Less is not a history.
const HISTORY_MIN: usize = 3;
