//! What a database held at the last verified drill, and what must not have become of it since.

use std::collections::BTreeMap;

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::{Entry, Manifest, display_path};
use firedrill_core::subject::Subject;
use serde::{Deserialize, Serialize};

use super::check::State;
use super::survey::Database;
use super::wal::Log;
use crate::probe::tables;

/// At most this many tables of a database are remembered.
const TABLES_MAX: usize = 200;
/// A table with fewer rows may lose them without notice.
const ROWS_MIN: u64 = 20;
/// What is remembered of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    tables: BTreeMap<String, u64>,
    /// Tables that did not fit in.
    #[serde(default)]
    tables_omitted: u64,
    user_version: i64,
    schema: String,
    #[serde(default)]
    broken_references: u64,
    #[serde(default)]
    broken_constraints: u64,
    /// Counts changes, as far as they touch the first page.
    change_counter: u32,
    /// Whether there was a write-ahead log with transactions in it.
    #[serde(default)]
    log: bool,
}

impl Remembered {
    pub(super) fn of(state: &State, change_counter: u32, log: bool) -> Self {
        Self {
            tables: state.rows.iter().take(TABLES_MAX).map(|(name, rows)| (name.clone(), *rows)).collect(),
            tables_omitted: state.rows.len().saturating_sub(TABLES_MAX) as u64,
            user_version: state.user_version,
            schema: state.schema.clone(),
            broken_references: state.broken_references,
            broken_constraints: state.broken_constraints,
            change_counter,
            log,
        }
    }

    /// Whether some table has fewer rows than `before` and none has more.
    fn only_shrank(&self, before: &Self) -> bool {
        let mut pairs = before.tables.iter().filter_map(|(name, rows)| Some((rows, self.tables.get(name)?)));
        let grew = pairs.clone().any(|(then, now)| now > then);
        !grew && pairs.any(|(then, now)| now < then)
    }
}

/// Everything that is remembered, by the path that people see.
pub(super) fn recall(subject: &Subject) -> BTreeMap<String, Remembered> {
    let baseline = subject.history.baseline.as_ref();
    let Some(values) = baseline.and_then(|baseline| baseline.probes.get("sqlite")) else {
        return BTreeMap::new();
    };
    // What another version wrote in another form is as good as forgotten.
    let read = |value: &serde_json::Value| serde_json::from_value(value.clone()).ok();
    values.iter().filter_map(|(path, value)| Some((path.clone(), read(value)?))).collect()
}

/// Compares a database with what it was.
pub(super) fn compare(shown: &str, before: &Remembered, now: &Remembered, examination: &mut Examination) {
    if now.user_version < before.user_version {
        let expected = format!("user_version {} or later", before.user_version);
        let seen = format!("user_version {}", now.user_version);
        examination.find(Finding::anomaly("sqlite.version_backwards", shown, expected, seen));
    }
    for (table, rows) in &before.tables {
        if let Some(finding) = compare_table(shown, table, *rows, now) {
            examination.find(finding);
        }
    }
    vanished(shown, before, now, examination);
    let worse = |before: u64, now: u64| now > before.saturating_mul(2);
    if worse(before.broken_references, now.broken_references) {
        let expected = format!("not many more than {} broken references", before.broken_references);
        let seen = format!("{} references to rows that are not there", now.broken_references);
        examination.find(Finding::anomaly("sqlite.foreign_keys", shown, expected, seen));
    }
    if worse(before.broken_constraints, now.broken_constraints) {
        let expected =
            format!("not many more than {} values against a constraint", before.broken_constraints);
        let seen = format!("{} values", now.broken_constraints);
        examination.find(Finding::anomaly("sqlite.constraints", shown, expected, seen));
    }
    if now.schema != before.schema {
        examination.notes.push(format!("{shown}: the schema changed since the last verified drill"));
    }
    omitted(shown, now, examination);
}

