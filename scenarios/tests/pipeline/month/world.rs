//! A fleet in a folder: its config, its clock, its repositories and buckets, and what there should be in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use firedrill_backends::job::{ObjectPlace, Place};
use firedrill_backends::repository::location::{Access, Environment, Location};
use firedrill_backends::repository::objects::ObjectSettings;
use firedrill_backends::repository::password::PasswordSource;
use firedrill_core::clock::SimulatedClock;
use firedrill_core::config::jobs::MirrorMode;
use firedrill_core::config::{Config, CopyConfig};
use firedrill_core::pipeline::ledger::Ledger;
use firedrill_core::pipeline::runner::Turn;
use firedrill_core::pipeline::spec::{JobKind, JobName, JobSpec};
use firedrill_core::secret::Secret;
use firedrill_core::seed;
use firedrill_scenarios::s3_server::S3Server;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::velero::Velero;
use crate::fleet::Site;
use crate::place::{Content, PASSWORD, Restic, cheap_repository_of, content, workplace};

const KEY: &str = "firedrill";
const SECRET: &str = "firedrill-secret";
/// What opens repositories that are encrypted once more.
const OTHER_PASSWORD: &str = "pipeline-fixture-elsewhere";
/// The buckets of all fleets.
const BUCKETS: [&str; 3] = ["backups", "second", "offsite"];
/// The copy that Velero writes to.
const VELERO: &str = "minio";
/// One of so many planned runs fails at its first try.
const FAILS: u64 = 23;

/// What says of a snapshot where it comes from, in whatever copy it is.
pub(super) type Origin = (String, Timestamp);

/// What all threads share.
pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) config: Config,
    pub(super) clock: SimulatedClock,
    pub(super) seed: u64,
    /// What each snapshot was made of: the folder and its files.
    pub(super) known: Mutex<BTreeMap<Origin, (PathBuf, Content)>>,
    /// What each object was made of, by its copy and its name.
    pub(super) stored: Mutex<BTreeMap<(String, String), Vec<u8>>>,
    /// The snapshots or objects that there should be, by copy.
    pub(super) there: Mutex<BTreeMap<String, BTreeSet<String>>>,
    pub(super) tally: Mutex<Tally>,
    velero: Mutex<Velero>,
    pub(super) restics: BTreeMap<String, Restic>,
    server: S3Server,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) kept: usize,
    pub(super) dropped: usize,
    /// Snapshots and objects that restored to what they were made of.
    pub(super) restored: usize,
    /// Files that mirrors wrote, and files that they removed.
    pub(super) mirrored: u64,
    pub(super) unmirrored: u64,
    /// How often real restic opened a mirror right after it was filled, and how often it checked all of it.
    pub(super) opened: usize,
    pub(super) checked: usize,
    pub(super) counted: usize,
    pub(super) restarts: usize,
    pub(super) adopted: usize,
    pub(super) looks: usize,
}

