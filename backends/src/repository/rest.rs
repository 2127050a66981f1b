//! Repositories on a rest-server, over rustic's REST backend with bounded retries and time.
//!
//! rustic's backend takes any failure to read `config` for its absence, and believes the length of
//! what a server sends. Both are put right here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use firedrill_core::error::{Error, ErrorKind, Result};
use rustic_backend::BackendOptions;
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};
use url::Url;

use super::access::Access;
use super::error::{Fault, Trouble, to_error, trouble};
use super::guard::{cut_to_range, key_of, size_of};
use super::location::RestLocation;

#[derive(Debug)]
struct Rest {
    server: Arc<dyn WriteBackend>,
    place: RestLocation,
}

/// Opens the server; nothing is asked of it yet.
pub(super) fn open(place: &RestLocation, access: &Access) -> Result<Arc<dyn WriteBackend>> {
    let mut options = BTreeMap::from([
        ("retry".to_owned(), access.retries.to_string()),
        ("timeout".to_owned(), format!("{}s", access.request_timeout.as_secs().max(1))),
    ]);
    if let Some(file) = &access.ca_cert {
        options.insert("cacert".to_owned(), file.display().to_string());
    }
    for (name, value) in &access.options {
        match name.as_str() {
            "tls-client-cert" => options.insert(name.clone(), value.clone()),
            // Options for other kinds of repositories may stand beside.
            _ if name.starts_with("s3.") => continue,
            _ => return Err(super::s3::unknown_option(name)),
        };
    }
    let opened = BackendOptions::default()
        .repository(format!("rest:{}", address(place, access)?))
        .options(options)
        .to_backends();
    let opened =
        opened.map_err(|error| to_error(ErrorKind::Usage, format!("open repository {place}"), &error))?;
    Ok(Arc::new(Rest { server: opened.repository(), place: place.clone() }))
}

/// The URL with user and password: those of the address, else those of the environment.
fn address(place: &RestLocation, access: &Access) -> Result<Url> {
    let failed = || Error::new(ErrorKind::Usage, format!("open repository {place}"));
    let mut url = Url::parse(&place.url).map_err(|error| failed().from_source(&error))?;
    let (user, password) = match &place.user {
        Some((user, password)) => (user.reveal().to_owned(), password.reveal().to_owned()),
        None => {
            let of = |name| access.env.get(name).map(percent_encoded).unwrap_or_default();
            (of("RESTIC_REST_USERNAME"), of("RESTIC_REST_PASSWORD"))
        }
    };
    let password = Some(password.as_str()).filter(|password| !password.is_empty());
    let set = url.set_username(&user).and_then(|()| url.set_password(password));
    set.map_err(|()| failed().because("the address has no host"))?;
    Ok(url)
}

/// Encodes all but letters and digits, so that no sign of a password means anything in a URL.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

impl ReadBackend for Rest {
    fn location(&self) -> String {
        self.place.to_string()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let config = || self.server.read_full(FileType::Config, &Id::default());
        if tpe == FileType::Config {
            return match config() {
                Ok(content) => Ok(vec![(Id::default(), size_of(content.len() as u64, "config"))]),
                Err(error) if trouble(&error) == Trouble::Missing => Ok(Vec::new()),
                Err(error) => Err(error),
            };
        }
        match self.server.list_with_size(tpe) {
            // A server answers so for a folder that is not there. As in restic, that is an empty
            // listing; but only in a repository that is there.
            Err(error) if trouble(&error) == Trouble::Missing && config().is_ok() => Ok(Vec::new()),
            listed => listed,
        }
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        self.server.read_full(tpe, id)
    }

    fn read_partial(&self, tpe: FileType, id: &Id, c: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        let attempted = || format!("read {}{}", self.place.url, key_of(tpe, id));
        if length == 0 {
            return Ok(Bytes::new());
        }
        if offset.checked_add(length).is_none() {
            let text = format!("{length} bytes from {offset} on are beyond the end of any object");
            return Err(Fault::new(Trouble::Short, text).into_rustic(&attempted()));
        }
        let body = self.server.read_partial(tpe, id, c, offset, length)?;
        cut_to_range(body, offset, length).map_err(|got| {
            let text = format!("{got} bytes came where {length} were asked for");
            Fault::new(Trouble::Short, text).into_rustic(&attempted())
        })
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        format!("{}{}", self.place.url, key_of(tpe, id))
    }
}

impl WriteBackend for Rest {
    fn create(&self) -> RusticResult<()> {
        self.server.create()
    }

    fn write_bytes(&self, tpe: FileType, id: &Id, cacheable: bool, content: BytesList) -> RusticResult<()> {
        self.server.write_bytes(tpe, id, cacheable, content)
    }

    fn remove(&self, tpe: FileType, id: &Id, cacheable: bool) -> RusticResult<()> {
        self.server.remove(tpe, id, cacheable)
    }
}

#[path = "rest_locks.rs"]
pub(super) mod locks;
#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
