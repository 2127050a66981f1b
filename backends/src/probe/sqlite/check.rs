//! What every database must stand: its own checks, and counting what is in it.

use std::collections::BTreeMap;

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::display_path;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

use super::engine::{Engine, Trouble};

/// Complaints that are asked for. Those about constraints do not count, so there may be many.
const COMPLAINTS: u32 = 10_000;
/// Complaints that are shown.
const SHOWN: usize = 3;
/// Broken references are counted up to here.
const REFERENCES_MAX: u64 = 100_000;

/// What a database holds.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Rows of each table that can be counted.
    pub(super) rows: BTreeMap<String, u64>,
    pub(super) user_version: i64,
    /// SHA-256 of all statements that make up the schema.
    pub(super) schema: String,
    /// References to rows that are not there.
    pub(super) broken_references: u64,
    /// Values that break a constraint of their table.
    pub(super) broken_constraints: u64,
}

struct Table {
    name: String,
    is_virtual: bool,
}

/// Checks a database and counts what is in it.
pub(super) fn check(
    engine: &Engine,
    shown: &str,
    quick: bool,
    examination: &mut Examination,
) -> Result<State, Trouble> {
    let (tables, schema) = schema(engine)?;
    let complaints = integrity(engine, quick, &tables)?;
    if let Some(seen) = complaints.damage(quick) {
        return Err(Trouble::Damaged { code: "sqlite.integrity", seen });
    }
    for reason in complaints.unsupported.iter().take(SHOWN) {
        examination.not_verified.push(format!("parts of {shown}: {reason}"));
    }
    let mut state = State {
        schema,
        broken_constraints: complaints.constraints,
        broken_references: broken_references(engine, shown, examination)?,
        user_version: engine.statement(|c| c.query_row("PRAGMA user_version", [], |row| row.get(0)))?,
        ..State::default()
    };
    for table in tables.iter().filter(|table| !table.is_virtual) {
        match count(engine, &table.name) {
            Ok(rows) => {
                state.rows.insert(table.name.clone(), rows);
            }
            Err(Trouble::Unsupported(reason)) => {
                let name = display_path(table.name.as_bytes());
                examination.not_verified.push(format!("the rows of {name} in {shown}: {reason}"));
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(state)
}

/// How many rows a table has.
pub(super) fn count(engine: &Engine, table: &str) -> Result<u64, Trouble> {
    let sql = format!("SELECT count(*) FROM \"{}\"", table.replace('"', "\"\""));
    let rows: i64 = engine.statement(|connection| connection.query_row(&sql, [], |row| row.get(0)))?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

/// All tables, and a digest of the whole schema.
fn schema(engine: &Engine) -> Result<(Vec<Table>, String), Trouble> {
    engine.statement(|connection| {
        let sql = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name, tbl_name";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let (mut tables, mut digest) = (Vec::new(), Sha256::new());
        while let Some(row) = rows.next()? {
            let column = |at| row.get_ref(at).map(text);
            for at in 0..4 {
                digest.update(column(at)?.as_bytes());
                digest.update([0]);
            }
            let (kind, name, definition) = (column(0)?, column(1)?, column(3)?);
            if kind == "table" && !name.starts_with("sqlite_") {
                let start = definition.get(..20).unwrap_or_default().to_ascii_lowercase();
                tables.push(Table { name, is_virtual: start == "create virtual table" });
            }
        }
        Ok((tables, hex::encode(digest.finalize())))
    })
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

/// What SQLite's own check complains about.
#[derive(Debug, Default)]
struct Complaints {
    /// The first few about the structure.
    structure: Vec<String>,
    /// How many more of them.
    more: u64,
    /// Values that break a constraint: so were they in the running application.
    constraints: u64,
    /// What could not be checked here.
    unsupported: Vec<String>,
}

impl Complaints {
    fn add(&mut self, line: &str) {
        // A tokenizer or a content table of the application's may be missing here.
        if line.starts_with("unable to validate the inverted index") {
            self.unsupported.push(line.to_owned());
        } else if is_constraint(line) {
            self.constraints += 1;
        } else if self.structure.len() < SHOWN {
            self.structure.push(display_path(line.trim().as_bytes()));
        } else {
            self.more += 1;
        }
    }

    fn damage(&self, quick: bool) -> Option<String> {
        let check = if quick { "quick_check" } else { "integrity_check" };
        let first = (!self.structure.is_empty()).then(|| self.structure.join("; "))?;
        let more = if self.more > 0 { format!("; and {} more", self.more) } else { String::new() };
        Some(format!("{check}: {first}{more}"))
    }
}

/// `NULL value in t.c`, `non-INTEGER value in t.c`, `CHECK constraint failed in t` and the like tell what an
/// application wrote, not what became of it.
fn is_constraint(line: &str) -> bool {
    let valued = ["NULL value in ", "NUMERIC value in ", "TEXT value in ", "CHECK constraint failed in "];
    valued.iter().any(|start| line.starts_with(start))
        || (line.starts_with("non-") && line.contains(" value in "))
}

fn integrity(engine: &Engine, quick: bool, tables: &[Table]) -> Result<Complaints, Trouble> {
    let check = if quick { "quick_check" } else { "integrity_check" };
    let mut complaints = Complaints::default();
    match complain(engine, &format!("PRAGMA {check}({COMPLAINTS})"), &mut complaints) {
        Err(Trouble::Unsupported(_)) => {}
        ended => return ended.map(|()| complaints),
    }
    // One table that needs something that is not here keeps the whole from being checked: go one by one.
    complaints = Complaints::default();
    for table in tables {
        let name = table.name.replace('\'', "''");
        let mut run = |check| complain(engine, &format!("PRAGMA {check}('{name}')"), &mut complaints);
        match run(check) {
            Ok(()) => {}
            Err(Trouble::Unsupported(reason)) => {
                // Without its indexes it may still be read.
                match run("quick_check") {
                    Ok(()) | Err(Trouble::Unsupported(_)) => {}
                    Err(trouble) => return Err(trouble),
                }
                let name = display_path(table.name.as_bytes());
                complaints.unsupported.push(format!("table {name}: {reason}"));
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(complaints)
}

fn complain(engine: &Engine, sql: &str, complaints: &mut Complaints) -> Result<(), Trouble> {
    engine.statement(|connection| {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let line = text(row.get_ref(0)?);
            if line != "ok" {
                complaints.add(&line);
            }
        }
        Ok(())
    })
}

fn broken_references(engine: &Engine, shown: &str, examination: &mut Examination) -> Result<u64, Trouble> {
    let counted = engine.statement(|connection| {
        let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
        let mut rows = statement.query([])?;
        let mut count = 0;
        while count < REFERENCES_MAX && rows.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    });
    match counted {
        Err(Trouble::Unsupported(reason)) => {
            examination.not_verified.push(format!("references between tables of {shown}: {reason}"));
            Ok(0)
        }
        other => other,
    }
}

/// A finding about a table of a database.
pub(super) fn table_finding(code: &str, shown: &str, table: &str, expected: String, seen: String) -> Finding {
    let location = format!("{shown}: {}", display_path(table.as_bytes()));
    Finding::damage(code, location, expected, seen)
}
