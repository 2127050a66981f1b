//! The `mariadb` probe: SQL dumps and physical backups of MariaDB become a running server, which is asked.
//!
//! *Verified*: SQL dumps load into an empty server to their last statement, and every table that is filled by plain
//! `INSERT`s has as many rows as there are in the dump. Streams and folders of mariadb-backup are prepared, copies of
//! data folders recover, and a server of the same series starts on them without a word about broken data. The server
//! then reads every table to its end (`CHECK TABLE .. EXTENDED`) and counts its rows; what a person expects is there;
//! rows of physical backups have not fallen since the last verified drill; canaries in a table `firedrill_canary` are
//! authentic. Accounts that views, routines, triggers and events belong to and that no dump brings along are named.
//! What a dump tries beyond its server (files, other machines, libraries, programs) is contained, and filed; also from
//! within routines and triggers that the server counted as having run. Those that nobody called are noted.
//!
//! *Not verified*: that applications can work with the data; plugins, which are never loaded, and tables whose engine
//! is one; encrypted tables, as the key is elsewhere; partial backups, and files that are compressed one by one;
//! statements that a dump puts together in strings and executes, or hides from us by settings that change what a
//! quote is (all of them are contained all the same); which branch of a routine ran that would reach out in one of
//! them; that dumps of MySQL load into a MySQL (they are
//! loaded into MariaDB, and a refusal there proves nothing); the time zone of a backup's own notes.
//!
//! | file | what lives there |
//! |---|---|
//! | `facts` | what backups and dumps say about themselves |
//! | `lexer`, `script` | what a stream of SQL does besides filling tables |
//! | `load` | an empty server, and a dump fed to it |
//! | `physical`, `unpack` | streams and folders, prepared and started |
//! | `server`, `log` | a server in a cell, its client, and what they say |
//! | `served`, `xml` | a server for somebody else: an application, an invariant |
//! | `check` | every table, read from end to end |
//! | `expect`, `memory` | what a person expects, and what was there before |

mod check;
mod expect;
mod facts;
mod lexer;
mod load;
mod log;
mod memory;
mod physical;
mod script;
pub(super) mod served;
mod server;
#[cfg(test)]
mod tests;
mod unpack;
mod xml;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use firedrill_core::cell::{Kit, Version};
use firedrill_core::event::Phase;
use firedrill_core::finding::{Class, Examination, Finding};
use firedrill_core::manifest::display_path;
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

use crate::probe::digests::compare;

use super::dumps::{Dump, DumpKind, Dumps};
use super::session::{Session, demanded, offered};
use check::{Kind, Outcome, Table};
use expect::{Held, Wishes};
use physical::{Chain, Source};
use script::Script;
use server::{Server, Trouble};

/// The name of the probe.
const NAME: &str = "mariadb";

/// Loads backups of MariaDB, and asks them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MariadbProbe;

impl Probe for MariadbProbe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recognises(&self, subject: &Subject) -> bool {
        if !subject.drill.expectations.mariadb.is_empty() {
            return true;
        }
        let dumps = Dumps::of(subject, &[DumpKind::MysqlSql, DumpKind::Xbstream]);
        let folders = physical::folders(subject);
        if demanded(subject) {
            return !dumps.chosen.is_empty() || !folders.is_empty();
        }
        let folders = folders.into_iter().map(Source::Folder);
        dumps.chosen.iter().any(|dump| loadable(subject, dump))
            || folders
                .map(|source| physical::probable_software(subject, &source))
                .any(|kit| offered(subject, &kit).is_ok())
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut session = Session::new(subject, NAME, "tables and accounts");
        let mut wishes = Wishes::of(subject);
        let dumps = Dumps::of(subject, &[DumpKind::MysqlSql, DumpKind::Xbstream]);
        for why in &dumps.unreadable {
            // It may be the dump that somebody expects.
            wishes.nothing_known();
            session.examination.interrupt(why.clone());
        }
        for (newest, older) in &dumps.older {
            session.examination.not_verified.push(format!("{older} older generations of {newest}"));
        }
        let mut physical = Vec::new();
        let folders = physical::folders(subject).into_iter().map(Source::Folder);
        for dump in dumps.chosen {
            match dump.kind {
                DumpKind::MysqlSql if !sql(&mut session, &dump, &mut wishes) => {
                    wishes.unknown(subject, &dump.path)
                }
                DumpKind::MysqlSql => {}
                _ => physical.push(Source::Stream(dump)),
            }
        }
        let mut known = Vec::new();
        for source in physical.into_iter().chain(folders) {
            match physical::look(&mut session, &source) {
                Some(facts) => known.push((source, facts)),
                None => wishes.unknown(subject, source.path()),
            }
        }
        for chain in physical::chains(&mut session, known) {
            if !files(&mut session, &chain, &mut wishes) {
                wishes.unknown(subject, chain.base.0.path());
            }
        }
        wishes.close(&mut session);
        session.finish()
    }
}

