//! From a job of the config to what does it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use firedrill_backends::job::{
    BackupJob, CheckJob, Ends, MirrorJob, ObjectBackupJob, ObjectRetentionJob, RetentionJob, StatisticsJob,
};
use firedrill_backends::repository::access::Environment;
use firedrill_backends::statistics::Planned;
use firedrill_core::config::CopyConfig;
use firedrill_core::config::jobs::{RestoreTestJob, RetentionConfig};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::memory::Memory;
use firedrill_core::pipeline::job::{Facts, Job, JobOrder, JobReport};
use firedrill_core::pipeline::spec::{JobKind, JobSpec};
use firedrill_core::snapshot::{CopyName, Series};
use firedrill_core::verdict::Exit;

use super::Fleet;
use crate::copies;

/// What does `spec`.
pub(super) fn job(fleet: &Fleet, spec: &JobSpec) -> Result<Box<dyn Job>> {
    let environment = Environment::capture();
    let zone = fleet.config.timezone.get().clone();
    match &spec.kind {
        JobKind::Backup { target, backup, copy } if target.kind.is_plain_objects() => {
            let copy = copy_of(fleet, copy)?;
            Ok(Box::new(ObjectBackupJob {
                target: target.as_ref().clone(),
                backup: backup.as_ref().clone(),
                place: copies::object_place(copy, &environment)?,
                patterns: copy.object_patterns()?,
                key: None,
                environment,
            }))
        }
        JobKind::Retention(rules) if copy_of(fleet, &rules.copy)?.kind.is_plain_objects() => {
            let copy = copy_of(fleet, &rules.copy)?;
            Ok(Box::new(ObjectRetentionJob {
                place: copies::object_place(copy, &environment)?,
                settings: copies::object_settings(&fleet.config, copy)?,
                verified: verified(fleet, &rules.copy)?.into_values().map(|(id, _)| id).collect(),
                rules: rules.clone(),
                zone,
            }))
        }
        JobKind::Backup { target, backup, copy } => Ok(Box::new(BackupJob {
            target: target.as_ref().clone(),
            backup: backup.as_ref().clone(),
            place: copies::place(copy_of(fleet, copy)?, &environment)?,
            canary_key: copies::canary_key(&fleet.config, &environment)?,
            environment,
            zone,
        })),
        JobKind::Retention(rules) => Ok(Box::new(RetentionJob {
            place: copies::place(copy_of(fleet, &rules.copy)?, &environment)?,
            verified: verified(fleet, &rules.copy)?,
            detection: detection(fleet, rules),
            rules: rules.clone(),
            zone,
            only_hosts: Vec::new(),
            dry_run: false,
        })),
        JobKind::Check(check) => Ok(Box::new(CheckJob {
            place: copies::place(copy_of(fleet, &check.copy)?, &environment)?,
            read_data_percent: check.read_data_percent.unwrap_or(0),
        })),
        JobKind::RestoreTest(test) => Ok(Box::new(RestoreTests {
            config: fleet.file.clone(),
            state: fleet.state.clone(),
            test: test.clone(),
        })),
        JobKind::Mirror(config) => {
            let (from, to) = (copy_of(fleet, &config.from)?, copy_of(fleet, &config.to)?);
            let ends = match from.kind.is_plain_objects() {
                true => Ends::Objects(
                    copies::object_place(from, &environment)?,
                    copies::object_place(to, &environment)?,
                    copies::object_settings(&fleet.config, from)?,
                ),
                false => {
                    Ends::Repositories(copies::place(from, &environment)?, copies::place(to, &environment)?)
                }
            };
            Ok(Box::new(MirrorJob { config: config.clone(), ends }))
        }
        JobKind::Statistics(config) => Ok(Box::new(StatisticsJob {
            place: copies::object_place(copy_of(fleet, &config.copy)?, &environment)?,
            config: config.clone(),
            planned: planned(fleet, &config.copy),
        })),
    }
}

