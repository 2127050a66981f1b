//! PostgreSQL by pg_dump and pg_dumpall.

use std::path::Path;

use firedrill_core::config::jobs::{PostgresCapture, PostgresFormat};
use firedrill_core::error::{Error, ErrorKind, Result};

use super::process::Program;
use super::whole::Whole;
use super::{Captured, Made, Moment, digests_beside, password, scratch, stream};
use crate::digests::record::{Output, PostgresSource};

/// The last thing that pg_dump writes.
const DUMP_END: &str = "PostgreSQL database dump complete";
/// And pg_dumpall.
const CLUSTER_END: &str = "PostgreSQL database cluster dump complete";
/// How archives begin.
const ARCHIVE: &[u8] = b"PGDMP";

pub(super) fn capture(config: &PostgresCapture, moment: &Moment<'_>, captured: &mut Captured) -> Result<()> {
    let secret = password(&config.server, moment.environment)?;
    if let (Some(database), true) = (&config.database, config.digests) {
        return with_digests(config, database, moment, captured);
    }
    let program = Program::new(command(config)).via(&config.via).with("PGPASSWORD", secret);
    let whole = match (&config.database, config.format) {
        (None, _) => Whole::ending(CLUSTER_END),
        (Some(_), PostgresFormat::Plain) => Whole::ending(DUMP_END),
        (Some(_), PostgresFormat::Custom) => Whole::beginning(ARCHIVE),
    };
    captured.streams.push(stream(&config.stored_as, program, whole, moment));
    Ok(())
}

fn command(config: &PostgresCapture) -> Vec<String> {
    let mut command = vec![if config.database.is_some() { "pg_dump" } else { "pg_dumpall" }.to_owned()];
    command.push("--no-password".to_owned());
    if config.database.is_some() {
        command.push(match config.format {
            PostgresFormat::Custom => "--format=custom".to_owned(),
            PostgresFormat::Plain => "--format=plain".to_owned(),
        });
        if config.format == PostgresFormat::Custom {
            // The repository compresses, and finds what is the same as yesterday.
            command.push("--compress=0".to_owned());
        }
    }
    let server = &config.server;
    command.extend(server.host.iter().map(|host| format!("--host={host}")));
    command.extend(server.port.iter().map(|port| format!("--port={port}")));
    command.extend(server.user.iter().map(|user| format!("--username={user}")));
    command.extend(config.arguments.iter().cloned());
    command.extend(config.database.iter().map(|database| format!("--dbname={database}")));
    command
}

/// Digests are only exact when they are taken in the snapshot that the dump uses, so both are made by one session.
fn with_digests(
    config: &PostgresCapture,
    database: &str,
    moment: &Moment<'_>,
    captured: &mut Captured,
) -> Result<()> {
    let folder = moment.work.join(format!("postgres-{}", captured.made.len()));
    std::fs::create_dir(&folder).map_err(|e| scratch(&folder, &e))?;
    let name = Path::new(&config.stored_as).file_name().ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("store a dump as {}", config.stored_as))
            .because("it is no name of a file")
    })?;
    let file = folder.join(name);
    let recorded = folder.join(digests_beside(&name.to_string_lossy()));
    let server = &config.server;
    let mut environment: Vec<(String, String)> = Vec::new();
    environment.extend(server.host.iter().map(|host| ("PGHOST".to_owned(), host.clone())));
    environment.extend(server.port.iter().map(|port| ("PGPORT".to_owned(), port.to_string())));
    environment.extend(server.user.iter().map(|user| ("PGUSER".to_owned(), user.clone())));
    if let Some(secret) = password(server, moment.environment)? {
        environment.push(("PGPASSWORD".to_owned(), secret.reveal().to_owned()));
    }
    let mut command = command(config);
    command.extend(["--snapshot={snapshot}".to_owned(), format!("--file={}", file.display())]);
    let source = PostgresSource {
        database: Some(database.to_owned()),
        excluded: Vec::new(),
        quiet: false,
        environment,
        command,
    };
    let output = Output::new(&recorded)?;
    let digests = source.record(&output, moment.now)?;
    output.write(&digests, moment.key)?;
    captured.made.push(Made { path: config.stored_as.clone(), file, dump: true });
    captured.made.push(Made { path: digests_beside(&config.stored_as), file: recorded, dump: false });
    Ok(())
}
