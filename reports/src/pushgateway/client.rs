//! Talks to the gateway, with bounds on everything.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use firedrill_core::error::{Error, ErrorKind, Result};
use reqwest::blocking::{RequestBuilder, Response};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::group::Key;
use super::{Auth, PushgatewayOptions, shown};
use crate::text;

/// Attempts per request.
const ATTEMPTS: u32 = 3;
/// A longer list of groups is not read.
const GROUPS_MAX: u64 = 64 << 20;
/// At most this much of an error page is shown.
const BODY_MAX: usize = 500;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The gateway answered, and said no.
    Refused(Error),
    /// There was no answer, or none that helps; further requests are not worth the time.
    Unreachable(Error),
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) | Self::Unreachable(error) => error,
        }
    }
}

/// One gateway.
pub(super) struct Client {
    http: reqwest::blocking::Client,
    base: Url,
    auth: Auth,
    deadline: Option<Instant>,
    request_timeout: Duration,
    pause: Duration,
}

impl Client {
    pub(super) fn new(options: &PushgatewayOptions, base: Url) -> Result<Self> {
        let mut builder = reqwest::blocking::Client::builder()
            .user_agent(concat!("firedrill/", env!("CARGO_PKG_VERSION")))
            // A redirected PUT would arrive as a GET and look as if it had been taken.
            .redirect(reqwest::redirect::Policy::none());
        if base.scheme() == "http" {
            // Without TLS no certificates are needed, and a minimal container has none to load.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|e| {
            Error::new(ErrorKind::Unavailable, "prepare an HTTP client for the Pushgateway")
                .from_source(&e.without_url())
        })?;
        Ok(Self {
            http,
            base,
            auth: options.auth.clone(),
            deadline: Instant::now().checked_add(options.timeout),
            request_timeout: options.request_timeout,
            pause: options.pause,
        })
    }

    /// Replaces one group.
    pub(super) fn put(&self, key: &Key, body: &str) -> Result<(), Failure> {
        let attempted = format!("push metrics to {}", self.shown(&key.path()));
        self.send(&attempted, Method::PUT, &key.path(), Some(body)).map(drop)
    }

    /// Deletes one group.
    pub(super) fn delete(&self, key: &Key) -> Result<(), Failure> {
        let attempted = format!("delete the metrics at {}", self.shown(&key.path()));
        self.send(&attempted, Method::DELETE, &key.path(), None).map(drop)
    }

    /// The keys of all groups.
    pub(super) fn groups(&self) -> Result<Vec<Key>> {
        let path = "api/v1/metrics";
        let attempted = format!("list the groups at {}", self.shown(path));
        let response = self.send(&attempted, Method::GET, path, None).map_err(Failure::into_error)?;
        let list: List = serde_json::from_reader(std::io::BufReader::new(response.take(GROUPS_MAX)))
            .map_err(|e| Error::new(ErrorKind::Unavailable, attempted).from_source(&e))?;
        Ok(list.data.into_iter().filter_map(|group| Key::from_labels(group.labels)).collect())
    }

    fn send(
        &self,
        attempted: &str,
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<Response, Failure> {
        let mut pause = self.pause;
        let mut attempt = 1;
        loop {
            let outcome = self.once(attempted, method.clone(), path, body);
            let Err((failure, Again::Maybe)) = outcome else {
                return outcome.map_err(|(failure, _)| failure);
            };
            if attempt == ATTEMPTS || self.left() <= pause {
                return Err(failure);
            }
            tracing::debug!(attempt, "{}", failure.into_error().chain());
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2);
            attempt += 1;
        }
    }

    fn once(
        &self,
        attempted: &str,
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> Result<Response, (Failure, Again)> {
        let error = |kind| Error::new(kind, attempted);
        let left = self.left();
        if left.is_zero() {
            let late = error(ErrorKind::Timeout).because("the time limit for pushing passed");
            return Err((Failure::Unreachable(late), Again::Never));
        }
        let request = self.request(method, path, body).timeout(left.min(self.request_timeout));
        let response = request.send().map_err(|e| {
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
        let location = response
            .headers()
            .get("location")
            .and_then(|l| l.to_str().ok())
            .map(|l| text::brief(l, BODY_MAX));
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

    fn request(&self, method: Method, path: &str, body: Option<&str>) -> RequestBuilder {
        let mut request = self.http.request(method, self.url(path));
        request = match &self.auth {
            Auth::InUrl => request,
            Auth::Basic { user, password } => request.basic_auth(user, Some(password.reveal())),
            Auth::Bearer(token) => request.bearer_auth(token.reveal()),
        };
        match body {
            Some(body) => request
                .header("content-type", "text/plain; version=0.0.4; charset=utf-8")
                .body(body.to_owned()),
            None => request,
        }
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        if !matches!(self.auth, Auth::InUrl) {
            // Both fail only for URLs that cannot have credentials.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        url
    }

    fn shown(&self, path: &str) -> String {
        shown(&self.url(path))
    }

    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()))
    }
}

/// Whether another attempt makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Maybe,
    Never,
}

/// What `GET /api/v1/metrics` answers, as far as it matters here.
#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    data: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The beginning of an answer's body, as text.
fn beginning(response: Response) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is not shown; the status says enough.
    let _ = response.take(4 * BODY_MAX as u64).read_to_end(&mut bytes);
    text::brief(String::from_utf8_lossy(&bytes).trim(), BODY_MAX)
}

fn advice(status: StatusCode, location: Option<String>) -> Option<String> {
    match status {
        StatusCode::BAD_REQUEST => Some(
            "a metric name must have the same type in all groups of a Pushgateway: if somebody else pushes \
             this name with another type or with none, change one of the two (for backup_restore_status, \
             whether firedrill pushes it as gauge or untyped), or delete the group that is left over"
                .to_owned(),
        ),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Some("check the user and password, or the token".to_owned())
        }
        StatusCode::NOT_FOUND => Some("is this a Pushgateway, and is the path in its URL right?".to_owned()),
        _ => location.map(|to| format!("it redirects to {to}; give that URL instead")),
    }
}
