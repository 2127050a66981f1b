//! The one place where the stories write through firedrill.

use std::path::Path;
use std::time::Duration;

use firedrill_backends::repository::location::{Access as Way, Environment, Location};
use firedrill_backends::repository::restic::write::{
    BackupRequest, BackupSummary, LockOptions, Source, Writer, WriterOptions,
};
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;

use crate::support::restic::{Access, Repository, Restic};
use crate::support::tools::{Workplace, run};

/// Everything ends in this time.
pub(crate) fn watch() -> Watch {
    Watch::unlimited().within(Some(Duration::from_secs(120)))
}

/// Options that do not make a story wait.
pub(crate) fn impatient() -> WriterOptions {
    let lock = LockOptions { wait: Duration::ZERO, ..LockOptions::default() };
    WriterOptions { lock, ..WriterOptions::default() }
}

pub(crate) fn way(access: &Access) -> (Location, Way, Secret) {
    let mut way = Way::from_environment(Environment::default());
    way.ca_cert.clone_from(&access.authority);
    let location = Location::parse(&access.url).expect("the address is one");
    (location, way, Secret::new(access.password.clone()))
}

pub(crate) fn open(access: &Access) -> Writer {
    open_with(access, impatient())
}

pub(crate) fn open_with(access: &Access, options: WriterOptions) -> Writer {
    let (location, way, password) = way(access);
    Writer::open(&location, &way, &password, options, &watch()).unwrap_or_else(|e| panic!("{}", e.chain()))
}

/// Makes a repository through firedrill.
pub(crate) fn init(access: &Access) -> Writer {
    let (location, way, password) = way(access);
    Writer::init(&location, &way, &password, impatient(), &watch())
        .unwrap_or_else(|e| panic!("{}", e.chain()))
}

/// Backs up one folder.
pub(crate) fn back_up(writer: &Writer, source: &Path, request: &BackupRequest) -> BackupSummary {
    let made = writer.backup(vec![Source::path(source)], request, &watch());
    made.unwrap_or_else(|e| panic!("{}", e.chain()))
}

pub(crate) fn id(summary: &BackupSummary) -> String {
    summary.snapshot().unwrap_or_else(|| panic!("no snapshot: {summary:#?}")).0.clone()
}

/// A place with a new repository of restic `generation` in a folder.
pub(crate) fn repository(place: &Workplace, generation: &str, format: &str) -> Option<Repository> {
    let restic = Restic::need(generation)?;
    let access = Access::to(place.path("repository").display().to_string());
    Some(Repository::init(&restic, access, format))
}

/// restic finds nothing wrong, reading everything.
#[track_caller]
pub(crate) fn check(repository: &Repository) {
    let output = run(&mut repository.command(["check", "--read-data"]));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    for word in ["error", "warning", "not referenced", "duplicate"] {
        assert!(!said.replace("no errors were found", "").to_lowercase().contains(word), "{said}");
    }
}

/// What restic says of a repository, as JSON.
pub(crate) fn json(repository: &Repository, arguments: &[&str]) -> serde_json::Value {
    let output = run(&mut repository.command(arguments));
    serde_json::from_slice(&output.stdout).expect("restic prints JSON")
}
