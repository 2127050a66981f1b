//! Indexes and heaps, looked through by pg_amcheck.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use firedrill_core::cell::{Ended, Pipes, Program};
use firedrill_core::finding::Finding;

use super::examine::Asked;
use super::server::block_on;
use super::verify::Counted;
use super::wire::{Failure, shown};
use crate::probe::engine::session::Session;

/// Indexes of dumps are checked in databases of at most this size, and for at most this long: the engine has just
/// made them itself.
const DUMP_BYTES: u64 = 256 << 20;
const DUMP_MAX: Duration = Duration::from_secs(30);

/// How often its connections are ended once its time is over.
const END_TICK: Duration = Duration::from_secs(1);
/// The name that its connections have.
const NAME: &str = "firedrill_amcheck";
/// Indexes that are named.
const NAMED_MAX: usize = 5;

/// What pg_amcheck found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// What is wrong.
    pub(super) wrong: Option<String>,
    /// Indexes whose text is in another order than here, and that may be in order where they come from.
    pub(super) elsewhere: Vec<String>,
}

/// Checks the indexes that the engine has made from a dump, as far as that is quick.
pub(super) fn check_dump(session: &mut Session<'_>, asked: &Asked<'_>, counted: &Counted) {
    const LEFT_OUT: &str = "the structure of indexes, which the engine made itself a moment ago";
    let size = block_on(async {
        let mut client = asked.server.ask(asked.database, &session.subject.watch).await?;
        client.ask("SELECT pg_database_size(current_database())").await
    });
    let small = size.ok().and_then(|a| a.first()?.parse::<u64>().ok()).is_some_and(|size| size <= DUMP_BYTES);
    let left_out = !small
        || counted.len() > 2000
        || check(session, asked, Some(DUMP_MAX)).map_or(true, |checked| {
            record(session, asked, checked);
            false
        });
    if left_out && !session.examination.not_verified.iter().any(|known| known == LEFT_OUT) {
        session.examination.not_verified.push(LEFT_OUT.to_owned());
    }
}

/// Checks the indexes of a data folder.
pub(super) fn check_folder(session: &mut Session<'_>, asked: &Asked<'_>) {
    match check(session, asked, None) {
        Ok(checked) => record(session, asked, checked),
        Err(why) => {
            session.examination.interrupt(format!("{}: cannot check its indexes: {why}", asked.location));
        }
    }
}

fn record(session: &mut Session<'_>, asked: &Asked<'_>, checked: Checked) {
    if let Some(seen) = checked.wrong {
        let expected = "indexes that fit their tables";
        session.find(Finding::damage("postgres.index", asked.location, expected, seen));
    }
    if let Some(more) = checked.elsewhere.len().checked_sub(1) {
        let named: Vec<_> = checked.elsewhere.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = if more >= NAMED_MAX { ", ..." } else { "" };
        session.examination.not_verified.push(format!(
            "{}: {} indexes whose text is in another order than this engine's, as they were made with another \
             version of its collation, or with one that is not recorded: {}{more}",
            asked.location,
            checked.elsewhere.len(),
            named.join(", ")
        ));
    }
}

/// Runs pg_amcheck over a database. `Err`: it could not look.
pub(super) fn check(
    session: &Session<'_>,
    asked: &Asked<'_>,
    limit: Option<Duration>,
) -> Result<Checked, String> {
    let host = firedrill_core::cell::inside("");
    let host = host.trim_end_matches('/');
    let fixed = [
        "--install-missing=pg_catalog",
        "--heapallindexed",
        "--parent-check",
        "-h",
        host,
        "-p",
        "5432",
        "-U",
    ];
    let arguments = fixed.into_iter().chain([super::server::SUPERUSER, "-d", asked.database]);
    let mut options = "-c session_replication_role=replica -c client_min_messages=error".to_owned();
    if asked.server.major() >= 17 {
        options.push_str(" -c event_triggers=off");
    }
    let program = super::server::program("pg_amcheck", arguments);
    let program = program.env("PGOPTIONS", options).env("PGAPPNAME", NAME);
    let ended = run(session, asked, &program, limit)?;
    match ended.code {
        Some(0) => Ok(Checked::default()),
        Some(2) => {
            let suspects = suspects(session, asked).map_err(|failure| failure.to_string())?;
            Ok(sort_out(&String::from_utf8_lossy(&ended.stdout), &suspects))
        }
        _ => Err(ended.describe()),
    }
}

