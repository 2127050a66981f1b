//! Finds the databases: by their first bytes, and by names and memories that claim one.

use std::collections::{HashMap, HashSet};
use std::io;

use firedrill_core::finding::Finding;
use firedrill_core::manifest::Entry;
use firedrill_core::subject::Subject;
use jiff::SignedDuration;

use super::files::Files;
use super::header::{Bad, HEADER, Header, MAGIC, SHARED_INDEX, SharedIndex, hot_journal};
use super::{expect, memory, some_of};

/// A shared index that is so much older than what it is about says nothing about it.
const STALE_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// A file that starts like a database, with what lies beside it.
pub(super) struct Database<'m> {
    pub(super) entry: &'m Entry,
    pub(super) shown: String,
    pub(super) size: u64,
    start: Vec<u8>,
    pub(super) wal: Option<&'m Entry>,
    pub(super) journal: Option<&'m Entry>,
    shm: Option<&'m Entry>,
}

impl Database<'_> {
    pub(super) fn header(&self) -> Result<Header, Bad> {
        Header::parse(&self.start, self.size)
    }

    /// Whether a transaction was under way.
    pub(super) fn hot_journal(&self, files: &mut Files) -> io::Result<bool> {
        let Some(journal) = self.journal else { return Ok(false) };
        Ok(files.start(&journal.path, 28)?.as_deref().and_then(hot_journal).is_some())
    }

    pub(super) fn shared_index(&self, files: &mut Files) -> io::Result<Option<SharedIndex>> {
        let Some(shm) = self.shm else { return Ok(None) };
        if self.shm_is_stale(shm) {
            return Ok(None);
        }
        Ok(files.start(&shm.path, SHARED_INDEX)?.as_deref().and_then(SharedIndex::parse))
    }

    /// The index is mapped into memory, and its time can stand still while it changes. A backup program that
    /// goes by times then stores an index of long ago, which knows nothing about this database.
    fn shm_is_stale(&self, shm: &Entry) -> bool {
        let written = [Some(self.entry), self.wal].into_iter().flatten().filter_map(|e| e.mtime).max();
        shm.mtime.zip(written).is_some_and(|(shm, written)| written.duration_since(shm) > STALE_AFTER)
    }
}

/// What was found.
#[derive(Default)]
pub(super) struct Survey<'m> {
    pub(super) databases: Vec<Database<'m>>,
    /// Files that should be databases and are not.
    pub(super) findings: Vec<Finding>,
    pub(super) notes: Vec<String>,
    pub(super) interrupted: Option<String>,
}

/// What else than its content says that a file is a database.
struct Claims<'a> {
    expected: HashSet<Vec<u8>>,
    remembered: HashSet<String>,
    /// Paths with a database's name that held something in an earlier snapshot.
    filled: HashSet<&'a [u8]>,
    /// Logs and journals by path.
    beside: HashMap<&'a [u8], &'a Entry>,
}

impl<'m> Survey<'m> {
    /// Looks at every regular file; with `first` only until something is found.
    pub(super) fn of(subject: &'m Subject, first: bool) -> Self {
        let mut survey = Self::default();
        let claims = Claims::of(subject);
        let mut files = match Files::below(&subject.root) {
            Ok(files) => files,
            Err(error) => {
                survey.interrupted = Some(format!("cannot open the restored root: {error}"));
                return survey;
            }
        };
        let (mut empty, mut other) = (Vec::new(), Vec::new());
        for entry in subject.manifest.files().filter(|e| e.read_error.is_none()) {
            if let Err(error) = subject.watch.check() {
                survey.interrupted = Some(error.chain());
                break;
            }
            match survey.look(entry, &claims, &mut files) {
                Ok(Look::Taken) if first => break,
                Ok(Look::Empty) => empty.push(entry.display()),
                Ok(Look::Other) => other.push(entry.display()),
                Ok(Look::Taken | Look::Nothing) => {}
                Err(error) => {
                    survey.interrupted = Some(format!("cannot read {}: {error}", entry.display()));
                }
            }
        }
        if !empty.is_empty() {
            survey.notes.push(format!("named like databases and empty: {}", some_of(&empty)));
        }
        if !other.is_empty() {
            survey.notes.push(format!("named like databases and not SQLite: {}", some_of(&other)));
        }
        survey.mention_orphans(subject, &claims);
        survey
    }

    fn look(&mut self, entry: &'m Entry, claims: &Claims<'m>, files: &mut Files) -> io::Result<Look> {
        if entry.size == 0 {
            return self.look_at_empty(entry, claims, files);
        }
        let Some(start) = files.start(&entry.path, HEADER)? else { return Ok(Look::Nothing) };
        if start.starts_with(MAGIC) {
            let Some(file) = files.file(&entry.path)? else { return Ok(Look::Nothing) };
            self.databases.push(Database {
                entry,
                shown: entry.display(),
                size: file.metadata()?.len(),
                start,
                wal: claims.beside(entry, b"-wal"),
                journal: claims.beside(entry, b"-journal"),
                shm: claims.beside(entry, b"-shm"),
            });
            return Ok(Look::Taken);
        }
        if let Some(why) = claims.who_says(entry) {
            let expected = format!("a SQLite database: {why}");
            let seen = "a file that does not start like one";
            self.findings.push(Finding::damage("sqlite.not_a_database", entry.display(), expected, seen));
            return Ok(Look::Taken);
        }
        Ok(if is_database_name(entry.name()) { Look::Other } else { Look::Nothing })
    }

