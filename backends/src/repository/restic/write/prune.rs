//! Removes what no snapshot needs any more.
//!
//! The order makes it safe to be killed at any moment: what is still needed from a pack that goes is written to a
//! new one first, then the index of what stays, then the old index is removed, and the packs last. Whatever cannot
//! be read, or does not fit, ends it before anything is removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::finding::Finding;
use firedrill_core::manifest::{Digest, Kind};
use firedrill_core::watch::Watch;
use rustic_core::repofile::{BlobType, IndexBlob, IndexFile};
use rustic_core::{FileType, Id};

use super::super::catalog::{self, Catalog, INDEX_MAX, Key, digest, read_all};
use super::super::fetch::{Fetch, Times};
use super::super::listing::{Ended, each_node};
use super::Writer;
use super::lock::Lock;
use super::pack::Indexing;
use super::saver::{Compression, Saving};

/// So many trees are fetched at a time.
const TREES_AT_A_TIME: usize = 64;

/// How much is tidied up.
#[derive(Clone, Debug, PartialEq)]
pub struct PruneRequest {
    /// The share of what is needed that may stay in packs without being needed.
    pub max_unused: f64,
    /// At most so many bytes of packs are written anew.
    pub max_repack: Option<u64>,
    /// How what is written anew is compressed.
    pub compression: Compression,
}

impl Default for PruneRequest {
    fn default() -> Self {
        Self { max_unused: 0.05, max_repack: None, compression: Compression::default() }
    }
}

/// What was tidied up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Packs that stay as they are.
    pub packs_kept: u64,
    /// Packs of which the needed part was written anew.
    pub packs_repacked: u64,
    /// Packs that nobody needs.
    pub packs_removed: u64,
    /// Packs that no index names, left behind by a writer that was killed.
    pub packs_unindexed: u64,
    /// Bytes of packs before.
    pub bytes_before: u64,
    /// Bytes of packs afterwards.
    pub bytes_after: u64,
}

/// A blob: whether it is a tree, and its id.
pub(super) type Blob = (bool, Digest);

/// What becomes of the packs.
#[derive(Default)]
struct Plan {
    kept: BTreeSet<Id>,
    repack: Vec<Id>,
    /// What is needed from packs that are repacked.
    rescue: Vec<Blob>,
    remove: Vec<Id>,
    unindexed: Vec<Id>,
}

/// A pack and how much of it is needed.
struct Usage {
    id: Id,
    used: u64,
    unused: u64,
    /// The needed blobs that count for this pack.
    blobs: Vec<Blob>,
}

impl Writer {
    /// Removes what no snapshot needs, under an exclusive lock.
    pub fn prune(&self, request: &PruneRequest, watch: &Watch) -> Result<Pruned> {
        let lock = self.lock_exclusive(watch)?;
        self.prune_locked(request, &lock, watch)
    }

    pub(super) fn prune_locked(&self, request: &PruneRequest, lock: &Lock, watch: &Watch) -> Result<Pruned> {
        let opened = catalog::open(&self.store, Key::Password(&self.password), watch)?;
        let catalog = opened.usable()?;
        refuse_damage(&opened.findings)?;
        let roots = opened.snapshots.iter().map(|one| one.tree.as_str());
        let used = self.used(catalog, roots, lock, watch)?;
        let files =
            read_all::<IndexFile>(&self.store, &self.files.cipher, FileType::Index, INDEX_MAX, watch)?;
        refuse_damage(&files.findings)?;
        let packs = packs(&files.files);
        let listed: BTreeMap<Id, u64> =
            self.store.list(FileType::Pack)?.into_iter().map(|(id, size)| (id, size.into())).collect();
        let plan = plan(&packs, &listed, &used, request)?;

        let new = self.rescue(&plan, catalog, request, lock, watch)?;
        let superseded = self.index_what_stays(&plan, &files.files, &packs, lock)?;
        for id in &superseded {
            lock.check()?;
            self.files.remove(FileType::Index, id)?;
        }
        for id in plan.remove.iter().chain(&plan.repack).chain(&plan.unindexed) {
            lock.check()?;
            // Content may have come out as it was, under the same name.
            if !new.contains(id) {
                self.files.remove(FileType::Pack, id)?;
            }
        }
        let bytes_after = self.check_afterwards(&used, watch)?;
        Ok(Pruned {
            packs_kept: plan.kept.len() as u64,
            packs_repacked: plan.repack.len() as u64,
            packs_removed: plan.remove.len() as u64,
            packs_unindexed: plan.unindexed.len() as u64,
            bytes_before: listed.values().sum(),
            bytes_after,
        })
    }

