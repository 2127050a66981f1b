//! One bit of a data blob is flipped.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "data-bit",
    class: Class::Repository,
    summary: "one bit of a data blob is flipped",
    what: "A disk, a cable or a memory module flips one bit of a pack. Its length and name stay what they \
        were, so that every listing agrees, and `restic check` without `--read-data` is content.",
    notice: "The message authentication code of the blob no longer fits when it is read.",
    act: "Restore from another copy. `restic repair` makes the repository consistent again, without what \
        is lost; then back up with everything read anew, so that lost blobs that are still in the source \
        come back.",
    seen: &["restic/restic#5220", "longhorn/longhorn#7069"],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["restore.content", "tree.content"],
    strike: |victim, rng| victim.damage("data-bit", rng),
};
