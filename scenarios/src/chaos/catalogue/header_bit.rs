//! One bit of the header of a pack is flipped.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "header-bit",
    class: Class::Repository,
    summary: "one bit of the header of a pack is flipped",
    what: "The header at the end of a pack repeats what the index says. As long as the index is there \
        nobody needs it; when the index is lost, it is the only way to rebuild it.",
    notice: "A pack that is read whole does not have the content that its name promises. The latest snapshots \
        restore all the same: the copy fails, not the tag.",
    act: "Run `restic repair packs` for this pack, or take the pack from another copy.",
    seen: &[],
    not_verified: "That a pack is found of which the restored data needs little: then it is not read whole.",
    codes: &["repository.pack"],
    strike: |victim, rng| victim.damage("header-bit", rng),
};
