//! Backups that are one object each, and their retention.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

use firedrill_core::config::jobs::{BackupConfig, RetentionConfig};
use firedrill_core::config::objects::plain_components;
use firedrill_core::config::{BackupKind, ObjectPattern, TargetConfig};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::job::{BackupFacts, Facts, Job, JobOrder, JobReport, RetentionFacts};
use firedrill_core::retention::Guard;
use firedrill_core::secret::Secret;
use firedrill_core::snapshot::SnapshotId;
use jiff::tz::TimeZone;

use super::ObjectPlace;
use crate::capture::{self, Moment};
use crate::repository::access::Environment;
use crate::repository::objects::{ObjectRetention, ObjectSettings, Uploads, forget_objects, gave_up};

/// How objects are called when the copy has no pattern: such that they are recognised without one, whatever the name.
fn usual(kind: BackupKind) -> &'static str {
    match kind {
        BackupKind::Etcd => "{name}/etcd-snapshot-{time:%Y%m%d-%H%M%S}.db",
        _ => "{name}/{name}-{time:%Y%m%d-%H%M%S}.dump",
    }
}

/// Stores a dump as one object.
pub struct ObjectBackupJob {
    /// The target.
    pub target: TargetConfig,
    /// What is captured: one stream, or one file that is made for it.
    pub backup: BackupConfig,
    /// Where to.
    pub place: ObjectPlace,
    /// How objects are called; the first one counts.
    pub patterns: Vec<ObjectPattern>,
    /// Where passwords may be.
    pub environment: Environment,
    /// The key of digests.
    pub key: Option<Secret>,
}

impl Job for ObjectBackupJob {
    fn run(&self, order: &JobOrder<'_>) -> JobReport {
        match self.store(order) {
            Ok((facts, notes)) => JobReport { notes, ..JobReport::succeeded(Facts::Backup(facts)) },
            Err(error) => JobReport::failed(error),
        }
    }
}

impl ObjectBackupJob {
    fn store(&self, order: &JobOrder<'_>) -> Result<(BackupFacts, Vec<String>)> {
        let name = self.target.tag.as_deref().unwrap_or(&self.target.name);
        let uploads = Uploads::open(&self.place.location, &self.place.access.watched(&order.watch))?;
        let key = self.name(name, order)?;
        let mut notes = self.sweep(&uploads, &key, order);
        let moment = Moment {
            target: name,
            now: order.started,
            work: order.work,
            // Nothing can stand beside an object: no canary, and digests have no place.
            key: None,
            watch: &order.watch,
            environment: &self.environment,
        };
        let mut captured = capture::capture(&self.backup.capture, &moment)?;
        let stored = match (captured.streams.pop(), captured.made.first()) {
            (Some(stream), None) if captured.streams.is_empty() => {
                let mut stream = (stream.open)()?;
                uploads.store(&key, &mut stream, order.work, &order.watch)?
            }
            (None, Some(made)) if captured.files.is_empty() => {
                let mut file = File::open(&made.file).map_err(|e| {
                    Error::new(ErrorKind::Scratch, format!("read {}", made.file.display())).from_source(&e)
                })?;
                uploads.store(&key, &mut file as &mut dyn Read, order.work, &order.watch)?
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("store {} as one object", self.target.name),
                )
                .because("more than one thing was captured")
                .advise("capture one dump, or use a restic repository"));
            }
        };
        notes.append(&mut captured.notes);
        let facts = BackupFacts {
            made: Some(stored.key),
            files_new: 1,
            bytes: stored.bytes,
            bytes_added: stored.bytes,
            dump_bytes: stored.bytes,
            ..BackupFacts::default()
        };
        Ok((facts, notes))
    }

    /// Gives up what earlier runs of this target left unfinished: they are dead, for this one holds its lock. What is
    /// worth knowing of that; it keeps nobody from making the next backup.
    fn sweep(&self, uploads: &Uploads, key: &str, order: &JobOrder<'_>) -> Vec<String> {
        let pattern = self.pattern();
        let series = |key: &str| {
            let read = plain_components(key).and_then(|parts| pattern.as_ref().ok()?.read(&parts))?;
            Some((read.series, read.namespace))
        };
        let own = series(key);
        let ours = |key: &str| own.is_some() && series(key) == own;
        match uploads.sweep(&ours, order.started, &order.watch) {
            Ok(swept) => gave_up(&swept).into_iter().collect(),
            Err(error) => vec![error.chain()],
        }
    }

    /// How its objects are called.
    fn pattern(&self) -> Result<ObjectPattern, String> {
        self.patterns.first().cloned().map_or_else(|| usual(self.target.kind).parse(), Ok)
    }

    fn name(&self, name: &str, order: &JobOrder<'_>) -> Result<String> {
        let failed = |why: String| {
            Error::new(ErrorKind::Usage, format!("name the object of {}", self.target.name))
                .because(why)
                .advise("give the copy a pattern with {name} and {time:...} in `objects`")
        };
        let namespace = self.target.hosts().first().map_or(name, String::as_str);
        self.pattern().and_then(|pattern| pattern.write(name, namespace, order.started)).map_err(failed)
    }
}

/// Applies rules of retention to plain objects.
pub struct ObjectRetentionJob {
    /// Where they are.
    pub place: ObjectPlace,
    /// How their names are read.
    pub settings: ObjectSettings,
    /// The rules.
    pub rules: RetentionConfig,
    /// The newest verified object of each series.
    pub verified: BTreeSet<SnapshotId>,
    /// Where the rules are applied.
    pub zone: TimeZone,
}

impl Job for ObjectRetentionJob {
    fn run(&self, order: &JobOrder<'_>) -> JobReport {
        let guard = Guard {
            never_drop: if self.rules.keep_verified { self.verified.clone() } else { BTreeSet::new() },
            max_share: Some(self.rules.drop_max_ratio),
            ..Guard::default()
        };
        let request = ObjectRetention {
            settings: &self.settings,
            policy: &self.rules.keep,
            guard: &guard,
            zone: &self.zone,
            now: order.started,
            dry_run: false,
        };
        let access = self.place.access.watched(&order.watch);
        match forget_objects(&self.place.location, &access, &request, &order.watch) {
            Err(error) => JobReport::failed(error),
            Ok(forgotten) => {
                let mut report = JobReport::succeeded(Facts::Retention(RetentionFacts {
                    kept: forgotten.decided.iter().filter(|one| !one.is_removed()).count() as u64,
                    dropped: forgotten.removed.len() as u64,
                    bytes_freed: forgotten.bytes_freed,
                    bytes: forgotten.bytes,
                    ..RetentionFacts::default()
                }));
                report.notes = forgotten.removed.iter().map(|name| format!("dropped {name}")).collect();
                report.notes.extend(forgotten.notes);
                report
            }
        }
    }
}
