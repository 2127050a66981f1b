//! What is known of each job, pushed to a Prometheus Pushgateway.
//!
//! | metric | labels besides those of the group |
//! |---|---|
//! | `firedrill_job_outcome` | kind, outcome: 1 for that of the last run, 0 for the others |
//! | `firedrill_job_last_start_timestamp_seconds`, `..._last_run_timestamp_seconds` (its end) | kind |
//! | `firedrill_job_duration_seconds` | kind |
//! | `firedrill_job_failures` | kind: bad runs since the last success |
//! | `firedrill_job_missed` | kind: planned runs that never were, in all |
//! | `firedrill_job_interval_seconds`, `firedrill_job_deadline_seconds` | kind: as the config has them |
//! | `firedrill_job_last_success_timestamp_seconds` | kind; in a group of its own, pushed only when it succeeded |
//! | `firedrill_backup_bytes`, `..._bytes_added`, `..._dump_bytes`, `..._files`, `..._unread_files` | `..._files`: state (new, changed, unmodified) |
//! | `firedrill_retention_snapshots` | state (kept, dropped) |
//! | `firedrill_retention_freed_bytes`, `firedrill_repository_bytes` | |
//! | `firedrill_retention_headroom_seconds` | series |
//! | `firedrill_mirror_copied_bytes`, `..._missing_files`, `..._lag_seconds` | |
//! | `firedrill_check_packs_read`, `firedrill_check_errors` | |
//! | `firedrill_bucket_bytes`, `..._objects`, `..._archived_objects` | prefix |
//! | `firedrill_bucket_limit_bytes`, `firedrill_bucket_requests_per_month` | |
//!
//! The group is `/metrics/job/firedrill_job/name/<job>`, that of the last success
//! `/metrics/job/firedrill_job_last_success/name/<job>`; with `instance`, if one is configured. Names of other tools
//! ([`KnownNames`]) go into the groups that those tools use, without a type: a gateway takes one type for a name.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use firedrill_core::config::sinks::KnownNames;
use firedrill_core::error::{Error, Result};
use firedrill_core::pipeline::job::{Facts, Outcome};
use firedrill_core::pipeline::runner::Observer;
use firedrill_core::pipeline::spec::{JobKind, JobSpec};
use firedrill_core::pipeline::state::{JobState, Run};
use jiff::Timestamp;

use crate::prometheus::{Metrics, encode};
use crate::pushgateway::group::Key;
use crate::pushgateway::{Push, PushgatewayOptions, SUCCESS, push};

/// The job of the groups.
const JOB: &str = "firedrill_job";
/// The job of the groups of backup scripts.
const SCRIPT: &str = "backup";

/// Pushes what becomes of jobs.
pub struct JobMetrics {
    options: PushgatewayOptions,
    also: Vec<KnownNames>,
    troubles: Mutex<Vec<Error>>,
}

impl JobMetrics {
    /// Pushes as `options` say, and under other names as well.
    pub fn new(mut options: PushgatewayOptions, also: &[KnownNames]) -> Self {
        JOB.clone_into(&mut options.job);
        Self { options, also: also.to_vec(), troubles: Mutex::default() }
    }

