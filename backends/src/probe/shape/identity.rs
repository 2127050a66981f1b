//! Who made the snapshot, and whether the snapshots that were known are still there.

use std::collections::BTreeMap;

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::memory::{Baseline, SNAPSHOT_GONE};
use firedrill_core::snapshot::Snapshot;
use firedrill_core::subject::Subject;

use super::stored::Stored;

pub(super) fn examine(subject: &Subject, stored: Option<&Stored>, examination: &mut Examination) {
    host(subject, stored, examination);
    if let Some(baseline) = &subject.history.baseline {
        snapshot_gone(subject, baseline, examination);
        if let Some(stored) = stored {
            history_gone(subject, baseline, stored, examination);
        }
    }
}

/// The snapshots of the series before the examined one, oldest first.
pub(super) fn before(subject: &Subject) -> impl Iterator<Item = &Snapshot> {
    let own = &subject.snapshot;
    subject.history.series.iter().filter(move |s| s.time <= own.time && s.id != own.id)
}

/// Whether several hosts write this series, as a habit: by the config, or because this host and another
/// one both wrote it more than once.
pub(super) fn hosts_share(subject: &Subject) -> bool {
    if !subject.drill.hosts.is_empty() {
        return subject.drill.hosts.len() > 1;
    }
    let total = before(subject).count();
    let own = before(subject).filter(|s| s.host == subject.snapshot.host).count();
    own >= 2 && own < total && own * 4 >= total
}

fn host(subject: &Subject, stored: Option<&Stored>, examination: &mut Examination) {
    let host = &subject.snapshot.host;
    let allowed = &subject.drill.hosts;
    let expected = if !allowed.is_empty() {
        (!allowed.contains(host)).then(|| format!("a snapshot by {}", allowed.join(" or ")))
    } else if let Some(baseline) = &subject.history.baseline {
        differs_from_baseline(subject, baseline, stored)
            .then(|| format!("a snapshot by {}, as in the last drill", baseline.host))
    } else {
        let usual = majority(subject);
        usual
            .filter(|usual| !same_service(usual, host) && !hosts_share(subject))
            .map(|usual| format!("a snapshot by {usual}, as before"))
    };
    if let Some(expected) = expected {
        examination.find(Finding::anomaly(
            "shape.host",
            subject.drill.series.to_string(),
            expected,
            format!(
                "one by {host}; if that is meant, accept it, or name all hosts of this target in the config"
            ),
        ));
    }
}

/// Whether two names are of one host, or of generations of one pod or container: `app-6d4cf56db6-x2kqp`
/// becomes `app-7f9d5b8c44-b8zt4` when it is rolled out anew.
fn same_service(one: &str, other: &str) -> bool {
    let is_made_up = |host| service(host) != Some(host);
    one == other || (service(one) == service(other) && is_made_up(one) && is_made_up(other))
}

/// The name without what Kubernetes and container engines make up.
fn service(host: &str) -> Option<&str> {
    // The letters and digits of Kubernetes, which spell no words, and the numbers of jobs.
    let is_made_up = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        let own = part.bytes().all(|b| b"bcdfghjklmnpqrstvwxz0123456789".contains(&b));
        lengths.contains(&part.len()) && own
    };
    if host.len() == 12 && host.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let Some((front, _)) = host.rsplit_once('-').filter(|(_, last)| is_made_up(last, 5..=5)) else {
        return Some(host);
    };
    match front.rsplit_once('-') {
        Some((name, hash)) if is_made_up(hash, 6..=10) => Some(name),
        _ => Some(front),
    }
}

/// Hosts that differ each time, such as pods with random names, say nothing; only a host that was seen
/// again can be missed.
fn differs_from_baseline(subject: &Subject, baseline: &Baseline, stored: Option<&Stored>) -> bool {
    let own = &subject.snapshot;
    if same_service(&baseline.host, &own.host) || baseline.snapshot_time > own.time {
        return false;
    }
    let steady =
        stored.is_some_and(|s| s.host_seen >= 2) || majority(subject).as_ref() == Some(&baseline.host);
    let known = before(subject).any(|s| s.host == own.host && s.time <= baseline.snapshot_time);
    steady && !known
}

/// The host of more than half of the earlier snapshots, and of at least two.
fn majority(subject: &Subject) -> Option<String> {
    let mut hosts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut total = 0;
    for snapshot in before(subject) {
        *hosts.entry(&snapshot.host).or_default() += 1;
        total += 1;
    }
    let (host, count) = hosts.into_iter().max_by_key(|(_, count)| *count)?;
    (count >= 2 && count * 2 > total).then(|| host.to_owned())
}

/// Retention never removes the newest snapshot. Where the newest one that is known is gone, somebody
/// removed it.
fn snapshot_gone(subject: &Subject, baseline: &Baseline, examination: &mut Examination) {
    let series = &subject.history.series;
    let newest = series.iter().map(|s| s.time).max();
    let there = series.iter().any(|s| s.id == baseline.snapshot);
    if !there && newest.is_none_or(|newest| newest < baseline.snapshot_time) {
        examination.find(Finding::anomaly(
            SNAPSHOT_GONE,
            baseline.snapshot.to_string(),
            format!("the snapshot of {:.0} that was drilled last, or a newer one", baseline.snapshot_time),
            match newest {
                Some(newest) => format!("it is gone, the newest one is of {newest}"),
                None => "it is gone".to_owned(),
            },
        ));
    }
}

/// A policy typo removes a history. Ordinary retention also removes snapshots, and many at its first run:
/// only next to nothing left of the series is a finding.
fn history_gone(subject: &Subject, baseline: &Baseline, stored: &Stored, examination: &mut Examination) {
    let series = &subject.history.series;
    let (had, has) = (stored.snapshots, series.len() as u64);
    let old = series.iter().filter(|s| s.time <= baseline.snapshot_time).count();
    let dropped = had.saturating_sub(has) >= 5 && has * 2 < had;
    let next_to_nothing = has <= 2 || has * 10 < had || (old <= 1 && has * 4 < had);
    let only_the_newest = has <= 1 && had >= 3;
    if only_the_newest || dropped && next_to_nothing {
        examination.find(Finding::anomaly(
            "shape.history_gone",
            subject.drill.series.to_string(),
            format!("about {had} snapshots, as in the last drill"),
            format!("{has}, of which {old} are not newer than it"),
        ));
    }
}
