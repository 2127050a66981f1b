//! What is to be started now: pure decisions about jobs, their states and the time.
//!
//! Nothing is decided twice: a planned start counts as handled from the moment it begins. Nothing is made up for more
//! than once: of several missed starts the newest one runs. A clock that was set back does not silence a job until
//! the old time comes again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::spec::{JobName, JobSpec};
use super::state::JobState;
use crate::config::jobs::{Missed, OverlapRule};

/// A start that is late by no more than this was not missed.
const GRACE: SignedDuration = SignedDuration::from_secs(90);
/// A clock that was set back by more than this is told.
const BACK_MAX: SignedDuration = SignedDuration::from_mins(5);
/// A scheduler that has nothing to do looks again after this time: clocks change.
const NAP: SignedDuration = SignedDuration::from_secs(30);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The job is started.
    Start {
        /// The job.
        job: JobName,
        /// When it was meant to start.
        slot: Timestamp,
        /// The first try is 1.
        number: u32,
        /// Earlier planned starts that this one makes up for.
        missed: u64,
    },
    /// Planned starts are left out.
    Drop {
        /// The job.
        job: JobName,
        /// The newest of them.
        slot: Timestamp,
        /// How many.
        count: u64,
        /// Why.
        why: Why,
    },
    /// The job was never seen before: its schedule counts from now.
    Enrol {
        /// The job.
        job: JobName,
    },
    /// The clock went back: the schedule counts from now.
    SetBack {
        /// The job.
        job: JobName,
        /// The planned start that is in the future now.
        handled: Timestamp,
    },
}

/// Why planned starts are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody was there to start them, and the job does not make up for that.
    Missed,
    /// A job that it must not overlap is running.
    Overlap,
    /// The run before goes on.
    StillRunning,
}

impl Why {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Missed => "nobody was there to start it",
            Self::Overlap => "a job that it must not overlap was running",
            Self::StillRunning => "the run before was still going on",
        }
    }
}

/// Decides for a set of jobs.
#[derive(Clone, Debug)]
pub struct Scheduler {
    jobs: Vec<JobSpec>,
    /// At most so many run at a time.
    parallel: usize,
}

/// A planned start whose time has come.
struct Due<'a> {
    spec: &'a JobSpec,
    slot: Timestamp,
    number: u32,
    missed: u64,
}

impl Scheduler {
    /// A scheduler of `jobs`, of which at most `parallel` run at a time.
    pub fn new(jobs: Vec<JobSpec>, parallel: usize) -> Self {
        Self { jobs, parallel: parallel.max(1) }
    }

    /// The jobs.
    pub fn jobs(&self) -> &[JobSpec] {
        &self.jobs
    }

