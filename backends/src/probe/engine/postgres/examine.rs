//! One examination: engines, dumps and folders in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use firedrill_core::cell::{Cell, Kit};
use firedrill_core::config::settings::DatabaseExpectation;
use firedrill_core::error::Error;
use firedrill_core::event::Phase;
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::subject::Subject;

use super::expect::{self, Place};
use super::load::{Filled, Job, Loaded, NOTES_MAX, Outcome, load};
use super::roster::{Candidate, Roster};
use super::server::{Server, block_on, initialise, kit};
use super::verify::{self, Counted};
use super::wire::{Failure, identifier, literal, shown};
use super::{NAME, amcheck, archive, conclude, folder, past};
use crate::probe::digests::compare::{self, Comparison, Engine};
use crate::probe::engine::dumps::DumpKind;
use crate::probe::engine::session::{Session, demanded, offered};

/// The database that a plain dump of one database is loaded into.
const SCRATCH: &str = "firedrill_dump";
/// More databases than this of one cluster are not asked.
const DATABASES_MAX: usize = 1000;

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

/// Examines everything in a subject.
pub(super) fn examine(subject: &Subject) -> Examination {
    let mut session = Session::new(subject, NAME, "databases");
    let roster = Roster::of(subject);
    let recorded = Some(Comparison::of(subject, Engine::Postgres));
    let mut gathered = Gathered { recorded, ..Gathered::default() };
    for reason in &roster.unreadable {
        session.examination.interrupt(reason.clone());
    }
    if roster.older > 0 {
        let count = roster.older;
        session
            .examination
            .not_verified
            .push(format!("{count} older generations of dumps: the newest was loaded"));
    }
    if roster.folders_omitted > 0 {
        session
            .examination
            .interrupt(format!("{} more data folders were not looked at", roster.folders_omitted));
    }
    dumps(&mut session, &roster, &mut gathered);
    for found in &roster.folders {
        if leave_out(&mut session, &kit(found.major, true), &found.location) {
            gathered.incomplete = true;
            continue;
        }
        folder::examine(&mut session, found, &mut gathered);
    }
    conclude::conclude(&mut session, &roster, gathered);
    session.finish()
}

/// Whether there is no engine for something, and nobody demands that there is one.
fn leave_out(session: &mut Session<'_>, kit: &Kit, location: &str) -> bool {
    let Err(why) = offered(session.subject, kit) else { return false };
    let wanted = demanded(session.subject) || !session.subject.drill.expectations.postgres.is_empty();
    if wanted {
        session.examination.interrupt(format!("{location}: {why}"));
    } else {
        session.examination.not_verified.push(format!("{location} was not loaded: {why}"));
    }
    true
}

fn dumps(session: &mut Session<'_>, roster: &Roster, gathered: &mut Gathered) {
    let (clusters, others): (Vec<_>, Vec<_>) =
        roster.dumps.iter().partition(|candidate| candidate.dump.kind == DumpKind::PostgresCluster);
    // Each cluster has an engine of its own: their databases and roles may have the same names.
    for candidate in clusters {
        group(session, candidate.major, &[candidate], gathered);
    }
    let mut by_major: BTreeMap<Option<u32>, Vec<&Candidate>> = BTreeMap::new();
    for candidate in others {
        by_major.entry(candidate.major).or_default().push(candidate);
    }
    for (major, candidates) in by_major {
        group(session, major, &candidates, gathered);
    }
}

/// Loads dumps of one version into one engine, one after the other.
fn group(session: &mut Session<'_>, major: Option<u32>, candidates: &[&Candidate], gathered: &mut Gathered) {
    let Some(first) = candidates.first() else { return };
    if leave_out(session, &kit(major, false), &first.dump.location) {
        gathered.incomplete = true;
        return;
    }
    let Some(cell) = session.open(&[kit(major, false)]) else {
        gathered.incomplete = true;
        return;
    };
    let start = Instant::now();
    let started = start_empty(cell.as_ref(), session.subject);
    session.spent(Phase::Start, start.elapsed());
    match started {
        Ok(server) => {
            for (number, candidate) in candidates.iter().enumerate() {
                if let Err(error) = session.subject.watch.check() {
                    gathered.incomplete = true;
                    session.trouble(&error);
                    break;
                }
                one(session, &server, candidate, number as u64, gathered);
            }
            if let Err(error) = server.stop() {
                session
                    .examination
                    .notes
                    .push(format!("the engine did not stop by itself: {}", error.chain()));
            }
        }
        Err(error) => {
            gathered.incomplete = true;
            session.trouble(&error);
        }
    }
    if let Err(error) = cell.close() {
        session.trouble(&error);
    }
}