    /// Applications do create empty files with such names. It is a loss only where there was something.
    fn look_at_empty(
        &mut self,
        entry: &'m Entry,
        claims: &Claims<'m>,
        files: &mut Files,
    ) -> io::Result<Look> {
        let filled = || claims.filled.contains(entry.path.as_slice());
        let why = claims
            .who_says(entry)
            .or_else(|| filled().then_some("an earlier snapshot holds something here"))
            .map(str::to_owned);
        let why = match why {
            Some(why) => Some(why),
            None => claims.log_of_something(entry, files)?,
        };
        match why {
            Some(why) => {
                let expected = format!("a database: {why}");
                self.findings.push(Finding::damage("sqlite.empty", entry.display(), expected, "0 bytes"));
                Ok(Look::Taken)
            }
            None if is_database_name(entry.name()) => Ok(Look::Empty),
            None => Ok(Look::Nothing),
        }
    }

    /// Logs whose database is not in the snapshot.
    fn mention_orphans(&mut self, subject: &Subject, claims: &Claims<'m>) {
        let mut orphans: HashMap<&[u8], &Entry> = claims
            .beside
            .iter()
            .filter(|(path, entry)| path.ends_with(b"-wal") && entry.size > 0)
            .filter_map(|(path, entry)| Some((path.strip_suffix(b"-wal")?, *entry)))
            .collect();
        if orphans.is_empty() {
            return;
        }
        for entry in subject.manifest.entries() {
            orphans.remove(entry.path.as_slice());
        }
        let mut names: Vec<_> = orphans.values().map(|entry| entry.display()).collect();
        names.sort();
        if !names.is_empty() {
            self.notes.push(format!("write-ahead logs without a database: {}", some_of(&names)));
        }
    }
}

/// What a file turned out to be.
enum Look {
    /// A database, or a finding.
    Taken,
    /// Empty, with a database's name.
    Empty,
    /// Something else, with a database's name.
    Other,
    /// Nothing of interest.
    Nothing,
}

impl<'m> Claims<'m> {
    fn of(subject: &'m Subject) -> Self {
        let mut filled = HashSet::new();
        for earlier in &subject.history.earlier {
            let Ok(manifest) = &earlier.manifest else { continue };
            let named = manifest.files().filter(|e| e.size > 0 && is_database_name(e.name()));
            filled.extend(named.map(|e| e.path.as_slice()));
        }
        let beside = subject.manifest.files().filter(|e| is_beside(e.name()));
        Self {
            expected: expect::paths(subject),
            remembered: memory::recall(subject).into_keys().collect(),
            filled,
            beside: beside.map(|e| (e.path.as_slice(), e)).collect(),
        }
    }

    fn who_says(&self, entry: &Entry) -> Option<&'static str> {
        if self.expected.contains(&entry.path) {
            Some("the expectations name it")
        } else if !self.remembered.is_empty() && self.remembered.contains(&entry.display()) {
            Some("the last verified drill found one here")
        } else {
            None
        }
    }

    fn beside(&self, entry: &Entry, suffix: &[u8]) -> Option<&'m Entry> {
        let path = [entry.path.as_slice(), suffix].concat();
        self.beside.get(path.as_slice()).copied()
    }

    /// A log or a journal beside an empty file that speaks of content.
    fn log_of_something(&self, entry: &Entry, files: &mut Files) -> io::Result<Option<String>> {
        if let Some(wal) = self.beside(entry, b"-wal") {
            let magic = files.start(&wal.path, 4)?.unwrap_or_default();
            if matches!(magic.as_slice(), [0x37, 0x7f, 0x06, 0x82 | 0x83]) {
                return Ok(Some("it has a write-ahead log".to_owned()));
            }
        }
        if let Some(journal) = self.beside(entry, b"-journal") {
            // A database that is just being made has a journal as well: for going back to no pages.
            let pages = files.start(&journal.path, 28)?.as_deref().and_then(hot_journal);
            if let Some(pages) = pages.filter(|pages| *pages > 0) {
                return Ok(Some(format!("its journal goes back to {pages} pages")));
            }
        }
        Ok(None)
    }
}

fn is_beside(name: &[u8]) -> bool {
    [b"-wal".as_slice(), b"-journal", b"-shm"].iter().any(|suffix| name.ends_with(suffix))
}

/// Whether a name claims that the file is a database.
fn is_database_name(name: &[u8]) -> bool {
    let Some(dot) = name.iter().rposition(|b| *b == b'.') else { return false };
    let extension = name.get(dot + 1..).unwrap_or_default().to_ascii_lowercase();
    matches!(extension.as_slice(), b"db" | b"sqlite" | b"sqlite3" | b"db3")
}
