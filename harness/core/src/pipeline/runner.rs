//! One run of one job, from its lock to its last word.

use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::job::{Facts, Job, JobOrder, JobReport, Outcome};
use super::ledger::{JobLock, Ledger};
use super::spec::JobSpec;
use super::state::{Attempt, JobState, Retrying, Run};
use crate::clock::Clock;
use crate::config::jobs::OverlapRule;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::watch::Watch;

/// The longest wait between two tries.
const RETRY_MAX: Duration = Duration::from_secs(6 * 3600);

/// How long the lock of a job is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Hears what becomes of jobs: metrics, notifications, pings. What goes wrong there never stops a job.
pub trait Observer: Send + Sync {
    /// A run begins.
    fn began(&self, _job: &JobSpec, _attempt: &Attempt) {}

    /// A run has ended; `state` is what is known now.
    fn ended(&self, job: &JobSpec, run: &Run, state: &JobState);
}

/// What one run needs.
pub struct Bench<'a> {
    /// State and locks.
    pub ledger: &'a Ledger,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Stop signal.
    pub watch: Watch,
    /// A folder in which each run gets one of its own.
    pub work: &'a Path,
    /// Who hears of it.
    pub observers: &'a [&'a dyn Observer],
}

/// Which run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When it was meant to start; `None`: by hand.
    pub slot: Option<Timestamp>,
    /// The first try is 1.
    pub number: u32,
}

impl Turn {
    /// By hand.
    pub const BY_HAND: Self = Self { slot: None, number: 1 };
}

/// Runs `job` once. `Err` means that it could not even begin: another process runs it, or its state cannot be read or
/// written. Everything else, a panic too, is an ended run.
pub fn run(spec: &JobSpec, job: &dyn Job, turn: Turn, bench: &Bench<'_>) -> Result<Run> {
    let lock = take(spec, bench.ledger)?;
    let mut state = bench.ledger.read(&spec.name)?;
    bury(spec, &lock, &mut state, bench)?;
    let started = bench.clock.now();
    let attempt = Attempt { slot: turn.slot, number: turn.number, started, process: std::process::id() };
    state.begin(attempt.clone());
    bench.ledger.write(&lock, &state)?;
    for observer in bench.observers {
        observer.began(spec, &attempt);
    }
    let watch = bench.watch.within(Some(spec.deadline()));
    let report = report(spec, job, &attempt, &watch, bench);
    end(spec, &lock, &mut state, report, bench)
}

