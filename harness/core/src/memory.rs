//! What was proven is the next expectation.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::snapshot::{CopyName, Series, SnapshotId};

/// A person's "yes, we meant that".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// When.
    pub time: Timestamp,
    /// Why, in their words.
    pub reason: String,
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