/// Whether there is software for a dump, as far as its beginning and its end tell what it needs.
fn loadable(subject: &Subject, dump: &Dump) -> bool {
    let software = match dump.kind {
        DumpKind::MysqlSql => {
            let header = load::header(subject, dump).ok();
            header.filter(|header| !header.needs_mysql()).map(|header| load::software(&header))
        }
        _ => Some(physical::probable_software(subject, &Source::Stream(dump.clone()))),
    };
    software.is_some_and(|kit| offered(subject, &kit).is_ok())
}

/// Software of MariaDB of these versions.
fn kit(at_least: Option<Version>, at_most: Option<Version>, programs: &[&str]) -> Kit {
    let programs = programs.iter().map(|program| (*program).to_owned()).collect();
    Kit { name: NAME.to_owned(), at_least, at_most, programs }
}

/// Whether backups have to be loaded, or the drill is inconclusive.
fn is_demanded(subject: &Subject) -> bool {
    demanded(subject) || !subject.drill.expectations.mariadb.is_empty()
}

/// Whether there is software for `kit`; where there is none, that is on record.
fn can_start(session: &mut Session<'_>, location: &str, kit: &Kit) -> bool {
    match offered(session.subject, kit) {
        Ok(()) => true,
        Err(why) if is_demanded(session.subject) => {
            session.examination.interrupt(format!("{location}: {why}"));
            false
        }
        Err(why) => {
            session.examination.not_verified.push(format!("{location}: it was not loaded: {why}"));
            false
        }
    }
}

/// Examines one SQL dump; false when it could not be looked at.
fn sql(session: &mut Session<'_>, dump: &Dump, wishes: &mut Wishes) -> bool {
    let at = &dump.location;
    let header = match load::header(session.subject, dump) {
        Ok(header) => header,
        Err(error) => {
            session.examination.interrupt(format!("{at}: its beginning cannot be read: {error}"));
            return false;
        }
    };
    if header.needs_mysql() && !is_demanded(session.subject) {
        let why = format!(
            "{at}: it was not loaded: it comes from MySQL {}, and firedrill has MariaDB",
            header.server
        );
        session.examination.not_verified.push(why);
        return false;
    }
    let software = load::software(&header);
    if !can_start(session, at, &software) {
        return false;
    }
    let Some(cell) = session.open(&[software]) else { return false };
    let Some(loaded) = load::load(session, cell.as_ref(), dump, &header) else { return false };
    let held = Loaded { path: &dump.path, location: at, script: Some(&loaded.script), streamed: true };
    match examine(session, &loaded.server, &held, wishes) {
        Ok(()) => true,
        Err(trouble) => {
            session.examination.interrupt(format!("{at}: {}", trouble.describe()));
            false
        }
    }
}

/// Examines one physical backup, with those that build on it; false when it could not be looked at.
fn files(session: &mut Session<'_>, chain: &Chain, wishes: &mut Wishes) -> bool {
    let (source, known) = &chain.base;
    let at = source.location();
    // The tool that applies increments is the one that prepares.
    let mut software = known.software.clone();
    chain.increments.iter().for_each(|(_, more)| software.programs.extend(more.software.programs.clone()));
    if !can_start(session, &at, &software) {
        return false;
    }
    let Some(cell) = session.open(&[software]) else { return false };
    let Some(server) = physical::start(session, cell.as_ref(), chain, &server::Listening::default()) else {
        return false;
    };
    physical::recovery_point(session, chain.last());
    let streamed = matches!(source, Source::Stream(_));
    let path = source.path();
    let held = Loaded { path, location: &at, script: None, streamed };
    match examine(session, &server, &held, wishes) {
        Ok(()) => true,
        Err(Trouble::Dead(words)) => {
            let expected = "a server that reads all of its tables";
            session.find(Finding::damage("mariadb.crashed", at, expected, words));
            false
        }
        Err(trouble) => {
            session.examination.interrupt(format!("{at}: {}", trouble.describe()));
            false
        }
    }
}

/// A backup that became a server.
struct Loaded<'a> {
    path: &'a [u8],
    location: &'a str,
    /// What the dump did, if it was one.
    script: Option<&'a Script>,
    /// Whether the structure probes compare its tables.
    streamed: bool,
}

fn examine(
    session: &mut Session<'_>,
    server: &Server<'_>,
    held: &Loaded<'_>,
    wishes: &mut Wishes,
) -> Result<(), Trouble> {
    let at = held.location;
    let start = Instant::now();
    let tables = check::list(server);
    session.spent(Phase::Answer, start.elapsed());
    let start = Instant::now();
    let done = tables.and_then(|tables| verify(session, server, held, wishes, tables));
    session.spent(Phase::Verify, start.elapsed());
    done?;
    if held.script.is_none()
        && let Some(line) = log::broken(&server.log())
        && !session
            .examination
            .findings
            .iter()
            .any(|f| f.class == Class::Damage && f.location.starts_with(at))
    {
        session.find(Finding::damage(
            "mariadb.log",
            at,
            "a server that starts and reads without complaint",
            line,
        ));
    }
    Ok(())
}

