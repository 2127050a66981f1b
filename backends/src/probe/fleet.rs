//! Small fleets for tests: trees of files, their snapshots, and the newest one restored on disk.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use firedrill_core::finding::{Class, Examination};
use firedrill_core::manifest::{Attribute, Chunk, Kind, Manifest, NewEntry};
use firedrill_core::memory::{Acceptance, Baseline};
use firedrill_core::plan::{Drill, DrillName, Selection};
use firedrill_core::ports::Probe;
use firedrill_core::secret::Secret;
use firedrill_core::snapshot::{CopyName, Series, Snapshot, SnapshotId};
use firedrill_core::subject::{Earlier, History, Subject};
use firedrill_core::watch::Watch;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// Midnight at the start of `day` of January 2026, plus `hours`.
pub(crate) fn at(day: i64, hours: f64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs_f64((day - 1) as f64 * 86_400.0 + hours * 3600.0)
}

/// Random bytes, always the same for `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let blocks = (0..length.div_ceil(32) as u64)
        .flat_map(|n| Sha256::digest([seed.to_be_bytes(), n.to_be_bytes()].concat()));
    blocks.take(length).collect()
}

/// Plain text of about `length` bytes, another one for each `seed`.
pub(crate) fn prose(seed: u64, length: usize) -> Vec<u8> {
    let words = ["backup", "restore", "the", "of", "volume", "and", "nightly", "is", "proven", "\n"];
    let mut text = Vec::new();
    let mut numbers = noise(seed, length).into_iter();
    while text.len() < length {
        let Some(number) = numbers.next() else { break };
        text.extend_from_slice(words[usize::from(number) % words.len()].as_bytes());
        text.push(b' ');
    }
    text.truncate(length);
    text
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    File(Vec<u8>),
    Folder,
    Link(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) what: What,
    pub(crate) mtime: Timestamp,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) attributes: Vec<(String, Vec<u8>)>,
    pub(crate) link_group: u64,
}

/// A tree of files, by path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, Item>);

impl Tree {
    /// Writes a file as a program would at `mtime`: a new name touches its folder.
    pub(crate) fn write(&mut self, path: &str, content: impl Into<Vec<u8>>, mtime: Timestamp) -> &mut Item {
        self.folders(path, mtime);
        if !self.0.contains_key(path) {
            self.touch_parent(path, mtime);
        }
        let item = self.0.entry(path.to_owned()).or_insert(Item {
            what: What::Folder,
            mtime,
            mode: 0o644,
            owner: (1000, 1000),
            attributes: Vec::new(),
            link_group: 0,
        });
        item.what = What::File(content.into());
        item.mtime = mtime;
        item
    }

    /// Makes a folder.
    pub(crate) fn folder(&mut self, path: &str, mtime: Timestamp) {
        self.folders(&format!("{path}/x"), mtime);
    }

    /// Makes a symbolic link.
    pub(crate) fn link(&mut self, path: &str, to: &str, mtime: Timestamp) {
        self.write(path, "", mtime).what = What::Link(to.to_owned());
    }

    /// Removes a file or folder as a person would: its folder is touched.
    pub(crate) fn remove(&mut self, path: &str, mtime: Timestamp) {
        self.lose(path);
        self.touch_parent(path, mtime);
    }

    /// Takes a file or folder out without a trace, as a backup does that cannot read it.
    pub(crate) fn lose(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0.retain(|p, _| p != path && !p.starts_with(&below));
    }

    /// Removes what `which` says, touching the folders.
    pub(crate) fn remove_where(&mut self, mtime: Timestamp, which: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self
            .0
            .iter()
            .filter(|(p, i)| !matches!(i.what, What::Folder) && which(p))
            .map(|(p, _)| p.clone())
            .collect();
        gone.iter().for_each(|p| self.remove(p, mtime));
    }

    /// Every file.
    pub(crate) fn files(&self) -> Vec<String> {
        self.0.iter().filter(|(_, i)| matches!(i.what, What::File(_))).map(|(p, _)| p.clone()).collect()
    }

