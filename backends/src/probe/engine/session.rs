//! One examination with an engine: whether there is one, its cells, its phases.

use std::time::{Duration, Instant};

use firedrill_core::cell::{Cell, CellRequest, EngineFacts, Kit, Runtime};
use firedrill_core::error::Error;
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
}

impl<'s> Session<'s> {
    /// An examination by `probe` that has started nothing yet. `unit` is what it counts, plural.
    pub(crate) fn new(subject: &'s Subject, probe: &str, unit: &str) -> Self {
        Self { subject, examination: Examination::new(probe, unit), facts: EngineFacts::default(), cells: 0 }
    }

    /// Opens a sealed cell with this software. `None`: there is none, or its seal does not hold; that is on record,
    /// as an interruption.
    pub(crate) fn open(&mut self, kits: &[Kit]) -> Option<Box<dyn Cell>> {
        let Some(runtime) = self.subject.runtime.clone() else {
            self.examination.interrupt("the config lets nothing restored be started (`runtime: off`)");
            return None;
        };
        let start = Instant::now();
        let cell = self.try_open(runtime.as_ref(), kits);
        self.spent(Phase::Start, start.elapsed());
        match cell {
            Ok(cell) => {
                self.facts.cells.push(cell.facts().clone());
                Some(cell)
            }
            Err(error) => {
                self.trouble(&error);
                None
            }
        }
    }

    fn try_open(&mut self, runtime: &dyn Runtime, kits: &[Kit]) -> Result<Box<dyn Cell>, Error> {
        self.cells += 1;
        let work = self.subject.work.join(format!("{}-cell-{}", self.examination.probe, self.cells));
        runtime.open(&CellRequest {
            lease: &self.subject.lease,
            work: &work,
            kits,
            aliases: &[],
            lifetime: self.subject.watch.left().unwrap_or(LIFETIME).min(LIFETIME),
            watch: self.subject.watch.clone(),
        })
    }

    /// Does `what`, and counts its time as part of `phase`.
    pub(crate) fn timed<T>(&mut self, phase: Phase, what: impl FnOnce(&mut Self) -> T) -> T {
        let start = Instant::now();
        let done = what(self);
        self.spent(phase, start.elapsed());
        done
    }

    /// Counts time as part of `phase`.
    pub(crate) fn spent(&mut self, phase: Phase, time: Duration) {
        *self.facts.phases.entry(phase).or_default() += time.as_secs_f64();
    }

    /// Something kept us from looking.
    pub(crate) fn trouble(&mut self, error: &Error) {
        self.examination.interrupt(error.chain());
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
