//! The folder `locks/` on a rest-server.

use bytes::Bytes;
use firedrill_core::error::Result;
use rustic_core::Id;

use super::client::Server;
use crate::repository::access::Access;
use crate::repository::error::{Fault, Trouble};
use crate::repository::location::RestLocation;
use crate::repository::locks::{LOCK_MAX, LockFolder};

const FOLDER: &str = "locks";

/// Locks on a server.
#[derive(Debug)]
pub(in crate::repository) struct Locks(Server);

impl Locks {
    pub(in crate::repository) fn open(place: &RestLocation, access: &Access) -> Result<Self> {
        Server::new(place, access).map(Self)
    }
}

impl LockFolder for Locks {
    fn list(&self) -> Result<Vec<(Id, u32)>, Fault> {
        match self.0.list(FOLDER) {
            Err(Fault { trouble: Trouble::Missing, .. }) => Ok(Vec::new()),
            listed => listed,
        }
    }

    fn read(&self, id: &Id) -> Result<Bytes, Fault> {
        self.0.read(FOLDER, Some(id.to_hex().as_str()), LOCK_MAX)
    }

    fn write(&self, id: &Id, content: Vec<u8>) -> Result<(), Fault> {
        self.0.write(FOLDER, Some(id.to_hex().as_str()), content.into())
    }

    fn remove(&self, id: &Id) -> Result<(), Fault> {
        match self.0.remove(FOLDER, Some(id.to_hex().as_str())) {
            Err(Fault { trouble: Trouble::Missing, .. }) => Ok(()),
            removed => removed,
        }
    }
}
