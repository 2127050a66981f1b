//! Backups: what is asked for, what came of it, and the way in between.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::finding::Finding;
use firedrill_core::manifest::Digest;
use firedrill_core::snapshot::{Snapshot, SnapshotId};
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustic_core::FileType;
use serde::Serialize;

use super::super::catalog::{self, Key, Opened};
use super::Writer;
use super::archive::{Archive, Seen};
use super::chunk::Chunker;
use super::left_out::{LeftOut, Rules, Word};
use super::lock::Lock;
use super::node::Hex;
use super::parent::{self, Parents};
use super::saver::{Added, Compression, Saver, Saving};
use super::source::{Beside, Folder, Opener, Place, Source, parts};

/// So much of what could not be read is told one by one.
pub(super) const UNREAD_MAX: usize = 1000;
/// The walk calls itself for each level of folders.
const STACK: usize = 256 << 20;

/// What a backup builds on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ParentChoice {
    /// The newest snapshot of the same host and paths: files that did not change are not read again.
    #[default]
    HostAndPaths,
    /// Nothing: everything is read.
    None,
}

/// How a backup is made. The default is that of `restic backup`, but strict.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// The tags of the snapshot.
    pub tags: Vec<String>,
    /// The host of the snapshot; by default this one.
    pub host: Option<String>,
    /// The paths that the snapshot names; by default where its sources stand in it.
    pub paths: Option<Vec<String>>,
    /// The time of the snapshot; by default now.
    pub time: Option<Timestamp>,
    /// Where that time is written down.
    pub zone: TimeZone,
    /// What it builds on.
    pub parent: ParentChoice,
    /// What is left out of which sources.
    pub left_out: Vec<LeftOut>,
    /// Whether a file whose inode alone differs is taken for unchanged.
    pub ignore_inode: bool,
    /// Whether a file whose time of change alone differs is taken for unchanged.
    pub ignore_ctime: bool,
    /// How content is compressed.
    pub compression: Compression,
    /// Whether a snapshot is saved only when everything could be read.
    pub strict: bool,
    /// Whether no snapshot is saved that equals its parent.
    pub skip_if_unchanged: bool,
}

impl Default for BackupRequest {
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            host: None,
            paths: None,
            time: None,
            zone: TimeZone::UTC,
            parent: ParentChoice::default(),
            left_out: Vec::new(),
            ignore_inode: false,
            ignore_ctime: false,
            compression: Compression::default(),
            strict: true,
            skip_if_unchanged: false,
        }
    }
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// What.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// What became of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is a new snapshot.
    Saved(SnapshotId),
    /// Nothing changed since the parent, so there is none.
    Unchanged,
    /// Not everything could be read, so there is none.
    Withheld,
}

/// Files and folders, as restic counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files that the parent does not have.
    pub files_new: u64,
    /// Files that the parent has otherwise.
    pub files_changed: u64,
    /// Files that the parent has.
    pub files_unmodified: u64,
    /// Folders that the parent does not have.
    pub dirs_new: u64,
    /// Folders that the parent has otherwise.
    pub dirs_changed: u64,
    /// Folders that the parent has.
    pub dirs_unmodified: u64,
    /// Bytes in all files.
    pub bytes: u64,
}

impl Counts {
    /// All files.
    pub fn files(&self) -> u64 {
        self.files_new + self.files_changed + self.files_unmodified
    }
}

/// What came of a backup: the numbers of `restic backup --json`.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupSummary {
    /// What became of it.
    pub outcome: Outcome,
    /// The snapshot that it builds on.
    pub parent: Option<SnapshotId>,
    /// The id of its root tree.
    pub tree: String,
    /// Files and folders.
    pub counts: Counts,
    /// New blobs of content.
    pub data_blobs: u64,
    /// New blobs of folders.
    pub tree_blobs: u64,
    /// Bytes that were added, before compression.
    pub data_added: u64,
    /// Bytes that were added, as they are stored.
    pub data_added_packed: u64,
    /// How long it took.
    pub duration: Duration,
    /// What could not be read: not empty means that the backup is not complete.
    pub unread: Vec<Unread>,
    /// How much more could not be read.
    pub unread_more: u64,
    /// What could not be read and was allowed to be: it is missing, and the backup counts as complete.
    pub excused: Vec<Unread>,
    /// How much more of that there was.
    pub excused_more: u64,
    /// Folders whose content was left out because it is on another file system.
    pub mounts_left_out: Vec<PathBuf>,
    /// What is wrong with the repository that this backup went into. Nothing new relies on it.
    pub findings: Vec<Finding>,
}

