//! One backup: everything is captured, and goes into one snapshot, or nothing does.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use firedrill_core::canary;
use firedrill_core::config::TargetConfig;
use firedrill_core::config::jobs::{BackupConfig, Compression as Wanted, FilesCapture};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::job::{BackupFacts, Facts, Job, JobOrder, JobReport};
use firedrill_core::secret::Secret;
use jiff::tz::TimeZone;

use super::Place;
use crate::capture::{self, Captured, Moment};
use crate::repository::access::Environment;
use crate::repository::restic::write::{BackupRequest, BackupSummary, Compression, LeftOut, Outcome, Source};

/// So much of what could not be read is told one by one.
const UNREAD_TOLD: usize = 10;

/// Backs a target up.
pub struct BackupJob {
    /// The target.
    pub target: TargetConfig,
    /// How it is backed up.
    pub backup: BackupConfig,
    /// Where to.
    pub place: Place,
    /// Where passwords may be.
    pub environment: Environment,
    /// The key of canaries and digests; by default it is derived from the password of the repository.
    pub canary_key: Option<Secret>,
    /// The time zone that snapshots are dated in: rules of retention look at it.
    pub zone: TimeZone,
}

impl Job for BackupJob {
    fn run(&self, order: &JobOrder<'_>) -> JobReport {
        let dumps = Arc::new(AtomicU64::new(0));
        match self.back_up(order, &dumps) {
            Ok((summary, notes)) => self.told(&summary, dumps.load(Ordering::Relaxed), notes),
            Err(error) => JobReport::failed(error),
        }
    }
}

impl BackupJob {
    fn back_up(&self, order: &JobOrder<'_>, dumps: &Arc<AtomicU64>) -> Result<(BackupSummary, Vec<String>)> {
        // A password that is wrong is better known before a dump of hours than after it.
        let (writer, password) = self.place.open(&order.watch)?;
        let key = self.canary_key.clone().unwrap_or_else(|| canary::derive_key(&password));
        let moment = Moment {
            target: self.target.tag.as_deref().unwrap_or(&self.target.name),
            now: order.started,
            work: order.work,
            key: Some(&key),
            watch: &order.watch,
            environment: &self.environment,
        };
        let mut captured = capture::capture(&self.backup.capture, &moment)?;
        let request = self.request(&captured, order);
        let notes = std::mem::take(&mut captured.notes);
        let summary = writer.backup(sources(captured, dumps), &request, &order.watch)?;
        if summary.snapshot().is_none() {
            // A capture that was stopped is not one that failed.
            order.watch.check()?;
        }
        Ok((summary, notes))
    }

    fn request(&self, captured: &Captured, order: &JobOrder<'_>) -> BackupRequest {
        let files = || captured.files.iter();
        let mut paths: Vec<String> = files().flat_map(|files| files.paths.iter().cloned()).collect();
        paths.extend(captured.made.iter().filter(|made| made.dump).map(|made| made.path.clone()));
        paths.extend(captured.streams.iter().map(|stream| stream.path.clone()));
        paths.sort();
        paths.dedup();
        BackupRequest {
            tags: self.target.tag.iter().cloned().collect(),
            host: self.target.hosts().first().cloned(),
            paths: Some(paths),
            time: Some(order.started),
            zone: self.zone.clone(),
            left_out: files().map(left_out).collect(),
            compression: match self.backup.compression {
                Wanted::Off => Compression::Off,
                Wanted::Auto => Compression::Auto,
                Wanted::Max => Compression::Max,
            },
            ..BackupRequest::default()
        }
    }

    fn told(&self, summary: &BackupSummary, dump_bytes: u64, mut notes: Vec<String>) -> JobReport {
        let lacking = summary.unread.len() as u64 + summary.unread_more;
        let excused = summary.excused.len() as u64 + summary.excused_more;
        let facts = Facts::Backup(BackupFacts {
            made: summary.snapshot().map(|id| id.0.clone()),
            files_new: summary.counts.files_new,
            files_changed: summary.counts.files_changed,
            files_unmodified: summary.counts.files_unmodified,
            bytes: summary.counts.bytes,
            bytes_added: summary.data_added_packed,
            dump_bytes,
            unread: lacking + excused,
        });
        let first = summary.unread.first().map(|unread| format!("{}: {}", unread.path.display(), unread.why));
        let unread = summary.unread.iter().map(|unread| ("not read", unread));
        let excused = summary.excused.iter().map(|unread| ("not read, as allowed", unread));
        notes.extend(
            unread
                .chain(excused)
                .take(UNREAD_TOLD)
                .map(|(what, unread)| format!("{what}: {}: {}", unread.path.display(), unread.why)),
        );
        let mut report = match (&summary.outcome, summary.is_complete()) {
            (Outcome::Saved(_) | Outcome::Unchanged, true) => JobReport::succeeded(facts),
            (outcome, _) => {
                let error = Error::new(ErrorKind::Unavailable, format!("back {} up", self.target.name))
                    .because(format!("{lacking} files or streams could not be read"))
                    .because(first.unwrap_or_default());
                match outcome {
                    // There is no snapshot: one that lacks something must not be the latest of its tag.
                    Outcome::Withheld => JobReport { facts, ..JobReport::failed(error) },
                    _ => JobReport::incomplete(error, facts),
                }
            }
        };
        report.notes = notes;
        report
    }
}

/// What a capture says about its own paths, and about no others.
fn left_out(files: &FilesCapture) -> LeftOut {
    LeftOut {
        of: files.paths.iter().map(PathBuf::from).collect(),
        excludes: files.exclude.clone(),
        exclude_files: files.exclude_files.clone(),
        exclude_caches: files.exclude_caches,
        one_file_system: files.one_file_system,
        unreadable: files.unreadable.clone(),
        ..LeftOut::default()
    }
}

/// What goes into the snapshot; `dumps` counts the bytes of dumps.
fn sources(captured: Captured, dumps: &Arc<AtomicU64>) -> Vec<Source> {
    let mut sources: Vec<Source> =
        captured.files.iter().flat_map(|files| files.paths.iter().map(Source::path)).collect();
    for made in captured.made {
        if made.dump {
            dumps.fetch_add(std::fs::metadata(&made.file).map_or(0, |meta| meta.len()), Ordering::Relaxed);
        }
        sources.push(Source::Path { path: made.file, as_path: Some(PathBuf::from(made.path)) });
    }
    sources.extend(captured.streams.into_iter().map(|stream| {
        let (open, dumps) = (stream.open, Arc::clone(dumps));
        Source::stream(stream.path, move || {
            let stream = open().map_err(|error| std::io::Error::other(error.chain()))?;
            Ok(Counted { stream, dumps })
        })
    }));
    sources.extend(
        captured.canaries.into_iter().map(|canary| Source::Spare {
            path: PathBuf::from(canary.path),
            content: canary.line.into_bytes(),
        }),
    );
    sources
}

/// A stream that is counted.
struct Counted {
    stream: Box<dyn Read + Send>,
    dumps: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.stream.read(buffer)?;
        self.dumps.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
