//! What a run proved, ready to be shown. This is also the JSON that `--json` prints: fields are added,
//! never renamed; durations are in seconds, sizes in bytes, times in RFC 3339.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::{CopyFacts, Injected, Phase};
use crate::finding::{Class, Examination, Finding, RecoveryBasis};
use crate::plan::DrillName;
use crate::snapshot::{CopyName, Series, SnapshotId};
use crate::verdict::{Exit, Verdict};

/// The version of this format.
pub(super) const VERSION: u32 = 1;

/// Why a verdict is not `verified`, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The verdict that this reason alone would give.
    pub verdict: Verdict,
    /// The sentence.
    pub text: String,
}

impl Reason {
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, text: text.into() }
    }

    pub(super) fn incomplete(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Inconclusive, text: text.into() }
    }
}

/// What became of an objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveState {
    /// The measurement is within the objective.
    Met,
    /// It is not.
    Missed,
    /// There is an objective, and no measurement.
    Unmeasured,
    /// Nothing was promised.
    NotSet,
}

/// An objective beside its measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// The promise, in seconds.
    pub objective_seconds: Option<f64>,
    /// The measurement, in seconds.
    pub actual_seconds: Option<f64>,
    /// What became of it.
    pub state: ObjectiveState,
}

impl Objective {
    pub(super) fn of(objective_seconds: Option<f64>, actual_seconds: Option<f64>) -> Self {
        let state = match (objective_seconds, actual_seconds) {
            (None, _) => ObjectiveState::NotSet,
            (Some(_), None) => ObjectiveState::Unmeasured,
            (Some(objective), Some(actual)) if actual <= objective => ObjectiveState::Met,
            (Some(_), Some(_)) => ObjectiveState::Missed,
        };
        Self { objective_seconds, actual_seconds, state }
    }
}

/// Recovery time actual: what the restore took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rta {
    /// Seconds per phase.
    pub phases: BTreeMap<Phase, f64>,
    /// All phases together but provisioning: from the decision to restore until the data was proven. `None`
    /// until locate, fetch, write and examine were measured.
    pub total_seconds: Option<f64>,
    /// Until an engine with the data gave its first good answer; `None` where no engine was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_seconds: Option<f64>,
}

/// Recovery point actual: the data that would be lost, as time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rpa {
    /// From the recovery point to the moment of the run.
    pub seconds: f64,
    /// The recovery point.
    pub time: Timestamp,
    /// How it was learnt.
    pub basis: RecoveryBasis,
}

/// The verdict on one drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillJudgement {
    /// The drill.
    pub name: DrillName,
    /// The copy.
    pub copy: CopyName,
    /// The series.
    pub series: Series,
    /// The target in the config.
    pub target: Option<String>,
    /// The snapshot.
    pub snapshot: Option<SnapshotId>,
    /// Its time.
    pub snapshot_time: Option<Timestamp>,
    /// Its host.
    pub host: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is not verified, most telling first.
    pub reasons: Vec<Reason>,
    /// Everything that is wrong with the backup: from the restore and from all probes.
    pub findings: Vec<Finding>,
    /// How many further findings were not kept.
    pub findings_omitted: u64,
    /// What kept us from finishing.
    pub errors: Vec<Error>,
    /// What each probe looked at. Their findings are in `findings`.
    pub examinations: Vec<Examination>,
    /// What was not made in scratch on purpose.
    pub withheld: Vec<String>,
    /// Regular files restored.
    pub files: u64,
    /// Bytes restored.
    pub bytes: u64,
    /// Bytes read from the repository.
    pub bytes_read: u64,
    /// Recovery time actual.
    pub rta: Rta,
    /// Recovery point actual.
    pub rpa: Option<Rpa>,
    /// Recovery time objective.
    pub rto: Objective,
    /// Recovery point objective.
    pub rpo: Objective,
    /// Where the restored data was kept.
    pub kept: Option<String>,
}

impl DrillJudgement {
    /// Whether a promise was broken: a missed RPO or RTO, or a finding of class `objective`.
    pub fn objective_missed(&self) -> bool {
        self.rto.state == ObjectiveState::Missed
            || self.rpo.state == ObjectiveState::Missed
            || self.findings.iter().any(|f| f.class == Class::Objective)
    }
}

/// The verdict on one copy as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyJudgement {
    /// The copy.
    pub name: CopyName,
    /// Where it is, without secrets.
    pub location: String,
    /// The verdict on what belongs to no single drill. The drills have their own.
    pub verdict: Verdict,
    /// What is known of it.
    pub facts: Option<CopyFacts>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// What kept us from reading it.
    pub errors: Vec<Error>,
}

impl CopyJudgement {
    pub(super) fn new(name: CopyName) -> Self {
        Self {
            name,
            location: String::new(),
            verdict: Verdict::Inconclusive,
            facts: None,
            findings: Vec::new(),
            errors: Vec::new(),
        }
    }

    pub(super) fn settle(&mut self) {
        // As in drills, a missed objective is told and is no damage.
        self.verdict = if self.findings.iter().any(|f| f.class != Class::Objective) {
            Verdict::Failed
        } else if self.facts.is_none() || !self.errors.is_empty() {
            Verdict::Inconclusive
        } else {
            Verdict::Verified
        };
    }
}

/// What became of the negative control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlState {
    /// Every deliberate damage was found.
    Caught,
    /// Some deliberate damage went unseen: the run proves nothing.
    Missed,
    /// It was planned and did not run to its end.
    NotRun,
    /// There was nothing to control (no drill has a snapshot with content).
    NotPlanned,
    /// The config switches it off: nobody knows whether this run can tell a damaged backup from a good one.
    SwitchedOff,
}

/// The negative control of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlJudgement {
    /// What became of it.
    pub state: ControlState,
    /// The drill whose snapshot was damaged.
    pub of: Option<DrillName>,
    /// Each deliberate damage.
    pub injected: Vec<Injected>,
    /// Those that went unseen.
    pub missed: Vec<Injected>,
}

/// Facts about the evidence file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceFacts {
    /// Good lines.
    pub lines: u64,
    /// SHA-256 of the last one: the head of the chain.
    pub head: String,
}

/// What a run proved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Format version.
    pub judgement: u32,
    /// The id of the run.
    pub run: String,
    /// The version of firedrill that ran it.
    pub version: String,
    /// The command that repeats it.
    pub command: String,
    /// The seed.
    pub seed: u64,
    /// The moment against which ages were measured.
    pub at: Timestamp,
    /// When the run started.
    pub started: Timestamp,
    /// How long it took; `None` when it did not finish.
    pub seconds: Option<f64>,
    /// The verdict on the run: the worst of everything below and of `reasons`.
    pub verdict: Verdict,
    /// The exit code that the verdict asks for, before sinks had their say. A run that is inconclusive only
    /// because nothing was selected has that for its exit.
    pub exit: Exit,
    /// Why the run as a whole is not verified (its drills have reasons of their own).
    pub reasons: Vec<Reason>,
    /// The copies.
    pub copies: Vec<CopyJudgement>,
    /// The drills, in the order of the plan.
    pub drills: Vec<DrillJudgement>,
    /// The negative control.
    pub control: ControlJudgement,
    /// How often this restore test is meant to run.
    pub interval_seconds: Option<f64>,
    /// The evidence.
    pub evidence: EvidenceFacts,
}

impl Judgement {
    /// How many drills got `verdict`.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.drills.iter().filter(|d| d.verdict == verdict).count()
    }
}
