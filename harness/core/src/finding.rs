//! What is wrong with a backup, and what was looked at.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cell::EngineFacts;

/// What a finding means for the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The data came back, but a recovery needs something that this backup does not hold: roles, a token, a
    /// certificate authority. It does not change the verdict; whether it is kept elsewhere, a person must know.
    Gap,
    /// An objective was missed: the backup is intact, but it is too old or restores too slowly.
    Objective,
    /// The content does not fit what is known of this backup: it shrank, stalled, came from another
    /// host, or looks encrypted by somebody else. A person can accept it with a reason.
    Anomaly,
    /// Something that the backup promises is missing, unreadable or different.
    Damage,
}

/// One thing that is wrong with a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable dotted name, `probe.what`, for example `tree.content` or `sqlite.integrity`.
    pub code: String,
    /// What it means for the verdict.
    pub class: Class,
    /// Where: a path inside the snapshot, a repository file, a table.
    pub location: String,
    /// What a good backup would have shown.
    pub expected: String,
    /// What was seen instead.
    pub seen: String,
}

impl Finding {
    /// Something promised is missing, unreadable or different.
    pub fn damage(
        code: &str,
        location: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self::of(Class::Damage, code, location, expected, seen)
    }

    /// The content does not fit what is known of this backup.
    pub fn anomaly(
        code: &str,
        location: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self::of(Class::Anomaly, code, location, expected, seen)
    }

    /// A recovery needs something that this backup does not hold.
    pub fn gap(
        code: &str,
        location: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self::of(Class::Gap, code, location, expected, seen)
    }

    /// An objective was missed.
    pub fn objective(
        code: &str,
        location: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self::of(Class::Objective, code, location, expected, seen)
    }

    fn of(
        class: Class,
        code: &str,
        location: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self {
            code: code.to_owned(),
            class,
            location: location.into(),
            expected: expected.into(),
            seen: seen.into(),
        }
    }
}

/// How the recovery point of restored data was learnt, best evidence first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryBasis {
    /// An authentic canary, planted by the pipeline at a known moment.
    Canary,
    /// A time written inside the data (a dump header, an application's newest row).
    Data,
    /// The time of the snapshot, which says when the job ran, not what it holds.
    Snapshot,
}

/// The moment up to which restored data is known to be complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// The moment.
    pub time: Timestamp,
    /// How it was learnt.
    pub basis: RecoveryBasis,
}

/// At most this many findings are kept per examination; the rest is counted.
pub const FINDINGS_MAX: usize = 100;

/// What one probe looked at and found. A probe never returns an error: what kept it from looking is
/// `interrupted`, and an interrupted or empty examination proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// The probe's name.
    pub probe: String,
    /// How many items were really examined (entries, rows, chunks), in `unit`.
    pub checked: u64,
    /// What is counted in `checked`, plural.
    pub unit: String,
    /// What is wrong, at most [`FINDINGS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// How many further findings were not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub findings_omitted: u64,
    /// Why the examination could not be finished, if it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<String>,
    /// What this examination leaves unproven, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_verified: Vec<String>,
    /// Worth knowing, without weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The recovery point that the data itself shows, if it shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point: Option<RecoveryPoint>,
    /// The engines that the data was loaded into, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineFacts>,
    /// What the next drill of this tag will be compared with; see [`crate::memory`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub baseline: BTreeMap<String, serde_json::Value>,
}

impl Examination {
    /// An examination by `probe` that has looked at nothing yet.
    pub fn new(probe: &str, unit: &str) -> Self {
        Self { probe: probe.to_owned(), unit: unit.to_owned(), ..Self::default() }
    }

    /// Records a finding, or counts it when there are too many already.
    pub fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_omitted += 1;
        }
    }

    /// Records why the examination could not be finished. The first reason is kept.
    pub fn interrupt(&mut self, reason: impl Into<String>) {
        self.interrupted.get_or_insert_with(|| reason.into());
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}
