//! The same snapshots with other keys: see the writer's `copy`.

use std::sync::Arc;

use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::pipeline::job::MirrorFacts;
use firedrill_core::progress::Progress;
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use rustic_core::WriteBackend;

use super::{MirrorRequest, Mirrored, Throttle};
use crate::repository::restic::write::{CopySource, Writer};

/// So many snapshots that were not copied are told one by one.
const TOLD_MAX: usize = 10;

/// Copies what `copy` lacks of the snapshots in `source`, which `password` opens. Nothing is ever deleted: retention
/// of the copy is a job of its own. The caller holds a shared lock on the source.
pub fn reencrypted(
    source: &Arc<dyn WriteBackend>,
    password: &Secret,
    copy: &Writer,
    request: &MirrorRequest,
    progress: &Progress,
    watch: &Watch,
) -> Mirrored {
    let throttle = Throttle::new(request.bandwidth);
    let pace = throttle.counting(progress, watch);
    let copied = copy.copy_from(&CopySource { backend: Arc::clone(source), password, pace: &pace }, watch);
    let copied = match copied {
        Ok(copied) => copied,
        Err(error) => return Mirrored { error: Some(error), ..Mirrored::default() },
    };
    let facts = MirrorFacts {
        files_copied: copied.files,
        bytes_copied: copied.bytes,
        files_deleted: 0,
        files_missing: copied.refused.len() as u64,
        lag_seconds: None,
    };
    let mut notes = Vec::new();
    if request.delete {
        notes.push("snapshots stay here until the retention of this copy drops them".to_owned());
    }
    let error = (!copied.refused.is_empty()).then(|| {
        let error = Error::new(ErrorKind::Unavailable, "copy all snapshots")
            .advise("a restore test of the source says what is damaged");
        copied.refused.iter().take(TOLD_MAX).fold(error, |error, why| error.because(why.clone()))
    });
    Mirrored { facts, notes, error }
}
