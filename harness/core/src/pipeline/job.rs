//! The port that jobs implement, and what they tell.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::spec::JobName;
use crate::error::{Error, ErrorKind};
use crate::progress::Progress;
use crate::watch::Watch;

/// One step of the pipeline that writes. Blocks; may panic (the caller turns that into a failure).
pub trait Job: Send + Sync {
    /// Does it once.
    fn run(&self, order: &JobOrder<'_>) -> JobReport;
}

/// One run of a job.
pub struct JobOrder<'a> {
    /// Its name.
    pub job: &'a JobName,
    /// When it was meant to start; `None`: by hand.
    pub slot: Option<Timestamp>,
    /// When it started.
    pub started: Timestamp,
    /// A folder of its own, empty, which is removed afterwards.
    pub work: &'a Path,
    /// Deadline and stop signal.
    pub watch: Watch,
    /// Counts bytes.
    pub progress: Arc<Progress>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was done.
    Succeeded,
    /// It was done in part: what could not be read is missing. Never counts as a success.
    Incomplete,
    /// It was not done.
    Failed,
    /// Its deadline passed.
    TimedOut,
    /// Somebody asked it to stop.
    Cancelled,
    /// It ended without a word: killed, or the machine went down.
    Died,
    /// It was left out, because a job that it must not overlap was running.
    Skipped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Succeeded,
        Self::Incomplete,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Died,
        Self::Skipped,
    ];

    /// Whether it is worth another try, and news to somebody.
    pub fn is_bad(self) -> bool {
        !matches!(self, Self::Succeeded | Self::Skipped | Self::Cancelled)
    }

    /// The outcome in one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Died => "died",
            Self::Skipped => "skipped",
        }
    }
}

/// What a job tells about one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// Worth knowing: paths that were not read, snapshots that were not dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What was done.
    #[serde(default)]
    pub facts: Facts,
}

impl JobReport {
    /// Everything was done.
    pub fn succeeded(facts: Facts) -> Self {
        Self { outcome: Outcome::Succeeded, error: None, notes: Vec::new(), facts }
    }

    /// It was not done, because of `error`.
    pub fn failed(error: Error) -> Self {
        let outcome = match error.kind {
            ErrorKind::Timeout => Outcome::TimedOut,
            ErrorKind::Cancelled => Outcome::Cancelled,
            _ => Outcome::Failed,
        };
        Self { outcome, error: Some(error), notes: Vec::new(), facts: Facts::None }
    }

    /// It was done in part.
    pub fn incomplete(error: Error, facts: Facts) -> Self {
        Self { outcome: Outcome::Incomplete, error: Some(error), notes: Vec::new(), facts }
    }
}

/// What was done, in numbers. Sizes are in bytes, times in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Facts {
    /// Nothing to tell.
    #[default]
    None,
    /// A backup.
    Backup(BackupFacts),
    /// A retention run.
    Retention(RetentionFacts),
    /// A mirror run.
    Mirror(MirrorFacts),
    /// An integrity check.
    Check(CheckFacts),
    /// Statistics of a bucket.
    Statistics(StatisticsFacts),
    /// A restore test.
    RestoreTest(RestoreTestFacts),
}

/// What a backup did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupFacts {
    /// The snapshot or the object that was made.
    pub made: Option<String>,
    /// Files that the one before did not have.
    pub files_new: u64,
    /// Files that are different from those in the one before.
    pub files_changed: u64,
    /// Files that are the same.
    pub files_unmodified: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that were added to the repository.
    pub bytes_added: u64,
    /// Bytes of dumps among them.
    pub dump_bytes: u64,
    /// Files that could not be read.
    pub unread: u64,
}

/// What a retention run did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetentionFacts {
    /// Snapshots that stay.
    pub kept: u64,
    /// Snapshots that were dropped.
    pub dropped: u64,
    /// Bytes that were given back.
    pub bytes_freed: u64,
    /// Bytes in the repository afterwards.
    pub bytes: u64,
    /// Seconds from the oldest snapshot that is known to be good to now, less the longest time in which damage goes
    /// unseen, by series. Negative: damage may outlive the last good snapshot.
    pub headroom_seconds: std::collections::BTreeMap<String, f64>,
}

/// What a mirror run did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorFacts {
    /// Files that were copied.
    pub files_copied: u64,
    /// Bytes that were copied.
    pub bytes_copied: u64,
    /// Files that were deleted.
    pub files_deleted: u64,
    /// Files of the source that the mirror does not have.
    pub files_missing: u64,
    /// Age of the newest snapshot of the source that the mirror does not have, in seconds.
    pub lag_seconds: Option<f64>,
}

/// What an integrity check saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckFacts {
    /// Packs there are.
    pub packs: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// What is wrong.
    pub errors: u64,
}

/// What a bucket holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatisticsFacts {
    /// What was counted, by prefix; the last one, without a name, is everything else.
    pub prefixes: Vec<PrefixFacts>,
    /// The ceiling.
    pub limit: Option<u64>,
    /// Requests in a month, as far as they follow from the jobs and what is there.
    pub requests_per_month: Option<u64>,
    /// What the bucket says of itself: versioning, object lock, lifecycle.
    pub settings: std::collections::BTreeMap<String, String>,
}

/// What one prefix of a bucket holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixFacts {
    /// The prefix, without the slash at its end.
    pub prefix: String,
    /// Bytes.
    pub bytes: u64,
    /// Objects.
    pub objects: u64,
    /// Objects in a tier from which they must be fetched before they can be read.
    pub archived: u64,
}

/// What a restore test came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreTestFacts {
    /// Verified drills.
    pub verified: u64,
    /// Failed drills.
    pub failed: u64,
    /// Inconclusive drills.
    pub inconclusive: u64,
}
