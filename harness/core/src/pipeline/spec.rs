//! The jobs of a config, and what each of them needs for itself.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::jobs::{
    BackupConfig, IntegrityConfig, MirrorConfig, RestoreTestJob, RetentionConfig, Rules, StatisticsConfig,
};
use crate::config::{Config, CopyConfig, Cron, Role, TargetConfig, Timezone};

/// A job may take this long when its config does not say.
const DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// The name of a job: that of its target, or its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobName(pub String);

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a job does.
#[derive(Clone, Debug, PartialEq)]
pub enum JobKind {
    /// Backs a target up into a copy.
    Backup {
        /// The target.
        target: Box<TargetConfig>,
        /// How.
        backup: Box<BackupConfig>,
        /// The copy that is written.
        copy: String,
    },
    /// Drops old snapshots.
    Retention(RetentionConfig),
    /// Fills a copy from another.
    Mirror(MirrorConfig),
    /// Compares a repository with itself.
    Check(IntegrityConfig),
    /// Counts what is in a bucket.
    Statistics(StatisticsConfig),
    /// Restores and examines everything.
    RestoreTest(RestoreTestJob),
}

impl JobKind {
    /// The kind in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Backup { .. } => "backup",
            Self::Retention(_) => "retention",
            Self::Mirror(_) => "mirror",
            Self::Check(_) => "check",
            Self::Statistics(_) => "statistics",
            Self::RestoreTest(_) => "restore_test",
        }
    }
}

/// How a job needs a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Beside others that add to it or read it.
    Shared,
    /// Alone: it removes what others may count on.
    Exclusive,
}

/// A copy that a job needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The name of the copy.
    pub copy: String,
    /// How it is needed.
    pub mode: Mode,
}

/// One job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    /// Its name.
    pub name: JobName,
    /// What it does.
    pub kind: JobKind,
    /// When it runs; `None`: by hand.
    pub schedule: Option<Cron>,
    /// The time zone of its schedule.
    pub zone: Timezone,
    /// How it is started and repeated.
    pub rules: Rules,
    /// What it needs, by name.
    pub needs: Vec<Need>,
}

impl JobSpec {
    /// Every job of `config`, by name.
    pub fn all(config: &Config) -> Vec<Self> {
        let mut all: Vec<Self> =
            config.targets.iter().filter_map(|target| Self::backup(config, target)).collect();
        all.extend(config.jobs.iter().filter_map(|job| {
            let (kind, needs) = around(config, job)?;
            Some(Self {
                name: JobName(job.name.clone()),
                kind,
                schedule: job.schedule.clone(),
                zone: config.timezone.clone(),
                rules: job.rules.clone(),
                needs,
            })
        }));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn backup(config: &Config, target: &TargetConfig) -> Option<Self> {
        let backup = target.backup.as_ref()?;
        let copy = destination(config, target, backup)?.name.clone();
        Some(Self {
            name: JobName(target.name.clone()),
            needs: vec![Need { copy: copy.clone(), mode: Mode::Shared }],
            kind: JobKind::Backup {
                target: Box::new(target.clone()),
                backup: Box::new(backup.clone()),
                copy,
            },
            schedule: target.schedule.clone(),
            zone: config.timezone.clone(),
            rules: backup.rules.clone(),
        })
    }

    /// How long it may take.
    pub fn deadline(&self) -> Duration {
        self.rules.deadline.map_or(DEADLINE, |span| span.0)
    }

    /// The copies on which the two must not meet.
    pub fn conflicts<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        self.needs.iter().filter_map(move |need| {
            let met = other.needs.iter().find(|theirs| theirs.copy == need.copy)?;
            (need.mode == Mode::Exclusive || met.mode == Mode::Exclusive).then_some(need.copy.as_str())
        })
    }

    /// Whether the two must not run at the same time.
    pub fn excludes(&self, other: &Self) -> bool {
        self.conflicts(other).next().is_some()
    }
}

/// The copy that a target is backed up into: the one that is named, or the only primary one that holds it.
pub fn destination<'c>(
    config: &'c Config,
    target: &TargetConfig,
    backup: &BackupConfig,
) -> Option<&'c CopyConfig> {
    if let Some(name) = &backup.to {
        return config.copies.iter().find(|copy| &copy.name == name);
    }
    let mut primary = config
        .copies
        .iter()
        .filter(|copy| copy.role == Role::Primary && target.belongs_in(&copy.copy_name(), copy.kind));
    let first = primary.next()?;
    primary.next().is_none().then_some(first)
}

/// What a job around the backups does and needs.
fn around(config: &Config, job: &crate::config::jobs::JobConfig) -> Option<(JobKind, Vec<Need>)> {
    let need = |copy: &str, mode| Need { copy: copy.to_owned(), mode };
    if let Some(retention) = &job.retention {
        return Some((JobKind::Retention(retention.clone()), vec![need(&retention.copy, Mode::Exclusive)]));
    }
    if let Some(mirror) = &job.mirror {
        // The source may grow meanwhile; it may not shrink. Nobody else writes to a mirror.
        let needs = vec![need(&mirror.from, Mode::Shared), need(&mirror.to, Mode::Exclusive)];
        return Some((JobKind::Mirror(mirror.clone()), sorted(needs)));
    }
    if let Some(check) = &job.check {
        return Some((JobKind::Check(check.clone()), vec![need(&check.copy, Mode::Shared)]));
    }
    if let Some(statistics) = &job.statistics {
        return Some((JobKind::Statistics(statistics.clone()), Vec::new()));
    }
    let test = job.restore_test.as_ref()?;
    let read: BTreeSet<&str> = config
        .copies
        .iter()
        .filter(|copy| copy.kind.drillable())
        .map(|copy| copy.name.as_str())
        .filter(|name| test.copies.is_empty() || test.copies.iter().any(|chosen| chosen == name))
        .collect();
    let needs = read.into_iter().map(|copy| need(copy, Mode::Shared)).collect();
    Some((JobKind::RestoreTest(test.clone()), needs))
}

/// Needs are taken in one order by everybody, so that no two jobs wait for each other.
fn sorted(mut needs: Vec<Need>) -> Vec<Need> {
    needs.sort();
    needs
}
