//! Weeks of two fleets on a simulated clock. A server looks when there is something to do, and is replaced every
//! day; jobs run in threads of their own as they would in processes, hold their locks until their simulated end,
//! and do real work in real repositories.
//!
//! The mirror holds its locks and copies nothing yet; [`Real::do_it`] is where it belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use firedrill_backends::job::{BackupJob, CheckJob, Ends, MirrorJob, Place, RetentionJob};
use firedrill_backends::repository::location::{Access, Environment, Location};
use firedrill_backends::repository::password::PasswordSource;
use firedrill_core::clock::{Clock as _, SimulatedClock};
use firedrill_core::config::{Config, Role};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::job::{Facts, Job, JobOrder, JobReport, Outcome};
use firedrill_core::pipeline::ledger::Ledger;
use firedrill_core::pipeline::news::{self, Brought, Message, Messenger};
use firedrill_core::pipeline::runner::{self, Bench, Turn};
use firedrill_core::pipeline::scheduler::Scheduler;
use firedrill_core::pipeline::serve::{Hands, look};
use firedrill_core::pipeline::spec::{JobKind, JobName, JobSpec};
use firedrill_core::pipeline::state::Run;
use firedrill_core::secret::Secret;
use firedrill_core::seed;
use firedrill_core::watch::Watch;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::fleet;
use crate::place::{Content, PASSWORD, Restic, change, cheap_repository, content, snapshot_files, workplace};

/// Jobs at a time.
const PARALLEL: usize = 4;
/// A run that has to wait for others waits no longer.
const LATE_MAX: SignedDuration = SignedDuration::from_hours(3);
/// A thread that does not begin waits for a lock that it should have; the machine is not that slow.
const PATIENCE: Duration = Duration::from_secs(300);
/// One of so many planned runs fails at its first try.
const FAILS: u64 = 23;

/// What all threads share.
struct World {
    folder: tempfile::TempDir,
    config: Config,
    clock: SimulatedClock,
    seed: u64,
    /// What each snapshot was made of.
    known: Mutex<BTreeMap<String, (PathBuf, Content)>>,
    /// The snapshots that there should be, by copy.
    there: Mutex<BTreeMap<String, BTreeSet<String>>>,
    tally: Mutex<Tally>,
    restics: BTreeMap<String, Restic>,
}

#[derive(Debug, Default)]
struct Tally {
    kept: usize,
    dropped: usize,
    restored: usize,
    restarts: usize,
    adopted: usize,
    looks: usize,
}

/// A run that took place.
#[derive(Clone, Debug)]
struct Took {
    job: JobName,
    run: Run,
}