fn start_empty<'c>(cell: &'c dyn Cell, subject: &Subject) -> Result<Server<'c>, Error> {
    let data = initialise(cell)?;
    // Nothing replicates from it, so the log may leave out what can be made anew.
    let own = [("wal_level", "minimal"), ("max_wal_senders", "0")];
    let server = Server::start(cell, &data, &own, &subject.watch)?;
    let preload = block_on(async {
        let mut client = server.connect("postgres", &subject.watch, &[]).await?;
        client.ask("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'").await
    });
    if preload.is_ok_and(|answer| answer.first().is_some()) {
        server.stop()?;
        let with = [own[0], own[1], ("shared_preload_libraries", "timescaledb")];
        return Server::start(cell, &data, &with, &subject.watch);
    }
    Ok(server)
}

/// Loads one dump, asks what it holds, and drops it again.
fn one(
    session: &mut Session<'_>,
    server: &Server<'_>,
    candidate: &Candidate,
    number: u64,
    gathered: &mut Gathered,
) {
    let subject = session.subject;
    let location = candidate.dump.location.as_str();
    let cluster = candidate.dump.kind == DumpKind::PostgresCluster;
    let database = if cluster { "postgres" } else { SCRATCH };
    if !cluster && let Err(failure) = block_on(prepare(server, subject, candidate)) {
        gathered.incomplete = true;
        return session.examination.interrupt(format!("{location}: cannot make a database: {failure}"));
    }
    let job = Job { server, database, location, watch: &subject.watch };
    let loaded = session.timed(Phase::Load, |session| bring_in(session, &job, candidate, number));
    let whole = record(session, location, &loaded, gathered);
    for (number, expectation) in subject.drill.expectations.postgres.iter().enumerate() {
        // A dump that failed to load is there, and says so itself.
        if !whole && (cluster || candidate.is_meant(subject, expectation, database)) {
            gathered.met.insert(number);
        }
    }
    if whole && let Err(failure) = ask_all(session, server, candidate, &loaded, gathered) {
        gathered.incomplete = true;
        session.examination.interrupt(format!("{location}: cannot ask what was loaded: {failure}"));
    }
    if !cluster && let Err(failure) = block_on(clear(server, subject)) {
        gathered.incomplete = true;
        session.examination.interrupt(format!("{location}: cannot drop the loaded database: {failure}"));
    }
}

/// Makes the empty database that a dump of one database is loaded into.
async fn prepare(server: &Server<'_>, subject: &Subject, candidate: &Candidate) -> Result<(), Failure> {
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
            identifier(SCRATCH),
            literal(encoding)
        )
    };
    match client.ask(sql(&encoding, locale)).await {
        Err(Failure::Refused(_)) => client.ask(sql("UTF8", "")).await.map(drop),
        other => other.map(drop),
    }
}

/// Drops every database but the server's own.
async fn clear(server: &Server<'_>, subject: &Subject) -> Result<(), Failure> {
    let mut client = server.connect("postgres", &subject.watch, &[]).await?;
    const SQL: &str =
        "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')";
    let rows = client.ask(SQL).await?.rows;
    for name in rows.into_iter().filter_map(|row| row.into_iter().next().flatten()) {
        client.ask(format!("ALTER DATABASE {} IS_TEMPLATE false", identifier(&name))).await?;
        // Subscriptions keep a database from being dropped.
        let force = if server.major() >= 13 { " WITH (FORCE)" } else { "" };
        if let Err(failure) = client.ask(format!("DROP DATABASE {}{force}", identifier(&name))).await {
            client
                .ask(format!("ALTER DATABASE {} RENAME TO {}", identifier(&name), identifier(&away(&name))))
                .await?;
            tracing::debug!("kept a loaded database: {failure}");
        }
    }
    Ok(())
}

fn away(name: &str) -> String {
    let hash = name.bytes().fold(5381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(byte));
    format!("firedrill_away_{hash:x}")
}

fn bring_in(session: &mut Session<'_>, job: &Job<'_>, candidate: &Candidate, number: u64) -> Loaded {
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
        Err(error) if matches!(loaded.outcome, Outcome::Whole) => {
            loaded.outcome = Outcome::Interrupted(format!("{}: {}", job.location, error.chain()));
        }
        Ok(ended) if !ended.succeeded() => archive_failed(&mut loaded, job, &ended.stderr, &ended.describe()),
        _ => {}
    }
    loaded
}

