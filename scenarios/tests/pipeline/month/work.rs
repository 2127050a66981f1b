//! The work of one job: what it does for real, and what is looked at right afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};

use firedrill_backends::job::{BackupJob, CheckJob, Ends, MirrorJob, RetentionJob};
use firedrill_backends::repository::location::Environment;
use firedrill_core::config::TargetConfig;
use firedrill_core::config::jobs::{BackupConfig, MirrorConfig, MirrorMode, RetentionConfig};
use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::pipeline::job::{Facts, Job, JobOrder, JobReport, Outcome};
use firedrill_core::pipeline::runner::Turn;
use firedrill_core::pipeline::spec::{JobKind, JobSpec};
use firedrill_core::retention::Policy;
use firedrill_core::seed;
use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::world::{Origin, World};
use crate::place::{change, content, snapshot_files};

/// The work of one job, and the failures that are planned.
pub(super) struct Real {
    pub(super) world: Arc<World>,
    pub(super) spec: JobSpec,
    pub(super) turn: Turn,
    pub(super) begun: SyncSender<()>,
    pub(super) done: Mutex<Receiver<()>>,
}

impl Job for Real {
    fn run(&self, order: &JobOrder<'_>) -> JobReport {
        // Its start is settled, and its locks are held: from here on the clock may go on.
        self.begun.send(()).unwrap();
        let report = match self.world.fails(&self.spec.name, self.turn) {
            true => JobReport::failed(Error::new(ErrorKind::Unavailable, "reach the service")),
            false => self.do_it(order),
        };
        self.done.lock().unwrap().recv().unwrap();
        report
    }
}

impl Real {
    fn do_it(&self, order: &JobOrder<'_>) -> JobReport {
        let world = &self.world;
        match &self.spec.kind {
            JobKind::Backup { target, backup, copy } => {
                let root = world.source(&target.name);
                let seed = seed::child(world.seed, &format!("{} {}", target.name, order.started));
                change(&root, 4000, &mut StdRng::seed_from_u64(seed));
                match world.holds_objects(copy) {
                    true => world.store(target, backup, copy, order),
                    false => world.back_up(target, backup, copy, order),
                }
            }
            JobKind::Retention(rules) if world.holds_objects(&rules.copy) => {
                world.retain_objects(rules, order)
            }
            JobKind::Retention(rules) => world.retain(rules, order),
            JobKind::Check(check) => {
                let percent = check.read_data_percent.unwrap_or(0);
                CheckJob { place: world.place(&check.copy), read_data_percent: percent }.run(order)
            }
            JobKind::RestoreTest(test) => {
                let all = world.config.copies.iter().map(|copy| &copy.name);
                for copy in all.filter(|name| test.copies.is_empty() || test.copies.contains(name)) {
                    world.restore_latest(copy, order.started);
                }
                JobReport::succeeded(Facts::None)
            }
            JobKind::Mirror(config) if world.holds_objects(&config.from) => {
                world.mirror_objects(config, order)
            }
            JobKind::Mirror(config) => world.mirror(config, order),
            JobKind::Statistics(config) => world.count(config, order),
        }
    }
}

impl World {
    fn back_up(
        &self,
        target: &TargetConfig,
        backup: &BackupConfig,
        copy: &str,
        order: &JobOrder<'_>,
    ) -> JobReport {
        let root = self.source(&target.name);
        let job = BackupJob {
            target: target.clone(),
            backup: backup.clone(),
            place: self.place(copy),
            environment: Environment::default(),
            canary_key: None,
            zone: self.config.timezone.get().clone(),
        };
        let report = job.run(order);
        if let Facts::Backup(facts) = &report.facts {
            let id = facts.made.clone().expect("a backup that succeeded made a snapshot");
            let origin = (target.name.clone(), order.started);
            self.known.lock().unwrap().insert(origin, (root.clone(), content(&root)));
            self.there.lock().unwrap().entry(copy.to_owned()).or_default().insert(id);
        }
        report
    }

    /// Applies the rules, and holds what is left against what restic says it would leave, asked a moment before.
    fn retain(&self, rules: &RetentionConfig, order: &JobOrder<'_>) -> JobReport {
        let copy = &rules.copy;
        let zone = self.config.timezone.get().clone();
        let theirs = self.restics[copy].would_forget(&flags(&rules.keep), zone.iana_name().unwrap());
        let job = RetentionJob {
            place: self.place(copy),
            rules: rules.clone(),
            verified: BTreeMap::new(),
            detection: None,
            zone,
            only_hosts: Vec::new(),
            dry_run: false,
        };
        let report = job.run(order);
        let left = snapshot_files(&self.repository(copy));
        assert_eq!(left, theirs.keep, "{} at {}: restic keeps others", order.job, order.started);
        let mut tally = self.tally.lock().unwrap();
        tally.kept += theirs.keep.len();
        tally.dropped += theirs.remove.len();
        drop(tally);
        self.there.lock().unwrap().insert(copy.clone(), left);
        report
    }