    /// What could not be pushed since this was asked last.
    pub fn troubles(&self) -> Vec<Error> {
        std::mem::take(&mut self.troubles.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pushes(&self, job: &JobSpec, run: &Run, state: &JobState) -> Result<Vec<Push>> {
        let name = job.name.0.as_str();
        let mut metrics = Metrics::default();
        about(&mut metrics, job, run, state)?;
        facts(&mut metrics, &run.facts)?;
        let key = self.options.group("").with("name", name);
        let mut pushes = vec![Push { key, body: encode(&metrics.families())? }];
        if run.outcome == Outcome::Succeeded {
            let mut metrics = Metrics::default();
            let help = "When the job last succeeded.";
            let kind = [("kind", job.kind.word())];
            metrics.set("firedrill_job_last_success_timestamp_seconds", help, &kind, seconds(run.ended))?;
            let key = self.options.group(SUCCESS).with("name", name);
            pushes.push(Push { key, body: encode(&metrics.families())? });
        }
        for names in &self.also {
            pushes.extend(match names {
                KnownNames::ByInstance => by_instance(job, run),
                KnownNames::ByJob => by_job(job, run),
            });
        }
        Ok(pushes)
    }
}

impl Observer for JobMetrics {
    fn ended(&self, job: &JobSpec, run: &Run, state: &JobState) {
        let pushed = self.pushes(job, run, state).and_then(|pushes| push(&self.options, &pushes));
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).extend(pushed.err());
    }
}

fn about(metrics: &mut Metrics, job: &JobSpec, run: &Run, state: &JobState) -> Result<()> {
    let kind = ("kind", job.kind.word());
    for outcome in Outcome::ALL {
        let help = "1 for how the last run of the job ended, 0 for the other ways.";
        let value = if outcome == run.outcome { 1.0 } else { 0.0 };
        metrics.set("firedrill_job_outcome", help, &[kind, ("outcome", outcome.word())], value)?;
    }
    let interval = job.schedule.as_ref().and_then(|cron| cron.longest_gap()).map(|gap| gap.seconds());
    for (name, help, value) in [
        (
            "firedrill_job_last_start_timestamp_seconds",
            "When the last run of the job began.",
            Some(seconds(run.started)),
        ),
        (
            "firedrill_job_last_run_timestamp_seconds",
            "When the last run of the job ended, whatever came of it.",
            Some(seconds(run.ended)),
        ),
        ("firedrill_job_duration_seconds", "How long the last run of the job took.", Some(run.seconds())),
        ("firedrill_job_failures", "Bad runs since the last success.", Some(f64::from(state.failures))),
        ("firedrill_job_missed", "Planned runs that never were.", Some(state.missed as f64)),
        ("firedrill_job_interval_seconds", "The longest time between two planned runs.", interval),
        ("firedrill_job_deadline_seconds", "How long a run may take.", Some(job.deadline().as_secs_f64())),
    ] {
        if let Some(value) = value {
            metrics.set(name, help, &[kind], value)?;
        }
    }
    Ok(())
}

fn facts(metrics: &mut Metrics, facts: &Facts) -> Result<()> {
    match facts {
        Facts::None | Facts::RestoreTest(_) => {}
        Facts::Backup(backup) => {
            let files = [
                ("new", backup.files_new),
                ("changed", backup.files_changed),
                ("unmodified", backup.files_unmodified),
            ];
            for (state, count) in files {
                let help = "Files of the last backup, compared with the one before.";
                metrics.set("firedrill_backup_files", help, &[("state", state)], count as f64)?;
            }
            for (name, help, value) in [
                ("firedrill_backup_bytes", "Bytes of all files of the last backup.", backup.bytes),
                (
                    "firedrill_backup_bytes_added",
                    "Bytes that it added to the repository.",
                    backup.bytes_added,
                ),
                ("firedrill_backup_dump_bytes", "Bytes of dumps in it.", backup.dump_bytes),
                ("firedrill_backup_unread_files", "Files that it could not read.", backup.unread),
            ] {
                metrics.set(name, help, &[], value as f64)?;
            }
        }
        Facts::Retention(retention) => {
            for (state, count) in [("kept", retention.kept), ("dropped", retention.dropped)] {
                let help = "Snapshots in the last retention run.";
                metrics.set("firedrill_retention_snapshots", help, &[("state", state)], count as f64)?;
            }
            let freed = retention.bytes_freed as f64;
            metrics.set(
                "firedrill_retention_freed_bytes",
                "Bytes that the last retention run gave back.",
                &[],
                freed,
            )?;
            metrics.set(
                "firedrill_repository_bytes",
                "Bytes in the repository.",
                &[],
                retention.bytes as f64,
            )?;
            for (series, headroom) in &retention.headroom_seconds {
                let help = "Time from the oldest good snapshot to now, less the longest time in which damage goes unseen.";
                metrics.set(
                    "firedrill_retention_headroom_seconds",
                    help,
                    &[("series", series)],
                    *headroom,
                )?;
            }
        }
        Facts::Mirror(mirror) => {
            let copied = mirror.bytes_copied as f64;
            metrics.set(
                "firedrill_mirror_copied_bytes",
                "Bytes that the last mirror run copied.",
                &[],
                copied,
            )?;
            let missing = mirror.files_missing as f64;
            metrics.set(
                "firedrill_mirror_missing_files",
                "Files of the source that the mirror lacks.",
                &[],
                missing,
            )?;
            if let Some(lag) = mirror.lag_seconds {
                let help =
                    "Age of the newest snapshot of the source that the mirror lacks; 0 when it lacks none.";
                metrics.set("firedrill_mirror_lag_seconds", help, &[], lag)?;
            }
        }
        Facts::Check(check) => {
            let help = "Packs that the last check read whole.";
            metrics.set("firedrill_check_packs_read", help, &[], check.packs_read as f64)?;
            metrics.set(
                "firedrill_check_errors",
                "What the last check found wrong.",
                &[],
                check.errors as f64,
            )?;
        }
        Facts::Statistics(statistics) => {
            for prefix in &statistics.prefixes {
                let label = [("prefix", prefix.prefix.as_str())];
                metrics.set(
                    "firedrill_bucket_bytes",
                    "Bytes below a prefix.",
                    &label,
                    prefix.bytes as f64,
                )?;
                metrics.set(
                    "firedrill_bucket_objects",
                    "Objects below a prefix.",
                    &label,
                    prefix.objects as f64,
                )?;
                let help = "Objects that have to be thawed before they can be read.";
                metrics.set("firedrill_bucket_archived_objects", help, &label, prefix.archived as f64)?;
            }
            if let Some(limit) = statistics.limit {
                metrics.set(
                    "firedrill_bucket_limit_bytes",
                    "What the bucket may hold.",
                    &[],
                    limit as f64,
                )?;
            }
            if let Some(requests) = statistics.requests_per_month {
                let help = "Requests in a month, as far as they follow from jobs and objects.";
                metrics.set("firedrill_bucket_requests_per_month", help, &[], requests as f64)?;
            }
        }
    }
    Ok(())
}

/// Lines without a type, as scripts write them.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, labels: &str, value: f64) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

/// Whether a run is one that scripts know: they do not run at all where one of ours was left out or called off.
fn is_run(run: &Run) -> bool {
    !matches!(run.outcome, Outcome::Skipped | Outcome::Cancelled)
}

/// As a backup script does that pushes one group per host name.
fn by_instance(job: &JobSpec, run: &Run) -> Vec<Push> {
    if !is_run(run) {
        return Vec::new();
    }
    let bad = if run.outcome == Outcome::Succeeded { 0.0 } else { 1.0 };
    let mut lines = Lines::default();
    let usual = match job.kind {
        // Alerts of the kind "no backup for two hours" look at every start: what is no backup has none.
        JobKind::Mirror(_) => {
            lines.add("backup_mirror_status", "", bad);
            format!("backup-mirror-{}", job.name)
        }
        JobKind::Backup { .. } | JobKind::Retention(_) => {
            lines.add("backup_start_timestamp", "", seconds(run.started));
            lines.add("backup_duration_seconds", "", run.seconds());
            // Never the exit code of a program: alerts compare with 1.
            let status = if bad > 0.0 { "{status=\"failure\"}" } else { "{status=\"success\"}" };
            lines.add("backup_status", status, bad);
            job.name.0.clone()
        }
        // The restore test itself pushes `backup_restore_status`.
        JobKind::RestoreTest(_) | JobKind::Check(_) | JobKind::Statistics(_) => return Vec::new(),
    };
    let instance = job.rules.metrics_as.clone().unwrap_or(usual);
    vec![Push { key: Key::of_job(SCRIPT).with("instance", &instance), body: lines.0 }]
}

/// As jobs of a host do that push one group each.
fn by_job(job: &JobSpec, run: &Run) -> Vec<Push> {
    if !is_run(run) {
        return Vec::new();
    }
    let name = job.rules.metrics_as.as_ref().unwrap_or(&job.name.0);
    let good = if run.outcome == Outcome::Succeeded { 1.0 } else { 0.0 };
    let mut lines = Lines::default();
    match (&job.kind, &run.facts) {
        (JobKind::Statistics(_), Facts::Statistics(statistics)) => {
            for prefix in &statistics.prefixes {
                let label = format!("{{prefix=\"{}\"}}", escaped(&prefix.prefix));
                lines.add("oci_bucket_size_bytes", &label, prefix.bytes as f64);
            }
            for prefix in &statistics.prefixes {
                let label = format!("{{prefix=\"{}\"}}", escaped(&prefix.prefix));
                lines.add("oci_bucket_object_count", &label, prefix.objects as f64);
            }
            if let Some(limit) = statistics.limit {
                lines.add("oci_bucket_limit_bytes", "", limit as f64);
            }
        }
        (JobKind::Backup { backup, .. }, facts) => {
            lines.add("backup_success", "", good);
            lines.add("backup_duration_seconds", "", run.seconds());
            lines.add("backup_timestamp", "", seconds(run.ended));
            if let Facts::Backup(backup) = facts {
                lines.add("backup_files_new", "", backup.files_new as f64);
                lines.add("backup_files_changed", "", backup.files_changed as f64);
            }
            // A failed dump has to show under both names: dashboards look at one, alerts at the other.
            if backup.capture.iter().any(|capture| capture.postgres.is_some()) {
                lines.add("pg_dump_success", "", good);
                lines.add("pg_dump_duration_seconds", "", run.seconds());
                // Half a dump would look like one that shrank.
                if let (Facts::Backup(backup), true) = (facts, good > 0.0) {
                    lines.add("pg_dump_size_bytes", "", backup.dump_bytes as f64);
                }
            }
        }
        (JobKind::Retention(_) | JobKind::Mirror(_) | JobKind::Check(_), _) => {
            lines.add("backup_success", "", good);
            lines.add("backup_duration_seconds", "", run.seconds());
            lines.add("backup_timestamp", "", seconds(run.ended));
        }
        _ => return Vec::new(),
    }
    vec![Push { key: Key::of_job(name), body: lines.0 }]
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1_000.0
}
