//! What goes wrong with a dump, and what is made of it.

use firedrill_core::finding::Finding;

use super::{Loader, Mended, Outcome};
use crate::probe::engine::dumps::is_own_trouble;
use crate::probe::engine::postgres::forgive::{
    forgivable, has_reached_out, is_about_other_servers, is_about_the_outside, missing_software,
};
use crate::probe::engine::postgres::server::last_words;
use crate::probe::engine::postgres::split::{End, Trouble};
use crate::probe::engine::postgres::statement::{Statement, Target};
use crate::probe::engine::postgres::supply::supply;
use crate::probe::engine::postgres::wire::{Failure, ServerError};
use crate::probe::engine::postgres::witness;

/// Attempts to reach outside that are told one by one.
const REACHES_MAX: usize = 10;
/// Definitions that would reach outside that are named.
const UNUSED_MAX: usize = 5;

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
        if !matches!(end, End::Whole) || self.loaded.statements == 0 {
            // Whoever feeds us ends early, too, when our time is over.
            self.job
                .watch
                .check()
                .map_err(|error| Outcome::Interrupted(format!("{}: {}", self.job.location, error.chain())))?;
        }
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

    /// Files what the server has reported of functions that reach outside, up to the statement on this line.
    pub(super) fn told(&mut self, line: u64) {
        let (seen, silenced) =
            witness::with(&self.witness, |witness| (witness.take(), witness.was_silenced()));
        let place = if line == 0 { String::new() } else { format!(", while line {line} was loaded") };
        for attempt in seen {
            let told = format!("{}: {}{place}; the seal kept it in", attempt.what, attempt.shown);
            let finding = self.reach(told);
            self.reached(finding);
        }
        if silenced {
            self.deaf = true;
            self.crew.let_go();
            self.loaded.not_verified.insert(format!(
                "{}: what a function did after it had silenced the reports of the server",
                self.job.location
            ));
        }
    }

    /// Rows went into a table, which may have set its definition off.
    pub(super) fn filled_table(&mut self, target: &Target) {
        if let Some(open) = witness::with(&self.witness, |witness| witness.rows_into(&target.name)) {
            self.loaded.not_verified.insert(format!("{}: whether it ran: {open}", self.job.location));
        }
        self.told(0);
    }

    /// Notes what would reach outside when somebody uses it, which nobody did.
    pub(super) fn unused(&mut self) {
        let (names, more) = witness::with(&self.witness, |witness| {
            let all = || witness.unused().map(|known| format!("the {} ({})", known.shown, known.what));
            (all().take(UNUSED_MAX).collect::<Vec<_>>(), all().count().saturating_sub(UNUSED_MAX))
        });
        if !names.is_empty() {
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            self.loaded.note(format!("would reach out when used, and was not: {}{more}", names.join(", ")));
        }
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
            // What reads from another server every day is no attempt.
            witness::with(&self.witness, |witness| witness.take());
            self.loaded.not_verified.insert(format!(
                "{}: a materialized view that reads from another server: `{}`",
                self.job.location,
                statement.shown()
            ));
            return Ok(Mended::Skip("a materialized view reads from another server".to_owned()));
        }
        // The server may have named the function before, or the table is known for it.
        let knows = |target: Target| witness::with(&self.witness, |witness| witness.knows(&target.name));
        let witnessed = witness::with(&self.witness, |witness| witness.has_seen())
            || statement.target().is_some_and(knows);
        if has_reached_out(error) || witnessed && is_about_the_outside(error) {
            let seen = format!("`{}` on line {line}, where the seal kept it in: {error}", statement.shown());
            let finding = self.reach(seen);
            // One of them is enough.
            witness::with(&self.witness, |witness| witness.take());
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
        if error.is_ours() {
            return Outcome::Interrupted(format!("{}: near line {line}: {error}", self.job.location));
        }
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
