//! The `freshness` probe: the data is recent, and goes on being so.
//!
//! *Verified*: no snapshot of the series is dated in the future; the series goes on (by the objective, or
//! by the rhythm it had); the newest file is as recent as the config expects; dumps that used to change
//! still do; no older state of the data came back under a newer snapshot.
//!
//! *Not verified*: the age of the data inside files: a modification time says when a program wrote, not
//! what. The recovery point is left to canaries and to the probes that read data; without them it is the
//! time of the snapshot. Gaps among older snapshots are told and not judged: retention thins out old
//! snapshots just as an outage would.

mod dumps;
mod series;

use std::time::Duration;

use firedrill_core::config::units::Span;
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::{Kind, Manifest};
use firedrill_core::ports::Probe;
use firedrill_core::snapshot::Snapshot;
use firedrill_core::subject::Subject;
use jiff::{SignedDuration, Timestamp};

use super::names;

/// The name of the probe, and of its part of a baseline.
const NAME: &str = "freshness";
/// Where the baseline keeps the newest modification time.
const NEWEST: &str = "newest";

/// Examines how recent the data is.
#[derive(Clone, Copy, Debug, Default)]
pub struct FreshnessProbe;

impl Probe for FreshnessProbe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recognises(&self, _: &Subject) -> bool {
        true
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut examination = Examination::new(NAME, "times");
        if let Err(why) = examine(subject, &mut examination) {
            examination.interrupt(why);
        }
        examination
    }
}

fn examine(subject: &Subject, examination: &mut Examination) -> Result<(), String> {
    let watch = || subject.watch.check().map_err(|e| e.chain());
    watch()?;
    series::examine(subject, examination);
    if !subject.manifest.is_complete() {
        // What is missing is lost in the repository, which the restore has reported.
        examination.not_verified.push("the age of the data: some of it cannot be read".to_owned());
        return Ok(());
    }
    let newest = newest_data(subject, examination);
    watch()?;
    dumps::examine(subject, examination);
    went_back(subject, newest, examination);
    Ok(())
}

/// The newest modification time of a file that matters and is not dated after its snapshot, and how many
/// times were looked at and were not plausible.
fn newest(manifest: &Manifest, snapshot: &Snapshot, future_max: Span) -> (Option<Timestamp>, u64, u64) {
    let latest = snapshot.time.saturating_add(length(future_max)).unwrap_or(Timestamp::MAX);
    let (mut newest, mut looked_at, mut future) = (None, 0, 0);
    let files = manifest.files().filter(|e| !names::is_canary(e));
    for time in files.filter_map(|e| e.mtime) {
        looked_at += 1;
        if time > latest {
            future += 1;
        } else {
            newest = newest.max(Some(time));
        }
    }
    (newest, looked_at, future)
}

fn newest_data(subject: &Subject, examination: &mut Examination) -> Option<Timestamp> {
    let settings = &subject.drill.probes.freshness;
    let (newest, looked_at, future) = newest(&subject.manifest, &subject.snapshot, settings.future_max);
    examination.checked += looked_at;
    if future > 0 {
        examination.notes.push(format!("{future} files are dated after the snapshot, and were not counted"));
    }
    if let Some(newest) = newest {
        examination.notes.push(format!("the newest file is of {newest}"));
        examination.baseline.insert(NEWEST.to_owned(), newest.to_string().into());
    }
    if let Some(max) = subject.drill.expectations.newest_data_max {
        let age = newest.map(|newest| subject.at.duration_since(newest));
        if age.is_none_or(|age| age > length(max)) {
            examination.find(Finding::objective(
                "freshness.newest_data",
                subject.snapshot.paths.join(", "),
                format!("data that is at most {max} old"),
                match (newest, age) {
                    (Some(newest), Some(age)) => format!("the newest file is of {newest}, {} old", span(age)),
                    _ => "no file with a modification time".to_owned(),
                },
            ));
        }
    }
    newest
}

