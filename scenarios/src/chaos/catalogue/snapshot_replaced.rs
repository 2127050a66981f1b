//! A snapshot file holds that of another tag.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "snapshot-replaced",
    class: Class::Repository,
    summary: "a snapshot file holds that of another tag",
    what: "A botched repair or a mixed-up copy. The file decrypts and is a snapshot, only another one.",
    notice: "The content does not fit the name of the file; the newest snapshot of the tag is gone.",
    act: "Take the file from another copy, or remove it and back up anew.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.snapshot", "shape.snapshot_gone"],
    strike: |victim, rng| victim.damage("snapshot-replaced", rng),
};
