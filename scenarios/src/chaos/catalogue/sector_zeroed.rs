//! 4 KiB of a pack are zero.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "sector-zeroed",
    class: Class::Repository,
    summary: "4 KiB of a pack are zero",
    what: "A disk gave a sector up and put an empty one in its place.",
    notice: "The blobs that lie there do not decrypt.",
    act: "Restore from another copy. `restic repair` makes the repository consistent again, without what \
        is lost; then back up with everything read anew, so that lost blobs that are still in the source \
        come back.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["restore.content", "restore.tree", "repository.pack"],
    strike: |victim, rng| victim.damage("sector-zeroed", rng),
};
