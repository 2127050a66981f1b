//! What a loaded database is asked.

use std::collections::BTreeMap;

use firedrill_core::finding::{Examination, Finding};

use super::forgive::is_about_other_servers;
use super::load::Filled;
use super::questions::Questions;
use super::wire::{Failure, Row, identifier, shown};

/// Tables whose rows are counted with one question.
const TOGETHER: usize = 100;
/// Tables that are looked at.
const TABLES_MAX: usize = 500_000;
/// Findings of one kind about one database; the rest is counted.
const KIND_MAX: usize = 20;

/// A table or a materialized view.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) id: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// Whether its rows are those of its partitions.
    pub(super) partitioned: bool,
    /// Whether an extension made it, perhaps with rows in it.
    extension: bool,
}

impl Table {
    /// Its name for SQL.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    /// Its name for people.
    pub(super) fn shown(&self) -> String {
        shown(&format!("{}.{}", self.schema, self.name), 140)
    }
}

/// The tables of a database with the number of their rows.
pub(super) type Counted = Vec<(Table, u64)>;

fn text(row: &Row, at: usize) -> String {
    row.get(at).cloned().flatten().unwrap_or_default()
}

/// The tables of a database that are not the server's own.
pub(super) async fn tables(client: &mut Questions) -> Result<Vec<Table>, Failure> {
    const SQL: &str = "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', EXISTS (SELECT 1 FROM pg_depend d \
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r', 'p', 'm') AND c.relispopulated AND c.relpersistence <> 't' \
        AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY c.oid";
    let answer = client.ask(SQL).await?;
    let tables = answer.rows.iter().take(TABLES_MAX).filter_map(|row| {
        Some(Table {
            id: text(row, 0).parse().ok()?,
            schema: text(row, 1),
            name: text(row, 2),
            partitioned: text(row, 3) == "t",
            extension: text(row, 4) == "t",
        })
    });
    Ok(tables.collect())
}

