//! Mirrors: a copy that is filled from another, and how far it is behind.
//!
//! | file | what it does |
//! |---|---|
//! | `identical` | the same files, byte for byte, without a key |
//! | `dropped` | what the source dropped goes from an identical copy, unless the source lost it |
//! | `reencrypted` | the same snapshots, with the keys of the other repository |
//! | `objects` | the same plain objects |
//! | `lag` | what is missing, and how old it is |
//! | `end`, `flow` | files that are read and proven; how much happens at a time |

mod dropped;
mod end;
mod flow;
mod identical;
mod lag;
mod objects;
mod reencrypted;

use std::sync::Arc;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::job::{Facts, JobReport, MirrorFacts};
use firedrill_core::progress::Progress;
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use rustic_core::WriteBackend;

use crate::repository::location::{Access, Location};

pub use flow::Throttle;
pub use identical::identical;
pub use lag::lag;
pub use objects::mirror_objects;
pub use reencrypted::reencrypted;

/// A repository at one end of a mirror.
#[derive(Clone, Debug)]
pub struct Side {
    /// Where it is.
    pub location: Location,
    /// How it is reached.
    pub access: Access,
    /// What opens it, if that is known.
    pub password: Option<Secret>,
}

impl Side {
    /// Opens it for reading.
    pub fn open(&self) -> Result<Arc<dyn WriteBackend>> {
        self.location.open(&self.access)
    }

    /// Opens it for writing, whether or not there is a repository; but not in a folder that holds something else.
    pub fn open_writable(&self) -> Result<Arc<dyn WriteBackend>> {
        if let Location::Local(folder) = &self.location
            && holds_something_else(folder)
        {
            return Err(Error::new(ErrorKind::Usage, format!("fill {}", self.location))
                .because("the folder holds something that is no repository")
                .advise("give the mirror a folder of its own"));
        }
        self.location.open_writable(&self.access)
    }
}

/// Whether there is something in the folder, and nothing of a repository.
fn holds_something_else(folder: &std::path::Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let ours = ["config", "data", "index", "keys", "snapshots", "locks", "lost+found"];
    let mut others = false;
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| ours.contains(&name)) {
            return false;
        }
        others = true;
    }
    others
}

/// How a copy is filled from another.
#[derive(Clone, Debug)]
pub struct MirrorRequest {
    /// Whether what the source has dropped is dropped here as well.
    pub delete: bool,
    /// At most so many bytes in a second, all transfers together.
    pub bandwidth: Option<u64>,
    /// Transfers at a time.
    pub workers: usize,
    /// Whether packs are read back after they were written; smaller files always are. A server proves what it is
    /// sent by its hash, and reading back from it costs.
    pub read_back: bool,
    /// Nothing is deleted when the source has fewer snapshots than this share of those in the copy.
    pub keep_ratio_min: f64,
    /// What opens an identical copy. With it, deleting goes by what the index says.
    pub password: Option<Secret>,
}

impl Default for MirrorRequest {
    fn default() -> Self {
        Self {
            delete: false,
            bandwidth: None,
            workers: 4,
            read_back: true,
            keep_ratio_min: 0.5,
            password: None,
        }
    }
}

impl MirrorRequest {
    /// What suits these two ends.
    #[must_use]
    pub fn between(source: &Side, copy: &Side) -> Self {
        let local = |side: &Side| matches!(side.location, Location::Local(_));
        let remote = !(local(source) && local(copy));
        Self {
            workers: if remote { 4 } else { 2 },
            read_back: local(copy),
            password: copy.password.clone().or_else(|| source.password.clone()),
            ..Self::default()
        }
    }
}

/// What a run did, also when it failed.
#[derive(Clone, Debug, Default)]
pub struct Mirrored {
    /// In numbers.
    pub facts: MirrorFacts,
    /// Worth knowing.
    pub notes: Vec<String>,
    /// Why not everything was done.
    pub error: Option<Error>,
}

impl Mirrored {
    /// The same as the report of a job: a run that copied something and did not end well is incomplete.
    pub fn into_report(self) -> JobReport {
        let did_something = self.facts.files_copied > 0 || self.facts.files_deleted > 0;
        let facts = Facts::Mirror(self.facts);
        let mut report = match self.error {
            None => JobReport::succeeded(facts),
            Some(error) if matches!(error.kind, ErrorKind::Timeout | ErrorKind::Cancelled) => {
                JobReport { facts, ..JobReport::failed(error) }
            }
            Some(error) if did_something => JobReport::incomplete(error, facts),
            Some(error) => JobReport { facts, ..JobReport::failed(error) },
        };
        report.notes = self.notes;
        report
    }
}

/// Fills the repository at `copy` from that at `source`: the same files. The caller holds a shared lock on the
/// source and an exclusive one on the copy.
pub fn mirror_identical(
    source: &Side,
    copy: &Side,
    request: &MirrorRequest,
    progress: &Progress,
    watch: &Watch,
) -> Mirrored {
    let opened = source.open().and_then(|from| Ok((from, copy.open_writable()?)));
    match opened {
        Ok((from, to)) => identical(&from, &to, request, progress, watch),
        Err(error) => Mirrored { error: Some(error), ..Mirrored::default() },
    }
}
