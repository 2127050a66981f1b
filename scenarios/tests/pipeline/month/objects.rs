//! Jobs on plain objects. What there is, is told by a walk over the files behind the store, and what should be left
//! by rules that are written down here once more.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use firedrill_backends::job::{Ends, MirrorJob, ObjectBackupJob, ObjectRetentionJob, StatisticsJob};
use firedrill_backends::repository::location::Environment;
use firedrill_backends::repository::objects::Objects;
use firedrill_core::clock::SimulatedClock;
use firedrill_core::config::TargetConfig;
use firedrill_core::config::jobs::{BackupConfig, MirrorConfig, RetentionConfig, StatisticsConfig};
use firedrill_core::pipeline::job::{Facts, Job, JobOrder, JobReport, Outcome};
use firedrill_core::plan::DrillName;
use firedrill_core::ports::{Lease, Order, Repository as _};
use firedrill_core::progress::Progress;
use firedrill_core::retention::Policy;
use firedrill_core::snapshot::Snapshot;
use firedrill_core::watch::Watch;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::world::{World, keys};
use crate::place::{Content, content, workplace};

impl World {
    /// Stores a dump as an object.
    pub(super) fn store(
        &self,
        target: &TargetConfig,
        backup: &BackupConfig,
        copy: &str,
        order: &JobOrder<'_>,
    ) -> JobReport {
        let job = ObjectBackupJob {
            target: target.clone(),
            backup: backup.clone(),
            place: self.object_place(copy),
            patterns: self.copy(copy).object_patterns().unwrap(),
            environment: Environment::default(),
            key: None,
        };
        let report = job.run(order);
        assert_eq!(
            report.outcome,
            Outcome::Succeeded,
            "{} at {}: {:?}",
            order.job,
            order.started,
            report.error
        );
        if let Facts::Backup(facts) = &report.facts {
            let key = facts.made.clone().expect("a backup that succeeded made an object");
            let dumped = std::fs::read(self.source(&target.name).join("live.db")).unwrap();
            let path = self.repository(copy).join(&key);
            let object = std::fs::read(&path).unwrap();
            assert!(unpacked(&key, &object) == dumped, "{key} holds something else");
            assert_eq!(Name::of(&key).time, order.started.strftime("%Y%m%d-%H%M%S").to_string());
            self.stored.lock().unwrap().insert((copy.to_owned(), key.clone()), dumped);
            self.there.lock().unwrap().entry(copy.to_owned()).or_default().insert(key);
        }
        report
    }

    /// Applies the rules, and holds what is left against what they say.
    pub(super) fn retain_objects(&self, rules: &RetentionConfig, order: &JobOrder<'_>) -> JobReport {
        let copy = &rules.copy;
        let before = keys(&self.objects(copy));
        let known = self.there.lock().unwrap().get(copy).cloned().unwrap_or_default();
        assert_eq!(before, known, "{} at {}: somebody else was there", order.job, order.started);
        let kept = kept(&before, &rules.keep);
        let job = ObjectRetentionJob {
            place: self.object_place(copy),
            settings: self.object_settings(copy),
            rules: rules.clone(),
            verified: BTreeSet::new(),
            zone: self.config.timezone.get().clone(),
        };
        let report = job.run(order);
        let left = keys(&self.objects(copy));
        assert_eq!(left, kept, "{} at {}: {:?}", order.job, order.started, report.error);
        let mut tally = self.tally.lock().unwrap();
        tally.kept += kept.len();
        tally.dropped += before.len() - kept.len();
        drop(tally);
        self.there.lock().unwrap().insert(copy.clone(), left);
        report
    }

