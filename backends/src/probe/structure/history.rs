//! What is remembered from drill to drill, and what it says when it no longer fits.

use std::collections::BTreeMap;

use firedrill_core::finding::{RecoveryBasis, RecoveryPoint};
use firedrill_core::subject::Subject;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Format;
use super::context::Context;
use crate::probe::tables;

/// Tables remembered per probe, all dumps together.
const TABLES_MAX: usize = 2000;

/// Dumps followed per probe: an archive can hold any number.
const DUMPS_MAX: usize = 5000;

/// Falls of smaller counts mean nothing.
const COUNT_MIN: u64 = 10;

/// What one dump holds.
pub(super) struct Dump {
    /// The path of the file, or of the member inside one.
    pub(super) path: Vec<u8>,
    /// Rows per table; the row count is 0 where rows are not counted.
    pub(super) tables: BTreeMap<String, u64>,
    /// All rows.
    pub(super) rows: u64,
    /// Whether `tables` names every table.
    pub(super) complete: bool,
}

/// What an etcd snapshot holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Revision {
    pub(super) revision: u64,
    /// Keys that exist at that revision, when there were few enough to count.
    pub(super) keys: Option<u64>,
}

/// What an examination has learnt.
#[derive(Default)]
pub(super) struct Facts {
    dumps: Vec<Dump>,
    pub(super) newest: Option<Revision>,
    times: Vec<Timestamp>,
}

impl Facts {
    pub(super) fn saw_dump(&mut self, dump: Dump) {
        if self.dumps.len() < DUMPS_MAX {
            self.dumps.push(dump);
        }
    }

    pub(super) fn saw_revision(&mut self, seen: Revision) {
        self.newest = self.newest.max(Some(seen));
    }

    /// Takes the time at which a dump began, if it names its zone beyond doubt.
    pub(super) fn saw_time(&mut self, text: &str) {
        let local = text.strip_suffix(" UTC").or_else(|| text.strip_suffix(" GMT"));
        if let Some(time) = local.and_then(|local| local.parse::<jiff::civil::DateTime>().ok())
            && let Ok(zoned) = time.to_zoned(jiff::tz::TimeZone::UTC)
        {
            self.times.push(zoned.timestamp());
        }
    }

    /// The recovery point, when exactly one dump is there to tell it: among several, an old one that is
    /// kept on purpose would be taken for the present.
    pub(super) fn recovery_point(&self) -> Option<RecoveryPoint> {
        match (self.times.as_slice(), self.dumps.as_slice()) {
            (&[time], [_]) => Some(RecoveryPoint { time, basis: RecoveryBasis::Data }),
            _ => None,
        }
    }

    /// The newest dump of each series: names that differ in a date or a counter are one series.
    fn latest(&self) -> BTreeMap<String, &Dump> {
        let mut latest: BTreeMap<String, &Dump> = BTreeMap::new();
        for dump in &self.dumps {
            let kept = latest.entry(series(&dump.path)).or_insert(dump);
            if dump.path > kept.path {
                *kept = dump;
            }
        }
        latest
    }

    pub(super) fn into_baseline(self) -> BTreeMap<String, Value> {
        let mut baseline = BTreeMap::new();
        let mut room = TABLES_MAX;
        let mut dumps = Map::new();
        for (name, dump) in self.latest() {
            let complete = dump.complete && dump.tables.len() <= room;
            let tables: Map<String, Value> =
                dump.tables.iter().take(room).map(|(table, rows)| (table.clone(), json!(rows))).collect();
            room -= tables.len();
            dumps.insert(name, json!({ "rows": dump.rows, "tables": tables, "complete": complete }));
            if dumps.len() >= TABLES_MAX {
                break;
            }
        }
        if !dumps.is_empty() {
            baseline.insert("dumps".to_owned(), Value::Object(dumps));
        }
        if let Some(newest) = self.newest {
            baseline.insert("revision".to_owned(), json!(newest.revision));
            if let Some(keys) = newest.keys {
                baseline.insert("keys".to_owned(), json!(keys));
            }
        }
        baseline
    }
}

/// Compares what was learnt with the last baseline.
pub(super) fn compare(context: &Context<'_>, subject: &Subject) {
    let Some(baseline) = &subject.history.baseline else { return };
    let Some(before) = baseline.probes.get(context.format.name()) else { return };
    let facts = context.facts();
    if let Some(Value::Object(dumps)) = before.get("dumps") {
        for (name, dump) in facts.latest() {
            if let Some(known) = dumps.get(&name) {
                compare_dump(context, &name, known, dump);
            }
        }
    }
    if let Some(newest) = facts.newest {
        compare_revision(context, before, newest);
    }
}

fn compare_dump(context: &Context<'_>, name: &str, known: &Value, dump: &Dump) {
    let all_known = known.get("complete").and_then(Value::as_bool).unwrap_or(false);
    let read = |value: &Value| serde_json::from_value(value.clone()).ok();
    let before: BTreeMap<String, u64> = known.get("tables").and_then(read).unwrap_or_default();
    let Some(rows) = known.get("rows").and_then(Value::as_u64) else { return };
    if dump.complete {
        compare_tables(context, name, &before, all_known, dump);
    }
    // What is known table by table is compared without what comes and goes.
    let by_table = all_known && dump.complete && rows > 0;
    let (had, has) = if by_table {
        (tables::lasting_rows(&before), tables::lasting_rows(&dump.tables))
    } else {
        (rows, dump.rows)
    };
    if had >= COUNT_MIN && has < had.div_ceil(2) {
        context.anomaly(
            "structure.rows_fell",
            name,
            format!("about the {had} rows of the last verified drill"),
            format!("{has} rows"),
        );
    }
}

