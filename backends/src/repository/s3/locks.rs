//! The folder `locks/` in a bucket.

use bytes::Bytes;
use rustic_core::Id;

use super::runtime::Runtime;
use super::{Bucket, listing};
use crate::repository::error::Fault;
use crate::repository::guard::{id_of, size_of};
use crate::repository::locks::LockFolder;

/// Locks in a bucket.
#[derive(Debug)]
pub(super) struct Locks {
    pub(super) runtime: Runtime,
    pub(super) bucket: Bucket,
}

impl Locks {
    fn key(&self, id: &Id) -> String {
        format!("{}locks/{}", self.bucket.prefix, id.to_hex().as_str())
    }
}

impl LockFolder for Locks {
    fn list(&self) -> Result<Vec<(Id, u32)>, Fault> {
        let (bucket, folder) = (self.bucket.clone(), format!("{}locks/", self.bucket.prefix));
        let from = folder.clone();
        let page = self.runtime.run(self.bucket.limit(0), async move { bucket.page(&from, None).await })?;
        if page.is_truncated() == Some(true) {
            return Err(listing::odd("it holds more than a thousand locks".to_owned()));
        }
        let named = page.contents().iter().filter_map(|object| {
            let name = object.key()?.strip_prefix(folder.as_str())?;
            let size = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX);
            Some((id_of(name)?, size_of(size, name)))
        });
        Ok(named.collect())
    }

    fn read(&self, id: &Id) -> Result<Bytes, Fault> {
        let (bucket, key) = (self.bucket.clone(), self.key(id));
        self.runtime.run(self.bucket.limit(0), async move { bucket.read(&key, None, None).await })
    }

    fn write(&self, id: &Id, content: Vec<u8>) -> Result<(), Fault> {
        let (bucket, key) = (self.bucket.clone(), self.key(id));
        self.runtime.run(self.bucket.limit(0), async move { bucket.put(key, content.into()).await })
    }

    fn remove(&self, id: &Id) -> Result<(), Fault> {
        let (bucket, key) = (self.bucket.clone(), self.key(id));
        self.runtime.run(self.bucket.limit(0), async move { bucket.delete(key).await })
    }
}
