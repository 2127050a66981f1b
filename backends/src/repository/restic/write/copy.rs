//! Snapshots of another repository, encrypted with the keys of this one: what `restic copy` does.
//!
//! Blobs keep their ids, so trees stay as they are; each blob is compared with its id before it is written. A copied
//! snapshot names in `original` the one that it came from, as restic writes it, so that restic and firedrill agree
//! about what is there. It is saved when everything that it needs is in packs and in the index. A snapshot that needs
//! something damaged is left out, and the others are not held up by it.
//!
//! rustic_core's copy was left for the reasons that its writer was: it does not compare blobs with their ids, and
//! panics on damage.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::manifest::{Digest, Kind};
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use rustic_core::repofile::BlobType;
use rustic_core::{FileType, Id, WriteBackend};
use serde_json::Value;

use super::super::catalog::{self, Catalog, Key};
use super::super::fetch::{Fetch, Times};
use super::super::known::{Likeness, Raw, raw_snapshots};
use super::super::listing::{Ended, each_node};
use super::super::store::Store;
use super::Writer;
use super::lock::Lock;
use super::saver::{Compression, Saver, Saving};

/// So many trees are fetched at a time.
const TREES_AT_A_TIME: usize = 64;
/// So many blobs are fetched at a time.
const BLOBS_AT_A_TIME: usize = 4096;
/// After so much that is new, snapshots are saved, so that a run that is stopped has not worked for nothing.
const BATCH_BYTES: u64 = 256 << 20;

/// Where snapshots come from.
pub struct CopySource<'a> {
    /// The repository. Its write methods are never called.
    pub backend: Arc<dyn WriteBackend>,
    /// What opens it.
    pub password: &'a Secret,
    /// Waits until so many bytes may be written, and counts them.
    pub pace: &'a (dyn Fn(u64) -> Result<()> + Sync),
}

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Snapshots that were copied, by their ids in the source.
    pub snapshots: Vec<String>,
    /// Files that were written: packs and snapshots.
    pub files: u64,
    /// Bytes of blobs that were written, before compression.
    pub bytes: u64,
    /// Snapshots that were not copied, and why.
    pub refused: Vec<String>,
}

/// A blob: whether it is a tree, and its id.
type Blob = (bool, Digest);

/// The source while it is read.
struct Reader<'a> {
    store: Store,
    catalog: Catalog,
    pace: &'a (dyn Fn(u64) -> Result<()> + Sync),
    workers: usize,
    watch: &'a Watch,
}

/// A snapshot that is to be copied.
struct Wanted {
    id: Id,
    raw: Raw,
    likeness: Likeness,
}

impl Writer {
    /// Copies every snapshot of `source` that is not here, oldest first. The caller holds the source's lock.
    pub fn copy_from(&self, source: &CopySource<'_>, watch: &Watch) -> Result<Copied> {
        let lock = self.lock_shared(watch)?;
        let mut copied = Copied::default();
        let (from, mut wanted) = self.wanted(source, &mut copied, watch)?;
        if wanted.is_empty() {
            return Ok(copied);
        }
        let opened = catalog::open(&self.store, Key::Known(&self.files.cipher), watch)?;
        let known = &opened.usable()?.index;
        let mut written: HashSet<Blob> = HashSet::new();
        wanted.reverse();
        while !wanted.is_empty() {
            let saving = Saving {
                files: &self.files,
                lock: &lock,
                compression: Compression::default(),
                pack_size: self.pack_size,
                workers: self.workers,
            };
            let (batch, added, packs) = saving.run(Some(known), |saver| {
                from.batch(&mut wanted, saver, &mut written, &mut copied.refused)
            })?;
            copied.bytes += added.bytes;
            copied.files += packs.len() as u64;
            for one in batch {
                self.save_copy(&one, &lock)?;
                copied.files += 1;
                copied.snapshots.push(one.id.to_hex().as_str().to_owned());
            }
        }
        Ok(copied)
    }

    /// Opens the source; what of it is not here, oldest first.
    fn wanted<'a>(
        &self,
        source: &CopySource<'a>,
        copied: &mut Copied,
        watch: &'a Watch,
    ) -> Result<(Reader<'a>, Vec<Wanted>)> {
        let store = Store::new(Arc::clone(&source.backend));
        let unlocked = catalog::open(&store, Key::Password(source.password), watch)?;
        let catalog = match unlocked.catalog {
            Some(catalog) => catalog,
            None => {
                let failed = Error::new(ErrorKind::Unavailable, "open the source of the copy");
                let told = |error: Error, f: &firedrill_core::finding::Finding| {
                    error.because(format!("{}: {}", f.location, f.seen))
                };
                return Err(unlocked.findings.iter().fold(failed, told));
            }
        };
        // Only snapshots that were there before the index was read: it has what they need.
        let before: BTreeSet<&str> = unlocked.snapshots.iter().map(|one| one.id.0.as_str()).collect();
        let (theirs, damaged) = raw_snapshots(&store, &catalog.cipher, watch)?;
        copied
            .refused
            .extend(damaged.iter().map(|finding| format!("{}: {}", finding.location, finding.seen)));
        let (ours, _) = raw_snapshots(&self.store, &self.files.cipher, watch)?;
        let here: BTreeSet<Likeness> = ours.iter().filter_map(|(_, raw)| Likeness::of(raw)).collect();
        let mut wanted = Vec::new();
        for (id, raw) in theirs {
            if !before.contains(id.to_hex().as_str()) {
                continue;
            }
            match Likeness::of(&raw) {
                Some(likeness) if here.contains(&likeness) => {}
                Some(likeness) => wanted.push(Wanted { id, raw, likeness }),
                None => copied.refused.push(format!("{}: it has no time or no tree", short(&id))),
            }
        }
        wanted.sort_by_key(|one| (one.likeness.time(), one.id));
        let from = Reader { store, catalog, pace: source.pace, workers: self.workers, watch };
        Ok((from, wanted))
    }

    fn save_copy(&self, one: &Wanted, lock: &Lock) -> Result<()> {
        lock.check()?;
        let mut raw = one.raw.clone();
        // The parent is in another repository.
        raw.remove("parent");
        if raw.get("original").and_then(Value::as_str).is_none_or(|id| id.len() != 64) {
            raw.insert("original".to_owned(), Value::from(one.id.to_hex().as_str()));
        }
        let json = serde_json::to_vec(&raw)
            .map_err(|error| Error::new(ErrorKind::Internal, "write a snapshot").from_source(&error))?;
        self.files.save(FileType::Snapshot, &json).map(drop)
    }
}

