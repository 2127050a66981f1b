//! restic repositories, formats 1 and 2, read with a reader of our own.
//!
//! rustic_core gives the backends, the key derivation and the types of the files. The reading itself is
//! ours, because a verifier needs what a backup tool does not: every file's name is compared with the
//! SHA-256 of its content, every blob with its id, damage is collected per path instead of ending the
//! restore, and nothing is cached between runs.
//!
//! | file | what it does |
//! |---|---|
//! | `store` | reads files; nothing else here touches a backend |
//! | `key` | finds the master key; bounds hostile key files |
//! | `known` | what a key tells about a repository, for those who compare two |
//! | `crypto` | decrypts and decompresses |
//! | `catalog` | config, snapshots and index: what is known before any restore |
//! | `node`, `listing`, `tree` | tree blobs to a manifest |
//! | `fetch`, `gate` | blobs from packs, in parallel and in bounded memory, each verified |
//! | `restore`, `writer` | blobs to files in a lease |
//!
//! Format: <https://github.com/restic/restic/blob/master/doc/design.rst>.

mod catalog;
mod crypto;
mod fetch;
pub(crate) mod gate;
mod key;
pub(crate) mod known;
mod listing;
#[cfg(test)]
mod mutated;
mod node;
mod pool;
mod restore;
mod store;
mod tree;
pub mod write;
pub(in crate::repository) mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::event::CopyFacts;
use firedrill_core::finding::Finding;
use firedrill_core::manifest::Manifest;
use firedrill_core::ports::{Inventory, Order, Repository, Restored};
use firedrill_core::secret::Secret;
use firedrill_core::snapshot::Snapshot;
use firedrill_core::watch::Watch;
use rustic_core::WriteBackend;

use catalog::{Catalog, Key};
use store::Store;

/// A restic repository.
pub struct Restic {
    store: Store,
    password: Secret,
    catalog: Mutex<Option<Arc<Catalog>>>,
    workers: usize,
}

impl Restic {
    /// A repository behind `backend`, opened with `password`. Nothing is read yet. The write methods
    /// of the backend are never called.
    pub fn new(backend: Arc<dyn WriteBackend>, password: Secret) -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        Self { store: Store::new(backend), password, catalog: Mutex::new(None), workers }
    }

    /// Reads packs with this many threads at a time. More than the number of cores helps where each
    /// request takes long.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    fn opened(&self) -> Result<Arc<Catalog>> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "restore").because("the repository was not listed before")
        })
    }
}

impl Repository for Restic {
    fn snapshots(&self, watch: &Watch) -> Result<Inventory> {
        let start = Instant::now();
        let opened = catalog::open(&self.store, Key::Password(&self.password), watch)?;
        let facts = CopyFacts {
            kind: "restic".to_owned(),
            repository: opened.repository.clone(),
            version: opened.version,
            snapshots: opened.snapshots.len() as u64,
            seconds: start.elapsed().as_secs_f64(),
            notes: Vec::new(),
        };
        let inventory = Inventory {
            facts,
            snapshots: opened.snapshots,
            findings: opened.findings,
            readable: opened.catalog.is_some(),
        };
        *self.catalog.lock().unwrap_or_else(PoisonError::into_inner) = opened.catalog.map(Arc::new);
        Ok(inventory)
    }

    fn manifest(&self, snapshot: &Snapshot, watch: &Watch) -> Result<(Manifest, Vec<Finding>)> {
        let catalog = self.opened()?;
        let walked = tree::walk(&self.store, &catalog, snapshot, self.workers, watch)?;
        let mut findings = walked.findings;
        findings.extend(walked.copy_findings);
        Ok((walked.manifest, findings))
    }

    fn restore(&self, orders: &[Order<'_>]) -> Vec<Result<Restored>> {
        let catalog = self.opened();
        orders
            .iter()
            .map(|order| {
                let catalog = catalog.clone()?;
                restore::restore(&self.store, &catalog, order, self.workers)
            })
            .collect()
    }
}