/// Runs it for `limit`. A limit of the program itself would end the whole cell, and the server with it; when this one
/// is over, its connections are ended.
fn run(
    session: &Session<'_>,
    asked: &Asked<'_>,
    program: &Program,
    limit: Option<Duration>,
) -> Result<Ended, String> {
    let (done, over) = mpsc::channel::<()>();
    let cell = asked.server.cell();
    std::thread::scope(|scope| {
        let running = scope.spawn(move || {
            let ended = cell.run(program, Pipes::default());
            drop(done);
            ended
        });
        let (mut patience, mut late) = (limit, false);
        while let Some(time) = patience {
            let Err(RecvTimeoutError::Timeout) = over.recv_timeout(time) else { break };
            if let Err(failure) = block_on(end(session, asked)) {
                tracing::debug!("cannot end the connections of pg_amcheck: {failure}");
            }
            (patience, late) = (Some(END_TICK), true);
        }
        let ended = running.join().map_err(|_| "the thread of pg_amcheck panicked".to_owned())?;
        if late {
            return Err(format!("it took longer than {} s", limit.unwrap_or_default().as_secs()));
        }
        ended.map_err(|error| error.chain())
    })
}

/// Ends its connections.
async fn end(session: &Session<'_>, asked: &Asked<'_>) -> Result<(), Failure> {
    let mut client = asked.server.ask("postgres", &session.subject.watch).await?;
    let sql =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{NAME}'");
    client.ask(sql).await.map(drop)
}

/// The B-tree indexes whose order depends on a collation of which the version here is not the one that they were made
/// with, or of which nobody knows: by the line that announces them, with their names.
async fn ask_suspects(session: &Session<'_>, asked: &Asked<'_>) -> Result<BTreeMap<String, String>, Failure> {
    let mut client = asked.server.ask(asked.database, &session.subject.watch).await?;
    client.ask("SET search_path = pg_catalog").await?;
    let answer = client.ask(suspects_sql(asked.server.major())).await?;
    let rows = answer.rows.into_iter().filter_map(|row| match <[_; 2]>::try_from(row) {
        Ok([Some(schema), Some(name)]) => Some((schema, name)),
        _ => None,
    });
    let line = |(schema, name): (String, String)| {
        let announced = format!("btree index \"{}.{schema}.{name}\":", asked.database);
        (announced, shown(&format!("{schema}.{name}"), 80))
    };
    Ok(rows.map(line).collect())
}

fn suspects(session: &Session<'_>, asked: &Asked<'_>) -> Result<BTreeMap<String, String>, Failure> {
    block_on(ask_suspects(session, asked))
}

