//! Config, snapshots and index: what is known of a repository before any restore.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::finding::Finding;
use firedrill_core::manifest::Digest;
use firedrill_core::secret::Secret;
use firedrill_core::snapshot::{Snapshot, SnapshotId, more_paths};
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use rustic_core::repofile::{BlobType, ConfigFile, IndexBlob, IndexFile, IndexPack, SnapshotFile};
use rustic_core::{FileType, Id};
use serde::de::DeserializeOwned;

use super::crypto::{Cipher, OVERHEAD, unpack};
use super::key::Unlocked;
use super::store::{Content, Store};
use super::{key, pool};
use crate::repository::guard::name;

/// Readers at a time for small files, where each request takes longer than its bytes.
const READERS: usize = 8;
/// A larger snapshot or config is damaged or hostile.
pub(super) const SNAPSHOT_MAX: u64 = 64 << 20;
/// Further places of one blob that are kept. Only a hostile index names more.
const PLACES_MAX: usize = 100;
/// A larger index is damaged or hostile; restic writes about 20 MiB at most.
pub(super) const INDEX_MAX: u64 = 256 << 20;
/// Up to this size a file may have been compressed to nothing.
const UNPACKED_FREE: u64 = 16 << 20;
/// Larger ones hold ids and paths, which do not shrink more than this.
const UNPACKED_RATIO_MAX: u64 = 32;
/// A snapshot with more tags than this is hostile.
const TAGS_MAX: usize = 100;
/// Nor is any name in a snapshot longer.
const TEXT_MAX: usize = 1 << 10;
/// Of the paths of a snapshot this much is kept.
const PATHS_MAX: usize = 16 << 10;
/// No path that was backed up is longer on any system.
const PATH_MAX: usize = 32 << 10;
/// So much of what was cut off one snapshot is told piece by piece.
const CUT_MAX: usize = 5;
/// Findings of one kind about a whole repository; the rest is counted in one more.
const SAME_FINDINGS_MAX: usize = 50;

/// What a file is expected to be that was listed and then not found.
const GONE_EXPECTED: &str = "a file that is listed";

/// The code of the finding that a pack of the index is not there.
const PACK_MISSING: &str = "repository.pack_missing";

/// What opening found.
pub(super) struct Opened {
    pub(super) repository: String,
    pub(super) version: u32,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) findings: Vec<Finding>,
    pub(super) catalog: Option<Catalog>,
}

/// What every restore needs.
pub(super) struct Catalog {
    pub(super) cipher: Cipher,
    pub(super) index: Index,
}

/// Where a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Position in [`Index::packs`].
    pub(super) pack: u32,
    pub(super) offset: u32,
    /// Length of the encrypted unit.
    pub(super) length: u32,
    /// Length of the plain content when it is compressed.
    pub(super) uncompressed: Option<u32>,
    /// Whether it is a tree. restic looks for data among data only, and for trees among trees.
    pub(super) tree: bool,
}

/// One pack as the index describes it, beside what is really there.
pub(super) struct Pack {
    pub(super) id: Id,
    /// Size in the listing; `None`: it is not there.
    pub(super) listed: Option<u32>,
    /// Whether that is the size by the index.
    pub(super) fits: bool,
    /// Whether it is marked for deletion: it still serves, and nothing new may rely on it.
    pub(super) marked: bool,
}

/// All blobs.
#[derive(Default)]
pub(super) struct Index {
    pub(super) packs: Vec<Pack>,
    places: HashMap<Digest, Place>,
    /// Further places of blobs that are stored more than once.
    more: HashMap<Digest, Vec<Place>>,
}

impl Index {
    /// Every place where a blob is stored, the first choice first.
    pub(super) fn places(&self, digest: &Digest) -> impl Iterator<Item = Place> {
        let first = self.places.get(digest).copied();
        first.into_iter().chain(self.more.get(digest).into_iter().flatten().copied())
    }

    pub(super) fn pack(&self, place: Place) -> Option<&Pack> {
        self.packs.get(place.pack as usize)
    }

    pub(super) fn add(&mut self, pack: &IndexPack, listed: Option<u32>) {
        let number = self.next();
        let fits = listed.is_some_and(|size| u64::from(size) == expected_size(pack));
        self.packs.push(Pack { id: *pack.id, listed, fits, marked: false });
        for blob in &pack.blobs {
            self.store(digest(&blob.id), place(number, blob));
        }
    }

    /// Adds what `pack`, which is known as `number`, is said to hold here and was not said before. `false`
    /// when it contradicts what was said.
    fn add_again(&mut self, number: u32, pack: &IndexPack) -> bool {
        let mut agrees = true;
        for blob in &pack.blobs {
            let (digest, place) = (digest(&blob.id), place(number, blob));
            let known: Vec<_> = self.places(&digest).filter(|known| known.pack == number).collect();
            if !known.contains(&place) {
                agrees &= known.is_empty();
                self.store(digest, place);
            }
        }
        agrees
    }

