//! Which files are whose, and how files are opened.
//!
//! Nine probes ask about the same files, so the beginnings are read once and remembered. A memory that
//! outlives a change on disk would hide damage, therefore a scan is used at most once per probe and
//! purpose: as soon as a probe asks a second time, a new round has begun and the files are read again.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use firedrill_core::manifest::Manifest;
use firedrill_core::subject::Subject;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Format;
use super::claim::Claim;
use super::etcd;
use super::inspect::identify;
use super::sniff::{Content, HEAD, problem};
use crate::probe::bases::{Bases, Named};

/// Scans that are remembered: about as many as there are drills at a time.
const SCANS_MAX: usize = 8;

/// What a probe wants a scan for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Use {
    Recognise,
    Examine,
}

/// What the beginnings of all files show.
#[derive(Debug, Default)]
pub(super) struct Scan {
    files: Vec<(Format, Vec<usize>)>,
    /// Files that could not be opened or read, with the format their name claims.
    claimed: HashSet<Format>,
    /// The same files, for people.
    pub(super) unreadable: Vec<(String, String)>,
    /// Why not all files were looked at.
    pub(super) broken: Option<String>,
    /// Where what was backed up lies among them.
    pub(super) bases: Bases,
}

impl Scan {
    /// Whether a probe has anything to examine or to complain of.
    pub(super) fn concerns(&self, format: Format) -> bool {
        self.broken.is_some() || self.claimed.contains(&format) || !self.files_of(format).is_empty()
    }

    /// Indices of the manifest entries whose outermost format this is.
    pub(super) fn files_of(&self, format: Format) -> &[usize] {
        self.files.iter().find(|(f, _)| *f == format).map_or(&[], |(_, files)| files)
    }

    fn add(&mut self, format: Format, index: usize) {
        match self.files.iter_mut().find(|(f, _)| *f == format) {
            Some((_, files)) => files.push(index),
            None => self.files.push((format, vec![index])),
        }
    }
}

/// The scans of the drills that are under way.
#[derive(Default)]
pub(super) struct Scans {
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    root: PathBuf,
    manifest: Weak<Manifest>,
    scan: Arc<Scan>,
    used: HashSet<(Format, Use)>,
}

impl Scans {
    /// The scan of `subject`; a fresh one unless this probe has not yet used the one that is kept.
    pub(super) fn of(&self, subject: &Subject, format: Format, purpose: Use) -> Arc<Scan> {
        let manifest = Arc::downgrade(&subject.manifest);
        let is_same = |kept: &Kept| kept.root == subject.root && kept.manifest.ptr_eq(&manifest);
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = kept.iter_mut().find(|kept| is_same(kept))
                && found.used.insert((format, purpose))
            {
                return Arc::clone(&found.scan);
            }
        }
        let scan = Arc::new(scan(subject));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| !is_same(kept) && kept.manifest.strong_count() > 0);
        if kept.len() >= SCANS_MAX {
            kept.remove(0);
        }
        kept.push(Kept {
            root: subject.root.clone(),
            manifest,
            scan: Arc::clone(&scan),
            used: HashSet::from([(format, purpose)]),
        });
        scan
    }
}

fn scan(subject: &Subject) -> Scan {
    let bases = Bases::of(&subject.manifest, &subject.snapshot.paths);
    let mut scan = Scan { bases, ..Scan::default() };
    let mut head = vec![0; HEAD];
    for (index, entry) in subject.manifest.entries().iter().enumerate().filter(|(_, e)| e.is_file()) {
        if let Err(error) = subject.watch.check() {
            scan.broken = Some(error.chain());
            break;
        }
        let name = scan.bases.name(&entry.path);
        match look(&subject.root, name, &mut head) {
            Ok(Some(format)) => scan.add(format, index),
            Ok(None) => {}
            Err(error) => {
                // The tree probe reads every file; here only those matter that claim to be ours.
                if let Some(format) = Claim::of(name).and_then(|claim| claim.outer()) {
                    scan.claimed.insert(format);
                }
                if scan.unreadable.len() < 20 {
                    scan.unreadable.push((entry.display(), error.to_string()));
                }
            }
        }
    }
    scan
}

/// The format whose probe has to examine the file.
fn look(root: &Path, name: Named<'_>, head: &mut [u8]) -> io::Result<Option<Format>> {
    let Some(mut file) = open(root, name.path)? else { return Ok(None) };
    let mut length = 0;
    while let Some(room) = head.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let whole = length < head.len();
    let head = head.get(..length).unwrap_or_default();
    Ok(match identify(name, head, whole) {
        Content::Is(format) => Some(format),
        Content::Bolt => etcd::is_etcd(name, &file)?.then_some(Format::EtcdSnapshot),
        Content::Unknown => {
            let claim = Claim::of(name);
            claim.filter(|claim| problem(claim, head, whole).is_some()).and_then(|claim| claim.outer())
        }
    })
}

/// Opens a restored file. `None` when there is no regular file of that name: never through a symbolic
/// link, which could lead out of the lease, and never so that a pipe or a device could block or act.
pub(crate) fn open(root: &Path, path: &[u8]) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let folder = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let opened = match rustix::fs::openat2(&folder, path, flags, Mode::empty(), resolve) {
        // Old kernels and some sandboxes have no openat2.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(&folder, path, flags, Mode::empty()),
        other => other,
    };
    match opened {
        Ok(descriptor) => {
            let regular = FileType::from_raw_mode(rustix::fs::fstat(&descriptor)?.st_mode).is_file();
            Ok(regular.then(|| File::from(descriptor)))
        }
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::XDEV | Errno::ISDIR) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
