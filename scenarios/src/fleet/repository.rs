//! A restic repository in a local folder, written by rustic_core: for tests, the demo and scenarios.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use firedrill_core::secret::Secret;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustic_backend::LocalBackend;
use rustic_core::repofile::{ConfigFile, MasterKey};
use rustic_core::{
    BackupOptions, Credentials, Id, KeyOptions, OpenStatus, Repository, RepositoryBackends,
    RepositoryOptions, SnapshotOptions, WriteBackend,
};

use super::source::RootedSource;

/// An irreducible polynomial for the chunker, the one of restic's own documentation. A real repository has
/// a random one, which makes chunk lengths tell nothing about content; here the same chunks every time
/// are better.
const POLYNOMIAL: &str = "25b468838dcb75";

/// A repository whose master key is known, so that deriving a key from the password, which takes a
/// second on purpose, is done once.
#[derive(Clone, Debug)]
pub struct TestRepository {
    path: PathBuf,
    password: Secret,
    key: MasterKey,
}

/// What one run of a backup job stores.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The folder that stands for `/`: everything below it is stored, except for the excludes.
    pub root: &'a Path,
    /// The paths that the snapshot claims to hold.
    pub paths: &'a [&'a str],
    /// Names that are left out, as globs.
    pub excludes: &'a [&'a str],
    /// Its tags.
    pub tags: &'a [&'a str],
    /// Its host name.
    pub host: &'a str,
    /// Its time.
    pub time: Timestamp,
}

impl TestRepository {
    /// Makes a repository of the current format in the missing or empty folder `path`.
    pub fn init(path: &Path, password: &Secret) -> Result<Self> {
        Self::init_with_version(path, password, 2)
    }

    /// Makes a repository of format `version`: 1 is without compression.
    pub fn init_with_version(path: &Path, password: &Secret, version: u32) -> Result<Self> {
        // rustic_core makes the current format only, but takes a config that is made elsewhere.
        let config: ConfigFile = serde_json::from_value(serde_json::json!({
            "version": version,
            "id": Id::random().to_hex().to_string(),
            "chunker_polynomial": POLYNOMIAL,
        }))?;
        let opened = Repository::new(&RepositoryOptions::default(), &backends(path)?)?
            .init_with_config(&credentials(password), &KeyOptions::default(), config)
            .with_context(|| format!("initialise {}", path.display()))?;
        Ok(Self { path: path.to_owned(), password: password.clone(), key: opened.key() })
    }

    /// Opens a repository that is there.
    pub fn open(path: &Path, password: &Secret) -> Result<Self> {
        let opened = Repository::new(&RepositoryOptions::default(), &backends(path)?)?
            .open(&credentials(password))
            .with_context(|| format!("open {}", path.display()))?;
        Ok(Self { path: path.to_owned(), password: password.clone(), key: opened.key() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its password.
    pub fn password(&self) -> &Secret {
        &self.password
    }

    /// Its files.
    pub fn backend(&self) -> Result<Arc<dyn WriteBackend>> {
        Ok(backends(&self.path)?.repository())
    }

    /// Copies all of its files to the missing folder `path`: what is broken there stays whole here.
    pub fn copy_to(&self, path: &Path) -> Result<Self> {
        copy_repository(&self.path, path)?;
        Ok(Self { path: path.to_owned(), ..self.clone() })
    }

    /// Backs up; returns the id of the snapshot.
    pub fn snapshot(&self, job: &Job<'_>) -> Result<String> {
        let tags = job.tags.join(",");
        let snapshot = SnapshotOptions::default()
            .host(job.host.to_owned())
            .time(job.time.to_zoned(TimeZone::UTC))
            .command(String::new())
            .add_tags(&tags)?
            .to_snapshot()?;
        let source = RootedSource::new(job.root, job.excludes)?;
        let paths: Vec<PathBuf> = job.paths.iter().map(PathBuf::from).collect();
        let options = BackupOptions::default().no_scan(true);
        let stored = self.unlocked()?.to_indexed_ids()?.archive(&options, &source, snapshot, &paths)?;
        Ok(stored.id.to_hex().to_string())
    }

    /// Adds two snapshots, tagged `twins`, whose data packs have the same size and layout. Damage that
    /// swaps packs needs such a pair, and a fleet seldom grows one by itself. `work` is a scratch folder.
    pub fn plant_twins(&self, work: &Path, time: Timestamp, seed: u64) -> Result<()> {
        use rand::{Rng as _, SeedableRng as _};
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let file = work.join("backup/twins/twin.bin");
        std::fs::create_dir_all(work.join("backup/twins"))?;
        for later in 0..2 {
            // Noise does not compress, so that both are stored in the same number of bytes.
            let mut content = vec![0; 64 << 10];
            rng.fill_bytes(&mut content);
            std::fs::write(&file, content)?;
            let time = time.checked_add(jiff::SignedDuration::from_hours(later))?;
            super::stage::set_time(&file, time)?;
            self.snapshot(&Job {
                root: work,
                paths: &["/backup/twins"],
                excludes: &[],
                tags: &["twins"],
                host: "twins",
                time,
            })?;
        }
        Ok(())
    }

    /// The repository, opened with its master key.
    pub(crate) fn unlocked(&self) -> Result<Repository<OpenStatus>> {
        Ok(Repository::new(&RepositoryOptions::default(), &backends(&self.path)?)?
            .open(&Credentials::Masterkey(self.key.clone()))?)
    }
}

/// Copies all files of the repository at `from` to the missing folder `to`.
pub fn copy_repository(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to).with_context(|| format!("make {}", to.display()))?;
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(from.join(&folder))? {
            let entry = entry?;
            let relative = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                std::fs::create_dir(to.join(&relative))?;
                folders.push(relative);
            } else {
                std::fs::copy(entry.path(), to.join(&relative))
                    .with_context(|| format!("copy {}", entry.path().display()))?;
            }
        }
    }
    Ok(())
}

fn backends(path: &Path) -> Result<RepositoryBackends> {
    let text = path.to_str().with_context(|| format!("{} is not valid UTF-8", path.display()))?;
    Ok(RepositoryBackends::new(Arc::new(LocalBackend::new(text, [])?), None))
}

fn credentials(password: &Secret) -> Credentials {
    Credentials::password(password.reveal())
}
