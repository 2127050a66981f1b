//! Requests to a rest-server: tried again where that may help, in bounded time, with bounded answers.
//!
//! A request may arrive although its answer does not. Whoever writes or removes something has to expect that a second
//! try finds it done.

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, RETRY_AFTER};
use rustic_core::Id;
use serde::Deserialize;
use url::Url;

use super::address;
use crate::repository::access::Access;
use crate::repository::error::{Fault, Trouble, of_chain, of_http, rest_advice};
use crate::repository::guard::{id_of, size_of};
use crate::repository::location::RestLocation;

/// A listing is not longer.
const LISTING_MAX: u64 = 1 << 30;
/// A file of certificates is not larger.
const PEM_MAX: u64 = 4 << 20;
/// Bytes per second below which a transfer is given up.
const SLOWEST: u64 = 64 << 10;
/// The first pause before another try.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest one, also where a server asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Who has no time left may still end what was begun: a lock is taken away.
const LAST: Duration = Duration::from_secs(5);

/// A rest-server.
pub(super) struct Server {
    client: Client,
    /// Ends in a slash, and holds the password.
    root: Url,
    retries: usize,
    timeout: Duration,
    watch: Watch,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server(rest)")
    }
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    size: u64,
}

/// Why a try failed, and whether and when another one may go better.
struct Failed {
    fault: Fault,
    again: bool,
    not_before: Duration,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, again: false, not_before: Duration::ZERO }
    }
}

impl Server {
    /// Nothing is asked of the server yet.
    pub(super) fn new(place: &RestLocation, access: &Access) -> Result<Self> {
        let failed = |error: &dyn std::error::Error| {
            Error::new(ErrorKind::Usage, format!("open repository {place}")).from_source(error)
        };
        let mut builder = Client::builder().timeout(access.request_timeout);
        if let Some(file) = &access.ca_cert {
            let pem = read_pem(file).map_err(|error| failed(&error))?;
            let authority = reqwest::Certificate::from_pem(&pem).map_err(|error| failed(&error))?;
            builder = builder.add_root_certificate(authority);
        }
        if let Some(file) = access.options.get("tls-client-cert") {
            let pem = read_pem(Path::new(file)).map_err(|error| failed(&error))?;
            builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(|error| failed(&error))?);
        }
        Ok(Self {
            client: builder.build().map_err(|error| failed(&error))?,
            root: address(place, access)?,
            retries: access.retries,
            timeout: access.request_timeout,
            watch: access.watch.clone(),
        })
    }

    /// Makes the folders of a repository.
    pub(super) fn create(&self) -> Result<(), Fault> {
        let mut url = self.root.clone();
        url.set_query(Some("create=true"));
        self.ask(0, || self.client.post(url.clone()), |_| Ok(()))
    }

    /// What is in a folder, with sizes.
    pub(super) fn list(&self, folder: &str) -> Result<Vec<(Id, u32)>, Fault> {
        let url = self.url(folder, Some(""));
        let ask = || self.client.get(url.clone()).header(ACCEPT, "application/vnd.x.restic.rest.v2");
        let entries = self.ask(0, ask, |answer| entries(&body(answer, LISTING_MAX)?))?.into_iter();
        Ok(entries
            .filter_map(|entry| Some((id_of(&entry.name)?, size_of(entry.size, &entry.name))))
            .collect())
    }

    /// At most `most` bytes of a file.
    pub(super) fn read(&self, folder: &str, name: Option<&str>, most: u64) -> Result<Bytes, Fault> {
        let url = self.url(folder, name);
        self.ask(most, || self.client.get(url.clone()), |answer| body(answer, most))
    }

    /// A range of a file, or, from a server that knows no ranges, at most `most` bytes of the whole.
    pub(super) fn read_range(
        &self,
        folder: &str,
        name: &str,
        range: (u64, u64),
        most: u64,
    ) -> Result<Bytes, Fault> {
        let (url, (offset, length)) = (self.url(folder, Some(name)), range);
        let range = format!("bytes={offset}-{}", offset.saturating_add(length).saturating_sub(1));
        let ask = || self.client.get(url.clone()).header("Range", range.clone());
        self.ask(length, ask, |answer| body(answer, most))
    }

    /// Writes a file. A server refuses to have one written again.
    pub(super) fn write(&self, folder: &str, name: Option<&str>, content: Bytes) -> Result<(), Fault> {
        let url = self.url(folder, name);
        let ask = || self.client.post(url.clone()).body(content.clone());
        self.ask(content.len() as u64, ask, |_| Ok(()))
    }

    /// Removes a file.
    pub(super) fn remove(&self, folder: &str, name: Option<&str>) -> Result<(), Fault> {
        let url = self.url(folder, name);
        self.ask(0, || self.client.delete(url.clone()), |_| Ok(()))
    }

    fn url(&self, folder: &str, name: Option<&str>) -> Url {
        let mut url = self.root.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // The last segment is the empty one behind the slash.
            segments.pop_if_empty().push(folder).extend(name);
        }
        url
    }

    /// Sends a request that moves `bytes` until it is answered to the end; but not for ever.
    fn ask<T>(
        &self,
        bytes: u64,
        request: impl Fn() -> RequestBuilder,
        take: impl Fn(Response) -> Result<T, Failed>,
    ) -> Result<T, Fault> {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(PAUSE_MIN)
            .with_max_delay(PAUSE_MAX)
            .with_max_times(self.retries)
            .with_jitter();
        let mut pauses = pauses.build();
        loop {
            let each = self.timeout.saturating_add(Duration::from_secs(bytes / SLOWEST));
            let each = self.watch.left().map_or(each, |left| each.min(left.max(LAST)));
            let answer = request().timeout(each).send().map_err(failed);
            let Failed { fault, again, not_before } = match answer.and_then(refused).and_then(&take) {
                Ok(taken) => return Ok(taken),
                Err(failed) => failed,
            };
            let Some(pause) = pauses.next().filter(|_| again) else { return Err(fault) };
            let pause = pause.max(not_before).min(PAUSE_MAX);
            // What the last try says is clearer than that there is no time left.
            if self.watch.stopped() || self.watch.left().is_some_and(|left| left <= pause) {
                return Err(fault);
            }
            tracing::debug!(?pause, "trying again: {}", fault.text);
            std::thread::sleep(pause);
        }
    }
}

