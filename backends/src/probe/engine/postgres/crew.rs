//! Connections that make indexes and check foreign keys side by side, as `pg_restore -j` does; psql cannot.
//!
//! What one of them cannot do is done again by the loader itself, one statement after the other: that tells what is
//! wrong, and supplies what is missing.

use tokio::task::JoinSet;

use super::load::Job;
use super::statement::Statement;
use super::wire::{Client, Failure};
use super::witness::{self, Shared};

/// More connections than this help no more.
const CONNECTIONS_MAX: usize = 4;
/// More settings than this are not repeated: then the loader works alone.
const SETTINGS_MAX: usize = 200;

/// Work that can be done side by side with its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Making an index, also for a key.
    Index,
    /// Checking a foreign key, for which keys must be there.
    ForeignKey,
}

impl Work {
    /// What a statement is, if it is such work.
    pub(super) fn of(statement: &Statement<'_>) -> Option<Self> {
        let has = |words: &[&str]| statement.has(words);
        let makes_index =
            statement.begins(&["create", "index"]) || statement.begins(&["create", "unique", "index"]);
        if makes_index && !has(&["concurrently"]) {
            return Some(Self::Index);
        }
        if !statement.begins(&["alter", "table"]) || !has(&["add", "constraint"]) {
            return None;
        }
        if has(&["foreign", "key"]) {
            return Some(Self::ForeignKey);
        }
        (has(&["primary", "key"]) || has(&["unique"])).then_some(Self::Index)
    }
}

/// A statement with the line on which it begins.
pub(super) type Line = (u64, Vec<u8>);

/// What a connection has done.
type Done = (Client, Line, Result<(), Failure>);

/// The connections.
#[derive(Default)]
pub(super) struct Crew {
    running: JoinSet<Done>,
    idle: Vec<Client>,
    work: Option<Work>,
    /// What was set in the session of the loader.
    settings: Vec<Vec<u8>>,
    witness: Shared,
}

impl Crew {
    /// Connections that tell `witness` what they are told.
    pub(super) fn new(witness: &Shared) -> Self {
        Self { witness: Shared::clone(witness), ..Self::default() }
    }

    /// The session of the loader is a new one.
    pub(super) fn forget(&mut self) {
        self.idle.clear();
        self.settings.clear();
    }

    /// What the session of a connection was told to do may no longer be so.
    pub(super) fn let_go(&mut self) {
        self.idle.clear();
    }

    /// The loader has set something.
    pub(super) fn set(&mut self, sql: &[u8]) {
        self.idle.clear();
        self.settings.push(sql.to_vec());
    }

    /// Whether `work` has to wait until everything else is done.
    pub(super) fn must_settle(&self, work: Option<Work>) -> bool {
        !self.running.is_empty() && self.work != work
    }

    /// Whether there is room for more connections than the loader's own.
    pub(super) fn is_there(&self) -> bool {
        self.settings.len() <= SETTINGS_MAX && limit() > 1
    }

    /// Starts a statement. Returns another one that has failed meanwhile, to be done again.
    pub(super) async fn start(
        &mut self,
        job: &Job<'_>,
        database: &str,
        work: Work,
        line: Line,
    ) -> Result<Option<Line>, Failure> {
        let failed = if self.running.len() >= limit() { self.next().await? } else { None };
        self.work = Some(work);
        self.launch(job, database, line).await?;
        Ok(failed)
    }

    async fn launch(&mut self, job: &Job<'_>, database: &str, line: Line) -> Result<(), Failure> {
        let mut client = match self.idle.pop() {
            Some(client) => client,
            None => {
                let mut client = job.server.connect(database, job.watch, &[]).await?;
                for sql in &self.settings {
                    client.ask(sql).await?;
                }
                client.ask(witness::listen()).await?;
                client.tell(&self.witness);
                client
            }
        };
        self.running.spawn(async move {
            let done = client.ask(&line.1).await.map(drop);
            (client, line, done)
        });
        Ok(())
    }

    /// Waits for one statement. Returns it when it failed; `None` also when nothing is running.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Failure> {
        let Some(done) = self.running.join_next().await else { return Ok(None) };
        let (client, line, done) = done.map_err(|error| Failure::Lost(error.to_string()))?;
        match done {
            Ok(()) => {
                self.idle.push(client);
                Ok(None)
            }
            Err(Failure::Refused(error)) if error.severity == "ERROR" => {
                self.idle.push(client);
                Ok(Some(line))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether nothing is running.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }
}

fn limit() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(CONNECTIONS_MAX)
}
