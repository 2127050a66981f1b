//! A pack is cut short.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "pack-truncated",
    class: Class::Repository,
    summary: "a pack is cut short",
    what: "An upload broke off, or a file system lost the end of a file in a crash.",
    notice: "The size in the listing is not what the index needs; blobs behind the cut cannot be read.",
    act: "Restore from another copy. `restic repair` makes the repository consistent again, without what \
        is lost; then back up with everything read anew, so that lost blobs that are still in the source \
        come back.",
    seen: &["restic/restic#3455"],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.pack_size", "restore.content", "restore.tree"],
    strike: |victim, rng| victim.damage("pack-truncated", rng),
};
