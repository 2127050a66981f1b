//! One examination: engines, dumps and folders in turn.

use std::collections::BTreeMap;
use std::time::Instant;

use firedrill_core::cell::Kit;
use firedrill_core::config::settings::DatabaseExpectation;
use firedrill_core::event::Phase;
use firedrill_core::finding::Examination;
use firedrill_core::subject::Subject;

use super::expect::{self, Place};
use super::fill::{Gathered, bring_in, post_restore, prepare, record, start_empty};
use super::load::{Filled, Job, Loaded};
use super::roster::{Candidate, Roster};
use super::server::{Listening, Server, block_on, kit};
use super::verify::{self, Counted};
use super::wire::{Failure, identifier, shown};
use super::{NAME, amcheck, conclude, folder};
use crate::probe::digests::compare::{self, Comparison, Engine};
use crate::probe::engine::dumps::DumpKind;
use crate::probe::engine::session::{Session, demanded, offered};

/// The database that a plain dump of one database is loaded into.
pub(super) const SCRATCH: &str = "firedrill_dump";
/// More databases than this of one cluster are not asked.
const DATABASES_MAX: usize = 1000;

/// Examines everything in a subject.
pub(super) fn examine(subject: &Subject) -> Examination {
    let mut session = Session::new(subject, NAME, "databases");
    let roster = Roster::of(subject);
    let recorded = Some(Comparison::of(subject, Engine::Postgres));
    let mut gathered = Gathered { recorded, ..Gathered::default() };
    for reason in &roster.unreadable {
        // It may be the dump that somebody expects.
        gathered.give_up();
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
        gathered.give_up();
        session
            .examination
            .interrupt(format!("{} more data folders were not looked at", roster.folders_omitted));
    }
    dumps(&mut session, &roster, &mut gathered);
    for found in &roster.folders {
        if leave_out(&mut session, &found.kit(), &found.location) {
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
    let started = start_empty(cell.as_ref(), &Listening::default(), session.subject);
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
    if !cluster && let Err(failure) = block_on(prepare(server, subject, candidate, SCRATCH)) {
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
