//! Writing to restic repositories: backups, retention, and the locks that both need beside a restic.
//!
//! The files are restic's own, so that restic checks, restores and builds upon what is written here, and the other
//! way round. rustic_core's writer was weighed and left: it goes on without files that it could not read and saves
//! the snapshot all the same, stores a size of zero for streams and the size of before for files that change,
//! loses the attributes of the folders that lead to a source, takes no locks, and panics on damage.
//!
//! | file | what it does |
//! |---|---|
//! | `files` | writes and removes files; nothing else here touches a backend |
//! | `lock` | restic's locks |
//! | `backup`, `archive`, `disk`, `source`, `exclude`, `left_out`, `parent` | backups |
//! | `node`, `chunk`, `pack`, `saver` | entries, chunks, packs and the index |
//! | `forget`, `prune` | retention |
//! | `copy` | snapshots of another repository |
//! | `check` | whether the repository is whole |
//! | `people` | names of users, groups and this host |

mod archive;
mod backup;
mod check;
mod chunk;
mod copy;
mod disk;
mod exclude;
mod files;
mod forget;
mod keyfile;
mod left_out;
mod lock;
mod node;
mod pack;
mod parent;
mod people;
mod prune;
mod saver;
mod source;

use std::sync::Arc;

use bytes::Bytes;
use firedrill_core::clock::{Clock, SystemClock};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::finding::Finding;
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use rustic_core::repofile::{ConfigFile, MasterKey};
use rustic_core::{
    BytesList, ConfigOptions, Credentials, FileType, KeyOptions, Repository, RepositoryBackends,
    RepositoryOptions, WriteBackend,
};

use super::key;
use super::store::Store;
use crate::repository::error::to_error;
use crate::repository::location::{Access, Location};
use crate::repository::locks::LockFolder;

pub use backup::{BackupRequest, BackupSummary, Counts, Outcome, ParentChoice, Unread};
pub use check::Checked;
pub use copy::{Copied, CopySource};
pub use forget::{ForgetRequest, Forgotten};
pub use left_out::LeftOut;
pub use lock::{Lock, LockOptions};
pub use prune::{PruneRequest, Pruned};
pub use saver::Compression;
pub use source::{Opener, Source};

use files::Files;
use lock::Locks;
use people::{Accounts, Myself};

/// A pack is written at this size, as restic does.
const PACK_SIZE: usize = 16 << 20;

/// How a repository is written to.
#[derive(Clone)]
pub struct WriterOptions {
    /// How locks are taken.
    pub lock: LockOptions,
    /// Threads that compress, encrypt and write.
    pub workers: usize,
    /// Bytes after which a pack is written.
    pub pack_size: usize,
    /// Tells the time of snapshots. Locks go by the clock of the machine, since others look at theirs.
    pub clock: Arc<dyn Clock>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
        Self { lock: LockOptions::default(), workers, pack_size: PACK_SIZE, clock: Arc::new(SystemClock) }
    }
}

/// A repository that is written to.
pub struct Writer {
    store: Arc<Store>,
    files: Files,
    password: Secret,
    /// What is wrong with the key files, although one of them opened the repository.
    key_findings: Vec<Finding>,
    polynomial: u64,
    locks: Locks,
    accounts: Accounts,
    me: Myself,
    clock: Arc<dyn Clock>,
    workers: usize,
    pack_size: usize,
    repository: String,
}

impl Writer {
    /// Opens the repository at `location`.
    pub fn open(
        location: &Location,
        access: &Access,
        password: &Secret,
        options: WriterOptions,
        watch: &Watch,
    ) -> Result<Self> {
        let access = &access.watched(watch);
        // Opened for reading first: that tells whether there is a repository, and why not.
        location.open(access)?;
        let locks = location.open_locks(access)?;
        Self::on(location.open_writable(access)?, locks, password, options, watch)
    }

