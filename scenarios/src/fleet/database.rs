//! SQLite databases, quiet ones and live ones.

use std::path::Path;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rusqlite::{Connection, Transaction};

use super::stage::Stage;

/// A database in WAL mode that its application keeps open: rows of the last day are in the `-wal` only,
/// and a backup of the database file alone would lose them without any complaint.
pub(super) struct LiveDatabase {
    relative: String,
    schema: &'static str,
    connection: Option<Connection>,
}

impl LiveDatabase {
    /// A database at `relative` with this schema; it is made on first use.
    pub(super) fn new(relative: impl Into<String>, schema: &'static str) -> Self {
        Self { relative: relative.into(), schema, connection: None }
    }

    /// Moves what is in the `-wal` into the database, with `settled`, and leaves what `fresh` writes in
    /// the `-wal`.
    pub(super) fn write(
        &mut self,
        stage: &mut Stage,
        settled: impl FnOnce(&Transaction<'_>, &mut StdRng) -> rusqlite::Result<()>,
        fresh: impl FnOnce(&Transaction<'_>, &mut StdRng) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let connection = open(stage, &self.relative)?;
                connection.pragma_update(None, "journal_mode", "WAL")?;
                // Nothing may move the fresh rows into the database before the backup has run.
                connection.pragma_update(None, "wal_autocheckpoint", 0)?;
                connection.execute_batch(self.schema)?;
                none.insert(connection)
            }
        };
        transact(connection, &mut stage.rng, settled)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        transact(connection, &mut stage.rng, fresh)?;
        stage.date_database(&self.relative)
    }
}

/// Writes to a database with a rollback journal and closes it again, so that one file holds everything.
pub(super) fn write_quiet(
    stage: &mut Stage,
    relative: &str,
    schema: &str,
    rows: impl FnOnce(&Transaction<'_>, &mut StdRng) -> rusqlite::Result<()>,
) -> Result<()> {
    let mut connection = open(stage, relative)?;
    connection.execute_batch(schema)?;
    transact(&mut connection, &mut stage.rng, rows)?;
    connection.close().map_err(|(_, error)| error).with_context(|| format!("close {relative}"))?;
    stage.date_database(relative)
}

fn open(stage: &mut Stage, relative: &str) -> Result<Connection> {
    if let Some(parent) = Path::new(relative).parent() {
        stage.folder(parent)?;
    }
    let connection = Connection::open(stage.path(relative)).with_context(|| format!("open {relative}"))?;
    // A fleet that is lost in a power failure is made again.
    connection.pragma_update(None, "synchronous", "OFF")?;
    Ok(connection)
}

fn transact(
    connection: &mut Connection,
    rng: &mut StdRng,
    rows: impl FnOnce(&Transaction<'_>, &mut StdRng) -> rusqlite::Result<()>,
) -> Result<()> {
    let transaction = connection.transaction()?;
    rows(&transaction, rng)?;
    Ok(transaction.commit()?)
}
