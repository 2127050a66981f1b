//! What is known of a job from run to run.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::job::{Facts, JobReport, Outcome};
use super::spec::JobName;
use crate::error::Error;

/// So many ended runs are remembered.
const RUNS_MAX: usize = 50;
/// So many notes of one run are remembered.
const NOTES_MAX: usize = 20;

/// What is known of one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobState {
    /// The job.
    pub job: JobName,
    /// The newest planned start that was decided upon: run, or left out on purpose. `None` before the job was first
    /// seen.
    #[serde(default)]
    pub handled: Option<Timestamp>,
    /// The run that goes on, or went on when everything stopped.
    #[serde(default)]
    pub running: Option<Attempt>,
    /// The failed run that is tried again.
    #[serde(default)]
    pub retry: Option<Retrying>,
    /// Ended runs, oldest first.
    #[serde(default)]
    pub runs: VecDeque<Run>,
    /// The newest run that succeeded, however long ago.
    #[serde(default)]
    pub last_success: Option<Run>,
    /// Runs that went bad since the last success.
    #[serde(default)]
    pub failures: u32,
    /// Planned starts that nobody was there for, or that were left out, in all.
    #[serde(default)]
    pub missed: u64,
}

/// A run that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was meant to start; `None`: by hand.
    pub slot: Option<Timestamp>,
    /// The first try of a planned start is 1.
    pub number: u32,
    /// When it started.
    pub started: Timestamp,
    /// The process that does it.
    pub process: u32,
}

/// A failed run that is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retrying {
    /// When it was first meant to start.
    pub slot: Timestamp,
    /// Which try comes next.
    pub number: u32,
    /// Not before this.
    pub not_before: Timestamp,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// When it was meant to start; `None`: by hand.
    pub slot: Option<Timestamp>,
    /// Which try it was.
    pub number: u32,
    /// When it started.
    pub started: Timestamp,
    /// When it ended, or when somebody noticed that it had.
    pub ended: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// Worth knowing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What was done.
    #[serde(default)]
    pub facts: Facts,
}

impl Run {
    /// Seconds from start to end; never negative, whatever the clock did.
    pub fn seconds(&self) -> f64 {
        self.ended.duration_since(self.started).as_secs_f64().max(0.0)
    }
}

impl JobState {
    /// A job of which nothing is known.
    pub fn new(job: JobName) -> Self {
        Self {
            job,
            handled: None,
            running: None,
            retry: None,
            runs: VecDeque::new(),
            last_success: None,
            failures: 0,
            missed: 0,
        }
    }

    /// The newest run that ended.
    pub fn last(&self) -> Option<&Run> {
        self.runs.back()
    }

    /// A run begins. Its planned start is decided upon with this: whatever happens now, it is not begun once more
    /// but as a retry.
    pub fn begin(&mut self, attempt: Attempt) {
        self.handled = self.handled.max(attempt.slot);
        self.retry = None;
        self.running = Some(attempt);
    }

    /// The run that went on has ended.
    pub fn end(&mut self, report: JobReport, ended: Timestamp, retry: Option<Retrying>) -> Option<Run> {
        let attempt = self.running.take()?;
        let JobReport { outcome, error, mut notes, facts } = report;
        let more = notes.len().saturating_sub(NOTES_MAX);
        notes.truncate(NOTES_MAX);
        if more > 0 {
            notes.push(format!("and {more} more notes"));
        }
        let run = Run {
            slot: attempt.slot,
            number: attempt.number,
            started: attempt.started,
            ended,
            outcome,
            error,
            notes,
            facts,
        };
        match outcome {
            Outcome::Succeeded => {
                self.failures = 0;
                self.last_success = Some(run.clone());
            }
            Outcome::Skipped => self.missed += 1,
            outcome if outcome.is_bad() => self.failures = self.failures.saturating_add(1),
            _ => {}
        }
        self.retry = retry;
        self.runs.push_back(run.clone());
        while self.runs.len() > RUNS_MAX {
            self.runs.pop_front();
        }
        Some(run)
    }
}
