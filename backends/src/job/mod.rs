//! Jobs of the pipeline: captures and repositories put together. What is not about one system but about the way from
//! one to another lives here.

mod backup;
mod check;
mod mirror;
mod objects;
mod retention;
mod statistics;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;

use crate::repository::location::{Access, Location};
use crate::repository::password::PasswordSource;
use crate::repository::restic::write::{LockOptions, Writer, WriterOptions};

pub use backup::BackupJob;
pub use check::CheckJob;
pub use mirror::{Ends, MirrorJob};
pub use objects::{ObjectBackupJob, ObjectRetentionJob};
pub use retention::RetentionJob;
pub use statistics::StatisticsJob;

/// A restic repository that jobs write to.
#[derive(Clone, Debug)]
pub struct Place {
    /// The name of its copy.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// How it is reached.
    pub access: Access,
    /// Where its password is.
    pub password: PasswordSource,
    /// Whether it is made when it is not there.
    pub make: bool,
}

/// A place of plain objects, or a bucket.
#[derive(Clone, Debug)]
pub struct ObjectPlace {
    /// The name of its copy.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// How it is reached.
    pub access: Access,
}

impl Place {
    /// Opens it for writing, and makes it when that is wanted. The password comes along: keys are derived from it.
    fn open(&self, watch: &Watch) -> Result<(Writer, Secret)> {
        let password = self.password.read()?;
        // Others may hold a lock for as long as the job may take.
        let wait = watch.left().unwrap_or(std::time::Duration::from_secs(3600));
        let options = || WriterOptions {
            lock: LockOptions { wait, ..LockOptions::default() },
            ..WriterOptions::default()
        };
        let opened = Writer::open(&self.location, &self.access, &password, options(), watch);
        let writer = match opened {
            Err(error) if error.kind == ErrorKind::NoRepository && self.make => {
                Writer::init(&self.location, &self.access, &password, options(), watch)?
            }
            other => other.map_err(|error| self.told(error))?,
        };
        Ok((writer, password))
    }

    /// Makes the repository; its id.
    pub fn init(&self, watch: &Watch) -> Result<String> {
        let password = self.password.read()?;
        let writer = Writer::init(&self.location, &self.access, &password, WriterOptions::default(), watch)?;
        Ok(writer.repository().to_owned())
    }

    fn told(&self, error: Error) -> Error {
        match error.kind {
            ErrorKind::NoRepository => error.advise(format!("make it: firedrill init {}", self.name)),
            _ => error,
        }
    }
}
