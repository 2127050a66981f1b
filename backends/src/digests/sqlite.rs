//! Digests of the tables in a SQLite file.

use std::collections::BTreeMap;

use firedrill_core::digests::{Sum, Table};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};

/// The tables of a database. Virtual ones keep their rows in others; statistics are not data.
pub(crate) fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\' \
               AND sql NOT LIKE 'create virtual%' ORDER BY name";
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// Reads every row of a table.
pub(crate) fn measure(connection: &Connection, table: &str) -> rusqlite::Result<Table> {
    let mut columns: Vec<String> = connection
        .prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0")?
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    columns.sort_unstable();
    let names: Vec<_> = columns.iter().map(|column| quoted(column)).collect();
    let names = if names.is_empty() { "NULL".to_owned() } else { names.join(", ") };
    let mut statement = connection.prepare(&format!("SELECT {names} FROM main.{}", quoted(table)))?;
    let mut rows = statement.query([])?;
    let mut sum = Sum::default();
    while let Some(row) = rows.next()? {
        let mut hash = Sha256::new();
        for column in 0..columns.len() {
            add(&mut hash, row.get_ref(column)?);
        }
        sum.add_hash(hash.finalize().into());
    }
    Ok(sum.table(columns.iter().map(String::as_str)))
}

/// All tables.
pub(crate) fn measure_all(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Table>> {
    tables(connection)?.into_iter().map(|table| Ok((table.clone(), measure(connection, &table)?))).collect()
}

fn add(hash: &mut Sha256, value: ValueRef<'_>) {
    let mut put = |tag: u8, bytes: &[u8]| {
        hash.update([tag]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    match value {
        ValueRef::Null => put(b'n', &[]),
        ValueRef::Integer(number) => put(b'i', &number.to_be_bytes()),
        ValueRef::Real(number) => put(b'r', &number.to_bits().to_be_bytes()),
        ValueRef::Text(text) => put(b't', text),
        ValueRef::Blob(blob) => put(b'b', blob),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
