//! `firedrill digest`: records what is known of the data at the moment of a backup.

use std::path::{Path, PathBuf};

use firedrill_backends::digests::record::{self, MariadbSource, Output, PostgresSource};
use firedrill_backends::repository::access::Environment;
use firedrill_backends::repository::password::PasswordSource;
use firedrill_core::canary;
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::digests::{Digests, FILE};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::Secret;
use firedrill_core::verdict::Exit;

use crate::args::{DigestArgs, DigestCommand, DigestOutput};

pub(crate) fn digest(args: DigestArgs) -> Result<Exit> {
    let now = SystemClock.now();
    match args.command {
        DigestCommand::Files { paths, exclude, output } => {
            let usual = match paths.as_slice() {
                [folder] if folder.is_dir() => folder.join(FILE),
                paths => beside(paths),
            };
            recorded(&output, usual, |to| record::of_files(&paths, &exclude, to, now))
        }
        DigestCommand::Sqlite { files, output } => {
            recorded(&output, beside(&files), |to| record::of_sqlite(&files, to, now))
        }
        DigestCommand::Etcd { snapshot, output } => {
            let usual = beside(std::slice::from_ref(&snapshot));
            recorded(&output, usual, |to| record::of_etcd(&snapshot, to, now))
        }
        DigestCommand::Postgres { dbname, exclude_table, quiet, output, command } => {
            let source = PostgresSource {
                database: dbname,
                excluded: exclude_table,
                quiet,
                command,
                ..Default::default()
            };
            if source.command.is_empty() && !quiet {
                inexact("no command made the dump in the same snapshot");
            }
            recorded(&output, PathBuf::from(FILE), |to| source.record(to, now))
        }
        DigestCommand::Mariadb { database, defaults_extra_file, exclude_table, quiet, output, command } => {
            let source = MariadbSource {
                databases: database,
                options_file: defaults_extra_file,
                excluded: exclude_table,
                quiet,
                command,
                ..Default::default()
            };
            recorded(&output, PathBuf::from(FILE), |to| {
                let (digests, why) = source.record(to, now)?;
                if let Some(why) = why {
                    inexact(&why);
                }
                Ok(digests)
            })
        }
    }
}

/// The usual file beside the first of several.
fn beside(paths: &[PathBuf]) -> PathBuf {
    let folder = paths.first().and_then(|path| path.parent()).filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).join(FILE)
}

fn inexact(why: &str) {
    crate::note(format!("the digests are not exact, only the names of tables will count: {why}"));
}

fn recorded(
    output: &DigestOutput,
    usual: PathBuf,
    record: impl FnOnce(&Output) -> Result<Digests>,
) -> Result<Exit> {
    let to = Output::new(output.output.as_deref().unwrap_or(&usual))?;
    // A key that cannot be read is better known before a dump of hours than after it.
    let key = key(output)?;
    // Those of before are about another state: whatever becomes of us, they must not stand for this one.
    to.clear()?;
    let digests = record(&to)?;
    to.write(&digests, key.as_ref())?;
    if key.is_none() {
        crate::note("the digests are not signed: no key is known (--key-file, or the repository's password)");
    }
    Ok(Exit::Verified)
}

/// The key of canaries: a file, or what the repository's password gives.
fn key(output: &DigestOutput) -> Result<Option<Secret>> {
    if let Some(file) = &output.key_file {
        let fail = || Error::new(ErrorKind::Usage, format!("read the canary key {}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| fail().from_source(&error))?;
        return match text.trim() {
            "" => Err(fail().because("it is empty")),
            key => Ok(Some(Secret::new(key))),
        };
    }
    let env = Environment::capture();
    let known = ["RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND"];
    if known.iter().all(|name| env.get(name).is_none()) {
        return Ok(None);
    }
    let password = PasswordSource::resolve(None, None, &env)?.read()?;
    Ok(Some(canary::derive_key(&password)))
}
