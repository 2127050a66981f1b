//! SQLite files are intact, complete as far as they can tell, and hold what they held before.
//!
//! *Verified*, on a private copy of the file with the `-wal` and `-journal` of the same snapshot
//! - It has a whole header and all of its pages, and opens.
//! - `PRAGMA integrity_check` (`quick_check` for very large files) says nothing but `ok`.
//! - The write-ahead log belongs to this file, and no committed transaction in it is unreadable.
//! - Expected files, tables, rows and answers to queries are there.
//! - Against the last verified drill: no table vanished, no table lost more than half of its rows, the
//!   schema version did not go backwards, references are not more broken than they were, and the file did
//!   not go back in time when its log is gone.
//!
//! *Not verified*
//! - That the log holds everything that was committed: a log cut at its end, or left out after it was
//!   written, leaves a database that is perfect and a little older. It shows only against the past.
//! - Tables and indexes that need extensions, tokenizers or collations which only their application has.
//! - Encrypted databases: they look like noise, and are not recognised.
//! - Whether the values are right.

mod check;
mod copy;
mod engine;
mod expect;
mod files;
mod header;
mod memory;
pub(crate) mod rows;
mod survey;
#[cfg(test)]
mod tests;
mod wal;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use firedrill_core::digests::Table;
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

use crate::digests::sqlite as digests;

use self::engine::{Engine, Trouble};
use self::files::Files;
use self::header::Header;
use self::memory::Remembered;
use self::survey::{Database, Survey};
use self::wal::Log;

/// At most this many databases are remembered for the next drill.
const REMEMBERED_MAX: usize = 200;
/// At most this many names are given in one sentence.
const NAMES_MAX: usize = 5;

/// Examines every SQLite file.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqliteProbe;

impl Probe for SqliteProbe {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn recognises(&self, subject: &Subject) -> bool {
        if !subject.drill.expectations.sqlite.is_empty() {
            return true;
        }
        let survey = Survey::of(subject, true);
        !survey.databases.is_empty() || !survey.findings.is_empty() || survey.interrupted.is_some()
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut session = Session::new(subject);
        session.run();
        session.settle()
    }
}

/// Why a database could not be examined, or what came of it as a whole.
enum End {
    /// The backup is bad; nothing more can be learnt from this file.
    Bad(Finding),
    /// We could not look; other databases may be luckier.
    Ours(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Ours(error.to_string())
    }
}

struct Session<'a> {
    subject: &'a Subject,
    examination: Examination,
    remembered: BTreeMap<String, Remembered>,
    /// Databases that are in write-ahead mode and came without a log.
    without_log: Vec<String>,
    /// Databases about which nothing is known from before.
    first_time: Vec<String>,
    omitted: u64,
}

impl<'a> Session<'a> {
    fn new(subject: &'a Subject) -> Self {
        Self {
            subject,
            examination: Examination::new("sqlite", "databases"),
            remembered: memory::recall(subject),
            without_log: Vec::new(),
            first_time: Vec::new(),
            omitted: 0,
        }
    }

    fn run(&mut self) {
        expect::find_missing(self.subject, &mut self.examination);
        let survey = Survey::of(self.subject, false);
        self.examination.notes.extend(survey.notes);
        self.mention_vanished();
        for finding in survey.findings {
            self.examination.checked += 1;
            self.examination.find(finding);
        }
        if let Some(reason) = survey.interrupted {
            self.examination.interrupt(reason);
        }
        let mut files = match Files::below(&self.subject.root) {
            Ok(files) => files,
            Err(error) => {
                return self.examination.interrupt(format!("cannot open the restored root: {error}"));
            }
        };
        for database in &survey.databases {
            if let Err(error) = self.subject.watch.check() {
                self.examination.interrupt(error.chain());
                break;
            }
            match self.database(database, &mut files) {
                Ok(()) => self.examination.checked += 1,
                Err(End::Bad(finding)) => {
                    self.examination.checked += 1;
                    self.examination.find(finding);
                }
                Err(End::Ours(reason)) => {
                    self.examination.interrupt(format!("cannot examine {}: {reason}", database.shown));
                }
            }
        }
    }

