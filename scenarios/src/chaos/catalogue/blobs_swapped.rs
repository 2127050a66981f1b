//! Two blobs of the same length are exchanged.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "blobs-swapped",
    class: Class::Repository,
    summary: "two blobs of the same length are exchanged",
    what: "A misdirected write below the size of a file. Both blobs decrypt, since they are whole.",
    notice: "What decrypts at the place of a blob is not what its name promises: only a comparison with the \
        name shows it.",
    act: "Restore from another copy. `restic repair` makes the repository consistent again, without what \
        is lost; then back up with everything read anew, so that lost blobs that are still in the source \
        come back.",
    seen: &[],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["restore.content", "repository.pack"],
    strike: |victim, rng| victim.damage("blobs-swapped", rng),
};
