//! Writes and removes files of a repository. The only code that does.

use std::sync::Arc;

use bytes::Bytes;
use firedrill_core::error::{Error, ErrorKind, Result};
use rustic_core::{BytesList, FileType, Id, RusticError, RusticResult, WriteBackend};
use sha2::{Digest as _, Sha256};

use super::super::crypto::Cipher;
use crate::repository::error::{Trouble, to_error, trouble};
use crate::repository::guard::name;

/// zstd's level for files other than packs: small, and written once.
const LEVEL: i32 = 3;

/// The files of one repository, for writing.
#[derive(Clone)]
pub(super) struct Files {
    backend: Arc<dyn WriteBackend>,
    pub(super) cipher: Cipher,
    /// The format: 2 compresses, 1 does not.
    pub(super) version: u32,
}

impl Files {
    pub(super) fn new(backend: Arc<dyn WriteBackend>, cipher: Cipher, version: u32) -> Self {
        Self { backend, cipher, version }
    }

    /// Saves `json` as a file of `kind`, which is then read back: from here on others rely on it.
    pub(super) fn save(&self, kind: FileType, json: &[u8]) -> Result<Id> {
        let unit = self.seal(json)?;
        let id = id_of(&unit)?;
        self.write(kind, &id, unit)?;
        match self.holds(kind, &id) {
            Ok(true) => Ok(id),
            Ok(false) => Err(Error::new(ErrorKind::Unavailable, format!("write {}", name(kind, &id)))
                .because("what can be read there afterwards is not what was written")),
            Err(error) => Err(failed("read back", kind, &id, &error)),
        }
    }

    /// `json` as it stands in a file.
    pub(super) fn seal(&self, json: &[u8]) -> Result<Vec<u8>> {
        let plain = match self.version {
            1 => json.to_vec(),
            _ => {
                let packed = zstd::bulk::compress(json, LEVEL).map_err(|error| {
                    Error::new(ErrorKind::Internal, "compress a file").from_source(&error)
                })?;
                [&[2], packed.as_slice()].concat()
            }
        };
        self.cipher.encrypt(&plain)
    }

    /// Saves a pack, whose name is its hash.
    pub(super) fn save_pack(&self, content: Vec<u8>) -> Result<Id> {
        let id = id_of(&content)?;
        self.write(FileType::Pack, &id, content)?;
        Ok(id)
    }

    /// Removes a file; that it is gone already is fine.
    pub(super) fn remove(&self, kind: FileType, id: &Id) -> Result<()> {
        match self.backend.remove(kind, id, false) {
            Err(error) if trouble(&error) != Trouble::Missing => Err(failed("remove", kind, id, &error)),
            _ => Ok(()),
        }
    }

    fn write(&self, kind: FileType, id: &Id, content: Vec<u8>) -> Result<()> {
        match self.backend.write_bytes(kind, id, false, BytesList::from(Bytes::from(content))) {
            Ok(()) => Ok(()),
            // The first attempt may have arrived although its answer did not, and then a server refuses to
            // have the same name written again.
            Err(error) => match self.holds(kind, id) {
                Ok(true) => Ok(()),
                _ => Err(failed("write", kind, id, &error)),
            },
        }
    }

    /// Whether the file is there and is what its name says.
    fn holds(&self, kind: FileType, id: &Id) -> RusticResult<bool> {
        for _ in 0..2 {
            match self.backend.read_full(kind, id) {
                Ok(bytes) if hex::encode(Sha256::digest(&bytes)) == id.to_hex().as_str() => return Ok(true),
                // The line may be at fault.
                Ok(_) => {}
                Err(error) if trouble(&error) == Trouble::Missing => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn failed(verb: &str, kind: FileType, id: &Id, error: &RusticError) -> Error {
    to_error(ErrorKind::Unavailable, format!("{verb} {}", name(kind, id)), error)
}

/// The id that content gets.
pub(super) fn id_of(content: &[u8]) -> Result<Id> {
    hex::encode(Sha256::digest(content))
        .parse()
        .map_err(|error: Box<RusticError>| to_error(ErrorKind::Internal, "name a file", &error))
}
