//! A fleet to back up: seven targets like those of a small cluster that keeps everything in one restic
//! repository, made from a seed and evolved day by day on a simulated clock.
//!
//! | target | what it holds |
//! |---|---|
//! | `mariadb` | a dump, as `mariadb-dump` makes it |
//! | `postgres` | plain SQL dumps, raw and gzipped, one more each day |
//! | `grafana` | `grafana.db`, plugin folders, `lost+found` (excluded) |
//! | `downloader` | six applications, their live SQLite databases with rows that are only in the `-wal` |
//! | `emby` | a live library database, metadata images, names that nobody expects |
//! | `nextpvr` | a database, logs, a named pipe, a sparse file |
//! | `paperless` | three roots; the database knows the MD5 of each document |
//!
//! The same seed, scale and start give the same fleet, byte for byte, except for `-wal` and `-shm` files,
//! into which SQLite writes random salts.

mod bulk;
mod canary;
mod config;
mod content;
mod database;
mod downloader;
mod emby;
mod grafana;
mod mariadb;
mod mirror;
mod nextpvr;
mod odd;
mod paperless;
mod postgres;
mod repository;
mod source;
mod stage;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use firedrill_core::secret::Secret;
use jiff::{SignedDuration, Timestamp};

pub use canary::key as canary_key;
pub use config::{Config, write_secret};
pub use mirror::{Mirrored, mirror};
pub use repository::{Job, TestRepository, copy_repository};
use stage::Stage;

/// How large a fleet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// For tests: about 3 MB in a few hundred files.
    Small,
    /// For the demo: about 70 MB in about 6 000 files.
    Demo,
    /// For benchmarks: this many small files in each of the five targets that are trees of files
    /// (`mariadb` and `postgres` stay what they are: few files).
    Files(usize),
}

/// What [`Scale`] means for the workloads.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Files in the bulk of each tree.
    files: usize,
    /// Average bytes of such a file.
    file_bytes: usize,
    /// Rows of each database and dump at the start; a twentieth is added each day.
    rows: usize,
}

impl Scale {
    fn sizes(self) -> Sizes {
        match self {
            Self::Small => Sizes { files: 48, file_bytes: 6 << 10, rows: 200 },
            Self::Demo => Sizes { files: 1150, file_bytes: 9 << 10, rows: 8_000 },
            Self::Files(files) => Sizes { files, file_bytes: 2 << 10, rows: 500 },
        }
    }
}

/// One target of the fleet: what its backup job is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The tag of its snapshots.
    pub tag: &'static str,
    /// The host name of its snapshots.
    pub host: &'static str,
    /// The paths as they are backed up.
    pub paths: &'static [&'static str],
    /// Names that are left out, as globs.
    pub excludes: &'static [&'static str],
    /// The minute of the hour in which the job runs.
    pub minute: i64,
}

/// All targets, in the order in which they are backed up.
pub const TARGETS: &[Target] = &[
    Target::new(
        "paperless",
        &["/backup/paperless-data", "/backup/paperless-export", "/backup/paperless-media"],
        0,
    ),
    Target::new("postgres", &["/backup/postgres"], 5),
    Target::new("mariadb", &["/backup/mariadb"], 10),
    Target { excludes: &["lost+found"], ..Target::new("grafana", &["/backup/grafana"], 20) },
    Target::new("emby", &["/backup/emby"], 30),
    Target::new("nextpvr", &["/backup/nextpvr"], 40),
    Target::new("downloader", &["/backup/downloader"], 50),
];

impl Target {
    const fn new(tag: &'static str, paths: &'static [&'static str], minute: i64) -> Self {
        Self { tag, host: tag, paths, excludes: &[], minute }
    }

    /// The target with this tag.
    pub fn tagged(tag: &str) -> Result<&'static Self> {
        TARGETS.iter().find(|target| target.tag == tag).with_context(|| format!("the fleet has no tag {tag}"))
    }
}

/// One application. `day` 0 makes it; each later day changes it.
trait Workload: Send {
    fn evolve(&mut self, stage: &mut Stage, day: u32) -> Result<()>;
}

fn workload(tag: &str, sizes: Sizes) -> Box<dyn Workload> {
    match tag {
        "paperless" => Box::new(paperless::Paperless::new(sizes)),
        "postgres" => Box::new(postgres::Postgres::new(sizes)),
        "mariadb" => Box::new(mariadb::MariaDb::new(sizes)),
        "grafana" => Box::new(grafana::Grafana::new(sizes)),
        "emby" => Box::new(emby::Emby::new(sizes)),
        "nextpvr" => Box::new(nextpvr::NextPvr::new(sizes)),
        _ => Box::new(downloader::Downloader::new(sizes)),
    }
}

