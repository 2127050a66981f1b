//! Digests of a database of PostgreSQL, in the snapshot that pg_dump uses.

use firedrill_core::digests::{Digests, matches};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use jiff::Timestamp;

use super::super::{postgres, single};
use super::Output;
use super::client::{Client, Dumping, in_time};

/// What stands for the name of the snapshot in the command.
const SNAPSHOT: &str = "{snapshot}";

/// A database of PostgreSQL; where it is, the environment says as to every program of PostgreSQL (`PGHOST`, `PGPORT`,
/// `PGUSER`, `PGPASSWORD`, `PGPASSFILE`, `PGSERVICE`, ..).
#[derive(Clone, Debug, Default)]
pub struct PostgresSource {
    /// Its name, where it is not that of `PGDATABASE`.
    pub database: Option<String>,
    /// Patterns of tables that the dump leaves out.
    pub excluded: Vec<String>,
    /// Nothing writes between this and the dump.
    pub quiet: bool,
    /// Variables on top of our environment.
    pub environment: Vec<(String, String)>,
    /// The command that makes the dump; `{snapshot}` in it becomes the name of the snapshot.
    pub command: Vec<String>,
    /// How long all of it may take.
    pub watch: Watch,
}

impl PostgresSource {
    /// Records digests, and runs the command in the same snapshot.
    pub fn record(&self, output: &Output, now: Timestamp) -> Result<Digests> {
        self.check()?;
        in_time(&self.watch, self.measure(output, now))
    }

    fn measure(&self, output: &Output, now: Timestamp) -> Result<Digests> {
        let mut client = Client::start(&["psql"], &self.watch, |command| {
            command.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1"]);
            command.env("PGCLIENTENCODING", "UTF8").env("PGAPPNAME", "firedrill digest");
            command.envs(self.environment.iter().cloned());
            if let Some(database) = &self.database {
                command.env("PGDATABASE", database);
            }
        })?;
        let mut ask = |sql: &str| client.ask(sql);
        let leaves_out = |table: &str| self.excluded.iter().any(|pattern| matches(pattern, table));
        postgres::begin(&mut ask).map_err(failed)?;
        // What identifies the snapshot is asked for first: nothing may come between it and the digests.
        let snapshot = single(&mut ask, "SELECT pg_export_snapshot()").map_err(failed)?;
        let name = single(&mut ask, "SELECT current_database()").map_err(failed)?;
        let listing = postgres::list(&mut ask, &leaves_out).map_err(failed)?;
        postgres::lock(&mut ask, &listing).map_err(failed)?;
        let mut dumping = match self.command.is_empty() {
            true => None,
            false => {
                output.clear()?;
                let fill = |word: &str| word.replace(SNAPSHOT, &snapshot);
                Some(Dumping::start(&self.command, &self.environment, fill, &self.watch)?)
            }
        };
        let mut database =
            Dumping::beside(&mut dumping, failed, |proceed| postgres::measure(&mut ask, &listing, proceed))?;
        // Its end, too, must fall into our transaction: it may take up the snapshot late.
        dumping.map_or(Ok(()), Dumping::finish)?;
        postgres::end(&mut ask).map_err(failed)?;
        database.exact = self.quiet || !self.command.is_empty();
        database.excluded.clone_from(&self.excluded);
        let mut digests = Digests::new(now);
        digests.postgres.insert(name, database);
        Ok(digests)
    }

    fn check(&self) -> Result<()> {
        let fail = |why: &str| Error::new(ErrorKind::Usage, "record digests of PostgreSQL").because(why);
        let connection = |name: &String| name.contains('=') || name.contains("://");
        if self.database.as_ref().is_some_and(connection) {
            let advice = "say where it is by PGHOST, PGPORT, PGUSER and PGPASSFILE";
            return Err(fail("--dbname takes a name, and no address").advise(advice));
        }
        if !self.command.is_empty() && !self.command.iter().any(|word| word.contains(SNAPSHOT)) {
            let advice = "for example: -- pg_dump --snapshot={snapshot} -f shop.sql shop";
            return Err(fail("the command does not use {snapshot}").advise(advice));
        }
        Ok(())
    }
}

fn failed(why: String) -> Error {
    Error::new(ErrorKind::Unavailable, "record digests of PostgreSQL").because(why)
}
