//! Objects in a folder: regular files, found without following links.

use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata, OpenOptions, OpenOptionsExt};
use firedrill_core::config::ObjectPattern;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use rustix::fs::OFlags;

use super::bucket::enough;
use super::catalog::SUM_MAX;
use super::shelf::sum_of;
use super::sums::Sum;
use super::{Content, Facts, Listing, Object, Source};
use crate::repository::local;

/// How much is read at a time.
const PIECE: usize = 1 << 20;
/// Folders within folders.
const DEPTH_MAX: usize = 64;

/// A folder.
pub(super) struct Folder {
    root: PathBuf,
    dir: Dir,
}

impl Folder {
    pub(super) fn open(root: &Path) -> Result<Self> {
        local::look(root)?;
        let dir =
            Dir::open_ambient_dir(root, ambient_authority()).map_err(|error| failed("open", root, &error))?;
        Ok(Self { root: root.to_owned(), dir })
    }

    /// The hash in `NAME.sha256`, if it speaks of this file: `HASH  NAME`, as sha256sum writes it.
    fn sum_beside(&self, key: &str) -> Option<Sum> {
        let path = Path::new(key);
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits().cast_signed());
        let file = self.dir.open_with(sum_of(path), &options).ok()?;
        file.metadata().ok().filter(Metadata::is_file)?;
        let mut line = String::new();
        file.take(SUM_MAX).read_to_string(&mut line).ok()?;
        let (sum, name) = line.trim_end().split_once(' ')?;
        let same = name.trim_start_matches([' ', '*']) == path.file_name()?.to_str()?;
        let sum = hex::decode(sum).ok().filter(|sum| same && sum.len() == 32)?;
        Some(Sum::Sha256(STANDARD.encode(sum)))
    }
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> Error {
    let told = Error::new(ErrorKind::Unavailable, format!("{verb} {}", path.display())).from_source(error);
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => told.advise("run as a user who may read the backups"),
        _ => told,
    }
}

/// What a walk has come across.
struct Walk<'a> {
    root: &'a Path,
    patterns: &'a [ObjectPattern],
    watch: &'a Watch,
    listing: Listing,
    links: u64,
    odd: u64,
    deep: u64,
}

impl Source for Folder {
    fn list(&self, patterns: &[ObjectPattern], watch: &Watch) -> Result<Listing> {
        let listing = Listing::default();
        let mut walk = Walk { root: &self.root, patterns, watch, listing, links: 0, odd: 0, deep: 0 };
        walk.folder(&self.dir, &mut Vec::new())?;
        let Walk { mut listing, links, odd, deep, .. } = walk;
        for (count, what) in [
            (links, "symbolic links were not followed"),
            (odd, "names are not UTF-8, or are of no regular file"),
            (deep, "folders lie too deep"),
        ] {
            if count > 0 {
                listing.notes.push(format!("{count} {what}"));
            }
        }
        listing.objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listing)
    }

    fn open<'s>(&'s self, key: &str) -> Result<Option<Box<dyn Content + 's>>> {
        let path = self.root.join(key);
        let failed = |error: &std::io::Error| failed("read", &path, error);
        // Not following a link and not waiting for a pipe.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits().cast_signed());
        let file = match self.dir.open_with(key, &options) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let meta = file.metadata().map_err(|error| failed(&error))?;
        if !meta.is_file() {
            return Err(Error::new(ErrorKind::Unavailable, format!("read {}", path.display()))
                .because("it is no regular file (any more)"));
        }
        let promised = self.sum_beside(key).into_iter().collect();
        let facts = Facts { size: meta.len(), modified: modified(&meta), promised };
        Ok(Some(Box::new(Open { file, path, facts, offset: 0 })))
    }

    fn archived(&self, _: &str) -> Result<Option<String>> {
        Ok(None)
    }
}

impl Walk<'_> {
    fn folder(&mut self, dir: &Dir, above: &mut Vec<String>) -> Result<()> {
        self.watch.check()?;
        let here: PathBuf = self.root.join(above.join("/"));
        let failed = |error: &std::io::Error| failed("list", &here, error);
        for entry in dir.entries().map_err(|error| failed(&error))? {
            let entry = entry.map_err(|error| failed(&error))?;
            let Ok(name) = entry.file_name().into_string() else {
                self.odd += 1;
                continue;
            };
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(&error)),
            };
            above.push(name);
            if kind.is_dir() {
                self.below(&entry, above)?;
            } else if kind.is_symlink() {
                self.links += 1;
            } else if kind.is_file() {
                self.file(&entry, above)?;
            } else {
                self.odd += 1;
            }
            above.pop();
        }
        Ok(())
    }

    fn below(&mut self, entry: &cap_std::fs::DirEntry, path: &mut Vec<String>) -> Result<()> {
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let wanted = self.patterns.is_empty() || self.patterns.iter().any(|p| p.reaches(&parts).is_some());
        let hidden = parts.last().is_some_and(|name| name.starts_with('.') || *name == "lost+found");
        // Snapshots of a file system (`.snapshot`, `.zfs`) would show everything once more.
        if !wanted || (self.patterns.is_empty() && hidden) {
            return Ok(());
        }
        if path.len() >= DEPTH_MAX {
            self.deep += 1;
            return Ok(());
        }
        match entry.open_dir() {
            Ok(dir) => self.folder(&dir, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("list", &self.root.join(path.join("/")), &error)),
        }
    }

    fn file(&mut self, entry: &cap_std::fs::DirEntry, path: &[String]) -> Result<()> {
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("look at", &self.root.join(path.join("/")), &error)),
        };
        self.listing.objects.push(Object {
            key: path.join("/"),
            size: meta.len(),
            modified: modified(&meta).unwrap_or(Timestamp::UNIX_EPOCH),
            etag: String::new(),
            archive: None,
        });
        enough(self.listing.objects.len(), &self.root.display().to_string())
    }
}

fn modified(meta: &Metadata) -> Option<Timestamp> {
    Timestamp::try_from(meta.modified().ok()?.into_std()).ok()
}

/// A file that is being read.
struct Open {
    file: File,
    path: PathBuf,
    facts: Facts,
    offset: u64,
}

impl Content for Open {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn next(&mut self) -> Result<Bytes> {
        let mut piece = Vec::with_capacity(PIECE);
        self.file
            .by_ref()
            .take(PIECE as u64)
            .read_to_end(&mut piece)
            .map_err(|error| failed("read", &self.path, &error))?;
        self.offset += piece.len() as u64;
        if piece.is_empty() || self.offset > self.facts.size {
            let meta = self.file.metadata().map_err(|error| failed("read", &self.path, &error))?;
            if self.offset != self.facts.size || modified(&meta) != self.facts.modified {
                return Err(Error::new(ErrorKind::Unavailable, format!("read {}", self.path.display()))
                    .because("it changed while it was read")
                    .advise("it may still be written: try again later"));
            }
        }
        Ok(piece.into())
    }
}