    /// Whether files may vanish is for the `shape` probe to say.
    fn mention_vanished(&mut self) {
        let mut known: BTreeSet<_> = self.remembered.keys().cloned().collect();
        if !known.is_empty() {
            for entry in self.subject.manifest.entries() {
                known.remove(&entry.display());
            }
        }
        if !known.is_empty() {
            let gone = some_of(&known.into_iter().collect::<Vec<_>>());
            self.examination
                .notes
                .push(format!("databases of the last verified drill that are gone: {gone}"));
        }
    }

    /// Examines one database from its bytes to its rows.
    fn database(&mut self, database: &Database<'_>, files: &mut Files) -> Result<(), End> {
        let shown = &database.shown;
        let header = database.header().map_err(|seen| End::Bad(seen.finding(shown)))?;
        let log = self.log(database, &header, files)?;
        let hot = database.hot_journal(files)?;
        if !log.committed()
            && !hot
            && let Some(seen) = header.truncated(database.size)
        {
            return Err(End::Bad(seen.finding(shown)));
        }
        if hot {
            let note = format!("{shown}: a transaction was under way; its journal was rolled back");
            self.examination.notes.push(note);
        }
        let copy = copy::Copy::of(database, files, self.subject)?;
        let engine = match Engine::open(copy.path(), self.subject) {
            Ok(engine) => engine,
            Err(trouble) => return self.unusable(shown, trouble, "open"),
        };
        let settings = &self.subject.drill.probes.sqlite;
        let quick = database.size > settings.integrity_check_max.0;
        if quick {
            let text = format!("the content of indexes in {shown}: larger than sqlite.integrity_check_max");
            self.examination.not_verified.push(text);
        }
        let state = match check::check(&engine, shown, quick, &mut self.examination) {
            Ok(state) => state,
            Err(trouble) => return self.unusable(shown, trouble, "check"),
        };
        expect::answer(self.subject, database, &engine, &mut self.examination).map_err(End::Ours)?;
        self.compare(database, &header, &log, state)
    }

    /// Turns what the engine said into an end.
    fn unusable(&mut self, shown: &str, trouble: Trouble, doing: &str) -> Result<(), End> {
        match trouble {
            Trouble::Damaged { code, seen } => {
                Err(End::Bad(Finding::damage(code, shown, "a database without errors", seen)))
            }
            Trouble::Unsupported(reason) => {
                let seen = format!("an error when trying to {doing} it: {reason}");
                Err(End::Bad(Finding::damage("sqlite.open", shown, "a database that opens", seen)))
            }
            Trouble::Ours(reason) => Err(End::Ours(reason)),
        }
    }

    /// Reads the write-ahead log and says what is wrong with it.
    fn log(&mut self, database: &Database<'_>, header: &Header, files: &mut Files) -> Result<Log, End> {
        let shown = &database.shown;
        let log = match database.wal {
            Some(entry) => match files.file(&entry.path)? {
                Some(file) => Log::read(file, entry.size, &self.subject.watch)?,
                None => Log::Absent,
            },
            None => Log::Absent,
        };
        let index = database.shared_index(files)?;
        if let Some(seen) = log.wrong_for(header, index.as_ref()) {
            let at = format!("{shown}-wal");
            let expected = "a write-ahead log that belongs to the database and can be read to its end";
            return Err(End::Bad(Finding::damage("sqlite.wal", at, expected, seen)));
        }
        if let Some(note) = log.note() {
            self.examination.notes.push(format!("{shown}-wal: {note}"));
        }
        if header.write_ahead() && !log.present() {
            if let Some(pending) = index.as_ref().and_then(header::SharedIndex::pending) {
                let seen =
                    format!("no -wal, although the -shm knows of {pending} frames that are only there");
                let expected = "the -wal beside the database";
                return Err(End::Bad(Finding::damage("sqlite.wal_missing", shown, expected, seen)));
            }
            if log == Log::Absent {
                self.without_log.push(shown.clone());
            }
        }
        Ok(log)
    }