/// The work of one job, and the failures that are planned.
struct Real {
    world: Arc<World>,
    spec: JobSpec,
    turn: Turn,
    begun: SyncSender<()>,
    done: Mutex<Receiver<()>>,
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
        let zone = world.config.timezone.get().clone();
        match &self.spec.kind {
            JobKind::Backup { target, backup, copy } => {
                let root = world.source(&target.name);
                let seed = seed::child(world.seed, &format!("{} {}", target.name, order.started));
                change(&root, 4000, &mut StdRng::seed_from_u64(seed));
                let job = BackupJob {
                    target: target.as_ref().clone(),
                    backup: backup.as_ref().clone(),
                    place: world.place(copy),
                    environment: Environment::default(),
                    canary_key: None,
                    zone,
                };
                let report = job.run(order);
                if let Facts::Backup(facts) = &report.facts {
                    let id = facts.made.clone().expect("a backup that succeeded made a snapshot");
                    world.known.lock().unwrap().insert(id.clone(), (root.clone(), content(&root)));
                    world.there.lock().unwrap().entry(copy.clone()).or_default().insert(id);
                }
                report
            }
            JobKind::Retention(rules) => {
                let job = RetentionJob {
                    place: world.place(&rules.copy),
                    rules: rules.clone(),
                    verified: BTreeMap::new(),
                    detection: None,
                    zone,
                    only_hosts: Vec::new(),
                    dry_run: false,
                };
                self.retain(&job, order)
            }
            JobKind::Check(check) => {
                let percent = check.read_data_percent.unwrap_or(0);
                CheckJob { place: world.place(&check.copy), read_data_percent: percent }.run(order)
            }
            JobKind::RestoreTest(test) => {
                test.copies.iter().for_each(|copy| world.restore_latest(copy));
                JobReport::succeeded(Facts::None)
            }
            JobKind::Mirror(config) => {
                let ends = Ends::Repositories(world.place(&config.from), world.place(&config.to));
                let from = world.there.lock().unwrap()[&config.from].clone();
                let report = MirrorJob { config: config.clone(), ends }.run(order);
                // Backups may go on meanwhile, and add to both.
                let mirrored = snapshot_files(&world.repository(&config.to));
                assert!(from.is_subset(&mirrored), "{} at {}", self.spec.name, order.started);
                let mut there = world.there.lock().unwrap();
                let known = there.entry(config.to.clone()).or_default();
                assert!(known.is_subset(&mirrored), "{}: the mirror lost a snapshot", self.spec.name);
                *known = mirrored;
                report
            }
            JobKind::Statistics(_) => JobReport::succeeded(Facts::None),
        }
    }

    /// Applies the rules, and holds what is left against what restic says it would leave, asked a moment before.
    fn retain(&self, job: &RetentionJob, order: &JobOrder<'_>) -> JobReport {
        let world = &self.world;
        let copy = &job.rules.copy;
        let keep = &job.rules.keep;
        let rules = [
            ("last", keep.last),
            ("hourly", keep.hourly),
            ("daily", keep.daily),
            ("weekly", keep.weekly),
            ("monthly", keep.monthly),
        ];
        let flags =
            rules.iter().filter_map(|(name, count)| count.map(|count| format!("--keep-{name}={count}")));
        let flags: Vec<_> = flags.collect();
        let theirs = world.restics[copy].would_forget(&flags, "Europe/Zurich");
        let report = job.run(order);
        let left = snapshot_files(&world.repository(copy));
        assert_eq!(left, theirs.keep, "{} at {}: restic keeps others", self.spec.name, order.started);
        let mut tally = world.tally.lock().unwrap();
        tally.kept += theirs.keep.len();
        tally.dropped += theirs.remove.len();
        drop(tally);
        *world.there.lock().unwrap().entry(copy.clone()).or_default() = left;
        report
    }
}

impl World {
    fn new(seed: u64, start: &str, fleet: fn(&Path) -> Config) -> Option<Arc<Self>> {
        let folder = workplace();
        let config = fleet(folder.path());
        let mut restics = BTreeMap::new();
        std::fs::create_dir(folder.path().join("repositories")).unwrap();
        for copy in &config.copies {
            if copy.role == Role::Primary {
                cheap_repository(Path::new(&copy.repository));
            }
            restics.insert(copy.name.clone(), Restic::need(&copy.repository)?);
        }
        for target in &config.targets {
            std::fs::create_dir_all(folder.path().join("sources").join(&target.name)).unwrap();
        }
        Some(Arc::new(Self {
            folder,
            config,
            clock: SimulatedClock::starting_at(start.parse().unwrap()),
            seed,
            known: Mutex::default(),
            there: Mutex::default(),
            tally: Mutex::default(),
            restics,
        }))
    }

    fn source(&self, target: &str) -> PathBuf {
        self.folder.path().join("sources").join(target)
    }

    fn repository(&self, copy: &str) -> PathBuf {
        self.folder.path().join("repositories").join(copy)
    }

    fn place(&self, copy: &str) -> Place {
        Place {
            name: copy.to_owned(),
            location: Location::parse(self.repository(copy).to_str().unwrap()).unwrap(),
            access: Access::default(),
            password: PasswordSource::Variable(Secret::new(PASSWORD)),
            make: false,
        }
    }

    fn ledger(&self) -> Ledger {
        Ledger::open(&self.folder.path().join("state")).unwrap()
    }

    /// Whether this try fails, on purpose.
    fn fails(&self, job: &JobName, turn: Turn) -> bool {
        let slot = turn.slot.unwrap();
        turn.number == 1 && seed::child(self.seed, &format!("fails {job} {slot}")).is_multiple_of(FAILS)
    }

