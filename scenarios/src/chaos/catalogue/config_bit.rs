//! One bit of the config is flipped.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "config-bit",
    class: Class::Repository,
    summary: "one bit of the config is flipped",
    what: "The config holds the id of the repository and what chunks are cut with. Without it nothing opens.",
    notice: "The repository cannot be opened.",
    act: "Take the file `config` from another copy; it is the same in every byte-identical mirror.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.config"],
    strike: |victim, rng| victim.damage("config-bit", rng),
};
