//! What people are told, and how often.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::job::{Facts, JobReport, Outcome};
use crate::pipeline::ledger::Ledger;
use crate::pipeline::news::{Brought, Message, Messenger, tell};
use crate::pipeline::spec::JobName;
use crate::pipeline::state::{Attempt, Retrying};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Default)]
struct Post {
    brought: Mutex<Vec<Message>>,
    down: AtomicBool,
    silent: AtomicBool,
}

impl Messenger for Post {
    fn bring(&self, message: &Message) -> Result<Brought> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "tell people"));
        }
        if self.silent.load(Ordering::SeqCst) {
            return Ok(Brought::Later);
        }
        self.brought.lock().unwrap().push(message.clone());
        Ok(Brought::Yes)
    }
}

struct Place {
    _folder: tempfile::TempDir,
    ledger: Ledger,
    post: Post,
    now: Timestamp,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).unwrap();
        let now = "2026-02-01T10:00:00Z".parse().unwrap();
        Self { _folder: folder, ledger, post: Post::default(), now }
    }

    fn hours(&mut self, hours: i64) {
        self.now = self.now.checked_add(SignedDuration::from_hours(hours)).unwrap();
    }

    fn ran(&self, job: &str, good: bool, again: bool) {
        let report = match good {
            true => JobReport::succeeded(Facts::None),
            false => JobReport::failed(Error::new(ErrorKind::Unavailable, "reach the server")),
        };
        self.reported(job, report, again);
    }

    fn died(&self, job: &str) {
        let error = Error::new(ErrorKind::Internal, "finish");
        self.reported(job, JobReport { outcome: Outcome::Died, ..JobReport::failed(error) }, false);
    }

    fn reported(&self, job: &str, report: JobReport, again: bool) {
        let name = JobName(job.to_owned());
        let lock = self.ledger.lock(&name).unwrap().unwrap();
        let mut state = self.ledger.read(&name).unwrap();
        state.begin(Attempt { slot: Some(self.now), number: 1, started: self.now, process: 1 });
        let retry = again.then_some(Retrying { slot: self.now, number: 2, not_before: self.now });
        state.end(report, self.now, retry).unwrap();
        self.ledger.write(&lock, &state).unwrap();
    }

    /// The titles of what was told.
    fn told(&self) -> Vec<String> {
        let jobs = ["emby", "grafana", "paperless"].map(|job| JobName(job.to_owned()));
        let _ = tell(&self.ledger, &jobs, &self.post, self.now, DAY);
        std::mem::take(&mut *self.post.brought.lock().unwrap()).iter().map(Message::title).collect()
    }
}

#[test]
fn people_are_told_of_changes_and_of_nothing_else() {
    let mut place = Place::new();
    assert!(place.told().is_empty());
    place.ran("emby", true, false);
    assert!(place.told().is_empty(), "what is well from the beginning is no news");
    place.ran("grafana", false, true);
    assert!(place.told().is_empty(), "it is tried again");
    place.ran("grafana", false, false);
    assert_eq!(place.told(), ["grafana failed"]);
    place.hours(1);
    place.ran("grafana", false, false);
    assert!(place.told().is_empty(), "they know");
    place.hours(24);
    assert_eq!(place.told(), ["grafana still failing"]);
    place.ran("emby", false, false);
    place.ran("paperless", false, false);
    // One message for all, and whoever is told anything hears of everything that is bad.
    assert_eq!(place.told(), ["emby, paperless failed; grafana still failing"]);
    place.ran("grafana", true, false);
    assert_eq!(place.told(), ["emby, paperless still failing; grafana well again"]);
    place.ran("grafana", true, false);
    assert!(place.told().is_empty());
}

#[test]
fn what_could_not_be_brought_is_told_later() {
    let place = Place::new();
    place.ran("emby", false, false);
    place.post.down.store(true, Ordering::SeqCst);
    assert!(place.told().is_empty());
    place.post.down.store(false, Ordering::SeqCst);
    place.post.silent.store(true, Ordering::SeqCst);
    assert!(place.told().is_empty(), "nobody is asked again so soon");
    place.post.silent.store(false, Ordering::SeqCst);
    assert_eq!(place.told(), ["emby failed"]);
    assert!(place.told().is_empty());
}

#[test]
fn a_message_says_why_and_since_when() {
    let mut place = Place::new();
    place.ran("emby", false, false);
    place.hours(3);
    place.ran("emby", false, false);
    let job = [JobName("emby".to_owned())];
    let message = tell(&place.ledger, &job, &place.post, place.now, DAY).unwrap().unwrap();
    assert_eq!(message.text(), "emby: failed: failed to reach the server (since 2026-02-01 10:00Z)");
}

#[test]
fn a_run_that_died_is_told_also_when_the_next_one_healed_it() {
    let mut place = Place::new();
    place.ran("emby", true, false);
    assert!(place.told().is_empty());
    // Without a server, only the next run notices: by the time people can be told it is well.
    place.hours(1);
    place.died("emby");
    place.ran("emby", true, false);
    let job = [JobName("emby".to_owned())];
    let message = tell(&place.ledger, &job, &place.post, place.now, DAY).unwrap().unwrap();
    assert_eq!(message.title(), "emby well again");
    let text = "emby: died in the run of 2026-02-01 11:00Z, and succeeded at 2026-02-01 11:00Z (since 2026-02-01 11:00Z)";
    assert_eq!(message.text(), text);
    place.post.brought.lock().unwrap().clear();
    assert!(place.told().is_empty(), "once");
    place.hours(1);
    place.ran("emby", false, true);
    place.ran("emby", true, false);
    assert!(place.told().is_empty(), "a failure that a retry heals is no news");
    place.died("emby");
    place.died("emby");
    place.ran("emby", true, false);
    assert_eq!(place.told(), ["emby well again"]);
    // Who was told that it is bad hears that it is well, once.
    place.hours(1);
    place.died("emby");
    assert_eq!(place.told(), ["emby failed"]);
    place.ran("emby", true, false);
    assert_eq!(place.told(), ["emby well again"]);
    assert!(place.told().is_empty());
}
