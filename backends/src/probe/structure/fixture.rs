//! Builds a [`Subject`] from a folder, and dumps from real tools.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::{Kind, Manifest, NewEntry};
use firedrill_core::memory::Baseline;
use firedrill_core::plan::{Drill, DrillName, Selection};
use firedrill_core::snapshot::{CopyName, Series, Snapshot, SnapshotId};
use firedrill_core::subject::{History, Subject};
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use tempfile::TempDir;

/// Restored data, as a drill would hand it to probes.
pub(super) struct Restored {
    folder: TempDir,
}

impl Restored {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        Self { folder }
    }

    /// One file alone.
    pub(super) fn of(name: &str, content: &[u8]) -> Self {
        Self::new().with(name, content)
    }

    pub(super) fn with(self, name: &str, content: &[u8]) -> Self {
        self.put(name, content);
        self
    }

    pub(super) fn put(&self, name: &str, content: &[u8]) {
        let path = self.data().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub(super) fn subject(&self) -> Subject {
        let snapshot = snapshot();
        let series = Series::Tag("app".to_owned());
        let copy = CopyName("primary".to_owned());
        Subject {
            drill: Drill {
                name: DrillName::new(&copy, &series, "latest"),
                copy,
                series,
                target: None,
                selection: Selection::Snapshot(snapshot.clone()),
                objectives: Default::default(),
                expectations: Default::default(),
                hosts: Vec::new(),
                probes: Default::default(),
                parts: Vec::new(),
                trials: Default::default(),
                required: Vec::new(),
                seed: 1,
            },
            snapshot,
            root: self.data(),
            work: self.work(),
            manifest: Arc::new(manifest_of(&self.data())),
            history: Arc::new(History::default()),
            at: Timestamp::UNIX_EPOCH,
            watch: Watch::unlimited(),
            canary_key: None,
            lease: "lease".to_owned(),
            runtime: None,
        }
    }

    /// What all probes together say.
    pub(super) fn examine(&self) -> Report {
        examine(&self.subject())
    }

    /// The same, after a verified drill of `before`.
    pub(super) fn examine_after(&self, before: &Report) -> Report {
        let mut subject = self.subject();
        let baseline = Baseline {
            repository: "r".to_owned(),
            copy: subject.drill.copy.clone(),
            series: subject.drill.series.clone(),
            run: "run".to_owned(),
            snapshot: subject.snapshot.id.clone(),
            snapshot_time: Timestamp::UNIX_EPOCH,
            host: "h".to_owned(),
            accepted: None,
            probes: before
                .0
                .iter()
                .map(|e| (e.probe.clone(), e.baseline.clone()))
                .collect::<BTreeMap<_, _>>(),
        };
        subject.history = Arc::new(History { baseline: Some(baseline), ..History::default() });
        examine(&subject)
    }
}

/// Lists a folder.
pub(super) fn manifest_of(folder: &Path) -> Manifest {
    let mut manifest = Manifest::default();
    list(folder, folder, &mut manifest);
    manifest
}

fn snapshot() -> Snapshot {
    Snapshot {
        id: SnapshotId("00".repeat(32)),
        time: Timestamp::UNIX_EPOCH,
        host: "h".to_owned(),
        tags: vec!["app".to_owned()],
        paths: vec!["/data".to_owned()],
        tree: "00".repeat(32),
        program: String::new(),
        files: None,
        bytes: None,
    }
}

fn list(root: &Path, folder: &Path, manifest: &mut Manifest) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            manifest.push(NewEntry::bare(relative, Kind::Directory), []);
            list(root, &path, manifest);
        } else {
            // A link or a pipe is listed as the file that it pretends to be.
            let mut new = NewEntry::bare(relative, Kind::File);
            new.size = metadata.len();
            manifest.push(new, []);
        }
    }
}

pub(super) fn examine(subject: &Subject) -> Report {
    let probes = super::all();
    Report(
        probes.iter().filter(|probe| probe.recognises(subject)).map(|probe| probe.examine(subject)).collect(),
    )
}

/// What all probes that recognised something said.
#[derive(Debug)]
pub(super) struct Report(pub(super) Vec<Examination>);

impl Report {
    pub(super) fn findings(&self) -> Vec<&Finding> {
        self.0.iter().flat_map(|examination| &examination.findings).collect()
    }

