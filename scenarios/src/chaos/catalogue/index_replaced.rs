//! An index file holds another one.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "index-replaced",
    class: Class::Repository,
    summary: "an index file holds another one",
    what: "A botched repair. The file decrypts and is an index, only another one.",
    notice: "The content does not fit its name, and blobs cannot be found.",
    act: "Run `restic repair index`.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.index", "restore.content", "restore.tree"],
    strike: |victim, rng| victim.damage("index-replaced", rng),
};