    /// How long a run takes, on the simulated clock.
    fn lasts(&self, spec: &JobSpec, turn: Turn) -> SignedDuration {
        let name = format!("lasts {} {:?}", spec.name, turn);
        let mut chance = StdRng::seed_from_u64(seed::child(self.seed, &name));
        let (least, most) = match &spec.kind {
            JobKind::Backup { .. } if spec.deadline() > Duration::from_secs(3600) => (10, 35),
            JobKind::Backup { .. } => (1, 9),
            JobKind::Retention(_) => (3, 10),
            JobKind::Check(_) => (5, 25),
            JobKind::Mirror(_) | JobKind::RestoreTest(_) => (20, 80),
            JobKind::Statistics(_) => (1, 2),
        };
        SignedDuration::from_secs(chance.random_range(least * 60..most * 60))
    }

    /// The newest snapshot of each source restores to what it was made of.
    fn restore_latest(&self, copy: &str) {
        let there = self.there.lock().unwrap().get(copy).cloned().unwrap_or_default();
        let printed = self.restics[copy].run(&["snapshots", "--json", "--no-lock", "--latest", "1"]);
        let latest: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let latest = latest.as_array().unwrap();
        assert_eq!(
            latest.len(),
            self.config.targets.iter().filter(|target| self.goes_to(&target.name, copy)).count()
        );
        for one in latest {
            let id = one["id"].as_str().unwrap();
            assert!(there.contains(id), "{copy}: nobody made {id}");
            self.restores(copy, id);
        }
    }

    fn goes_to(&self, target: &str, copy: &str) -> bool {
        let target = self.config.targets.iter().find(|one| one.name == target).unwrap();
        // What comes into the mirror is what goes into the only copy beside it.
        let copy = if copy == "offsite" { "local" } else { copy };
        target.backup.as_ref().is_some_and(|backup| backup.to.as_deref() == Some(copy))
    }

    fn restores(&self, copy: &str, id: &str) {
        let (root, expected) = self.known.lock().unwrap()[id].clone();
        let restored =
            self.restics[copy].restored(id, &root).unwrap_or_else(|why| panic!("{copy}: {id}: {why}"));
        assert!(restored == expected, "{copy}: {id} restores to something else");
        self.tally.lock().unwrap().restored += 1;
    }
}

/// A job that runs.
struct Worker {
    job: JobName,
    turn: Turn,
    until: Timestamp,
    done: SyncSender<()>,
    thread: JoinHandle<Result<Run>>,
}

/// The processes of this machine, and what the server of the moment knows of them.
struct Machine {
    world: Arc<World>,
    workers: Vec<Worker>,
    /// Those that the server started that is running now.
    mine: BTreeSet<JobName>,
    ended: Vec<(JobName, Turn, String)>,
    took: Vec<Took>,
}

impl Hands for Machine {
    fn start(&mut self, job: &JobSpec, turn: Turn) -> Result<()> {
        let (begun, begins) = sync_channel(1);
        let (done, finish) = sync_channel(1);
        let world = Arc::clone(&self.world);
        let real =
            Real { world: Arc::clone(&world), spec: job.clone(), turn, begun, done: Mutex::new(finish) };
        let spec = job.clone();
        let thread = std::thread::spawn(move || {
            let (ledger, work) = (world.ledger(), world.folder.path().join("work"));
            let bench = Bench {
                ledger: &ledger,
                clock: &world.clock,
                watch: Watch::unlimited(),
                work: &work,
                observers: &[],
            };
            runner::run(&spec, &real, turn, &bench)
        });
        if begins.recv_timeout(PATIENCE).is_err() {
            panic!(
                "{} at {}: it does not begin, because what it needs is held",
                job.name,
                self.world.clock.now()
            );
        }
        let until = self.world.clock.now() + self.world.lasts(job, turn);
        self.workers.push(Worker { job: job.name.clone(), turn, until, done, thread });
        self.mine.insert(job.name.clone());
        Ok(())
    }

    fn running(&mut self) -> BTreeSet<JobName> {
        self.mine.clone()
    }

    fn ended(&mut self) -> Vec<(JobName, Turn, String)> {
        std::mem::take(&mut self.ended)
    }
}

impl Machine {
    /// Ends the runs whose time has come.
    fn end_due(&mut self) {
        let now = self.world.clock.now();
        let (due, stay) =
            std::mem::take(&mut self.workers).into_iter().partition(|worker| worker.until <= now);
        self.workers = stay;
        for Worker { job, turn, done, thread, .. } in due {
            done.send(()).unwrap();
            let run = thread.join().unwrap().unwrap_or_else(|error| panic!("{job}: {}", error.chain()));
            // A job that panics is a failed run like others, and its retry may go well: nobody else would tell.
            let meant = run.outcome == Outcome::Succeeded || self.world.fails(&job, turn);
            let why = run.error.as_ref().map(Error::chain);
            assert!(meant, "{job} at {}: {:?}: {why:?}", run.started, run.outcome);
            self.took.push(Took { job: job.clone(), run });
            if self.mine.remove(&job) {
                self.ended.push((job, turn, "its process ended".to_owned()));
            }
        }
    }

