//! Where a repository is, written as restic writes it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::Secret;
use rustic_core::{FileType, WriteBackend};
use url::Url;

pub use super::access::{Access, Environment};
use super::error::{Trouble, to_error, trouble};
use super::guard::ReadOnly;
use super::locks::LockFolder;
use super::{local, rest, s3};

/// Where a repository is. Neither `Display` nor `Debug` shows credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder.
    Local(PathBuf),
    /// A rest-server, or `rclone serve restic`.
    Rest(RestLocation),
    /// A bucket.
    S3(S3Location),
}

/// A repository on a rest-server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestLocation {
    /// The address without user and password, ending in a slash.
    pub url: String,
    /// User and password as they stand in the address, still percent-encoded.
    pub(super) user: Option<(Secret, Secret)>,
}

/// A repository in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Location {
    /// Scheme, host and port: `https://s3.example.org:9000`.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The folder in the bucket, without slashes at its ends; may be empty.
    pub prefix: String,
}

impl Location {
    /// Parses an address. Accepts what restic accepts: a path, `local:path`, `rest:https://host/path`,
    /// `s3:host/bucket/prefix`, `s3://host/bucket/prefix` and `s3:https://host:port/bucket/prefix`.
    pub fn parse(address: &str) -> Result<Self> {
        if address.trim().is_empty() {
            return Err(unusable("the address is empty")
                .advise("pass --repository or set RESTIC_REPOSITORY or RESTIC_REPOSITORY_FILE"));
        }
        let Some((scheme, rest)) = address.split_once(':') else {
            return Ok(Self::Local(PathBuf::from(address)));
        };
        match scheme {
            "local" if rest.is_empty() => Err(unusable("there is no path after local:")),
            "local" => Ok(Self::Local(PathBuf::from(rest))),
            "rest" => parse_rest(rest).map(Self::Rest),
            "s3" => parse_s3(rest).map(Self::S3),
            "sftp" | "b2" | "azure" | "gs" | "swift" | "rclone" => {
                Err(unusable(format!("firedrill reads local, rest and s3 repositories, not {scheme}:"))
                    .advise(format!("for {scheme}: mount it or use `rclone serve restic`")))
            }
            _ if address.starts_with('/') || address.starts_with("../") => {
                Ok(Self::Local(PathBuf::from(address)))
            }
            _ => Err(unusable("it is neither a path nor local:, rest: or s3:")
                .advise("write local:PATH for a folder with a colon in its name")),
        }
    }

    /// The address without credentials.
    pub fn redacted(&self) -> String {
        self.to_string()
    }

    /// Opens the repository for reading, and makes sure that there is one. What is returned refuses
    /// to write: it has the type that rustic wants, not its powers.
    ///
    /// A repository that lost its `config` but still has keys or snapshots is opened; its reader has
    /// more to say about it than that there is none.
    pub fn open(&self, access: &Access) -> Result<Arc<dyn WriteBackend>> {
        if let Self::Local(path) = self {
            local::look(path)?;
        }
        let backend: Arc<dyn WriteBackend> = Arc::new(ReadOnly(self.open_writable(access)?));
        self.find_repository(&backend)?;
        Ok(backend)
    }

    /// Opens the place for writing, whether or not it holds a repository. Restore tests never do this;
    /// workloads that make repositories do.
    pub fn open_writable(&self, access: &Access) -> Result<Arc<dyn WriteBackend>> {
        match self {
            Self::Local(path) => local::open(path),
            Self::Rest(place) => rest::open(place, access),
            Self::S3(place) => s3::open(place, access),
        }
    }

    /// The locks of the repository.
    pub(in crate::repository) fn open_locks(&self, access: &Access) -> Result<Arc<dyn LockFolder>> {
        Ok(match self {
            Self::Local(path) => Arc::new(local::Locks::new(path)),
            Self::Rest(place) => Arc::new(rest::locks::Locks::open(place, access)?),
            Self::S3(place) => s3::open_locks(place, access)?,
        })
    }

    fn find_repository(&self, backend: &Arc<dyn WriteBackend>) -> Result<()> {
        for file_type in [FileType::Config, FileType::Key, FileType::Snapshot] {
            let listed = backend.list_with_size(file_type).map_err(|error| {
                let kind = match trouble(&error) {
                    Trouble::Missing | Trouble::NoBucket => ErrorKind::NoRepository,
                    Trouble::NoCredentials => ErrorKind::Usage,
                    _ => ErrorKind::Unavailable,
                };
                to_error(kind, format!("open repository {self}"), &error)
            })?;
            if !listed.is_empty() {
                return Ok(());
            }
        }
        let advice = match self {
            Self::Local(_) => "check the path, and that the disk is mounted",
            Self::Rest(_) => "check the path in the address",
            Self::S3(_) => "check bucket and prefix",
        };
        Err(Error::new(ErrorKind::NoRepository, format!("open repository {self}"))
            .because("not a repository: no `config` file")
            .advise(advice))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Rest(place) => place.fmt(f),
            Self::S3(place) => place.fmt(f),
        }
    }
}

