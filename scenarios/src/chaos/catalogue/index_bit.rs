//! One bit of an index file is flipped.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "index-bit",
    class: Class::Repository,
    summary: "one bit of an index file is flipped",
    what: "The file cannot be read, and what it lists cannot be found. A warm cache hides it.",
    notice: "The file does not decrypt.",
    act: "Run `restic repair index`.",
    seen: &["restic/restic#1868"],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.index", "restore.content", "restore.tree"],
    strike: |victim, rng| victim.damage("index-bit", rng),
};
