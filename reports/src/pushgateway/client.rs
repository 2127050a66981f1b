//! Talks to the gateway, with bounds on everything.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Instant;

use firedrill_core::error::{Error, ErrorKind, Result};
use reqwest::blocking::{RequestBuilder, Response};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::group::Key;
use super::{Auth, PushgatewayOptions, shown};
use crate::http::{self, Failure, Limits};

/// A longer list of groups is not read.
const GROUPS_MAX: u64 = 64 << 20;
/// One gateway.
pub(crate) struct Client {
    http: reqwest::blocking::Client,
    base: Url,
    auth: Auth,
    limits: Limits,
}

impl Client {
    pub(crate) fn new(options: &PushgatewayOptions, base: Url) -> Result<Self> {
        Ok(Self {
            http: http::client(&base, "the Pushgateway")?,
            base,
            auth: options.auth.clone(),
            limits: Limits {
                deadline: Instant::now().checked_add(options.timeout),
                request: options.request_timeout,
                pause: options.pause,
            },
        })
    }

    /// Replaces one group.
    pub(crate) fn put(&self, key: &Key, body: &str) -> Result<(), Failure> {
        let attempted = format!("push metrics to {}", self.shown(&key.path()));
        self.send(&attempted, Method::PUT, &key.path(), Some(body)).map(drop)
    }

    /// Deletes one group.
    pub(crate) fn delete(&self, key: &Key) -> Result<(), Failure> {
        let attempted = format!("delete the metrics at {}", self.shown(&key.path()));
        self.send(&attempted, Method::DELETE, &key.path(), None).map(drop)
    }

    /// The keys of all groups.
    pub(crate) fn groups(&self) -> Result<Vec<Key>> {
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
        http::send(attempted, self.limits, || self.request(method.clone(), path, body), advice)
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