    /// Lets time pass until `to`, and ends what ends on the way.
    fn pass(&mut self, to: Timestamp) {
        loop {
            let next = self.workers.iter().map(|worker| worker.until).min().map_or(to, |end| end.min(to));
            let clock = &self.world.clock;
            clock.advance(next.duration_since(clock.now()));
            self.end_due();
            if next >= to {
                return;
            }
        }
    }

    /// The moment of the next end, or `to`.
    fn next_end(&self, to: Timestamp) -> Timestamp {
        self.workers.iter().map(|worker| worker.until).min().map_or(to, |end| end.min(to))
    }
}

/// What people were told.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Messenger for Heard {
    fn bring(&self, message: &Message) -> Result<Brought> {
        self.0.lock().unwrap().push(format!("{}: {}", message.title(), message.text()));
        Ok(Brought::Yes)
    }
}

/// Times at which nobody serves.
type Outage = (Timestamp, Timestamp);

/// Lets `days` pass and returns every run.
fn simulate(world: &Arc<World>, days: i64, outage: Option<Outage>) -> Vec<Took> {
    let start = world.clock.now();
    let end = start + SignedDuration::from_hours(24 * days);
    let mut chance = StdRng::seed_from_u64(world.seed);
    let mut machine = Machine {
        world: Arc::clone(world),
        workers: Vec::new(),
        mine: BTreeSet::new(),
        ended: Vec::new(),
        took: Vec::new(),
    };
    let heard = Heard::default();
    let names: Vec<_> = JobSpec::all(&world.config).into_iter().map(|job| job.name).collect();
    let mut outage = outage;
    while world.clock.now() < end {
        // A server that knows nothing but what is in files takes over, once a day and after an outage.
        let day = SignedDuration::from_mins(chance.random_range(20 * 60..28 * 60));
        let mut until = (world.clock.now() + day).min(end);
        let out = outage.filter(|(from, _)| *from < until);
        if let Some((from, _)) = out {
            until = from;
            outage = None;
        }
        serve(world, &mut machine, until, &heard, &names, &mut chance);
        let mut tally = world.tally.lock().unwrap();
        tally.restarts += 1;
        tally.adopted += machine.workers.len();
        drop(tally);
        machine.mine.clear();
        machine.ended.clear();
        if let Some((_, to)) = out {
            machine.pass(to);
        }
    }
    machine.pass(end + SignedDuration::from_hours(24));
    // Nothing that failed once and then succeeded is worth a word.
    assert_eq!(*heard.0.lock().unwrap(), Vec::<String>::new());
    machine.took
}

fn serve(
    world: &World,
    machine: &mut Machine,
    until: Timestamp,
    heard: &Heard,
    names: &[JobName],
    chance: &mut StdRng,
) {
    let scheduler = Scheduler::new(JobSpec::all(&world.config), PARALLEL);
    let (ledger, work) = (world.ledger(), world.folder.path().join("work"));
    let bench = Bench {
        ledger: &ledger,
        clock: &world.clock,
        watch: Watch::unlimited(),
        work: &work,
        observers: &[],
    };
    loop {
        let looked = look(&scheduler, &bench, machine);
        world.tally.lock().unwrap().looks += 1;
        assert!(looked.troubles.is_empty(), "{:?}", looked.troubles);
        let now = world.clock.now();
        assert!(looked.wake > now && looked.wake <= now + SignedDuration::from_secs(30));
        news::tell(&ledger, names, heard, now, news::REPEAT).unwrap();
        // A real server looks every half minute. What it could find then is known beforehand, so most of these
        // looks are left out.
        let planned = scheduler.jobs().iter().flat_map(|spec| {
            let state = ledger.read(&spec.name).unwrap();
            let retry = state.retry.as_ref().map(|retry| retry.not_before);
            [scheduler.next_start(spec, &state), retry].into_iter().flatten().filter(|at| *at > now)
        });
        let some_time = now + SignedDuration::from_mins(chance.random_range(5..300));
        let next = planned.min().map_or(some_time, |at| at.min(some_time)).min(until);
        machine.pass(machine.next_end(next));
        if world.clock.now() >= until {
            return;
        }
    }
}

