//! A snapshot claims a time to come.

use anyhow::Result;
use rand::rngs::StdRng;
use jiff::SignedDuration;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::Victim;

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "future-snapshot",
    class: Class::Schedule,
    summary: "a snapshot claims a time to come",
    what: "A clock was wrong once. The snapshot stays the latest until that time comes, whatever is backed \
        up in between, and time-based retention counts from it.",
    notice: "The newest snapshot is newer than now.",
    act: "Remove the snapshot with `restic forget ID`, and correct the clock.",
    seen: &["restic/restic#21956", "restic/restic#3416"],
    not_verified: "Clocks that are wrong by minutes.",
    codes: &["freshness.future_snapshot"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, _| {
        staged.time = staged.time.checked_add(SignedDuration::from_hours(24 * 300))?;
        Ok(format!("a snapshot of {}", staged.time))
    })
}