    pub(super) fn codes(&self) -> Vec<&str> {
        self.findings().iter().map(|finding| finding.code.as_str()).collect()
    }

    pub(super) fn has(&self, code: &str) -> bool {
        self.codes().contains(&code)
    }

    pub(super) fn interrupted(&self) -> Option<&str> {
        self.0.iter().find_map(|examination| examination.interrupted.as_deref())
    }

    pub(super) fn notes(&self) -> String {
        self.0.iter().flat_map(|e| &e.notes).cloned().collect::<Vec<_>>().join("\n")
    }

    /// Asserts that something was examined and that all of it is in order.
    #[track_caller]
    pub(super) fn must_be_clean(&self) -> &Self {
        assert!(self.interrupted().is_none() && self.findings().is_empty(), "{self:#?}");
        assert!(self.0.iter().map(|e| e.checked).sum::<u64>() > 0, "nothing was examined: {self:#?}");
        self
    }

    /// Whether a judge could take this for a proof.
    pub(super) fn looks_green(&self) -> bool {
        self.findings().is_empty() && self.interrupted().is_none()
    }

    #[track_caller]
    pub(super) fn must_find(&self, code: &str) -> &Self {
        assert!(self.has(code), "{code} is not among {self:#?}");
        self
    }
}

pub(crate) use firedrill_testing::have;

/// Runs a command and returns its output.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Pipes `input` through a command.
#[track_caller]
pub(super) fn pipe(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("in");
    std::fs::write(&path, input).unwrap();
    let output = command.stdin(std::fs::File::open(path).unwrap()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A server that dies with the test.
pub(super) struct Server(pub(super) Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _already_dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Waits until `ready` says so.
pub(super) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{what} did not become ready");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Pseudo-random numbers from a seed (splitmix64).
pub(super) struct Seeded(pub(super) u64);

impl Seeded {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(super) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| u8::try_from(self.next() >> 56).unwrap()).collect()
    }
}

/// Cuts `content` at `times` seeded places and at each of its last 40 bytes. A cut file must never look
/// green, unless `harmless` says why it may.
#[track_caller]
pub(super) fn cut_everywhere(name: &str, content: &[u8], times: usize, harmless: impl Fn(usize) -> bool) {
    let mut seeded = Seeded(0xC07 ^ content.len() as u64);
    let near_the_end = content.len().saturating_sub(40)..content.len();
    let places = (0..times).map(|_| seeded.below(content.len())).chain(near_the_end);
    let restored = Restored::new();
    for length in places {
        restored.put(name, &content[..length]);
        let report = restored.examine();
        assert!(
            !report.looks_green() || harmless(length),
            "{name} cut at {length} of {} looks green: {report:#?}",
            content.len()
        );
    }
}

/// Flips one bit at `times` seeded places inside `range`; each must be found.
#[track_caller]
pub(super) fn flip_everywhere(name: &str, content: &[u8], times: usize, range: std::ops::Range<usize>) {
    let mut seeded = Seeded(0xF11 ^ content.len() as u64);
    let restored = Restored::new();
    for _ in 0..times {
        let place = range.start + seeded.below(range.len());
        let mut damaged = content.to_vec();
        damaged[place] ^= 1 << seeded.below(8);
        restored.put(name, &damaged);
        let report = restored.examine();
        assert!(!report.looks_green(), "{name} with a flipped bit in byte {place} looks green: {report:#?}");
    }
}

/// Overwrites a few seeded bytes, again and again. Whatever comes of it, no parser may panic or hang.
pub(super) fn mutate_everywhere(name: &str, content: &[u8], times: usize) {
    let mut seeded = Seeded(0x1407 ^ content.len() as u64);
    let restored = Restored::new();
    let begin = Instant::now();
    for _ in 0..times {
        let mut damaged = content.to_vec();
        for _ in 0..1 + seeded.below(6) {
            let place = seeded.below(damaged.len());
            damaged[place] = seeded.bytes(1)[0];
        }
        restored.put(name, &damaged);
        let _any_report_will_do = restored.examine();
    }
    assert!(begin.elapsed() < Duration::from_secs(120), "{name} keeps a parser busy for too long");
}