    /// Every blob that the trees `roots` need.
    pub(super) fn used<'r>(
        &self,
        catalog: &Catalog,
        roots: impl Iterator<Item = &'r str>,
        lock: &Lock,
        watch: &Watch,
    ) -> Result<HashSet<Blob>> {
        let mut used = HashSet::new();
        let mut waiting = Vec::new();
        for root in roots {
            let mut tree = [0; 32];
            hex::decode_to_slice(root, &mut tree).map_err(|_| unsure(format!("{root} is no tree")))?;
            if used.insert((true, tree)) {
                waiting.push(tree);
            }
        }
        let times = Times::default();
        let workers = self.workers;
        while !waiting.is_empty() {
            lock.check()?;
            let batch = waiting.split_off(waiting.len().saturating_sub(TREES_AT_A_TIME));
            let fetch = Fetch { store: &self.store, catalog, trees: true, workers, watch, times: &times };
            let found = Mutex::new((Vec::new(), &mut used));
            fetch.run(&batch, &|tree: &Digest, content: Result<&[u8], &str>| {
                let content = content.map_err(|why| unsure(format!("tree {}: {why}", hex::encode(tree))))?;
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                let (below, used) = &mut *found;
                needed(content, below, used)
            })?;
            waiting.extend(found.into_inner().unwrap_or_else(PoisonError::into_inner).0);
        }
        Ok(used)
    }

    /// Writes what is needed from packs that go; returns the new packs.
    fn rescue(
        &self,
        plan: &Plan,
        catalog: &Catalog,
        request: &PruneRequest,
        lock: &Lock,
        watch: &Watch,
    ) -> Result<HashSet<Id>> {
        if plan.rescue.is_empty() {
            return Ok(HashSet::new());
        }
        let saving = Saving {
            files: &self.files,
            lock,
            compression: request.compression,
            pack_size: self.pack_size,
            workers: self.workers,
        };
        let ((), _, packs) = saving.run(None, |saver| {
            let saver = Mutex::new(saver);
            let times = Times::default();
            for trees in [false, true] {
                let wanted: Vec<Digest> = plan
                    .rescue
                    .iter()
                    .filter(|(tree, _)| *tree == trees)
                    .map(|(_, digest)| *digest)
                    .collect();
                let kind = if trees { BlobType::Tree } else { BlobType::Data };
                let fetch =
                    Fetch { store: &self.store, catalog, trees, workers: self.workers, watch, times: &times };
                // Fetching compares every blob with its id, so damage is not carried over.
                fetch.run(&wanted, &|digest: &Digest, content: Result<&[u8], &str>| {
                    let content =
                        content.map_err(|why| unsure(format!("blob {}: {why}", hex::encode(digest))))?;
                    let mut saver = saver.lock().unwrap_or_else(PoisonError::into_inner);
                    saver.check()?;
                    saver.save(kind, content.to_vec()).map(drop)
                })?;
            }
            Ok(())
        })?;
        Ok(packs.into_iter().collect())
    }

    /// Writes the index of packs that stay and stand beside others that go; returns the index files that are not
    /// needed any more.
    fn index_what_stays(
        &self,
        plan: &Plan,
        files: &[(Id, IndexFile)],
        packs: &BTreeMap<Id, Vec<IndexBlob>>,
        lock: &Lock,
    ) -> Result<Vec<Id>> {
        let mut indexed: BTreeSet<Id> = BTreeSet::new();
        let mut superseded = Vec::new();
        for (id, file) in files {
            let stays = file.packs_to_delete.is_empty()
                && !file.packs.is_empty()
                && file.packs.iter().all(|pack| {
                    plan.kept.contains(&*pack.id)
                        && !indexed.contains(&*pack.id)
                        && packs.get(&*pack.id).is_some_and(|blobs| blobs.len() == pack.blobs.len())
                });
            if stays {
                indexed.extend(file.packs.iter().map(|pack| *pack.id));
            } else {
                superseded.push(*id);
            }
        }
        let mut index = Indexing::default();
        let mut save = |index: &mut Indexing| -> Result<()> {
            let Some(json) = index.take()? else { return Ok(()) };
            lock.check()?;
            let id = self.files.save(FileType::Index, &json)?;
            superseded.retain(|old| *old != id);
            Ok(())
        };
        for id in plan.kept.difference(&indexed) {
            index.add(id, packs.get(id).cloned().unwrap_or_default());
            if index.is_full() {
                save(&mut index)?;
            }
        }
        save(&mut index)?;
        Ok(superseded)
    }

    /// Makes sure that everything needed is there; returns the bytes of all packs.
    fn check_afterwards(&self, used: &HashSet<Blob>, watch: &Watch) -> Result<u64> {
        let opened = catalog::open(&self.store, Key::Password(&self.password), watch)?;
        let catalog = opened.usable()?;
        let index = &catalog.index;
        refuse_damage(&opened.findings)?;
        if let Some((_, missing)) = used.iter().find(|blob| !has(catalog, blob)) {
            return Err(Error::new(ErrorKind::Internal, "prune the repository")
                .because(format!("blob {} is missing afterwards", hex::encode(missing)))
                .advise("stop writing to this repository and check it; this is a bug, please report it"));
        }
        Ok(index.packs.iter().filter_map(|pack| pack.listed).map(u64::from).sum())
    }
}

/// Whether the repository has a blob in a pack that fits.
pub(super) fn has(catalog: &Catalog, (tree, digest): &Blob) -> bool {
    let index = &catalog.index;
    index
        .places(digest)
        .any(|place| place.tree == *tree && index.pack(place).is_some_and(|pack| pack.fits && !pack.marked))
}

