//! What becomes of a run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{jobs, target};
use crate::clock::{Clock as _, SimulatedClock};
use crate::error::{Error, ErrorKind};
use crate::pipeline::job::{Facts, Job, JobOrder, JobReport, Outcome};
use crate::pipeline::ledger::Ledger;
use crate::pipeline::news::{self, Brought, Message, Messenger};
use crate::pipeline::runner::{Bench, Observer, Turn, run};
use crate::pipeline::spec::{JobSpec, Mode, Need};
use crate::pipeline::state::{Attempt, JobState, Run};
use crate::watch::Watch;

/// A job that does what it is told, and counts.
struct Told<F>(F, AtomicU32);

impl<F: Fn(&JobOrder<'_>) -> JobReport + Send + Sync> Job for Told<F> {
    fn run(&self, order: &JobOrder<'_>) -> JobReport {
        self.1.fetch_add(1, Ordering::SeqCst);
        (self.0)(order)
    }
}

fn told<F: Fn(&JobOrder<'_>) -> JobReport + Send + Sync>(what: F) -> Told<F> {
    Told(what, AtomicU32::new(0))
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn began(&self, job: &JobSpec, attempt: &Attempt) {
        self.0.lock().unwrap().push(format!("{} began #{}", job.name, attempt.number));
    }

    fn ended(&self, job: &JobSpec, run: &Run, state: &JobState) {
        let failures = state.failures;
        self.0.lock().unwrap().push(format!("{} {} failures {failures}", job.name, run.outcome.word()));
    }
}

struct Place {
    folder: tempfile::TempDir,
    ledger: Ledger,
    clock: SimulatedClock,
    heard: Heard,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            ledger: Ledger::open(folder.path()).unwrap(),
            clock: SimulatedClock::starting_at(slot()),
            heard: Heard::default(),
            folder,
        }
    }

    fn run(&self, spec: &JobSpec, job: &dyn Job, turn: Turn) -> Result<Run, Error> {
        let work = self.folder.path().join("work");
        let bench = Bench {
            ledger: &self.ledger,
            clock: &self.clock,
            watch: Watch::unlimited(),
            work: &work,
            observers: &[&self.heard],
        };
        let run = run(spec, job, turn, &bench);
        assert!(std::fs::read_dir(&work).map_or(0, Iterator::count) == 0, "a folder stays");
        run
    }

    fn state(&self, spec: &JobSpec) -> JobState {
        self.ledger.read(&spec.name).unwrap()
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.0.lock().unwrap())
    }
}

fn slot() -> Timestamp {
    "2026-02-01T10:20:00Z".parse().unwrap()
}

fn planned(number: u32) -> Turn {
    Turn { slot: Some(slot()), number }
}

fn shop(rules: &str) -> JobSpec {
    jobs(&format!("targets:\n{}", target("shop", "20 * * * *", rules))).remove(0)
}

fn unavailable() -> JobReport {
    JobReport::failed(Error::new(ErrorKind::Unavailable, "reach the server"))
}

#[test]
fn a_run_has_a_folder_of_its_own_and_is_remembered() {
    let place = Place::new();
    let spec = shop("");
    let job = told(|order: &JobOrder<'_>| {
        std::fs::write(order.work.join("dump"), "x").unwrap();
        place.clock.advance(SignedDuration::from_secs(90));
        JobReport::succeeded(Facts::None)
    });
    let ended = place.run(&spec, &job, planned(1)).unwrap();
    assert_eq!((ended.outcome, ended.seconds()), (Outcome::Succeeded, 90.0));
    let state = place.state(&spec);
    assert_eq!(state.handled, Some(slot()));
    assert_eq!((state.running.is_none(), state.last_success, state.runs.len()), (true, Some(ended), 1));
    assert_eq!(place.heard(), ["shop began #1", "shop succeeded failures 0"]);
}

