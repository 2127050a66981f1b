//! `firedrill.yaml` as types. The documentation of each field is its description in the schema.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::copies::{BackupKind, CopyConfig};
use super::jobs::{BackupConfig, JobConfig};
use super::notify::Notify;
use super::runtime::RuntimeConfig;
use super::schedule::{Cron, Timezone};
use super::settings::{Expectations, Objectives, Probes};
use super::sinks::Sinks;
use super::trials::{AppConfig, CheckConfig, GroupConfig, InvariantConfig};
use super::units::{Size, Span};
use crate::plan::Trials;
use crate::snapshot::{CopyName, Series};

/// The fleet: where its backups are kept, what they hold, and what was promised about them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The version of this file's format; always 1.
    #[schemars(extend("const" = 1))]
    pub version: u32,
    /// The time zone of all schedules, for example `Europe/Zurich`.
    #[serde(default)]
    pub timezone: Timezone,
    /// Copies of the repository (or of several repositories). Each one is restore-tested on its own.
    #[schemars(length(min = 1))]
    pub copies: Vec<CopyConfig>,
    /// What is backed up. What a repository holds besides is drilled too, without promises.
    #[serde(default)]
    pub targets: Vec<TargetConfig>,
    /// Targets that only mean something together, such as a database and the files that it knows of. Each group is
    /// restored as one, besides its targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupConfig>,
    /// Jobs around the backups: retention, mirrors, checks, statistics, restore tests. Backups themselves are jobs
    /// of their targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobConfig>,
    /// Who is told when something goes bad, and when it is well again.
    #[serde(default)]
    pub notify: Notify,
    /// Thresholds of the probes, for all targets.
    #[serde(default)]
    pub probes: Probes,
    /// How restore tests run.
    #[serde(default)]
    pub restore_test: RestoreTest,
    /// Where restored software runs: the engines that dumps are loaded into.
    #[serde(default)]
    pub runtime: RuntimeConfig,
    /// How canaries are authenticated.
    #[serde(default)]
    pub canary: Canary,
    /// Where results go, besides the console.
    #[serde(default)]
    pub sinks: Sinks,
    /// Folder that keeps the evidence of all runs; the next run compares with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
}

/// One text or a list of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Typed {
            One(String),
            Many(Vec<String>),
        }
        Ok(Self(match Typed::deserialize(deserializer)? {
            Typed::One(one) => vec![one],
            Typed::Many(many) => many,
        }))
    }
}

impl JsonSchema for OneOrMany {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "items": { "type": "string", "minLength": 1 },
            "minLength": 1,
            "minItems": 1,
            "description": "One text, or a list of texts."
        })
    }
}

/// What a person backs up: one series of snapshots, with what was promised about it. In a restic
/// repository the series is known by its tag or, for untagged snapshots, by host and paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// Its name in drills and reports; best the same as its tag.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), length(max = 63))]
    pub name: String,
    /// What kind of backup it is.
    #[serde(default)]
    pub kind: BackupKind,
    /// Names of the copies that must hold it. Default: all copies of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub copies: Option<Vec<String>>,
    /// The tag of its snapshots. Without a tag the target is the untagged snapshots of `host` with
    /// exactly `paths`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub tag: Option<String>,
    /// The host, or the hosts, that may write it. Snapshots of others are never taken for its latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<OneOrMany>,
    /// The paths that are backed up, absolute. With a tag: they must be in each snapshot. Without a
    /// tag: they select the snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub paths: Option<Vec<String>>,
    /// When it is backed up: a cron expression of five fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Cron>,
    /// How firedrill backs it up. Without it somebody else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupConfig>,
    /// What was promised.
    #[serde(default)]
    pub objectives: Objectives,
    /// What a good backup of it holds.
    #[serde(default)]
    pub expect: Expectations,
    /// Checks of one's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckConfig>,
    /// The application, which is started on the restored data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppConfig>,
    /// What holds between a database in it and its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<InvariantConfig>,
    /// Thresholds of the probes where they differ from the top-level `probes`. Fields that are not
    /// named here keep the top-level value.
    #[serde(default)]
    pub probes: Probes,
}