    /// Compares with the past, and remembers for the future.
    fn compare(
        &mut self,
        database: &Database<'_>,
        header: &Header,
        log: &Log,
        state: check::State,
    ) -> Result<(), End> {
        let shown = &database.shown;
        let now = Remembered::of(&state, log.counter().unwrap_or(header.change_counter), log.committed());
        let before = self.remembered.get(shown);
        if header.write_ahead()
            && let Some(finding) = memory::lost_log(self.subject, database, log, before, &now)
        {
            self.examination.find(finding);
        }
        match before {
            Some(before) => memory::compare(shown, before, &now, &mut self.examination),
            None => {
                self.first_time.push(shown.clone());
                memory::mention(shown, &now, &mut self.examination);
            }
        }
        if self.examination.baseline.len() < REMEMBERED_MAX {
            let value = serde_json::to_value(&now).map_err(|error| End::Ours(error.to_string()))?;
            self.examination.baseline.insert(shown.clone(), value);
        } else {
            self.omitted += 1;
        }
        Ok(())
    }

    fn settle(mut self) -> Examination {
        let examination = &mut self.examination;
        if !self.without_log.is_empty() {
            examination.not_verified.push(format!(
                "whether the latest transactions are in {}: in WAL mode and without a -wal, which is normal \
                 after a clean shutdown and a loss otherwise",
                some_of(&self.without_log)
            ));
        }
        if !self.first_time.is_empty() {
            examination.not_verified.push(format!(
                "rows and schema of {} against the past: no earlier verified drill knows them",
                some_of(&self.first_time)
            ));
        }
        if self.omitted > 0 {
            examination.notes.push(format!(
                "{} databases are not remembered for the next drill: {REMEMBERED_MAX} are",
                self.omitted
            ));
        }
        self.examination
    }
}

/// Why the tables of a database were not measured.
#[derive(Debug)]
pub(crate) enum Unmeasured {
    /// The database is bad.
    Damaged(String),
    /// We could not look.
    Ours(String),
}

/// Measures the tables of the databases at `wanted`, on private copies, and shows each to `seen`. An error is about us.
pub(crate) fn measure(
    subject: &Subject,
    wanted: &BTreeSet<Vec<u8>>,
    mut seen: impl FnMut(&[u8], Result<BTreeMap<String, Table>, Unmeasured>),
) -> Result<(), String> {
    let survey = Survey::of(subject, false);
    let mut files = Files::below(&subject.root).map_err(|error| error.to_string())?;
    for database in survey.databases.iter().filter(|database| wanted.contains(&database.entry.path)) {
        subject.watch.check().map_err(|error| error.chain())?;
        seen(&database.entry.path, measure_one(subject, database, &mut files));
    }
    survey.interrupted.map_or(Ok(()), Err)
}

fn measure_one(
    subject: &Subject,
    database: &Database<'_>,
    files: &mut Files,
) -> Result<BTreeMap<String, Table>, Unmeasured> {
    let trouble = |trouble: Trouble| match trouble {
        Trouble::Damaged { seen, .. } => Unmeasured::Damaged(seen),
        Trouble::Unsupported(why) | Trouble::Ours(why) => Unmeasured::Ours(why),
    };
    let copy =
        copy::Copy::of(database, files, subject).map_err(|error| Unmeasured::Ours(error.to_string()))?;
    let engine = Engine::open(copy.path(), subject).map_err(trouble)?;
    let names = engine.statement(digests::tables).map_err(trouble)?;
    let mut tables = BTreeMap::new();
    for name in names {
        let table = engine.statement(|connection| digests::measure(connection, &name)).map_err(trouble)?;
        tables.insert(name, table);
    }
    Ok(tables)
}

/// The first few names, and how many more there are.
fn some_of(names: &[String]) -> String {
    let first = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES_MAX) {
        None | Some(0) => first,
        Some(more) => format!("{first} and {more} more"),
    }
}