fn compare_table(shown: &str, table: &str, before: u64, now: &Remembered) -> Option<Finding> {
    let location = || format!("{shown}: {}", display_path(table.as_bytes()));
    let rows = now.tables.get(table).copied()?;
    let (expected, seen) = (format!("about {before} rows"), format!("{rows} rows"));
    if before >= ROWS_MIN && rows < before.div_ceil(2) && !tables::is_passing(table) {
        return Some(Finding::anomaly("sqlite.rows_fell", location(), expected, seen));
    }
    (tables::is_migrations(table) && rows < before).then(|| {
        let expected = format!("at least {before} changes of the schema");
        Finding::anomaly("sqlite.version_backwards", location(), expected, seen)
    })
}

/// Tables that are gone with their rows. A new version of the application drops and renames tables, and
/// shows it by new ones.
fn vanished(shown: &str, before: &Remembered, now: &Remembered, examination: &mut Examination) {
    // Where not all tables are remembered, one that is not among them need not be gone.
    if now.tables_omitted > 0 {
        return;
    }
    let gone = tables::gone(&before.tables, &now.tables);
    let new_version = now.user_version > before.user_version
        || (before.tables_omitted == 0 && tables::moved_on(&before.tables, &now.tables));
    if gone.is_empty() || new_version && !tables::lost_much(&gone, &before.tables) {
        if before.tables.keys().any(|table| !now.tables.contains_key(table)) {
            examination.notes.push(format!("{shown}: tables were dropped since the last verified drill"));
        }
        return;
    }
    for (table, rows) in gone {
        examination.find(Finding::anomaly(
            "sqlite.table_vanished",
            format!("{shown}: {}", display_path(table.as_bytes())),
            format!("the table, with about {rows} rows"),
            "no such table",
        ));
    }
}

/// Says what is odd about a database that is seen for the first time.
pub(super) fn mention(shown: &str, now: &Remembered, examination: &mut Examination) {
    for (count, what) in [
        (now.broken_references, "references to rows that are not there"),
        (now.broken_constraints, "values against a constraint"),
    ] {
        if count > 0 {
            examination.notes.push(format!("{shown}: {count} {what}"));
        }
    }
    omitted(shown, now, examination);
}

fn omitted(shown: &str, now: &Remembered, examination: &mut Examination) {
    if now.tables_omitted > 0 {
        let text = format!("{shown}: {} tables are not remembered for the next drill", now.tables_omitted);
        examination.notes.push(text);
    }
}

/// Whether a database in write-ahead mode lost its log, as far as the past can tell.
pub(super) fn lost_log(
    subject: &Subject,
    database: &Database<'_>,
    log: &Log,
    before: Option<&Remembered>,
    now: &Remembered,
) -> Option<Finding> {
    if log.present() {
        return None;
    }
    let before = before.filter(|before| before.log);
    let back = before.map_or(0, |before| before.change_counter.wrapping_sub(now.change_counter));
    let absent = *log == Log::Absent;
    let seen = if (1..1 << 31).contains(&back) {
        format!("none, and the database went back by {back} changes")
    } else if absent && before.is_some_and(|before| now.only_shrank(before)) {
        "none, and tables only lost rows".to_owned()
    } else if absent && log_was_always_there(subject, database) {
        "none, while the database is the same as before".to_owned()
    } else {
        return None;
    };
    let expected = "the -wal that was always beside it";
    Some(Finding::anomaly("sqlite.wal_missing", &database.shown, expected, seen))
}

/// Whether every earlier snapshot (two at least) had a log with something in it beside the very same
/// database. A clean shutdown, which removes the log, would have changed the database.
fn log_was_always_there(subject: &Subject, database: &Database<'_>) -> bool {
    let wal = [database.entry.path.as_slice(), b"-wal"].concat();
    let earlier: Vec<&Manifest> =
        subject.history.earlier.iter().filter_map(|earlier| earlier.manifest.as_deref().ok()).collect();
    let had_log = |manifest: &&Manifest| file(manifest, &wal).is_some_and(|entry| entry.size > 32);
    let unchanged = |manifest: &&Manifest| {
        file(manifest, &database.entry.path)
            .is_some_and(|entry| subject.manifest.same_content(database.entry, manifest, entry))
    };
    earlier.len() >= 2 && earlier.iter().all(had_log) && earlier.first().is_some_and(unchanged)
}

fn file<'m>(manifest: &'m Manifest, path: &[u8]) -> Option<&'m Entry> {
    manifest.files().find(|entry| entry.path == path)
}
