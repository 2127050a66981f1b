//! A dump on its way into an empty engine, and what that tells: for the probe, and for whoever else needs a server.

use std::collections::{BTreeMap, BTreeSet};

use firedrill_core::cell::{Cell, Ended};
use firedrill_core::error::Error;
use firedrill_core::finding::Finding;
use firedrill_core::subject::Subject;

use super::archive;
use super::load::{Job, Loaded, NOTES_MAX, Outcome, load};
use super::past;
use super::roster::Candidate;
use super::server::{Listening, Server, block_on, ended_badly, initialise, is_ours};
use super::wire::{Failure, identifier, literal, shown};
use crate::probe::digests::compare::Comparison;
use crate::probe::engine::dumps::DumpKind;
use crate::probe::engine::session::Session;

/// What is gathered over all dumps.
#[derive(Default)]
pub(super) struct Gathered {
    /// Roles that some dump brings.
    pub(super) roles: BTreeSet<String>,
    /// Roles that were missing, with the dumps that need them.
    pub(super) missing: BTreeMap<String, Vec<String>>,
    /// Which expectations were met with a database, by their number.
    pub(super) met: BTreeSet<usize>,
    /// Rows in data folders.
    pub(super) rows: past::Rows,
    /// Whether something of the backup could not be looked at.
    pub(super) incomplete: bool,
    /// Whether something could not be loaded or started, so that nobody knows which roles it brings.
    pub(super) broken: bool,
    /// What the pipeline recorded at the time of the backup.
    pub(super) recorded: Option<Comparison>,
}

impl Gathered {
    /// Something of the backup could not be looked at, so nothing can be said to be missing.
    pub(super) fn give_up(&mut self) {
        self.incomplete = true;
    }
}

/// Starts an engine with nothing in it.
pub(super) fn start_empty<'c>(
    cell: &'c dyn Cell,
    listening: &Listening,
    subject: &Subject,
) -> Result<Server<'c>, Error> {
    let data = initialise(cell)?;
    // Nothing replicates from it, so the log may leave out what can be made anew.
    let own = [("wal_level", "minimal"), ("max_wal_senders", "0")];
    let server = Server::start(cell, &data, &own, listening, &subject.watch)?;
    let preload = block_on(async {
        let mut client = server.connect("postgres", &subject.watch, &[]).await?;
        client.ask("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'").await
    });
    if preload.is_ok_and(|answer| answer.first().is_some()) {
        server.stop()?;
        let with = [own[0], own[1], ("shared_preload_libraries", "timescaledb")];
        return Server::start(cell, &data, &with, listening, &subject.watch);
    }
    Ok(server)
}

/// Makes the empty database that a dump of one database is loaded into.
pub(super) async fn prepare(
    server: &Server<'_>,
    subject: &Subject,
    candidate: &Candidate,
    name: &str,
) -> Result<(), Failure> {
    let mut client = server.connect("postgres", &subject.watch, &[]).await?;
    let wanted = candidate.encoding.as_deref().unwrap_or("UTF8");
    // Some encodings are for clients alone; a server keeps such text in UTF-8.
    let known = format!(
        "SELECT pg_encoding_to_char(pg_char_to_encoding({0})) WHERE pg_char_to_encoding({0}) BETWEEN 0 AND 34",
        literal(wanted)
    );
    let encoding = client.ask(known).await?.first().unwrap_or("UTF8").to_owned();
    // The locale of the source is not in the dump.
    let locale = if encoding == "UTF8" { "" } else { " LOCALE 'C'" };
    let sql = |encoding: &str, locale: &str| {
        format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {}{locale}",
            identifier(name),
            literal(encoding)
        )
    };
    match client.ask(sql(&encoding, locale)).await {
        Err(Failure::Refused(_)) => client.ask(sql("UTF8", "")).await.map(drop),
        other => other.map(drop),
    }
}

/// Loads a dump.
pub(super) fn bring_in(
    session: &mut Session<'_>,
    job: &Job<'_>,
    candidate: &Candidate,
    number: u64,
) -> Loaded {
    let interrupted = |why: String| Loaded { outcome: Outcome::Interrupted(why), ..Loaded::default() };
    let subject = session.subject;
    if candidate.dump.kind != DumpKind::PostgresArchive {
        return match candidate.dump.read(subject) {
            Ok(reader) => block_on(load(job, reader)),
            Err(error) => interrupted(format!("failed to read {}: {error}", job.location)),
        };
    }
    let brought = match archive::bring(job.server.cell(), subject, &candidate.dump, number) {
        Ok(brought) => brought,
        Err(error) => return interrupted(format!("{}: {}", job.location, error.chain())),
    };
    if let Some(seen) = &brought.broken {
        let expected = "an archive that goes on to its end";
        let finding = Finding::damage("postgres.archive", job.location, expected, seen);
        return Loaded { outcome: Outcome::Broken(finding), ..Loaded::default() };
    }
    let (mut loaded, ended) = archive::restore(job, &brought);
    match ended {
        _ if !has_ended_early(&loaded.outcome) => {}
        Err(error) => {
            loaded.outcome = Outcome::Interrupted(format!("{}: {}", job.location, error.chain()));
        }
        Ok(ended) if !ended.succeeded() => archive_failed(&mut loaded, job, &ended),
        Ok(_) => {}
    }
    loaded
}

