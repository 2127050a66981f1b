//! A server's looks, with hands that only pretend.

use std::collections::BTreeSet;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};

use super::{jobs, target};
use crate::clock::{Clock as _, SimulatedClock};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::job::{Facts, Job, JobOrder, JobReport, Outcome};
use crate::pipeline::ledger::Ledger;
use crate::pipeline::runner::{Bench, Observer, Turn, run};
use crate::pipeline::scheduler::Scheduler;
use crate::pipeline::serve::{Hands, Looked, look};
use crate::pipeline::spec::{JobName, JobSpec};
use crate::pipeline::state::{Attempt, JobState, Run};
use crate::watch::Watch;

#[derive(Default)]
struct Fake {
    started: Vec<(JobName, Turn)>,
    running: BTreeSet<JobName>,
    ended: Vec<(JobName, Turn, String)>,
    refuses: bool,
}

impl Hands for Fake {
    fn start(&mut self, job: &JobSpec, turn: Turn) -> Result<()> {
        if self.refuses {
            return Err(Error::new(ErrorKind::Unavailable, "start a process"));
        }
        self.started.push((job.name.clone(), turn));
        self.running.insert(job.name.clone());
        Ok(())
    }

    fn running(&mut self) -> BTreeSet<JobName> {
        self.running.clone()
    }

    fn ended(&mut self) -> Vec<(JobName, Turn, String)> {
        std::mem::take(&mut self.ended)
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn ended(&self, job: &JobSpec, run: &Run, _: &JobState) {
        self.0.lock().unwrap().push(format!("{} {}", job.name, run.outcome.word()));
    }
}

struct Good;

impl Job for Good {
    fn run(&self, _: &JobOrder<'_>) -> JobReport {
        JobReport::succeeded(Facts::None)
    }
}

struct Place {
    folder: tempfile::TempDir,
    ledger: Ledger,
    clock: SimulatedClock,
    heard: Heard,
    scheduler: Scheduler,
    hands: Fake,
}

impl Place {
    fn new(rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let jobs = jobs(&format!("targets:\n{}", target("shop", "20 * * * *", rules)));
        Self {
            ledger: Ledger::open(folder.path()).unwrap(),
            clock: SimulatedClock::starting_at("2026-02-01T10:00:00Z".parse().unwrap()),
            heard: Heard::default(),
            scheduler: Scheduler::new(jobs, 4),
            hands: Fake::default(),
            folder,
        }
    }

    fn with_bench<T>(&mut self, what: impl FnOnce(&Scheduler, &Bench<'_>, &mut Fake) -> T) -> T {
        let work = self.folder.path().join("work");
        let bench = Bench {
            ledger: &self.ledger,
            clock: &self.clock,
            watch: Watch::unlimited(),
            work: &work,
            observers: &[&self.heard],
        };
        what(&self.scheduler, &bench, &mut self.hands)
    }

    fn look(&mut self) -> Looked {
        let looked = self.with_bench(|scheduler, bench, hands| look(scheduler, bench, hands));
        assert!(looked.wake > self.clock.now());
        looked
    }

    fn minutes(&self, minutes: i64) {
        self.clock.advance(SignedDuration::from_mins(minutes));
    }

    fn state(&self) -> JobState {
        self.ledger.read(&self.scheduler.jobs()[0].name).unwrap()
    }

    /// The process that was started last does its job, and ends.
    fn finish(&mut self) {
        let (job, turn) = self.hands.started.last().unwrap().clone();
        self.with_bench(|scheduler, bench, hands| {
            run(&scheduler.jobs()[0], &Good, turn, bench).unwrap();
            hands.running.remove(&job);
            hands.ended.push((job, turn, "exit 0".to_owned()));
        });
    }

    /// The process that was started last ends without having begun.
    fn vanish(&mut self) {
        let (job, turn) = self.hands.started.last().unwrap().clone();
        self.hands.running.remove(&job);
        self.hands.ended.push((job, turn, "killed".to_owned()));
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.0.lock().unwrap())
    }
}

fn slot(text: &str) -> Option<Timestamp> {
    Some(format!("2026-02-01T{text}:00Z").parse().unwrap())
}

#[test]
fn every_planned_start_comes_once_across_restarts_of_the_server() {
    let mut place = Place::new("");
    place.look();
    let mut wanted = Vec::new();
    for hour in 10..16 {
        place.minutes(20);
        place.look();
        // A second look, and a server that starts anew, start nothing again.
        place.look();
        place.finish();
        let started = std::mem::take(&mut place.hands.started);
        place.hands = Fake { ended: place.hands.ended.split_off(0), ..Fake::default() };
        assert_eq!(started.len(), 1, "{started:?}");
        wanted.push(started[0].1.slot);
        assert_eq!(started[0].1.slot, slot(&format!("{hour}:20")));
        place.look();
        place.minutes(40);
    }
    assert_eq!(place.state().runs.len(), 6);
    assert!(place.heard().iter().all(|text| text == "shop succeeded"));
}

#[test]
fn a_process_that_never_began_is_a_run_that_died_and_is_not_started_at_each_look() {
    let mut place = Place::new("retry: {times: 1, wait: 1m}");
    place.look();
    place.minutes(20);
    place.look();
    assert_eq!(place.hands.started.len(), 1);
    place.vanish();
    let looked = place.look();
    assert!(looked.told.iter().any(|text| text.contains("never began")), "{:?}", looked.told);
    assert_eq!((place.hands.started.len(), place.state().failures), (1, 1));
    place.minutes(1);
    place.look();
    assert_eq!(place.hands.started[1].1, Turn { slot: slot("10:20"), number: 2 });
    place.vanish();
    place.look();
    assert_eq!((place.state().retry, place.state().failures), (None, 2));
    assert_eq!(place.heard(), ["shop died", "shop died"]);
    place.minutes(10);
    place.look();
    assert_eq!(place.hands.started.len(), 2);
}

#[test]
fn a_machine_that_starts_no_process_is_a_trouble_and_a_failed_run() {
    let mut place = Place::new("retry: {times: 0}");
    place.look();
    place.minutes(20);
    place.hands.refuses = true;
    let looked = place.look();
    assert_eq!(looked.troubles.len(), 1, "{looked:?}");
    assert!(place.look().troubles.is_empty(), "it is tried at each look");
    assert_eq!(place.state().last().unwrap().outcome, Outcome::Died);
}

#[test]
fn a_dead_run_of_somebody_else_is_told_by_the_server() {
    let mut place = Place::new("retry: {times: 0}");
    place.look();
    let name = place.scheduler.jobs()[0].name.clone();
    let lock = place.ledger.lock(&name).unwrap().unwrap();
    let mut state = place.state();
    state.begin(Attempt { slot: None, number: 1, started: place.clock.now(), process: 1 });
    place.ledger.write(&lock, &state).unwrap();
    place.look();
    assert!(place.heard().is_empty(), "its lock is held, so it lives");
    drop(lock);
    place.look();
    assert_eq!(place.heard(), ["shop died"]);
}

#[test]
fn a_server_that_was_away_makes_up_once() {
    let mut place = Place::new("");
    place.look();
    place.minutes(60 * 50 + 30);
    let looked = place.look();
    assert!(looked.told.iter().any(|text| text.contains("50 planned runs were missed")), "{:?}", looked.told);
    assert_eq!(place.hands.started.len(), 1);
    assert_eq!(place.state().missed, 50);
}