fn compare_tables(
    context: &Context<'_>,
    name: &str,
    before: &BTreeMap<String, u64>,
    all_known: bool,
    dump: &Dump,
) {
    for (table, had) in before.iter().filter(|(table, _)| tables::is_migrations(table)) {
        if let Some(has) = dump.tables.get(table).filter(|has| *has < had && dump.rows > 0) {
            context.anomaly(
                "structure.version_backwards",
                name,
                format!("at least the {had} changes of the schema in {table} of the last verified drill"),
                format!("{has}: the schema is an older one"),
            );
        }
    }
    // Where rows are not counted, every table counts.
    let counted = before.values().any(|rows| *rows > 0);
    let missing =
        || before.keys().filter(|table| !dump.tables.contains_key(*table) && !tables::is_passing(table));
    let gone: Vec<(&str, u64)> = if counted {
        tables::gone(before, &dump.tables)
    } else {
        missing().map(|table| (table.as_str(), 0)).collect()
    };
    let new_version = all_known && tables::moved_on(before, &dump.tables);
    let meant = new_version
        && if counted { !tables::lost_much(&gone, before) } else { gone.len() * 2 < before.len() };
    if gone.is_empty() || meant {
        let count = missing().count();
        if count > 0 {
            context.note(format!("{name}: {count} tables were dropped since the last verified drill"));
        }
        return;
    }
    let of = if all_known { before.len().to_string() } else { format!("more than {}", before.len()) };
    let shown: Vec<&str> = gone.iter().map(|(table, _)| *table).take(10).collect();
    context.anomaly(
        "structure.tables_vanished",
        name,
        format!("the {of} tables of the last verified drill"),
        format!("{} of them are gone: {}", gone.len(), shown.join(", ")),
    );
}

fn compare_revision(context: &Context<'_>, before: &BTreeMap<String, Value>, newest: Revision) {
    let code = |what: &str| format!("{}.{what}", Format::EtcdSnapshot.name());
    let known = |key: &str| before.get(key).and_then(Value::as_u64);
    if let Some(revision) = known("revision").filter(|revision| newest.revision < *revision) {
        context.anomaly(
            &code("revision"),
            "newest snapshot",
            format!("revision {revision} of the last verified drill, or a later one"),
            format!("revision {}", newest.revision),
        );
    }
    if let (Some(keys), Some(now)) = (known("keys"), newest.keys)
        && keys >= COUNT_MIN
        && now < keys.div_ceil(2)
    {
        context.anomaly(
            &code("keys_fell"),
            "newest snapshot",
            format!("about the {keys} keys of the last verified drill"),
            format!("{now} keys"),
        );
    }
}

/// `path` with each date, time or long counter replaced, so that `app-2026-02-11.sql` and
/// `app-2026-02-12.sql` are one series while `db1.sql` and `db2.sql` stay two.
fn series(path: &[u8]) -> String {
    let text = firedrill_core::manifest::display_path(path);
    let mut name = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain(['/']) {
        let joins = !run.is_empty() && matches!(c, '-' | '_' | ':' | '.' | 'T' | '+');
        if c.is_ascii_digit() || joins {
            run.push(c);
            continue;
        }
        let stem = run.trim_end_matches(|c: char| !c.is_ascii_digit());
        let stamp = stamp(stem);
        name.push_str(stem.get(..stamp).unwrap_or_default());
        if stamp < stem.len() {
            name.push('#');
        }
        name.push_str(run.get(stem.len()..).unwrap_or_default());
        run.clear();
        name.push(c);
    }
    name.pop();
    name
}

/// Where in a run of joined numbers a date or a counter begins: at the first number of four digits or
/// more, or at the two-digit day and month in front of a year that ends the run. Its length if nowhere.
fn stamp(run: &str) -> usize {
    let mut parts = Vec::new();
    let mut begin = 0;
    for part in run.split(|c: char| !c.is_ascii_digit()) {
        parts.push((begin, part.len()));
        begin += part.len() + 1;
    }
    let Some(long) = parts.iter().position(|(_, length)| *length >= 4) else { return run.len() };
    let digits = |from: usize| parts.iter().skip(from).map(|(_, length)| length).sum::<usize>();
    let from = if digits(long) >= 6 { long } else { long.saturating_sub(2) };
    match parts.get(from) {
        Some((begin, _)) if digits(from) >= 6 => *begin,
        _ => run.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dated_names_are_one_series_and_numbered_ones_are_not() {
        assert_eq!(series(b"d/app-2026-02-11.sql.gz"), "d/app-#.sql.gz");
        assert_eq!(series(b"d/app-20260211-154344.sql"), series(b"d/app-20260212-040000.sql"));
        assert_eq!(series(b"etcd-snapshot-node1-1700000000"), "etcd-snapshot-node1-#");
        assert_eq!(series(b"db1-11-02-2026.sql"), "db1-#.sql");
        assert_ne!(series(b"db1.sql"), series(b"db2.sql"));
        assert_ne!(series(b"db1-2026-02-11.sql"), series(b"db2-2026-02-11.sql"));
    }

    #[test]
    fn only_a_named_zone_makes_a_recovery_point() {
        let of = |text: &str| {
            let mut facts = Facts::default();
            facts.dumps.push(Dump { path: Vec::new(), tables: BTreeMap::new(), rows: 0, complete: true });
            facts.saw_time(text);
            facts.recovery_point().map(|point| point.time.to_string())
        };
        assert_eq!(of("2026-02-11 15:43:44 UTC").as_deref(), Some("2026-02-11T15:43:44Z"));
        assert_eq!(of("2026-02-11 15:43:44 CET"), None);
        assert_eq!(of("2026-02-11 15:43:44"), None);
    }
}
