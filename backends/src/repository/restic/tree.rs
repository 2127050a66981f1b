//! Trees to a manifest. Level by level, so that the trees of one level are fetched together and in
//! parallel, and each distinct tree once.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::finding::{FINDINGS_MAX, Finding};
use firedrill_core::manifest::{Chunk, Digest, Kind, Manifest, NewEntry, display_path};
use firedrill_core::snapshot::Snapshot;
use firedrill_core::watch::Watch;

use super::catalog::Catalog;
use super::crypto::OVERHEAD;
use super::fetch::{Fetch, Times};
use super::listing::{Broken, Ended, each_node};
use super::node::Node;
use super::store::Store;

/// A longer path is not restored.
const PATH_LENGTH_MAX: usize = 32 << 10;
/// Nodes that are kept before they are added to the manifest.
const BATCH: usize = 256;

/// Nodes of one tree that cannot be read, after which the rest of it is given up.
const BROKEN_MAX: usize = 1000;
/// Findings about one tree; the rest is counted, so that other trees have their say.
const TREE_FINDINGS_MAX: usize = 25;

/// Memory that a manifest may take however small its trees are.
const MEMORY_MIN: u64 = 128 << 20;
/// Memory that a manifest may take for each stored byte of its trees. Real trees stay far below: each entry
/// has a node of its own, in which times and ids do not compress.
const MEMORY_PER_STORED_BYTE: u64 = 64;
/// About what one entry takes beside its path.
const ENTRY_MEMORY: u64 = 320;
/// About what one chunk of a file takes, now and while it is restored.
const CHUNK_MEMORY: u64 = 96;

/// A manifest and what is wrong with the trees that it comes from.
pub(super) struct Walked {
    pub(super) manifest: Manifest,
    pub(super) findings: Vec<Finding>,
    pub(super) findings_omitted: u64,
    /// Damage that none of the trees suffers from.
    pub(super) copy_findings: Vec<Finding>,
}

/// The trees of one level with the paths at which each of them stands.
type Level = HashMap<Digest, Vec<Vec<u8>>>;

/// What identifies an inode, and a hash of all that its names must have in common.
type Inode = (u64, u64, u64);

#[derive(Default)]
struct Walk {
    entries: Vec<(NewEntry, Vec<Chunk>)>,
    next: Level,
    inodes: HashMap<Inode, u64>,
    findings: Vec<Finding>,
    findings_omitted: u64,
    memory: u64,
    memory_max: u64,
}

/// Reads all trees of `snapshot`.
pub(super) fn walk(
    store: &Store,
    catalog: &Catalog,
    snapshot: &Snapshot,
    workers: usize,
    watch: &Watch,
) -> Result<Walked> {
    let times = Times::default();
    let fetch = Fetch { store, catalog, trees: true, workers, watch, times: &times };
    let mut root = [0; 32];
    hex::decode_to_slice(&snapshot.tree, &mut root).map_err(|_| {
        Error::new(ErrorKind::Internal, "read the snapshot")
            .because("its tree id is not 64 hexadecimal digits")
    })?;
    let walk = Mutex::new(Walk { memory_max: MEMORY_MIN, ..Walk::default() });
    let mut copy_findings = Vec::new();
    let mut level = Level::from([(root, vec![Vec::new()])]);
    while !level.is_empty() {
        watch.check()?;
        let wanted: Vec<Digest> = level.keys().copied().collect();
        copy_findings.extend(fetch.run(&wanted, &|digest: &Digest, content: Result<&[u8], &str>| {
            let stands = level.get(digest).map(Vec::as_slice).unwrap_or_default();
            lock(&walk).allow(stored_length(digest, catalog));
            Reading { walk: &walk, catalog, watch, stands, names: HashSet::new(), broken: 0, told: 0 }
                .read(content)
        })?);
        level = std::mem::take(&mut lock(&walk).next);
    }
    let walk = walk.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(walk.finish(copy_findings))
}

fn lock(walk: &Mutex<Walk>) -> std::sync::MutexGuard<'_, Walk> {
    walk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One tree that is being read.
struct Reading<'a> {
    walk: &'a Mutex<Walk>,
    catalog: &'a Catalog,
    watch: &'a Watch,
    /// The paths at which it stands.
    stands: &'a [Vec<u8>],
    /// Names that it has listed so far.
    names: HashSet<Vec<u8>>,
    /// How many of its nodes could not be read so far.
    broken: usize,
    /// How many findings were made of them.
    told: usize,
}

