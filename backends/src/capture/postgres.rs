//! PostgreSQL by pg_dump and pg_dumpall.

use firedrill_core::config::jobs::{PostgresCapture, PostgresFormat};
use firedrill_core::error::{Error, ErrorKind, Result};

use super::beside::{self, Beside};
use super::process::Program;
use super::whole::Whole;
use super::{Captured, Moment, password, stream};
use crate::digests::record::PostgresSource;

/// The last thing that pg_dump writes.
const DUMP_END: &str = "-- PostgreSQL database dump complete";
/// And pg_dumpall.
const CLUSTER_END: &str = "-- PostgreSQL database cluster dump complete";

pub(super) fn capture(config: &PostgresCapture, moment: &Moment<'_>, captured: &mut Captured) -> Result<()> {
    let secret = password(&config.server, moment.environment)?;
    let whole = match (&config.database, config.format) {
        (None, _) => Whole::ending(CLUSTER_END),
        (Some(_), PostgresFormat::Plain) => Whole::ending(DUMP_END),
        (Some(_), PostgresFormat::Custom) => Whole::archive(),
    };
    if config.digests {
        return with_digests(config, whole, moment, captured);
    }
    let program = Program::new(command(config)).via(&config.via).with("PGPASSWORD", secret);
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
    whole: Whole,
    moment: &Moment<'_>,
    captured: &mut Captured,
) -> Result<()> {
    let failed = |why: &str| {
        Error::new(ErrorKind::Usage, format!("record digests beside {}", config.stored_as)).because(why)
    };
    let Some(database) = &config.database else {
        return Err(failed("all databases have no common moment").advise("name a `database`"));
    };
    if !config.via.is_empty() {
        return Err(failed("the tables are read from here, and not from where `via` leads"));
    }
    let excluded = left_out(&config.arguments).map_err(|argument| {
        failed(&format!("firedrill cannot tell which tables `{argument}` leaves in"))
            .advise("remove the argument, or `digests`")
    })?;
    let place = Beside::new(&config.stored_as, moment, captured)?;
    let server = &config.server;
    let mut environment: Vec<(String, String)> = Vec::new();
    environment.extend(server.host.iter().map(|host| ("PGHOST".to_owned(), host.clone())));
    environment.extend(server.port.iter().map(|port| ("PGPORT".to_owned(), port.to_string())));
    environment.extend(server.user.iter().map(|user| ("PGUSER".to_owned(), user.clone())));
    if let Some(secret) = password(server, moment.environment)? {
        environment.push(("PGPASSWORD".to_owned(), secret.reveal().to_owned()));
    }
    let mut command = command(config);
    command.extend(["--snapshot={snapshot}".to_owned(), format!("--file={}", place.dump.display())]);
    let source = PostgresSource {
        database: Some(database.to_owned()),
        excluded,
        quiet: false,
        environment,
        command,
        watch: moment.watch.clone(),
    };
    let digests = source.record(&place.output, moment.now)?;
    place.keep(&digests, whole, moment, captured)
}

/// The tables without whose data a dump is made, as patterns of digests; or the argument of which that cannot be said.
fn left_out(arguments: &[String]) -> std::result::Result<Vec<String>, String> {
    const OUT: [&str; 3] = ["-T", "--exclude-table", "--exclude-table-data"];
    const OTHERS: [&str; 15] = [
        "-t",
        "--table",
        "--table-and-children",
        "--exclude-table-and-children",
        "--exclude-table-data-and-children",
        "-n",
        "--schema",
        "-N",
        "--exclude-schema",
        "-s",
        "--schema-only",
        "--section",
        "-e",
        "--extension",
        "--filter",
    ];
    let mut patterns = Vec::new();
    for (name, value) in beside::options(arguments, &OUT, &OTHERS)? {
        // In a pattern of digests a star is the only thing that stands for another.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '*');
        if !value.chars().all(plain) {
            return Err(format!("{name}={value}"));
        }
        patterns.push(if value.contains('.') { value } else { format!("*.{value}") });
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::left_out;

    fn of(arguments: &[&str]) -> Result<Vec<String>, String> {
        left_out(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_a_dump_leaves_out_is_left_out_of_digests() {
        let all = ["--no-owner", "-T", "audit.*", "--exclude-table-data=sessions", "-Tlog_*"];
        assert_eq!(of(&all).unwrap(), ["audit.*", "*.sessions", "*.log_*"]);
        for unclear in ["-n", "-nshop", "--schema=shop", "--table", "-T(a|b)", "--exclude-table=\"A\"", "-s"]
        {
            assert!(of(&[unclear, "x"]).is_err(), "{unclear}");
        }
    }
}
