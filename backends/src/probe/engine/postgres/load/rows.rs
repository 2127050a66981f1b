//! How rows go in, and how they are counted.

use tokio::sync::mpsc;

use super::{Loader, Mended, Outcome, TABLES_MAX, TRIES};
use crate::probe::engine::postgres::split::{Piece, Trouble};
use crate::probe::engine::postgres::statement::{Statement, Target};
use crate::probe::engine::postgres::wire::{Failure, literal};

/// Tables whose first block of data is smaller are not worth the effort of making them anew.
const MUCH: usize = 64 << 10;

/// What the thread that reads a dump has cut.
pub(super) type Pieces = mpsc::Receiver<Result<Piece, Trouble>>;

impl Loader<'_> {
    pub(super) async fn inserted(&mut self, sql: &[u8], tag: &str) -> Result<(), Outcome> {
        let Some(rows) =
            tag.strip_prefix("INSERT ").and_then(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok())
        else {
            return Ok(());
        };
        if let Some(target) = Statement::new(sql).target() {
            self.count(&target, rows).await?;
        }
        Ok(())
    }

    pub(super) async fn count(&mut self, target: &Target, rows: u64) -> Result<(), Outcome> {
        self.loaded.rows += rows;
        if rows > 0 {
            self.filled_table(target);
        }
        let id = match self.ids.get(&target.sql) {
            Some(id) => *id,
            None => {
                let sql = format!("SELECT {}::pg_catalog.regclass::pg_catalog.oid", literal(&target.sql));
                let id = match self.client()?.ask(&sql).await {
                    Ok(answer) => answer.first().and_then(|text| text.parse().ok()),
                    Err(Failure::Refused(_)) => None,
                    Err(failure) => return Err(self.lost(0, &failure)),
                };
                self.ids.insert(target.sql.clone(), id);
                id
            }
        };
        let filled = self.filled();
        if let Some(id) = id
            && filled.rows.len() < TABLES_MAX
        {
            *filled.rows.entry(id).or_default() += rows;
        }
        Ok(())
    }

    pub(super) async fn copy(&mut self, line: u64, sql: &[u8], pieces: &mut Pieces) -> Result<(), Outcome> {
        let statement = Statement::new(sql);
        let mut piece = self.piece(pieces).await?;
        let much = matches!(&piece, Piece::Data(block) if block.len() >= MUCH);
        if !much || !self.begin_anew(line, &statement).await? {
            self.begin(line, &statement).await?;
        }
        loop {
            match piece {
                Piece::Data(block) => {
                    let client = self.client()?;
                    if client.is_waiting() {
                        break;
                    }
                    if let Err(failure) = client.copy(&block).await {
                        return Err(self.copy_failed(line, &statement, failure));
                    }
                }
                Piece::DataEnd => break,
                Piece::End(end) => return self.end(end),
                Piece::Statement { .. } | Piece::Meta { .. } => {
                    return Err(Outcome::Interrupted("data and statements were mixed up".to_owned()));
                }
            }
            piece = self.piece(pieces).await?;
        }
        let answer = match self.client()?.end_copy().await {
            Ok(answer) => answer,
            Err(failure) => return Err(self.copy_failed(line, &statement, failure)),
        };
        self.told(line);
        self.listen(b"").await?;
        self.loaded.statements += 1;
        let rows = answer.tags.first().and_then(|tag| tag.strip_prefix("COPY ")?.parse().ok()).unwrap_or(0);
        match statement.target() {
            Some(target) => self.count(&target, rows).await,
            None => Ok(()),
        }
    }

    pub(super) async fn piece(&self, pieces: &mut Pieces) -> Result<Piece, Outcome> {
        match pieces.recv().await {
            Some(piece) => piece.map_err(|trouble| self.unreadable(trouble)),
            None => Err(Outcome::Interrupted("the reader of the dump ended early".to_owned())),
        }
    }

    /// Begins a `COPY` as the dump has it.
    pub(super) async fn begin(&mut self, line: u64, statement: &Statement<'_>) -> Result<(), Outcome> {
        let mut tries = 0;
        while let Err(failure) = self.client()?.begin_copy(statement.sql).await {
            let Failure::Refused(error) = failure else { return Err(self.lost(line, &failure)) };
            tries += 1;
            if tries > TRIES || !matches!(self.mend(line, statement.sql, &error).await?, Mended::Again) {
                return Err(self.refused(line, statement, &error));
            }
        }
        Ok(())
    }

    /// Begins a `COPY` into a table that nothing is in yet, in one transaction with emptying it: then the server
    /// needs no log to undo or redo it, and may write each row as one that all can see already. That is what
    /// `pg_restore -j` does. `false`: it cannot be done so.
    pub(super) async fn begin_anew(&mut self, line: u64, statement: &Statement<'_>) -> Result<bool, Outcome> {
        let Some(target) = statement.target().filter(|_| ends_with_stdin(statement.sql)) else {
            return Ok(false);
        };
        // An extension may have its own ideas of what emptying a table means.
        let has_hooks = self.loaded.notes.iter().any(|note| note.starts_with("timescaledb"));
        if has_hooks || self.client()?.in_transaction() {
            return Ok(false);
        }
        let empty = format!(
            "SELECT 1 FROM pg_catalog.pg_class WHERE oid = {}::pg_catalog.regclass AND relkind = 'r' \
             AND NOT relhastriggers AND pg_catalog.pg_relation_size(oid) = 0",
            literal(&target.sql)
        );
        match self.client()?.ask(&empty).await {
            Ok(answer) if answer.first().is_some() => {}
            Ok(_) | Err(Failure::Refused(_)) => return Ok(false),
            Err(failure) => return Err(self.lost(line, &failure)),
        }
        // Statements that are sent at once are one transaction.
        let mut sql = format!("TRUNCATE TABLE ONLY {};\n", target.sql).into_bytes();
        sql.extend_from_slice(statement.sql);
        sql.extend_from_slice(b" WITH (FREEZE)");
        match self.client()?.begin_copy(&sql).await {
            Ok(()) => Ok(true),
            Err(Failure::Refused(error)) if error.severity == "ERROR" => Ok(false),
            Err(failure) => Err(self.lost(line, &failure)),
        }
    }

    pub(super) fn copy_failed(&self, line: u64, statement: &Statement<'_>, failure: Failure) -> Outcome {
        match failure {
            Failure::Refused(error) if error.severity == "ERROR" => self.refused(line, statement, &error),
            failure => self.lost(line, &failure),
        }
    }
}

/// Whether a `COPY` says nothing of how its data is written, so that something can be said behind it.
fn ends_with_stdin(sql: &[u8]) -> bool {
    let sql = sql.trim_ascii_end();
    let end = sql.get(sql.len().saturating_sub(11)..).unwrap_or_default();
    end.eq_ignore_ascii_case(b" FROM stdin")
}