/// Every planned run took place once, and in time; but those that nobody was there for are made up for by one.
fn assert_every_run_happened(
    world: &World,
    took: &[Took],
    from: Timestamp,
    to: Timestamp,
    outage: Option<Outage>,
) {
    let zone = world.config.timezone.get();
    for spec in JobSpec::all(&world.config) {
        let Some(schedule) = &spec.schedule else { continue };
        let planned: BTreeSet<_> = schedule.occurrences(zone, from, to, 10_000).into_iter().collect();
        let runs: Vec<_> = took.iter().filter(|one| one.job == spec.name).map(|one| &one.run).collect();
        let mut begun = BTreeSet::new();
        for run in runs.iter().filter(|run| run.number == 1) {
            let slot = run.slot.unwrap();
            assert!(begun.insert(slot), "{} ran twice for {slot}", spec.name);
            let late = run.started.duration_since(slot);
            assert!(late >= SignedDuration::ZERO && late <= LATE_MAX, "{}: {late:?} after {slot}", spec.name);
        }
        let good: Vec<_> = runs.iter().filter(|run| run.outcome == Outcome::Succeeded).collect();
        let bad = runs.iter().filter(|run| run.outcome == Outcome::Failed).count();
        assert_eq!(good.len() + bad, runs.len(), "{}", spec.name);
        let good: BTreeSet<_> = good.iter().map(|run| run.slot.unwrap()).collect();
        assert_eq!(good, begun, "{}: a run that failed was not made good", spec.name);
        let left_out: Vec<_> = planned.difference(&begun).collect();
        assert!(begun.is_subset(&planned), "{}: runs that nobody planned", spec.name);
        let in_outage = |slot: &Timestamp| outage.is_some_and(|(from, to)| *slot > from && *slot <= to);
        assert!(left_out.iter().all(|slot| in_outage(slot)), "{}: {left_out:?} did not run", spec.name);
        let missed = world.ledger().read(&spec.name).unwrap().missed;
        assert_eq!(missed, left_out.len() as u64, "{}: missed runs", spec.name);
        let newest_in_outage = planned.iter().rfind(|slot| in_outage(slot));
        assert!(
            newest_in_outage.is_none_or(|slot| begun.contains(slot)),
            "{}: nothing makes up for it",
            spec.name
        );
    }
}

/// The copies that a job uses: which alone, and which beside others. Told apart from what the scheduler goes by.
fn uses(kind: &JobKind) -> Vec<(&str, bool)> {
    match kind {
        JobKind::Backup { copy, .. } => vec![(copy, false)],
        JobKind::Retention(rules) => vec![(&rules.copy, true)],
        JobKind::Mirror(mirror) => vec![(&mirror.from, false), (&mirror.to, true)],
        JobKind::Check(check) => vec![(&check.copy, false)],
        JobKind::RestoreTest(test) => test.copies.iter().map(|copy| (copy.as_str(), false)).collect(),
        JobKind::Statistics(_) => Vec::new(),
    }
}

/// Nobody who must be alone was in company; no job ran beside itself; and no more ran than may.
fn assert_nobody_met(world: &World, took: &[Took]) -> usize {
    let specs = JobSpec::all(&world.config);
    let kind = |took: &Took| &specs.iter().find(|spec| spec.name == took.job).unwrap().kind;
    let mut side_by_side = 0;
    for (number, one) in took.iter().enumerate() {
        let beside = |other: &&Took| other.run.started < one.run.ended && one.run.started < other.run.ended;
        for other in took.iter().skip(number + 1).filter(beside) {
            side_by_side += 1;
            assert_ne!(one.job, other.job, "it ran beside itself: {one:?} {other:?}");
            for (copy, alone) in uses(kind(one)) {
                let met = uses(kind(other)).iter().any(|(theirs, also)| *theirs == copy && (alone || *also));
                assert!(!met, "they met on {copy}: {one:?} {other:?}");
            }
        }
        let at_start = took
            .iter()
            .filter(|other| other.run.started <= one.run.started && one.run.started < other.run.ended);
        assert!(at_start.count() <= PARALLEL, "too many at {}", one.run.started);
    }
    side_by_side
}