/// Adds what a tree needs to `used`, and trees that are new there to `below`.
fn needed(content: &[u8], below: &mut Vec<Digest>, used: &mut HashSet<Blob>) -> Result<()> {
    let read = each_node(content, |node| {
        let node = node.map_err(|broken| unsure(broken.why))?;
        used.extend(node.content().map(|data| (false, data)));
        match node.subtree() {
            Some(tree) if used.insert((true, tree)) => below.push(tree),
            None if matches!(node.kind(), Ok(Kind::Directory)) => {
                return Err(unsure(format!("the folder {} has no tree", node.written_name())));
            }
            _ => {}
        }
        Ok(())
    });
    read.map_err(|ended| match ended {
        Ended::Stopped(error) => error,
        Ended::Damaged(why) => unsure(why),
    })
}

fn unsure(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, "find out what the snapshots need")
        .because(why)
        .advise("nothing was removed; a restore test says what is damaged")
}

fn refuse_damage(findings: &[Finding]) -> Result<()> {
    match findings.first() {
        None => Ok(()),
        Some(finding) => Err(unsure(format!("{}: {}", finding.location, finding.seen))),
    }
}

/// All packs that any index file names, with everything that any of them says of them. Packs that rustic marked
/// for deletion are packs like others: they are kept if they are needed.
fn packs(files: &[(Id, IndexFile)]) -> BTreeMap<Id, Vec<IndexBlob>> {
    let mut packs: BTreeMap<Id, Vec<IndexBlob>> = BTreeMap::new();
    for pack in files.iter().flat_map(|(_, file)| file.packs.iter().chain(&file.packs_to_delete)) {
        let blobs = packs.entry(*pack.id).or_default();
        let known: HashSet<(u32, Digest)> =
            blobs.iter().map(|blob| (blob.location.offset, digest(&blob.id))).collect();
        blobs.extend(
            pack.blobs
                .iter()
                .filter(|blob| !known.contains(&(blob.location.offset, digest(&blob.id))))
                .copied(),
        );
    }
    packs
}

fn plan(
    packs: &BTreeMap<Id, Vec<IndexBlob>>,
    listed: &BTreeMap<Id, u64>,
    used: &HashSet<Blob>,
    request: &PruneRequest,
) -> Result<Plan> {
    let key = |blob: &IndexBlob| (blob.tpe == BlobType::Tree, digest(&blob.id));
    let present = || packs.iter().filter(|(id, _)| listed.contains_key(id));
    let available: HashSet<Blob> = present().flat_map(|(_, blobs)| blobs.iter().map(key)).collect();
    if let Some((_, missing)) = used.iter().find(|blob| !available.contains(*blob)) {
        return Err(unsure(format!("blob {} is in no pack", hex::encode(missing))));
    }
    // Of blobs that are stored more than once, those in the packs that are needed most count.
    let needed = |blobs: &[IndexBlob]| blobs.iter().filter(|blob| used.contains(&key(blob))).count();
    let mut order: Vec<_> = present().map(|(id, blobs)| (id, blobs, needed(blobs))).collect();
    order.sort_by(|a, b| (b.2 * a.1.len().max(1)).cmp(&(a.2 * b.1.len().max(1))));
    let mut claimed = HashSet::new();
    let mut plan = Plan::default();
    let mut partly = Vec::new();
    let mut total = 0;
    for (id, blobs, _) in order {
        let mut usage = Usage { id: *id, used: 0, unused: 0, blobs: Vec::new() };
        for blob in blobs {
            if used.contains(&key(blob)) && claimed.insert(key(blob)) {
                usage.used += u64::from(blob.location.length);
                usage.blobs.push(key(blob));
            } else {
                usage.unused += u64::from(blob.location.length);
            }
        }
        total += usage.used;
        match (usage.blobs.is_empty(), usage.unused) {
            (true, _) => plan.remove.push(*id),
            (false, 0) => drop(plan.kept.insert(*id)),
            (false, _) => partly.push(usage),
        }
    }
    choose_repacks(&mut plan, partly, total, request);
    plan.unindexed = listed.keys().filter(|id| !packs.contains_key(*id)).copied().collect();
    Ok(plan)
}

/// Repacks the packs with the largest part that nobody needs, until little enough of that is left.
fn choose_repacks(plan: &mut Plan, mut partly: Vec<Usage>, total: u64, request: &PruneRequest) {
    partly.sort_by(|a, b| {
        let (a, b) = (u128::from(a.unused) * u128::from(b.used), u128::from(b.unused) * u128::from(a.used));
        b.cmp(&a)
    });
    let mut unused: u64 = partly.iter().map(|usage| usage.unused).sum();
    let mut left = request.max_repack.unwrap_or(u64::MAX);
    for usage in partly {
        let size = usage.used + usage.unused;
        if unused as f64 <= request.max_unused * total as f64 || size > left {
            plan.kept.insert(usage.id);
            continue;
        }
        unused -= usage.unused;
        left -= size;
        plan.repack.push(usage.id);
        plan.rescue.extend(usage.blobs);
    }
}