    pub(crate) fn item(&mut self, path: &str) -> &mut Item {
        self.0.get_mut(path).unwrap()
    }

    fn touch_parent(&mut self, path: &str, mtime: Timestamp) {
        if let Some((folder, _)) = path.rsplit_once('/')
            && let Some(item) = self.0.get_mut(folder)
        {
            item.mtime = mtime;
        }
    }

    fn folders(&mut self, path: &str, mtime: Timestamp) {
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(Item {
                what: What::Folder,
                mtime,
                mode: 0o755,
                owner: (1000, 1000),
                attributes: Vec::new(),
                link_group: 0,
            });
        }
    }

    pub(crate) fn manifest(&self) -> Manifest {
        let mut manifest = Manifest::default();
        for (path, item) in &self.0 {
            let kind = match &item.what {
                What::File(_) => Kind::File,
                What::Folder => Kind::Directory,
                What::Link(to) => Kind::Symlink(to.clone().into_bytes()),
            };
            let mut entry = NewEntry::bare(path.as_str(), kind);
            entry.mode = Some(item.mode);
            entry.uid = Some(item.owner.0);
            entry.gid = Some(item.owner.1);
            entry.mtime = Some(item.mtime);
            entry.link_group = item.link_group;
            entry.attributes = item
                .attributes
                .iter()
                .map(|(name, value)| Attribute { name: name.clone(), value: value.clone() })
                .collect();
            let mut chunks = Vec::new();
            if let What::File(content) = &item.what {
                entry.size = content.len() as u64;
                if !content.is_empty() {
                    chunks
                        .push(Chunk { digest: Sha256::digest(content).into(), length: content.len() as u32 });
                }
            }
            manifest.push(entry, chunks);
        }
        manifest
    }

    fn id(&self) -> String {
        hex::encode(Sha256::digest(format!("{:?}", self.0)))
    }

    fn restore(&self, root: &std::path::Path) {
        for (path, item) in &self.0 {
            let path = root.join(path);
            match &item.what {
                What::File(content) => std::fs::write(path, content).unwrap(),
                What::Folder => std::fs::create_dir_all(path).unwrap(),
                What::Link(to) => symlink(to, path).unwrap(),
            }
        }
    }
}

/// A series of snapshots, and what is known beside them.
pub(crate) struct Fleet {
    pub(crate) snapshots: Vec<(Snapshot, Tree)>,
    pub(crate) drill: Drill,
    pub(crate) baseline: Option<Baseline>,
    pub(crate) at: Option<Timestamp>,
    pub(crate) key: Option<Secret>,
}

/// A restored snapshot; the folder lives as long as this.
pub(crate) struct Case {
    pub(crate) subject: Subject,
    _scratch: tempfile::TempDir,
}

impl Fleet {
    pub(crate) fn new(tag: &str) -> Self {
        let copy = CopyName("primary".into());
        let series = Series::Tag(tag.into());
        let drill = Drill {
            name: DrillName::new(&copy, &series, "latest"),
            copy,
            series,
            target: None,
            selection: Selection::Unknown,
            objectives: Default::default(),
            expectations: Default::default(),
            hosts: Vec::new(),
            probes: Default::default(),
            parts: Vec::new(),
            trials: Default::default(),
            required: Vec::new(),
            seed: 7,
        };
        Self { snapshots: Vec::new(), drill, baseline: None, at: None, key: None }
    }

    /// Backs `tree` up at `time`, from `/data`.
    pub(crate) fn backup(&mut self, time: Timestamp, tree: &Tree) -> &mut Snapshot {
        let Series::Tag(tag) = &self.drill.series else { unreachable!() };
        let number = self.snapshots.len();
        let snapshot = Snapshot {
            id: SnapshotId(format!("{number:08x}{}", &tree.id()[..56])),
            time,
            host: "node".into(),
            tags: vec![tag.clone()],
            paths: vec!["/data".into()],
            tree: tree.id(),
            program: "restic 0.14.0".into(),
            files: None,
            bytes: None,
        };
        self.snapshots.push((snapshot, tree.clone()));
        &mut self.snapshots.last_mut().unwrap().0
    }

