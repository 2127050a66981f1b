//! The same files, byte for byte, without a key.
//!
//! *Verified*: the copy is a repository that restic opens at every moment: packs come first, then the index, then
//! keys and config, and snapshots last, so that whatever a snapshot needs is there before it; what goes away goes in
//! the reverse order. Each file that is copied is, when it was read, what its name says (the SHA-256 of its content),
//! and small files are read back; a file that is not is never carried over, and nothing that may need it is.
//!
//! *Not verified*: files that the copy has already with the size of the source's. A copy that rots is found by
//! restoring from it.
//!
//! The source may grow meanwhile. It must not shrink: the caller holds its lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::job::MirrorFacts;
use firedrill_core::progress::Progress;
use firedrill_core::watch::Watch;
use rustic_core::{FileType, Id, WriteBackend};

use super::end::{Content, End, Listing, Sizes, fits};
use super::flow::{Throttle, each};
use super::{MirrorRequest, Mirrored, dropped};
use crate::repository::guard::name;
use crate::repository::restic::gate::Gate;

/// So many damaged files are told by name.
const TOLD_MAX: usize = 5;

/// A run. What it did is counted even when it fails.
pub(super) struct Run<'a> {
    pub(super) source: End,
    pub(super) copy: End,
    pub(super) request: &'a MirrorRequest,
    pub(super) watch: &'a Watch,
    pub(super) notes: Mutex<Vec<String>>,
    pub(super) deleted: AtomicU64,
    progress: &'a Progress,
    throttle: Throttle,
    gate: Gate,
    copied: AtomicU64,
    bytes: AtomicU64,
}

