//! What is in a repository and which tags need it: damage without aim is often damage without effect.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use firedrill_core::secret::Secret;
use jiff::Timestamp;
use rustic_core::repofile::{BlobType, IndexFile};
use rustic_core::{Id, TreeId};

use crate::fleet::TestRepository;

/// One blob in one pack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blob {
    pub(super) id: Id,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// One pack, as the index describes it.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    pub(super) path: PathBuf,
    pub(super) trees: bool,
    /// Sorted by offset.
    pub(super) blobs: Vec<Blob>,
    /// The index files that list it.
    pub(super) indexes: BTreeSet<Id>,
}

impl Pack {
    /// Where the encrypted header starts.
    pub(super) fn header(&self) -> u64 {
        self.blobs.last().map_or(0, |blob| blob.offset + blob.length)
    }

    /// Whether blobs of both packs are found at the same places.
    pub(super) fn same_layout(&self, other: &Self) -> bool {
        let places = |pack: &Self| pack.blobs.iter().map(|b| (b.offset, b.length)).collect::<Vec<_>>();
        self.trees == other.trees && places(self) == places(other)
    }
}

/// The newest snapshot of one tag, the one before it, and what the newest needs.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) newest: PathBuf,
    pub(super) earlier: Option<PathBuf>,
    pub(super) needs: BTreeSet<Id>,
}

/// The whole repository.
pub(super) struct Survey {
    pub(super) packs: Vec<Pack>,
    pub(super) lines: BTreeMap<String, Line>,
}

impl Survey {
    /// Reads all of `repository` but its data blobs.
    pub(super) fn of(path: &Path, password: &Secret) -> Result<Self> {
        let repository = TestRepository::open(path, password)?.unlocked()?;
        let mut packs: BTreeMap<Id, Pack> = BTreeMap::new();
        for file in repository.stream_files::<IndexFile>()? {
            let (index, file) = file.context("read an index file")?;
            for listed in file.packs {
                let pack = packs.entry(*listed.id).or_insert_with(|| Pack {
                    path: pack_path(&listed.id),
                    trees: listed.blob_type() == BlobType::Tree,
                    blobs: blobs(&listed),
                    indexes: BTreeSet::new(),
                });
                pack.indexes.insert(*index);
            }
        }

        let mut series: BTreeMap<String, Vec<(Timestamp, Id, TreeId)>> = BTreeMap::new();
        for snapshot in repository.get_all_snapshots()? {
            for tag in snapshot.tags.iter() {
                let entry = (snapshot.time.timestamp(), *snapshot.id, snapshot.tree);
                series.entry(tag.clone()).or_default().push(entry);
            }
        }
        let repository = repository.to_indexed()?;
        let mut lines = BTreeMap::new();
        for (tag, mut snapshots) in series {
            snapshots.sort();
            let mut newest_first = snapshots.into_iter().rev();
            let Some((_, newest, root)) = newest_first.next() else { continue };
            let mut needs = BTreeSet::new();
            let mut trees = vec![root];
            while let Some(tree) = trees.pop() {
                if needs.insert(*tree) {
                    for node in repository.get_tree(&tree)?.nodes {
                        trees.extend(node.subtree);
                        needs.extend(node.content.unwrap_or_default().into_iter().map(|data| *data));
                    }
                }
            }
            let earlier = newest_first.next().map(|(_, id, _)| file_path("snapshots", &id));
            lines.insert(tag, Line { newest: file_path("snapshots", &newest), earlier, needs });
        }
        Ok(Self { packs: packs.into_values().collect(), lines })
    }

    /// The tags whose newest snapshot needs any of `blobs`.
    pub(super) fn needing<'a>(&self, blobs: impl IntoIterator<Item = &'a Blob>) -> BTreeSet<String> {
        let blobs: Vec<_> = blobs.into_iter().collect();
        let needs = |line: &Line| blobs.iter().any(|blob| line.needs.contains(&blob.id));
        self.lines.iter().filter(|(_, line)| needs(line)).map(|(tag, _)| tag.clone()).collect()
    }

    /// Blobs that the newest snapshot of `tag` needs, that no other tag needs, and that are stored once.
    pub(super) fn own_blobs(&self, tag: &str, trees: bool) -> Vec<(&Pack, &Blob)> {
        let mut copies: BTreeMap<Id, usize> = BTreeMap::new();
        for blob in self.packs.iter().flat_map(|pack| &pack.blobs) {
            *copies.entry(blob.id).or_default() += 1;
        }
        let own = |blob: &Blob| {
            copies.get(&blob.id) == Some(&1)
                && self.lines.iter().all(|(other, line)| (other == tag) == line.needs.contains(&blob.id))
        };
        let packs = self.packs.iter().filter(|pack| pack.trees == trees);
        packs
            .flat_map(|pack| pack.blobs.iter().filter(|blob| own(blob)).map(move |blob| (pack, blob)))
            .collect()
    }
}

/// The path of a file other than a pack, relative to the repository.
pub(super) fn file_path(folder: &str, id: &Id) -> PathBuf {
    Path::new(folder).join(id.to_hex().as_str())
}

fn pack_path(id: &Id) -> PathBuf {
    let name = id.to_hex();
    let shard = name.as_str().get(..2).unwrap_or_default();
    Path::new("data").join(shard).join(name.as_str())
}

fn blobs(pack: &rustic_core::repofile::IndexPack) -> Vec<Blob> {
    let mut blobs: Vec<_> = pack
        .blobs
        .iter()
        .map(|blob| Blob {
            id: *blob.id,
            offset: blob.location.offset.into(),
            length: blob.location.length.into(),
        })
        .collect();
    blobs.sort_by_key(|blob| blob.offset);
    blobs
}
