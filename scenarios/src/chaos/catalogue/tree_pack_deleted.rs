//! A pack of trees is lost.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "tree-pack-deleted",
    class: Class::Repository,
    summary: "a pack of trees is lost",
    what: "The same as for data, and worse: all folders in it are lost with everything below them.",
    notice: "The index names a pack that no listing has; folders cannot be read.",
    act: "Restore from another copy. `restic repair` makes the repository consistent again, without what \
        is lost; then back up with everything read anew, so that lost blobs that are still in the source \
        come back.",
    seen: &["restic/restic#1868"],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.pack_missing", "restore.tree"],
    strike: |victim, rng| victim.damage("tree-pack-deleted", rng),
};
