//! The folder `locks/` on a rest-server.

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use firedrill_core::error::{Error, ErrorKind, Result};
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::ACCEPT;
use rustic_core::Id;
use serde::Deserialize;
use url::Url;

use super::address;
use crate::repository::access::Access;
use crate::repository::error::{Fault, Trouble, of_http, rest_advice};
use crate::repository::guard::id_of;
use crate::repository::location::RestLocation;
use crate::repository::locks::{LOCK_MAX, LockFolder};

/// A listing of locks is not longer.
const LISTING_MAX: u64 = 16 << 20;
/// A file of certificates is not larger.
const PEM_MAX: u64 = 4 << 20;

/// Locks on a server.
pub(in crate::repository) struct Locks {
    client: Client,
    /// Ends in a slash, and holds the password.
    folder: Url,
    retries: usize,
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locks(rest)")
    }
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    size: u64,
}

impl Locks {
    pub(in crate::repository) fn open(place: &RestLocation, access: &Access) -> Result<Self> {
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
        let folder = address(place, access)?.join("locks/").map_err(|error| failed(&error))?;
        let client = builder.build().map_err(|error| failed(&error))?;
        Ok(Self { client, folder, retries: access.retries })
    }

    fn url(&self, id: &Id) -> Url {
        let mut url = self.folder.clone();
        // The last segment is the empty one behind the slash.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(id.to_hex().as_str());
        }
        url
    }

    /// Sends a request until the server answers to it, but not for ever.
    fn ask(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, Fault> {
        let mut pause = Duration::from_millis(500);
        let mut attempt = 0;
        loop {
            let answer = request().send().and_then(Response::error_for_status);
            let error = match answer {
                Ok(response) => return Ok(response),
                Err(error) => error.without_url(),
            };
            let trouble = of_http(&error);
            let lasting = error.status().is_some_and(|status| status.is_client_error());
            attempt += 1;
            if lasting || attempt > self.retries {
                let fault = Fault::new(trouble, error.to_string());
                return Err(Fault { advice: rest_advice(trouble), ..fault });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }
}

impl LockFolder for Locks {
    fn list(&self) -> Result<Vec<(Id, u32)>, Fault> {
        let ask = || self.client.get(self.folder.clone()).header(ACCEPT, "application/vnd.x.restic.rest.v2");
        let response = match self.ask(ask) {
            Err(Fault { trouble: Trouble::Missing, .. }) => return Ok(Vec::new()),
            response => response?,
        };
        let body = body(response, LISTING_MAX)?;
        let entries: Option<Vec<Entry>> = serde_json::from_slice(&body)
            .map_err(|error| Fault::new(Trouble::Other, format!("the listing is none: {error}")))?;
        let size = |size| u32::try_from(size).unwrap_or(u32::MAX);
        Ok(entries
            .unwrap_or_default()
            .into_iter()
            .filter_map(|entry| Some((id_of(&entry.name)?, size(entry.size))))
            .collect())
    }

    fn read(&self, id: &Id) -> Result<Bytes, Fault> {
        body(self.ask(|| self.client.get(self.url(id)))?, LOCK_MAX)
    }

    fn write(&self, id: &Id, content: Vec<u8>) -> Result<(), Fault> {
        let content = Bytes::from(content);
        self.ask(|| self.client.post(self.url(id)).body(content.clone())).map(drop)
    }

    fn remove(&self, id: &Id) -> Result<(), Fault> {
        match self.ask(|| self.client.delete(self.url(id))) {
            Err(Fault { trouble: Trouble::Missing, .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }
}

fn body(response: Response, most: u64) -> Result<Bytes, Fault> {
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(Bytes::new());
    }
    let mut content = Vec::new();
    response
        .take(most)
        .read_to_end(&mut content)
        .map_err(|error| Fault::new(Trouble::Unreachable, format!("the answer broke off: {error}")))?;
    Ok(content.into())
}

fn read_pem(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    std::fs::File::open(file)?.take(PEM_MAX).read_to_end(&mut pem)?;
    Ok(pem)
}
