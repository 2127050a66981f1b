//! A snapshot file has length zero.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "snapshot-empty",
    class: Class::Repository,
    summary: "a snapshot file has length zero",
    what: "A crash before the content was on the disk. The name was.",
    notice: "The file is empty, and the newest snapshot that was known is gone.",
    act: "Remove the file and back up anew.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.snapshot", "shape.snapshot_gone"],
    strike: |victim, rng| victim.damage("snapshot-empty", rng),
};
