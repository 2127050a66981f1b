//! All key files are lost.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "keys-deleted",
    class: Class::Keys,
    summary: "all key files are lost",
    what: "A mirror with a filter, or a clean-up, left `keys/` out. All data is there, and nobody will ever \
        read it.",
    notice: "The repository cannot be opened.",
    act: "Take `keys/` from another copy: every byte-identical mirror has them.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.key"],
    strike: |victim, rng| victim.damage("keys-deleted", rng),
};