    fn store(&mut self, digest: Digest, place: Place) {
        match self.places.entry(digest) {
            Entry::Vacant(free) => {
                free.insert(place);
            }
            Entry::Occupied(_) => {
                let more = self.more.entry(digest).or_default();
                if more.len() < PLACES_MAX {
                    more.push(place);
                }
            }
        }
    }

    /// The number of the next pack.
    fn next(&self) -> u32 {
        u32::try_from(self.packs.len()).unwrap_or(u32::MAX)
    }
}

fn place(pack: u32, blob: &IndexBlob) -> Place {
    Place {
        pack,
        offset: blob.location.offset,
        length: blob.location.length,
        uncompressed: blob.location.uncompressed_length.map(std::num::NonZeroU32::get),
        tree: blob.tpe == BlobType::Tree,
    }
}

/// The bytes of an id.
pub(super) fn digest(id: &Id) -> Digest {
    let mut bytes = [0; 32];
    // 64 hexadecimal digits always fit.
    let _ = hex::decode_to_slice(id.to_hex().as_str(), &mut bytes);
    bytes
}

/// What opens a repository.
pub(super) enum Key<'a> {
    /// The password, for one of the key files.
    Password(&'a Secret),
    /// What one of them gave before: deriving a key takes long on purpose.
    Known(&'a Cipher),
}

impl Key<'_> {
    fn unlock(&self, store: &Store, watch: &Watch) -> Result<Unlocked> {
        match self {
            Self::Password(password) => key::unlock(store, password, watch),
            Self::Known(cipher) => Ok(Unlocked { cipher: Some((*cipher).clone()), findings: Vec::new() }),
        }
    }
}

/// Opens and lists. Damage becomes findings; `Err` means that nothing can be said.
pub(super) fn open(store: &Store, key: Key<'_>, watch: &Watch) -> Result<Opened> {
    let mut opened = Opened {
        repository: String::new(),
        version: 0,
        snapshots: Vec::new(),
        findings: Vec::new(),
        catalog: None,
    };
    let has_config = !store.list(FileType::Config)?.is_empty();
    if !has_config && nothing_there(store)? {
        return Err(Error::new(ErrorKind::NoRepository, "open the repository")
            .because("there is no `config` file and nothing else of a repository")
            .advise("check the URL or path; a repository has the folders data, index, keys and snapshots"));
    }
    let unlocked = key.unlock(store, watch)?;
    opened.findings.extend(unlocked.findings);
    if !has_config {
        opened.findings.push(Finding::damage(
            "repository.config",
            "config",
            "the file that every repository has",
            "it is gone: no tool opens this repository",
        ));
    }
    let Some(cipher) = unlocked.cipher else { return Ok(opened) };
    if has_config && !read_config(store, &cipher, &mut opened)? {
        return Ok(opened);
    }
    // Snapshots are listed before indexes are read: a backup that ends in between has then written
    // its index before its snapshot was seen.
    let snapshots = read_all::<SnapshotFile>(store, &cipher, FileType::Snapshot, SNAPSHOT_MAX, watch)?;
    opened.findings.extend(snapshots.findings);
    let mut excessive = Vec::new();
    for (id, file) in snapshots.files {
        let (snapshot, cut) = snapshot(&id, &file);
        opened.snapshots.push(snapshot);
        excessive.extend(cut.map(|seen| {
            Finding::anomaly(
                "repository.snapshot_excess",
                name(FileType::Snapshot, &id),
                "a snapshot such as backup programs write",
                format!("{seen}: that is cut here"),
            )
        }));
    }
    opened.findings.extend(bounded(excessive));
    opened.snapshots.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));

    let (index, findings) = read_settled_index(store, &cipher, watch)?;
    opened.findings.extend(findings);
    opened.catalog = Some(Catalog { cipher, index });
    Ok(opened)
}

