//! The processes of one machine: servers that come and go, and runs that outlive them.

use std::collections::BTreeSet;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use firedrill_core::clock::Clock as _;
use firedrill_core::error::{Error, Result};
use firedrill_core::pipeline::job::Outcome;
use firedrill_core::pipeline::news::{self, Brought, Message, Messenger};
use firedrill_core::pipeline::runner::{self, Bench, Turn};
use firedrill_core::pipeline::scheduler::Scheduler;
use firedrill_core::pipeline::serve::{Hands, look};
use firedrill_core::pipeline::spec::{JobName, JobSpec};
use firedrill_core::pipeline::state::Run;
use firedrill_core::watch::Watch;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::work::Real;
use super::world::World;

/// Jobs at a time.
pub(super) const PARALLEL: usize = 4;
/// A thread that does not begin waits for a lock that it should have; the machine is not that slow.
const PATIENCE: Duration = Duration::from_secs(300);

/// A run that took place.
#[derive(Clone, Debug)]
pub(super) struct Took {
    pub(super) job: JobName,
    pub(super) run: Run,
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
pub(super) type Outage = (Timestamp, Timestamp);

/// Lets `days` pass and returns every run.
pub(super) fn simulate(world: &Arc<World>, days: i64, outage: Option<Outage>) -> Vec<Took> {
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