fn verify(
    session: &mut Session<'_>,
    server: &Server<'_>,
    held: &Loaded<'_>,
    wishes: &mut Wishes,
    mut tables: Vec<Table>,
) -> Result<(), Trouble> {
    let at = held.location;
    let nameless = tables.iter().any(|table| table.database == load::NOWHERE);
    // Those of the server itself say nothing about a dump that does not bring them along.
    if held.script.is_some() {
        tables.retain(|table| !check::is_system(&table.database) && table.database != load::NOWHERE);
    }
    let mut rows = BTreeMap::new();
    let watch = session.subject.watch.clone();
    check::check(server, &tables, &watch, |table, outcome| {
        judge(session, held, table, &outcome);
        if let Some(count) =
            outcome.rows.filter(|_| table.kind == Kind::Rows && !check::is_system(&table.database))
        {
            rows.insert(table.shown(), count);
        }
    })?;
    let mut databases: BTreeSet<String> = tables.iter().map(|t| t.database.clone()).collect();
    databases.retain(|name| !check::is_system(name));
    let mut accounts = check::accounts(server)?;
    if held.script.is_some() {
        accounts.retain(|account| !load::is_loader(account));
        session.examination.checked += accounts.len() as u64;
        gaps(session, at, check::lost_definers(server, &accounts)?);
    } else {
        memory::compare(session, at, &rows, held.streamed);
        for orphan in check::orphans(server, &tables)? {
            session.find(Finding::anomaly(
                "mariadb.orphan",
                format!("{at}: {orphan}"),
                "a definition of the table beside its data",
                "data that InnoDB knows, and no definition: the server does not see the table",
            ));
        }
    }
    let total: u64 = rows.values().sum();
    session.examination.notes.push(format!(
        "{at}: {} databases, {} tables with {total} rows, {} accounts",
        databases.len(),
        rows.len(),
        accounts.len()
    ));
    let asked = Held {
        server,
        path: held.path,
        location: at,
        tables: &tables,
        databases: &databases,
        accounts: &accounts,
    };
    expect::canaries(session, &asked)?;
    wishes.ask(session, &asked)?;
    wishes.was_loaded(held.path);
    let unnamed = nameless.then_some(load::NOWHERE);
    for database in databases.iter().map(String::as_str).chain(unnamed) {
        let named = database != load::NOWHERE;
        let location =
            if named { format!("{at}: {}", display_path(database.as_bytes())) } else { at.to_owned() };
        let loaded = compare::Loaded { dump: held.path, location: &location, database, named };
        wishes.compare(session, server, &loaded);
    }
    Ok(())
}

/// Files what is wrong with one table.
fn judge(session: &mut Session<'_>, held: &Loaded<'_>, table: &Table, outcome: &Outcome) {
    let place = format!("{}: {}", held.location, table.shown());
    if outcome.well {
        session.examination.checked += 1;
        let promised = held.script.and_then(|script| script.rows_of(&table.database, &table.name));
        if let (Some(promised), Some(rows)) = (promised, outcome.rows)
            && promised != rows
            && table.kind == Kind::Rows
        {
            let (expected, seen) = (format!("the {promised} rows of the dump"), format!("{rows} rows"));
            session.find(Finding::damage("mariadb.rows", place, expected, seen));
        }
        return;
    }
    let seen = outcome.seen();
    if outcome.is_ours() || outcome.lacks_key() {
        session.examination.interrupt(format!("{place}: {seen}"));
    } else if outcome.lacks_engine() {
        session.examination.not_verified.push(format!("{place}: this server lacks its engine: {seen}"));
    } else if outcome.lacks_definer() {
        // Which accounts are lost is told once for all.
        session.examination.checked += 1;
    } else if outcome.wants_upgrade() || table.kind == Kind::View {
        // A view may have been broken for years in the original: nothing is lost by it.
        session.examination.notes.push(format!("{place}: {seen}"));
    } else {
        session.find(Finding::damage("mariadb.table", place, "a table that the server can read", seen));
    }
}

/// Accounts that a recovery needs and that the dump does not hold.
fn gaps(session: &mut Session<'_>, at: &str, lost: Vec<check::Definer>) {
    // What names nobody belongs to whoever loads it.
    for definer in lost.into_iter().filter(|definer| !load::is_loader(&definer.account)) {
        session.find(Finding::gap(
            "mariadb.account",
            at,
            format!(
                "the account `{}`, to which {} belong (back up accounts too: `mariadb-dump --system=users`)",
                definer.account,
                definer.of.join(" and ")
            ),
            "no such account in the dump",
        ));
    }
}