fn nothing_there(store: &Store) -> Result<bool> {
    for kind in [FileType::Key, FileType::Snapshot, FileType::Index] {
        match store.list(kind) {
            Ok(files) if files.is_empty() => {}
            Ok(_) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reads the config; `false` when it is damaged.
fn read_config(store: &Store, cipher: &Cipher, opened: &mut Opened) -> Result<bool> {
    let parsed = store.read_config()?.and_then(|bytes| cipher.decrypt(&bytes)).and_then(|plain| {
        serde_json::from_slice::<ConfigFile>(&plain).map_err(|e| format!("not a config: {e}"))
    });
    match parsed {
        Ok(config) if (1..=2).contains(&config.version) => {
            opened.repository = config.id.to_hex().as_str().to_owned();
            opened.version = config.version;
            Ok(true)
        }
        Ok(config) => Err(Error::new(ErrorKind::Unavailable, "open the repository")
            .because(format!("it has format version {}; firedrill reads 1 and 2", config.version))),
        Err(seen) => {
            opened.findings.push(Finding::damage("repository.config", "config", "a readable config", seen));
            Ok(false)
        }
    }
}

pub(super) struct Files<T> {
    pub(super) files: Vec<(Id, T)>,
    pub(super) findings: Vec<Finding>,
}

/// Reads, checks, decrypts and parses all files of a kind.
pub(super) fn read_all<T: DeserializeOwned + Send>(
    store: &Store,
    cipher: &Cipher,
    kind: FileType,
    limit: u64,
    watch: &Watch,
) -> Result<Files<T>> {
    let code = if kind == FileType::Index { "repository.index" } else { "repository.snapshot" };
    let mut listed = store.list(kind)?;
    listed.sort_unstable_by_key(|(id, _)| *id);
    let read = pool::each(&listed, READERS, |(id, size)| {
        watch.check()?;
        let bytes = match store.read_named(kind, id, *size)? {
            Content::Good(bytes) => bytes,
            Content::Gone => {
                return Ok(Err(Finding::damage(code, name(kind, id), GONE_EXPECTED, "it is not there")));
            }
            Content::Damaged(seen, _) => {
                return Ok(Err(Finding::damage(code, name(kind, id), "content that fits its name", seen)));
            }
        };
        let limit = limit.min(UNPACKED_FREE + UNPACKED_RATIO_MAX * u64::from(*size));
        let _room = store.gate().enter(limit, watch)?;
        let parsed =
            cipher.decrypt(&bytes).and_then(|plain| unpack(plain, limit)).and_then(|json| parse(&json));
        Ok(match parsed {
            Ok(file) => Ok((*id, file)),
            Err(seen) => Err(Finding::damage(code, name(kind, id), "a readable file", seen)),
        })
    })?;
    let mut all = Files { files: Vec::new(), findings: Vec::new() };
    for file in read {
        match file {
            Ok(file) => all.files.push(file),
            Err(finding) => all.findings.push(finding),
        }
    }
    if all.findings.iter().any(|f| f.expected == GONE_EXPECTED) {
        // What retention removed between listing and reading is not listed any more.
        let still: std::collections::HashSet<_> =
            store.list(kind)?.into_iter().map(|(id, _)| name(kind, &id)).collect();
        all.findings.retain(|f| f.expected != GONE_EXPECTED || still.contains(&f.location));
    }
    all.findings = bounded(all.findings);
    Ok(all)
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|e| format!("unexpected content: {e}"))
}

/// What is kept of a snapshot file, and what of it is not: every tag makes a drill, and every drill carries all
/// of this.
pub(super) fn snapshot(id: &Id, file: &SnapshotFile) -> (Snapshot, Option<String>) {
    let mut cut = Vec::new();
    let mut name = |what: &str, text: &str| {
        let kept = shortened(text);
        if kept.len() != text.len() {
            cut.push(format!("{what} of {} bytes", text.len()));
        }
        kept
    };
    let all: Vec<_> = file.tags.iter().filter(|tag| !tag.is_empty()).collect();
    let tags = all.iter().take(TAGS_MAX).map(|tag| name("a tag", tag)).collect();
    let host = name("a host name", &file.hostname);
    let program = name("a program version", &file.program_version);
    if let Some(longest) = file.paths.iter().map(String::len).max().filter(|length| *length > PATH_MAX) {
        cut.push(format!("a path of {longest} bytes"));
    }
    if all.len() > TAGS_MAX {
        cut.insert(0, format!("{} tags, of which {TAGS_MAX} are drilled", all.len()));
    }
    let summary = file.summary.as_ref();
    let snapshot = Snapshot {
        id: SnapshotId(id.to_hex().as_str().to_owned()),
        time: Timestamp::from(&file.time),
        host,
        tags,
        paths: first_paths(file.paths.iter()),
        tree: file.tree.to_hex().as_str().to_owned(),
        program,
        files: summary.map(|s| s.total_files_processed),
        bytes: summary.map(|s| s.total_bytes_processed),
    };
    let more = cut.len().saturating_sub(CUT_MAX);
    cut.truncate(CUT_MAX);
    if more > 0 {
        cut.push(format!("{more} more"));
    }
    (snapshot, (!cut.is_empty()).then(|| cut.join(", ")))
}

/// `text`, or its beginning with a hash that tells it from others that begin alike.
fn shortened(text: &str) -> String {
    if text.len() <= TEXT_MAX {
        return text.to_owned();
    }
    let beginning = text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or_default();
    format!("{beginning}… ({})", short_hash([text]))
}

/// The paths, up to some length: a program that was given a list of files names each of them, which is no
/// fault. The rest is counted and hashed, so that other paths still make another series.
fn first_paths<'p>(paths: impl Iterator<Item = &'p String>) -> Vec<String> {
    let (mut kept, mut rest, mut length) = (Vec::new(), Vec::new(), 0);
    for path in paths {
        length += path.len() + 1;
        if length <= PATHS_MAX {
            kept.push(path.clone());
        } else {
            rest.push(path.as_str());
        }
    }
    if !rest.is_empty() {
        let count = rest.len() as u64;
        kept.push(more_paths(count, &short_hash(rest)));
    }
    kept
}

fn short_hash<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text);
        hash.update([0]);
    }
    hex::encode(hash.finalize()).chars().take(8).collect()
}