/// Reads every row of every table. A table that cannot be read is a finding.
pub(super) async fn count(
    client: &mut Questions,
    tables: Vec<Table>,
    location: &str,
    examination: &mut Examination,
) -> Result<Counted, Failure> {
    let (mut counts, mut ours, mut elsewhere) = (BTreeMap::new(), None, Vec::new());
    let mut findings = Several::new(examination);
    for some in tables.chunks(TOGETHER) {
        match ask_counts(client, some).await {
            Ok(found) => counts.extend(found),
            Err(Failure::Refused(error)) if error.severity == "ERROR" => {
                for table in some {
                    match ask_counts(client, std::slice::from_ref(table)).await {
                        Ok(found) => counts.extend(found),
                        Err(Failure::Refused(error)) if is_about_other_servers(&error) => {
                            elsewhere
                                .push(format!("{location}: rows of {} on another server", table.shown()));
                        }
                        Err(Failure::Refused(error)) if error.is_about_data() => {
                            let place = format!("{location}: {}", table.shown());
                            let expected = "a table that can be read to its end";
                            findings.find(Finding::damage(
                                "postgres.unreadable",
                                place,
                                expected,
                                error.to_string(),
                            ));
                        }
                        // What is wrong with the others is worth knowing all the same.
                        Err(Failure::Refused(error)) if error.severity == "ERROR" => {
                            ours.get_or_insert(Failure::Refused(error));
                        }
                        Err(failure) => return Err(failure),
                    }
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    findings.close("postgres.unreadable", location);
    examination.not_verified.extend(elsewhere);
    if let Some(failure) = ours {
        return Err(failure);
    }
    Ok(tables.into_iter().filter_map(|table| counts.get(&table.id).map(|rows| (table, *rows))).collect())
}

async fn ask_counts(client: &mut Questions, tables: &[Table]) -> Result<Vec<(u32, u64)>, Failure> {
    let parts: Vec<_> = tables
        .iter()
        .map(|table| {
            let only = if table.partitioned { "" } else { "ONLY " };
            format!("SELECT {}, count(*) FROM {only}{}", table.id, table.sql())
        })
        .collect();
    let answer = client.ask(parts.join(" UNION ALL ")).await?;
    let pair = |row: &Row| Some((text(row, 0).parse().ok()?, text(row, 1).parse().ok()?));
    Ok(answer.rows.iter().filter_map(pair).collect())
}

/// Compares the rows of each table with those that the dump brought.
pub(super) fn compare(counted: &Counted, filled: &Filled, location: &str, examination: &mut Examination) {
    if filled.altered {
        examination.notes.push(format!(
            "{location}: the dump changes rows after it has loaded them, so their number was not compared with it"
        ));
        return;
    }
    let mut findings = Several::new(examination);
    for (table, rows) in counted {
        let Some(brought) = filled.rows.get(&table.id) else { continue };
        let more_is_right = table.extension || table.partitioned;
        if rows < brought || rows > brought && !more_is_right {
            findings.find(Finding::damage(
                "postgres.rows",
                format!("{location}: {}", table.shown()),
                format!("the {brought} rows that the dump holds"),
                format!("{rows} rows"),
            ));
        }
    }
    findings.close("postgres.rows", location);
}

/// Sequences whose next number is taken already: the first new row would be refused.
pub(super) async fn sequences(
    client: &mut Questions,
    location: &str,
    examination: &mut Examination,
) -> Result<u64, Failure> {
    const SQL: &str = "SELECT sn.nspname, s.relname, tn.nspname, t.relname, a.attname, q.seqincrement \
        FROM pg_class s JOIN pg_namespace sn ON sn.oid = s.relnamespace JOIN pg_sequence q ON q.seqrelid = s.oid \
        JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid \
        AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 \
        JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace \
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid \
        WHERE s.relkind = 'S' AND q.seqincrement > 0 AND NOT q.seqcycle AND EXISTS (SELECT 1 FROM pg_index i \
        WHERE i.indrelid = t.oid AND i.indisunique AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum \
        AND i.indpred IS NULL) ORDER BY s.oid";
    let answer = client.ask(SQL).await?;
    let owned: Vec<_> = answer
        .rows
        .iter()
        .map(|row| {
            let pair = |a: usize, b: usize| format!("{}.{}", identifier(&text(row, a)), identifier(&text(row, b)));
            let (sequence, table, column) = (pair(0, 1), pair(2, 3), identifier(&text(row, 4)));
            let shown = shown(&format!("{}.{}", text(row, 0), text(row, 1)), 140);
            let sql = format!(
                "SELECT {}, n.next, {} FROM (SELECT CASE WHEN is_called THEN last_value + {} ELSE last_value END \
                 AS next FROM {sequence}) n WHERE EXISTS (SELECT 1 FROM {table} WHERE {column} = n.next)",
                super::wire::literal(&shown),
                super::wire::literal(&text(row, 3)),
                text(row, 5).parse::<i64>().unwrap_or(1)
            );
            sql
        })
        .collect();
    let mut taken = Vec::new();
    for some in owned.chunks(TOGETHER) {
        match client.ask(some.join(" UNION ALL ")).await {
            Ok(answer) => taken.extend(answer.rows),
            Err(Failure::Refused(error)) if error.severity == "ERROR" => {
                for one in some {
                    match client.ask(one).await {
                        Ok(answer) => taken.extend(answer.rows),
                        // A column that cannot be compared with a number.
                        Err(Failure::Refused(error)) if error.is_about_data() => {}
                        Err(failure) => return Err(failure),
                    }
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    let mut findings = Several::new(examination);
    for row in &taken {
        findings.find(Finding::anomaly(
            "postgres.sequence",
            format!("{location}: {}", text(row, 0)),
            format!("a sequence that is ahead of the rows of {}", shown(&text(row, 2), 80)),
            format!("its next number is {}, which a row has already", text(row, 1)),
        ));
    }
    findings.close("postgres.sequence", location);
    Ok(owned.len() as u64)
}

/// Notes what came over from the source as it was there: constraints that were never validated, invalid indexes.
pub(super) async fn notes(
    client: &mut Questions,
    location: &str,
    examination: &mut Examination,
) -> Result<(), Failure> {
    const SQL: &str = "SELECT 'constraints that are NOT VALID', count(*), min(conname) FROM pg_constraint \
        WHERE NOT convalidated UNION ALL SELECT 'invalid indexes', count(*), min(c.relname) FROM pg_index i \
        JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid";
    for row in client.ask(SQL).await?.rows {
        if text(&row, 1) != "0" {
            let (what, count, one) = (text(&row, 0), text(&row, 1), shown(&text(&row, 2), 80));
            examination
                .notes
                .push(format!("{location}: {count} {what}, such as {one}: as they were backed up"));
        }
    }
    Ok(())
}

/// Findings of one kind, of which some are told and the rest is counted.
pub(super) struct Several<'e> {
    examination: &'e mut Examination,
    found: usize,
}

impl<'e> Several<'e> {
    pub(super) fn new(examination: &'e mut Examination) -> Self {
        Self { examination, found: 0 }
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.found += 1;
        if self.found <= KIND_MAX {
            self.examination.find(finding);
        }
    }

    pub(super) fn close(self, code: &str, location: &str) {
        if self.found > KIND_MAX {
            self.examination.findings_omitted += (self.found - KIND_MAX) as u64;
            let more = self.found - KIND_MAX;
            self.examination.notes.push(format!("{location}: {more} more findings of the kind {code}"));
        }
    }
}
