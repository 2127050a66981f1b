//! Records digests at the moment of a backup.
//!
//! Nothing here ever sees a password: databases are asked through their own clients (`psql`, `mariadb`), which take
//! their connection from the environment and from their own files.

pub(super) mod client;
mod mariadb;
mod postgres;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use firedrill_core::digests::{Digests, Sqlite, Tree, path_text};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::{etcd, files, sqlite};
use crate::probe::engine::dumps::Source;
use crate::probe::engine::etcd::unpack::Packed;

pub use mariadb::MariadbSource;
pub use postgres::PostgresSource;

/// How long a SQLite file may be locked by somebody else.
const BUSY_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// Where digests are written, and what paths in them are relative to.
#[derive(Clone, Debug)]
pub struct Output {
    file: PathBuf,
    folder: PathBuf,
}

impl Output {
    /// Digests in `file`, whose folder has to exist.
    pub fn new(file: &Path) -> Result<Self> {
        let fail = |why: &str| {
            Error::new(ErrorKind::Usage, format!("write digests to {}", file.display())).because(why)
        };
        let name = file.file_name().ok_or_else(|| fail("it is no name of a file"))?;
        if !firedrill_core::digests::is_name(name.as_bytes()) {
            let suffix = firedrill_core::digests::SUFFIX;
            return Err(
                fail("a restore test would not find it").advise(format!("let its name end with {suffix}"))
            );
        }
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder =
            folder.canonicalize().map_err(|error| fail("its folder has to exist").from_source(&error))?;
        Ok(Self { file: folder.join(name), folder })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Removes digests of before: beside a new backup they would be wrong. What a killed run has left of its own goes,
    /// too: it would be measured as one of the files, and be gone in the end.
    pub fn clear(&self) -> Result<()> {
        for file in [&self.file, &self.unfinished()] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.fail("remove").from_source(&error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where digests are written before they are there.
    fn unfinished(&self) -> PathBuf {
        let mut new = self.file.clone().into_os_string();
        new.push(".new");
        PathBuf::from(new)
    }

    /// Writes digests, signed when there is a key. They are there as a whole or not at all.
    pub fn write(&self, digests: &Digests, key: Option<&Secret>) -> Result<()> {
        let text = digests.to_file(key).map_err(|why| self.fail("write").from_source(&why))?;
        let new = self.unfinished();
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.file)
        });
        written.map_err(|error| {
            let _ = fs::remove_file(&new);
            self.fail("write").from_source(&error)
        })
    }

    fn fail(&self, what: &str) -> Error {
        Error::new(ErrorKind::Usage, format!("{what} {}", self.file.display()))
    }

    /// `path` as digests name it: relative where it lies below the folder of the file, and absolute otherwise.
    fn named(&self, path: &Path) -> Result<(PathBuf, String)> {
        let real = path.canonicalize().map_err(|error| unreadable(path).from_source(&error))?;
        let shown = match real.strip_prefix(&self.folder) {
            Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
            Ok(below) => path_text(below.as_os_str().as_bytes()),
            Err(_) => path_text(real.as_os_str().as_bytes()),
        };
        Ok((real, shown))
    }
}

fn unreadable(path: &Path) -> Error {
    Error::new(ErrorKind::Usage, format!("read {}", path.display()))
}

/// Digests of trees of files. `excluded` are patterns of names and of paths below each top.
pub fn of_files(paths: &[PathBuf], excluded: &[String], output: &Output, now: Timestamp) -> Result<Digests> {
    let mut digests = Digests::new(now);
    for path in paths {
        let (real, shown) = output.named(path)?;
        let fail = |error: io::Error| unreadable(path).from_source(&error);
        let mut proceed = || Ok(());
        let folders = match (real.parent(), real.file_name()) {
            (Some(parent), Some(name)) if !real.is_dir() => {
                let parent = Dir::open_ambient_dir(parent, ambient_authority()).map_err(fail)?;
                files::measure_file(&parent, name, &mut proceed)
            }
            _ => {
                let top = Dir::open_ambient_dir(&real, ambient_authority()).map_err(fail)?;
                files::measure(&top, excluded, &mut proceed)
            }
        };
        digests.files.push(Tree {
            path: shown,
            excluded: excluded.to_vec(),
            folders: folders.map_err(fail)?,
        });
    }
    Ok(digests)
}

/// Digests of SQLite files, which nobody may write to meanwhile.
pub fn of_sqlite(paths: &[PathBuf], output: &Output, now: Timestamp) -> Result<Digests> {
    let mut digests = Digests::new(now);
    for path in paths {
        let (real, shown) = output.named(path)?;
        let tables = sqlite_tables(&real).map_err(|error| unreadable(path).from_source(&error))?;
        digests.sqlite.insert(shown, Sqlite { tables });
    }
    Ok(digests)
}

fn sqlite_tables(
    path: &Path,
) -> rusqlite::Result<std::collections::BTreeMap<String, firedrill_core::digests::Table>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_MAX)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; BEGIN")?;
    sqlite::measure_all(&connection)
}

/// Digests of a snapshot of etcd, from the file itself, which may be packed. It is unpacked beside the output.
pub fn of_etcd(path: &Path, output: &Output, now: Timestamp) -> Result<Digests> {
    let mut digests = Digests::new(now);
    let (real, shown) = output.named(path)?;
    let open = || Ok(Source::new(File::open(&real)?, Watch::unlimited()));
    let to = output.folder.join(format!(".firedrill-digest-{}", std::process::id()));
    let location = path.display().to_string();
    let packed = Packed { location: &location, open: &open, to };
    let etcd = etcd::measure_packed(&packed, &|| Ok(())).map_err(|trouble| match trouble {
        etcd::Trouble::Ours(error) => unreadable(path).from_source(&error),
        etcd::Trouble::Broken(seen) => {
            unreadable(path).because("it is no whole snapshot of etcd").because(seen)
        }
    })?;
    digests.etcd.insert(shown, etcd);
    Ok(digests)
}
