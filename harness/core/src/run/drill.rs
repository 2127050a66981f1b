//! One drill, from lease to release.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Phase};
use crate::finding::{Examination, Finding};
use crate::manifest::Manifest;
use crate::plan::Drill;
use crate::ports::{Lease, LeaseRequest, Order, Probe, Restored};
use crate::progress::Progress;
use crate::snapshot::Snapshot;
use crate::subject::{Earlier, History, Subject};
use crate::watch::Watch;

use super::{Bench, OpenCopy, panic_message};

/// Probes that compare a snapshot with others of its series. Each part of a group is drilled on its own as well,
/// and has them there.
const OF_A_SERIES: [&str; 3] = ["shape", "freshness", "canary"];

/// A drill with all that it needs.
pub(super) struct Task {
    pub(super) drill: Drill,
    pub(super) is_control: bool,
    pub(super) at: Timestamp,
    pub(super) keep: bool,
    pub(super) bytes_max: Option<u64>,
    pub(super) watch: Watch,
    pub(super) lifetime: Duration,
    pub(super) bench: Bench,
}

/// Why a drill ended early.
enum Stop {
    /// Something kept us from going on; it belongs into the evidence.
    Drill(Error),
    /// Evidence cannot be written; the run is over.
    Evidence(Error),
}

impl Task {
    /// Runs the drill. `Err` means that evidence could not be written.
    pub(super) fn execute(self) -> Result<()> {
        match self.drill_it() {
            Ok(()) => Ok(()),
            Err(Stop::Evidence(error)) => Err(error),
            Err(Stop::Drill(error)) => {
                let drill = self.drill.name.clone();
                self.bench.evidence.write(Event::DrillError { drill, error })
            }
        }
    }

    fn drill_it(&self) -> Result<(), Stop> {
        let Some(snapshot) = self.drill.selection.snapshot() else { return Ok(()) };
        let copy = self.bench.copies.get(&self.drill.copy).ok_or_else(|| {
            Stop::Drill(Error::new(ErrorKind::Internal, "find the copy").because(self.drill.copy.to_string()))
        })?;
        self.tell(Event::DrillStarted { drill: self.drill.name.clone() })?;
        self.watch.check().map_err(Stop::Drill)?;
        let start = Instant::now();
        let request = LeaseRequest {
            run: &self.bench.run,
            drill: &self.drill.name,
            lifetime: self.lifetime,
            bytes: snapshot.bytes,
        };
        let lease = self.bench.scratch.provision(&request).map_err(Stop::Drill)?;
        self.phase(Phase::Provision, start.elapsed())?;

        let outcome = self.in_lease(copy, snapshot, &lease);
        // Whatever happened, the lease is given back before the drill ends.
        let kept = lease.release(self.keep && !matches!(outcome, Err(Stop::Evidence(_))));
        outcome?;
        let kept = kept.map_err(Stop::Drill)?;
        self.tell(Event::DrillFinished { drill: self.drill.name.clone(), kept })
    }

    fn in_lease(&self, copy: &OpenCopy, snapshot: &Snapshot, lease: &Lease) -> Result<(), Stop> {
        let restored = match self.drill.parts.is_empty() {
            true => self.restore(copy, snapshot, lease)?,
            false => self.restore_parts(copy, lease)?,
        };
        if self.is_control {
            let injected = (self.bench.sabotage)(lease.data(), &restored.manifest, self.drill.seed)
                .map_err(Stop::Drill)?;
            self.tell(Event::ControlDamaged { drill: self.drill.name.clone(), injected })?;
        }
        let history = if self.is_control { History::default() } else { self.history(copy, snapshot)? };
        let subject = Subject {
            drill: self.drill.clone(),
            snapshot: snapshot.clone(),
            root: lease.data().to_owned(),
            work: lease.work().to_owned(),
            manifest: Arc::clone(&restored.manifest),
            history: Arc::new(history),
            at: self.at,
            watch: self.watch.clone(),
            canary_key: copy.canary_key.clone(),
            lease: lease.id().to_owned(),
            runtime: self.bench.runtime.clone(),
        };
        self.examine(&subject)
    }

