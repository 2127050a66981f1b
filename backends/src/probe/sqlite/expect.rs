//! What a person expects of a database.

use std::collections::HashSet;

use firedrill_core::config::settings::SqliteExpectation;
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::subject::Subject;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::check::{count, table_finding};
use super::engine::{Engine, Trouble};
use super::survey::Database;

/// The entry paths that expectations may mean.
pub(super) fn paths(subject: &Subject) -> HashSet<Vec<u8>> {
    subject.drill.expectations.sqlite.iter().flat_map(|e| subject.meant_by(&e.path)).collect()
}

/// Reports expected files that the snapshot does not hold.
pub(super) fn find_missing(subject: &Subject, examination: &mut Examination) {
    let wanted = paths(subject);
    let present: HashSet<_> =
        subject.manifest.files().map(|e| &e.path).filter(|path| wanted.contains(*path)).collect();
    for expectation in &subject.drill.expectations.sqlite {
        if !subject.meant_by(&expectation.path).iter().any(|path| present.contains(path)) {
            let seen = "no such file in the snapshot";
            examination.find(Finding::damage("sqlite.missing", &expectation.path, "a database", seen));
        }
    }
}

/// Asks a database everything that is expected of it. `Err` says why it could not be asked.
pub(super) fn answer(
    subject: &Subject,
    database: &Database<'_>,
    engine: &Engine,
    examination: &mut Examination,
) -> Result<(), String> {
    for expectation in &subject.drill.expectations.sqlite {
        if subject.meant_by(&expectation.path).contains(&database.entry.path) {
            tables(expectation, &database.shown, engine, examination)?;
            queries(expectation, &database.shown, engine, examination)?;
        }
    }
    Ok(())
}

fn tables(
    expectation: &SqliteExpectation,
    shown: &str,
    engine: &Engine,
    examination: &mut Examination,
) -> Result<(), String> {
    let demanded = expectation.tables.iter().map(|table| (table, None));
    let counted = expectation.rows_min.iter().map(|(table, rows)| (table, Some(*rows)));
    for (table, rows_min) in demanded.chain(counted) {
        match (count(engine, table), rows_min) {
            (Ok(rows), Some(min)) if rows < min => {
                let (expected, seen) = (format!("at least {min} rows"), format!("{rows} rows"));
                examination.find(table_finding("sqlite.rows", shown, table, expected, seen));
            }
            (Ok(_), _) => {}
            (Err(Trouble::Unsupported(reason)), _) if reason.starts_with("no such table") => {
                // A table that is named in both lists is missing once.
                if rows_min.is_none() || !expectation.tables.contains(table) {
                    let (expected, seen) = ("the table".to_owned(), reason);
                    examination.find(table_finding("sqlite.table_missing", shown, table, expected, seen));
                }
            }
            (Err(trouble), _) => return Err(cannot(&format!("count the rows of {table}"), trouble)),
        }
    }
    Ok(())
}

fn queries(
    expectation: &SqliteExpectation,
    shown: &str,
    engine: &Engine,
    examination: &mut Examination,
) -> Result<(), String> {
    for query in &expectation.queries {
        let seen = match engine.select(&query.sql, first_column) {
            Ok(Some(answer)) if answer == query.equals => continue,
            Ok(Some(answer)) => format!("`{answer}`"),
            Ok(None) => "no row".to_owned(),
            Err(Trouble::Unsupported(reason)) => reason,
            Err(Trouble::Damaged { seen, .. }) => seen,
            Err(trouble) => return Err(cannot(&format!("ask `{}`", query.sql), trouble)),
        };
        let expected = format!("`{}` to answer `{}`", query.sql, query.equals);
        examination.find(Finding::damage("sqlite.query", shown, expected, seen));
    }
    Ok(())
}

fn cannot(what: &str, trouble: Trouble) -> String {
    match trouble {
        Trouble::Ours(reason) | Trouble::Unsupported(reason) => format!("cannot {what}: {reason}"),
        Trouble::Damaged { seen, .. } => format!("cannot {what}: {seen}"),
    }
}

fn first_column(row: &Row<'_>) -> rusqlite::Result<String> {
    Ok(match row.get_ref(0)? {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    })
}