/// Why a tree is not read to its end.
enum Stop {
    /// It is hopeless.
    Broken,
    /// We cannot go on.
    Error(Error),
}

/// A node with its name, or what is written of one and why it is none.
type Named = Result<(Node, Vec<u8>), Broken>;

impl Reading<'_> {
    fn read(mut self, content: Result<&[u8], &str>) -> Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        let read = match content {
            // Parsing is the slow part and needs no lock.
            Ok(json) => each_node(json, |node| self.take(node, &mut batch)),
            Err(why) => Err(Ended::Damaged(why.to_owned())),
        };
        let why = match read {
            Ok(()) => return self.add(&mut batch),
            Err(Ended::Stopped(Stop::Error(error))) => return Err(error),
            Err(Ended::Stopped(Stop::Broken)) => {
                format!("more than {BROKEN_MAX} entries that cannot be restored")
            }
            Err(Ended::Damaged(why)) => why,
        };
        self.add(&mut batch)?;
        let mut walk = lock(self.walk);
        for parent in self.stands {
            walk.find(Finding::damage("restore.tree", folder(parent), "a readable folder", &why));
        }
        Ok(())
    }

    fn take(&mut self, node: Result<Node, Broken>, batch: &mut Vec<Named>) -> Result<(), Stop> {
        let named = self.named(node);
        self.broken += usize::from(named.is_err());
        if self.broken > BROKEN_MAX {
            return Err(Stop::Broken);
        }
        batch.push(named);
        if batch.len() == BATCH { self.add(batch).map_err(Stop::Error) } else { Ok(()) }
    }

    /// The name of a node, if it can be one and no node before has it. What a name means twice is what
    /// its first node says: the second one is not looked into.
    fn named(&mut self, node: Result<Node, Broken>) -> Named {
        let node = node?;
        let name =
            node.file_name().map_err(|why| Broken { name: Some(node.written_name().to_owned()), why })?;
        if !self.names.insert(name.clone()) {
            let name = String::from_utf8_lossy(&name).into_owned();
            return Err(Broken { name: Some(name), why: "the folder lists two of this name".to_owned() });
        }
        Ok((node, name))
    }

    fn add(&mut self, batch: &mut Vec<Named>) -> Result<()> {
        self.watch.check()?;
        let mut walk = lock(self.walk);
        for parent in self.stands {
            for node in &*batch {
                let added = match node {
                    Ok((node, name)) => walk.add(node, below(parent, name), self.catalog)?,
                    Err(Broken { name, why }) => {
                        Err((below(parent, name.as_deref().unwrap_or("?").as_bytes()), why.clone()))
                    }
                };
                if let Err((path, why)) = added {
                    self.told += 1;
                    if self.told > TREE_FINDINGS_MAX {
                        walk.findings_omitted += 1;
                        continue;
                    }
                    let place = display_path(&path);
                    walk.find(Finding::damage("restore.entry", place, "an entry that can be restored", why));
                }
            }
        }
        batch.clear();
        Ok(())
    }
}

/// An entry that cannot be restored: its path, and why.
type Unfit = (Vec<u8>, String);

