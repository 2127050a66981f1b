//! The folder `locks/` of a repository, which rustic does not know.

use std::fmt;

use bytes::Bytes;
use rustic_core::Id;

use super::error::Fault;

/// No lock is larger.
pub(super) const LOCK_MAX: u64 = 1 << 20;

/// The lock files of a repository, wherever it is.
pub(in crate::repository) trait LockFolder: Send + Sync + fmt::Debug {
    /// All locks with their sizes; none where there is no such folder.
    fn list(&self) -> Result<Vec<(Id, u32)>, Fault>;

    /// The content of a lock, at most [`LOCK_MAX`] bytes of it.
    fn read(&self, id: &Id) -> Result<Bytes, Fault>;

    /// Writes a lock: as a whole, or not at all.
    fn write(&self, id: &Id, content: Vec<u8>) -> Result<(), Fault>;

    /// Removes a lock. That it is gone already is fine.
    fn remove(&self, id: &Id) -> Result<(), Fault>;
}