fn suspects_sql(major: u32) -> String {
    // The order of C never changes, and for a locale that is not of C no version is one that nobody knows.
    let moved = |provider: &str, locale: &str, recorded: &str, actual: &str| {
        format!(
            "CASE WHEN {provider} = 'c' AND ({locale} IN ('C', 'POSIX') OR {locale} ILIKE 'C.%') THEN false \
             WHEN {provider} NOT IN ('c', 'i') THEN {recorded} IS DISTINCT FROM {actual} \
             ELSE {recorded} IS DISTINCT FROM {actual} OR {recorded} IS NULL END"
        )
    };
    // Before version 15 none was recorded of a database, and all were of the C library.
    let database = match major {
        15.. => moved(
            "d.datlocprovider",
            "d.datcollate",
            "d.datcollversion",
            "pg_database_collation_actual_version(d.oid)",
        ),
        _ => moved("'c'", "d.datcollate", "NULL::text", "NULL::text"),
    };
    let collation =
        moved("c.collprovider", "c.collcollate", "c.collversion", "pg_collation_actual_version(c.oid)");
    // What has no collation of its own may have text inside: composite types, ranges, and the strings of JSON, which
    // are compared by that of the database.
    format!(
        "WITH moved AS (SELECT c.oid FROM pg_collation c WHERE c.collprovider <> 'd' AND {collation} \
         UNION ALL SELECT 100::oid FROM pg_database d WHERE d.datname = current_database() AND {database}) \
         SELECT n.nspname, r.relname FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid \
         JOIN pg_namespace n ON n.oid = r.relnamespace JOIN pg_am m ON m.oid = r.relam AND m.amname = 'btree' \
         WHERE EXISTS (SELECT 1 FROM moved WHERE moved.oid = ANY (i.indcollation::oid[])) \
         OR EXISTS (SELECT 1 FROM moved) AND EXISTS (SELECT 1 FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = i.indexrelid AND (t.typtype IN ('c', 'r', 'm') OR t.oid IN (2249, 3802)))"
    )
}

/// Tells what is wrong from what is only in another order.
fn sort_out(said: &str, suspects: &BTreeMap<String, String>) -> Checked {
    let mut reports: Vec<Vec<&str>> = Vec::new();
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        // What is told of a relation is indented below the line that announces it.
        match reports.last_mut() {
            Some(report) if line.starts_with(' ') => report.push(line),
            _ => reports.push(vec![line]),
        }
    }
    let mut checked = Checked::default();
    let mut wrong = Vec::new();
    for report in reports {
        let suspect = report.first().and_then(|line| suspects.get(*line));
        let order = report.get(1).is_some_and(|line| {
            line.contains("order invariant violated for index")
                || line.contains("high key invariant violated for index")
                || line.contains("lower bound invariant violated for index")
        });
        match suspect {
            Some(name) if order => checked.elsewhere.push(name.clone()),
            _ => wrong.extend(report),
        }
    }
    if !wrong.is_empty() || checked.elsewhere.is_empty() {
        let lines: Vec<_> = wrong.into_iter().take(4).map(str::trim_end).collect();
        checked.wrong = Some(shown(&lines.join(": "), 400));
    }
    checked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_order_of_suspects_is_left_open() {
        let suspects = [("btree index \"shop.public.i\":".to_owned(), "public.i".to_owned())].into();
        let report = |index: &str, message: &str| {
            format!("btree index \"shop.public.{index}\":\n    ERROR:  {message}\n    DETAIL:  more\n")
        };
        let order = "item order invariant violated for index \"i\"";
        let of = |text: String| sort_out(&text, &suspects);
        let open = of(report("i", order));
        assert_eq!((open.wrong.as_deref(), open.elsewhere.as_slice()), (None, &["public.i".to_owned()][..]));
        let both = of(report("i", order) + &report("j", order));
        assert!(both.wrong.is_some_and(|wrong| wrong.contains("public.j") && !wrong.contains("public.i")));
        assert_eq!(both.elsewhere.len(), 1);
        let heap = "heap table \"shop.public.t\", block 1, offset 2:\n    xmin 3 is in the future\n";
        assert!(of(report("i", order) + heap).wrong.is_some_and(|wrong| wrong.contains("heap table")));
        for message in [
            "index \"i\" lacks a main relation fork",
            "heap tuple (0,1) from table \"t\" lacks matching index tuple",
        ] {
            let checked = of(report("i", message));
            assert!(checked.wrong.is_some() && checked.elsewhere.is_empty(), "{message}");
        }
        assert!(of(String::new()).wrong.is_some(), "it says that something is wrong, and not what");
    }
}