/// Whether all that came of an archive was loaded, whatever pg_restore says about the rest.
fn has_ended_early(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Whole => true,
        Outcome::Broken(finding) => matches!(finding.code.as_str(), "postgres.truncated" | "postgres.empty"),
        Outcome::Interrupted(_) => false,
    }
}

/// pg_restore says what is wrong with an archive better than the SQL that ends early.
fn archive_failed(loaded: &mut Loaded, job: &Job<'_>, ended: &Ended) {
    if is_ours(ended) {
        let why = ended_badly("pg_restore", ended).chain();
        loaded.outcome = Outcome::Interrupted(format!("{}: {why}", job.location));
        return;
    }
    let (stderr, described) = (ended.stderr.as_str(), ended.describe());
    let said = stderr.lines().find(|line| line.contains("error:")).unwrap_or(&described);
    let said = shown(said, 300);
    let newer = stderr.contains("unsupported version");
    let lacks = stderr.contains("not supported by this installation")
        || stderr.contains("this build does not support");
    loaded.outcome = if newer || lacks {
        let major = job.server.major();
        Outcome::Interrupted(format!(
            "{}: pg_restore of PostgreSQL {major} cannot read it: {said} (give the runtime a newer PostgreSQL, with \
             `runtime.container.images` or `runtime.process.programs`)",
            job.location
        ))
    } else {
        Outcome::Broken(Finding::damage(
            "postgres.archive",
            job.location,
            "an archive that pg_restore reads to its end",
            said,
        ))
    };
}

/// Files what a load has shown; whether all of it was loaded.
pub(super) fn record(
    session: &mut Session<'_>,
    location: &str,
    loaded: &Loaded,
    gathered: &mut Gathered,
) -> bool {
    for finding in &loaded.findings {
        session.find(finding.clone());
    }
    for role in loaded.supplied.roles.difference(&loaded.roles) {
        gathered.missing.entry(role.clone()).or_default().push(location.to_owned());
    }
    gathered.roles.extend(loaded.roles.iter().cloned());
    for tablespace in &loaded.supplied.tablespaces {
        session.find(Finding::gap(
            "postgres.tablespace",
            format!("{location}: {}", shown(tablespace, 80)),
            "the tablespace",
            "this dump does not make it; dumps by `pg_dumpall --tablespaces-only` do",
        ));
    }
    let examination = &mut session.examination;
    if !loaded.supplied.moved.is_empty() {
        let names: Vec<_> = loaded.supplied.moved.iter().map(|name| shown(name, 60)).take(10).collect();
        examination.notes.push(format!("{location}: tablespaces were made elsewhere: {}", names.join(", ")));
    }
    for locale in loaded.supplied.locales.iter().take(NOTES_MAX) {
        examination.not_verified.push(format!(
            "{location}: the order and uniqueness of text under the locale {}, which the engine lacks",
            shown(locale, 80)
        ));
    }
    examination.not_verified.extend(loaded.not_verified.iter().take(NOTES_MAX).cloned());
    examination.notes.extend(loaded.notes.iter().map(|note| format!("{location}: {note}")));
    match &loaded.outcome {
        Outcome::Whole => {
            let (statements, rows) = (loaded.statements, loaded.rows);
            examination.notes.push(format!("{location}: loaded, {statements} statements and {rows} rows"));
            true
        }
        Outcome::Broken(finding) => {
            session.find(finding.clone());
            gathered.broken = true;
            false
        }
        Outcome::Interrupted(why) => {
            gathered.incomplete = true;
            examination.interrupt(why.clone());
            false
        }
    }
}

/// What has to follow once everything is loaded.
pub(super) fn post_restore(
    server: &Server<'_>,
    subject: &Subject,
    database: &str,
    loaded: &Loaded,
) -> Result<(), Failure> {
    if !loaded.notes.iter().any(|note| note.starts_with("timescaledb:")) {
        return Ok(());
    }
    block_on(async {
        let mut client = server.connect(database, &subject.watch, &[]).await?;
        client.ask("SELECT timescaledb_post_restore()").await.map(drop)
    })
}
