//! Repositories in a bucket, over the SDK of AWS.
//!
//! Uploads are plain PUTs with a signed SHA-256 and a known length, because several servers refuse
//! chunked uploads with trailing checksums.

mod client;
mod credentials;
mod error;
mod listing;
mod locks;
pub(crate) mod objects;
mod reading;
mod runtime;
mod settings;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use firedrill_core::error::{Error, ErrorKind, Result};
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};

use self::client::Settings;
use self::runtime::Runtime;
use super::access::Access;
use super::error::{Fault, Trouble, or_rustic};
use super::guard::{OBJECT_MAX, key_of};
use super::location::S3Location;
use super::locks::LockFolder;

pub(super) use self::client::unknown_option;

/// A repository in a bucket.
#[derive(Debug)]
struct S3 {
    runtime: Runtime,
    bucket: Bucket,
    place: S3Location,
}

/// What a request needs; cheap to clone into the runtime.
#[derive(Clone, Debug)]
struct Bucket {
    client: Client,
    name: Arc<str>,
    /// Ends in a slash, or is empty.
    prefix: Arc<str>,
    /// How long one request may take.
    request_timeout: Duration,
    /// How often a request is made at most.
    attempts: u32,
}

/// Opens a bucket.
pub(super) fn open(place: &S3Location, access: &Access) -> Result<Arc<dyn WriteBackend>> {
    let (runtime, bucket) = connect(place, access)?;
    Ok(Arc::new(S3 { runtime, bucket, place: place.clone() }))
}

/// Opens the locks in a bucket.
pub(super) fn open_locks(place: &S3Location, access: &Access) -> Result<Arc<dyn LockFolder>> {
    let (runtime, bucket) = connect(place, access)?;
    Ok(Arc::new(locks::Locks { runtime, bucket }))
}

/// Only Amazon is asked something: where the bucket is, unless somebody said it.
fn connect(place: &S3Location, access: &Access) -> Result<(Runtime, Bucket)> {
    let failed = || Error::new(ErrorKind::Unavailable, format!("open repository {place}"));
    let mut settings = Settings::resolve(place, access)?;
    let runtime = Runtime::new(access.watch.clone()).map_err(|error| failed().from_source(&error))?;
    let prefix = match place.prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let mut bucket = Bucket {
        client: client::client(place, access, &settings)?,
        name: place.bucket.as_str().into(),
        prefix: prefix.into(),
        request_timeout: access.request_timeout,
        attempts: u32::try_from(access.retries).unwrap_or(u32::MAX).saturating_add(1),
    };
    if !settings.region_chosen {
        let asked = bucket.clone();
        let region = runtime.run(Duration::from_secs(30), async move { Ok(asked.region().await) });
        // Without an answer the first request fails, and says more about why.
        if let Ok(Some(region)) = region
            && region != settings.region
        {
            settings.region = region;
            bucket.client = client::client(place, access, &settings)?;
        }
    }
    Ok((runtime, bucket))
}

impl Bucket {
    fn key(&self, tpe: FileType, id: &Id) -> String {
        format!("{}{}", self.prefix, key_of(tpe, id))
    }

    /// The region of the bucket; the server names it even where it denies access.
    async fn region(&self) -> Option<String> {
        match self.client.head_bucket().bucket(&*self.name).send().await {
            Ok(found) => found.bucket_region().map(str::to_owned),
            Err(error) => error.raw_response().and_then(error::region_in),
        }
    }

    async fn put(&self, key: String, body: Bytes) -> Result<(), Fault> {
        let length = i64::try_from(body.len())
            .map_err(|_| Fault::new(Trouble::Oversized, "too large for one request"))?;
        let put = self.client.put_object().bucket(&*self.name).key(key);
        let put = put.content_length(length).body(ByteStream::from(body));
        put.send().await.map(drop).map_err(|error| error::fault(&error, &self.name))
    }

    async fn delete(&self, key: String) -> Result<(), Fault> {
        let delete = self.client.delete_object().bucket(&*self.name).key(key);
        delete.send().await.map(drop).map_err(|error| error::fault(&error, &self.name))
    }

    /// Time for an operation that moves `bytes`: that of all attempts, and more for what is large.
    fn limit(&self, bytes: u64) -> Duration {
        let each = self.request_timeout.saturating_add(Duration::from_secs(bytes / SLOWEST));
        // The last part is for waiting between attempts, and for credentials.
        each.saturating_mul(self.attempts.saturating_add(1)).saturating_add(credentials::LIMIT)
    }
}

/// Bytes per second below which a transfer is given up.
const SLOWEST: u64 = 64 << 10;

impl S3 {
    fn attempted(&self, verb: &str, tpe: FileType, id: &Id) -> String {
        format!("{verb} s3:{}/{}/{}", self.place.endpoint, self.place.bucket, self.bucket.key(tpe, id))
    }
}

impl ReadBackend for S3 {
    fn location(&self) -> String {
        self.place.to_string()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let bucket = self.bucket.clone();
        let listed = match tpe {
            FileType::Config => self.runtime.run(bucket.limit(0), async move { bucket.list_config().await }),
            _ => self.runtime.run(listing::LIMIT, async move { bucket.list(tpe).await }),
        };
        or_rustic(listed, || format!("list {} in {}", tpe.dirname(), self.place))
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        let (bucket, key) = (self.bucket.clone(), self.bucket.key(tpe, id));
        let read =
            self.runtime.run(bucket.limit(OBJECT_MAX), async move { bucket.read(&key, None, None).await });
        or_rustic(read, || self.attempted("read", tpe, id))
    }

    fn read_partial(&self, tpe: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let (bucket, key) = (self.bucket.clone(), self.bucket.key(tpe, id));
        let limit = bucket.limit(length.into());
        let read = self
            .runtime
            .run(limit, async move { bucket.read(&key, Some((offset.into(), length)), None).await });
        or_rustic(read, || self.attempted("read", tpe, id))
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.bucket.key(tpe, id)
    }
}

impl WriteBackend for S3 {
    fn write_bytes(&self, tpe: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let (bucket, key) = (self.bucket.clone(), self.bucket.key(tpe, id));
        let mut body = BytesMut::with_capacity(content.size());
        for part in content.slice() {
            body.extend_from_slice(part);
        }
        let limit = bucket.limit(body.len() as u64);
        let work = async move { bucket.put(key, body.freeze()).await };
        or_rustic(self.runtime.run(limit, work), || self.attempted("write", tpe, id))
    }

    fn remove(&self, tpe: FileType, id: &Id, _: bool) -> RusticResult<()> {
        let (bucket, key) = (self.bucket.clone(), self.bucket.key(tpe, id));
        let work = async move { bucket.delete(key).await };
        or_rustic(self.runtime.run(self.bucket.limit(0), work), || self.attempted("remove", tpe, id))
    }
}