impl BackupSummary {
    /// Whether everything could be read.
    pub fn is_complete(&self) -> bool {
        self.unread.is_empty()
    }

    /// The snapshot, if one was saved.
    pub fn snapshot(&self) -> Option<&SnapshotId> {
        match &self.outcome {
            Outcome::Saved(id) => Some(id),
            Outcome::Unchanged | Outcome::Withheld => None,
        }
    }
}

/// A snapshot file, with the fields in restic's order.
#[derive(Serialize)]
struct SnapshotFile<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
    tree: Hex,
    paths: &'a [String],
    hostname: &'a str,
    username: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u32,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u32,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    excludes: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    program_version: &'a str,
    summary: SummaryFile,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct SummaryFile {
    backup_start: String,
    backup_end: String,
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    dirs_new: u64,
    dirs_changed: u64,
    dirs_unmodified: u64,
    data_blobs: u64,
    tree_blobs: u64,
    data_added: u64,
    data_added_packed: u64,
    total_files_processed: u64,
    total_bytes_processed: u64,
}

/// What is settled before the walk.
struct Frame<'a> {
    request: &'a BackupRequest,
    host: String,
    paths: Vec<String>,
    time: Timestamp,
    rules: Rules,
    excludes: Vec<String>,
}

impl Writer {
    /// Backs `sources` up under a shared lock. Streams are read first, in their order. The snapshot is written
    /// last, when everything that it needs is in the repository.
    pub fn backup(
        &self,
        sources: Vec<Source>,
        request: &BackupRequest,
        watch: &Watch,
    ) -> Result<BackupSummary> {
        let started = Instant::now();
        let frame = self.frame(&sources, request)?;
        let start = self.clock.now();
        let lock = self.lock_shared(watch)?;
        let opened = catalog::open(&self.store, Key::Known(&self.files.cipher), watch)?;
        let catalog = opened.usable()?;
        let parent = match request.parent {
            ParentChoice::None => None,
            ParentChoice::HostAndPaths => {
                parent::choose(&opened.snapshots, &frame.host, &frame.paths, frame.time)
            }
        };
        let saving = Saving {
            files: &self.files,
            lock: &lock,
            compression: request.compression,
            pack_size: self.pack_size,
            workers: self.workers,
        };
        let parents = Parents { store: &self.store, catalog, watch };
        let walk = |saver: &mut Saver<'_>| self.walk(sources, saver, &parents, &frame, parent);
        // Folders may lie deep, and a walk may meet what nobody thought of: it has a stack and an end of its own.
        let ((tree, seen), added, _) = std::thread::scope(|scope| {
            let walking = std::thread::Builder::new()
                .name("backup".to_owned())
                .stack_size(STACK)
                .spawn_scoped(scope, || saving.run(Some(&catalog.index), walk))
                .map_err(|error| Error::new(ErrorKind::Internal, "start a backup").from_source(&error))?;
            walking
                .join()
                .map_err(|_| Error::new(ErrorKind::Internal, "back up").because("the walk panicked"))?
        })?;
        let mut summary = summary(tree, seen, added, parent);
        summary.outcome = self.conclude(&frame, &summary, tree, parent, &lock, start)?;
        summary.findings = self.key_findings.iter().cloned().chain(opened.findings).collect();
        summary.duration = started.elapsed();
        Ok(summary)
    }

