//! Digests of databases of MariaDB, as close to the moment of the dump as the server lets us come.
//!
//! A transaction cannot be shared as in PostgreSQL. While this one and that of the dump begin, writers are held off
//! (`FLUSH TABLES WITH READ LOCK`); the lock is given back as soon as the dump's transaction is seen. It is known by
//! its account, so that account must be the backup's own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use firedrill_core::digests::{Digests, matches};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use jiff::Timestamp;

use super::super::{Ask, mariadb, single};
use super::Output;
use super::client::{Client, Dumping, in_time};

/// Writers are held off for at most this long.
const LOCK_MAX: Duration = Duration::from_secs(20);
/// The lock is waited for at most this long: whoever waits for it holds off others already.
const LOCK_WAIT: u32 = 10;
/// Without it a dump has as many moments as databases.
const SINGLE: &str = "--single-transaction";
/// A transaction that is seen this many times in a row is no passing statement.
const SEEN_MIN: u32 = 3;
/// Between two looks for the dump's transaction.
const STEP: Duration = Duration::from_millis(20);

/// Databases of MariaDB; where they are, the files and the environment of the client say (`~/.my.cnf`, `MYSQL_HOST`,
/// `MYSQL_TCP_PORT`, `MYSQL_UNIX_PORT`, `MYSQL_PWD`).
#[derive(Clone, Debug, Default)]
pub struct MariadbSource {
    /// Their names; all but the server's own when empty.
    pub databases: Vec<String>,
    /// A file with options for the client, read after its usual ones.
    pub options_file: Option<PathBuf>,
    /// Patterns of tables (`table` or `database.table`) that the dump leaves out.
    pub excluded: Vec<String>,
    /// Nothing writes between this and the dump.
    pub quiet: bool,
    /// The command that makes the dump.
    pub command: Vec<String>,
    /// How long all of it may take.
    pub watch: Watch,
}

impl MariadbSource {
    /// Records digests, and runs the command at the same moment as far as the server allows it. With the digests comes
    /// why they are not exact, if they are not.
    pub fn record(&self, output: &Output, now: Timestamp) -> Result<(Digests, Option<String>)> {
        in_time(&self.watch, self.measure(output, now))
    }

    fn measure(&self, output: &Output, now: Timestamp) -> Result<(Digests, Option<String>)> {
        let mut client = self.client()?;
        let mut ask = |sql: &str| client.ask(sql);
        ask(mariadb::SETTINGS.trim_end_matches(';')).map_err(failed)?;
        let (mut dumping, inexact) = self.begin(&mut ask, output)?;
        let databases = match self.databases.is_empty() {
            true => mariadb::databases(&mut ask).map_err(failed)?,
            false => self.databases.clone(),
        };
        let mut digests = Digests::new(now);
        for name in databases {
            let leaves_out = |table: &str| {
                let whole = format!("{name}.{table}");
                self.excluded.iter().any(|pattern| matches(pattern, table) || matches(pattern, &whole))
            };
            let listing = mariadb::list(&mut ask, &name, &leaves_out).map_err(failed)?;
            if listing.is_empty() && self.databases.is_empty() {
                continue;
            }
            let mut database = Dumping::beside(&mut dumping, failed, |proceed| {
                mariadb::measure(&mut ask, &listing, proceed)
            })?;
            database.exact = inexact.is_none();
            // Patterns may name the database; in the file they stand below it.
            let prefix = format!("{name}.");
            let own = |pattern: &String| pattern.strip_prefix(&prefix).unwrap_or(pattern).to_owned();
            database.excluded = self.excluded.iter().map(own).collect();
            if self.quiet {
                database.tables.values_mut().for_each(|table| table.exact = true);
            }
            digests.mariadb.insert(name, database);
        }
        dumping.map_or(Ok(()), Dumping::finish)?;
        Ok((digests, inexact))
    }

    fn client(&self) -> Result<Client> {
        Client::start(&["mariadb", "mysql"], &self.watch, |command| {
            if let Some(file) = &self.options_file {
                let mut argument = std::ffi::OsString::from("--defaults-extra-file=");
                argument.push(file);
                command.arg(argument);
            }
            command.args([
                "--batch",
                "--skip-column-names",
                "--unbuffered",
                "--skip-reconnect",
                "--skip-auto-rehash",
            ]);
            command.args(["--default-character-set=utf8mb4", "--max-allowed-packet=1G"]);
        })
    }

