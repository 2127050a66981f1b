//! Requests to servers that may be slow, down or rude: bounded in time, tries and size, and silent about secrets.

use std::io::Read;
use std::time::{Duration, Instant};

use firedrill_core::error::{Error, ErrorKind, Result};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use url::Url;

use crate::text;

/// Attempts per request.
pub(crate) const ATTEMPTS: u32 = 3;
/// At most this much of an error page is shown.
const BODY_MAX: usize = 500;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server answered, and said no.
    Refused(Error),
    /// There was no answer, or none that helps; further requests are not worth the time.
    Unreachable(Error),
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) | Self::Unreachable(error) => error,
        }
    }
}

/// Whether another attempt makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Maybe,
    Never,
}

/// How long everything may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// When it must be over.
    pub(crate) deadline: Option<Instant>,
    /// Time for one request.
    pub(crate) request: Duration,
    /// Pause before the second attempt; it doubles before the third.
    pub(crate) pause: Duration,
}

impl Limits {
    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()))
    }
}

/// A client for servers at `base`.
pub(crate) fn client(base: &Url, what: &str) -> Result<Client> {
    let mut builder = Client::builder()
        .user_agent(concat!("firedrill/", env!("CARGO_PKG_VERSION")))
        // A redirected PUT would arrive as a GET and look as if it had been taken.
        .redirect(reqwest::redirect::Policy::none());
    if base.scheme() == "http" {
        // Without TLS no certificates are needed, and a minimal container has none to load.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|e| {
        Error::new(ErrorKind::Unavailable, format!("prepare an HTTP client for {what}"))
            .from_source(&e.without_url())
    })
}

/// Sends a request until there is an answer that counts. `advice` says what to do about a refusal, given its status
/// and where it redirects to.
pub(crate) fn send(
    attempted: &str,
    limits: Limits,
    request: impl Fn() -> RequestBuilder,
    advice: impl Fn(StatusCode, Option<String>) -> Option<String>,
) -> Result<Response, Failure> {
    let mut pause = limits.pause;
    let mut attempt = 1;
    loop {
        let (failure, again) = match once(attempted, limits, request(), &advice) {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        if again == Again::Never || attempt == ATTEMPTS || limits.left() <= pause {
            return Err(failure);
        }
        tracing::debug!(attempt, "{}", failure.into_error().chain());
        std::thread::sleep(pause);
        pause = pause.saturating_mul(2);
        attempt += 1;
    }
}

fn once(
    attempted: &str,
    limits: Limits,
    request: RequestBuilder,
    advice: &impl Fn(StatusCode, Option<String>) -> Option<String>,
) -> Result<Response, (Failure, Again)> {
    let error = |kind| Error::new(kind, attempted);
    let left = limits.left();
    if left.is_zero() {
        let late = error(ErrorKind::Timeout).because("the time limit passed");
        return Err((Failure::Unreachable(late), Again::Never));
    }
    let response = request.timeout(left.min(limits.request)).send().map_err(|e| {
        let kind = if e.is_timeout() { ErrorKind::Timeout } else { ErrorKind::Unavailable };
        // A request that could not even be built will not be built the second time either.
        let again = if e.is_builder() { Again::Never } else { Again::Maybe };
        (Failure::Unreachable(error(kind).from_source(&e.without_url())), again)
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let again = match status {
        StatusCode::TOO_MANY_REQUESTS => Again::Maybe,
        _ if status.is_server_error() => Again::Maybe,
        _ => Again::Never,
    };
    let location =
        response.headers().get("location").and_then(|l| l.to_str().ok()).map(|l| text::brief(l, BODY_MAX));
    let mut refused = error(ErrorKind::Unavailable).because(format!("the answer was {status}"));
    let said = beginning(response);
    if !said.is_empty() {
        refused = refused.because(said);
    }
    if let Some(advice) = advice(status, location) {
        refused = refused.advise(advice);
    }
    Err((Failure::Refused(refused), again))
}

/// The beginning of an answer's body, as text.
fn beginning(response: Response) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is not shown; the status says enough.
    let _ = response.take(4 * BODY_MAX as u64).read_to_end(&mut bytes);
    text::brief(String::from_utf8_lossy(&bytes).trim(), BODY_MAX)
}

/// An error in which none of `secrets` is told: servers like to repeat what they were asked.
pub(crate) fn conceal(mut error: Error, secrets: &[String]) -> Error {
    let mut secrets: Vec<&String> = secrets.iter().filter(|secret| !secret.is_empty()).collect();
    // What is part of another would leave the rest of it to be seen.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let hide = |text: &mut String| {
        for secret in &secrets {
            *text = text.replace(secret.as_str(), "***");
        }
    };
    error.causes.iter_mut().for_each(hide);
    error.advice.iter_mut().for_each(hide);
    error
}

/// What of a URL that is a secret must not be told: the whole, the way on its server, and each longer part of that.
pub(crate) fn secrets_of(url: &Url) -> Vec<String> {
    let password = url.password().unwrap_or_default();
    let mut secrets = vec![url.to_string(), url.username().to_owned(), password.to_owned()];
    let way = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let parts = way.split(['/', '?', '&', '=', '.']).filter(|part| part.len() >= PART_MIN);
    secrets.extend(parts.map(str::to_owned));
    if url.path().len() > 1 {
        secrets.push(url.path().to_owned());
    }
    secrets
}

/// Shorter parts of a URL are words and no secrets.
const PART_MIN: usize = 8;

/// Runs blocking requests on a thread of their own: the blocking client refuses to work inside an async context, and
/// nobody knows where this is called from.
pub(crate) fn apart<T: Send>(what: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, what).because("a panic")))
}
