//! The same plain objects: see the objects' `copying`.

use std::path::Path;

use firedrill_core::pipeline::job::MirrorFacts;
use firedrill_core::progress::Progress;
use firedrill_core::watch::Watch;
use jiff::Timestamp;

use super::{MirrorRequest, Mirrored, Side, Throttle};
use crate::repository::objects::{CopyRequest, ObjectSettings, copy_objects};

/// Fills the plain objects at `copy` from those at `source`. `work` is a folder for what is on its way.
pub fn mirror_objects(
    source: &Side,
    copy: &Side,
    settings: &ObjectSettings,
    request: &MirrorRequest,
    (work, now): (&Path, Timestamp),
    progress: &Progress,
    watch: &Watch,
) -> Mirrored {
    let throttle = Throttle::new(request.bandwidth);
    let pace = throttle.counting(progress, watch);
    let wanted = CopyRequest {
        settings,
        delete: request.delete,
        keep_ratio_min: request.keep_ratio_min,
        pace: &pace,
        work,
        began: now,
    };
    let from = (&source.location, &source.access);
    let done = copy_objects(from, (&copy.location, &copy.access), &wanted, watch);
    let age = |time: Timestamp| now.duration_since(time).as_secs_f64().max(0.0);
    // When something went wrong before all was seen, nobody knows what is missing.
    let known = done.error.is_none() || done.newest_missing.is_some();
    let facts = MirrorFacts {
        files_copied: done.objects,
        bytes_copied: done.bytes,
        files_deleted: done.deleted,
        files_missing: done.missing,
        lag_seconds: known.then(|| done.newest_missing.map_or(0.0, age)),
    };
    Mirrored { facts, notes: done.notes, error: done.error }
}
