//! What the probe leaves in a baseline, and reads back from one. Bounded: under 32 KiB.

use std::collections::BTreeMap;

use firedrill_core::finding::Examination;
use firedrill_core::snapshot::SnapshotId;
use firedrill_core::subject::Subject;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::disguise::Looks;
use super::view::{Amount, Folder, Summary, View, located};

/// At most this many extensions, folders, files and dumps are kept.
const KINDS_MAX: usize = 50;
const FOLDERS_MAX: usize = 200;
const NOTABLE_MAX: usize = 60;
const PATHS_MAX: usize = 50;
/// All paths of one list together take at most this many bytes.
const LIST_BYTES_MAX: usize = 6 << 10;

/// The part of a baseline that is the shape's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) kinds: BTreeMap<String, (u64, u64)>,
    /// Depth, files and bytes by path.
    pub(super) folders: BTreeMap<String, (u8, u64, u64)>,
    pub(super) notable: BTreeMap<String, u64>,
    pub(super) dumps: BTreeMap<String, u64>,
    pub(super) looks: Looks,
    /// Backed-up paths that are folders.
    pub(super) paths: Vec<String>,
    /// How many snapshots of the series were by the same host.
    pub(super) host_seen: u64,
    /// How many snapshots the series had.
    pub(super) snapshots: u64,
    /// The newest snapshot of the series.
    pub(super) newest: Option<SnapshotId>,
}

impl Stored {
    /// What the last verified drill left, unless its snapshot is newer than the one that is examined.
    pub(super) fn of_baseline(subject: &Subject, examination: &mut Examination) -> Option<Self> {
        let baseline = subject.history.baseline.as_ref()?;
        let kept = baseline.probes.get(super::NAME)?;
        let read: Result<Self, _> = read(kept);
        match read {
            Ok(stored) => Some(stored),
            Err(why) => {
                examination
                    .not_verified
                    .push(format!("the comparison with the baseline of run {}: {why}", baseline.run));
                None
            }
        }
    }

    pub(super) fn of_now(subject: &Subject, now: &View<'_>, looks: Looks) -> Self {
        let sum = &now.summary;
        let series = &subject.history.series;
        let host_seen = series.iter().filter(|s| s.host == subject.snapshot.host).count() as u64;
        let is_file = |path: &String| now.file(&located(now, path)).is_some();
        let paths = subject.snapshot.known_paths().filter(|p| !is_file(p));
        Self {
            files: sum.total.files,
            bytes: sum.total.bytes,
            kinds: most(&sum.kinds, KINDS_MAX, |a| a.files)
                .map(|(kind, a)| (kind.clone(), (a.files, a.bytes)))
                .collect(),
            // The upper levels first: they say most.
            folders: most(&sum.folders, FOLDERS_MAX, |f| (2 - f.depth.min(2), f.amount.files))
                .map(|(path, f)| (path.clone(), (f.depth, f.amount.files, f.amount.bytes)))
                .collect(),
            notable: most(&sum.notable, NOTABLE_MAX, |size| *size).map(|(p, s)| (p.clone(), *s)).collect(),
            dumps: most(&sum.dumps, NOTABLE_MAX, |size| *size).map(|(p, s)| (p.clone(), *s)).collect(),
            looks,
            paths: paths.filter(|p| p.len() < 200).take(PATHS_MAX).cloned().collect(),
            host_seen,
            snapshots: series.len() as u64,
            newest: series.last().map(|s| s.id.clone()),
        }
    }

    pub(super) fn into_map(self) -> BTreeMap<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map.into_iter().collect(),
            _ => BTreeMap::new(),
        }
    }

    /// The counts, as if they came from a manifest.
    pub(super) fn summary(&self) -> Summary {
        let amount = |files, bytes| Amount { files, bytes };
        Summary {
            total: amount(self.files, self.bytes),
            kinds: self.kinds.iter().map(|(k, (f, b))| (k.clone(), amount(*f, *b))).collect(),
            folders: self
                .folders
                .iter()
                .map(|(p, (depth, f, b))| (p.clone(), Folder { depth: *depth, amount: amount(*f, *b) }))
                .collect(),
            notable: self.notable.clone(),
            dumps: self.dumps.clone(),
        }
    }
}

fn read<T: DeserializeOwned>(kept: &BTreeMap<String, Value>) -> serde_json::Result<T> {
    serde_json::from_value(Value::Object(kept.clone().into_iter().collect()))
}

/// The `max` largest, as long as their paths together stay short.
fn most<V, K: Ord>(
    all: &BTreeMap<String, V>,
    max: usize,
    key: impl Fn(&V) -> K,
) -> impl Iterator<Item = (&String, &V)> {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by(|a, b| key(b.1).cmp(&key(a.1)).then_with(|| a.0.cmp(b.0)));
    let mut bytes = 0;
    sorted.into_iter().take(max).filter(move |(path, _)| {
        bytes += path.len() + 24;
        bytes <= LIST_BYTES_MAX
    })
}
