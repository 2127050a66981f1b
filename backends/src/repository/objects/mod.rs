//! Dump files as plain objects: in a folder, or in a bucket, one backup per object.
//!
//! An object is a snapshot. Its series is what its name says (`names`); a series is known as by a tag. What
//! is no backup is counted and told, and never silently passed over: unfinished uploads, names that fit no
//! pattern, folders that are left out.
//!
//! *Verified*: each drilled object comes back with its full length and, where the server keeps a checksum of
//! the whole (`x-amz-checksum-sha256`, `-crc32`, or an ETag that is an MD5), with that checksum. What firedrill
//! stored comes back with the SHA-256 that it noted (metadata, or a file `NAME.sha256` beside).
//!
//! *Not verified*: older versions of an object, what a delete marker hides, and parts of uploads that were
//! never completed: an ordinary listing does not show them, and reading them needs more rights.

mod bucket;
mod catalog;
mod copying;
mod folder;
mod names;
mod restore;
mod retention;
mod rhythm;
mod sending;
mod shelf;
mod sums;
mod upload;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use firedrill_core::clock::Clock;
use firedrill_core::config::{BackupKind, Cron, ObjectPattern};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::event::CopyFacts;
use firedrill_core::finding::Finding;
use firedrill_core::manifest::Manifest;
use firedrill_core::ports::{Inventory, Order, Repository, Restored};
use firedrill_core::snapshot::Snapshot;
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::access::Access;
use super::location::Location;

pub use copying::{CopyRequest, ObjectsCopied, copy_objects};
pub use retention::{ObjectRetention, ObjectsForgotten, forget_objects};
pub(crate) use upload::gave_up;
pub use upload::{Stored, Uploads};

/// More objects than this are not dumps of a fleet, and would not fit into memory.
const OBJECTS_MAX: usize = 1_000_000;

/// Which objects are backups, and when they are expected.
#[derive(Clone, Debug, Default)]
pub struct ObjectSettings {
    /// The kind of backup.
    pub kind: BackupKind,
    /// How names are read; empty: in the common ways.
    pub patterns: Vec<ObjectPattern>,
    /// When each series is written, as far as somebody said so.
    pub schedules: Vec<(String, Cron, TimeZone)>,
}

/// A folder or a prefix of a bucket that holds dump files. It is only ever read; see [`Uploads`] for writing.
pub struct Objects {
    location: Location,
    source: Box<dyn Source>,
    settings: ObjectSettings,
    clock: Arc<dyn Clock>,
}

/// One object, before anybody said what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    /// The name below the location.
    key: String,
    size: u64,
    modified: Timestamp,
    /// Empty where there is none.
    etag: String,
    /// Whether it lies in an archive, from which it cannot be read at once: the storage class.
    archive: Option<String>,
}

/// What a listing gave.
#[derive(Debug, Default)]
struct Listing {
    objects: Vec<Object>,
    /// What was left out, in words.
    notes: Vec<String>,
}

/// Where objects are.
trait Source: Send + Sync {
    /// All objects that may be wanted.
    fn list(&self, patterns: &[ObjectPattern], watch: &Watch) -> Result<Listing>;

    /// Opens an object for reading; `None` when there is none.
    fn open<'s>(&'s self, key: &str) -> Result<Option<Box<dyn Content + 's>>>;

    /// What is known about reading an archived object, in words; `None` when it can be read.
    fn archived(&self, key: &str) -> Result<Option<String>>;
}

/// An open object.
trait Content {
    /// How long it is now, and what is promised about it.
    fn facts(&self) -> &Facts;

    /// The next piece; empty at the end. An object that ends early or changes meanwhile is an error.
    fn next(&mut self) -> Result<Bytes>;
}

/// What is known of an open object.
#[derive(Clone, Debug, Default)]
struct Facts {
    size: u64,
    modified: Option<Timestamp>,
    promised: Vec<sums::Sum>,
}

impl Objects {
    /// The objects at `location`.
    pub fn open(
        location: Location,
        access: &Access,
        settings: ObjectSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let source = Self::source(&location, access)?;
        Ok(Self { location, source, settings, clock })
    }

    fn source(location: &Location, access: &Access) -> Result<Box<dyn Source>> {
        match location {
            Location::Local(path) => Ok(Box::new(folder::Folder::open(path)?)),
            Location::S3(place) => Ok(Box::new(bucket::Bucket::open(place, access)?)),
            Location::Rest(_) => Err(Error::new(ErrorKind::Usage, format!("read objects of {location}"))
                .because("a rest-server holds restic repositories, not plain objects")
                .advise("give a folder or s3:URL/BUCKET/PREFIX")),
        }
    }
}

impl Repository for Objects {
    fn snapshots(&self, watch: &Watch) -> Result<Inventory> {
        let start = Instant::now();
        let listing = self.source.list(&self.settings.patterns, watch)?;
        let now = self.clock.now();
        let catalog = catalog::Catalog::of(listing, &self.settings, now);
        if catalog.snapshots.is_empty() && catalog.doubtful {
            return Err(self.nothing_fits(&catalog));
        }
        let mut findings = catalog.findings;
        for newest in &catalog.archived {
            watch.check()?;
            if let Some(how) = self.source.archived(newest)? {
                let expected = "a newest dump that can be read at once";
                findings.push(Finding::objective("objects.archived", newest.clone(), expected, how));
            }
        }
        findings.extend(rhythm::gaps(&catalog.times, &self.settings.schedules, now));
        let facts = CopyFacts {
            kind: self.settings.kind.word().to_owned(),
            repository: String::new(),
            version: 1,
            snapshots: catalog.snapshots.len() as u64,
            seconds: start.elapsed().as_secs_f64(),
            notes: catalog.notes,
        };
        Ok(Inventory { facts, snapshots: catalog.snapshots, findings, readable: true })
    }

    fn manifest(&self, snapshot: &Snapshot, _: &Watch) -> Result<(Manifest, Vec<Finding>)> {
        Ok((restore::listed(snapshot)?, Vec::new()))
    }

    fn restore(&self, orders: &[Order<'_>]) -> Vec<Result<Restored>> {
        orders.iter().map(|order| restore::restore(self.source.as_ref(), order)).collect()
    }
}

impl Objects {
    /// Objects that may be backups, and none that is known to be one: the pattern is wrong, or the place is.
    fn nothing_fits(&self, catalog: &catalog::Catalog) -> Error {
        let error = Error::new(ErrorKind::Usage, format!("find backups in {}", self.location));
        let told = catalog.notes.iter().fold(error, |error, note| error.because(note.clone()));
        let advice = if self.settings.patterns.is_empty() {
            "say what their names look like: objects: \"{name}/{namespace}-{time:%Y%m%d-%H%M%S}.sql.gz\""
        } else {
            "correct the patterns in `objects`, or the location"
        };
        told.advise(advice)
    }
}
