//! Reads files of a repository. The only code here that touches a backend, and it only reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use firedrill_core::error::{Error, ErrorKind, Result};
use rustic_core::{FileType, Id, RusticError, WriteBackend};
use sha2::{Digest as _, Sha256};

use super::gate::Gate;
use crate::repository::error::{Trouble, to_error, trouble};
use crate::repository::guard::{folder, name};

/// Larger files other than packs are refused: no real one comes near.
const FILE_MAX: u32 = 512 << 20;

/// A file whose name is the SHA-256 of its content, or should be.
pub(super) enum Content {
    /// It is.
    Good(Bytes),
    /// It is not, and a second read said the same.
    Damaged(String, Bytes),
    /// It was listed, and it is not there.
    Gone,
}

/// Why bytes of a pack cannot be had.
pub(super) enum Unread {
    /// The store says something about what it holds: the pack is missing, too short, or in cold storage.
    Damage(String),
    /// The store does not answer as it should, which says nothing about the backup.
    Trouble(Error),
}

/// Where the files are.
pub(super) struct Store {
    backend: Arc<dyn WriteBackend>,
    bytes_read: AtomicU64,
    /// Bounds the memory of all readers, whichever counter they use.
    gate: Arc<Gate>,
}

impl Store {
    pub(super) fn new(backend: Arc<dyn WriteBackend>) -> Self {
        Self { backend, bytes_read: AtomicU64::new(0), gate: Arc::default() }
    }

    /// The same store with a counter of its own, so that restores that run side by side can be told apart.
    pub(super) fn metered(&self) -> Self {
        Self { gate: Arc::clone(&self.gate), ..Self::new(Arc::clone(&self.backend)) }
    }

    /// Who holds much memory enters here first.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// All files of a kind with their sizes.
    pub(super) fn list(&self, kind: FileType) -> Result<Vec<(Id, u32)>> {
        self.backend.list_with_size(kind).map_err(|e| {
            to_error(ErrorKind::Unavailable, format!("list {} of the repository", folder(kind)), &e)
        })
    }

    /// The config, whose name tells nothing about its content; or what is in its place.
    pub(super) fn read_config(&self) -> Result<Result<Bytes, String>> {
        let id = Id::default();
        match self.backend.read_full(FileType::Config, &id) {
            Ok(bytes) => {
                self.count(bytes.len());
                Ok(Ok(bytes))
            }
            Err(error) if trouble(&error).is_about_content() => Ok(Err(why(&error))),
            Err(error) => Err(unavailable(FileType::Config, &id, &error)),
        }
    }

    /// A whole file of `size` bytes whose name must be the hash of its content. A mismatch is read
    /// once more, because the line may be at fault and not the file.
    pub(super) fn read_named(&self, kind: FileType, id: &Id, size: u32) -> Result<Content> {
        if size > FILE_MAX {
            return Ok(Content::Damaged(format!("{size} bytes, more than any real one has"), Bytes::new()));
        }
        for last in [false, true] {
            let bytes = match self.backend.read_full(kind, id) {
                Ok(bytes) => bytes,
                Err(error) if trouble(&error) == Trouble::Missing => return Ok(Content::Gone),
                Err(error) if trouble(&error).is_about_content() => {
                    return Ok(Content::Damaged(why(&error), Bytes::new()));
                }
                Err(error) => return Err(unavailable(kind, id, &error)),
            };
            self.count(bytes.len());
            let seen = hex::encode(Sha256::digest(&bytes));
            if seen == id.to_hex().as_str() {
                return Ok(Content::Good(bytes));
            }
            if last {
                let what = if bytes.is_empty() {
                    "an empty file".to_owned()
                } else {
                    format!("{} bytes with SHA-256 {}…", bytes.len(), &seen[..16])
                };
                return Ok(Content::Damaged(what, bytes));
            }
        }
        Ok(Content::Gone)
    }

    /// `length` bytes of a pack from `offset`.
    pub(super) fn read_pack(&self, id: &Id, offset: u32, length: u32) -> Result<Bytes, Unread> {
        let pack = || name(FileType::Pack, id);
        match self.backend.read_partial(FileType::Pack, id, false, offset, length) {
            Ok(bytes) => {
                self.count(bytes.len());
                Ok(bytes)
            }
            Err(error) => Err(match trouble(&error) {
                Trouble::Cold => Unread::Damage(format!("{} is in cold storage and cannot be read", pack())),
                kind if kind.is_about_content() => Unread::Damage(format!("{}: {}", pack(), why(&error))),
                _ => Unread::Trouble(unavailable(FileType::Pack, id, &error)),
            }),
        }
    }

    /// Bytes read so far through this counter.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

fn unavailable(kind: FileType, id: &Id, error: &RusticError) -> Error {
    to_error(ErrorKind::Unavailable, format!("read {}", name(kind, id)), error)
}

/// What the store says, without our words around it.
fn why(error: &RusticError) -> String {
    to_error(ErrorKind::Unavailable, "", error).causes.join(": ")
}