/// pg_restore says what is wrong with an archive better than the SQL that ends early.
fn archive_failed(loaded: &mut Loaded, job: &Job<'_>, stderr: &str, described: &str) {
    let ended_early = match &loaded.outcome {
        Outcome::Whole => true,
        Outcome::Broken(finding) => matches!(finding.code.as_str(), "postgres.truncated" | "postgres.empty"),
        Outcome::Interrupted(_) => false,
    };
    if !ended_early {
        return;
    }
    let said = stderr.lines().find(|line| line.contains("error:")).unwrap_or(described);
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
fn record(session: &mut Session<'_>, location: &str, loaded: &Loaded, gathered: &mut Gathered) -> bool {
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

fn ask_all(
    session: &mut Session<'_>,
    server: &Server<'_>,
    candidate: &Candidate,
    loaded: &Loaded,
    gathered: &mut Gathered,
) -> Result<(), Failure> {
    let subject = session.subject;
    let cluster = candidate.dump.kind == DumpKind::PostgresCluster;
    let start = Instant::now();
    let filled = loaded.databases.iter().filter(|(_, filled)| !filled.rows.is_empty()).map(|(name, _)| name);
    let first = filled.clone().next().or(loaded.databases.keys().next());
    if let Some(database) = first {
        if loaded.databases.keys().any(|name| name == database) {
            post_restore(server, subject, database, loaded)?;
        }
        block_on(first_answer(server, subject, database))?;
    }
    session.spent(Phase::Answer, start.elapsed());
    let names: Vec<_> = loaded.databases.keys().collect();
    let start = Instant::now();
    if names.len() > DATABASES_MAX {
        let more = names.len() - DATABASES_MAX;
        session
            .examination
            .interrupt(format!("{}: {more} databases were not asked", candidate.dump.location));
    }
    for (database, filled) in loaded.databases.iter().take(DATABASES_MAX) {
        // Behind a \connect the database that the load began in is nobody's.
        let passed_through =
            !cluster && database == SCRATCH && loaded.databases.len() > 1 && filled.rows.is_empty();
        if passed_through {
            continue;
        }
        let location = match (cluster, database.as_str()) {
            (false, SCRATCH) => candidate.dump.location.clone(),
            (_, database) => format!("{}: {}", candidate.dump.location, shown(database, 80)),
        };
        let asked = Asked { server, database, location: &location, filled: Some(filled) };
        let meant = |expectation: &DatabaseExpectation| {
            let unnamed = cluster && expectation.database.is_none();
            candidate.is_meant(subject, expectation, database)
                && (!unnamed || folder::is_only(database, &names))
        };
        let counted = ask(session, &asked, &meant, gathered)?;
        let named = cluster || database != SCRATCH;
        compare_recorded(session, &asked, (&candidate.dump.path, named), gathered)?;
        amcheck::check_dump(session, &asked, &counted);
        session.examination.checked += 1;
    }
    session.spent(Phase::Verify, start.elapsed());
    Ok(())
}

/// Compares a database with what was recorded of it at the time of the backup. It comes from a dump or folder, which
/// has named it or not.
pub(super) fn compare_recorded(
    session: &mut Session<'_>,
    asked: &Asked<'_>,
    (dump, named): (&[u8], bool),
    gathered: &mut Gathered,
) -> Result<(), Failure> {
    let Some(recorded) = &mut gathered.recorded else { return Ok(()) };
    let loaded = compare::Loaded { dump, location: asked.location, database: asked.database, named };
    let mut client = block_on(asked.server.ask(asked.database, &session.subject.watch))?;
    let mut ask = |sql: &str| {
        let answer = block_on(client.ask(sql)).map_err(|failure| failure.to_string())?;
        Ok(answer.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    };
    recorded.postgres(&loaded, &mut ask, &mut session.examination);
    Ok(())
}

fn post_restore(
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

/// Connects anew and reads something from the first table that has anything in it.
async fn first_answer(server: &Server<'_>, subject: &Subject, database: &str) -> Result<(), Failure> {
    let mut client = server.ask(database, &subject.watch).await?;
    for table in verify::tables(&mut client).await?.iter().take(20) {
        let answer = client.ask(format!("SELECT 1 FROM {} LIMIT 1", table.sql())).await;
        if answer.is_ok_and(|answer| answer.first().is_some()) {
            break;
        }
    }
    Ok(())
}

/// A database to ask.
pub(super) struct Asked<'a> {
    pub(super) server: &'a Server<'a>,
    pub(super) database: &'a str,
    pub(super) location: &'a str,
    /// What the dump brought, if it was one.
    pub(super) filled: Option<&'a Filled>,
}

/// Asks a database everything.
pub(super) fn ask(
    session: &mut Session<'_>,
    asked: &Asked<'_>,
    meant: &dyn Fn(&DatabaseExpectation) -> bool,
    gathered: &mut Gathered,
) -> Result<Counted, Failure> {
    let (subject, location) = (session.subject, asked.location);
    let examination = &mut session.examination;
    block_on(async {
        let mut client = asked.server.ask(asked.database, &subject.watch).await?;
        client.ask("SET search_path = pg_catalog").await?;
        let tables = verify::tables(&mut client).await?;
        let counted = verify::count(&mut client, tables.clone(), location, examination).await?;
        if let Some(filled) = asked.filled {
            verify::compare(&counted, filled, location, examination);
        }
        verify::sequences(&mut client, location, examination).await?;
        verify::notes(&mut client, location, examination).await?;
        let place = Place { subject, location };
        for (number, expectation) in subject.drill.expectations.postgres.iter().enumerate() {
            if meant(expectation) {
                gathered.met.insert(number);
                expect::answer(&place, expectation, &mut client, examination).await?;
            }
        }
        expect::canaries(&place, &tables, &mut client, examination).await?;
        let rows: u64 = counted.iter().filter(|(table, _)| !table.partitioned).map(|(_, rows)| rows).sum();
        examination.notes.push(format!("{location}: {} tables, {rows} rows", counted.len()));
        Ok(counted)
    })
}