/// What is in the repositories is what should be, it is whole, and it restores.
fn assert_repositories_are_good(world: &World) {
    for copy in &world.config.copies {
        let there = world.there.lock().unwrap()[&copy.name].clone();
        assert_eq!(snapshot_files(&world.repository(&copy.name)), there, "{}", copy.name);
        world.restics[&copy.name].check(true);
        let locks = std::fs::read_dir(world.repository(&copy.name).join("locks")).unwrap().count();
        assert_eq!(locks, 0, "{}", copy.name);
        world.restore_latest(&copy.name);
        for id in there.iter().take(20) {
            world.restores(&copy.name, id);
        }
    }
}

struct Story {
    fleet: fn(&Path) -> Config,
    from: &'static str,
    days: i64,
    outage: Option<(&'static str, &'static str)>,
}

impl Story {
    /// Returns how often each job was to run, and how many snapshots were dropped.
    fn tell(&self, seed: u64) -> Option<(BTreeMap<String, usize>, usize)> {
        let world = World::new(seed, self.from, self.fleet)?;
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let outage = self.outage.map(|(from, to)| (at(from), at(to)));
        let from = at(self.from);
        let to = from + SignedDuration::from_hours(24 * self.days);
        let took = simulate(&world, self.days, outage);
        // What was planned shortly before the end may still have had to wait.
        let settled = to - LATE_MAX;
        let in_time: Vec<_> = took.iter().filter(|one| one.run.slot.unwrap() <= settled).cloned().collect();
        assert_every_run_happened(&world, &in_time, from, settled, outage);
        let side_by_side = assert_nobody_met(&world, &took);
        assert_repositories_are_good(&world);
        let failed = took.iter().filter(|one| one.run.outcome == Outcome::Failed).count();
        let mut runs = BTreeMap::new();
        for one in took.iter().filter(|one| one.run.number == 1) {
            *runs.entry(one.job.0.clone()).or_default() += 1;
        }
        let tally = world.tally.lock().unwrap();
        eprintln!(
            "seed {seed}: {} runs, {failed} failed, {side_by_side} side by side, {tally:?}",
            took.len()
        );
        eprintln!("{runs:?}");
        // Otherwise this proves less than it says.
        assert!(failed > 0 && tally.restarts >= usize::try_from(self.days - 1).unwrap() * 24 / 28);
        assert!(tally.kept > 0 && tally.dropped > 0 && tally.restored > 0);
        Some((runs, tally.dropped))
    }
}

/// The clock goes forward: the backup of half past two has no such moment on one of these days.
#[test]
fn a_month_of_a_single_node() {
    let story = Story { fleet: fleet::single_node, from: "2026-03-10T12:00:00Z", days: 31, outage: None };
    let Some((runs, dropped)) = story.tell(1) else { return };
    assert_eq!((runs["volumes"], runs["host"]), (31, 31));
    assert_eq!((runs["retention-volumes"], runs["retention-host"], runs["check"]), (31, 31, 4));
    assert!(dropped > 20, "{dropped}");
}

/// The clock goes back: one night has an hour twice. Nobody serves for some hours of the first day.
const AUTUMN: Story = Story {
    fleet: fleet::hourly,
    from: "2026-10-23T22:00:00Z",
    days: 2,
    outage: Some(("2026-10-24T09:05:00Z", "2026-10-24T11:35:00Z")),
};

#[test]
fn two_days_of_an_hourly_fleet() {
    let Some((runs, _)) = AUTUMN.tell(1) else { return };
    // 48 hours, less what the outage left out; the full hours at both ends do not count.
    assert_eq!((runs["grafana"], runs["paperless"]), (46, 46));
    assert_eq!((runs["retention"], runs["offsite"], runs["restore-test"]), (2, 2, 1));
}

#[test]
#[ignore = "takes half an hour or more"]
fn soak_a_month_of_an_hourly_fleet() {
    let story = Story { from: "2026-09-30T22:00:00Z", days: 31, outage: None, ..AUTUMN };
    let Some((runs, dropped)) = story.tell(2) else { return };
    assert_eq!((runs["grafana"], runs["emby"], runs["paperless"]), (744, 744, 743));
    assert_eq!((runs["retention"], runs["offsite"], runs["restore-test"]), (31, 31, 4));
    assert!(dropped > 3000, "{dropped}");
}