/// Reads the index again when packs are missing and the index files have changed meanwhile: a prune that
/// runs beside us removes old index files and packs, and says nothing about the backup.
fn read_settled_index(store: &Store, cipher: &Cipher, watch: &Watch) -> Result<(Index, Vec<Finding>)> {
    let names = || -> Result<std::collections::BTreeSet<Id>> {
        Ok(store.list(FileType::Index)?.into_iter().map(|(id, _)| id).collect())
    };
    for last in [false, true] {
        let before = names()?;
        let (index, findings) = read_index(store, cipher, watch)?;
        let missing = findings.iter().any(|f| f.code == PACK_MISSING);
        if !missing || names()? == before {
            return Ok((index, findings));
        }
        if last {
            break;
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "read the index")
        .because("packs and index files keep changing")
        .advise("run restore tests while no prune runs"))
}

fn read_index(store: &Store, cipher: &Cipher, watch: &Watch) -> Result<(Index, Vec<Finding>)> {
    let files = read_all::<IndexFile>(store, cipher, FileType::Index, INDEX_MAX, watch)?;
    let listed: HashMap<Id, u32> = store.list(FileType::Pack)?.into_iter().collect();
    let mut findings = files.findings;
    let mut missing = Vec::new();
    let mut contradictions = Vec::new();
    let mut seen: HashMap<Id, u32> = HashMap::new();
    let mut index = Index::default();
    for (id, file) in &files.files {
        let mut contradicts = None;
        for pack in &file.packs {
            if let Some(number) = seen.get(&pack.id) {
                if !index.add_again(*number, pack) {
                    contradicts.get_or_insert(pack.id);
                }
                continue;
            }
            seen.insert(*pack.id, index.next());
            let size = listed.get(&pack.id).copied();
            match (size, expected_size(pack)) {
                (None, _) => missing.push(Finding::damage(
                    PACK_MISSING,
                    name(FileType::Pack, &pack.id),
                    "a pack that the index names",
                    "no such file",
                )),
                (Some(size), expected) if u64::from(size) != expected => missing.push(Finding::damage(
                    "repository.pack_size",
                    name(FileType::Pack, &pack.id),
                    format!("{expected} bytes by the index"),
                    format!("{size} bytes"),
                )),
                _ => {}
            }
            index.add(pack, size);
        }
        if let Some(pack) = contradicts {
            contradictions.push(Finding::damage(
                "repository.index",
                name(FileType::Index, id),
                "what other index files say of the same packs",
                format!("other places for what is in {}", name(FileType::Pack, &pack)),
            ));
        }
    }
    // Packs that are marked for deletion still serve while they are there; nobody promised that they are.
    for pack in files.files.iter().flat_map(|(_, file)| &file.packs_to_delete) {
        if let Some(size) = listed.get(&pack.id)
            && !seen.contains_key(&pack.id)
        {
            seen.insert(*pack.id, index.next());
            index.add(pack, Some(*size));
            if let Some(added) = index.packs.last_mut() {
                added.marked = true;
            }
        }
    }
    findings.extend(bounded(missing));
    findings.extend(bounded(contradictions));
    Ok((index, findings))
}

/// The size of a pack by its blobs: their lengths, the encrypted header with 37 bytes for each plain and
/// 41 for each compressed blob, and 4 bytes for the length of the header.
pub(super) fn expected_size(pack: &IndexPack) -> u64 {
    let blobs: u64 = pack
        .blobs
        .iter()
        .map(|b| {
            u64::from(b.location.length) + if b.location.uncompressed_length.is_some() { 41 } else { 37 }
        })
        .sum();
    blobs + u64::from(OVERHEAD) + 4
}

fn bounded(mut findings: Vec<Finding>) -> Vec<Finding> {
    if findings.len() > SAME_FINDINGS_MAX {
        let more = findings.len() - SAME_FINDINGS_MAX;
        findings.truncate(SAME_FINDINGS_MAX);
        if let Some(last) = findings.last_mut() {
            last.seen.push_str(&format!("; and {more} more files like this one"));
        }
    }
    findings
}