/// Looks for an older state of the data that came back: the same tree as in an earlier snapshot, although
/// a snapshot in between had newer data. The identity of trees covers the times of folders, so a file
/// that was made and removed again is not that.
fn went_back(subject: &Subject, newest_now: Option<Timestamp>, examination: &mut Examination) {
    let own = &subject.snapshot;
    let settings = &subject.drill.probes.freshness;
    let tolerance = length(settings.future_max);
    let accepted =
        subject.history.baseline.as_ref().filter(|b| b.accepted.is_some()).map(|b| b.snapshot_time);
    let before = |time: Timestamp| time < own.time && accepted.is_none_or(|since| time >= since);
    let newer = subject.history.earlier.iter().filter(|e| before(e.snapshot.time)).find_map(|e| {
        let manifest = e.manifest.as_ref().ok()?;
        let theirs = newest(manifest, &e.snapshot, settings.future_max).0?;
        // At the very top there is no folder whose time would tell that a file was made and removed.
        let in_folder = manifest.files().any(|f| f.mtime == Some(theirs) && f.path.contains(&b'/'));
        let is_newer = in_folder && newest_now.is_none_or(|now| theirs.duration_since(now).is_positive());
        (is_newer && e.snapshot.tree != own.tree).then_some((&e.snapshot, theirs))
    });
    let same = newer.and_then(|(between, theirs)| {
        let older = subject.history.series.iter().filter(|s| before(s.time) && s.time < between.time);
        let by_id = older.clone().find(|s| !own.tree.is_empty() && s.tree == own.tree);
        let by_content = || older.clone().find(|s| same_but_for_canaries(subject, s));
        by_id.or_else(by_content).map(|same| (same, between, theirs))
    });
    if let Some((same, between, theirs)) = same {
        examination.find(Finding::anomaly(
            "freshness.went_back",
            own.id.to_string(),
            format!("data that moves on; the snapshot of {:.0} had a file of {theirs}", between.time),
            format!("the very state of the snapshot of {:.0}", same.time),
        ));
        return;
    }
    let remembered = subject
        .history
        .baseline
        .as_ref()
        .filter(|b| before(b.snapshot_time))
        .and_then(|b| b.probes.get(NAME)?.get(NEWEST)?.as_str()?.parse::<Timestamp>().ok());
    if let (Some(was), Some(now)) = (remembered, newest_now)
        && was.duration_since(now) > tolerance
    {
        examination.notes.push(format!(
            "the newest file is of {now}; in the last drill it was of {was}: newer files were deleted, or older \
             data came back"
        ));
    }
}

/// Whether an earlier snapshot holds the same entries, with the same times also of folders.
fn same_but_for_canaries(subject: &Subject, snapshot: &Snapshot) -> bool {
    let earlier = subject.history.earlier.iter().find(|e| e.snapshot.id == snapshot.id);
    let Some(Ok(theirs)) = earlier.map(|e| &e.manifest) else { return false };
    let mut entries = theirs.entries().iter().filter(|e| !names::is_canary(e));
    let mut own = subject.manifest.entries().iter().filter(|e| !names::is_canary(e));
    let mut some = false;
    loop {
        match (own.next(), entries.next()) {
            (None, None) => return some,
            (Some(a), Some(b)) => {
                let same = a.path == b.path && a.kind == b.kind && a.mtime == b.mtime;
                if !same || !subject.manifest.same_content(a, theirs, b) {
                    return false;
                }
                some |= a.kind == Kind::File;
            }
            _ => return false,
        }
    }
}

/// A span of the config as a signed duration.
fn length(span: Span) -> SignedDuration {
    SignedDuration::try_from(span.0).unwrap_or(SignedDuration::MAX)
}

/// A duration for people, to the second.
fn span(duration: SignedDuration) -> Span {
    Span(Duration::from_secs(duration.as_secs().unsigned_abs()))
}

#[cfg(test)]
mod tests;
