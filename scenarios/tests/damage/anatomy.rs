//! What is where in a healthy repository, and what has to be missed once a copy of it is damaged: worked
//! out from bytes and trees alone, by other means than those of firedrill.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustic_backend::LocalBackend;
use rustic_core::repofile::IndexFile;
use rustic_core::{Credentials, Id, Repository, RepositoryBackends, RepositoryOptions, TreeId};

use crate::fixture::PASSWORD;

/// A code and a location.
pub(crate) type Expected = BTreeSet<(String, String)>;

/// A healthy repository.
pub(crate) struct Anatomy {
    root: PathBuf,
    spots: BTreeMap<Id, Vec<Spot>>,
    series: BTreeMap<String, Vec<Snapshot>>,
}

/// Where a blob is, and which index file says so.
struct Spot {
    pack: PathBuf,
    start: usize,
    end: usize,
    index: PathBuf,
}

/// What one snapshot holds.
struct Snapshot {
    id: String,
    /// Path and tree of each folder, parents first; the root is "".
    folders: Vec<(String, Id)>,
    files: Vec<(String, Vec<Id>)>,
}

impl Anatomy {
    /// The repository at `root`.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let text = root.to_str().context("a path in UTF-8")?;
        let backends = RepositoryBackends::new(Arc::new(LocalBackend::new(text, [])?), None);
        let repository = Repository::new(&RepositoryOptions::default(), &backends)?
            .open(&Credentials::password(PASSWORD))?;
        let mut spots: BTreeMap<Id, Vec<Spot>> = BTreeMap::new();
        for file in repository.stream_files::<IndexFile>()? {
            let (index, file) = file?;
            for pack in &file.packs {
                for blob in &pack.blobs {
                    let start = usize::try_from(blob.location.offset)?;
                    spots.entry(*blob.id).or_default().push(Spot {
                        pack: pack_path(&pack.id),
                        start,
                        end: start + usize::try_from(blob.location.length)?,
                        index: Path::new("index").join(index.to_hex().as_str()),
                    });
                }
            }
        }
        let mut snapshots = repository.get_all_snapshots()?;
        snapshots.sort_by_key(|snapshot| snapshot.time.timestamp());
        let repository = repository.to_indexed()?;
        let mut series: BTreeMap<String, Vec<Snapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            let id = snapshot.id.to_hex().to_string();
            let mut told = Snapshot { id, folders: Vec::new(), files: Vec::new() };
            walk(&mut told, String::new(), snapshot.tree, &|tree| Ok(repository.get_tree(&tree)?))?;
            let tag = snapshot.tags.iter().next().context("every snapshot has a tag")?;
            series.entry(tag.clone()).or_default().push(told);
        }
        Ok(Self { root: root.to_owned(), spots, series })
    }

    /// The id of the snapshot of `tag` that is the `age`th newest, from 0.
    pub(crate) fn snapshot(&self, tag: &str, age: usize) -> Result<&str> {
        Ok(&self.nth(tag, age)?.id)
    }

    /// The blobs of a file in the newest snapshot of `tag`.
    pub(crate) fn blobs(&self, tag: &str, path: &str) -> Result<Vec<String>> {
        let file = self.nth(tag, 0)?.files.iter().find(|(name, _)| name == path);
        let (_, blobs) = file.with_context(|| format!("{tag} has no {path}"))?;
        Ok(blobs.iter().map(|blob| blob.to_hex().to_string()).collect())
    }

    /// The pack that holds a file of the newest snapshot of `tag`, and the index file that knows it.
    pub(crate) fn needed(&self, tag: &str, path: &str) -> Result<[PathBuf; 2]> {
        let file = self.nth(tag, 0)?.files.iter().find(|(name, _)| name == path);
        let blob =
            file.and_then(|(_, blobs)| blobs.first()).with_context(|| format!("{tag} has no {path}"))?;
        let spot = self.spots.get(blob).and_then(|spots| spots.first()).context("every blob is somewhere")?;
        Ok([spot.pack.clone(), spot.index.clone()])
    }

    /// A pack that the oldest snapshot of `tag` needs and the newest ones of all tags do not.
    pub(crate) fn old_pack(&self, tag: &str) -> Result<PathBuf> {
        let pack = |blob: &Id| self.spots.get(blob).and_then(|spots| spots.first()).map(|spot| &spot.pack);
        let packs = |snapshot: &Snapshot| -> BTreeSet<PathBuf> {
            let trees = snapshot.folders.iter().map(|(_, tree)| tree);
            let data = snapshot.files.iter().flat_map(|(_, blobs)| blobs);
            trees.chain(data).filter_map(pack).cloned().collect()
        };
        let mut newest = BTreeSet::new();
        for series in self.series.values() {
            newest.extend(series.last().map(packs).unwrap_or_default());
        }
        let oldest = self.series.get(tag).and_then(|all| all.first()).map(packs).unwrap_or_default();
        oldest.difference(&newest).next().cloned().context("there is a pack of the past")
    }

    /// What has to be found in the `age`th newest snapshot of `tag` in the damaged copy at `root`, and how
    /// many files come back whole.
    pub(crate) fn expected(&self, root: &Path, tag: &str, age: usize) -> Result<(Expected, u64)> {
        let lost = self.lost(root)?;
        let snapshot = self.nth(tag, age)?;
        let (mut expected, mut whole) = (Expected::new(), 0);
        let mut gone: Vec<&str> = Vec::new();
        let below = |gone: &[&str], path: &str| {
            gone.iter().any(|folder| folder.is_empty() || path.starts_with(&format!("{folder}/")))
        };
        for (path, tree) in &snapshot.folders {
            if !below(&gone, path) && lost.contains(tree) {
                expected.insert(("restore.tree".to_owned(), format!("{path}/")));
                gone.push(path);
            }
        }
        for (path, content) in snapshot.files.iter().filter(|(path, _)| !below(&gone, path)) {
            if content.iter().any(|blob| lost.contains(blob)) {
                expected.insert(("restore.content".to_owned(), path.clone()));
            } else {
                whole += 1;
            }
        }
        Ok((expected, whole))
    }

    /// Blobs that cannot be had any more: not at any place where an intact index file says they are.
    fn lost(&self, root: &Path) -> Result<BTreeSet<Id>> {
        let mut intact: BTreeMap<&Path, bool> = BTreeMap::new();
        let mut packs: BTreeMap<&Path, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
        for spot in self.spots.values().flatten() {
            if !intact.contains_key(spot.index.as_path()) {
                let same = content(&self.root.join(&spot.index))? == content(&root.join(&spot.index))?;
                intact.insert(&spot.index, same);
            }
            if !packs.contains_key(spot.pack.as_path()) {
                let both = (content(&self.root.join(&spot.pack))?, content(&root.join(&spot.pack))?);
                packs.insert(&spot.pack, both);
            }
        }
        let there = |spot: &Spot| {
            let same = packs.get(spot.pack.as_path()).is_some_and(|(good, bad)| {
                bad.get(spot.start..spot.end)
                    .is_some_and(|bytes| good.get(spot.start..spot.end) == Some(bytes))
            });
            same && intact.get(spot.index.as_path()) == Some(&true)
        };
        let lost = self.spots.iter().filter(|(_, spots)| !spots.iter().any(there));
        Ok(lost.map(|(id, _)| *id).collect())
    }

    fn nth(&self, tag: &str, age: usize) -> Result<&Snapshot> {
        self.series.get(tag).and_then(|all| all.iter().nth_back(age)).context("there is such a snapshot")
    }
}

/// The content of a file; nothing when it is missing.
fn content(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => Ok(read?),
    }
}

fn walk(
    snapshot: &mut Snapshot,
    path: String,
    tree: TreeId,
    read: &dyn Fn(TreeId) -> Result<rustic_core::repofile::Tree>,
) -> Result<()> {
    let nodes = read(tree)?.nodes;
    snapshot.folders.push((path.clone(), *tree));
    for node in nodes {
        let name = node.name().to_string_lossy().into_owned();
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        match node.subtree {
            Some(subtree) => walk(snapshot, path, subtree, read)?,
            None => {
                let blobs = node.content.unwrap_or_default().into_iter().map(|blob| *blob).collect();
                snapshot.files.push((path, blobs));
            }
        }
    }
    Ok(())
}

fn pack_path(id: &Id) -> PathBuf {
    let name = id.to_hex();
    let shard = name.as_str().get(..2).unwrap_or_default();
    Path::new("data").join(shard).join(name.as_str())
}
