//! A restored folder with the manifest that a faithful snapshot of it would have.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firedrill_core::config::settings::{Expectations, Objectives, Probes};
use firedrill_core::finding::{Class, Examination};
use firedrill_core::manifest::{Attribute, Chunk, Kind, Manifest, NewEntry};
use firedrill_core::memory::Baseline;
use firedrill_core::plan::{Drill, DrillName, Selection};
use firedrill_core::snapshot::{CopyName, Series, Snapshot, SnapshotId};
use firedrill_core::subject::{Earlier, History, Subject};
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use rustix::fs::{lgetxattr, llistxattr};
use sha2::{Digest, Sha256};

/// Chunks of a fixture's files are at most this long.
const CHUNK: usize = 1 << 20;

/// A lease with restored data in it.
pub(crate) struct Fixture {
    _lease: tempfile::TempDir,
    /// See [`Subject::root`].
    pub(crate) root: PathBuf,
    /// See [`Subject::work`].
    pub(crate) work: PathBuf,
}

impl Fixture {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// An empty one in `place`.
    pub(crate) fn below(place: &Path) -> Self {
        let lease = tempfile::tempdir_in(place).unwrap();
        let (root, work) = (lease.path().join("data"), lease.path().join("work"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&work).unwrap();
        Self { _lease: lease, root, work }
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::write(&path, content).unwrap();
        path
    }

    /// The place of `path`, whose parent is made.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// What a snapshot of the folder as it is now would list.
    pub(crate) fn manifest(&self) -> Manifest {
        manifest_of(&self.root)
    }

    /// The folder as it is now, restored from a snapshot of just that.
    pub(crate) fn subject(&self) -> Subject {
        self.subject_of(self.manifest())
    }

    /// The folder, restored from a snapshot that listed something else.
    pub(crate) fn subject_of(&self, manifest: Manifest) -> Subject {
        let snapshot = snapshot("a", "2026-01-05T03:00:00Z");
        Subject {
            drill: drill(&snapshot),
            snapshot: snapshot.clone(),
            root: self.root.clone(),
            work: self.work.clone(),
            manifest: Arc::new(manifest),
            history: Arc::new(History { series: vec![snapshot], ..History::default() }),
            at: "2026-01-05T04:00:00Z".parse().unwrap(),
            watch: Watch::unlimited(),
            canary_key: None,
            lease: "lease".to_owned(),
            runtime: None,
        }
    }
}

/// A snapshot of series `app` on host `alpha`.
pub(crate) fn snapshot(id: &str, time: &str) -> Snapshot {
    Snapshot {
        id: SnapshotId(id.repeat(64)),
        time: time.parse().unwrap(),
        host: "alpha".to_owned(),
        tags: vec!["app".to_owned()],
        paths: vec!["/srv/app".to_owned()],
        tree: "f".repeat(64),
        program: "restic 0.18.0".to_owned(),
        files: None,
        bytes: None,
    }
}

fn drill(snapshot: &Snapshot) -> Drill {
    let (copy, series) = (CopyName("primary".to_owned()), Series::Tag("app".to_owned()));
    Drill {
        name: DrillName::new(&copy, &series, "latest"),
        copy,
        series,
        target: None,
        selection: Selection::Snapshot(snapshot.clone()),
        objectives: Objectives::default(),
        expectations: Expectations::default(),
        hosts: Vec::new(),
        probes: Probes::default(),
        parts: Vec::new(),
        trials: Default::default(),
        required: vec!["tree".to_owned()],
        seed: 1,
    }
}

/// Lets `subject` know what an earlier, verified drill left behind.
pub(crate) fn remember(subject: &mut Subject, earlier: &Examination) {
    let mut history = (*subject.history).clone();
    history.baseline = Some(Baseline {
        repository: "r".repeat(64),
        copy: subject.drill.copy.clone(),
        series: subject.drill.series.clone(),
        run: "earlier".to_owned(),
        snapshot: SnapshotId("b".repeat(64)),
        snapshot_time: "2026-01-04T03:00:00Z".parse().unwrap(),
        host: "alpha".to_owned(),
        accepted: None,
        probes: BTreeMap::from([(earlier.probe.clone(), earlier.baseline.clone())]),
    });
    subject.history = Arc::new(history);
}

/// Lets `subject` know the manifests of earlier snapshots, newest first.
pub(crate) fn precede(subject: &mut Subject, manifests: impl IntoIterator<Item = Manifest>) {
    let mut history = (*subject.history).clone();
    history.earlier = manifests
        .into_iter()
        .map(|manifest| Earlier {
            snapshot: snapshot("b", "2026-01-04T03:00:00Z"),
            manifest: Ok(Arc::new(manifest)),
        })
        .collect();
    subject.history = Arc::new(history);
}

/// Code, class and location of each finding.
pub(crate) fn found(examination: &Examination) -> Vec<(&str, Class, &str)> {
    examination.findings.iter().map(|f| (f.code.as_str(), f.class, f.location.as_str())).collect()
}

/// What a snapshot of `root` would list.
pub(crate) fn manifest_of(root: &Path) -> Manifest {
    let mut manifest = Manifest::default();
    list(root, root, &mut manifest);
    manifest
}

fn list(root: &Path, folder: &Path, manifest: &mut Manifest) {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let (kind, content) = kind_and_content(&path, &metadata);
        let entry = NewEntry {
            path: path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(),
            size: if kind == Kind::File { metadata.size() } else { 0 },
            kind,
            mode: Some(metadata.mode() & 0o7777),
            uid: Some(metadata.uid()),
            gid: Some(metadata.gid()),
            mtime: Some(mtime(&metadata)),
            attributes: attributes(&path),
            link_group: if metadata.nlink() > 1 && !metadata.is_dir() { metadata.ino() } else { 0 },
            read_error: None,
        };
        manifest.push(entry, content.chunks(CHUNK).map(chunk));
        if metadata.is_dir() {
            list(root, &path, manifest);
        }
    }
}

fn kind_and_content(path: &Path, metadata: &fs::Metadata) -> (Kind, Vec<u8>) {
    let kind = metadata.file_type();
    if kind.is_file() {
        (Kind::File, fs::read(path).unwrap())
    } else if kind.is_dir() {
        (Kind::Directory, Vec::new())
    } else if kind.is_symlink() {
        (Kind::Symlink(fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()), Vec::new())
    } else if kind.is_fifo() {
        (Kind::Fifo, Vec::new())
    } else if kind.is_socket() {
        (Kind::Socket, Vec::new())
    } else {
        (Kind::Device, Vec::new())
    }
}

/// One chunk with its digest.
pub(crate) fn chunk(content: &[u8]) -> Chunk {
    Chunk { digest: Sha256::digest(content).into(), length: u32::try_from(content.len()).unwrap() }
}

fn mtime(metadata: &fs::Metadata) -> Timestamp {
    let whole = i128::from(metadata.mtime()) * 1_000_000_000;
    Timestamp::from_nanosecond(whole + i128::from(metadata.mtime_nsec())).unwrap()
}

fn attributes(path: &Path) -> Vec<Attribute> {
    let mut names = vec![0; 64 * 1024];
    let length = llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let mut value = vec![0; 64 * 1024];
    names[..length]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let length = lgetxattr(path, name, value.as_mut_slice()).unwrap();
            let name = String::from_utf8(name.to_vec()).unwrap();
            Attribute { name, value: value[..length].to_vec() }
        })
        .collect()
}