    fn frame<'a>(&self, sources: &[Source], request: &'a BackupRequest) -> Result<Frame<'a>> {
        let usage = |why: String| Error::new(ErrorKind::Usage, "back up").because(why);
        if sources.is_empty() {
            return Err(usage("there is nothing to back up".to_owned()));
        }
        let on_disk = sources.iter().filter(|source| source.is_in_place()).map(Source::place);
        let rules = Rules::of(&request.left_out, on_disk)?;
        let place = |source: &Source| {
            let place = source.place();
            parts(place)?;
            let text = place.to_str().ok_or_else(|| usage(format!("{} is not UTF-8", place.display())))?;
            let plain = text.trim_end_matches('/');
            Ok(if plain.is_empty() { "/".to_owned() } else { plain.to_owned() })
        };
        let paths = match &request.paths {
            Some(paths) => paths.clone(),
            None => sources.iter().map(place).collect::<Result<_>>()?,
        };
        Ok(Frame {
            request,
            host: request.host.clone().unwrap_or_else(|| self.me.host.clone()),
            paths,
            time: request.time.unwrap_or_else(|| self.clock.now()),
            rules,
            excludes: request.left_out.iter().flat_map(|one| one.excludes.iter().cloned()).collect(),
        })
    }

    fn walk(
        &self,
        sources: Vec<Source>,
        saver: &mut Saver<'_>,
        parents: &Parents<'_>,
        frame: &Frame<'_>,
        parent: Option<&Snapshot>,
    ) -> Result<(Option<Digest>, Seen)> {
        let mut archive = Archive {
            saver,
            parents,
            request: frame.request,
            rules: &frame.rules,
            word: Word::default(),
            met: BTreeSet::new(),
            beside: Beside::default(),
            accounts: &self.accounts,
            chunker: Chunker::new(self.polynomial),
            time: frame.time,
            seen: Seen::default(),
        };
        let mut root = Folder::default();
        let mut whole = None;
        let mut beside = Beside::default();
        // What is on disk comes first: what is made may have its place in there.
        let (in_place, made): (Vec<_>, Vec<_>) = sources.into_iter().partition(Source::is_in_place);
        for source in in_place.into_iter().chain(made) {
            let at = source.place().to_owned();
            let place = match source {
                Source::Stream { path, open } => match archive.stream(&path, open)? {
                    Some(node) => Place::Made(Box::new(node)),
                    None => continue,
                },
                Source::Spare { path, content } => {
                    let open: Opener = Box::new(move || Ok(Box::new(std::io::Cursor::new(content))));
                    match archive.stream(&path, open)? {
                        Some(node) => Place::Spare(Box::new(node)),
                        None => continue,
                    }
                }
                Source::Path { path, as_path } => {
                    refuse_link_to_folder(&path)?;
                    if parts(&at)?.is_empty() {
                        whole = Some((path, as_path.is_none()));
                        continue;
                    }
                    if as_path.is_none() { Place::Disk(path) } else { Place::Copy(path) }
                }
            };
            match (&whole, &place) {
                (Some((_, true)), Place::Disk(_)) => {}
                (Some((_, true)), _) => beside.put(&at, place)?,
                _ => root.put(&at, place, &mut beside)?,
            }
        }
        archive.beside = beside;
        let earlier = parent.and_then(|one| digest_of(&one.tree));
        let tree = match whole {
            Some(_) if !root.children.is_empty() => {
                return Err(Error::new(ErrorKind::Usage, "back up")
                    .because("a source that stands at the root of the snapshot must be the only one"));
            }
            Some((disk, _)) => archive.root(&disk, earlier)?,
            None => Some(archive.folder(&root, std::path::Path::new("/"), earlier)?),
        };
        archive.tell_homeless();
        archive.tell_unmet();
        Ok((tree, archive.seen))
    }

    fn conclude(
        &self,
        frame: &Frame<'_>,
        summary: &BackupSummary,
        tree: Option<Digest>,
        parent: Option<&Snapshot>,
        lock: &Lock,
        start: Timestamp,
    ) -> Result<Outcome> {
        let Some(tree) = tree.filter(|_| summary.is_complete() || !frame.request.strict) else {
            return Ok(Outcome::Withheld);
        };
        // A snapshot with nothing in it would look like a backup.
        if summary.counts == Counts::default() && !summary.is_complete() {
            return Ok(Outcome::Withheld);
        }
        if frame.request.skip_if_unchanged && parent.is_some_and(|parent| parent.tree == summary.tree) {
            return Ok(Outcome::Unchanged);
        }
        let counts = &summary.counts;
        let file = SnapshotFile {
            time: written(frame.time, &frame.request.zone),
            parent: parent.map(|parent| parent.id.0.as_str()),
            tree: Hex(tree),
            paths: &frame.paths,
            hostname: &frame.host,
            username: &self.me.user,
            uid: self.me.uid,
            gid: self.me.gid,
            excludes: &frame.excludes,
            tags: &frame.request.tags,
            program_version: concat!("firedrill ", env!("CARGO_PKG_VERSION")),
            summary: SummaryFile {
                backup_start: written(start, &frame.request.zone),
                backup_end: written(self.clock.now(), &frame.request.zone),
                files_new: counts.files_new,
                files_changed: counts.files_changed,
                files_unmodified: counts.files_unmodified,
                dirs_new: counts.dirs_new,
                dirs_changed: counts.dirs_changed,
                dirs_unmodified: counts.dirs_unmodified,
                data_blobs: summary.data_blobs,
                tree_blobs: summary.tree_blobs,
                data_added: summary.data_added,
                data_added_packed: summary.data_added_packed,
                total_files_processed: counts.files(),
                total_bytes_processed: counts.bytes,
            },
        };
        let json = serde_json::to_vec(&file)
            .map_err(|error| Error::new(ErrorKind::Internal, "write a snapshot").from_source(&error))?;
        lock.check()?;
        let id = self.files.save(FileType::Snapshot, &json)?;
        Ok(Outcome::Saved(SnapshotId(id.to_hex().as_str().to_owned())))
    }
}

