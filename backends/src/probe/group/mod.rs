//! What belongs together: the parts of a group, and a database with the files that it knows of.
//!
//! *Verified*
//! - Each part of a group has a snapshot, and they are no further apart in time than the config allows.
//! - For each invariant: the dump that it asks is loaded by its engine, and every row of a query has its file, with the content that its digest promises; and, where
//!   that is asked for, every file has its row.
//!
//! *Not verified*
//! - That the parts are of one moment: snapshots of two jobs are as far apart as the jobs. What changed in between
//!   shows only where an invariant is about it.
//! - Whether the rows are all there are: a database that forgot both the row and the file is consistent.
//! - Rows without a digest: that the file is there says nothing about its content.

mod dumped;
#[cfg(test)]
mod engines;
mod invariant;
#[cfg(test)]
mod tests;

use firedrill_core::config::units::Span;
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::plan::{GROUP_PROBE, Selection};
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

use super::engine::session::Session;
use jiff::{SignedDuration, Timestamp, Unit};

/// A part has no snapshot.
const PART: &str = "group.part";
/// The parts are too far apart in time.
const SKEW: &str = "group.skew";

/// Examines what belongs together.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupProbe;

impl Probe for GroupProbe {
    fn name(&self) -> &'static str {
        GROUP_PROBE
    }

    fn recognises(&self, subject: &Subject) -> bool {
        !subject.drill.parts.is_empty() || !subject.drill.trials.invariants.is_empty()
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut session = Session::new(subject, GROUP_PROBE, "parts, rows and files");
        let examination = &mut session.examination;
        parts(subject, examination);
        for invariant in &subject.drill.trials.invariants {
            let Some(path) = &invariant.query.sqlite else { continue };
            if let Err(why) = invariant::examine(subject, invariant, path, examination) {
                examination.interrupt(format!("the invariant `{}`: {why}", invariant.name));
            }
        }
        // Loading is the business of the engine's own probe, and so is the time that it takes.
        session.aside(dumped::examine);
        session.finish()
    }
}

/// Whether the parts are all there, and how far they are apart.
fn parts(subject: &Subject, examination: &mut Examination) {
    let mut times = Vec::new();
    for part in &subject.drill.parts {
        examination.checked += 1;
        match &part.selection {
            Selection::Snapshot(snapshot) => times.push((snapshot.time, part)),
            Selection::Missing => examination.find(Finding::damage(
                PART,
                &part.target,
                format!("a snapshot of {} for the group", part.series),
                "none in this copy",
            )),
            Selection::Unknown => {
                examination.interrupt(format!("nobody knows which snapshots of {} there are", part.target));
            }
        }
    }
    times.sort_by_key(|(time, _)| *time);
    let (Some((oldest, first)), Some((newest, last))) = (times.first(), times.last()) else { return };
    if times.len() < 2 {
        return;
    }
    let skew = newest.duration_since(*oldest);
    let whole = |time: &Timestamp| time.round(Unit::Second).unwrap_or(*time);
    let told = format!(
        "{}, from {} at {} to {} at {}",
        Span(std::time::Duration::from_secs(skew.as_secs().unsigned_abs())),
        first.target,
        whole(oldest),
        last.target,
        whole(newest)
    );
    let max = subject.drill.trials.max_skew;
    let too_far = max.is_some_and(|max| SignedDuration::try_from(max.0).is_ok_and(|max| skew > max));
    match max.filter(|_| too_far) {
        Some(max) => examination.find(Finding::anomaly(
            SKEW,
            subject.drill.series.to_string(),
            format!("snapshots that are at most {max} apart"),
            told,
        )),
        None => examination.notes.push(format!("the parts are apart by {told}")),
    }
}