impl fmt::Display for RestLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rest:{}", self.url)
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3:{}/{}", self.endpoint, self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

/// The address of the repository by restic's rules: the flags, else RESTIC_REPOSITORY or
/// RESTIC_REPOSITORY_FILE; of each pair only one. Unlike in restic, a flag overrides both variables.
pub fn repository_address(address: Option<&str>, file: Option<&Path>, env: &Environment) -> Result<String> {
    let (address, file, names) = if address.is_some() || file.is_some() {
        (address, file.map(Path::to_owned), "--repository and --repository-file")
    } else {
        let file = env.get("RESTIC_REPOSITORY_FILE").map(PathBuf::from);
        (env.get("RESTIC_REPOSITORY"), file, "RESTIC_REPOSITORY and RESTIC_REPOSITORY_FILE")
    };
    let usage = || Error::new(ErrorKind::Usage, "find out which repository to read");
    match (address, file) {
        (Some(_), Some(_)) => Err(usage().because(format!("{names} exclude each other"))),
        (Some(address), None) => Ok(address.to_owned()),
        (None, Some(file)) => super::password::read_text(&file)
            .map(|text| text.trim().to_owned())
            .map_err(|cause| usage().because(format!("cannot read {}: {cause}", file.display()))),
        (None, None) => Err(usage()
            .because("no repository was given")
            .advise("pass --repository or set RESTIC_REPOSITORY or RESTIC_REPOSITORY_FILE")),
    }
}

/// An address that cannot be used. It is never quoted: it may hold a password.
fn unusable(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, "understand the repository address").because(why)
}

fn parse_rest(rest: &str) -> Result<RestLocation> {
    let advice = "write rest:https://HOST:PORT/PATH/, with user and password in RESTIC_REST_USERNAME and \
                  RESTIC_REST_PASSWORD, or percent-encoded in the address";
    let mut url = Url::parse(rest)
        .map_err(|error| unusable(format!("what follows rest: is not a URL: {error}")).advise(advice))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable("what follows rest: must start with http:// or https://").advise(advice));
    }
    let user = match (url.username(), url.password()) {
        ("", None) => None,
        (name, password) => Some((Secret::new(name), Secret::new(password.unwrap_or_default()))),
    };
    let stripped = url.set_username("").and_then(|()| url.set_password(None));
    stripped.map_err(|()| unusable("what follows rest: has no host").advise(advice))?;
    url.set_query(None);
    url.set_fragment(None);
    let mut url = String::from(url);
    if !url.ends_with('/') {
        url.push('/');
    }
    Ok(RestLocation { url, user })
}

fn parse_s3(rest: &str) -> Result<S3Location> {
    let advice = "write s3:https://HOST/BUCKET/PREFIX, or s3:s3.amazonaws.com/BUCKET/PREFIX";
    let (scheme, plain, place) = if let Some(place) = rest.strip_prefix("http://") {
        ("http", false, place)
    } else if let Some(place) = rest.strip_prefix("https://") {
        ("https", false, place)
    } else {
        ("https", true, rest.strip_prefix("//").unwrap_or(rest))
    };
    let place = if plain { place } else { place.split(['?', '#']).next().unwrap_or_default() };
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    // restic ignores a user in the address; it must not show up anywhere.
    let host = authority.rsplit('@').next().unwrap_or_default();
    let endpoint = Url::parse(&format!("{scheme}://{host}/"))
        .map_err(|error| unusable(format!("the host after s3: is not one: {error}")).advise(advice))?;
    let path = if plain { path.to_owned() } else { percent_decoded(path)? };
    let (bucket, prefix) = path.split_once('/').unwrap_or((&path, ""));
    if bucket.is_empty() {
        return Err(unusable("there is no bucket after the host").advise(advice));
    }
    Ok(S3Location {
        endpoint: String::from(endpoint).trim_end_matches('/').to_owned(),
        bucket: bucket.to_owned(),
        prefix: clean(prefix)?,
    })
}

/// What Go's `path.Clean` makes of a relative path.
fn clean(prefix: &str) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in prefix.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => {
                return Err(unusable("the prefix leaves the bucket by `..`"));
            }
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn percent_decoded(text: &str) -> Result<String> {
    let broken = || unusable("the path has a `%` that is not followed by two hexadecimal digits of UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push(u8::try_from(high * 16 + low).map_err(|_| broken())?),
            _ => return Err(broken()),
        }
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

#[cfg(test)]
#[path = "location_tests.rs"]
mod tests;