fn short(id: &Id) -> String {
    format!("snapshot {}", id.to_hex().as_str().get(..8).unwrap_or_default())
}

impl Reader<'_> {
    /// Copies from the end of `wanted` until enough is new. Returns the snapshots that have all they need.
    fn batch(
        &self,
        wanted: &mut Vec<Wanted>,
        saver: &mut Saver<'_>,
        written: &mut HashSet<Blob>,
        refused: &mut Vec<String>,
    ) -> Result<Vec<Wanted>> {
        let (mut done, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some(one) = wanted.pop()
        {
            match self.snapshot(&one, saver, written, &mut bytes)? {
                None => done.push(one),
                Some(why) => refused.push(format!("{}: {why}", short(&one.id))),
            }
        }
        Ok(done)
    }

    /// Copies what a snapshot needs; or says what it lacks.
    fn snapshot(
        &self,
        one: &Wanted,
        saver: &mut Saver<'_>,
        written: &mut HashSet<Blob>,
        bytes: &mut u64,
    ) -> Result<Option<String>> {
        let mut root = [0; 32];
        if hex::decode_to_slice(one.likeness.tree(), &mut root).is_err() {
            return Ok(Some("its tree has no id".to_owned()));
        }
        let (mut waiting, mut seen) = (vec![root], HashSet::from([(true, root)]));
        let mut data = Vec::new();
        while !waiting.is_empty() {
            let batch = waiting.split_off(waiting.len().saturating_sub(TREES_AT_A_TIME));
            // Trees that are here already are read all the same: what is below them may not be.
            let needed = Mutex::new((&mut waiting, &mut data, &mut seen));
            let damaged = self.fetch(true, &batch, saver, written, bytes, &|content| {
                let mut needed = needed.lock().unwrap_or_else(PoisonError::into_inner);
                let (below, data, seen) = &mut *needed;
                look(content, below, data, seen)
            })?;
            if damaged.is_some() {
                return Ok(damaged);
            }
        }
        data.retain(|digest| !written.contains(&(false, *digest)) && !saver.has(BlobType::Data, digest));
        for batch in data.chunks(BLOBS_AT_A_TIME) {
            let damaged = self.fetch(false, batch, saver, written, bytes, &|_| Ok(()))?;
            if damaged.is_some() {
                return Ok(damaged);
            }
        }
        Ok(None)
    }

    /// Fetches blobs, shows them to `look`, and saves those that are not here. What is damaged, if anything is.
    fn fetch(
        &self,
        trees: bool,
        blobs: &[Digest],
        saver: &mut Saver<'_>,
        written: &mut HashSet<Blob>,
        bytes: &mut u64,
        look: &(dyn Fn(&[u8]) -> Result<(), String> + Sync),
    ) -> Result<Option<String>> {
        let kind = if trees { BlobType::Tree } else { BlobType::Data };
        let damaged = Mutex::new(None);
        let saving = Mutex::new((saver, written, bytes));
        let times = Times::default();
        let (workers, watch) = (self.workers, self.watch);
        let fetch =
            Fetch { store: &self.store, catalog: &self.catalog, trees, workers, watch, times: &times };
        fetch.run(blobs, &|digest: &Digest, content: Result<&[u8], &str>| {
            let sound = content.map_err(str::to_owned).and_then(|content| look(content).map(|()| content));
            let content = match sound {
                Ok(content) => content,
                Err(why) => {
                    damaged.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
                    return Ok(());
                }
            };
            {
                let mut saving = saving.lock().unwrap_or_else(PoisonError::into_inner);
                let (saver, written, bytes) = &mut *saving;
                saver.check()?;
                if saver.has(kind, digest) || !written.insert((trees, *digest)) {
                    return Ok(());
                }
                **bytes += content.len() as u64;
                saver.save(kind, content.to_vec())?;
            }
            (self.pace)(content.len() as u64)
        })?;
        Ok(damaged.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes what a tree needs.
fn look(
    content: &[u8],
    below: &mut Vec<Digest>,
    data: &mut Vec<Digest>,
    seen: &mut HashSet<Blob>,
) -> Result<(), String> {
    let read = each_node(content, |node| {
        let node = node.map_err(|broken| broken.why)?;
        data.extend(node.content().filter(|digest| seen.insert((false, *digest))));
        match node.subtree() {
            Some(tree) if seen.insert((true, tree)) => below.push(tree),
            None if matches!(node.kind(), Ok(Kind::Directory)) => {
                return Err(format!("the folder {} has no tree", node.written_name()));
            }
            _ => {}
        }
        Ok(())
    });
    read.map_err(|ended| match ended {
        Ended::Stopped(why) | Ended::Damaged(why) => why,
    })
}
