//! What will be restored, from where, and how it is examined. Fully resolved and printable: no choice
//! is left for execution.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::settings::{Expectations, Objectives, Probes};
use crate::config::trials::{AppConfig, CheckConfig, InvariantConfig};
use crate::config::units::{Size, Span};
use crate::snapshot::{CopyName, Series, Snapshot};

/// `copy::series::which`, for example `primary::grafana::latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DrillName(pub String);

impl DrillName {
    /// The name of a drill; `::` inside a part would make it ambiguous and becomes `:`.
    pub fn new(copy: &CopyName, series: &Series, which: &str) -> Self {
        let part = |text: String| text.replace("::", ":");
        Self(format!("{}::{}::{}", part(copy.to_string()), part(series.to_string()), part(which.to_owned())))
    }
}

impl fmt::Display for DrillName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The snapshot that a drill restores, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// This one.
    Snapshot(Snapshot),
    /// The copy was read and holds no snapshot for this target: a finding.
    Missing,
    /// The copy could not be read, so nobody knows: inconclusive.
    Unknown,
}

impl Selection {
    /// The snapshot, if there is one.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            Self::Snapshot(snapshot) => Some(snapshot),
            Self::Missing | Self::Unknown => None,
        }
    }
}

/// The name of the probe that runs checks of a person's own.
pub const CHECK_PROBE: &str = "check";
/// The name of the probe that starts the application.
pub const APP_PROBE: &str = "app";

/// The name of the probe that looks at what belongs together.
pub const GROUP_PROBE: &str = "group";

/// One part of a group: the snapshot of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The target; also the folder in scratch that its snapshot is restored into.
    pub target: String,
    /// The series that the snapshot belongs to.
    pub series: Series,
    /// What is restored.
    pub selection: Selection,
}

/// What is tried on the restored data beside the probes that know it by themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trials {
    /// Checks of a person's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckConfig>,
    /// The application that the data belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppConfig>,
    /// What holds between a database and files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<InvariantConfig>,
    /// The snapshots of a group may be this far apart in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_skew: Option<Span>,
}

impl Trials {
    /// Whether there is nothing to try.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The names of the probes that try it. Without them the drill proves nothing.
    pub fn probes(&self) -> Vec<String> {
        let needed = [
            (GROUP_PROBE, !self.invariants.is_empty()),
            (CHECK_PROBE, !self.checks.is_empty()),
            (APP_PROBE, self.app.is_some()),
        ];
        needed.into_iter().filter(|(_, needed)| *needed).map(|(name, _)| name.to_owned()).collect()
    }
}

/// One restore test: one snapshot, one scratch, the probes, the objectives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// Its name, unique in the plan.
    pub name: DrillName,
    /// The copy that is restored from.
    pub copy: CopyName,
    /// The series that the snapshot belongs to.
    pub series: Series,
    /// The name of the target in the config, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What is restored. Of a group it stands for all parts together: the time is that of the oldest.
    pub selection: Selection,
    /// The parts of a group, in the order in which they are restored; empty for a single target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// What is promised.
    #[serde(default)]
    pub objectives: Objectives,
    /// What must be in it.
    #[serde(default)]
    pub expectations: Expectations,
    /// Hosts that may write this series; empty: whichever wrote it before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Thresholds of the probes.
    #[serde(default)]
    pub probes: Probes,
    /// What is tried besides.
    #[serde(default, skip_serializing_if = "Trials::is_empty")]
    pub trials: Trials,
    /// Probes without whose examination the drill proves nothing.
    pub required: Vec<String>,
    /// The seed of all choices inside this drill.
    pub seed: u64,
}

/// One copy of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCopy {
    /// Its name.
    pub name: CopyName,
    /// Where it is, without secrets.
    pub location: String,
}

/// The negative control: a drill of a copy that is damaged on purpose, which must be found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// The drill whose snapshot is restored once more and damaged.
    pub of: DrillName,
    /// The control drill itself.
    pub drill: Drill,
}

/// Bounds of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Drills at a time.
    pub jobs: usize,
    /// Bytes that all leases together may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Size>,
    /// Time for one drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Whether leases are kept after the drill.
    #[serde(default)]
    pub keep: bool,
}

/// The whole plan of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The seed of the run.
    pub seed: u64,
    /// The moment against which ages are measured.
    pub at: Timestamp,
    /// The copies, in the order of the config.
    pub copies: Vec<PlannedCopy>,
    /// The drills, in the order in which they start.
    pub drills: Vec<Drill>,
    /// The negative control, unless there is nothing to control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// Whether there is no negative control because the config switches it off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control_off: bool,
    /// The bounds.
    pub limits: Limits,
    /// The interval at which this restore test is meant to run, if known; becomes a metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
}