    /// Fills a repository from another, and has real restic open what came of it.
    fn mirror(&self, config: &MirrorConfig, order: &JobOrder<'_>) -> JobReport {
        let (from, to) = (&config.from, &config.to);
        let told = format!("{} at {}", order.job, order.started);
        let wanted = self.snapshots(from);
        let had = self.mirrored(to);
        let ends = Ends::Repositories(self.place(from), self.place(to));
        let report = MirrorJob { config: config.clone(), ends }.run(order);
        assert_eq!(report.outcome, Outcome::Succeeded, "{told}: {:?}", report.error);

        let has = self.snapshots(to);
        self.tally.lock().unwrap().opened += 1;
        let origins = |all: &BTreeMap<String, Origin>| all.values().cloned().collect::<Vec<_>>();
        // Backups may go on meanwhile, and add to both.
        let missing = origins(&wanted).into_iter().find(|origin| !origins(&has).contains(origin));
        assert_eq!(missing, None, "{told}: it is not in the mirror");
        let mut possible = origins(&self.snapshots(from));
        possible.extend(origins(&had));
        let strange = origins(&has).into_iter().find(|origin| !possible.contains(origin));
        assert_eq!(strange, None, "{told}: the mirror has what nobody made");
        assert!(had.keys().all(|id| has.contains_key(id)), "{told}: the mirror lost a snapshot");
        assert_eq!(has.keys().cloned().collect::<BTreeSet<_>>(), snapshot_files(&self.repository(to)));
        if config.mode == MirrorMode::Identical {
            assert!(wanted.keys().all(|id| has.contains_key(id)), "{told}: its ids are others");
        }
        if order.started.to_zoned(TimeZone::UTC).weekday() == Weekday::Sunday {
            self.restics[to].check(true);
            self.tally.lock().unwrap().checked += 1;
        }
        if let Facts::Mirror(facts) = &report.facts {
            self.tally.lock().unwrap().mirrored += facts.files_copied;
        }
        self.there.lock().unwrap().insert(to.clone(), has.into_keys().collect());
        report
    }

    /// The snapshots of a mirror, none before it was first filled.
    fn mirrored(&self, copy: &str) -> BTreeMap<String, Origin> {
        match self.repository(copy).join("config").is_file() {
            true => self.snapshots(copy),
            false => BTreeMap::new(),
        }
    }

    /// The snapshots of a repository by their ids, as real restic tells them.
    pub(super) fn snapshots(&self, copy: &str) -> BTreeMap<String, Origin> {
        self.told_snapshots(copy, &[])
    }

    fn told_snapshots(&self, copy: &str, more: &[&str]) -> BTreeMap<String, Origin> {
        let arguments = [&["snapshots", "--json", "--no-lock"], more].concat();
        let all: serde_json::Value = serde_json::from_str(&self.restics[copy].run(&arguments)).unwrap();
        let one = |snapshot: &serde_json::Value| {
            let text = |key: &str| snapshot[key].as_str().unwrap().to_owned();
            let time: Timestamp = text("time").parse().unwrap();
            (text("id"), (text("hostname"), time))
        };
        all.as_array().unwrap().iter().map(one).collect()
    }

    /// The newest of each series restores to what it was made of.
    pub(super) fn restore_latest(&self, copy: &str, now: Timestamp) {
        if self.holds_objects(copy) {
            return self.restore_objects(copy, now);
        }
        let there = self.there.lock().unwrap().get(copy).cloned().unwrap_or_default();
        let latest = match self.repository(copy).join("config").is_file() {
            true => self.told_snapshots(copy, &["--latest", "1"]),
            false => BTreeMap::new(),
        };
        // A mirror may not have been filled yet.
        let expected = if there.is_empty() { 0 } else { self.series(copy) };
        assert_eq!(latest.len(), expected, "{copy}: {latest:?}");
        for (id, origin) in latest {
            assert!(there.contains(&id), "{copy}: nobody made {id}");
            self.restores(copy, &id, &origin);
        }
    }

    /// The snapshot restores to what it was made of, with the dump that stands beside the files.
    pub(super) fn restores(&self, copy: &str, id: &str, origin: &Origin) {
        let (root, expected) = self.known.lock().unwrap()[origin].clone();
        let restic = &self.restics[copy];
        let restored = restic.restored(id, &root).unwrap_or_else(|why| panic!("{copy}: {id}: {why}"));
        assert!(restored == expected, "{copy}: {id} restores to something else");
        let target = self.config.targets.iter().find(|target| target.name == origin.0).unwrap();
        let captures = target.backup.iter().flat_map(|backup| &backup.capture);
        for command in captures.filter_map(|capture| capture.command.as_ref()) {
            let dump = restic.output(["dump", "--no-lock", id, &command.stored_as]);
            assert!(dump.stdout == expected[std::path::Path::new("live.db")], "{copy}: the dump in {id}");
        }
        self.tally.lock().unwrap().restored += 1;
    }
}

/// The rules as arguments of restic.
fn flags(keep: &Policy) -> Vec<String> {
    let rules = [
        ("last", keep.last),
        ("hourly", keep.hourly),
        ("daily", keep.daily),
        ("weekly", keep.weekly),
        ("monthly", keep.monthly),
    ];
    rules.iter().filter_map(|(name, count)| count.map(|count| format!("--keep-{name}={count}"))).collect()
}
