//! A snapshot file holds an older one.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "snapshot-outdated",
    class: Class::Repository,
    summary: "a snapshot file holds an older one",
    what: "The same with an older snapshot of the same tag: a restore of it gives older data under the \
        newer name.",
    notice: "The content does not fit the name of the file; the newest snapshot of the tag is gone.",
    act: "Take the file from another copy, or remove it and back up anew.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.snapshot", "shape.snapshot_gone"],
    strike: |victim, rng| victim.damage("snapshot-outdated", rng),
};
