//! One bit of a tree blob is flipped.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "tree-bit",
    class: Class::Repository,
    summary: "one bit of a tree blob is flipped",
    what: "The same as for data, in the blob that lists a folder: everything below that folder is lost, \
        although its content is intact.",
    notice: "The folder cannot be read when the snapshot is restored without a cache; a warm cache hides it.",
    act: "Restore from another copy. `restic repair` makes the repository consistent again, without what \
        is lost; then back up with everything read anew, so that lost blobs that are still in the source \
        come back.",
    seen: &["restic/restic#21945"],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["restore.tree", "restore.entry"],
    strike: |victim, rng| victim.damage("tree-bit", rng),
};