impl Opened {
    /// What writing needs; an error when the repository is too damaged for that.
    pub(super) fn usable(&self) -> Result<&catalog::Catalog> {
        self.catalog.as_ref().ok_or_else(|| {
            let seen = self.findings.iter().map(|f| format!("{}: {}", f.location, f.seen));
            let error = Error::new(ErrorKind::Unavailable, "open the repository for writing");
            seen.take(3).fold(error, Error::because)
        })
    }
}

fn summary(tree: Option<Digest>, seen: Seen, added: Added, parent: Option<&Snapshot>) -> BackupSummary {
    BackupSummary {
        outcome: Outcome::Withheld,
        parent: parent.map(|parent| parent.id.clone()),
        tree: tree.map(hex::encode).unwrap_or_default(),
        counts: seen.counts,
        data_blobs: added.data_blobs,
        tree_blobs: added.tree_blobs,
        data_added: added.bytes,
        data_added_packed: added.packed,
        duration: Duration::ZERO,
        unread: seen.unread,
        unread_more: seen.unread_more,
        excused: seen.excused,
        excused_more: seen.excused_more,
        mounts_left_out: seen.mounts,
        findings: Vec::new(),
    }
}

fn digest_of(hex_digits: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    hex::decode_to_slice(hex_digits, &mut digest).ok().map(|()| digest)
}

/// A time as Go writes it.
fn written(time: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(time);
    if offset.is_zero() { time.to_string() } else { time.display_with_offset(offset).to_string() }
}

/// Of a link to a folder restic saves the link alone, which nobody means who names it as a source.
fn refuse_link_to_folder(path: &std::path::Path) -> Result<()> {
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
    if is_link && std::fs::metadata(path).is_ok_and(|meta| meta.is_dir()) {
        return Err(Error::new(ErrorKind::Usage, format!("back up {}", path.display()))
            .because("it is a symbolic link to a folder, and only the link would be saved")
            .advise("name the folder itself"));
    }
    Ok(())
}
