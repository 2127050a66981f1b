//! Trees to a manifest. Level by level, so that the trees of one level are fetched together and in
//! parallel, and each distinct tree once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::finding::{FINDINGS_MAX, Finding};
use firedrill_core::manifest::{Chunk, Digest, Kind, Manifest, NewEntry, display_path};
use firedrill_core::snapshot::Snapshot;
use firedrill_core::watch::Watch;

use super::catalog::Catalog;
use super::crypto::OVERHEAD;
use super::fetch::{Fetch, Times};
use super::node::{Node, Tree};
use super::store::Store;

/// A snapshot with more entries is refused: small trees can name each other so often that they unfold
/// to more than any machine holds.
const ENTRIES_MAX: usize = 10_000_000;
/// A longer path is not restored.
const PATH_LENGTH_MAX: usize = 32 << 10;

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

#[derive(Default)]
struct Walk {
    entries: Vec<(NewEntry, Vec<Chunk>)>,
    next: Level,
    inodes: HashMap<(u64, u64), u64>,
    findings: Vec<Finding>,
    findings_omitted: u64,
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
    let walk = Mutex::new(Walk::default());
    let mut copy_findings = Vec::new();
    let mut level = Level::from([(root, vec![Vec::new()])]);
    while !level.is_empty() {
        watch.check()?;
        let wanted: Vec<Digest> = level.keys().copied().collect();
        copy_findings.extend(fetch.run(&wanted, &|digest: &Digest, content: Result<&[u8], &str>| {
            let parents = level.get(digest).map(Vec::as_slice).unwrap_or_default();
            // Parsing is the slow part and needs no lock.
            let tree = content.map_err(str::to_owned).and_then(|json| {
                serde_json::from_slice::<Tree>(json).map_err(|e| format!("not a tree: {e}"))
            });
            let mut walk = walk.lock().unwrap_or_else(PoisonError::into_inner);
            for parent in parents {
                match &tree {
                    Ok(tree) => walk.add(tree, parent, catalog)?,
                    Err(why) => {
                        walk.find(Finding::damage("restore.tree", folder(parent), "a readable folder", why))
                    }
                }
            }
            Ok(())
        })?);
        level = std::mem::take(&mut walk.lock().unwrap_or_else(PoisonError::into_inner).next);
    }
    let walk = walk.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(walk.finish(copy_findings))
}

impl Walk {
    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_omitted += 1;
        }
    }

    fn add(&mut self, tree: &Tree, parent: &[u8], catalog: &Catalog) -> Result<()> {
        for node in &tree.nodes {
            if self.entries.len() >= ENTRIES_MAX {
                return Err(Error::new(ErrorKind::Unavailable, "read the trees of the snapshot")
                    .because(format!("it holds more than {ENTRIES_MAX} entries")));
            }
            if let Err((path, why)) = self.add_node(node, parent, catalog) {
                self.find(Finding::damage(
                    "restore.entry",
                    display_path(&path),
                    "an entry that can be restored",
                    why,
                ));
            }
        }
        Ok(())
    }

    fn add_node(&mut self, node: &Node, parent: &[u8], catalog: &Catalog) -> Result<(), (Vec<u8>, String)> {
        let name = node.file_name().map_err(|why| (parent.to_vec(), why))?;
        let mut path = parent.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        if path.len() > PATH_LENGTH_MAX {
            return Err((path[..200].to_vec(), format!("a path of more than {PATH_LENGTH_MAX} bytes")));
        }
        let fail = |why| (path.clone(), why);
        let kind = node.kind().map_err(fail)?;
        let attributes = node.attributes().map_err(fail)?;
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
        let chunks = match kind {
            Kind::File => chunks(node, catalog),
            _ => Vec::new(),
        };
        let groups = self.inodes.len() as u64;
        let link_group = node.inode().map_or(0, |inode| *self.inodes.entry(inode).or_insert(groups + 1));
        let entry = NewEntry {
            size: if kind == Kind::File { node.size } else { 0 },
            path,
            kind,
            mode: node.permissions(),
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            attributes,
            link_group,
            read_error: node.error.clone().filter(|e| !e.is_empty()),
        };
        self.entries.push((entry, chunks));
        Ok(())
    }

    fn finish(mut self, copy_findings: Vec<Finding>) -> Walked {
        // As if `/` sorted before every other byte: each folder is followed by all that is in it.
        let key = |c: &u8| if *c == b'/' { 0 } else { *c };
        self.entries.sort_by(|(a, _), (b, _)| a.path.iter().map(key).cmp(b.path.iter().map(key)));
        let mut manifest = Manifest::default();
        let mut last: Option<Vec<u8>> = None;
        for (entry, chunks) in std::mem::take(&mut self.entries) {
            if last.as_deref() == Some(&entry.path) {
                let place = display_path(&entry.path);
                self.find(Finding::damage("restore.entry", place, "one entry of this name", "two of them"));
                continue;
            }
            last = Some(entry.path.clone());
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

fn folder(path: &[u8]) -> String {
    format!("{}/", display_path(path))
}
