//! Old snapshots go by rules, and never the last one that was proven good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firedrill_core::config::jobs::RetentionConfig;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::job::{Facts, Job, JobOrder, JobReport, RetentionFacts};
use firedrill_core::retention::{Decided, GroupBy, Guard};
use firedrill_core::snapshot::SnapshotId;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Place;
use crate::repository::restic::write::{ForgetRequest, PruneRequest};

/// So many dropped snapshots are told one by one.
const DROPPED_TOLD: usize = 10;

/// Applies the rules of retention to a repository.
pub struct RetentionJob {
    /// The repository.
    pub place: Place,
    /// The rules.
    pub rules: RetentionConfig,
    /// The newest verified snapshot of each series, with its time.
    pub verified: BTreeMap<String, (SnapshotId, Timestamp)>,
    /// The longest time in which damage goes unseen.
    pub detection: Option<Duration>,
    /// Where the rules are applied.
    pub zone: TimeZone,
    /// Only snapshots of these hosts; without any: all.
    pub only_hosts: Vec<String>,
    /// Whether nothing is removed.
    pub dry_run: bool,
}

impl Job for RetentionJob {
    fn run(&self, order: &JobOrder<'_>) -> JobReport {
        match self.apply(order) {
            Ok(report) => report,
            Err(error) => JobReport::failed(error),
        }
    }
}

impl RetentionJob {
    fn apply(&self, order: &JobOrder<'_>) -> Result<JobReport> {
        let (writer, _) = self.place.open(&order.watch)?;
        let verified: BTreeSet<SnapshotId> = match self.rules.keep_verified {
            true => self.verified.values().map(|(id, _)| id.clone()).collect(),
            false => BTreeSet::new(),
        };
        let request = ForgetRequest {
            policy: self.rules.keep.clone(),
            by: GroupBy::default(),
            guard: Guard {
                never_drop: verified,
                max_share: Some(self.rules.drop_max_ratio),
                ..Guard::default()
            },
            zone: self.zone.clone(),
            now: Some(order.started),
            only_hosts: self.only_hosts.clone(),
            dry_run: self.dry_run,
            ..ForgetRequest::default()
        };
        let prune = PruneRequest::default();
        let forgotten = writer.forget(&request, self.rules.prune.then_some(&prune), &order.watch)?;
        let dropped: Vec<&Decided> = forgotten.decided.iter().filter(|one| one.is_removed()).collect();
        let kept = || forgotten.decided.iter().filter(|one| !one.is_removed());
        let mut facts = RetentionFacts {
            kept: kept().count() as u64,
            dropped: dropped.len() as u64,
            headroom_seconds: self.headroom(kept(), order.started),
            ..RetentionFacts::default()
        };
        if let Some(pruned) = forgotten.pruned {
            facts.bytes = pruned.bytes_after;
            facts.bytes_freed = pruned.bytes_before.saturating_sub(pruned.bytes_after);
        }
        let mut report = JobReport::succeeded(Facts::Retention(facts));
        if self.rules.check && !self.dry_run {
            let checked = writer.check(0, 0, &order.watch)?;
            if let Some(first) = checked.errors.first() {
                let error = Error::new(
                    ErrorKind::Unavailable,
                    format!("find {} sound after retention", self.place.name),
                )
                .because(first.clone());
                report = JobReport { facts: report.facts, ..JobReport::failed(error) };
            }
        }
        report.notes = dropped
            .iter()
            .take(DROPPED_TOLD)
            .map(|one| {
                format!(
                    "{} {} of {}",
                    if self.dry_run { "would drop" } else { "dropped" },
                    one.candidate.id.short(),
                    one.candidate.time
                )
            })
            .collect();
        Ok(report)
    }

    /// How much longer damage may go unseen than it does until no good snapshot is left, by series: the age of the
    /// oldest snapshot that is known to be good, less the longest time in which damage goes unseen. Known to be good
    /// is what is not newer than a verified one.
    fn headroom<'d>(&self, kept: impl Iterator<Item = &'d Decided>, now: Timestamp) -> BTreeMap<String, f64> {
        let Some(detection) = self.detection else { return BTreeMap::new() };
        let mut oldest: BTreeMap<String, Timestamp> = BTreeMap::new();
        for one in kept {
            let candidate = &one.candidate;
            for tag in &candidate.tags {
                let good = self.verified.get(tag).is_some_and(|(_, verified)| candidate.time <= *verified);
                if good {
                    let time = oldest.entry(tag.clone()).or_insert(candidate.time);
                    *time = candidate.time.min(*time);
                }
            }
        }
        oldest
            .into_iter()
            .map(|(tag, oldest)| (tag, now.duration_since(oldest).as_secs_f64() - detection.as_secs_f64()))
            .collect()
    }
}
