//! What a person expects of the databases, the accounts, and the rows by which a database tells its age.

use std::collections::BTreeSet;

use firedrill_core::canary::{Canary, LENGTH_MAX};
use firedrill_core::config::settings::DatabaseExpectation;
use firedrill_core::finding::{Finding, RecoveryBasis, RecoveryPoint};
use firedrill_core::subject::Subject;
use jiff::Timestamp;

use super::check::{Table, is_system};
use super::log;
use super::server::{Refusal, Row, Server, Trouble, quoted};
use crate::probe::digests::compare::{Comparison, Engine, Loaded};
use crate::probe::engine::session::Session;

/// A table of this name holds canaries.
const CANARIES: &str = "firedrill_canary";
/// At most this many of them are read.
const CANARIES_MAX: usize = 1000;
/// Clocks of the planter and of the backup may differ by this much.
const CLOCKS_MAX: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);
/// The error of a statement that took longer than `max_statement_time`.
const INTERRUPTED_LATE: u32 = 1969;
/// A question of a person may take this long.
const SECONDS_MAX: u32 = 3600;

/// How far the expectations were met.
#[derive(Debug)]
pub(super) struct Wishes {
    /// Per expectation: whether something was found that it means.
    met: Vec<bool>,
    /// Per expectation: whether something that it may mean could not be looked at.
    unknown: Vec<bool>,
    /// Per expectation and role: whether the account was found.
    roles: Vec<BTreeSet<String>>,
    /// What the pipeline recorded at the time of the backup.
    recorded: Comparison,
}

/// What a running server holds.
pub(super) struct Held<'a> {
    pub(super) server: &'a Server<'a>,
    pub(super) path: &'a [u8],
    pub(super) location: &'a str,
    pub(super) tables: &'a [Table],
    pub(super) databases: &'a BTreeSet<String>,
    pub(super) accounts: &'a BTreeSet<String>,
}

impl Wishes {
    pub(super) fn of(subject: &Subject) -> Self {
        let wanted = &subject.drill.expectations.mariadb;
        Self {
            met: vec![false; wanted.len()],
            unknown: vec![false; wanted.len()],
            roles: wanted.iter().map(|_| BTreeSet::new()).collect(),
            recorded: Comparison::of(subject, Engine::Mariadb),
        }
    }

    /// Something at `path` could not be looked at.
    pub(super) fn unknown(&mut self, subject: &Subject, path: &[u8]) {
        for (wish, unknown) in subject.drill.expectations.mariadb.iter().zip(&mut self.unknown) {
            *unknown |= means(subject, wish, path);
        }
    }

    /// Something could not be looked at that may be what anybody means.
    pub(super) fn nothing_known(&mut self) {
        self.unknown.fill(true);
    }

    /// Asks a server everything that is expected of it.
    pub(super) fn ask(&mut self, session: &mut Session<'_>, held: &Held<'_>) -> Result<(), Trouble> {
        let subject = session.subject;
        for (number, wish) in subject.drill.expectations.mariadb.iter().enumerate() {
            if !means(subject, wish, held.path) {
                continue;
            }
            if let Some(found) = self.roles.get_mut(number) {
                found.extend(wish.roles.iter().filter(|role| has_account(held.accounts, role)).cloned());
            }
            let alone = wish.tables.is_empty() && wish.rows_min.is_empty() && wish.queries.is_empty();
            let Some(database) = database(wish, held) else {
                let is_met = wish.database.is_none() && alone && wish.newest.is_none();
                if let Some(met) = self.met.get_mut(number) {
                    *met |= is_met;
                }
                if wish.database.is_none() && !is_met {
                    session.examination.interrupt(format!(
                        "{}: it holds {} databases, and the expectation names none (`database: ...`)",
                        held.location,
                        held.databases.len()
                    ));
                }
                continue;
            };
            if let Some(met) = self.met.get_mut(number) {
                *met = true;
            }
            tables(session, wish, &database, held)?;
            queries(session, wish, &database, held)?;
            newest(session, wish, &database, held)?;
        }
        Ok(())
    }

