//! The latest snapshot of a tag as files that a fault may change before they are backed up again.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use firedrill_core::canary::{self, Canary};
use firedrill_core::secret::Secret;
use firedrill_core::snapshot::Snapshot;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::victim::nothing;

/// Files that a fault reads whole are not larger.
const READ_MAX: u64 = 256 << 20;
/// When what is under a mounted file system was made.
const LONG_AGO: Duration = Duration::from_secs(400 * 24 * 3600);
/// So much of a file tells what it is.
const HEAD: u64 = 4096;

/// What the next snapshot of a tag will be made of.
pub(super) struct Staged {
    root: PathBuf,
    roots: Vec<String>,
    /// The snapshot that it was restored from.
    pub(super) snapshot: Snapshot,
    /// The tags of the next one.
    pub(super) tags: Vec<String>,
    /// Its host.
    pub(super) host: String,
    /// Its time.
    pub(super) time: Timestamp,
    canary_key: Option<Secret>,
}

/// A regular file.
#[derive(Clone, Debug)]
pub(super) struct StagedFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its size in bytes.
    pub(super) size: u64,
}

/// What becomes of the time of a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// It is that of the next snapshot.
    Now,
    /// It stays.
    Kept,
}

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    /// SQL of `pg_dump` or `mariadb-dump`.
    Sql,
    /// The same, packed by gzip.
    SqlGz,
    Other,
}

impl Staged {
    /// What was restored to `root`. A path that leaves it, or leads through a link, is not staged: the link may lead to
    /// what this very machine backs up.
    pub(super) fn new(
        root: PathBuf,
        snapshot: Snapshot,
        time: Timestamp,
        canary_key: Option<Secret>,
    ) -> Result<Self> {
        let mut paths: Vec<_> = snapshot.paths.iter().map(PathBuf::from).collect();
        paths.sort();
        // What is below another path is reached by that one.
        paths.dedup_by(|path, above| path.starts_with(above));
        for path in &paths {
            let below =
                path.strip_prefix("/").map_err(|_| nothing(format!("{} is relative", path.display())))?;
            let mut place = root.clone();
            let mut parts = below.components().peekable();
            while let Some(part) = parts.next() {
                let Component::Normal(name) = part else {
                    return Err(nothing(format!("{} cannot be staged", path.display())));
                };
                place.push(name);
                let leads_on = parts.peek().is_some();
                if leads_on && !is_folder(&place) {
                    return Err(nothing(format!("{} leads through a link, or nowhere", path.display())));
                }
            }
            if place.is_symlink() {
                return Err(nothing(format!("{} is a link", path.display())));
            }
        }
        let roots = paths.into_iter().filter_map(|path| path.into_os_string().into_string().ok()).collect();
        let (tags, host) = (snapshot.tags.clone(), snapshot.host.clone());
        Ok(Self { root, roots, snapshot, tags, host, time, canary_key })
    }

