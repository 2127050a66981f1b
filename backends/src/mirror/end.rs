//! One end of a mirror: files that are read and proven, and written and proven.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use rustic_core::{BytesList, FileType, Id, RusticError, WriteBackend};
use sha2::{Digest as _, Sha256};

use super::flow::again;
use crate::repository::error::{Trouble, to_error, trouble};
use crate::repository::guard::{folder, name};

/// The sizes of all files of one kind.
pub(super) type Sizes = BTreeMap<Id, u32>;

/// A repository without its key.
pub(super) struct End {
    backend: Arc<dyn WriteBackend>,
    /// What people call it.
    called: &'static str,
}

/// What there is, by name and size.
pub(super) struct Listing {
    pub(super) config: Option<Bytes>,
    pub(super) keys: Sizes,
    pub(super) snapshots: Sizes,
    pub(super) index: Sizes,
    pub(super) packs: Sizes,
}

impl Listing {
    pub(super) fn is_empty(&self) -> bool {
        self.config.is_none()
            && [&self.keys, &self.snapshots, &self.index, &self.packs].iter().all(|sizes| sizes.is_empty())
    }
}

/// A file whose name is the hash of its content, or should be.
pub(super) enum Content {
    /// It is.
    Good(Bytes),
    /// It is not, and a second read said the same.
    Damaged(String),
    /// It was listed and is not there.
    Gone,
}

/// Whether `content` is what a file of this name has to hold.
pub(super) fn fits(id: &Id, content: &[u8]) -> bool {
    hex::encode(Sha256::digest(content)) == id.to_hex().as_str()
}

impl End {
    pub(super) fn source(backend: &Arc<dyn WriteBackend>) -> Self {
        Self { backend: Arc::clone(backend), called: "source" }
    }

    pub(super) fn copy(backend: &Arc<dyn WriteBackend>) -> Self {
        Self { backend: Arc::clone(backend), called: "copy" }
    }

    pub(super) fn backend(&self) -> Arc<dyn WriteBackend> {
        Arc::clone(&self.backend)
    }

    /// Makes the folders of a repository that is not there yet, where that is needed.
    pub(super) fn create(&self, watch: &Watch) -> Result<()> {
        again(watch, || self.backend.create())?
            .map_err(|error| self.failed(format!("make a repository in the {}", self.called), &error))
    }

    fn failed(&self, attempted: String, error: &RusticError) -> Error {
        to_error(ErrorKind::Unavailable, attempted, error)
    }

    fn file_failed(&self, verb: &str, kind: FileType, id: &Id, error: &RusticError) -> Error {
        self.failed(format!("{verb} {} of the {}", name(kind, id), self.called), error)
    }

    /// All files of a kind. What is not there at all has none.
    pub(super) fn list(&self, kind: FileType, watch: &Watch) -> Result<Sizes> {
        match again(watch, || self.backend.list_with_size(kind))? {
            Ok(listed) => Ok(listed.into_iter().collect()),
            // A server says so of a repository that was not made yet.
            Err(error) if trouble(&error) == Trouble::Missing => Ok(Sizes::new()),
            Err(error) => Err(self.failed(format!("list {} of the {}", folder(kind), self.called), &error)),
        }
    }

    /// What there is. In this order: a backup that ends meanwhile wrote its packs before its index and that before
    /// its snapshot, so whatever a listed snapshot needs is listed, too.
    pub(super) fn look(&self, watch: &Watch) -> Result<Listing> {
        let config = match self.list(FileType::Config, watch)?.is_empty() {
            true => None,
            false => self.read(FileType::Config, &Id::default(), watch)?,
        };
        let keys = self.list(FileType::Key, watch)?;
        let snapshots = self.list(FileType::Snapshot, watch)?;
        let index = self.list(FileType::Index, watch)?;
        let packs = self.list(FileType::Pack, watch)?;
        Ok(Listing { config, keys, snapshots, index, packs })
    }

    /// A whole file; nothing when it is not there.
    pub(super) fn read(&self, kind: FileType, id: &Id, watch: &Watch) -> Result<Option<Bytes>> {
        match again(watch, || self.backend.read_full(kind, id))? {
            Ok(content) => Ok(Some(content)),
            Err(error) if trouble(&error) == Trouble::Missing => Ok(None),
            Err(error) => Err(self.file_failed("read", kind, id, &error)),
        }
    }

    /// A whole file whose name must be the hash of its content. A mismatch is read once more, because the line may
    /// be at fault and not the file.
    pub(super) fn read_proven(&self, kind: FileType, id: &Id, watch: &Watch) -> Result<Content> {
        let mut seen = String::new();
        for _ in 0..2 {
            let content = match again(watch, || self.backend.read_full(kind, id))? {
                Ok(content) => content,
                Err(error) if trouble(&error) == Trouble::Missing => return Ok(Content::Gone),
                Err(error) if trouble(&error).is_about_content() => {
                    let told = to_error(ErrorKind::Unavailable, "", &error);
                    return Ok(Content::Damaged(told.causes.join(": ")));
                }
                Err(error) => return Err(self.file_failed("read", kind, id, &error)),
            };
            if fits(id, &content) {
                return Ok(Content::Good(content));
            }
            let sum = hex::encode(Sha256::digest(&content));
            seen = format!("{} bytes with SHA-256 {sum}", content.len());
        }
        Ok(Content::Damaged(seen))
    }

    /// Writes a file. With `read_back`, what can be read there afterwards must be what was written.
    pub(super) fn write(
        &self,
        kind: FileType,
        id: &Id,
        content: &Bytes,
        read_back: bool,
        watch: &Watch,
    ) -> Result<()> {
        let write = || self.backend.write_bytes(kind, id, false, BytesList::from(content.clone()));
        if let Err(error) = again(watch, write)? {
            // The first attempt may have arrived although its answer did not, and then a server refuses to have
            // the same name written again.
            if !self.holds(kind, id, content, watch)? {
                return Err(self.file_failed("write", kind, id, &error));
            }
        } else if read_back && !self.holds(kind, id, content, watch)? {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("write {} of the {}", name(kind, id), self.called),
            )
            .because("what can be read there afterwards is not what was written"));
        }
        Ok(())
    }

    fn holds(&self, kind: FileType, id: &Id, content: &Bytes, watch: &Watch) -> Result<bool> {
        for _ in 0..2 {
            if let Ok(seen) = again(watch, || self.backend.read_full(kind, id))?
                && seen == *content
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes a file; that it is gone already is fine.
    pub(super) fn remove(&self, kind: FileType, id: &Id, watch: &Watch) -> Result<()> {
        match again(watch, || self.backend.remove(kind, id, false))? {
            Err(error) if trouble(&error) != Trouble::Missing => {
                Err(self.file_failed("remove", kind, id, &error))
            }
            _ => Ok(()),
        }
    }
}
