//! What goes wrong with a dump, and what is made of it.

use firedrill_core::finding::Finding;

use super::{Loader, Mended, Outcome};
use crate::probe::engine::dumps::is_own_trouble;
use crate::probe::engine::postgres::forgive::{
    forgivable, has_reached_out, is_about_other_servers, missing_software,
};
use crate::probe::engine::postgres::server::last_words;
use crate::probe::engine::postgres::split::{End, Trouble};
use crate::probe::engine::postgres::statement::Statement;
use crate::probe::engine::postgres::supply::supply;
use crate::probe::engine::postgres::wire::{Failure, ServerError};

/// Attempts to reach outside that are told one by one.
const REACHES_MAX: usize = 10;

impl Loader<'_> {
    pub(super) fn unreadable(&self, trouble: Trouble) -> Outcome {
        match trouble {
            Trouble::Read(error) if is_own_trouble(&error) => {
                Outcome::Interrupted(format!("failed to read {}: {error}", self.job.location))
            }
            Trouble::Read(error) => Outcome::Broken(Finding::damage(
                "postgres.truncated",
                self.job.location,
                "a dump that can be read to its end",
                format!("{error}, after {} rows", self.loaded.rows),
            )),
            Trouble::TooLong(line) => Outcome::Interrupted(format!(
                "{}: the statement on line {line} is longer than firedrill takes",
                self.job.location
            )),
        }
    }

    pub(super) fn end(&self, end: End) -> Result<(), Outcome> {
        let seen = match end {
            End::Whole if self.loaded.statements == 0 => {
                return Err(Outcome::Broken(Finding::damage(
                    "postgres.empty",
                    self.job.location,
                    "a dump of something",
                    "not a single statement",
                )));
            }
            End::Whole => return Ok(()),
            End::InStatement(line) => format!("it ends inside the statement that begins on line {line}"),
            End::InData(line) => format!("it ends inside the data of a table, on line {line}"),
            End::NoMarker(marker) => format!("it ends without `{marker}`"),
        };
        Err(Outcome::Broken(Finding::damage(
            "postgres.truncated",
            self.job.location,
            "a dump that goes on to its end",
            format!("{seen}, after {} statements and {} rows", self.loaded.statements, self.loaded.rows),
        )))
    }

    /// Tells of an attempt to reach outside.
    pub(super) fn reached(&mut self, finding: Finding) {
        let earlier = self.loaded.findings.iter().filter(|f| f.code == finding.code).count();
        if earlier < REACHES_MAX {
            self.loaded.findings.push(finding);
        }
    }

    pub(super) fn reach(&self, seen: String) -> Finding {
        Finding::anomaly(
            "postgres.reaches_out",
            self.job.location,
            "a dump that defines and fills tables",
            seen,
        )
    }

    /// Deals with an error that says nothing about the dump. `Err`: it does.
    pub(super) async fn mend(
        &mut self,
        line: u64,
        sql: &[u8],
        error: &ServerError,
    ) -> Result<Mended, Outcome> {
        let statement = Statement::new(sql);
        if let Some(note) = forgivable(&statement, error, &self.loaded.supplied) {
            return Ok(Mended::Skip(note));
        }
        if let Some(what) = missing_software(&statement, error) {
            self.loaded.findings.push(Finding::gap(
                "postgres.extension",
                self.job.location,
                format!("{what}, where this dump is restored to"),
                "it is not part of the dump, and not there where it was tried",
            ));
            return Err(Outcome::Interrupted(format!(
                "{}: PostgreSQL was started without {what}, so the dump cannot be loaded beyond line {line}: give \
                 `runtime.container.images` an image that has it, or install its package",
                self.job.location
            )));
        }
        if statement.begins(&["refresh"]) && is_about_other_servers(error) {
            self.loaded.not_verified.insert(format!(
                "{}: a materialized view that reads from another server: `{}`",
                self.job.location,
                statement.shown()
            ));
            return Ok(Mended::Skip("a materialized view reads from another server".to_owned()));
        }
        if has_reached_out(error) {
            let seen = format!("`{}` on line {line}, where the seal kept it in: {error}", statement.shown());
            let finding = self.reach(seen);
            // What it would have done to rows is not counted anyway.
            if !statement.alters_rows() {
                return Err(Outcome::Broken(finding));
            }
            self.reached(finding);
            return Ok(Mended::Skip("a function reached outside, and was not let".to_owned()));
        }
        let Some(client) = self.client.as_mut() else { return Err(self.refused(line, &statement, error)) };
        let place = (self.job.server, self.database.as_str(), client);
        let supplied = supply(&statement, error, place, self.job.watch, &mut self.loaded.supplied).await;
        if let Some(replaced) = supplied.map_err(|failure| self.lost(line, &failure))? {
            return Ok(replaced.map_or(Mended::Again, Mended::Instead));
        }
        Err(self.refused(line, &statement, error))
    }

    pub(super) fn refused(&self, line: u64, statement: &Statement<'_>, error: &ServerError) -> Outcome {
        let schema_missing = matches!(error.code.as_str(), "42P01" | "3F000");
        if schema_missing && !self.created_something {
            return Outcome::Interrupted(format!(
                "{}: it holds data alone, and cannot be loaded without the schema that it belongs to ({error})",
                self.job.location
            ));
        }
        self.broken(line, statement, &error.to_string())
    }

    pub(super) fn broken(&self, line: u64, statement: &Statement<'_>, seen: &str) -> Outcome {
        Outcome::Broken(Finding::damage(
            "postgres.load",
            self.job.location,
            format!(
                "`{}` on line {line} to be accepted by PostgreSQL {}",
                statement.shown(),
                self.job.server.major()
            ),
            seen,
        ))
    }

    pub(super) fn lost(&self, line: u64, failure: &Failure) -> Outcome {
        let log = last_words(&self.job.server.log());
        Outcome::Interrupted(format!(
            "{}: near line {line}: {failure} (the server's log: {log})",
            self.job.location
        ))
    }
}
