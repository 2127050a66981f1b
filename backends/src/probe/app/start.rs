//! What an application gets, and how it comes up.

use std::time::{Duration, Instant};

use firedrill_core::cell::{Address, CELL_FOLDER, Cell, Ended, Pipes, Program, Service};
use firedrill_core::config::trials::{AppConfig, in_cell};
use firedrill_core::error::Error;
use firedrill_core::finding::Finding;
use firedrill_core::subject::Subject;
use firedrill_core::watch::Watch;
use tokio::io::AsyncReadExt as _;

use super::databases::Server;
use super::{DATA, START, log};
use crate::probe::bringing::{bring, meant};
use crate::probe::engine::session::Session;

/// A server that an application needs must listen within this time.
const LISTEN_MAX: Duration = Duration::from_secs(300);
/// How often one that starts is looked at.
const PAUSE: Duration = Duration::from_millis(50);
/// A connection that is still open after this time was taken by somebody.
const OPEN: Duration = Duration::from_millis(100);
/// How a shell, `env` and the like end when the program cannot be executed.
const NOT_EXECUTED: [i32; 2] = [126, 127];

/// Why an examination ends.
pub(super) enum Stop {
    /// Something is wrong with the backup.
    Finding(Box<Finding>),
    /// Something keeps us from looking.
    Trouble(String),
    /// What it is is on record already.
    Told,
}

impl Stop {
    pub(super) fn finding(finding: Finding) -> Self {
        Self::Finding(Box::new(finding))
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Trouble(error.chain())
    }
}

/// An application with the servers that it needs. They end with the cell.
pub(super) struct Started {
    pub(super) app: Box<dyn Service>,
    pub(super) servers: Vec<Server>,
}

/// Entries of the snapshot with their places in the cell.
pub(super) fn data(session: &mut Session<'_>, app: &AppConfig) -> Result<Vec<(Vec<u8>, String)>, Stop> {
    let mut data = Vec::new();
    let mut missing = Vec::new();
    for (path, place) in &app.data {
        let Some(place) = in_cell(place) else {
            return Err(Stop::Trouble(format!("`{place}` is no path below {CELL_FOLDER}")));
        };
        match meant(session.subject, path).as_slice() {
            [] => missing.push(path),
            [one] => data.push((one.clone(), place)),
            [one, ..] => {
                let shown = firedrill_core::manifest::display_path(one);
                session.note(format!("`{path}` means several things in the snapshot; {shown} was taken"));
                data.push((one.clone(), place));
            }
        }
    }
    let Some((last, others)) = missing.split_last() else { return Ok(data) };
    let finding = |path: &&String| {
        let expected = format!("what {} needs", app.kit());
        Finding::damage(DATA, path.as_str(), expected, "no such file or folder in the snapshot")
    };
    for path in others {
        session.find(finding(path));
    }
    Err(Stop::finding(finding(last)))
}

/// Brings everything in that is copied.
pub(super) fn bring_all(
    subject: &Subject,
    cell: &dyn Cell,
    app: &AppConfig,
    data: &[(Vec<u8>, String)],
) -> Result<(), Stop> {
    // Places inside other places come after them.
    let mut data: Vec<_> = data.iter().collect();
    data.sort_by(|a, b| a.1.cmp(&b.1));
    for (path, place) in data {
        bring(subject, cell, path, place)?;
    }
    for (place, text) in &app.files {
        let Some(place) = in_cell(place) else {
            return Err(Stop::Trouble(format!("`{place}` is no path below {CELL_FOLDER}")));
        };
        cell.bring(&mut text.as_bytes(), &place)?;
    }
    Ok(())
}

/// Takes each step, and starts the application beside the `servers` that run already.
pub(super) fn start(
    subject: &Subject,
    cell: &dyn Cell,
    app: &AppConfig,
    mut servers: Vec<Server>,
) -> Result<Started, Stop> {
    for step in &app.before {
        let program = program(step.command(), step.kit(), &step.environment)?;
        if step.run.is_some() {
            let ended = cell.run(&program, Pipes::default())?;
            if !ended.succeeded() {
                return Err(ended_early(START, program.shown(), &ended, &ended.stderr));
            }
            continue;
        }
        let server = cell.start(&program)?;
        if let Some(place) = &step.listens {
            wait_for(subject, cell, server.as_ref(), program.shown(), place)?;
        }
        servers.push((program.shown().to_owned(), server));
    }
    let program = program(&app.command, app.kit(), &app.environment)?;
    Ok(Started { app: cell.start(&program)?, servers })
}

fn program(
    command: &[String],
    kit: &str,
    environment: &std::collections::BTreeMap<String, String>,
) -> Result<Program, Stop> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Stop::Trouble("a command is empty".to_owned()));
    };
    let mut program = Program::new(program, arguments);
    program.kit = kit.to_owned();
    program.environment.clone_from(environment);
    Ok(program)
}

/// Waits until a server listens. One that does not come up is no finding: what it has to do with the backup, only
/// the application can show.
fn wait_for(
    subject: &Subject,
    cell: &dyn Cell,
    server: &dyn Service,
    name: &str,
    place: &str,
) -> Result<(), Stop> {
    let address = match (place.parse::<u16>(), in_cell(place)) {
        (Ok(port), _) => Address::Tcp(port),
        (Err(_), Some(socket)) => Address::Unix(socket),
        (Err(_), None) => return Err(Stop::Trouble(format!("nobody can listen at `{place}`"))),
    };
    let begun = Instant::now();
    loop {
        subject.watch.check()?;
        if let Some(ended) = server.ended() {
            return Err(ended_early(START, name, &ended, &server.log()));
        }
        if listens(cell, &address, &subject.watch) {
            return Ok(());
        }
        if begun.elapsed() > LISTEN_MAX {
            let said = log::last_words(&server.log());
            return Err(Stop::Trouble(format!(
                "{name} does not listen at {place} after {LISTEN_MAX:?}; {said}"
            )));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether somebody takes a connection. Where the way leads through a relay, a closed port ends it at once.
fn listens(cell: &dyn Cell, address: &Address, watch: &Watch) -> bool {
    if watch.check().is_err() {
        return false;
    }
    tokio::runtime::Handle::current().block_on(async {
        let Ok(mut wire) = cell.dial(address) else { return false };
        let mut byte = [0; 1];
        match tokio::time::timeout(OPEN, wire.read(&mut byte)).await {
            // It waits for us to speak, or spoke first.
            Err(_) => true,
            Ok(read) => read.is_ok_and(|n| n > 0),
        }
    })
}

/// What it means that a program ended by itself. One that could not be executed, or that was killed, says nothing
/// about the backup.
pub(super) fn ended_early(code: &str, name: &str, ended: &Ended, log: &str) -> Stop {
    const KILLED: i32 = 9;
    let how = match (ended.code, ended.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    };
    let seen = format!("{how}; {}", log::last_words(log));
    let killed = ended.signal == Some(KILLED) || ended.code == Some(128 + KILLED);
    let not_executed = ended.code.is_some_and(|code| NOT_EXECUTED.contains(&code));
    if killed || not_executed || (ended.code.is_none() && ended.signal.is_none()) {
        return Stop::Trouble(format!("{name} ended: {seen}"));
    }
    Stop::finding(Finding::damage(code, name, format!("that {name} runs on the restored data"), seen))
}
