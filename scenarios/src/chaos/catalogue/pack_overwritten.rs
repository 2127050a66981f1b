//! A pack has its size, and holds noise.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "pack-overwritten",
    class: Class::Repository,
    summary: "a pack has its size, and holds noise",
    what: "Another program wrote over it, or its disk has another idea of what is where.",
    notice: "Nothing in it decrypts.",
    act: "Restore from another copy. `restic repair` makes the repository consistent again, without what \
        is lost; then back up with everything read anew, so that lost blobs that are still in the source \
        come back.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["restore.content", "restore.tree", "repository.pack"],
    strike: |victim, rng| victim.damage("pack-overwritten", rng),
};
