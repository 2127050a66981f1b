//! What was proven is the next expectation.
//!
//! Each verified drill leaves a compact [`Baseline`] in its evidence. [`learn`] takes the baselines of a
//! run out of its evidence, [`Memory`] keeps them, one per copy and series, and the next drill of that
//! series is compared with them. A person can [`accept`] a drill that failed only because the content
//! changed more than expected.

mod learn;
mod store;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::snapshot::{CopyName, Series, SnapshotId};

pub use learn::{accept, learn};
pub use store::Memory;

/// The code of the finding that a snapshot of the baseline vanished although it was the newest one; its
/// location is the id of that snapshot. Accepting it is the one way to a baseline that is older than the
/// present one.
pub const SNAPSHOT_GONE: &str = "shape.snapshot_gone";
/// The code of the finding that a copy holds another repository than the one that was proven before.
pub const REPOSITORY_IDENTITY: &str = "repository.identity";

/// A person's "yes, we meant that".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// When.
    pub time: Timestamp,
    /// Why, in their words.
    pub reason: String,
    /// The snapshot of the earlier baseline that is gone, when its absence was part of what was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<SnapshotId>,
}

/// What one verified (or accepted) drill left behind: compact, and compared with the next one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The id of the repository; a re-initialised copy has another one.
    pub repository: String,
    /// The copy.
    pub copy: CopyName,
    /// The series.
    pub series: Series,
    /// The run whose evidence this comes from.
    pub run: String,
    /// The snapshot that was drilled.
    pub snapshot: SnapshotId,
    /// Its time.
    pub snapshot_time: Timestamp,
    /// Its host.
    pub host: String,
    /// Set when a person accepted a drill that was not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
    /// What each probe left, by probe name.
    pub probes: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
}

impl Baseline {
    /// Whether this baseline may take the place of `old`. The drill of an older snapshot never replaces
    /// what a newer one taught, unless a person accepted that the newer snapshot is gone.
    pub fn supersedes(&self, old: &Self) -> bool {
        let gone = self.accepted.as_ref().and_then(|a| a.gone.as_ref());
        self.snapshot_time >= old.snapshot_time || gone == Some(&old.snapshot)
    }
}
