//! What a probe may look at.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::cell::Runtime;
use crate::manifest::Manifest;
use crate::memory::Baseline;
use crate::plan::Drill;
use crate::secret::Secret;
use crate::snapshot::Snapshot;
use crate::watch::Watch;

/// An earlier snapshot of the same series, with its manifest when it could be read.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What it holds; `Err` says why that could not be read.
    pub manifest: Result<Arc<Manifest>, String>,
}

/// What is known about the past of a series.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All snapshots of the series in this copy, oldest first, the restored one included.
    pub series: Vec<Snapshot>,
    /// Manifests of the snapshots just before the restored one, newest first; bounded by
    /// `ShapeSettings::history`.
    pub earlier: Vec<Earlier>,
    /// What the last verified (or accepted) drill of this series in this copy left behind.
    pub baseline: Option<Baseline>,
    /// Why there is no baseline, when one was expected.
    pub baseline_note: Option<String>,
}

/// Restored data and everything that is known about it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The drill.
    pub drill: Drill,
    /// The snapshot that was restored.
    pub snapshot: Snapshot,
    /// The folder that the snapshot's root was restored to. A probe may read below it and must not
    /// change anything there; what it needs to write goes to [`Subject::work`].
    pub root: PathBuf,
    /// An empty folder in the same lease where probes may write copies. Each probe makes a folder of
    /// its own in it and removes it again.
    pub work: PathBuf,
    /// What the snapshot says it holds.
    pub manifest: Arc<Manifest>,
    /// The past.
    pub history: Arc<History>,
    /// The moment against which ages are measured.
    pub at: Timestamp,
    /// Time limit and stop signal; long loops ask it and interrupt their examination.
    pub watch: Watch,
    /// The key that authenticates canaries, if one is known.
    pub canary_key: Option<Secret>,
    /// The id of the lease, which labels what is started for it.
    pub lease: String,
    /// Where restored software runs; `None` when it must not.
    pub runtime: Option<Arc<dyn Runtime>>,
}

impl Subject {
    /// Finds the entry paths that `path` from a config means: the path as backed up (absolute), or
    /// below any path that the snapshot was made of.
    pub fn meant_by(&self, path: &str) -> Vec<Vec<u8>> {
        let trimmed = path.trim_end_matches('/');
        if let Some(absolute) = trimmed.strip_prefix('/') {
            return vec![absolute.as_bytes().to_vec()];
        }
        let mut meant = vec![trimmed.as_bytes().to_vec()];
        // In a group a path begins with the name of its part.
        let part = self.drill.parts.iter().find_map(|part| {
            let rest = trimmed.strip_prefix(part.target.as_str())?.strip_prefix('/')?;
            Some((part, rest))
        });
        if let Some((part, rest)) = part {
            for base in part.selection.snapshot().into_iter().flat_map(Snapshot::known_paths) {
                let base = base.trim_matches('/');
                if !base.is_empty() {
                    meant.push(format!("{}/{base}/{rest}", part.target).into_bytes());
                }
            }
        }
        for base in self.snapshot.known_paths() {
            let base = base.trim_matches('/');
            if !base.is_empty() {
                meant.push(format!("{base}/{trimmed}").into_bytes());
            }
        }
        meant
    }
}
