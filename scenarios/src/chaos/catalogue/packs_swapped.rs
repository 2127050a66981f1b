//! Two packs of the same layout are exchanged.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "packs-swapped",
    class: Class::Repository,
    summary: "two packs of the same layout are exchanged",
    what: "A misdirected write or a botched move gives two files each other's names. All blobs are intact, \
        and all are in the wrong place.",
    notice: "What decrypts at the place of a blob is not what its name promises.",
    act: "Restore from another copy. `restic repair` makes the repository consistent again, without what \
        is lost; then back up with everything read anew, so that lost blobs that are still in the source \
        come back.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["restore.content", "restore.tree", "repository.pack"],
    strike: |victim, rng| victim.damage("packs-swapped", rng),
};
