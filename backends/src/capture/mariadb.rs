//! MariaDB by mariadb-backup and mariadb-dump.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use firedrill_core::config::jobs::{MariadbCapture, MariadbMethod, Server};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::Secret;

use super::beside::{self, Beside};
use super::process::Program;
use super::whole::Whole;
use super::{Captured, Moment, password, scratch, stream};
use crate::digests::record::MariadbSource;

/// The last line of a dump, before its date.
const DUMP_END: &str = "-- Dump completed";
/// The last line that mariadb-backup says on standard error.
const BACKUP_END: &str = "completed OK!";

pub(super) fn capture(config: &MariadbCapture, moment: &Moment<'_>, captured: &mut Captured) -> Result<()> {
    let secret = password(&config.server, moment.environment)?;
    if config.digests {
        return with_digests(config, secret.as_ref(), moment, captured);
    }
    let number = captured.streams.len() + captured.made.len();
    let options = match &secret {
        Some(secret) => Some(options_file(&Server::default(), Some(secret), moment, number)?),
        None => None,
    };
    let mut command = vec![
        match config.method {
            MariadbMethod::Xbstream => "mariadb-backup",
            MariadbMethod::Dump => "mariadb-dump",
        }
        .to_owned(),
    ];
    // This one has to come first.
    command.extend(options.map(|file| format!("--defaults-extra-file={}", file.display())));
    let (whole, last_words) = match config.method {
        MariadbMethod::Xbstream => {
            let folder = temporary(config, moment, number);
            command.extend([
                "--backup".to_owned(),
                "--stream=xbstream".to_owned(),
                format!("--target-dir={}", folder.display()),
            ]);
            (Whole::xbstream(), Some(BACKUP_END))
        }
        MariadbMethod::Dump => {
            command.extend(dump_arguments());
            (Whole::ending(DUMP_END), None)
        }
    };
    let server = &config.server;
    match &server.host {
        Some(folder) if folder.starts_with('/') => command.push(format!("--socket={folder}")),
        Some(host) => command.push(format!("--host={host}")),
        None => {}
    }
    command.extend(server.port.iter().map(|port| format!("--port={port}")));
    command.extend(server.user.iter().map(|user| format!("--user={user}")));
    command.extend(config.arguments.iter().cloned());
    if config.method == MariadbMethod::Dump {
        command.extend(databases(config));
    }
    let program = Program { last_words, secrets: secret.into_iter().collect(), ..Program::new(command) };
    captured.streams.push(stream(&config.stored_as, program.via(&config.via), whole, moment));
    Ok(())
}

fn dump_arguments() -> impl Iterator<Item = String> {
    ["--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob"]
        .map(str::to_owned)
        .into_iter()
}

fn databases(config: &MariadbCapture) -> Vec<String> {
    match &config.database {
        Some(database) => vec!["--databases".to_owned(), database.clone()],
        None => vec!["--all-databases".to_owned()],
    }
}

/// mariadb-backup wants a folder even for a stream. Elsewhere it is one that is there on every machine.
fn temporary(config: &MariadbCapture, moment: &Moment<'_>, number: usize) -> PathBuf {
    match config.via.is_empty() {
        true => moment.work.join(format!("mariadb-backup-{number}")),
        false => PathBuf::from("/tmp"),
    }
}

/// Digests are taken while a dump begins, and the dump is made beside them.
fn with_digests(
    config: &MariadbCapture,
    secret: Option<&Secret>,
    moment: &Moment<'_>,
    captured: &mut Captured,
) -> Result<()> {
    let failed = |why: String| {
        Error::new(ErrorKind::Usage, format!("record digests beside {}", config.stored_as)).because(why)
    };
    if config.method != MariadbMethod::Dump {
        return Err(failed("a physical backup has no moment that a query could look at".to_owned())
            .advise("use `method: dump`"));
    }
    if !config.via.is_empty() {
        return Err(failed("the tables are read from here, and not from where `via` leads".to_owned()));
    }
    let excluded = left_out(&config.arguments).map_err(|argument| {
        failed(format!("firedrill cannot tell which tables `{argument}` leaves in"))
            .advise("remove the argument, or `digests`")
    })?;
    let place = Beside::new(&config.stored_as, moment, captured)?;
    let options = options_file(&config.server, secret, moment, captured.streams.len() + captured.made.len())?;
    let mut command = vec!["mariadb-dump".to_owned(), format!("--defaults-extra-file={}", options.display())];
    command.extend(dump_arguments());
    command.extend(config.arguments.iter().cloned());
    command.push(format!("--result-file={}", place.dump.display()));
    command.extend(databases(config));
    let source = MariadbSource {
        databases: config.database.iter().cloned().collect(),
        options_file: Some(options),
        excluded,
        quiet: false,
        command,
        watch: moment.watch.clone(),
    };
    let (digests, inexact) = source.record(&place.output, moment.now)?;
    if let Some(why) = inexact {
        captured.notes.push(format!("the digests beside {} are not exact: {why}", config.stored_as));
    }
    place.keep(&digests, Whole::ending(DUMP_END), moment, captured)
}

/// The tables without whose data a dump is made, as patterns of digests; or the argument of which that cannot be said.
fn left_out(arguments: &[String]) -> std::result::Result<Vec<String>, String> {
    const OUT: [&str; 2] = ["--ignore-table", "--ignore-table-data"];
    const OTHERS: [&str; 8] =
        ["-d", "--no-data", "-w", "--where", "--tables", "--ignore-database", "-n", "--no-create-info"];
    Ok(beside::options(arguments, &OUT, &OTHERS)?.into_iter().map(|(_, table)| table).collect())
}

/// How clients reach the server, in a file that only we can read: arguments and variables can be read by others.
fn options_file(
    server: &Server,
    secret: Option<&Secret>,
    moment: &Moment<'_>,
    number: usize,
) -> Result<PathBuf> {
    let mut lines = String::new();
    let mut line = |name: &str, value: &str| {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        // Writing to a text cannot fail.
        let _ = writeln!(lines, "{name}=\"{quoted}\"");
    };
    match &server.host {
        Some(folder) if folder.starts_with('/') => line("socket", folder),
        Some(host) => line("host", host),
        None => {}
    }
    if let Some(port) = server.port {
        line("port", &port.to_string());
    }
    if let Some(user) = &server.user {
        line("user", user);
    }
    if let Some(secret) = secret {
        line("password", secret.reveal());
    }
    let path = moment.work.join(format!("mariadb-{number}.cnf"));
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| write!(file, "[client]\n{lines}[mariadb-backup]\n{lines}"))
        .map_err(|e| scratch(&path, &e))?;
    Ok(path)
}
