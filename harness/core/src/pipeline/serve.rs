//! One look of a server that starts jobs: who died, what is due, when to look again.
//!
//! Hands start jobs, each in a process of its own: a job that must be stopped can be killed, one that runs out of
//! memory takes nobody with it, and the locks of one that died are gone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::job::{JobReport, Outcome};
use super::ledger::JobLock;
use super::runner::{self, Bench, Turn};
use super::scheduler::{Decision, Scheduler};
use super::spec::{JobName, JobSpec};
use super::state::{Attempt, JobState};
use crate::error::{Error, ErrorKind, Result};

/// Starts jobs, and knows which of them it started are still running.
pub trait Hands {
    /// Starts a job; does not wait for it.
    fn start(&mut self, job: &JobSpec, turn: Turn) -> Result<()>;

    /// Jobs that it started and that run.
    fn running(&mut self) -> BTreeSet<JobName>;

    /// Jobs that ended since it was asked last, and how.
    fn ended(&mut self) -> Vec<(JobName, Turn, String)>;
}

/// What came of one look.
#[derive(Clone, Debug, PartialEq)]
pub struct Looked {
    /// When to look again, unless a job ends before.
    pub wake: Timestamp,
    /// What happened, for the log.
    pub told: Vec<String>,
    /// What could not be done; it is tried again at the next look.
    pub troubles: Vec<Error>,
}

/// Looks once.
pub fn look(scheduler: &Scheduler, bench: &Bench<'_>, hands: &mut dyn Hands) -> Looked {
    let now = bench.clock.now();
    let mut look = Look { bench, now, told: Vec::new(), troubles: Vec::new() };
    for (job, turn, how) in hands.ended() {
        if let Some(spec) = scheduler.jobs().iter().find(|spec| spec.name == job) {
            let done = look.never_begun(spec, turn, &how);
            look.note(done);
        }
    }
    let (states, running) = look.states(scheduler, hands.running());
    for decision in scheduler.decide(now, &states, &running) {
        let done = look.carry_out(scheduler, decision, hands);
        look.note(done);
    }
    Looked { wake: scheduler.wake(now, &states), told: look.told, troubles: look.troubles }
}

struct Look<'a, 'b> {
    bench: &'a Bench<'b>,
    now: Timestamp,
    told: Vec<String>,
    troubles: Vec<Error>,
}

impl Look<'_, '_> {
    fn note(&mut self, done: Result<()>) {
        self.troubles.extend(done.err());
    }

    /// The states of all jobs, and which of them run, by whomever they were started.
    fn states(
        &mut self,
        scheduler: &Scheduler,
        mut running: BTreeSet<JobName>,
    ) -> (BTreeMap<JobName, JobState>, BTreeSet<JobName>) {
        let mut states = BTreeMap::new();
        for spec in scheduler.jobs() {
            match self.state(spec, running.contains(&spec.name)) {
                Ok((state, runs)) => {
                    if runs {
                        running.insert(spec.name.clone());
                    }
                    states.insert(spec.name.clone(), state);
                }
                Err(error) => self.troubles.push(error),
            }
        }
        (states, running)
    }

    /// A job that has a run going on and whose lock nobody holds is dead.
    fn state(&mut self, spec: &JobSpec, ours: bool) -> Result<(JobState, bool)> {
        let ledger = self.bench.ledger;
        // Ours may be about to take its lock; it must not find it taken by us.
        if ours {
            return Ok((ledger.read(&spec.name)?, true));
        }
        let Some(lock) = ledger.lock(&spec.name)? else { return Ok((ledger.read(&spec.name)?, true)) };
        let mut state = ledger.read(&spec.name)?;
        if runner::bury(spec, &lock, &mut state, self.bench)?.is_some() {
            self.told.push(format!("{}: its last run ended without a word", spec.name));
        }
        Ok((state, false))
    }

    /// A process that ended before its run began, because its config is gone or it was killed at once. Without a
    /// word here it would be started again at each look.
    fn never_begun(&mut self, spec: &JobSpec, turn: Turn, how: &str) -> Result<()> {
        let Some(slot) = turn.slot else { return Ok(()) };
        self.change(spec, |this, lock, state| {
            let waiting = match turn.number {
                1 => state.handled < Some(slot),
                number => {
                    state.retry.as_ref().is_some_and(|retry| retry.slot == slot && retry.number == number)
                }
            };
            if !waiting || state.running.is_some() {
                return Ok(());
            }
            this.told.push(format!("{}: it never began: {how}", spec.name));
            state.begin(Attempt { slot: Some(slot), number: turn.number, started: this.now, process: 0 });
            let error = Error::new(ErrorKind::Internal, format!("begin the job {}", spec.name))
                .because(format!("its process ended before: {how}"));
            let report = JobReport { outcome: Outcome::Died, ..JobReport::failed(error) };
            runner::end(spec, lock, state, report, this.bench).map(drop)
        })
    }

    fn carry_out(&mut self, scheduler: &Scheduler, decision: Decision, hands: &mut dyn Hands) -> Result<()> {
        let spec = |job: &JobName| scheduler.jobs().iter().find(|spec| &spec.name == job);
        match decision {
            Decision::Start { job, slot, number, missed } => {
                let Some(spec) = spec(&job) else { return Ok(()) };
                if missed > 0 {
                    self.told.push(format!(
                        "{job}: {missed} planned runs were missed; this one makes up for them"
                    ));
                    self.change(spec, |_, _, state| {
                        state.missed = state.missed.saturating_add(missed);
                        Ok(())
                    })?;
                }
                let turn = Turn { slot: Some(slot), number };
                hands.start(spec, turn).or_else(|error| {
                    // The run is over before it began; its retry comes by plan.
                    let how = error.chain();
                    self.never_begun(spec, turn, &how)?;
                    Err(error)
                })
            }
            Decision::Drop { job, slot, count, why } => {
                self.told.push(format!("{job}: {count} planned runs are left out, {}", why.words()));
                let Some(spec) = spec(&job) else { return Ok(()) };
                self.change(spec, |_, _, state| {
                    state.handled = state.handled.max(Some(slot));
                    state.missed = state.missed.saturating_add(count);
                    Ok(())
                })
            }
            Decision::Enrol { job } => {
                let Some(spec) = spec(&job) else { return Ok(()) };
                self.begin_anew(spec)
            }
            Decision::SetBack { job, handled } => {
                self.told.push(format!(
                    "{job}: the clock was set back from {handled}; its schedule counts from now"
                ));
                let Some(spec) = spec(&job) else { return Ok(()) };
                self.begin_anew(spec)
            }
        }
    }

    fn begin_anew(&mut self, spec: &JobSpec) -> Result<()> {
        self.change(spec, |this, _, state| {
            state.handled = Some(this.now);
            state.retry = None;
            Ok(())
        })
    }

    /// Changes the state of a job that nobody runs. Of one that runs it is left for the next look.
    fn change(
        &mut self,
        spec: &JobSpec,
        change: impl FnOnce(&mut Self, &JobLock, &mut JobState) -> Result<()>,
    ) -> Result<()> {
        let ledger = self.bench.ledger;
        let Some(lock) = ledger.lock(&spec.name)? else { return Ok(()) };
        let mut state = ledger.read(&spec.name)?;
        change(self, &lock, &mut state)?;
        ledger.write(&lock, &state)
    }
}