    /// The newest snapshot, restored.
    pub(crate) fn case(&self) -> Case {
        let scratch = tempfile::tempdir().unwrap();
        let root: PathBuf = scratch.path().join("data");
        let work = scratch.path().join("work");
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&work).unwrap();
        let ((snapshot, tree), before) = self.snapshots.split_last().unwrap();
        tree.restore(&root);
        let earlier = before
            .iter()
            .rev()
            .take(self.drill.probes.shape.history)
            .map(|(snapshot, tree)| Earlier {
                snapshot: snapshot.clone(),
                manifest: Ok(Arc::new(tree.manifest())),
            })
            .collect();
        let history = History {
            series: self.snapshots.iter().map(|(s, _)| s.clone()).collect(),
            earlier,
            baseline: self.baseline.clone(),
            baseline_note: None,
        };
        let subject = Subject {
            drill: self.drill.clone(),
            snapshot: snapshot.clone(),
            root,
            work,
            manifest: Arc::new(tree.manifest()),
            history: Arc::new(history),
            at: self.at.unwrap_or_else(|| snapshot.time + SignedDuration::from_mins(30)),
            watch: Watch::unlimited(),
            canary_key: self.key.clone(),
            lease: "lease".to_owned(),
            runtime: None,
        };
        Case { subject, _scratch: scratch }
    }

    pub(crate) fn examine(&self, probe: &dyn Probe) -> Examination {
        let case = self.case();
        assert!(probe.recognises(&case.subject));
        probe.examine(&case.subject)
    }

    /// Drills the newest snapshot and keeps its baseline, through JSON as in real life; `accepted` as a
    /// person would, otherwise it has to be clean.
    pub(crate) fn learn(&mut self, probe: &dyn Probe, accepted: bool) {
        let examination = self.examine(probe);
        assert!(accepted || codes(&examination).is_empty(), "{:#?}", examination.findings);
        let text = serde_json::to_string(&examination.baseline).unwrap();
        assert!(text.len() < 32 * 1024, "a baseline of {} bytes", text.len());
        let (snapshot, _) = self.snapshots.last().unwrap();
        let acceptance = Acceptance { time: snapshot.time, reason: "meant".into(), gone: None };
        self.baseline = Some(Baseline {
            repository: "r1".into(),
            copy: self.drill.copy.clone(),
            series: self.drill.series.clone(),
            run: "run-1".into(),
            snapshot: snapshot.id.clone(),
            snapshot_time: snapshot.time,
            host: snapshot.host.clone(),
            accepted: accepted.then_some(acceptance),
            probes: BTreeMap::from([(probe.name().to_owned(), serde_json::from_str(&text).unwrap())]),
        });
    }
}

/// The codes of all findings, sorted, each once.
pub(crate) fn codes(examination: &Examination) -> Vec<&str> {
    let mut codes: Vec<_> = examination.findings.iter().map(|f| f.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Nothing was found, and it was looked.
#[track_caller]
pub(crate) fn assert_green(examination: &Examination) {
    assert!(examination.findings.is_empty(), "false alarm: {:#?}", examination.findings);
    assert_eq!(examination.interrupted, None);
    assert!(examination.checked > 0);
}

/// Exactly these codes were found.
#[track_caller]
pub(crate) fn assert_finds(examination: &Examination, expected: &[&str]) {
    assert_eq!(codes(examination), expected, "{:#?}", examination.findings);
}

/// `code` was found, with this class.
#[track_caller]
pub(crate) fn assert_found(examination: &Examination, code: &str, class: Class) {
    assert!(
        examination.findings.iter().any(|f| f.code == code && f.class == class),
        "{code} is not among {:#?}",
        examination.findings
    );
}