/// Fills the repository behind `copy` from that behind `source`.
pub fn identical(
    source: &Arc<dyn WriteBackend>,
    copy: &Arc<dyn WriteBackend>,
    request: &MirrorRequest,
    progress: &Progress,
    watch: &Watch,
) -> Mirrored {
    let run = Run {
        source: End::source(source),
        copy: End::copy(copy),
        request,
        watch,
        notes: Mutex::default(),
        deleted: AtomicU64::new(0),
        progress,
        throttle: Throttle::new(request.bandwidth),
        gate: Gate::default(),
        copied: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    let done = run.all();
    let facts = MirrorFacts {
        files_copied: run.copied.into_inner(),
        bytes_copied: run.bytes.into_inner(),
        files_deleted: run.deleted.into_inner(),
        files_missing: *done.as_ref().unwrap_or(&0),
        lag_seconds: None,
    };
    Mirrored {
        facts,
        notes: run.notes.into_inner().unwrap_or_else(PoisonError::into_inner),
        error: done.err(),
    }
}

impl Run<'_> {
    /// Copies, and deletes when that is wanted. How many files are missing afterwards.
    fn all(&self) -> Result<u64> {
        let source = self.source.look(self.watch)?;
        let copy = self.copy.look(self.watch)?;
        let replaced = refuse_foreign(&source, &copy)?;
        if copy.config.is_none() {
            self.copy.create(self.watch)?;
        } else if replaced {
            // The format was raised: what follows may need it, and nothing that is there is hurt by it.
            self.config(&source)?;
        }
        self.expect(&source, &copy);
        self.stage(FileType::Pack, &source.packs, &copy.packs)?;
        self.stage(FileType::Index, &source.index, &copy.index)?;
        self.keys(&source.keys, &copy.keys)?;
        if copy.config.is_none() {
            self.config(&source)?;
        }
        self.stage(FileType::Snapshot, &source.snapshots, &copy.snapshots)?;
        if self.request.delete {
            dropped::remove(self, &source, &copy)?;
        }
        let now = self.copy.look(self.watch)?;
        Ok(missing(&source, &now))
    }

    pub(super) fn note(&self, note: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    fn expect(&self, source: &Listing, copy: &Listing) {
        let kinds = [
            (&source.packs, &copy.packs),
            (&source.index, &copy.index),
            (&source.snapshots, &copy.snapshots),
        ];
        let bytes = kinds.iter().flat_map(|(source, copy)| lacking(source, copy));
        self.progress.expect(bytes.map(|(_, size)| u64::from(size)).sum());
    }

    /// Copies the files of one kind that the copy lacks. When one of them is damaged, the others are copied all the
    /// same, and the stages that may need it are not.
    fn stage(&self, kind: FileType, source: &Sizes, copy: &Sizes) -> Result<()> {
        let wanted: Vec<(Id, u32)> = lacking(source, copy).collect();
        let damaged: Mutex<Vec<String>> = Mutex::default();
        each(&wanted, self.request.workers, |(id, size)| {
            match self.file(kind, id, *size, copy.contains_key(id))? {
                None => self.progress.advance(u64::from(*size)),
                Some(seen) => {
                    let told = format!("{} of the source has other content: {seen}", name(kind, id));
                    damaged.lock().unwrap_or_else(PoisonError::into_inner).push(told);
                }
            }
            Ok(())
        })?;
        let damaged = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
        if damaged.is_empty() {
            return Ok(());
        }
        let held_back = match kind {
            FileType::Pack => "packs are damaged, so no new index and no new snapshot was copied",
            FileType::Index => "index files are damaged, so no new snapshot was copied",
            _ => "snapshots are damaged and were not copied",
        };
        let error = Error::new(ErrorKind::Unavailable, "copy everything")
            .because(format!("{} {held_back}", damaged.len()))
            .advise("repair the source: `restic check --read-data` says what needs these files");
        Err(damaged.into_iter().take(TOLD_MAX).fold(error, Error::because))
    }

    /// Copies a file; or says what is wrong with it. `there`: the copy has one of that name and another size.
    fn file(&self, kind: FileType, id: &Id, size: u32, there: bool) -> Result<Option<String>> {
        let _room = self.gate.enter(u64::from(size), self.watch)?;
        let content = match self.source.read_proven(kind, id, self.watch)? {
            Content::Good(content) => content,
            Content::Damaged(seen) => return Ok(Some(seen)),
            Content::Gone => return Err(self.vanished(kind, id)),
        };
        self.throttle.pass(content.len() as u64, self.watch)?;
        if there {
            // It is not what its name says, whatever it is; and servers refuse to write over a file.
            self.copy.remove(kind, id, self.watch)?;
        }
        let read_back = kind != FileType::Pack || self.request.read_back;
        self.copy.write(kind, id, &content, read_back, self.watch)?;
        self.count(content.len());
        Ok(None)
    }

    fn count(&self, bytes: usize) {
        self.copied.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn vanished(&self, kind: FileType, id: &Id) -> Error {
        Error::new(ErrorKind::Unavailable, format!("read {} of the source", name(kind, id)))
            .because("it vanished while the copy was made")
            .advise("nothing may be removed from the source meanwhile: let retention run at another time")
    }

    /// Key files are few, and decide whether the copy can be opened: they are compared byte by byte.
    fn keys(&self, source: &Sizes, copy: &Sizes) -> Result<()> {
        for id in source.keys() {
            let theirs = self
                .source
                .read(FileType::Key, id, self.watch)?
                .ok_or_else(|| self.vanished(FileType::Key, id))?;
            let ours = match copy.contains_key(id) {
                true => self.copy.read(FileType::Key, id, self.watch)?,
                false => None,
            };
            if ours.as_ref() == Some(&theirs) {
                continue;
            }
            if !fits(id, &theirs) {
                self.note(format!("{} of the source is damaged and was not copied", name(FileType::Key, id)));
                continue;
            }
            if ours.is_some() {
                self.copy.remove(FileType::Key, id, self.watch)?;
            }
            self.copy.write(FileType::Key, id, &theirs, true, self.watch)?;
            self.count(theirs.len());
        }
        Ok(())
    }

    fn config(&self, source: &Listing) -> Result<()> {
        let Some(config) = &source.config else { return Ok(()) };
        let id = Id::default();
        // Its name proves nothing, so it is read twice.
        if self.source.read(FileType::Config, &id, self.watch)?.as_ref() != Some(config) {
            return Err(Error::new(ErrorKind::Unavailable, "read config of the source")
                .because("it is another one each time"));
        }
        self.copy.write(FileType::Config, &id, config, true, self.watch)?;
        self.count(config.len());
        Ok(())
    }
}

/// What `copy` lacks, or has with another size.
pub(super) fn lacking<'s>(source: &'s Sizes, copy: &'s Sizes) -> impl Iterator<Item = (Id, u32)> + 's {
    source.iter().filter(|(id, size)| copy.get(id) != Some(size)).map(|(id, size)| (*id, *size))
}

/// How many files of the source the copy lacks, or has with another size.
pub(super) fn missing(source: &Listing, copy: &Listing) -> u64 {
    let kinds = [
        (&source.keys, &copy.keys),
        (&source.snapshots, &copy.snapshots),
        (&source.index, &copy.index),
        (&source.packs, &copy.packs),
    ];
    let files: usize = kinds.iter().map(|(source, copy)| lacking(source, copy).count()).sum();
    files as u64 + u64::from(source.config != copy.config)
}

/// Refuses a source that is none, and a copy of something else. Whether the copy has another config than the source
/// although it is the same repository.
pub(super) fn refuse_foreign(source: &Listing, copy: &Listing) -> Result<bool> {
    if source.config.is_none() || source.keys.is_empty() {
        return Err(Error::new(ErrorKind::NoRepository, "read the source of the mirror")
            .because(match source.config {
                None => "it has no config: it is damaged, or not there",
                Some(_) => "it has no keys: nobody can open it",
            })
            .advise("check the address, and that its disk is mounted; the copy was left as it is"));
    }
    let shares = |ours: &Sizes, theirs: &Sizes| ours.keys().any(|id| theirs.contains_key(id));
    let same_key = shares(&source.keys, &copy.keys);
    if copy.is_empty() || (copy.config.is_some() && copy.config == source.config) {
        return Ok(false);
    }
    let related = same_key
        || (copy.config.is_none()
            && (shares(&source.snapshots, &copy.snapshots)
                || shares(&source.index, &copy.index)
                || shares(&source.packs, &copy.packs)));
    if related {
        return Ok(copy.config.is_some());
    }
    Err(Error::new(ErrorKind::Usage, "fill the mirror")
        .because("there is another repository at its place")
        .advise("give it a place of its own; an identical mirror begins empty"))
}