    /// Chooses the moment: begins our transaction and the command.
    fn begin(&self, ask: &mut Ask<'_>, output: &Output) -> Result<(Option<Dumping>, Option<String>)> {
        const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";
        ask("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").map_err(failed)?;
        if self.command.is_empty() {
            ask(BEGIN).map_err(failed)?;
            let why = "no command made the dump at the same moment";
            return Ok((None, (!self.quiet).then(|| why.to_owned())));
        }
        output.clear()?;
        let start = || Dumping::start(&self.command, &[], str::to_owned, &self.watch);
        if self.quiet {
            ask(BEGIN).map_err(failed)?;
            return Ok((Some(start()?), None));
        }
        if let Some(why) = self.obstacle()? {
            ask(BEGIN).map_err(failed)?;
            return Ok((Some(start()?), Some(why)));
        }
        ask(&format!("SET SESSION lock_wait_timeout = {LOCK_WAIT}")).map_err(failed)?;
        ask("FLUSH TABLES WITH READ LOCK").map_err(failed)?;
        ask(BEGIN).map_err(failed)?;
        let mut dumping = start()?;
        let seen = await_dump(ask, &mut dumping);
        ask("UNLOCK TABLES").map_err(failed)?;
        Ok((Some(dumping), seen?))
    }

    /// What keeps the moments from being the same. An error ends the client, so another one tries.
    fn obstacle(&self) -> Result<Option<String>> {
        if !self.command.iter().any(|word| word.contains(SINGLE)) {
            return Ok(Some(format!("the command does not use {SINGLE}")));
        }
        let mut client = self.client()?;
        let others = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = SUBSTRING_INDEX(USER(), '@', 1) \
                      AND ID <> CONNECTION_ID()";
        // Our own first connection is one of them.
        match client.ask(others).as_deref() {
            Ok([count]) if count == "1" => {}
            Ok(_) => {
                return Ok(Some(
                    "the account has other connections, so the dump's cannot be told".to_owned(),
                ));
            }
            Err(why) => return Ok(Some(why.clone())),
        }
        let trial = [
            "SELECT COUNT(*) FROM information_schema.INNODB_TRX".to_owned(),
            format!("SET SESSION lock_wait_timeout = {LOCK_WAIT}"),
            "FLUSH TABLES WITH READ LOCK".to_owned(),
            "UNLOCK TABLES".to_owned(),
        ];
        Ok(trial.iter().find_map(|sql| client.ask(sql).err()))
    }
}

/// Waits until the only other connection of this account has a transaction. Why it cannot be said, if it cannot.
fn await_dump(ask: &mut Ask<'_>, dumping: &mut Dumping) -> Result<Option<String>> {
    const SQL: &str = "SELECT CONCAT_WS(' ', COUNT(*), COUNT(t.trx_id)) FROM information_schema.PROCESSLIST p \
        LEFT JOIN information_schema.INNODB_TRX t ON t.trx_mysql_thread_id = p.ID \
        WHERE p.USER = SUBSTRING_INDEX(USER(), '@', 1) AND p.ID <> CONNECTION_ID()";
    let start = Instant::now();
    let mut seen = 0;
    loop {
        match single(ask, SQL).map_err(failed)?.as_str() {
            "0 0" | "1 0" => seen = 0,
            "1 1" if seen + 1 >= SEEN_MIN => return Ok(None),
            "1 1" => seen += 1,
            _ => {
                return Ok(Some(
                    "the account has other connections, so the dump's cannot be told".to_owned(),
                ));
            }
        }
        dumping.check()?;
        if dumping.is_over() {
            // Nothing was written while it ran.
            return Ok(None);
        }
        if start.elapsed() > LOCK_MAX {
            let seconds = LOCK_MAX.as_secs();
            return Ok(Some(format!("the dump did not begin a transaction within {seconds} s")));
        }
        std::thread::sleep(STEP);
    }
}

fn failed(why: String) -> Error {
    Error::new(ErrorKind::Unavailable, "record digests of MariaDB").because(why)
}
