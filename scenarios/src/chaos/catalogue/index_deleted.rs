//! An index file is lost.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "index-deleted",
    class: Class::Repository,
    summary: "an index file is lost",
    what: "What it lists is in the repository, and nobody knows where.",
    notice: "Blobs that snapshots need are in no index.",
    act: "Run `restic repair index`.",
    seen: &["restic/restic#1589"],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["restore.content", "restore.tree"],
    strike: |victim, rng| victim.damage("index-deleted", rng),
};