impl Walk {
    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_omitted += 1;
        }
    }

    fn allow(&mut self, stored: u64) {
        self.memory_max = self.memory_max.saturating_add(stored.saturating_mul(MEMORY_PER_STORED_BYTE));
    }

    /// Small trees can name each other so often that they unfold to more than any machine holds.
    fn spend(&mut self, memory: u64) -> Result<()> {
        self.memory = self.memory.saturating_add(memory);
        if self.memory <= self.memory_max {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "read the trees of the snapshot")
            .because(format!(
                "they unfold to more than {} entries, far more than real trees of their size",
                self.entries.len()
            ))
            .advise("no backup program writes such trees: find out who wrote this snapshot"))
    }

    fn add(&mut self, node: &Node, path: Vec<u8>, catalog: &Catalog) -> Result<Result<(), Unfit>> {
        if path.len() > PATH_LENGTH_MAX {
            let shown = path.get(..200).unwrap_or_default().to_vec();
            return Ok(Err((shown, format!("a path of more than {PATH_LENGTH_MAX} bytes"))));
        }
        let (kind, attributes) = match node.kind().and_then(|kind| Ok((kind, node.attributes()?))) {
            Ok(both) => both,
            Err(why) => return Ok(Err((path, why))),
        };
        let chunks: Vec<Chunk> = match kind {
            Kind::File => chunks(node, catalog),
            _ => Vec::new(),
        };
        let attached: usize = attributes.iter().map(|a| a.name.len() + a.value.len() + 64).sum();
        let target = if let Kind::Symlink(target) = &kind { target.len() } else { 0 };
        let bytes = 2 * path.len() + attached + target;
        self.spend(ENTRY_MEMORY + bytes as u64 + CHUNK_MEMORY * chunks.len() as u64)?;
        if kind == Kind::Directory {
            match node.subtree() {
                Some(subtree) => self.next.entry(subtree).or_default().push(path.clone()),
                None if node.error.is_some() => {}
                None => self.find(Finding::damage(
                    "restore.tree",
                    folder(&path),
                    "a readable folder",
                    "it has no tree",
                )),
            }
        }
        let mut entry = NewEntry {
            size: if kind == Kind::File { node.size } else { 0 },
            path,
            kind,
            mode: node.permissions(),
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            attributes,
            link_group: 0,
            read_error: node.error.clone().filter(|e| !e.is_empty()),
        };
        entry.link_group = self.link_group(node, &entry, &chunks);
        self.entries.push((entry, chunks));
        Ok(Ok(()))
    }

    /// The number of the inode that the entry shares with others; 0 for none. A file that changed while it
    /// was backed up under two names has different content under each: those are two files, so that
    /// neither content is lost.
    fn link_group(&mut self, node: &Node, entry: &NewEntry, chunks: &[Chunk]) -> u64 {
        let Some((device, inode)) = node.inode() else { return 0 };
        let mut hash = DefaultHasher::new();
        (entry.size, entry.mode, entry.uid, entry.gid, entry.mtime).hash(&mut hash);
        for chunk in chunks {
            chunk.digest.hash(&mut hash);
        }
        for attribute in &entry.attributes {
            (&attribute.name, &attribute.value).hash(&mut hash);
        }
        let groups = self.inodes.len() as u64;
        *self.inodes.entry((device, inode, hash.finish())).or_insert(groups + 1)
    }

    fn finish(mut self, copy_findings: Vec<Finding>) -> Walked {
        self.entries.sort_unstable_by(|(a, _), (b, _)| compare(&a.path, &b.path));
        let mut manifest = Manifest::default();
        for (entry, chunks) in self.entries {
            manifest.push(entry, chunks);
        }
        if !self.findings.is_empty() {
            manifest.mark_incomplete();
        }
        Walked { manifest, findings: self.findings, findings_omitted: self.findings_omitted, copy_findings }
    }
}

/// The chunks of a file. One that no index knows gets the length that is missing from the size of the
/// file, so that whatever follows it still has its place.
fn chunks(node: &Node, catalog: &Catalog) -> Vec<Chunk> {
    let mut unknown = None;
    let mut known: u64 = 0;
    let mut chunks = Vec::new();
    for (number, digest) in node.content().enumerate() {
        let length = catalog
            .index
            .places(&digest)
            .next()
            .map(|place| place.uncompressed.unwrap_or(place.length.saturating_sub(OVERHEAD)));
        if length.is_none() {
            unknown.get_or_insert(number);
        }
        let length = length.unwrap_or_default();
        known = known.saturating_add(length.into());
        chunks.push(Chunk { digest, length });
    }
    if let Some(chunk) = unknown.and_then(|number| chunks.get_mut(number)) {
        chunk.length = u32::try_from(node.size.saturating_sub(known)).unwrap_or(u32::MAX);
    }
    chunks
}

/// Compares as if `/` sorted before every other byte: each folder is followed by all that is in it.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    // Halving finds the first difference without a look at each byte; paths can be long and much alike.
    let (mut same, mut end) = (0, a.len().min(b.len()));
    while same < end {
        let middle = same + (end - same) / 2;
        if a.get(same..=middle) == b.get(same..=middle) { same = middle + 1 } else { end = middle }
    }
    let key = |path: &[u8]| path.get(same).map(|c| if *c == b'/' { 0 } else { *c });
    key(a).cmp(&key(b))
}

fn stored_length(digest: &Digest, catalog: &Catalog) -> u64 {
    catalog.index.places(digest).next().map_or(0, |place| u64::from(place.length))
}

fn below(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn folder(path: &[u8]) -> String {
    format!("{}/", display_path(path))
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn a_folder_is_followed_by_all_that_is_in_it() {
        let sorted: [&[u8]; 9] = [b"", b"a", b"a/b", b"a/b/c", b"a/c", b"a\x01", b"a b", b"a.b", b"b"];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{i} {j}");
            }
        }
    }
}
