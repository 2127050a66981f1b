//! All rows of a query by somebody else, of an SQLite file.

use std::ops::ControlFlow;

use firedrill_core::subject::Subject;
use rusqlite::types::ValueRef;

use super::copy::Copy;
use super::engine::{Engine, Trouble};
use super::files::Files;
use super::survey::Survey;
use crate::probe::rows::{NoRows, Rows, TextRow};

/// Asks the database at one of `paths` a single SELECT.
pub(crate) fn rows(subject: &Subject, paths: &[Vec<u8>], sql: &str) -> Result<Vec<TextRow>, NoRows> {
    let ours = |e: std::io::Error| NoRows::Ours(e.to_string());
    let survey = Survey::of(subject, false);
    let Some(database) = survey.databases.iter().find(|d| paths.contains(&d.entry.path)) else {
        return Err(survey.interrupted.map_or(NoRows::Missing, NoRows::Ours));
    };
    let mut files = Files::below(&subject.root).map_err(ours)?;
    let copy = Copy::of(database, &mut files, subject).map_err(ours)?;
    let refused = |trouble: Trouble| match trouble {
        Trouble::Damaged { seen, .. } | Trouble::Unsupported(seen) => NoRows::Refused(seen),
        Trouble::Ours(why) => NoRows::Ours(why),
    };
    let engine = Engine::open(copy.path(), subject).map_err(refused)?;
    let mut rows = Rows::default();
    let taken = engine.each(sql, |row| {
        let columns = row.as_ref().column_count();
        let row: TextRow = (0..columns).map(|n| row.get_ref(n).map(text)).collect::<Result<_, _>>()?;
        Ok(match rows.push(row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(more) => ControlFlow::Break(more),
        })
    });
    match taken.map_err(refused)? {
        ControlFlow::Continue(()) => Ok(rows.into_all()),
        ControlFlow::Break(more) => Err(more.into()),
    }
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(format!("{number:?}")),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}