    /// Fills a place of objects from another, and compares the two.
    pub(super) fn mirror_objects(&self, config: &MirrorConfig, order: &JobOrder<'_>) -> JobReport {
        let (from, to) = (&config.from, &config.to);
        let told = format!("{} at {}", order.job, order.started);
        let velero = self.after_velero(order.started);
        let (wanted, had) = (self.objects(from), self.objects(to));
        let ends = Ends::Objects(self.object_place(from), self.object_place(to), self.object_settings(from));
        let report = MirrorJob { config: config.clone(), ends }.run(order);
        assert_eq!(report.outcome, Outcome::Succeeded, "{told}: {:?}", report.error);
        let (has, now) = (self.objects(to), self.objects(from));
        for (path, content) in &wanted {
            assert!(has.get(path) == Some(content), "{told}: {} is another one", path.display());
        }
        // Backups may go on meanwhile, and add to both; what the source dropped goes, and only when that is wanted.
        let stays = |path: &Path| now.contains_key(path) || !config.delete && had.contains_key(path);
        assert!(has.keys().all(|path| stays(path)), "{told}: {:?}", keys(&has));
        drop(velero);
        if let Facts::Mirror(facts) = &report.facts {
            let gone = had.keys().filter(|path| !has.contains_key(*path)).count() as u64;
            assert_eq!(facts.files_deleted, gone, "{told}");
            let mut tally = self.tally.lock().unwrap();
            tally.mirrored += facts.files_copied;
            tally.unmirrored += gone;
        }
        self.there.lock().unwrap().insert(to.clone(), keys(&has));
        report
    }

    /// The newest object of each series is found, and restores to what it was made of.
    pub(super) fn restore_objects(&self, copy: &str, now: Timestamp) {
        let velero = self.after_velero(now);
        let files = self.objects(copy);
        if files.is_empty() {
            // A mirror may not have been filled yet; nothing else may be empty.
            assert!(self.feeder(copy).is_some(), "{copy} is empty");
            return;
        }
        let place = self.object_place(copy);
        let clock = Arc::new(SimulatedClock::starting_at(now));
        let settings = self.object_settings(copy);
        let objects = Objects::open(place.location, &place.access, settings, clock).unwrap();
        let inventory = objects.snapshots(&Watch::unlimited()).unwrap();
        assert!(inventory.findings.is_empty(), "{copy} at {now}: {:?}", inventory.findings);
        let newest: BTreeMap<&String, &Snapshot> =
            inventory.snapshots.iter().map(|snapshot| (&snapshot.tags[0], snapshot)).collect();
        let first = self.feeder(copy).map_or(copy, |(from, _)| from);
        match self.series(copy) {
            // Of each backup of Velero, an archive and a log look like dumps, each a series of its own.
            0 if copy == first => assert_eq!(newest.len(), velero.backups() * 2, "{copy} at {now}"),
            0 => assert!(!newest.is_empty()),
            series => assert_eq!(newest.len(), series, "{copy} at {now}: {newest:?}"),
        }
        for snapshot in newest.values() {
            let key = &snapshot.paths[0];
            let restored = unpacked(key, &restored(&objects, snapshot));
            let stored = self.stored.lock().unwrap().get(&(first.to_owned(), key.clone())).cloned();
            let expected = stored.unwrap_or_else(|| unpacked(key, &files[Path::new(key)]));
            assert!(restored == expected, "{copy}: {key} restores to something else");
            self.tally.lock().unwrap().restored += 1;
        }
    }

    /// Counts what is there, and compares with a walk when nobody wrote meanwhile.
    pub(super) fn count(&self, config: &StatisticsConfig, order: &JobOrder<'_>) -> JobReport {
        let place = self.object_place(&config.copy);
        let at = self.repository(&config.copy);
        // Of a bucket all is counted, whatever prefix the copy has.
        let before = content(&at);
        let report = StatisticsJob { place, config: config.clone(), planned: Vec::new() }.run(order);
        let Facts::Statistics(facts) = &report.facts else { return report };
        if content(&at) == before {
            let bytes: u64 = facts.prefixes.iter().map(|prefix| prefix.bytes).sum();
            let objects: u64 = facts.prefixes.iter().map(|prefix| prefix.objects).sum();
            let walked = before.values().map(|file| file.len() as u64).sum::<u64>();
            assert_eq!((bytes, objects), (walked, before.len() as u64), "{}", order.started);
            self.tally.lock().unwrap().counted += 1;
        }
        report
    }

