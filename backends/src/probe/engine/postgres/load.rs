//! Loads a plain dump, statement by statement.
//!
//! Not with psql: that runs programs when a dump says so, ends with success on a dump that was cut, and cannot
//! tell which role is missing. Here no meta-command is interpreted but the change of the database; what the engine
//! lacks and a dump of one database cannot bring along (roles, tablespaces, locales) is supplied and told; and rows
//! are counted as they are taken. How rows go in is in `rows`, and what goes wrong in `trouble`.

mod rows;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use firedrill_core::finding::Finding;
use firedrill_core::watch::Watch;
use rows::Pieces;
use tokio::sync::mpsc;

use super::crew::{Crew, Work};
use super::forgive::{database, is_about_transactions};
use super::server::Server;
use super::split::{End, Piece, Splitter};
use super::statement::Statement;
use super::supply::Supplied;
use super::wire::{Client, Failure, shown};
use super::witness::{self, Shared};

/// Pieces that wait between the thread that reads and the server.
const PIECES: usize = 16;
/// Statements, and their bytes, that are sent at once.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 << 10;
/// How often one statement is tried again, each time with something more supplied.
const TRIES: u32 = 40;
/// Tables whose rows are counted.
const TABLES_MAX: usize = 200_000;
/// Notes that are kept.
pub(super) const NOTES_MAX: usize = 20;

/// What was loaded into one database.
#[derive(Clone, Debug, Default)]
pub(super) struct Filled {
    /// Rows that the server took, by the object id of the table.
    pub(super) rows: BTreeMap<u32, u64>,
    /// Whether something in the dump changed rows in ways that nobody counts.
    pub(super) altered: bool,
}

/// How a load ended.
#[derive(Clone, Debug, Default)]
pub(super) enum Outcome {
    /// All of it was loaded.
    #[default]
    Whole,
    /// Something is wrong with the dump.
    Broken(Finding),
    /// Something kept us from going on.
    Interrupted(String),
}

/// What a load has shown.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// How it ended.
    pub(super) outcome: Outcome,
    /// What else is to be told: gaps, and attempts to reach outside.
    pub(super) findings: Vec<Finding>,
    /// By database.
    pub(super) databases: BTreeMap<String, Filled>,
    /// Roles that the dump made itself.
    pub(super) roles: BTreeSet<String>,
    /// What was supplied from outside the dump.
    pub(super) supplied: Supplied,
    /// Worth knowing.
    pub(super) notes: Vec<String>,
    /// What is not proven in spite of it.
    pub(super) not_verified: BTreeSet<String>,
    /// Statements that were executed.
    pub(super) statements: u64,
    /// Rows that were taken.
    pub(super) rows: u64,
}

impl Loaded {
    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// A dump on its way into a server.
pub(super) struct Job<'a> {
    /// The server.
    pub(super) server: &'a Server<'a>,
    /// The database that it begins in.
    pub(super) database: &'a str,
    /// Where it lies, for findings.
    pub(super) location: &'a str,
    /// Time limit and stop signal.
    pub(super) watch: &'a Watch,
}

/// Loads what `reader` gives.
pub(super) async fn load(job: &Job<'_>, reader: Box<dyn Read + Send>) -> Loaded {
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let thread = std::thread::spawn(move || {
        let mut splitter = Splitter::new(reader);
        loop {
            let piece = splitter.next();
            let last = matches!(piece, Ok(Piece::End(_)) | Err(_));
            if sender.blocking_send(piece).is_err() || last {
                return;
            }
        }
    });
    let witness = Shared::default();
    let mut loader = Loader {
        job,
        client: None,
        database: job.database.to_owned(),
        batch: Vec::new(),
        batch_bytes: 0,
        ids: BTreeMap::new(),
        crew: Crew::new(&witness),
        witness,
        deaf: false,
        restricted: None,
        created_something: false,
        loaded: Loaded::default(),
    };
    let outcome = match loader.pieces(&mut pieces).await {
        Ok(()) => Outcome::Whole,
        Err(stop) => stop,
    };
    loader.loaded.outcome = outcome;
    loader.told(0);
    loader.unused();
    drop(pieces);
    // It ends with the next piece that nobody takes; a panic of it is ours.
    if thread.join().is_err() {
        loader.loaded.outcome = Outcome::Interrupted("the reader of the dump panicked".to_owned());
    }
    loader.loaded
}

