//! Processes that do jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::runner::Turn;
use firedrill_core::pipeline::serve::Hands;
use firedrill_core::pipeline::spec::{JobName, JobSpec};
use firedrill_core::watch::Watch;

use super::GRACE;

/// Who was asked to end has this long before it is killed.
const ENDING: Duration = Duration::from_secs(30);
/// How often a process is looked after.
const GLANCE: Duration = Duration::from_millis(50);

/// A process that is ended with this.
pub(super) struct Child {
    process: std::process::Child,
    done: bool,
}

impl Child {
    pub(super) fn start(command: &mut Command) -> std::io::Result<Self> {
        Ok(Self { process: command.spawn()?, done: false })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.try_wait().ok().flatten();
        self.done |= status.is_some();
        status
    }

    /// Asks it to end.
    pub(super) fn ask_to_end(&self) {
        if self.done {
            return;
        }
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Waits for its end; its exit code. When the watch says stop it is asked to end, and killed if it does not.
    pub(super) fn wait(&mut self, watch: &Watch) -> Result<Option<i32>> {
        let mut asked: Option<Instant> = None;
        loop {
            if let Some(status) = self.ended() {
                watch.check()?;
                return Ok(status.code());
            }
            match asked {
                None if watch.check().is_err() => {
                    self.ask_to_end();
                    asked = Some(Instant::now());
                }
                Some(since) if since.elapsed() > ENDING => {
                    let _ = self.process.kill();
                }
                _ => {}
            }
            std::thread::sleep(GLANCE);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Starts `firedrill run` for each job.
pub(super) struct Processes {
    config: PathBuf,
    state: PathBuf,
    verbose: u8,
    running: BTreeMap<JobName, Running>,
}

struct Running {
    child: Child,
    turn: Turn,
    /// When it is killed: it did not keep its deadline.
    kill_at: Option<Instant>,
}

impl Processes {
    pub(super) fn new(config: PathBuf, state: PathBuf, verbose: u8) -> Self {
        Self { config, state, verbose, running: BTreeMap::new() }
    }

    /// Whether a process has ended since `ended` was asked.
    pub(super) fn any_ended(&mut self) -> bool {
        self.running.values_mut().any(|running| running.child.ended().is_some())
    }

    /// Kills those that did not keep their deadline.
    pub(super) fn enforce(&mut self) {
        for (job, running) in &mut self.running {
            if running.kill_at.is_some_and(|at| at <= Instant::now()) && running.child.ended().is_none() {
                crate::note(format!("{job}: it did not keep its deadline, and is killed"));
                let _ = running.child.process.kill();
            }
        }
    }

    /// Asks all to end, and waits for them.
    pub(super) fn end_all(&mut self) {
        for running in self.running.values() {
            running.child.ask_to_end();
        }
        let patience = Instant::now();
        while !self.running.is_empty() && patience.elapsed() < ENDING {
            self.running.retain(|_, running| running.child.ended().is_none());
            std::thread::sleep(GLANCE);
        }
        // What is left is killed when it is dropped; the next run tells of it.
        self.running.clear();
    }

    /// How many are running.
    pub(super) fn count(&self) -> usize {
        self.running.len()
    }
}

impl Hands for Processes {
    fn start(&mut self, job: &JobSpec, turn: Turn) -> Result<()> {
        let failed = |e: &dyn std::error::Error| {
            Error::new(ErrorKind::Unavailable, format!("start {}", job.name)).from_source(e)
        };
        let program = std::env::current_exe().map_err(|e| failed(&e))?;
        let mut command = Command::new(program);
        command.args((0..self.verbose).map(|_| "-v"));
        command.arg("run").arg(&job.name.0).arg("--config").arg(&self.config).arg("--state").arg(&self.state);
        command.arg("--attempt").arg(turn.number.to_string());
        if let Some(slot) = turn.slot {
            command.arg("--slot").arg(slot.to_string());
        }
        command.stdin(Stdio::null());
        let child = Child::start(&mut command).map_err(|e| failed(&e))?;
        let kill_at = Instant::now().checked_add(job.deadline().saturating_add(GRACE + ENDING));
        self.running.insert(job.name.clone(), Running { child, turn, kill_at });
        Ok(())
    }

    fn running(&mut self) -> BTreeSet<JobName> {
        self.running.keys().cloned().collect()
    }

    fn ended(&mut self) -> Vec<(JobName, Turn, String)> {
        let mut ended = Vec::new();
        self.running.retain(|job, running| match running.child.ended() {
            None => true,
            Some(status) => {
                ended.push((job.clone(), running.turn, format!("its process ended: {status}")));
                false
            }
        });
        ended
    }
}