    /// Takes note that a server has said which databases are in the backup at `path`.
    pub(super) fn was_loaded(&mut self, path: &[u8]) {
        self.recorded.was_loaded(path);
    }

    /// Compares a database with what was recorded of it. The one that a dump does not name has a name of ours.
    pub(super) fn compare(&mut self, session: &mut Session<'_>, server: &Server<'_>, loaded: &Loaded<'_>) {
        let mut ask = |sql: &str| {
            let rows = server.ask(sql).map_err(|trouble| trouble.describe())?;
            Ok(rows.into_iter().filter_map(|row| row.into_iter().next()).collect())
        };
        self.recorded.mariadb(loaded, &mut ask, &mut session.examination);
    }

    /// Files what was never found.
    pub(super) fn close(self, session: &mut Session<'_>) {
        let subject = session.subject;
        let complete = subject.manifest.is_complete();
        for (number, wish) in subject.drill.expectations.mariadb.iter().enumerate() {
            if self.unknown.get(number).copied().unwrap_or(false) {
                continue;
            }
            if !complete && self.lacks_something(number, wish) {
                session.examination.interrupt("not all of the snapshot can be read");
                continue;
            }
            let place = wish.file.clone().or(wish.database.clone()).unwrap_or_else(|| "mariadb".to_owned());
            if !self.met.get(number).copied().unwrap_or(false) {
                let what = match &wish.database {
                    Some(database) => format!("the database `{database}`"),
                    None => "a database of MariaDB".to_owned(),
                };
                session.find(Finding::damage("mariadb.missing", place, what, "nothing that holds it"));
                continue;
            }
            for role in
                wish.roles.iter().filter(|role| !self.roles.get(number).is_some_and(|r| r.contains(*role)))
            {
                session.find(Finding::damage(
                    "mariadb.account_missing",
                    place.clone(),
                    format!("the account `{role}`"),
                    "no such account in the backup",
                ));
            }
        }
        self.recorded.close(&mut session.examination);
    }

    fn lacks_something(&self, number: usize, wish: &DatabaseExpectation) -> bool {
        let found = self.roles.get(number);
        !self.met.get(number).copied().unwrap_or(false)
            || wish.roles.iter().any(|role| !found.is_some_and(|found| found.contains(role)))
    }
}

fn means(subject: &Subject, wish: &DatabaseExpectation, path: &[u8]) -> bool {
    wish.file.as_ref().is_none_or(|file| subject.meant_by(file).iter().any(|meant| meant == path))
}

fn database(wish: &DatabaseExpectation, held: &Held<'_>) -> Option<String> {
    match &wish.database {
        Some(database) => held.databases.get(database).cloned(),
        None if held.databases.len() == 1 => held.databases.first().cloned(),
        None => None,
    }
}

/// `app` is any account of that name or a role, `app@host` that one.
fn has_account(accounts: &BTreeSet<String>, role: &str) -> bool {
    accounts
        .iter()
        .any(|account| account == role || account.rsplit_once('@').is_some_and(|(user, _)| user == role))
}

/// The table that `name` means: in `database`, unless it names another one.
fn find<'t>(tables: &'t [Table], database: &str, name: &str) -> Option<&'t Table> {
    let here = tables.iter().find(|t| t.database == database && t.name == name);
    here.or_else(|| tables.iter().find(|t| format!("{}.{}", t.database, t.name) == name))
}

