//! MariaDB by mariadb-backup and mariadb-dump.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use firedrill_core::config::jobs::{MariadbCapture, MariadbMethod};
use firedrill_core::error::Result;
use firedrill_core::secret::Secret;

use super::process::Program;
use super::whole::Whole;
use super::{Captured, Moment, password, scratch, stream};

/// The last line of a dump, before its date.
const DUMP_END: &str = "-- Dump completed";
/// The last line that mariadb-backup says on standard error.
const BACKUP_END: &str = "completed OK!";
/// How each chunk of an xbstream begins.
const XBSTREAM: &[u8] = b"XBSTCK01";

pub(super) fn capture(config: &MariadbCapture, moment: &Moment<'_>, captured: &mut Captured) -> Result<()> {
    let options = match password(&config.server, moment.environment)? {
        Some(secret) => Some(options_file(&secret, moment, captured.streams.len())?),
        None => None,
    };
    let (name, mut arguments, whole, last_words) = match config.method {
        MariadbMethod::Xbstream => (
            "mariadb-backup",
            vec![
                "--backup".to_owned(),
                "--stream=xbstream".to_owned(),
                format!("--target-dir={}", temporary(config, moment).display()),
            ],
            Whole::beginning(XBSTREAM),
            Some(BACKUP_END),
        ),
        MariadbMethod::Dump => (
            "mariadb-dump",
            ["--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob"]
                .map(str::to_owned)
                .to_vec(),
            Whole::ending(DUMP_END),
            None,
        ),
    };
    let server = &config.server;
    match &server.host {
        Some(folder) if folder.starts_with('/') => arguments.push(format!("--socket={folder}")),
        Some(host) => arguments.push(format!("--host={host}")),
        None => {}
    }
    arguments.extend(server.port.iter().map(|port| format!("--port={port}")));
    arguments.extend(server.user.iter().map(|user| format!("--user={user}")));
    arguments.extend(config.arguments.iter().cloned());
    if config.method == MariadbMethod::Dump {
        match &config.database {
            Some(database) => arguments.extend(["--databases".to_owned(), database.clone()]),
            None => arguments.push("--all-databases".to_owned()),
        }
    }
    let mut command = vec![name.to_owned()];
    // This one has to come first.
    command.extend(options.map(|file| format!("--defaults-extra-file={}", file.display())));
    command.extend(arguments);
    let program = Program { last_words, ..Program::new(command).via(&config.via) };
    captured.streams.push(stream(&config.stored_as, program, whole, moment));
    Ok(())
}

/// mariadb-backup wants a folder even for a stream. Elsewhere it is one that is there on every machine.
fn temporary(config: &MariadbCapture, moment: &Moment<'_>) -> PathBuf {
    match config.via.is_empty() {
        true => moment.work.join("mariadb-backup"),
        false => PathBuf::from("/tmp"),
    }
}

/// A password in a file that only we can read: arguments and variables can be read by others.
fn options_file(secret: &Secret, moment: &Moment<'_>, number: usize) -> Result<PathBuf> {
    let path = moment.work.join(format!("mariadb-{number}.cnf"));
    let quoted = secret.reveal().replace('\\', "\\\\").replace('"', "\\\"");
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| {
            write!(file, "[client]\npassword=\"{quoted}\"\n[mariadb-backup]\npassword=\"{quoted}\"\n")
        })
        .map_err(|e| scratch(&path, &e))?;
    Ok(path)
}
