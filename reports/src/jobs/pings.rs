//! A dead man's switch: a URL that is told when a job begins and how it ends, and raises an alarm when it hears
//! nothing. As healthchecks.io takes it: `URL/start`, `URL`, `URL/fail`; <https://healthchecks.io/docs/http_api/>.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use firedrill_core::error::{Error, Result};
use firedrill_core::pipeline::job::Outcome;
use firedrill_core::pipeline::runner::Observer;
use firedrill_core::pipeline::spec::JobSpec;
use firedrill_core::pipeline::state::{Attempt, JobState, Run};
use firedrill_core::secret::Secret;

use super::messages::address;
use crate::http::{self, Limits};

/// Time for one ping with all its tries.
const TIME: Duration = Duration::from_secs(20);
/// At most this much is told.
const TEXT_MAX: usize = 8_000;

/// Pings the URL of a job.
pub struct Pings {
    url: Secret,
    troubles: Mutex<Vec<Error>>,
}

impl Pings {
    /// Pings `url`, which is a secret.
    pub fn new(url: Secret) -> Self {
        Self { url, troubles: Mutex::default() }
    }

    /// What could not be told since this was asked last.
    pub fn troubles(&self) -> Vec<Error> {
        std::mem::take(&mut self.troubles.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ping(&self, ending: &str, text: &str) {
        let done = http::apart("ping", || self.once(ending, text));
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).extend(done.err());
    }

    fn once(&self, ending: &str, text: &str) -> Result<()> {
        let mut url = address(self.url.reveal(), "a ping")?;
        let path = format!("{}{ending}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let client = http::client(&url, "a ping")?;
        let limits = Limits {
            deadline: Instant::now().checked_add(TIME),
            request: Duration::from_secs(10),
            pause: Duration::from_millis(500),
        };
        let body = crate::text::brief(text, TEXT_MAX);
        http::send("ping", limits, || client.post(url.clone()).body(body.clone()), |_, _| None)
            .map(drop)
            .map_err(http::Failure::into_error)
    }
}

impl Observer for Pings {
    fn began(&self, _: &JobSpec, _: &Attempt) {
        self.ping("/start", "");
    }

    fn ended(&self, _: &JobSpec, run: &Run, state: &JobState) {
        let text = run.error.as_ref().map(Error::chain).unwrap_or_default();
        match run.outcome {
            Outcome::Succeeded => self.ping("", &text),
            // It was planned so, or asked for; the next run tells more.
            Outcome::Skipped | Outcome::Cancelled => self.ping("/log", run.outcome.word()),
            // The next try comes soon; a switch that was told of a start waits for an end.
            _ if state.retry.is_some() => self.ping("/log", &text),
            _ => self.ping("/fail", &text),
        }
    }
}
