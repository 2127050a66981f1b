//! One examination with an engine: whether there is one, its cells, its phases.

use std::time::{Duration, Instant};

use firedrill_core::cell::{Cell, CellRequest, EngineFacts, Kit};
use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::event::Phase;
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::subject::Subject;

/// A cell lives at most this long where the drill has no time limit.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Whether software is there for `kit`. `Err` says why not.
pub(crate) fn offered(subject: &Subject, kit: &Kit) -> Result<(), String> {
    match &subject.runtime {
        None => Err("the config lets nothing restored be started (`runtime: off`)".to_owned()),
        Some(runtime) => runtime.offers(kit).map(drop).map_err(|e| e.chain()),
    }
}

/// Whether a probe has to examine although there may be no engine: then it says so, and the drill is
/// inconclusive. Otherwise a probe without an engine does not recognise anything, and what the structure probes
/// leave unproven stands in their examinations.
pub(crate) fn demanded(subject: &Subject) -> bool {
    subject.drill.expectations.load
}

/// One examination with an engine.
pub(crate) struct Session<'s> {
    pub(crate) subject: &'s Subject,
    pub(crate) examination: Examination,
    facts: EngineFacts,
    cells: u32,
    /// Whether no recovery waits for what is done now.
    aside: bool,
}

impl<'s> Session<'s> {
    /// An examination by `probe` that has started nothing yet. `unit` is what it counts, plural.
    pub(crate) fn new(subject: &'s Subject, probe: &str, unit: &str) -> Self {
        Self {
            subject,
            examination: Examination::new(probe, unit),
            facts: EngineFacts::default(),
            cells: 0,
            aside: false,
        }
    }

    /// Opens a sealed cell with this software. `None`: there is none, or its seal does not hold; that is on record,
    /// as an interruption.
    pub(crate) fn open(&mut self, kits: &[Kit]) -> Option<Box<dyn Cell>> {
        let start = Instant::now();
        let cell = self.cell(kits, &[]);
        self.spent(Phase::Start, start.elapsed());
        cell.map_err(|error| self.trouble(&error)).ok()
    }

    /// Opens a sealed cell with this software, in which `aliases` mean itself. Its time is counted by the caller.
    pub(crate) fn cell(&mut self, kits: &[Kit], aliases: &[String]) -> Result<Box<dyn Cell>, Error> {
        let runtime = self.subject.runtime.clone().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "open a cell")
                .because("the config lets nothing restored be started (`runtime: off`)")
        })?;
        self.cells += 1;
        let work = self.subject.work.join(format!("{}-cell-{}", self.examination.probe, self.cells));
        let cell = runtime.open(&CellRequest {
            lease: &self.subject.lease,
            work: &work,
            kits,
            aliases,
            lifetime: self.subject.watch.left().unwrap_or(LIFETIME).min(LIFETIME),
            watch: self.subject.watch.clone(),
        })?;
        self.facts.cells.push(cell.facts().clone());
        Ok(cell)
    }

    /// Does `what`, and counts its time as part of `phase`.
    pub(crate) fn timed<T>(&mut self, phase: Phase, what: impl FnOnce(&mut Self) -> T) -> T {
        let start = Instant::now();
        let done = what(self);
        self.spent(phase, start.elapsed());
        done
    }

    /// Does `what`, for which no recovery waits: another probe does the same, and its time counts.
    pub(crate) fn aside<T>(&mut self, what: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.aside, true);
        let done = what(self);
        self.aside = before;
        done
    }

    /// Counts time as part of `phase`.
    pub(crate) fn spent(&mut self, phase: Phase, time: Duration) {
        let phase = if self.aside { Phase::Verify } else { phase };
        *self.facts.phases.entry(phase).or_default() += time.as_secs_f64();
    }

    /// Something kept us from looking.
    pub(crate) fn trouble(&mut self, error: &Error) {
        self.examination.interrupt(error.chain());
    }

    /// Worth knowing.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.examination.notes.push(note.into());
    }

    /// Something is wrong with the backup.
    pub(crate) fn find(&mut self, finding: Finding) {
        self.examination.find(finding);
    }

    /// The examination, with what is known of the engines.
    pub(crate) fn finish(mut self) -> Examination {
        if !self.facts.cells.is_empty() {
            self.examination.engine = Some(self.facts);
        }
        self.examination
    }
}