    /// Makes a repository of format 2 at `location`, where there must be none.
    pub fn init(
        location: &Location,
        access: &Access,
        password: &Secret,
        options: WriterOptions,
        watch: &Watch,
    ) -> Result<Self> {
        let failed = || Error::new(ErrorKind::Usage, format!("make a repository at {location}"));
        if password.reveal().is_empty() {
            return Err(failed().because("the password is empty"));
        }
        let access = &access.watched(watch);
        match location.open(access) {
            Ok(_) => return Err(failed().because("there is one already")),
            Err(error) if error.kind == ErrorKind::NoRepository => {}
            Err(error) => return Err(error),
        }
        if let Location::Local(folder) = location
            && std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
        {
            return Err(failed().because("the folder is not empty"));
        }
        let backend = location.open_writable(access)?;
        let backends = RepositoryBackends::new(Arc::clone(&backend), None);
        let failed =
            |error| to_error(ErrorKind::Unavailable, format!("make a repository at {location}"), &error);
        backend.create().map_err(|error| failed(*error))?;
        // The key first: whatever is sealed with it can be opened from then on.
        let master = MasterKey::new();
        let key = keyfile::seal(&master, password, &Accounts::load().myself(), options.clock.now())?;
        let id = files::id_of(&key)?;
        let written = backend.write_bytes(FileType::Key, &id, false, BytesList::from(Bytes::from(key)));
        written.map_err(|error| failed(*error))?;
        Repository::new(&RepositoryOptions::default(), &backends)
            .and_then(|new| {
                new.init(&Credentials::Masterkey(master), &KeyOptions::default(), &ConfigOptions::default())
            })
            .map_err(|error| failed(*error))?;
        Self::on(backend, location.open_locks(access)?, password, options, watch)
    }

    fn on(
        backend: Arc<dyn WriteBackend>,
        locks: Arc<dyn LockFolder>,
        password: &Secret,
        options: WriterOptions,
        watch: &Watch,
    ) -> Result<Self> {
        let failed = || Error::new(ErrorKind::Unavailable, "open the repository for writing");
        let store = Arc::new(Store::new(Arc::clone(&backend)));
        let unlocked = key::unlock(&store, password, watch)?;
        let cipher = unlocked.cipher.ok_or_else(|| {
            unlocked
                .findings
                .iter()
                .fold(failed(), |error, f| error.because(format!("{}: {}", f.location, f.seen)))
        })?;
        let config = store
            .read_config()?
            .and_then(|bytes| cipher.decrypt(&bytes))
            .and_then(|plain| serde_json::from_slice::<ConfigFile>(&plain).map_err(|e| e.to_string()))
            .map_err(|why| failed().because(format!("its config cannot be read: {why}")))?;
        if !(1..=2).contains(&config.version) {
            return Err(failed().because(format!("it has format version {}", config.version)));
        }
        let polynomial = config.poly().ok().filter(|poly| (1 << 53..1 << 54).contains(poly));
        let polynomial =
            polynomial.ok_or_else(|| failed().because("its config has an impossible chunker polynomial"))?;
        if config.append_only == Some(true) || config.is_hot == Some(true) {
            return Err(failed().because("its config forbids it (append-only, or the hot part of a pair)"));
        }
        let files = Files::new(backend, cipher, config.version);
        let accounts = Accounts::load();
        let me = accounts.myself();
        Ok(Self {
            locks: Locks {
                folder: locks,
                files: files.clone(),
                clock: Arc::new(SystemClock),
                me: me.clone(),
                options: options.lock,
            },
            store,
            files,
            password: password.clone(),
            key_findings: unlocked.findings,
            polynomial,
            accounts,
            me,
            clock: options.clock,
            workers: options.workers.max(1),
            pack_size: options.pack_size.max(1),
            repository: config.id.to_hex().as_str().to_owned(),
        })
    }

    /// The id of the repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Takes a shared lock: others may add meanwhile, and nobody may remove.
    pub fn lock_shared(&self, watch: &Watch) -> Result<Lock> {
        self.locks.take(false, watch)
    }

    /// Takes an exclusive lock: nobody else may do anything meanwhile.
    pub fn lock_exclusive(&self, watch: &Watch) -> Result<Lock> {
        self.locks.take(true, watch)
    }
}