    /// The paths of the next snapshot: those of the last one that are still there, without those in others.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().map(String::as_str).filter(|path| self.on_disk(path).symlink_metadata().is_ok())
    }

    /// Those of them that are folders, and no links to folders.
    pub(super) fn top_folders(&self) -> Vec<PathBuf> {
        self.paths().map(|path| self.on_disk(path)).filter(|path| is_folder(path)).collect()
    }

    /// Where a path of the snapshot is.
    pub(super) fn on_disk(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file as the snapshot names it.
    pub(super) fn name(&self, path: &Path) -> String {
        format!("/{}", path.strip_prefix(&self.root).unwrap_or(path).display())
    }

    /// All regular files but canaries, sorted.
    pub(super) fn files(&self) -> Result<Vec<StagedFile>> {
        let mut files = Vec::new();
        self.walk(|path, meta| {
            if meta.is_file() && path.file_name() != Some(OsStr::new(canary::FILE)) {
                files.push(StagedFile { path: path.to_owned(), size: meta.len() });
            }
        })?;
        Ok(files)
    }

    /// All folders below the paths of the snapshot, sorted.
    pub(super) fn folders(&self) -> Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        self.walk(|path, meta| {
            if meta.is_dir() {
                folders.push(path.to_owned());
            }
        })?;
        Ok(folders)
    }

    /// Everything below the paths of the snapshot, each folder before its content, through no link.
    pub(super) fn walk(&self, mut see: impl FnMut(&Path, &fs::Metadata)) -> Result<()> {
        let mut waiting: Vec<PathBuf> = self.roots.iter().rev().map(|path| self.on_disk(path)).collect();
        while let Some(path) = waiting.pop() {
            let Ok(meta) = path.symlink_metadata() else { continue };
            if meta.is_dir() {
                let listed = fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?;
                let mut inside =
                    listed.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
                inside.sort();
                waiting.extend(inside.into_iter().rev());
            }
            see(&path, &meta);
        }
        Ok(())
    }

    /// The files of some kinds.
    pub(super) fn of_kind(&self, kinds: &[Kind]) -> Result<Vec<StagedFile>> {
        let mut chosen = Vec::new();
        for file in self.files()? {
            if file.size <= READ_MAX && kinds.contains(&kind(&file.path)?) {
                chosen.push(file);
            }
        }
        Ok(chosen)
    }

    /// The content of a file.
    pub(super) fn read(&self, file: &StagedFile) -> Result<Vec<u8>> {
        if file.size > READ_MAX {
            return Err(nothing(format!("{} is large", self.name(&file.path))));
        }
        fs::read(&file.path).with_context(|| format!("read {}", file.path.display()))
    }

    /// Gives a file other content; all else of it stays.
    pub(super) fn write(&self, path: &Path, content: &[u8], time: Time) -> Result<()> {
        let write = || {
            let before = path.metadata()?.modified()?;
            let mut file = File::options().write(true).truncate(true).open(path)?;
            file.write_all(content)?;
            let modified = match time {
                Time::Kept => before,
                Time::Now => self.time.into(),
            };
            file.set_times(FileTimes::new().set_modified(modified))
        };
        write().map_err(|error| self.refused(&error, "write", path))
    }

    /// Removes a file or a folder with all that is in it.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        let removed = match path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
        removed.map_err(|error| self.refused(&error, "remove", path))
    }

    /// Who is not root may not change everything that comes back.
    fn refused(&self, error: &std::io::Error, verb: &str, path: &Path) -> anyhow::Error {
        let name = self.name(path);
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => nothing(format!("{verb} {name}: {error}")),
            _ => anyhow::anyhow!("{verb} {name}: {error}"),
        }
    }

    /// Leaves a file out: unlike one that somebody removes, it leaves no trace in the times of its folder.
    pub(super) fn leave_out(&self, path: &Path) -> Result<()> {
        let folder = path.parent().context("a file is in a folder")?;
        let before = folder.metadata().and_then(|meta| meta.modified());
        self.remove(path)?;
        set_modified(folder, before?)
    }

    /// Takes away all that is in a folder, as if the file system that is mounted there were not: what shows is the
    /// bare folder, as somebody made it long ago.
    pub(super) fn unmount(&self, folder: &Path) -> Result<()> {
        // Whatever a caller believes: what is behind a link is not ours to empty.
        ensure!(is_folder(folder), "{} is no folder", folder.display());
        for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            self.remove(&entry?.path())?;
        }
        set_modified(folder, SystemTime::from(self.snapshot.time) - LONG_AGO)
    }

    /// The canaries that an honest pipeline would have planted by now. Without the key they stay what they are.
    pub(super) fn next_canaries(&self) -> Result<()> {
        let Some(key) = &self.canary_key else { return Ok(()) };
        let mut planted = Vec::new();
        self.walk(|path, meta| {
            if meta.is_file() && path.file_name() == Some(OsStr::new(canary::FILE)) {
                planted.push(path.to_owned());
            }
        })?;
        for path in planted {
            let Ok(old) = Canary::parse(&fs::read(&path)?) else { continue };
            let next = Canary::sign(key, old.target(), old.sequence() + 1, self.time)?;
            self.write(&path, next.to_line().as_bytes(), Time::Now)?;
        }
        Ok(())
    }
}

/// Through no link.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

fn set_modified(path: &Path, time: SystemTime) -> Result<()> {
    let set = || File::open(path)?.set_times(FileTimes::new().set_modified(time));
    set().with_context(|| format!("set the time of {}", path.display()))
}

fn kind(path: &Path) -> Result<Kind> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    if head.starts_with(b"SQLite format 3\0") {
        return Ok(Kind::Sqlite);
    }
    if head.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        // It is cut short, so that unpacking ends with an error, after all that there is.
        let _ = MultiGzDecoder::new(head.as_slice()).take(HEAD).read_to_end(&mut plain);
        return Ok(if is_sql(&plain) { Kind::SqlGz } else { Kind::Other });
    }
    Ok(if is_sql(&head) { Kind::Sql } else { Kind::Other })
}

fn is_sql(head: &[u8]) -> bool {
    const MARKS: [&[u8]; 4] =
        [b"-- PostgreSQL database", b"-- MariaDB dump", b"-- MySQL dump", b"/*M!999999"];
    MARKS.iter().any(|mark| head.windows(mark.len()).any(|window| window == *mark))
}