/// A fleet in a folder. Each target has a sub-folder of its own, which stands for the root file system of
/// its backup pod. Databases that are meant to be live stay open as long as this value lives.
pub struct Fleet {
    root: PathBuf,
    seed: u64,
    hour: Timestamp,
    day: u32,
    canary_key: Secret,
    workloads: Vec<(&'static Target, Box<dyn Workload>)>,
}

impl Fleet {
    /// Makes a fleet in the empty or missing folder `root`, as it is on day 0, in the hour that starts
    /// at `start`. `password` is the password of the repository; the key of the canaries comes from it.
    pub fn create(root: &Path, scale: Scale, seed: u64, start: Timestamp, password: &Secret) -> Result<Self> {
        std::fs::create_dir_all(root).with_context(|| format!("make {}", root.display()))?;
        let sizes = scale.sizes();
        let mut fleet = Self {
            root: root.to_owned(),
            seed,
            hour: start,
            day: 0,
            canary_key: canary::key(password),
            workloads: TARGETS.iter().map(|target| (target, workload(target.tag, sizes))).collect(),
        };
        fleet.evolve()?;
        Ok(fleet)
    }

    /// Lets a day pass: every target changes, and every canary is renewed.
    pub fn next_day(&mut self) -> Result<()> {
        self.advance(SignedDuration::from_hours(24))
    }

    /// Lets another time pass than a day, with as many changes.
    pub fn advance(&mut self, by: SignedDuration) -> Result<()> {
        self.hour = self.hour.checked_add(by)?;
        self.day += 1;
        self.evolve()
    }

    /// Days since the start, which is also the sequence number of the canaries. Each
    /// [`Fleet::advance`] counts as one.
    pub fn day(&self) -> u64 {
        u64::from(self.day)
    }

    /// The simulated time at which the job of `target` runs today.
    pub fn time_of(&self, target: &Target) -> Result<Timestamp> {
        Ok(self.hour.checked_add(SignedDuration::from_mins(target.minute))?)
    }

    /// The folder that holds `/` of the backup pod of `tag`.
    pub fn folder(&self, tag: &str) -> PathBuf {
        self.root.join(tag)
    }

    /// Backs up one target as it is now.
    pub fn back_up(&self, repository: &TestRepository, target: &Target) -> Result<String> {
        self.back_up_at(repository, target, self.time_of(target)?)
    }

    /// Backs up one target as it is now, in a snapshot dated `time`.
    pub fn back_up_at(
        &self,
        repository: &TestRepository,
        target: &Target,
        time: Timestamp,
    ) -> Result<String> {
        repository
            .snapshot(&Job {
                root: &self.folder(target.tag),
                paths: target.paths,
                excludes: target.excludes,
                tags: &[target.tag],
                host: target.host,
                time,
            })
            .with_context(|| format!("back up {}", target.tag))
    }

    /// Backs up every target as it is now.
    pub fn back_up_all(&self, repository: &TestRepository) -> Result<()> {
        TARGETS.iter().try_for_each(|target| self.back_up(repository, target).map(drop))
    }

    /// Cuts today's dumps of `postgres` short in the middle of a row, as a full disk or a killed dump
    /// does. The gzip stream is closed cleanly: nothing but the content tells.
    pub fn cut_dump(&mut self) -> Result<()> {
        let target = Target::tagged("postgres")?;
        let mut stage = self.stage(target)?;
        postgres::cut(&mut stage)?;
        stage.settle()
    }

    /// Deletes nine of ten regular files of `tag`, as somebody's clean-up script does.
    pub fn lose_files(&mut self, tag: &str) -> Result<usize> {
        let target = Target::tagged(tag)?;
        let mut stage = self.stage(target)?;
        let files = stage.files()?;
        let mut lost = 0;
        for (number, file) in files.iter().enumerate() {
            if number % 10 != 0 && file.file_name().is_none_or(|name| name != canary::FILE_NAME) {
                stage.remove(file)?;
                lost += 1;
            }
        }
        stage.settle()?;
        Ok(lost)
    }

    fn evolve(&mut self) -> Result<()> {
        let day = self.day;
        let mut workloads = std::mem::take(&mut self.workloads);
        let evolved = workloads.iter_mut().try_for_each(|(target, workload)| {
            let mut stage = self.stage(target)?;
            workload.evolve(&mut stage, day)?;
            for path in target.paths {
                let line = canary::line(&self.canary_key, target.tag, u64::from(day), stage.now())?;
                stage.write(
                    format!("{}/{}", path.trim_start_matches('/'), canary::FILE_NAME),
                    line.as_bytes(),
                )?;
            }
            stage.settle()
        });
        self.workloads = workloads;
        evolved
    }

    fn stage(&self, target: &Target) -> Result<Stage> {
        let seed = firedrill_core::seed::child(self.seed, &format!("{}/{}", target.tag, self.day));
        Stage::new(&self.folder(target.tag), self.time_of(target)?, seed)
    }
}