impl World {
    pub(super) fn new(seed: u64, start: &str, fleet: fn(&Site<'_>) -> Config) -> Option<Arc<Self>> {
        let folder = workplace();
        let buckets = folder.path().join("buckets");
        std::fs::create_dir(&buckets).unwrap();
        std::fs::create_dir(folder.path().join("repositories")).unwrap();
        let server = S3Server::start(&buckets, KEY, SECRET).unwrap();
        for bucket in BUCKETS {
            server.create_bucket(bucket).unwrap();
        }
        let config = fleet(&Site { root: folder.path(), s3: &server.endpoint() });
        let mut restics = BTreeMap::new();
        for copy in &config.copies {
            if copy.kind.is_plain_objects() {
                continue;
            }
            let password = password(&config, &copy.name);
            let filled = feeder(&config, &copy.name);
            // What is filled byte for byte is made by the job that fills it.
            if filled.is_none_or(|(_, mode)| mode == MirrorMode::Reencrypted) {
                cheap_repository_of(Path::new(&copy.repository), password);
            }
            restics.insert(copy.name.clone(), Restic::need(&copy.repository)?.opened_by(password));
        }
        for target in &config.targets {
            std::fs::create_dir_all(folder.path().join("sources").join(&target.name)).unwrap();
        }
        let from: Timestamp = start.parse().unwrap();
        let world = Self {
            config,
            clock: SimulatedClock::starting_at(from),
            seed,
            known: Mutex::default(),
            stored: Mutex::default(),
            there: Mutex::default(),
            tally: Mutex::default(),
            velero: Mutex::new(Velero::new(folder.path().join("repositories").join(VELERO), from, seed)),
            restics,
            server,
            folder,
        };
        Some(Arc::new(world))
    }

    pub(super) fn source(&self, target: &str) -> PathBuf {
        self.folder.path().join("sources").join(target)
    }

    pub(super) fn copy(&self, name: &str) -> &CopyConfig {
        self.config.copies.iter().find(|copy| copy.name == name).unwrap()
    }

    pub(super) fn holds_objects(&self, copy: &str) -> bool {
        self.copy(copy).kind.is_plain_objects()
    }

    /// Where the files of a copy are, also of one behind the server.
    pub(super) fn repository(&self, copy: &str) -> PathBuf {
        let repository = &self.copy(copy).repository;
        match repository.strip_prefix(&format!("s3:{}/", self.server.endpoint())) {
            Some(inside) => self.folder.path().join("buckets").join(inside),
            None => PathBuf::from(repository),
        }
    }

    pub(super) fn place(&self, copy: &str) -> Place {
        Place {
            name: copy.to_owned(),
            location: Location::parse(&self.copy(copy).repository).unwrap(),
            access: Access::default(),
            password: PasswordSource::Variable(Secret::new(password(&self.config, copy))),
            make: false,
        }
    }

    pub(super) fn object_place(&self, copy: &str) -> ObjectPlace {
        let env = Environment::default()
            .with("AWS_ACCESS_KEY_ID", KEY)
            .with("AWS_SECRET_ACCESS_KEY", SECRET)
            .with("AWS_EC2_METADATA_DISABLED", "true");
        ObjectPlace {
            name: copy.to_owned(),
            location: Location::parse(&self.copy(copy).repository).unwrap(),
            access: Access::from_environment(env),
        }
    }

    pub(super) fn object_settings(&self, copy: &str) -> ObjectSettings {
        let copy = self.copy(copy);
        ObjectSettings { kind: copy.kind, patterns: copy.object_patterns().unwrap(), schedules: Vec::new() }
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger::open(&self.folder.path().join("state")).unwrap()
    }

    /// Whether this try fails, on purpose.
    pub(super) fn fails(&self, job: &JobName, turn: Turn) -> bool {
        let slot = turn.slot.unwrap();
        turn.number == 1 && seed::child(self.seed, &format!("fails {job} {slot}")).is_multiple_of(FAILS)
    }

    /// How long a run takes, on the simulated clock.
    pub(super) fn lasts(&self, spec: &JobSpec, turn: Turn) -> SignedDuration {
        let name = format!("lasts {} {:?}", spec.name, turn);
        let mut chance = StdRng::seed_from_u64(seed::child(self.seed, &name));
        let (least, most) = match &spec.kind {
            JobKind::Backup { .. } if spec.deadline() == Duration::from_secs(7200) => (10, 35),
            JobKind::Backup { .. } => (1, 9),
            JobKind::Retention(_) => (3, 10),
            JobKind::Check(_) => (5, 25),
            JobKind::Mirror(_) | JobKind::RestoreTest(_) => (20, 80),
            JobKind::Statistics(_) => (1, 2),
        };
        SignedDuration::from_secs(chance.random_range(least * 60..most * 60))
    }

    /// The copy from which `copy` is filled, and how; nothing for one that backups go to.
    pub(super) fn feeder(&self, copy: &str) -> Option<(&str, MirrorMode)> {
        feeder(&self.config, copy)
    }

    /// How many series there are in a copy: what goes into it, or into what it is filled from.
    pub(super) fn series(&self, copy: &str) -> usize {
        let first = self.feeder(copy).map_or(copy, |(from, _)| from);
        let goes = |to: Option<&str>| to == Some(first);
        let targets = self.config.targets.iter().filter_map(|target| target.backup.as_ref());
        targets.filter(|backup| goes(backup.to.as_deref())).count()
    }

    /// Velero has done everything up to `now`, and does nothing as long as this is held.
    pub(super) fn after_velero(&self, now: Timestamp) -> MutexGuard<'_, Velero> {
        let mut velero = self.velero.lock().unwrap();
        if self.config.copies.iter().any(|copy| copy.name == VELERO) {
            velero.work(now);
        }
        velero
    }

    /// All regular files of a copy of plain objects, without the hashes that lie beside them, and without those of
    /// another copy in the same bucket.
    pub(super) fn objects(&self, copy: &str) -> Content {
        let root = self.repository(copy);
        if !root.is_dir() {
            return Content::new();
        }
        let mut all = content(&root);
        let mut others: Vec<PathBuf> =
            self.config.copies.iter().map(|copy| self.repository(&copy.name)).collect();
        others.retain(|other| *other != root && other.starts_with(&root));
        let elsewhere = |path: &Path| others.iter().any(|other| path.starts_with(other));
        all.retain(|path, _| {
            path.extension().is_none_or(|end| end != "sha256") && !elsewhere(&root.join(path))
        });
        all
    }
}

fn feeder<'c>(config: &'c Config, copy: &str) -> Option<(&'c str, MirrorMode)> {
    let mut mirrors = config.jobs.iter().filter_map(|job| job.mirror.as_ref());
    mirrors.find(|mirror| mirror.to == copy).map(|mirror| (mirror.from.as_str(), mirror.mode))
}

fn password(config: &Config, copy: &str) -> &'static str {
    match feeder(config, copy) {
        Some((_, MirrorMode::Reencrypted)) => OTHER_PASSWORD,
        _ => PASSWORD,
    }
}

/// The names of objects, as they are in a bucket.
pub(super) fn keys(content: &Content) -> BTreeSet<String> {
    content.keys().map(|path| path.to_str().unwrap().to_owned()).collect()
}