/// An answer that is an error.
fn refused(answer: Response) -> Result<Response, Failed> {
    let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    answer.error_for_status().map_err(|error| Failed {
        not_before: after.map_or(Duration::ZERO, Duration::from_secs),
        ..failed(error)
    })
}

fn failed(error: reqwest::Error) -> Failed {
    let error = error.without_url();
    let trouble = of_http(&error);
    // Other refusals are meant.
    let again = match error.status() {
        Some(status) => trouble == Trouble::Busy && status != StatusCode::NOT_IMPLEMENTED,
        None => trouble != Trouble::Untrusted,
    };
    let fault = Fault::new(trouble, chain(&error));
    Failed { fault: Fault { advice: rest_advice(trouble), ..fault }, again, not_before: Duration::ZERO }
}

/// What a listing says. One that is none is asked for again: the line may be at fault.
fn entries(body: &[u8]) -> Result<Vec<Entry>, Failed> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let entries: Option<Vec<Entry>> = serde_json::from_slice(body).map_err(|error| Failed {
        again: true,
        ..Fault::new(Trouble::Other, format!("the listing is none: {error}")).into()
    })?;
    Ok(entries.unwrap_or_default())
}

/// The body of an answer, of which more than `most` bytes are not taken.
fn body(answer: Response, most: u64) -> Result<Bytes, Failed> {
    if answer.status() == StatusCode::NO_CONTENT {
        return Ok(Bytes::new());
    }
    let announced = answer.content_length();
    let mut content = Vec::new();
    answer.take(most.saturating_add(1)).read_to_end(&mut content).map_err(|error| {
        let trouble = match of_chain(&error) {
            Trouble::Other => Trouble::Unreachable,
            trouble => trouble,
        };
        Failed {
            again: true,
            ..Fault::new(trouble, format!("the answer broke off: {}", chain(&error))).into()
        }
    })?;
    match content.len() as u64 {
        got if got > most => {
            let text = format!("the answer has more than {most} bytes (announced: {announced:?})");
            Err(Fault::new(Trouble::Oversized, text).into())
        }
        _ => Ok(content.into()),
    }
}

/// `error` and its sources in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        next = cause.source();
    }
    text
}

fn read_pem(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    std::fs::File::open(file)?.take(PEM_MAX).read_to_end(&mut pem)?;
    Ok(pem)
}
