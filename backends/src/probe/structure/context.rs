//! One examination: what was found, noted and interrupted, and the bounds that hold while reading.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::subject::Subject;
use firedrill_core::watch::Watch;

use super::Format;
use super::claim::is_test_data;
use super::history::Facts;
use crate::probe::bases::Named;

/// At most this many bytes are decompressed per file, all layers together. A stream can grow a
/// thousandfold per layer, and sparse files do so honestly, so a ratio says nothing; what must be
/// bounded is the work. Few dumps are larger, and the time limit of the drill is usually met first.
pub(super) const DECODED_MAX: u64 = if cfg!(test) { 64 << 20 } else { 1 << 40 };

/// At most this many notes are kept; the rest is counted.
const NOTES_MAX: usize = 40;

/// The reason is on record already (as a finding or as an interruption): whoever sees this has only to
/// stop. It travels through decoders as the payload of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("already reported")]
struct Reported;

/// The error to return after the reason was recorded.
pub(super) fn reported() -> io::Error {
    io::Error::other(Reported)
}

/// Whether `error` came from a deeper layer that has recorded it.
pub(super) fn is_reported(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Reported>())
}

/// One examination by one probe.
pub(super) struct Context<'s> {
    pub(super) watch: &'s Watch,
    pub(super) work: &'s Path,
    pub(super) format: Format,
    examination: RefCell<Examination>,
    left_out: RefCell<BTreeSet<String>>,
    notes_omitted: Cell<u64>,
    decoded_left: Cell<u64>,
    halted: Cell<bool>,
    /// Whether there are several streams of MariaDB, so that one may build on another.
    pub(super) several_streams: bool,
    /// The file lies where broken archives are kept on purpose.
    test_data: Cell<bool>,
    facts: RefCell<Facts>,
}

impl<'s> Context<'s> {
    pub(super) fn new(subject: &'s Subject, format: Format) -> Self {
        Self {
            watch: &subject.watch,
            work: &subject.work,
            format,
            examination: RefCell::new(Examination::new(format.name(), "files")),
            left_out: RefCell::new(BTreeSet::from([format.not_verified().to_owned()])),
            notes_omitted: Cell::new(0),
            decoded_left: Cell::new(DECODED_MAX),
            halted: Cell::new(false),
            several_streams: subject.manifest.entries().iter().filter(|e| is_stream(e.name())).count() > 1,
            test_data: Cell::new(false),
            facts: RefCell::new(Facts::default()),
        }
    }

    pub(super) fn find(&self, finding: Finding) {
        let container = Format::CONTAINERS
            .iter()
            .any(|format| finding.code.strip_prefix(format.name()).is_some_and(|rest| rest.starts_with('.')));
        if self.test_data.get() && container {
            return self.note(format!("{}, among test data: {}", finding.location, finding.seen));
        }
        self.examination.borrow_mut().find(finding);
    }

    pub(super) fn damage(&self, code: &str, at: &str, expected: impl Into<String>, seen: impl Into<String>) {
        self.find(Finding::damage(code, at, expected, seen));
    }

    pub(super) fn anomaly(&self, code: &str, at: &str, expected: impl Into<String>, seen: impl Into<String>) {
        self.find(Finding::anomaly(code, at, expected, seen));
    }

    pub(super) fn note(&self, note: impl Into<String>) {
        let mut examination = self.examination.borrow_mut();
        if examination.notes.len() < NOTES_MAX {
            examination.notes.push(note.into());
        } else {
            self.notes_omitted.set(self.notes_omitted.get() + 1);
        }
    }

    /// Says what this examination leaves unproven; the same text is kept once.
    pub(super) fn leave_out(&self, what: impl Into<String>) {
        let mut left_out = self.left_out.borrow_mut();
        if left_out.len() < NOTES_MAX {
            left_out.insert(what.into());
        }
    }

    /// Something kept us from looking: the examination is incomplete, and this file is given up.
    pub(super) fn interrupt(&self, reason: impl Into<String>) {
        self.examination.borrow_mut().interrupt(reason);
        self.halted.set(true);
    }

    /// Starts the next file. Programs bring broken archives along to test themselves with: among their
    /// test data a damaged container is noted, not filed.
    pub(super) fn begin_file(&self, name: Named<'_>) {
        self.test_data.set(is_test_data(name));
        self.halted.set(false);
        self.decoded_left.set(DECODED_MAX);
    }

    /// The file holds a dump: wherever it lies, it is no test data of a program.
    pub(super) fn saw_a_dump(&self) {
        self.test_data.set(false);
    }

    /// Counts the file as examined, unless it was given up.
    pub(super) fn end_file(&self) {
        if !self.halted.get() {
            self.examination.borrow_mut().checked += 1;
        }
    }

    /// Asked before each read of any layer.
    pub(super) fn proceed(&self) -> io::Result<()> {
        if self.halted.get() {
            return Err(reported());
        }
        if let Err(error) = self.watch.check() {
            self.interrupt(error.chain());
            return Err(reported());
        }
        Ok(())
    }

    /// Counts decompressed bytes against the bound of the file at `location`.
    pub(super) fn decoded(&self, bytes: usize, location: &str) -> io::Result<()> {
        match self.decoded_left.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.decoded_left.set(left);
                Ok(())
            }
            None => {
                self.interrupt(format!("{location} grows beyond {DECODED_MAX} bytes when decompressed"));
                Err(reported())
            }
        }
    }

    /// What was learnt for the next drill.
    pub(super) fn facts(&self) -> std::cell::RefMut<'_, Facts> {
        self.facts.borrow_mut()
    }

    pub(super) fn finish(self) -> Examination {
        let mut examination = self.examination.into_inner();
        examination.not_verified.extend(self.left_out.into_inner());
        if self.notes_omitted.get() > 0 {
            examination.notes.push(format!("and {} more notes", self.notes_omitted.get()));
        }
        let facts = self.facts.into_inner();
        examination.recovery_point = facts.recovery_point();
        examination.baseline = facts.into_baseline();
        examination
    }
}

/// Whether a name is one that streams of MariaDB have.
fn is_stream(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    [".xb", "xbstream", "mbstream"].iter().any(|part| name.contains(part))
}
