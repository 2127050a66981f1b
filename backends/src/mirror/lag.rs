//! How far a copy is behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use firedrill_core::config::jobs::MirrorMode;
use firedrill_core::error::Result;
use firedrill_core::pipeline::job::MirrorFacts;
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use rustic_core::{Id, WriteBackend};

use super::Side;
use super::end::End;
use super::identical::{lacking, missing};
use crate::repository::restic::known::{self, Likeness};

/// What `copy` lacks of `source`, and the age of the newest snapshot that it lacks: by the time of the snapshot where
/// a key tells, else by the time of its file where the place tells, else unknown; 0 when nothing is missing.
pub fn lag(
    source: &Side,
    copy: &Side,
    mode: MirrorMode,
    now: Timestamp,
    watch: &Watch,
) -> Result<MirrorFacts> {
    let (from, to) = (source.open()?, copy.open()?);
    let age = |time: Timestamp| now.duration_since(time).as_secs_f64().max(0.0);
    let mut facts = MirrorFacts::default();
    if mode == MirrorMode::Reencrypted {
        let missing = unlike(source, copy, &from, &to, watch)?;
        if let Some(times) = missing {
            facts.files_missing = times.len() as u64;
            facts.lag_seconds = Some(times.into_iter().max().map_or(0.0, age));
        }
        return Ok(facts);
    }
    let theirs = End::source(&from).look(watch)?;
    let ours = End::copy(&to).look(watch)?;
    facts.files_missing = missing(&theirs, &ours);
    let absent: BTreeSet<Id> = lacking(&theirs.snapshots, &ours.snapshots).map(|(id, _)| id).collect();
    if absent.is_empty() {
        facts.lag_seconds = Some(0.0);
        return Ok(facts);
    }
    let newest = match &source.password {
        Some(password) => {
            let (read, _) = known::snapshots(from, password, watch)?;
            let of_absent = read.into_iter().filter(|(id, _)| absent.contains(id));
            of_absent.filter_map(|(_, raw)| Some(Likeness::of(&raw)?.time())).max()
        }
        None => {
            let times = known::snapshot_file_times(&source.location, &source.access)?.unwrap_or_default();
            times.into_iter().filter(|(id, _)| absent.contains(id)).map(|(_, time)| time).max()
        }
    };
    facts.lag_seconds = newest.map(age);
    Ok(facts)
}

/// The times of the snapshots that have no counterpart; nothing where a key is missing.
fn unlike(
    source: &Side,
    copy: &Side,
    from: &Arc<dyn WriteBackend>,
    to: &Arc<dyn WriteBackend>,
    watch: &Watch,
) -> Result<Option<Vec<Timestamp>>> {
    let (Some(theirs), Some(ours)) = (&source.password, &copy.password) else { return Ok(None) };
    let (theirs, _) = known::snapshots(Arc::clone(from), theirs, watch)?;
    let (ours, _) = known::snapshots(Arc::clone(to), ours, watch)?;
    let here: BTreeSet<Likeness> = ours.iter().filter_map(|(_, raw)| Likeness::of(raw)).collect();
    let likenesses = theirs.iter().filter_map(|(_, raw)| Likeness::of(raw));
    Ok(Some(likenesses.filter(|one| !here.contains(one)).map(|one| one.time()).collect()))
}