    /// What is in a copy of objects is what should be, and is what it was made of.
    pub(super) fn assert_objects_are_good(&self, copy: &str) {
        let files = self.objects(copy);
        let there = self.there.lock().unwrap().get(copy).cloned();
        assert!(there.is_none_or(|there| there == keys(&files)), "{copy}: {:?}", keys(&files));
        let first = self.feeder(copy).map_or(copy, |(from, _)| from);
        for (path, content) in &files {
            let key = path.to_str().unwrap();
            let stored = self.stored.lock().unwrap();
            let made = stored.get(&(first.to_owned(), key.to_owned()));
            assert!(made.is_none_or(|made| *made == unpacked(key, content)), "{copy}: {key}");
            assert!(made.is_some() || self.series(copy) == 0, "{copy}: nobody made {key}");
        }
    }
}

/// What an object of this name was made of.
fn unpacked(key: &str, object: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    if key.ends_with(".sql.gz") {
        flate2::read::GzDecoder::new(object).read_to_end(&mut content).unwrap();
        return content;
    }
    object.to_vec()
}

/// The only file that firedrill restores from an object.
fn restored(objects: &Objects, snapshot: &Snapshot) -> Vec<u8> {
    let place = workplace();
    let folder = |name: &str| {
        let folder = place.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let lease = Lease::new("month".to_owned(), folder("data"), folder("work"), |_| Ok(None));
    let drill: DrillName = DrillName("month".to_owned());
    let order = Order {
        drill: &drill,
        snapshot,
        lease: &lease,
        bytes_max: None,
        progress: Arc::new(Progress::default()),
        watch: Watch::unlimited(),
    };
    let restored = objects.restore(&[order]).pop().unwrap().unwrap();
    assert!(restored.findings.is_empty(), "{:?}", restored.findings);
    let mut files: Content = content(&place.path().join("data"));
    assert_eq!(files.len(), 1);
    files.pop_first().unwrap().1
}

/// What a name says: everything before the time, and the time.
struct Name {
    series: String,
    time: String,
}

impl Name {
    fn of(key: &str) -> Self {
        let bare = key.trim_end_matches(".gz").rsplit_once('.').unwrap().0;
        let (series, time) = bare.split_at(bare.len() - "YYYYMMDD-HHMMSS".len());
        Self { series: series.to_owned(), time: time.to_owned() }
    }

    fn at(&self) -> Timestamp {
        let time = DateTime::strptime("%Y%m%d-%H%M%S", &self.time).unwrap();
        time.to_zoned(TimeZone::UTC).unwrap().timestamp()
    }
}

/// The names that stay, by what `restic forget` is documented to do with these rules: in UTC, of each series.
fn kept(keys: &BTreeSet<String>, keep: &Policy) -> BTreeSet<String> {
    let mut series: BTreeMap<String, Vec<(Timestamp, String, &String)>> = BTreeMap::new();
    for key in keys {
        let name = Name::of(key);
        let day = name.time[..8].to_owned();
        series.entry(name.series.clone()).or_default().push((name.at(), day, key));
    }
    let mut kept = BTreeSet::new();
    for objects in series.values_mut() {
        objects.sort();
        objects.reverse();
        let last = keep.last.unwrap_or_default() as usize;
        kept.extend(objects.iter().take(last).map(|(_, _, key)| (*key).clone()));
        let mut days = BTreeSet::new();
        let newest_of_days = objects.iter().filter(|(_, day, _)| days.insert(day.clone()));
        let daily = keep.daily.unwrap_or_default() as usize;
        kept.extend(newest_of_days.take(daily).map(|(_, _, key)| (*key).clone()));
        if let Some(age) = keep.within {
            // Counted from the newest, and what is exactly that old goes.
            let since = objects[0].0 - SignedDuration::from_hours(24 * i64::from(age.days));
            kept.extend(objects.iter().filter(|(at, ..)| *at > since).map(|(_, _, key)| (*key).clone()));
        }
    }
    kept
}