impl TargetConfig {
    /// The hosts that may write it; empty: any.
    pub fn hosts(&self) -> &[String] {
        self.host.as_ref().map_or(&[], |hosts| &hosts.0)
    }

    /// The series of snapshots that it is. A target of a kind without tags is a series of its own.
    pub fn series(&self) -> Series {
        if let Some(tag) = &self.tag {
            return Series::Tag(tag.clone());
        }
        match (self.kind, self.hosts().first(), &self.paths) {
            (BackupKind::Restic, Some(host), Some(paths)) => {
                let trim = |path: &String| match path.trim_end_matches('/') {
                    "" => "/".to_owned(),
                    path => path.to_owned(),
                };
                let mut paths: Vec<String> = paths.iter().map(trim).collect();
                paths.sort();
                Series::Untagged { host: host.clone(), paths }
            }
            _ => Series::Tag(self.name.clone()),
        }
    }

    /// Whether the copy `name` of `kind` must hold it.
    pub fn belongs_in(&self, name: &CopyName, kind: BackupKind) -> bool {
        match &self.copies {
            Some(names) => names.contains(&name.0),
            None => self.kind == kind,
        }
    }

    /// What is tried on its restored data beside the probes.
    pub fn trials(&self) -> Trials {
        Trials {
            checks: self.checks.clone(),
            app: self.app.clone(),
            invariants: self.invariants.clone(),
            max_skew: None,
        }
    }

    /// What must be in each snapshot: `expect`, and with a tag also `paths`.
    pub fn expectations(&self) -> Expectations {
        let mut expectations = self.expect.clone();
        if self.tag.is_some() {
            for path in self.paths.iter().flatten() {
                if !expectations.paths.contains(path) {
                    expectations.paths.push(path.clone());
                }
            }
        }
        expectations
    }
}

/// How restore tests run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RestoreTest {
    /// Drills at a time; default: one per processor, at most four.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub jobs: Option<usize>,
    /// Folder that backups are restored into; it needs room for `jobs` backups at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,
    /// Bytes that all drills together may hold in scratch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch_limit: Option<Size>,
    /// Time for one drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// When the restore test is meant to run: a cron expression of five fields. Alerts need to know when a run is
    /// overdue. It is started by somebody else, or by a job with `restore_test`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Cron>,
    /// Whether each run also drills a deliberately damaged backup, which must be found out.
    pub control: bool,
}

impl Default for RestoreTest {
    fn default() -> Self {
        Self { jobs: None, scratch: None, scratch_limit: None, timeout: None, schedule: None, control: true }
    }
}

/// How canaries are authenticated: by one key, in a file or in an environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Canary {
    /// File with the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Environment variable with the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub key_env: Option<String>,
}

impl Config {
    /// The copy called `name`.
    pub fn copy(&self, name: &CopyName) -> Option<&CopyConfig> {
        self.copies.iter().find(|copy| copy.name == name.0)
    }

    /// The thresholds for `target`: the top-level ones with the target's own on top. [`super::load`]
    /// merged them field by field, before it could no longer tell a default from a choice.
    pub fn target_probes(&self, target: &TargetConfig) -> Probes {
        target.probes.clone()
    }

    /// What was promised about `target` in the copy `name`: each objective of the copy, or else that of
    /// the target.
    pub fn objectives(&self, target: &TargetConfig, name: &CopyName) -> Objectives {
        let copy = self.copy(name).map(|c| &c.objectives);
        Objectives {
            rpo: copy.and_then(|o| o.rpo).or(target.objectives.rpo),
            rto: copy.and_then(|o| o.rto).or(target.objectives.rto),
        }
    }

    /// The interval at which restore tests are meant to run.
    pub fn restore_test_interval(&self) -> Option<Span> {
        self.restore_test.schedule.as_ref().and_then(Cron::longest_gap)
    }
}
