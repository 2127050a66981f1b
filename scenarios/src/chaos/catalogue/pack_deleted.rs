//! A data pack is lost.

use crate::chaos::fault::{Class, Fault};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "pack-deleted",
    class: Class::Repository,
    summary: "a data pack is lost",
    what: "An expiry rule of the bucket, a clean-up script that goes by age, or a race of two prunes \
        removed a pack that snapshots need.",
    notice: "The index names a pack that no listing has; files that need it do not come back.",
    act: "Restore from another copy. `restic repair` makes the repository consistent again, without what \
        is lost; then back up with everything read anew, so that lost blobs that are still in the source \
        come back.",
    seen: &["restic/restic#1868", "restic/restic#3370", "restic/restic#3023"],
    not_verified: "Nothing about damage that only older snapshots suffer from.",
    codes: &["repository.pack_missing", "restore.content"],
    strike: |victim, rng| victim.damage("pack-deleted", rng),
};
