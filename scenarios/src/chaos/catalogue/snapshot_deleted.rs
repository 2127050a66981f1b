//! The newest snapshot of a tag is deleted.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "snapshot-deleted",
    class: Class::Security,
    summary: "the newest snapshot of a tag is deleted",
    what: "Somebody with access removes the newest snapshot, or a clean-up script does. What is left is \
        consistent: every check passes, and a restore silently gives older data.",
    notice: "Only a memory outside of the repository knows that there was a newer one.",
    act: "Find out who removed it, and with whose credentials; make the repository append-only. Restore \
        from another copy if the data is needed.",
    seen: &["restic/restic#2536"],
    not_verified: "That the deletion of a snapshot is noticed which was never drilled.",
    codes: &["shape.snapshot_gone"],
    strike: |victim, rng| victim.damage("snapshot-deleted", rng),
};
