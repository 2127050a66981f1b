//! One bit of every key file is flipped.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "key-bit",
    class: Class::Keys,
    summary: "one bit of every key file is flipped",
    what: "The key file holds the master key, sealed with the password. Damaged, it looks to people like a \
        wrong password.",
    notice: "The repository cannot be opened.",
    act: "Take `keys/` from another copy. Keep a second password, whose key file is another one.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.key"],
    strike: |victim, rng| victim.damage("key-bit", rng),
};