#[test]
fn a_failure_and_a_panic_are_tried_again_and_counted() {
    let place = Place::new();
    let spec = shop("retry: {times: 2, wait: 1m}");
    let broken = told(|_: &JobOrder<'_>| unavailable());
    place.run(&spec, &broken, planned(1)).unwrap();
    let retry = place.state(&spec).retry.unwrap();
    assert_eq!((retry.slot, retry.number), (slot(), 2));
    assert_eq!(retry.not_before.duration_since(slot()), SignedDuration::from_mins(1));
    let panics = told(|_: &JobOrder<'_>| panic!("a bug"));
    let ended = place.run(&spec, &panics, planned(2)).unwrap();
    assert_eq!(ended.outcome, Outcome::Failed);
    assert!(ended.error.unwrap().chain().contains("panicked"));
    let retry = place.state(&spec).retry.unwrap();
    assert_eq!(retry.not_before.duration_since(slot()), SignedDuration::from_mins(2), "twice as long");
    place.run(&spec, &broken, planned(3)).unwrap();
    let state = place.state(&spec);
    assert_eq!((state.retry, state.failures), (None, 3), "that was the last one");
    assert_eq!(place.heard().last().unwrap(), "shop failed failures 3");
    place.run(&spec, &told(|_: &JobOrder<'_>| JobReport::succeeded(Facts::None)), planned(1)).unwrap();
    assert_eq!(place.state(&spec).failures, 0);
    // By hand nothing is tried again, and no planned start is handled.
    place.run(&spec, &broken, Turn::BY_HAND).unwrap();
    assert_eq!(place.state(&spec).retry, None);
    // The next planned run comes sooner than the retry.
    let slow = shop("retry: {times: 2, wait: 2h}");
    place.run(&slow, &broken, planned(1)).unwrap();
    assert_eq!(place.state(&slow).retry, None);
}

#[test]
fn a_run_that_died_is_told_by_the_next_one() {
    let place = Place::new();
    let spec = shop("");
    let lock = place.ledger.lock(&spec.name).unwrap().unwrap();
    let mut state = place.state(&spec);
    state.begin(Attempt { slot: Some(slot()), number: 1, started: slot(), process: 1 });
    place.ledger.write(&lock, &state).unwrap();
    let job = told(|_: &JobOrder<'_>| JobReport::succeeded(Facts::None));
    // It is not dead as long as its lock is held.
    let refused = place.run(&spec, &job, planned(1)).unwrap_err();
    assert!(refused.chain().contains("another process runs it"), "{}", refused.chain());
    assert_eq!(job.1.load(Ordering::SeqCst), 0);
    drop(lock);
    // What it was at goes as well: a folder that stays fails the test.
    std::fs::create_dir_all(place.folder.path().join("work/job-shop-1/dump")).unwrap();
    place.run(&spec, &job, planned(2)).unwrap();
    assert_eq!(place.heard(), ["shop died failures 1", "shop began #2", "shop succeeded failures 0"]);
    let outcomes: Vec<_> = place.state(&spec).runs.iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, [Outcome::Died, Outcome::Succeeded]);
}

#[test]
fn what_a_job_needs_is_waited_for_or_does_without() {
    let place = Place::new();
    let alone = [Need { copy: "local".to_owned(), mode: Mode::Exclusive }];
    let held = place.ledger.try_take(&alone).unwrap().unwrap();
    let job = told(|_: &JobOrder<'_>| JobReport::succeeded(Facts::None));
    let skipped = place.run(&shop("overlap: skip"), &job, planned(1)).unwrap();
    assert_eq!(skipped.outcome, Outcome::Skipped);
    let state = place.state(&shop(""));
    assert_eq!((state.missed, state.failures, state.last_success), (1, 0, None));
    let late = place.run(&shop("deadline: 200ms"), &job, planned(1)).unwrap();
    assert_eq!(late.outcome, Outcome::TimedOut);
    assert_eq!(job.1.load(Ordering::SeqCst), 0, "it ran beside one that must be alone");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            drop(held);
        });
        assert_eq!(place.run(&shop(""), &job, planned(1)).unwrap().outcome, Outcome::Succeeded);
    });
    assert_eq!(job.1.load(Ordering::SeqCst), 1);
}

#[test]
fn a_state_that_cannot_be_written_stops_the_job_before_it_begins() {
    let place = Place::new();
    let spec = shop("");
    std::fs::write(place.folder.path().join("jobs/shop.json"), "not ours").unwrap();
    let job = told(|_: &JobOrder<'_>| JobReport::succeeded(Facts::None));
    let error = place.run(&spec, &job, planned(1)).unwrap_err();
    assert!(error.chain().contains("remove the file"), "{}", error.chain());
    assert_eq!(job.1.load(Ordering::SeqCst), 0);
}

/// Brings nothing, and remembers what it was to bring.
#[derive(Default)]
struct Post(Mutex<Vec<String>>);

impl Messenger for Post {
    fn bring(&self, message: &Message) -> Result<Brought, Error> {
        self.0.lock().unwrap().push(message.title());
        Ok(Brought::Yes)
    }
}

#[test]
fn people_are_not_told_of_a_failure_while_it_is_tried_again() {
    let place = Place::new();
    let spec = shop("retry: {times: 1, wait: 1m}");
    let brought = Post::default();
    let tell = || {
        let names = [spec.name.clone()];
        news::tell(&place.ledger, &names, &brought, place.clock.now(), news::REPEAT).unwrap();
        std::mem::take(&mut *brought.0.lock().unwrap())
    };
    place.run(&spec, &told(|_: &JobOrder<'_>| unavailable()), planned(1)).unwrap();
    assert_eq!(tell(), Vec::<String>::new(), "it is tried again in a minute");
    let retry = told(|_: &JobOrder<'_>| {
        assert_eq!(tell(), Vec::<String>::new(), "it is being tried again");
        unavailable()
    });
    place.run(&spec, &retry, planned(2)).unwrap();
    assert_eq!(tell(), ["shop failed"]);
    place.run(&spec, &told(|_: &JobOrder<'_>| JobReport::succeeded(Facts::None)), Turn::BY_HAND).unwrap();
    assert_eq!(tell(), ["shop well again"]);
}
