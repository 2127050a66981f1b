//! Repositories on a rest-server, over a client of our own.
//!
//! rustic's takes any failure to read `config` for its absence, believes the length of what a server sends, gives up
//! when a server asks for patience (429), and knows no deadline.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use firedrill_core::error::{Error, ErrorKind, Result};
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};
use url::Url;

use super::access::Access;
use super::error::{Fault, Trouble, or_rustic};
use super::guard::{OBJECT_MAX, cut_to_range, key_of, size_of};
use super::location::RestLocation;

use self::client::Server;

#[derive(Debug)]
struct Rest {
    server: Server,
    place: RestLocation,
}

/// Opens the server; nothing is asked of it yet.
pub(super) fn open(place: &RestLocation, access: &Access) -> Result<Arc<dyn WriteBackend>> {
    // Options for other kinds of repositories may stand beside.
    let known = |name: &str| name == "tls-client-cert" || name.starts_with("s3.");
    if let Some(name) = access.options.keys().find(|name| !known(name)) {
        return Err(super::s3::unknown_option(name));
    }
    Ok(Arc::new(Rest { server: Server::new(place, access)?, place: place.clone() }))
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

/// Where a file is: its folder and its name. All packs are in one folder, whatever it looks like on the disk.
fn where_is(tpe: FileType, id: &Id) -> (&'static str, Option<String>) {
    match tpe {
        FileType::Config => ("config", None),
        FileType::Pack => ("data", Some(id.to_hex().as_str().to_owned())),
        _ => (tpe.dirname(), Some(id.to_hex().as_str().to_owned())),
    }
}

impl Rest {
    fn attempted(&self, verb: &str, tpe: FileType, id: &Id) -> String {
        format!("{verb} {}{}", self.place.url, key_of(tpe, id))
    }

    fn read(&self, tpe: FileType, id: &Id) -> Result<Bytes, Fault> {
        let (folder, name) = where_is(tpe, id);
        self.server.read(folder, name.as_deref(), OBJECT_MAX)
    }

    fn list(&self, tpe: FileType) -> Result<Vec<(Id, u32)>, Fault> {
        let config = || self.read(FileType::Config, &Id::default());
        if tpe == FileType::Config {
            return match config() {
                Ok(content) => Ok(vec![(Id::default(), size_of(content.len() as u64, "config"))]),
                Err(fault) if fault.trouble == Trouble::Missing => Ok(Vec::new()),
                Err(fault) => Err(fault),
            };
        }
        match self.server.list(where_is(tpe, &Id::default()).0) {
            // A server answers so for a folder that is not there. As in restic, that is an empty
            // listing; but only in a repository that is there.
            Err(fault) if fault.trouble == Trouble::Missing && config().is_ok() => Ok(Vec::new()),
            listed => listed,
        }
    }

    fn range(&self, tpe: FileType, id: &Id, offset: u32, length: u32) -> Result<Bytes, Fault> {
        if offset.checked_add(length).is_none() {
            let text = format!("{length} bytes from {offset} on are beyond the end of any object");
            return Err(Fault::new(Trouble::Short, text));
        }
        let (folder, name) = where_is(tpe, id);
        let name = name.unwrap_or_default();
        let body = self.server.read_range(folder, &name, (offset.into(), length.into()), OBJECT_MAX)?;
        cut_to_range(body, offset, length).map_err(|got| {
            Fault::new(Trouble::Short, format!("{got} bytes came where {length} were asked for"))
        })
    }
}

impl ReadBackend for Rest {
    fn location(&self) -> String {
        self.place.to_string()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        or_rustic(self.list(tpe), || format!("list {}{}", self.place.url, tpe.dirname()))
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        or_rustic(self.read(tpe, id), || self.attempted("read", tpe, id))
    }

    fn read_partial(&self, tpe: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        or_rustic(self.range(tpe, id, offset, length), || self.attempted("read", tpe, id))
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        format!("{}{}", self.place.url, key_of(tpe, id))
    }
}

impl WriteBackend for Rest {
    fn create(&self) -> RusticResult<()> {
        or_rustic(self.server.create(), || format!("make {}", self.place.url))
    }

    fn write_bytes(&self, tpe: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let (folder, name) = where_is(tpe, id);
        let mut body = BytesMut::with_capacity(content.size());
        for part in content.slice() {
            body.extend_from_slice(part);
        }
        let written = self.server.write(folder, name.as_deref(), body.freeze());
        or_rustic(written, || self.attempted("write", tpe, id))
    }

    fn remove(&self, tpe: FileType, id: &Id, _: bool) -> RusticResult<()> {
        let (folder, name) = where_is(tpe, id);
        or_rustic(self.server.remove(folder, name.as_deref()), || self.attempted("remove", tpe, id))
    }
}

#[path = "rest_client.rs"]
mod client;
#[path = "rest_locks.rs"]
pub(super) mod locks;
#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