fn take(spec: &JobSpec, ledger: &Ledger) -> Result<JobLock> {
    let patience = Instant::now();
    loop {
        if let Some(lock) = ledger.lock(&spec.name)? {
            return Ok(lock);
        }
        // A server that has a look at the job holds its lock for a moment.
        if patience.elapsed() > LOCK_WAIT {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::new(ErrorKind::Unavailable, format!("run the job {}", spec.name))
        .because("another process runs it at the moment")
        .advise("wait for it; a run that hangs is ended by its deadline"))
}

/// A run that ended without a word is told now, by whoever comes next. The lock is held, so it is not alive.
pub fn bury(spec: &JobSpec, lock: &JobLock, state: &mut JobState, bench: &Bench<'_>) -> Result<Option<Run>> {
    let Some(dead) = &state.running else { return Ok(None) };
    let error = Error::new(ErrorKind::Internal, format!("finish the job {}", spec.name)).because(format!(
        "its process {} ended without a word: it was killed, or the machine went down",
        dead.process
    ));
    let report = JobReport { outcome: Outcome::Died, ..JobReport::failed(error) };
    end(spec, lock, state, report, bench).map(Some)
}

pub(super) fn end(
    spec: &JobSpec,
    lock: &JobLock,
    state: &mut JobState,
    report: JobReport,
    bench: &Bench<'_>,
) -> Result<Run> {
    let ended = bench.clock.now();
    let retry = state.running.as_ref().and_then(|attempt| again(spec, attempt, report.outcome, ended));
    let run = state.end(report, ended, retry).ok_or_else(|| {
        Error::new(ErrorKind::Internal, format!("end the job {}", spec.name)).because("it was not running")
    })?;
    // Who is told first and who writes first makes a difference only to a run that is killed in between: it is told
    // again, as one that died.
    bench.ledger.write(lock, state)?;
    for observer in bench.observers {
        observer.ended(spec, &run, state);
    }
    Ok(run)
}

/// Whether and when a run is tried again. By hand nothing is.
fn again(spec: &JobSpec, attempt: &Attempt, outcome: Outcome, ended: Timestamp) -> Option<Retrying> {
    let slot = attempt.slot?;
    let rule = spec.rules.retry;
    if !outcome.is_bad() || attempt.number > rule.times {
        return None;
    }
    let factor = 1_u32.checked_shl(attempt.number.saturating_sub(1)).unwrap_or(u32::MAX);
    let wait = rule.wait.0.saturating_mul(factor).min(RETRY_MAX);
    let not_before = ended.checked_add(SignedDuration::try_from(wait).ok()?).ok()?;
    let next = spec.schedule.as_ref().and_then(|cron| cron.next(spec.zone.get(), slot));
    // The next planned run comes sooner, and does the same.
    if next.is_some_and(|next| next <= not_before) {
        return None;
    }
    Some(Retrying { slot, number: attempt.number + 1, not_before })
}

fn report(spec: &JobSpec, job: &dyn Job, attempt: &Attempt, watch: &Watch, bench: &Bench<'_>) -> JobReport {
    let held = if spec.rules.overlap == Some(OverlapRule::Skip) {
        match bench.ledger.try_take(&spec.needs) {
            Ok(Some(held)) => Ok(held),
            Ok(None) => {
                let mut report = JobReport::succeeded(Facts::None);
                report.outcome = Outcome::Skipped;
                report.notes.push("a job that it must not overlap was running".to_owned());
                return report;
            }
            Err(error) => Err(error),
        }
    } else {
        bench.ledger.take(&spec.needs, watch)
    };
    let held = match held {
        Ok(held) => held,
        Err(error) => return JobReport::failed(error),
    };
    remove_work_of_the_dead(spec, bench.work);
    let work = bench.work.join(format!("job-{}-{}", spec.name, attempt.process));
    if let Err(e) = fresh(&work) {
        return JobReport::failed(
            Error::new(ErrorKind::Scratch, format!("make the folder {}", work.display())).from_source(&e),
        );
    }
    let order = JobOrder {
        job: &spec.name,
        slot: attempt.slot,
        started: attempt.started,
        work: &work,
        watch: watch.clone(),
        progress: Arc::new(Progress::default()),
    };
    let report = catch_unwind(AssertUnwindSafe(|| job.run(&order))).unwrap_or_else(|_| {
        JobReport::failed(
            Error::new(ErrorKind::Internal, format!("run the job {}", spec.name))
                .because("it panicked; the message is on standard error"),
        )
    });
    drop(held);
    if let Err(e) = std::fs::remove_dir_all(&work) {
        tracing::warn!("{} stays: {e}", work.display());
    }
    report
}

/// Removes the folders of earlier runs that were killed: there may be whole dumps in them. The lock of the job is
/// held, so nobody uses them.
fn remove_work_of_the_dead(spec: &JobSpec, folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let own = format!("job-{}-", spec.name);
    for entry in entries.flatten() {
        let name = entry.file_name();
        // A job may be called like another one with something behind it.
        let process = name.to_str().and_then(|name| name.strip_prefix(&own)?.parse::<u32>().ok());
        if process.is_some()
            && let Err(e) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!("{} stays: {e}", entry.path().display());
        }
    }
}

/// A new folder. What the dead left has just been removed, also that of one with the same number.
fn fresh(folder: &Path) -> std::io::Result<()> {
    if let Some(above) = folder.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(above)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}