    fn restore(&self, copy: &OpenCopy, snapshot: &Snapshot, lease: &Lease) -> Result<Restored, Stop> {
        let mut restored = self.restore_into(copy, snapshot, lease, self.bytes_max).map_err(Stop::Drill)?;
        self.tell_restored(&mut restored)?;
        Ok(restored)
    }

    /// Restores one snapshot after the other, each into a folder of its own, as one.
    fn restore_parts(&self, copy: &OpenCopy, lease: &Lease) -> Result<Restored, Stop> {
        let (mut whole, mut manifest) = (Restored::default(), Manifest::default());
        for part in &self.drill.parts {
            let Some(snapshot) = part.selection.snapshot() else { continue };
            let folder = lease.data().join(&part.target);
            std::fs::create_dir(&folder).map_err(|e| {
                Stop::Drill(Error::new(ErrorKind::Scratch, "make a folder for a part").from_source(&e))
            })?;
            // It ends with the lease that it lies in.
            let place = Lease::new(lease.id().to_owned(), folder, lease.work().to_owned(), |_| Ok(None));
            let left = self.bytes_max.map(|max| max.saturating_sub(whole.bytes));
            let restored = self.restore_into(copy, snapshot, &place, left).map_err(Stop::Drill)?;
            manifest.append_below(&part.target, &restored.manifest);
            whole.add(&part.target, restored);
        }
        whole.manifest = Arc::new(manifest);
        self.tell_restored(&mut whole)?;
        Ok(whole)
    }

    fn restore_into(
        &self,
        copy: &OpenCopy,
        snapshot: &Snapshot,
        lease: &Lease,
        bytes_max: Option<u64>,
    ) -> Result<Restored> {
        let progress = Arc::new(Progress::default());
        (self.bench.observe)(&self.drill.name, Arc::clone(&progress));
        let order = Order {
            drill: &self.drill.name,
            snapshot,
            lease,
            bytes_max,
            progress,
            watch: self.watch.clone(),
        };
        let missing = || Error::new(ErrorKind::Internal, "restore").because("the repository gave no result");
        let mut results = copy.repository.restore(&[order]);
        results.pop().unwrap_or_else(|| Err(missing()))
    }

    fn tell_restored(&self, restored: &mut Restored) -> Result<(), Stop> {
        for (phase, time) in
            [(Phase::Locate, restored.locate), (Phase::Fetch, restored.fetch), (Phase::Write, restored.write)]
        {
            self.phase(phase, time)?;
        }
        for finding in restored.copy_findings.drain(..) {
            self.tell(Event::CopyFinding { copy: self.drill.copy.clone(), finding })?;
        }
        self.tell(Event::Restored {
            drill: self.drill.name.clone(),
            files: restored.files,
            bytes: restored.bytes,
            bytes_read: restored.bytes_read,
            withheld: restored.withheld.clone(),
            findings: restored.findings.clone(),
            findings_omitted: restored.findings_omitted,
        })
    }

