//! The traits that adapters implement. All of them block, and are called on threads where blocking is
//! allowed, inside a tokio runtime (an adapter that is async at heart uses `Handle::current()`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::event::CopyFacts;
use crate::evidence::Record;
use crate::finding::{Examination, FINDINGS_MAX, Finding};
use crate::judge::Judgement;
use crate::manifest::Manifest;
use crate::plan::DrillName;
use crate::progress::Progress;
use crate::snapshot::Snapshot;
use crate::subject::Subject;
use crate::watch::Watch;

/// What a repository holds.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// What is known of the repository itself.
    pub facts: CopyFacts,
    /// Every snapshot that could be read, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// What is wrong with the repository as a whole, for example a damaged snapshot or index file.
    pub findings: Vec<Finding>,
    /// Whether the list of snapshots can be believed. `false` when damage (no key, no config) keeps
    /// everybody from reading it: then nobody knows what the repository holds.
    pub readable: bool,
}

/// One snapshot to restore, and where to.
#[derive(Clone)]
pub struct Order<'a> {
    /// The drill, for naming.
    pub drill: &'a DrillName,
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// The place. The root of the snapshot becomes [`Lease::data`].
    pub lease: &'a Lease,
    /// At most this many bytes may be written.
    pub bytes_max: Option<u64>,
    /// Counts bytes.
    pub progress: Arc<Progress>,
    /// Time limit and stop signal.
    pub watch: Watch,
}

/// What came of an [`Order`].
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// What the snapshot says it holds (as far as its trees could be read).
    pub manifest: Arc<Manifest>,
    /// Regular files written completely.
    pub files: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// Bytes read from the repository.
    pub bytes_read: u64,
    /// What was not made in scratch on purpose, in words.
    pub withheld: Vec<String>,
    /// What the repository could not give back: damage, with the path it hits.
    pub findings: Vec<Finding>,
    /// How many further findings were not kept.
    pub findings_omitted: u64,
    /// Damage of the repository that the restored data did not need.
    pub copy_findings: Vec<Finding>,
    /// Time to find the snapshot and read its trees.
    pub locate: Duration,
    /// Time to read, decrypt and decompress.
    pub fetch: Duration,
    /// Time to write.
    pub write: Duration,
}

impl Restored {
    /// Adds what came of another order, whose root is `folder` here. Manifests are joined by the caller.
    pub(crate) fn add(&mut self, folder: &str, other: Self) {
        let located = |finding: Finding| {
            let location = format!("{folder}/{}", finding.location.trim_start_matches('/'));
            Finding { location, ..finding }
        };
        self.files += other.files;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.bytes_read = self.bytes_read.saturating_add(other.bytes_read);
        self.withheld.extend(other.withheld.into_iter().map(|what| format!("{folder}: {what}")));
        self.findings.extend(other.findings.into_iter().map(located));
        self.findings_omitted += other.findings_omitted;
        let more = self.findings.len().saturating_sub(FINDINGS_MAX);
        self.findings.truncate(FINDINGS_MAX);
        self.findings_omitted += more as u64;
        self.copy_findings.extend(other.copy_findings);
        self.locate += other.locate;
        self.fetch += other.fetch;
        self.write += other.write;
    }
}

/// A repository that can be read. It has **no write and no delete method**, takes no lock, and keeps no
/// cache: a restore test cannot harm a backup even by mistake, and never passes on cached data.
pub trait Repository: Send + Sync {
    /// Opens and lists the repository. Damage goes into `Inventory::findings`; `Err` means that
    /// nothing can be said. May be called twice.
    fn snapshots(&self, watch: &Watch) -> Result<Inventory>;

    /// What `snapshot` holds, as far as its trees can be read, and what is wrong with them.
    fn manifest(&self, snapshot: &Snapshot, watch: &Watch) -> Result<(Manifest, Vec<Finding>)>;

    /// Restores every order, each into its own lease; one result per order, in the same order. An
    /// adapter may read shared data once for all of them. `Err` means that we or the infrastructure
    /// failed; damage of the backup is in `Restored::findings`, with everything else restored.
    fn restore(&self, orders: &[Order<'_>]) -> Vec<Result<Restored>>;
}

/// Gives a place back: with `true` it is kept, and its whereabouts are returned.
type Release = Box<dyn FnOnce(bool) -> Result<Option<String>> + Send + Sync>;

/// A place that one drill may write to, until it is released or expires. A lease is the only thing that
/// one can restore into or inject a fault into.
pub struct Lease {
    id: String,
    data: std::path::PathBuf,
    work: std::path::PathBuf,
    release: Option<Release>,
}

impl Lease {
    /// A lease on `data` (restored content) and `work` (probes' copies). `release` is called once with
    /// whether to keep the place, and returns where it was kept.
    pub fn new(
        id: String,
        data: std::path::PathBuf,
        work: std::path::PathBuf,
        release: impl FnOnce(bool) -> Result<Option<String>> + Send + Sync + 'static,
    ) -> Self {
        Self { id, data, work, release: Some(Box::new(release)) }
    }

    /// The id, unique per scratch.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where restored content goes.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where probes may write.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Gives the place back; with `keep` it stays and its whereabouts are returned.
    pub fn release(mut self, keep: bool) -> Result<Option<String>> {
        match self.release.take() {
            Some(release) => release(keep),
            None => Ok(None),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(release) = self.release.take()
            && let Err(error) = release(false)
        {
            tracing::warn!(lease = %self.id, "{}", error.chain());
        }
    }
}

/// What a lease is for.
#[derive(Clone, Debug)]
pub struct LeaseRequest<'a> {
    /// The run.
    pub run: &'a str,
    /// The drill.
    pub drill: &'a DrillName,
    /// How long the lease is needed at most; `sweep` may take it back afterwards.
    pub lifetime: Duration,
    /// Bytes that will probably be written, if known.
    pub bytes: Option<u64>,
}

/// What `sweep` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Leases that were removed.
    pub removed: Vec<String>,
    /// Leases that are still in use, with the reason to think so.
    pub in_use: Vec<String>,
    /// Things that look like leases and could not be removed, with the reason.
    pub failed: Vec<String>,
}

/// Where drills take place.
pub trait Scratch: Send + Sync {
    /// Makes a place for one drill.
    fn provision(&self, request: &LeaseRequest<'_>) -> Result<Lease>;

    /// Removes what dead runs left behind. Idempotent. Never touches what carries no label of ours.
    fn sweep(&self) -> Result<Swept>;
}

/// Examines restored data. Each probe's module documentation lists *Verified* and *Not verified*.
pub trait Probe: Send + Sync {
    /// A short name, unique, lower case.
    fn name(&self) -> &'static str;

    /// Whether there is something in the restored data for this probe (by magic bytes, names or
    /// expectations). Looks at little.
    fn recognises(&self, subject: &Subject) -> bool;

    /// Examines. Never fails: what keeps it from looking interrupts the examination. May panic on
    /// hostile data; the caller turns that into an interruption.
    fn examine(&self, subject: &Subject) -> Examination;
}

/// Shows or ships what happened. One failing sink never stops another.
pub trait Sink: Send {
    /// A short name for messages.
    fn name(&self) -> String;

    /// Checks before the run that the sink will work (the folder is writable, the URL is one).
    fn preflight(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes one record, while the run goes on.
    fn accept(&mut self, _record: &Record) {}

    /// Takes the verdicts.
    fn finish(&mut self, judgement: &Judgement) -> Result<()>;
}
