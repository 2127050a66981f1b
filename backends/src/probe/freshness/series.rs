//! The rhythm of a series: snapshots of the future, gaps, and an end.

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::subject::Subject;
use jiff::{SignedDuration, Timestamp};

use super::{length, span};

/// So many intervals tell the present rhythm.
const RECENT: usize = 10;
/// Only the newest intervals are judged: older ones retention may have stretched.
const JUDGED: usize = 3;
/// A series that is shorter than this has no rhythm.
const SNAPSHOTS_MIN: usize = 4;
/// A series stops when nothing comes for so many of its longest recent intervals, and at least so long.
const PATIENCE: i32 = 3;
const PATIENCE_MIN: SignedDuration = SignedDuration::from_hours(1);

pub(super) fn examine(subject: &Subject, examination: &mut Examination) {
    let times = future(subject, examination);
    examination.checked += subject.history.series.len() as u64;
    let Some(newest) = times.first().copied() else { return };
    let intervals: Vec<_> =
        times.iter().zip(times.iter().skip(1)).map(|(new, old)| new.duration_since(*old)).collect();
    worst(subject, &times, examination);
    // An older snapshot that is drilled as well says nothing about the series again.
    if subject.snapshot.time < newest {
        return;
    }
    match subject.drill.objectives.rpo {
        Some(rpo) => gap(subject, &times, &intervals, length(rpo), examination),
        None => stopped(subject, newest, &intervals, examination),
    }
}

/// Reports snapshots that are dated in the future: each shadows every later one as `latest`, and makes
/// retention by age remove the real ones. Returns the other times, newest first, each once.
fn future(subject: &Subject, examination: &mut Examination) -> Vec<Timestamp> {
    let max = subject.drill.probes.freshness.future_max;
    let limit = subject.at.saturating_add(length(max)).unwrap_or(Timestamp::MAX);
    let (future, past): (Vec<_>, Vec<_>) = subject.history.series.iter().partition(|s| s.time > limit);
    for snapshot in future {
        examination.find(Finding::anomaly(
            "freshness.future_snapshot",
            snapshot.id.to_string(),
            format!("no snapshot that is dated later than {max} after {}", subject.at),
            format!("one of {} by {}", snapshot.time, snapshot.host),
        ));
    }
    let mut times: Vec<_> = past.into_iter().map(|s| s.time).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.dedup();
    times
}

fn worst(subject: &Subject, times: &[Timestamp], examination: &mut Examination) {
    let window = subject.drill.probes.freshness.gap_window;
    let start = subject.at.saturating_sub(length(window)).unwrap_or(Timestamp::MIN);
    let ends = std::iter::once(subject.at).chain(times.iter().copied());
    let gaps = ends.zip(times.iter().copied()).filter(|(_, old)| *old >= start);
    if let Some((gap, after)) = gaps.map(|(new, old)| (new.duration_since(old), old)).max() {
        let objective = subject.drill.objectives.rpo;
        let missed = objective.is_some_and(|rpo| gap > length(rpo));
        examination.notes.push(format!(
            "the worst window of loss in the last {window} was {}, after {after}{}",
            span(gap),
            if missed { "; it exceeds the objective, unless retention removed snapshots there" } else { "" }
        ));
        examination.baseline.insert("worst_gap_seconds".to_owned(), gap.as_secs().into());
    }
}

/// A missing run among the newest snapshots. Retention makes intervals longer the older they are; an
/// interval that is long while older ones are short is an outage.
fn gap(
    subject: &Subject,
    times: &[Timestamp],
    intervals: &[SignedDuration],
    rpo: SignedDuration,
    examination: &mut Examination,
) {
    let window = length(subject.drill.probes.freshness.gap_window);
    // Runs start a little late now and then.
    let limit = rpo.saturating_add(rpo / 10);
    for (at, interval) in intervals.iter().enumerate().take(JUDGED) {
        // The rhythm is what came after the gap, if anything did: before it may lie snapshots that somebody
        // made by hand and pinned.
        let others = if at == 0 { intervals.get(1..) } else { intervals.get(..at) };
        let mut others: Vec<_> = others.unwrap_or_default().iter().take(RECENT).copied().collect();
        others.sort_unstable();
        let Some(typical) = others.get(others.len() / 2).copied() else { return };
        let older = intervals.get(at + 1..at + 3).unwrap_or_default();
        let older_are_regular = older.len() == 2 && older.iter().all(|i| *i <= limit && *i >= typical / 4);
        let (Some(end), Some(start)) = (times.get(at), times.get(at + 1)) else { return };
        let recent = subject.at.duration_since(*start) <= window;
        if *interval > limit && older_are_regular && recent {
            examination.find(Finding::objective(
                "freshness.gap",
                subject.drill.series.to_string(),
                format!("a snapshot at least every {}", span(rpo)),
                format!("none for {}, from {start} to {end}", span(*interval)),
            ));
        }
    }
}

fn stopped(
    subject: &Subject,
    newest: Timestamp,
    intervals: &[SignedDuration],
    examination: &mut Examination,
) {
    if intervals.len() + 1 < SNAPSHOTS_MIN {
        return;
    }
    let Some(longest) = intervals.iter().take(RECENT).max().copied() else { return };
    let patience = longest.checked_mul(PATIENCE).unwrap_or(SignedDuration::MAX).max(PATIENCE_MIN);
    let age = subject.at.duration_since(newest);
    if age > patience {
        examination.find(Finding::objective(
            "freshness.stopped",
            subject.drill.series.to_string(),
            format!("a new snapshot at least every {}, as was usual", span(longest)),
            format!("none for {}, since {newest}", span(age)),
        ));
    }
}