    /// What is to be done at `now`. `running` are the jobs that run, whoever started them. A job without a state is
    /// left alone: nobody knows when it ran.
    pub fn decide(
        &self,
        now: Timestamp,
        states: &BTreeMap<JobName, JobState>,
        running: &BTreeSet<JobName>,
    ) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let mut due = Vec::new();
        for spec in self.jobs.iter().filter(|spec| spec.schedule.is_some()) {
            let Some(state) = states.get(&spec.name) else { continue };
            self.look(spec, state, now, running.contains(&spec.name), &mut due, &mut decisions);
        }
        // Who was to start first goes first; a retry stands where its first try stood.
        due.sort_by(|a, b| (a.slot, &a.spec.name).cmp(&(b.slot, &b.spec.name)));
        self.admit(due, running, &mut decisions);
        decisions
    }

    fn look<'a>(
        &'a self,
        spec: &'a JobSpec,
        state: &JobState,
        now: Timestamp,
        runs: bool,
        due: &mut Vec<Due<'a>>,
        decisions: &mut Vec<Decision>,
    ) {
        let job = || spec.name.clone();
        let Some(handled) = state.handled else {
            decisions.push(Decision::Enrol { job: job() });
            return;
        };
        if handled.duration_since(now) > BACK_MAX {
            decisions.push(Decision::SetBack { job: job(), handled });
            return;
        }
        let slots = slots(spec, handled, now);
        if let (Some(newest), true) = (slots.newest, runs) {
            // It would only repeat what is being done. The latest one is kept for when the run ends.
            if slots.count > 1 {
                let slot = slots.before_newest.unwrap_or(newest);
                decisions.push(Decision::Drop {
                    job: job(),
                    slot,
                    count: slots.count - 1,
                    why: Why::StillRunning,
                });
            }
            return;
        }
        if let Some(slot) = slots.newest {
            let late = now.duration_since(self.start_of(spec, slot));
            if late > GRACE + self.patience(spec) && spec.rules.missed == Missed::Skip {
                decisions.push(Decision::Drop { job: job(), slot, count: slots.count, why: Why::Missed });
            } else if late >= SignedDuration::ZERO {
                due.push(Due { spec, slot, number: 1, missed: slots.count - 1 });
            }
            return;
        }
        if let Some(retry) = state.retry.as_ref().filter(|retry| retry.not_before <= now && !runs) {
            due.push(Due { spec, slot: retry.slot, number: retry.number, missed: 0 });
        }
    }

    /// Starts what may start now. Who must be alone keeps those out who come after it.
    fn admit(&self, due: Vec<Due<'_>>, running: &BTreeSet<JobName>, decisions: &mut Vec<Decision>) {
        let mut busy: Vec<&JobSpec> = self.jobs.iter().filter(|spec| running.contains(&spec.name)).collect();
        let mut waiting: Vec<&JobSpec> = Vec::new();
        let mut count = busy.len();
        for one in due {
            let job = one.spec.name.clone();
            let meets = |others: &[&JobSpec]| others.iter().any(|other| one.spec.excludes(other));
            if meets(&busy) && one.spec.rules.overlap == Some(OverlapRule::Skip) {
                let count = one.missed + 1;
                decisions.push(Decision::Drop { job, slot: one.slot, count, why: Why::Overlap });
            } else if meets(&busy) || meets(&waiting) || count >= self.parallel {
                waiting.push(one.spec);
            } else {
                busy.push(one.spec);
                count += 1;
                decisions.push(Decision::Start {
                    job,
                    slot: one.slot,
                    number: one.number,
                    missed: one.missed,
                });
            }
        }
    }

    /// When there may be something to decide again, if nothing ends before.
    pub fn wake(&self, now: Timestamp, states: &BTreeMap<JobName, JobState>) -> Timestamp {
        let nap = now.checked_add(NAP).unwrap_or(now);
        let next = self.jobs.iter().filter_map(|spec| {
            let state = states.get(&spec.name)?;
            let planned = self.next_start(spec, state);
            let retried = state.retry.as_ref().map(|retry| retry.not_before);
            planned.into_iter().chain(retried).filter(|at| *at > now).min()
        });
        next.min().map_or(nap, |next| next.min(nap))
    }

    /// When the job is started next by its schedule, with its jitter.
    pub fn next_start(&self, spec: &JobSpec, state: &JobState) -> Option<Timestamp> {
        let next = spec.schedule.as_ref()?.next(spec.zone.get(), state.handled?)?;
        Some(self.start_of(spec, next))
    }

    /// A planned start with its jitter: the same one each time it is asked, and another one for each start.
    fn start_of(&self, spec: &JobSpec, slot: Timestamp) -> Timestamp {
        let Some(jitter) = spec.rules.jitter.map(|jitter| jitter.0).filter(|jitter| !jitter.is_zero()) else {
            return slot;
        };
        let hash = Sha256::digest(format!("{}\0{}", spec.name, slot.as_second()));
        let number = hash.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        let part = jitter.mul_f64(f64::from(number) / f64::from(u32::MAX));
        SignedDuration::try_from(part).ok().and_then(|part| slot.checked_add(part).ok()).unwrap_or(slot)
    }

    /// How long a start may wait for others before it counts as missed.
    fn patience(&self, spec: &JobSpec) -> SignedDuration {
        let longest = self
            .jobs
            .iter()
            .filter(|other| other.name == spec.name || other.excludes(spec))
            .map(JobSpec::deadline)
            .max()
            .unwrap_or(Duration::ZERO);
        SignedDuration::try_from(longest).unwrap_or(SignedDuration::ZERO)
    }
}

/// Planned starts after `handled` up to now.
struct Slots {
    newest: Option<Timestamp>,
    before_newest: Option<Timestamp>,
    count: u64,
}

/// At most so many missed starts are counted.
const COUNT_MAX: u64 = 10_000;

fn slots(spec: &JobSpec, handled: Timestamp, now: Timestamp) -> Slots {
    let mut slots = Slots { newest: None, before_newest: None, count: 0 };
    let Some(cron) = &spec.schedule else { return slots };
    let mut at = handled;
    while let Some(next) = cron.next(spec.zone.get(), at).filter(|next| *next <= now) {
        slots.before_newest = slots.newest;
        slots.newest = Some(next);
        slots.count += 1;
        at = next;
        if slots.count >= COUNT_MAX {
            // Nobody was there for a very long time. The newest start is the last one before now.
            if let Some(newest) = cron.occurrences(spec.zone.get(), now - GRACE * 40, now, 1).pop() {
                slots.newest = Some(newest);
            }
            break;
        }
    }
    slots
}
