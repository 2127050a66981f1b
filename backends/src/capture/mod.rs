//! What a backup is made of, at the moment it is made: files, online copies of databases, dumps as streams.
//!
//! A capture that fails, is cut short or produces nothing never looks like success: the stream of a program ends with
//! an error unless the program ended well and what it wrote has the end that its format promises.
//!
//! | file | what it captures |
//! |---|---|
//! | `process` | the output of a program, with an honest end |
//! | `whole` | whether a stream is whole, by what its format promises |
//! | `beside` | digests that are taken at the moment of a dump |
//! | `sqlite` | SQLite by its online backup |
//! | `postgres` | pg_dump and pg_dumpall |
//! | `mariadb` | mariadb-backup and mariadb-dump |
//! | `etcd` | etcdctl and k3s, with keys and tokens beside |

mod beside;
mod etcd;
mod mariadb;
mod postgres;
mod process;
mod sqlite;
mod whole;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firedrill_core::canary::{self, Canary};
use firedrill_core::config::jobs::{CaptureConfig, CommandCapture, FilesCapture, Server};
use firedrill_core::digests;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use jiff::Timestamp;

use crate::repository::access::Environment;
use process::{Output, Program};
use whole::Whole;

/// The moment at which something is captured.
pub struct Moment<'a> {
    /// The target.
    pub target: &'a str,
    /// The time.
    pub now: Timestamp,
    /// An empty folder, for copies that cannot be streams.
    pub work: &'a Path,
    /// The key of canaries and digests.
    pub key: Option<&'a Secret>,
    /// Deadline and stop signal.
    pub watch: &'a Watch,
    /// Where passwords may be.
    pub environment: &'a Environment,
}

/// What was captured, and goes into one snapshot.
#[derive(Default)]
pub struct Captured {
    /// Files of this machine, as they are.
    pub files: Vec<FilesCapture>,
    /// Files that were made for this snapshot: their path in it, and where they lie.
    pub made: Vec<Made>,
    /// Streams, in the order in which they are read.
    pub streams: Vec<Stream>,
    /// Canaries, each for a folder of the snapshot that has none of its own.
    pub canaries: Vec<Planted>,
    /// Worth knowing.
    pub notes: Vec<String>,
}

/// A canary for a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    /// Its path in the snapshot, absolute.
    pub path: String,
    /// What is in it.
    pub line: String,
}

/// A file that was made for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its path in the snapshot, absolute.
    pub path: String,
    /// Where it lies.
    pub file: PathBuf,
    /// Whether it is a dump, and not something small beside one.
    pub dump: bool,
}

/// A stream that becomes a file of a snapshot.
pub struct Stream {
    /// Its path in the snapshot, absolute.
    pub path: String,
    /// Opens it. Its end is an error unless everything went well.
    pub open: Box<dyn FnOnce() -> Result<Box<dyn Read + Send>> + Send>,
}

/// Captures everything that `captures` name: streams are opened later, when they are read.
pub fn capture(captures: &[CaptureConfig], moment: &Moment<'_>) -> Result<Captured> {
    let mut captured = Captured::default();
    for capture in captures {
        moment.watch.check()?;
        one(capture, moment, &mut captured)?;
    }
    plant(moment, &mut captured)?;
    Ok(captured)
}

fn one(capture: &CaptureConfig, moment: &Moment<'_>, captured: &mut Captured) -> Result<()> {
    if let Some(files) = &capture.files {
        captured.files.push(files.clone());
    }
    if let Some(sqlite) = &capture.sqlite {
        sqlite::capture(sqlite, moment, captured)?;
    }
    if let Some(postgres) = &capture.postgres {
        postgres::capture(postgres, moment, captured)?;
    }
    if let Some(mariadb) = &capture.mariadb {
        mariadb::capture(mariadb, moment, captured)?;
    }
    if let Some(etcd) = &capture.etcd {
        etcd::capture(etcd, moment, captured)?;
    }
    if let Some(command) = &capture.command {
        captured.streams.push(of_command(command, moment));
    }
    Ok(())
}

fn of_command(command: &CommandCapture, moment: &Moment<'_>) -> Stream {
    let program = Program::new(command.run.clone());
    let least = command.bytes_min.map_or(1, |size| size.0.max(1));
    stream(&command.stored_as, program, Whole::at_least(least), moment)
}

/// The output of a program as a stream.
fn stream(path: &str, program: Program, whole: Whole, moment: &Moment<'_>) -> Stream {
    let watch = moment.watch.clone();
    Stream {
        path: path.to_owned(),
        open: Box::new(move || Ok(Box::new(whole.over(Output::start(program, &watch)?)))),
    }
}

/// Plants a canary in each folder that is captured, and beside each thing that is made: it proves when the data was
/// taken, and for which target. A source that has one of its own keeps it: that one proves that the source lives.
fn plant(moment: &Moment<'_>, captured: &mut Captured) -> Result<()> {
    let Some(key) = moment.key else { return Ok(()) };
    let of_files = captured.files.iter().flat_map(|files| &files.paths).map(|path| {
        let is_file = std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_dir());
        if is_file { folder(path) } else { path.clone() }
    });
    let made = captured.made.iter().filter(|made| made.dump).map(|made| folder(&made.path));
    let streams = captured.streams.iter().map(|stream| folder(&stream.path));
    let folders: std::collections::BTreeSet<String> =
        of_files.chain(made).chain(streams).map(|folder| folder.trim_end_matches('/').to_owned()).collect();
    let sequence = u64::try_from(moment.now.as_second()).unwrap_or_default();
    let failed = |e: canary::Malformed| Error::new(ErrorKind::Usage, "plant a canary").from_source(&e);
    let line = Canary::sign(key, moment.target, sequence, moment.now).map_err(failed)?.to_line();
    captured.canaries = folders
        .into_iter()
        .map(|folder| Planted { path: join(&folder, canary::FILE), line: line.clone() })
        .collect();
    Ok(())
}

/// The folder of a path in a snapshot.
fn folder(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/".to_owned(),
        Some((folder, _)) => folder.to_owned(),
    }
}

fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

/// Where digests of what lies at `path` go.
fn digests_beside(path: &str) -> String {
    format!("{path}{}", digests::SUFFIX)
}

fn scratch(file: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Scratch, format!("write {}", file.display())).from_source(error)
}

/// The password of a server, if the config names one.
fn password(server: &Server, environment: &Environment) -> Result<Option<Secret>> {
    let failed = |what: String| Error::new(ErrorKind::Usage, what);
    if let Some(name) = &server.password_env {
        return match environment.get(name) {
            Some(value) => Ok(Some(Secret::new(value))),
            None => Err(failed(format!("read the variable {name}"))
                .because("it is not set")
                .advise("set it to the password of the database")),
        };
    }
    let Some(file) = &server.password_file else { return Ok(None) };
    let read =
        |e: &dyn std::error::Error| failed(format!("read the password in {}", file.display())).from_source(e);
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(PASSWORD_MAX).read_to_string(&mut text))
        .map_err(|e| read(&e))?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(Some(Secret::new(line))),
        None => {
            Err(failed(format!("read the password in {}", file.display())).because("its first line is empty"))
        }
    }
}

/// No password is longer than this.
const PASSWORD_MAX: u64 = 64 << 10;

/// A program that is done has this long to end after it closed its output.
const ENDING: Duration = Duration::from_secs(60);