/// The jobs that work on a copy, for the projection of requests. How much each moves is told by its last run; a file
/// of a repository is taken for an object.
fn planned(fleet: &Fleet, copy: &str) -> Vec<Planned> {
    const MONTH: f64 = 30.0 * 86_400.0;
    const PACK: u64 = 16 << 20;
    let uses = |spec: &&JobSpec| spec.needs.iter().any(|need| need.copy == copy);
    let of = |spec: &JobSpec| {
        let gap = spec.schedule.as_ref()?.longest_gap()?.seconds();
        let last = fleet.ledger.read(&spec.name).ok()?.last_success?;
        let objects_moved = match &last.facts {
            Facts::Backup(backup) => backup.bytes_added.div_ceil(PACK) + 3,
            Facts::Mirror(mirror) => mirror.files_copied + mirror.files_deleted,
            Facts::Check(check) => check.packs_read,
            Facts::Retention(retention) => retention.bytes_freed.div_ceil(PACK) + retention.dropped,
            Facts::RestoreTest(_) | Facts::Statistics(_) | Facts::None => 0,
        };
        Some(Planned { runs_per_month: MONTH / gap.max(60.0), objects_moved })
    };
    fleet.jobs.iter().filter(uses).filter_map(of).collect()
}

fn copy_of<'f>(fleet: &'f Fleet, name: &str) -> Result<&'f CopyConfig> {
    copies::known_copy(&fleet.config, &CopyName(name.to_owned()))
}

/// The newest snapshot of each series that a restore test verified.
fn verified(
    fleet: &Fleet,
    copy: &str,
) -> Result<BTreeMap<String, (firedrill_core::snapshot::SnapshotId, jiff::Timestamp)>> {
    let mut all = BTreeMap::new();
    for baseline in Memory::open(&fleet.state)?.list()? {
        // A damaged baseline may be that of the last good snapshot: nothing is dropped until somebody looks.
        let baseline = baseline?;
        if baseline.copy.0 != copy {
            continue;
        }
        let series = match &baseline.series {
            Series::Tag(tag) => tag.clone(),
            other => other.to_string(),
        };
        all.insert(series, (baseline.snapshot, baseline.snapshot_time));
    }
    Ok(all)
}

/// The longest time in which damage goes unseen: that between two restore tests.
fn detection(fleet: &Fleet, rules: &RetentionConfig) -> Option<Duration> {
    let by_job = || {
        let tests = fleet.jobs.iter().filter(|job| matches!(job.kind, JobKind::RestoreTest(_)));
        tests.filter_map(|job| job.schedule.as_ref()?.longest_gap()).max()
    };
    rules.detection.or_else(by_job).or_else(|| fleet.config.restore_test_interval()).map(|span| span.0)
}

/// A restore test in a process of its own, like one by hand: with its own evidence, sinks and exit code.
struct RestoreTests {
    config: PathBuf,
    state: PathBuf,
    test: RestoreTestJob,
}

impl Job for RestoreTests {
    fn run(&self, order: &JobOrder<'_>) -> JobReport {
        self.test(order).unwrap_or_else(JobReport::failed)
    }
}

impl RestoreTests {
    fn test(&self, order: &JobOrder<'_>) -> Result<JobReport> {
        let failed = |e: &dyn std::error::Error| {
            Error::new(ErrorKind::Unavailable, "start a restore test").from_source(e)
        };
        let program = std::env::current_exe().map_err(|e| failed(&e))?;
        let mut command = Command::new(program);
        command.arg("restore-test").arg("--config").arg(&self.config).arg("--state").arg(&self.state);
        for copy in &self.test.copies {
            command.arg("--copy").arg(copy);
        }
        command.stdin(Stdio::null());
        let mut child = super::hands::Child::start(&mut command).map_err(|e| failed(&e))?;
        let code = child.wait(&order.watch)?;
        let exit = Exit::PRECEDENCE.into_iter().find(|exit| Some(i32::from(exit.code())) == code);
        let told = |text: &str| Error::new(ErrorKind::Unavailable, "prove all backups").because(text);
        Ok(match exit {
            Some(Exit::Verified) => JobReport::succeeded(Facts::None),
            // The backups are what this is about, and they are good.
            Some(Exit::SinkFailed) => {
                let mut report = JobReport::succeeded(Facts::None);
                report.notes.push("a sink did not take the result".to_owned());
                report
            }
            Some(Exit::ObjectiveMissed) => JobReport::failed(told("an objective was missed")),
            Some(Exit::Failed) => JobReport::failed(told("a backup failed its restore test")),
            Some(Exit::Inconclusive | Exit::NothingSelected) => {
                JobReport::incomplete(told("some backups could not be proven"), Facts::None)
            }
            Some(Exit::Usage | Exit::Internal) | None => {
                JobReport::failed(told(&format!("it ended with {code:?}; its message is in the log")))
            }
        })
    }
}
