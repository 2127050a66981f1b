//! What a key tells about a repository beyond names and sizes, for those who compare two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::finding::Finding;
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use rustic_core::repofile::IndexFile;
use rustic_core::{FileType, Id, WriteBackend};
use serde_json::{Map, Value};

use super::catalog::{INDEX_MAX, SNAPSHOT_MAX, expected_size, read_all};
use super::crypto::Cipher;
use super::key;
use super::store::Store;
use crate::repository::access::Access;
use crate::repository::guard::id_of;
use crate::repository::location::Location;
use crate::repository::s3::objects;

/// A snapshot as its file says it, with fields that nobody here knows.
pub(crate) type Raw = Map<String, Value>;

/// Snapshots, and what is wrong with those that cannot be read.
pub(crate) type Found = (Vec<(Id, Raw)>, Vec<Finding>);

/// The packs that these index files name, with the sizes that they have by it. All of the files must be sound.
pub(crate) fn indexed_packs(
    backend: Arc<dyn WriteBackend>,
    password: &Secret,
    wanted: &BTreeSet<Id>,
    watch: &Watch,
) -> Result<BTreeMap<Id, u64>> {
    let store = Store::new(backend);
    let cipher = cipher(&store, password, watch)?;
    let read = read_all::<IndexFile>(&store, &cipher, FileType::Index, INDEX_MAX, watch)?;
    let files: Vec<_> = read.files.iter().filter(|(id, _)| wanted.contains(id)).collect();
    if files.len() < wanted.len() {
        return Err(read.findings.iter().fold(failed("read the index"), because));
    }
    let packs = files.iter().flat_map(|(_, file)| &file.packs);
    Ok(packs.map(|pack| (*pack.id, expected_size(pack))).collect())
}

/// All snapshots, and what is wrong with those that cannot be read.
pub(crate) fn snapshots(backend: Arc<dyn WriteBackend>, password: &Secret, watch: &Watch) -> Result<Found> {
    let store = Store::new(backend);
    let cipher = cipher(&store, password, watch)?;
    raw_snapshots(&store, &cipher, watch)
}

pub(super) fn raw_snapshots(store: &Store, cipher: &Cipher, watch: &Watch) -> Result<Found> {
    let read = read_all::<Raw>(store, cipher, FileType::Snapshot, SNAPSHOT_MAX, watch)?;
    Ok((read.files, read.findings))
}

fn cipher(store: &Store, password: &Secret, watch: &Watch) -> Result<Cipher> {
    let unlocked = key::unlock(store, password, watch)?;
    let told = || unlocked.findings.iter().fold(failed("open the repository"), because);
    unlocked.cipher.ok_or_else(told)
}

fn failed(attempted: &str) -> Error {
    Error::new(ErrorKind::Unavailable, attempted)
}

fn because(error: Error, finding: &Finding) -> Error {
    error.because(format!("{}: {}", finding.location, finding.seen))
}

/// What makes two snapshots the same in all but their ids: what `restic copy` compares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Likeness {
    time: Timestamp,
    tree: String,
    host: String,
    user: String,
    owner: (u64, u64),
    paths: BTreeSet<String>,
    tags: BTreeSet<String>,
    excludes: Vec<String>,
}

impl Likeness {
    /// Nothing when the snapshot has no time or tree that make sense.
    pub(crate) fn of(raw: &Raw) -> Option<Self> {
        let text = |field: &str| raw.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |field: &str| raw.get(field).and_then(Value::as_u64).unwrap_or_default();
        let texts = |field: &str| -> Vec<String> {
            let list = raw.get(field).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let tree = text("tree");
        (tree.len() == 64).then_some(())?;
        Some(Self {
            time: text("time").parse().ok()?,
            tree,
            host: text("hostname"),
            user: text("username"),
            owner: (number("uid"), number("gid")),
            paths: texts("paths").into_iter().collect(),
            tags: texts("tags").into_iter().collect(),
            excludes: texts("excludes"),
        })
    }

    /// When the snapshot was made.
    pub(crate) fn time(&self) -> Timestamp {
        self.time
    }

    /// The id of its root tree.
    pub(crate) fn tree(&self) -> &str {
        &self.tree
    }
}

/// When the files of snapshots were written, where the place tells; a server does not.
pub(crate) fn snapshot_file_times(
    location: &Location,
    access: &Access,
) -> Result<Option<BTreeMap<Id, Timestamp>>> {
    let mut times = BTreeMap::new();
    match location {
        Location::Rest(_) => return Ok(None),
        Location::Local(root) => {
            let folder = root.join("snapshots");
            let told =
                |error: &std::io::Error| failed(&format!("list {}", folder.display())).from_source(error);
            for entry in std::fs::read_dir(&folder).map_err(|error| told(&error))? {
                let entry = entry.map_err(|error| told(&error))?;
                let id = entry.file_name().to_str().and_then(id_of);
                let modified = entry.metadata().and_then(|meta| meta.modified());
                if let (Some(id), Ok(modified)) = (id, modified)
                    && let Ok(time) = Timestamp::try_from(modified)
                {
                    times.insert(id, time);
                }
            }
        }
        Location::S3(place) => {
            let listed = objects::open(place, access)?.list("snapshots/", |page| {
                let named = |key: &str| key.strip_prefix("snapshots/").and_then(id_of);
                times.extend(page.iter().filter_map(|one| Some((named(&one.key)?, one.modified))));
                true
            });
            listed.map_err(|fault| fault.into_error(format!("list the snapshots of {location}")))?;
        }
    }
    Ok(Some(times))
}