fn tables(
    session: &mut Session<'_>,
    wish: &DatabaseExpectation,
    database: &str,
    held: &Held<'_>,
) -> Result<(), Trouble> {
    let demanded = wish.tables.iter().map(|table| (table, None));
    let counted = wish.rows_min.iter().map(|(table, rows)| (table, Some(*rows)));
    for (name, rows_min) in demanded.chain(counted) {
        let place = format!("{}: {database}.{name}", held.location);
        let Some(table) = find(held.tables, database, name) else {
            // A table that is named in both lists is missing once.
            if rows_min.is_none() || !wish.tables.contains(name) {
                session.find(Finding::damage("mariadb.table_missing", place, "the table", "no such table"));
            }
            continue;
        };
        let Some(min) = rows_min else { continue };
        match held.server.ask(&format!("SELECT COUNT(*) FROM {};", table.sql())) {
            Ok(rows) => {
                let count = first(&rows).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                if count < min {
                    let (expected, seen) = (format!("at least {min} rows"), format!("{count} rows"));
                    session.find(Finding::damage("mariadb.rows", place, expected, seen));
                }
            }
            Err(Trouble::Refused(why)) if !is_ours(&why) => {
                let expected = format!("at least {min} rows");
                session.find(Finding::damage("mariadb.rows", place, expected, why.describe()));
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(())
}

fn queries(
    session: &mut Session<'_>,
    wish: &DatabaseExpectation,
    database: &str,
    held: &Held<'_>,
) -> Result<(), Trouble> {
    for query in &wish.queries {
        let seen = match select(held.server, database, &query.sql) {
            Ok(rows) => match first(&rows) {
                Some(answer) if answer == query.equals => continue,
                Some(answer) => format!("`{}`", answer.chars().take(200).collect::<String>()),
                None => "no row".to_owned(),
            },
            Err(Trouble::Refused(why)) => why.describe(),
            Err(trouble) => return Err(trouble),
        };
        let expected = format!("`{}` to answer `{}`", query.sql, query.equals);
        session.find(Finding::damage(
            "mariadb.query",
            format!("{}: {database}", held.location),
            expected,
            seen,
        ));
    }
    Ok(())
}

fn newest(
    session: &mut Session<'_>,
    wish: &DatabaseExpectation,
    database: &str,
    held: &Held<'_>,
) -> Result<(), Trouble> {
    let Some(newest) = &wish.newest else { return Ok(()) };
    let place = format!("{}: {database}", held.location);
    let asked = format!("a time from `{}`", newest.sql);
    let seen = match select(held.server, database, &newest.sql) {
        Ok(rows) => first(&rows).map(str::to_owned),
        Err(Trouble::Refused(why)) => Some(why.describe()),
        Err(trouble) => return Err(trouble),
    };
    let Some(time) = seen.as_deref().and_then(time) else {
        let seen = seen.unwrap_or_else(|| "no row".to_owned());
        session.find(Finding::damage("mariadb.newest", place, asked, seen));
        return Ok(());
    };
    let age = session.subject.at.duration_since(time);
    if let Some(max) = newest.max_age
        && age > jiff::SignedDuration::try_from(max.0).unwrap_or(jiff::SignedDuration::MAX)
    {
        session.find(Finding::objective(
            "mariadb.newest",
            place,
            format!("data that is at most {max} old"),
            format!("the newest of {time}"),
        ));
    }
    point(session, RecoveryPoint { time, basis: RecoveryBasis::Data });
    Ok(())
}

/// The better evidence counts, and of two equally good ones the older.
pub(super) fn point(session: &mut Session<'_>, point: RecoveryPoint) {
    let better = session
        .examination
        .recovery_point
        .as_ref()
        .is_none_or(|known| (point.basis, point.time) < (known.basis, known.time));
    if better {
        session.examination.recovery_point = Some(point);
    }
}

/// Times are read as UTC, which the server of a cell speaks: as text of SQL, RFC 3339, or seconds since 1970.
fn time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return (seconds > 100_000_000).then(|| Timestamp::from_second(seconds).ok()).flatten();
    }
    let local = text.parse::<jiff::civil::DateTime>().ok()?;
    Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

fn first(rows: &[Row]) -> Option<&str> {
    rows.first().and_then(|row| row.first()).map(String::as_str)
}

/// Asks a single SELECT of a person.
fn select(server: &Server<'_>, database: &str, sql: &str) -> Result<Vec<Row>, Trouble> {
    select_within(server, database, sql, SECONDS_MAX)
}

fn select_within(server: &Server<'_>, database: &str, sql: &str, seconds: u32) -> Result<Vec<Row>, Trouble> {
    let sql = sql.trim().trim_end_matches(';');
    let answer = server.ask(&format!(
        "SET SESSION TRANSACTION READ ONLY; SET max_statement_time={seconds}; USE {};\n{sql};\n",
        quoted(database)
    ));
    match answer {
        Err(Trouble::Refused(why)) if is_ours(&why) => {
            let sql: String = sql.chars().take(200).collect();
            Err(Trouble::Ours(format!("failed to get an answer to `{sql}`: {}", why.describe())))
        }
        other => other,
    }
}

/// Whether an error says that a time of ours was over, or that the machine had no more to give.
fn is_ours(why: &Refusal) -> bool {
    const MACHINE: [u32; 12] =
        [1021, 1026, 1037, 1038, 1041, 1135, 1203, 1205, 1206, 1317, INTERRUPTED_LATE, 3024];
    MACHINE.contains(&why.code) || log::is_ours(&why.message)
}

/// Canaries in rows: each row of a table `firedrill_canary` holds one in some column. The newest tells how far the
/// data goes.
pub(super) fn canaries(session: &mut Session<'_>, held: &Held<'_>) -> Result<(), Trouble> {
    for table in held.tables.iter().filter(|t| t.name == CANARIES && !is_system(&t.database)) {
        let rows = held.server.ask(&format!("SELECT * FROM {} LIMIT {CANARIES_MAX};", table.sql()))?;
        let place = format!("{}: {}", held.location, table.shown());
        let texts = rows.iter().flatten().filter(|text| text.len() <= LENGTH_MAX && text.starts_with('{'));
        let canaries: Vec<Canary> = texts.filter_map(|text| Canary::parse(text.as_bytes()).ok()).collect();
        let Some(newest) = canaries.iter().max_by_key(|canary| canary.sequence()) else {
            session.find(Finding::damage(
                "mariadb.canary_malformed",
                place,
                "a canary in a row",
                format!("{} rows without any", rows.len()),
            ));
            continue;
        };
        let Some(key) = &session.subject.canary_key else {
            let note = format!("{place}: a canary of {}, not authenticated: no key is known", newest.time());
            session.examination.notes.push(note);
            continue;
        };
        let latest = session.subject.snapshot.time.saturating_add(CLOCKS_MAX).unwrap_or(Timestamp::MAX);
        if let Some(forged) = canaries.iter().find(|canary| !canary.verify(key)) {
            session.find(Finding::damage(
                "mariadb.canary_forged",
                place,
                "canaries that are signed with the canary key",
                format!("another signature, on a canary for `{}` of {}", forged.target(), forged.time()),
            ));
        } else if newest.time() > latest {
            session.find(Finding::anomaly(
                "mariadb.canary_future",
                place,
                format!(
                    "a canary that was planted before the snapshot of {:.0}",
                    session.subject.snapshot.time
                ),
                format!("one of {}", newest.time()),
            ));
        } else {
            let time = newest.time();
            point(session, RecoveryPoint { time, basis: RecoveryBasis::Canary });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_any_usual_form() {
        for text in
            ["2026-01-02 03:04:05", "2026-01-02T03:04:05Z", "1767323045", "2026-01-02 03:04:05.000000"]
        {
            assert_eq!(time(text).unwrap().to_string(), "2026-01-02T03:04:05Z", "{text}");
        }
        for text in ["NULL", "", "12", "yesterday"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn accounts_are_known_by_name_or_in_full() {
        let accounts = BTreeSet::from(["app@%".to_owned(), "reader".to_owned()]);
        assert!(
            has_account(&accounts, "app")
                && has_account(&accounts, "app@%")
                && has_account(&accounts, "reader")
        );
        assert!(!has_account(&accounts, "app@localhost") && !has_account(&accounts, "ap"));
    }
}