    /// The past of the series. It is read outside of all phases: a real restore would not need it.
    ///
    /// Where the run is about a moment of the past, what came after it is no part of the history; what is
    /// dated later than now came from nowhere, and stays.
    fn history(&self, copy: &OpenCopy, snapshot: &Snapshot) -> Result<History, Stop> {
        let mut history = History::default();
        let now = self.bench.evidence.now();
        let came_later = |time: Timestamp| time > self.at && time <= now;
        let hosts = &self.drill.hosts;
        // Where somebody named the hosts that count, what others write under the same tag says nothing.
        let belongs = |s: &&Snapshot| {
            self.drill.series.holds(s) && !came_later(s.time) && (hosts.is_empty() || hosts.contains(&s.host))
        };
        if let Ok(inventory) = &copy.inventory {
            history.series = inventory.snapshots.iter().filter(belongs).cloned().collect();
        }
        let earlier = history.series.iter().rev().filter(|s| (s.time, &s.id) < (snapshot.time, &snapshot.id));
        for snapshot in earlier.take(self.drill.probes.shape.history) {
            let manifest = match copy.repository.manifest(snapshot, &self.watch) {
                Ok((manifest, findings)) if findings.is_empty() => Ok(Arc::new(manifest)),
                Ok((_, findings)) => {
                    self.tell_of_earlier(snapshot, findings)?;
                    Err("its trees are damaged".to_owned())
                }
                Err(error) => Err(error.chain()),
            };
            history.earlier.push(Earlier { snapshot: snapshot.clone(), manifest });
        }
        match self.bench.recalled(&self.drill.copy, &self.drill.series) {
            Ok(baseline) => history.baseline = baseline.filter(|b| !came_later(b.snapshot_time)),
            Err(error) => history.baseline_note = Some(error.chain()),
        }
        Ok(history)
    }

    /// Damage of an earlier snapshot is not this drill's, but the copy's.
    fn tell_of_earlier(&self, snapshot: &Snapshot, findings: Vec<Finding>) -> Result<(), Stop> {
        for finding in findings {
            let location = format!("{} of snapshot {}", finding.location, snapshot.id.short());
            let finding = Finding { location, ..finding };
            self.tell(Event::CopyFinding { copy: self.drill.copy.clone(), finding })?;
        }
        Ok(())
    }

    fn examine(&self, subject: &Subject) -> Result<(), Stop> {
        let start = Instant::now();
        let chosen: Vec<_> =
            self.bench.probes.iter().filter(|probe| self.chooses(probe.as_ref(), subject)).collect();
        self.tell(Event::Recognised {
            drill: self.drill.name.clone(),
            probes: chosen.iter().map(|p| p.name().to_owned()).collect(),
        })?;
        // Time in engines is told apart: it is what a recovery waits for.
        let mut engines = BTreeMap::<Phase, f64>::new();
        for probe in chosen {
            let mut examination =
                catch_unwind(AssertUnwindSafe(|| probe.examine(subject))).unwrap_or_else(|panic| {
                    let mut examination = Examination::new(probe.name(), "items");
                    examination.interrupt(format!("the probe panicked: {}", panic_message(&*panic)));
                    examination
                });
            for (phase, seconds) in examination.engine.iter().flat_map(|engine| &engine.phases) {
                *engines.entry(*phase).or_default() += seconds;
            }
            examination.bound();
            self.tell(Event::Examined { drill: self.drill.name.clone(), examination })?;
        }
        self.watch.check().map_err(Stop::Drill)?;
        let mut rest = start.elapsed();
        for (phase, seconds) in engines {
            let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            self.phase(phase, time)?;
            rest = rest.saturating_sub(time);
        }
        self.phase(Phase::Examine, rest)
    }

    /// Whether `probe` examines. A probe that panics while it recognises is chosen, so that the panic
    /// shows in its examination. The negative control compares trees and nothing else.
    fn chooses(&self, probe: &dyn Probe, subject: &Subject) -> bool {
        if self.is_control {
            return probe.name() == "tree";
        }
        if !self.drill.parts.is_empty() && OF_A_SERIES.contains(&probe.name()) {
            return false;
        }
        self.drill.required.iter().any(|name| name == probe.name())
            || catch_unwind(AssertUnwindSafe(|| probe.recognises(subject))).unwrap_or(true)
    }

    fn phase(&self, phase: Phase, time: Duration) -> Result<(), Stop> {
        self.tell(Event::PhaseFinished { drill: self.drill.name.clone(), phase, seconds: time.as_secs_f64() })
    }

    fn tell(&self, event: Event) -> Result<(), Stop> {
        self.bench.evidence.write(event).map_err(Stop::Evidence)
    }
}
