//! One bit of a snapshot file is flipped.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "snapshot-bit",
    class: Class::Repository,
    summary: "one bit of a snapshot file is flipped",
    what: "The newest snapshot of a tag cannot be read any more; the one before it takes its place silently.",
    notice: "The file does not decrypt, and the newest snapshot that was known is gone.",
    act: "Take the file from another copy, or remove it and back up anew.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.snapshot", "shape.snapshot_gone"],
    strike: |victim, rng| victim.damage("snapshot-bit", rng),
};