struct Loader<'a> {
    job: &'a Job<'a>,
    client: Option<Client>,
    database: String,
    batch: Vec<(u64, Vec<u8>)>,
    batch_bytes: usize,
    /// Object ids of tables by name, as the session sees them now.
    ids: BTreeMap<String, Option<u32>>,
    crew: Crew,
    /// What functions do while it is loaded.
    witness: Shared,
    /// A function has silenced the reports of the server.
    deaf: bool,
    restricted: Option<Vec<u8>>,
    created_something: bool,
    loaded: Loaded,
}

/// What became of a statement that failed.
enum Mended {
    /// Try it again.
    Again,
    /// Try this instead.
    Instead(Vec<u8>),
    /// It does not matter.
    Skip(String),
}

impl Loader<'_> {
    async fn pieces(&mut self, pieces: &mut Pieces) -> Result<(), Outcome> {
        self.connect().await?;
        while let Some(piece) = pieces.recv().await {
            match piece.map_err(|trouble| self.unreadable(trouble))? {
                Piece::Statement { line, text, copy: true } => {
                    self.flush().await?;
                    self.copy(line, &text, pieces).await?;
                }
                Piece::Statement { line, text, copy: false } => self.statement(line, text).await?,
                Piece::Meta { line, text, inside } => {
                    self.flush().await?;
                    self.meta(line, &text, inside).await?;
                }
                Piece::End(end) => {
                    self.flush().await?;
                    return self.end(end);
                }
                Piece::Data(_) | Piece::DataEnd => {}
            }
        }
        Err(Outcome::Interrupted("the reader of the dump ended early".to_owned()))
    }

    async fn connect(&mut self) -> Result<(), Outcome> {
        self.ids.clear();
        self.crew.forget();
        self.client = None;
        let mut settings = witness::SETTINGS.to_vec();
        if self.job.server.major() >= 15 {
            settings.push(("allow_in_place_tablespaces", "on"));
        }
        let connected = self.job.server.connect(&self.database, self.job.watch, &settings).await;
        let mut client = connected.map_err(|failure| {
            Outcome::Interrupted(format!(
                "cannot connect to the database {}: {failure}",
                shown(&self.database, 80)
            ))
        })?;
        client.tell(&self.witness);
        self.client = Some(client);
        self.loaded.databases.entry(self.database.clone()).or_default();
        Ok(())
    }

    fn client(&mut self) -> Result<&mut Client, Outcome> {
        self.client
            .as_mut()
            .ok_or_else(|| Outcome::Interrupted("there is no connection to the server".to_owned()))
    }

    fn filled(&mut self) -> &mut Filled {
        self.loaded.databases.entry(self.database.clone()).or_default()
    }

    // ---- statements ----

    async fn statement(&mut self, line: u64, text: Vec<u8>) -> Result<(), Outcome> {
        if text.contains(&0) {
            return Err(self.broken(line, &Statement::new(&text), "a NUL byte in it"));
        }
        let (batched, insert, work) = {
            let statement = Statement::new(&text);
            if let Some(what) = statement.reaches_out() {
                let finding = self.reach(format!("{what}, on line {line}; it was not executed"));
                self.reached(finding);
                return Ok(());
            }
            witness::with(&self.witness, |witness| {
                witness.learn(&statement);
                witness.views(&statement);
            });
            if statement.alters_rows() {
                self.filled().altered = true;
            }
            self.created_something |= statement.begins(&["create"]);
            if let Some(role) = statement.made_role() {
                self.loaded.roles.insert(role);
            }
            (statement.goes_in_batches(), statement.begins(&["insert"]), Work::of(&statement))
        };
        let open = self.client()?.in_transaction();
        if let Some(work) = work
            && !open
            && self.crew.is_there()
        {
            return self.side_by_side(work, line, text).await;
        }
        self.settle().await?;
        if !batched || open {
            self.flush().await?;
            return self.single(line, text, insert).await;
        }
        self.batch_bytes += text.len();
        self.batch.push((line, text));
        if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Lets the crew do a statement, and goes on.
    async fn side_by_side(&mut self, work: Work, line: u64, text: Vec<u8>) -> Result<(), Outcome> {
        self.flush_batch().await?;
        if self.crew.must_settle(Some(work)) {
            self.settle().await?;
        }
        self.loaded.statements += 1;
        let started = self.crew.start(self.job, &self.database, work, (line, text)).await;
        match started.map_err(|failure| self.lost(line, &failure))? {
            Some((line, text)) => self.again(line, text).await,
            None => Ok(()),
        }
    }

    /// Waits for the crew.
    async fn settle(&mut self) -> Result<(), Outcome> {
        while !self.crew.is_idle() {
            let failed = self.crew.next().await;
            if let Some((line, text)) = failed.map_err(|failure| self.lost(0, &failure))? {
                self.again(line, text).await?;
            }
        }
        Ok(())
    }

    /// Does what the crew could not do.
    async fn again(&mut self, line: u64, text: Vec<u8>) -> Result<(), Outcome> {
        self.loaded.statements -= 1;
        // The lock that it may have waited for in vain is gone when the others are done.
        while !self.crew.is_idle() {
            match self.crew.next().await {
                Ok(None) => {}
                Ok(Some((line, text))) => {
                    self.loaded.statements -= 1;
                    self.single(line, text, false).await?;
                }
                Err(failure) => return Err(self.lost(line, &failure)),
            }
        }
        self.single(line, text, false).await
    }

    /// Sends what was gathered, and waits for everything.
    async fn flush(&mut self) -> Result<(), Outcome> {
        self.settle().await?;
        self.flush_batch().await
    }

    /// Sends what was gathered as one transaction; where that fails, one by one.
    async fn flush_batch(&mut self) -> Result<(), Outcome> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.len() > 1 {
            let mut sql = Vec::new();
            for (_, text) in &batch {
                sql.extend_from_slice(text);
                // A comment at the end of a statement ends with its line.
                sql.extend_from_slice(b"\n;");
            }
            match self.client()?.ask(&sql).await {
                Ok(answer) => {
                    for ((_, text), tag) in batch.iter().zip(&answer.tags) {
                        self.inserted(text, tag).await?;
                    }
                    self.told(batch.first().map_or(0, |(line, _)| *line));
                    self.listen(b"").await?;
                    self.loaded.statements += batch.len() as u64;
                    return Ok(());
                }
                Err(Failure::Refused(error)) if error.severity == "ERROR" => {}
                Err(failure) => return Err(self.lost(batch.first().map_or(0, |(line, _)| *line), &failure)),
            }
        }
        for (line, text) in batch {
            let insert = Statement::new(&text).begins(&["insert"]);
            self.single(line, text, insert).await?;
        }
        Ok(())
    }

    async fn single(&mut self, line: u64, text: Vec<u8>, insert: bool) -> Result<(), Outcome> {
        let mut sql = text;
        for _ in 0..TRIES {
            let open = self.client()?.in_transaction();
            let saved = open && !is_about_transactions(&sql);
            if saved {
                self.quietly("SAVEPOINT firedrill").await?;
            }
            match self.client()?.ask(&sql).await {
                Ok(answer) => {
                    if saved {
                        self.quietly("RELEASE firedrill").await?;
                    }
                    self.told(line);
                    self.loaded.statements += 1;
                    if insert {
                        let tag = answer.tags.first().cloned().unwrap_or_default();
                        self.inserted(&sql, &tag).await?;
                    }
                    return self.afterwards(&sql).await;
                }
                Err(Failure::Refused(error)) if error.severity == "ERROR" => {
                    if saved {
                        self.quietly("ROLLBACK TO firedrill").await?;
                    }
                    match self.mend(line, &sql, &error).await? {
                        Mended::Again => {}
                        Mended::Instead(other) => sql = other,
                        Mended::Skip(note) => {
                            self.loaded.note(note);
                            return Ok(());
                        }
                    }
                }
                Err(failure) => return Err(self.lost(line, &failure)),
            }
        }
        Err(self.broken(line, &Statement::new(&sql), "it fails again and again"))
    }

    async fn quietly(&mut self, sql: &str) -> Result<(), Outcome> {
        match self.client()?.ask(sql).await {
            Ok(_) | Err(Failure::Refused(_)) => Ok(()),
            Err(failure) => Err(self.lost(0, &failure)),
        }
    }

    /// Makes the server report again, if this statement or a function in it may have changed that.
    async fn listen(&mut self, sql: &[u8]) -> Result<(), Outcome> {
        if std::mem::take(&mut self.deaf) || witness::silences(sql) {
            self.quietly(&witness::listen()).await?;
        }
        Ok(())
    }

    /// What has to follow a statement.
    async fn afterwards(&mut self, sql: &[u8]) -> Result<(), Outcome> {
        let statement = Statement::new(sql);
        if statement.begins(&["set"]) || statement.begins(&["select"]) || statement.begins(&["drop"]) {
            self.ids.clear();
        }
        let sets = statement.begins(&["set"]) || statement.begins(&["reset"]);
        if sets || statement.begins(&["select"]) && statement.has(&["set_config"]) {
            self.crew.set(sql);
        }
        self.listen(sql).await?;
        if statement.begins(&["create", "extension"])
            && statement.name_after(2).is_some_and(|name| name == "timescaledb")
        {
            self.quietly("SELECT timescaledb_pre_restore()").await?;
            self.loaded
                .note("timescaledb: loaded between timescaledb_pre_restore() and post_restore()".to_owned());
        }
        Ok(())
    }

    // ---- meta-commands ----

    async fn meta(&mut self, line: u64, text: &[u8], inside: bool) -> Result<(), Outcome> {
        let words = text.trim_ascii();
        let (command, argument) = match words.iter().position(u8::is_ascii_whitespace) {
            Some(at) => words.split_at(at),
            None => (words, &b""[..]),
        };
        let argument = argument.trim_ascii();
        let plain = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric);
        let known = match command {
            _ if inside => false,
            b"\\restrict" if self.restricted.is_none() && plain(argument) => {
                self.restricted = Some(argument.to_vec());
                true
            }
            b"\\unrestrict" if plain(argument) && self.restricted.as_deref() == Some(argument) => {
                self.restricted = None;
                true
            }
            b"\\connect" | b"\\c" => match database(argument) {
                Some(name) => {
                    self.database = name;
                    self.connect().await?;
                    true
                }
                None => false,
            },
            // pg_dumpall writes this.
            b"\\encoding" if plain(argument.strip_prefix(b"SQL_").unwrap_or(argument)) => {
                let name = String::from_utf8_lossy(argument).into_owned();
                self.single(line, format!("SET client_encoding = '{name}'").into_bytes(), false).await?;
                true
            }
            _ => false,
        };
        if known {
            return Ok(());
        }
        // An \unrestrict that was cut is a dump that was cut.
        let cut = command.starts_with(b"\\unr") || b"\\unrestrict".starts_with(command) && command.len() > 1;
        let open = self.restricted.as_deref().is_some_and(|token| token.starts_with(argument));
        if cut && open && !inside {
            return self.end(End::NoMarker("\\unrestrict"));
        }
        Err(Outcome::Broken(Finding::damage(
            "postgres.meta_command",
            self.job.location,
            "SQL, and no command of psql but \\connect and a \\restrict with its \\unrestrict",
            format!("on line {line}: `{}`", shown(&String::from_utf8_lossy(words), 120)),
        )))
    }
}
