//! A dead man's switch: a URL that is told when a job begins and how it ends, and raises an alarm when it hears
//! nothing. As healthchecks.io takes it: `URL/start`, `URL`, `URL/fail`; <https://healthchecks.io/docs/http_api/>.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use firedrill_core::error::{Error, Result};
use firedrill_core::pipeline::job::Outcome;
use firedrill_core::pipeline::runner::Observer;
use firedrill_core::pipeline::spec::{JobName, JobSpec};
use firedrill_core::pipeline::state::{Attempt, JobState, Run};
use firedrill_core::secret::Secret;

use super::messages::{address, lines};
use crate::http::{self, Limits};

/// Time for one ping with all its tries.
const TIME: Duration = Duration::from_secs(20);
/// At most this much is told.
const TEXT_MAX: usize = 8_000;

/// Pings the URLs of jobs.
pub struct Pings {
    urls: BTreeMap<JobName, Secret>,
    troubles: Mutex<Vec<Error>>,
}

impl Pings {
    /// Pings the URL of each job that has one; it is a secret.
    pub fn new(urls: BTreeMap<JobName, Secret>) -> Self {
        Self { urls, troubles: Mutex::default() }
    }

    /// What could not be told since this was asked last.
    pub fn troubles(&self) -> Vec<Error> {
        std::mem::take(&mut self.troubles.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ping(&self, job: &JobSpec, ending: &str, text: &str) {
        let Some(secret) = self.urls.get(&job.name) else { return };
        let done = http::apart("ping", || once(secret, ending, text)).map_err(|error| {
            let url = address(secret.reveal(), "a ping").map(|url| http::secrets_of(&url));
            let mut error = http::conceal(error, &url.unwrap_or_default());
            error.attempted = format!("{} for the job {}", error.attempted, job.name);
            error
        });
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).extend(done.err());
    }
}

fn once(secret: &Secret, ending: &str, text: &str) -> Result<()> {
    let mut url = address(secret.reveal(), "a ping")?;
    let path = format!("{}{ending}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let client = http::client(&url, "a ping")?;
    let limits = Limits {
        deadline: Instant::now().checked_add(TIME),
        request: Duration::from_secs(10),
        pause: Duration::from_millis(500),
    };
    let body = lines(text, TEXT_MAX);
    http::send("ping", limits, || client.post(url.clone()).body(body.clone()), |_, _| None)
        .map(drop)
        .map_err(http::Failure::into_error)
}

impl Observer for Pings {
    fn began(&self, job: &JobSpec, _: &Attempt) {
        self.ping(job, "/start", "");
    }

    fn ended(&self, job: &JobSpec, run: &Run, state: &JobState) {
        let text = run.error.as_ref().map(Error::chain).unwrap_or_default();
        match run.outcome {
            Outcome::Succeeded => self.ping(job, "", &text),
            // It was planned so, or asked for; the next run tells more.
            Outcome::Skipped | Outcome::Cancelled => self.ping(job, "/log", run.outcome.word()),
            // The next try comes soon; a switch that was told of a start waits for an end.
            _ if state.retry.is_some() => self.ping(job, "/log", &text),
            _ => self.ping(job, "/fail", &text),
        }
    }
}
