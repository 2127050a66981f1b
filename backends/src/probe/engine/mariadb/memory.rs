//! What databases held at the last verified drill.
//!
//! The structure probes compare the tables and rows of SQL dumps, and the InnoDB files of streams. What only a server
//! knows is compared here: the rows of physical backups.

use std::collections::BTreeMap;

use firedrill_core::finding::Finding;
use serde::{Deserialize, Serialize};

use crate::probe::engine::session::Session;
use crate::probe::{names, tables};

/// Tables of one backup that are remembered.
const TABLES_MAX: usize = 2000;
/// Backups that are remembered.
const BACKUPS_MAX: usize = 40;
/// A table with fewer rows may lose them without notice.
const ROWS_MIN: u64 = 20;

/// What is remembered of one backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    tables: BTreeMap<String, u64>,
    complete: bool,
}

/// Compares the rows of a physical backup with those of the last verified drill, and remembers them. `streamed`: its
/// tables are compared by the structure probe.
pub(super) fn compare(
    session: &mut Session<'_>,
    location: &str,
    rows: &BTreeMap<String, u64>,
    streamed: bool,
) {
    let form = names::loose(location);
    let baseline = session.subject.history.baseline.as_ref().and_then(|b| b.probes.get(super::NAME));
    let before = baseline
        .and_then(|known| known.get(&form))
        .and_then(|value| serde_json::from_value::<Remembered>(value.clone()).ok());
    if let Some(before) = before {
        for finding in differences(location, &before, rows, streamed) {
            session.find(finding);
        }
    }
    let now = Remembered {
        tables: rows.iter().take(TABLES_MAX).map(|(name, rows)| (name.clone(), *rows)).collect(),
        complete: rows.len() <= TABLES_MAX,
    };
    if let Ok(value) = serde_json::to_value(&now)
        && session.examination.baseline.len() < BACKUPS_MAX
    {
        session.examination.baseline.insert(form, value);
    }
}

fn differences(
    location: &str,
    before: &Remembered,
    rows: &BTreeMap<String, u64>,
    streamed: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (table, had) in &before.tables {
        let Some(has) = rows.get(table) else { continue };
        let place = || format!("{location}: {table}");
        if tables::is_migrations(table) && has < had {
            let expected = format!("at least the {had} changes of the schema of the last verified drill");
            findings.push(Finding::anomaly("mariadb.version_backwards", place(), expected, has.to_string()));
        } else if *had >= ROWS_MIN && *has < had.div_ceil(2) && !tables::is_passing(table) {
            let expected = format!("about {had} rows");
            findings.push(Finding::anomaly("mariadb.rows_fell", place(), expected, format!("{has} rows")));
        }
    }
    if streamed || !before.complete || rows.len() > TABLES_MAX {
        return findings;
    }
    let gone = tables::gone(&before.tables, rows);
    let meant = tables::moved_on(&before.tables, rows) && !tables::lost_much(&gone, &before.tables);
    for (table, had) in gone.into_iter().filter(|_| !meant) {
        let expected = format!("the table, with about {had} rows");
        findings.push(Finding::anomaly(
            "mariadb.table_vanished",
            format!("{location}: {table}"),
            expected,
            "no such table",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_fell_and_tables_that_vanished_are_told() {
        let of = |list: &[(&str, u64)]| {
            list.iter().map(|(n, r)| ((*n).to_owned(), *r)).collect::<BTreeMap<_, _>>()
        };
        let before = Remembered {
            tables: of(&[("a.users", 100), ("a.orders", 50), ("a.sessions", 90), ("a.small", 3)]),
            complete: true,
        };
        let codes = |now: &[(&str, u64)], streamed| -> Vec<String> {
            differences("x", &before, &of(now), streamed).into_iter().map(|f| f.code).collect()
        };
        let healthy = [("a.users", 99), ("a.orders", 60), ("a.sessions", 0), ("a.small", 0)];
        assert!(codes(&healthy, false).is_empty());
        assert_eq!(codes(&[("a.users", 40), ("a.orders", 60), ("a.small", 3)], false), ["mariadb.rows_fell"]);
        assert_eq!(codes(&[("a.users", 100), ("a.small", 3)], false), ["mariadb.table_vanished"]);
        assert!(codes(&[("a.users", 100), ("a.small", 3)], true).is_empty());
    }
}
