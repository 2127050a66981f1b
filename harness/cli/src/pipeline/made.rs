//! From a job of the config to what does it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use firedrill_backends::job::{BackupJob, CheckJob, RetentionJob};
use firedrill_backends::repository::access::Environment;
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
        JobKind::Mirror(_) | JobKind::Statistics(_) => {
            Err(Error::new(ErrorKind::Usage, format!("run the job {}", spec.name)))
        }
    }
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
