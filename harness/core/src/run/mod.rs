//! Drills a plan and writes evidence. Decides nothing: what is drilled stands in the plan, and what it
//! proves is the judge's business.

mod drill;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::cell::Runtime;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Injected};
use crate::evidence::Writer;
use crate::finding::Finding;
use crate::manifest::Manifest;
use crate::memory::{Baseline, REPOSITORY_IDENTITY};
use crate::plan::{Drill, DrillName, Plan};
use crate::ports::{Inventory, Probe, Repository, Scratch};
use crate::progress::Progress;
use crate::secret::Secret;
use crate::snapshot::{CopyName, Series};
use crate::watch::Watch;

/// After its time limit a drill gets this long to notice. What does not notice is left behind: its
/// thread ends with the process, its lease with the next sweep.
const GRACE: Duration = if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(10) };
/// Scratch bytes are reserved in units of this size.
const SCRATCH_UNIT: u64 = 1 << 20;

/// Damages a restored lease on purpose and says what must be found.
pub type Sabotage = Arc<dyn Fn(&Path, &Manifest, u64) -> Result<Vec<Injected>> + Send + Sync>;
/// Finds what the last verified drill of a series in a copy left behind.
pub type Recall = Arc<dyn Fn(&CopyName, &Series) -> Result<Option<Baseline>> + Send + Sync>;
/// Is told about the byte counters of each drill that starts.
pub type Observe = Arc<dyn Fn(&DrillName, Arc<Progress>) + Send + Sync>;

/// A copy that was asked for its inventory.
pub struct OpenCopy {
    /// The repository.
    pub repository: Arc<dyn Repository>,
    /// What it said.
    pub inventory: Result<Inventory>,
    /// The key that authenticates its canaries.
    pub canary_key: Option<Secret>,
}

/// Everything that a run works with.
#[derive(Clone)]
pub struct Bench {
    /// The id of the run.
    pub run: String,
    /// The copies.
    pub copies: Arc<BTreeMap<CopyName, OpenCopy>>,
    /// Where drills take place.
    pub scratch: Arc<dyn Scratch>,
    /// Where restored software runs, if it may.
    pub runtime: Option<Arc<dyn Runtime>>,
    /// What looks at restored data.
    pub probes: Arc<Vec<Box<dyn Probe>>>,
    /// The damage of the negative control.
    pub sabotage: Sabotage,
    /// The memory.
    pub recall: Recall,
    /// Who watches.
    pub observe: Observe,
    /// Where the evidence goes.
    pub evidence: Arc<Writer>,
    /// The stop signal.
    pub watch: Watch,
}

impl Bench {
    /// What the memory holds. A memory that panics is one that cannot be read.
    fn recalled(&self, copy: &CopyName, series: &Series) -> Result<Option<Baseline>> {
        catch_unwind(AssertUnwindSafe(|| (self.recall)(copy, series))).unwrap_or_else(|panic| {
            Err(Error::new(ErrorKind::Internal, "remember the last verified drill")
                .because(format!("it panicked: {}", panic_message(&*panic))))
        })
    }
}

/// Drills `plan`. The evidence, whose first line has been written already, gets all the rest. `Err`
/// means that evidence could not be written; everything else that goes wrong is in the evidence.
pub async fn run(plan: &Plan, bench: &Bench) -> Result<()> {
    let start = Instant::now();
    report_copies(plan, bench)?;
    let slots = Arc::new(Semaphore::new(plan.limits.jobs.max(1)));
    let space = Arc::new(Space::new(plan.limits.scratch.map(|s| s.0)));
    let limits = Arc::new(plan.limits.clone());
    let control = plan.control.as_ref().map(|c| &c.drill);
    let mut running = JoinSet::new();
    let mut ended = Ended::default();
    for (drill, is_control) in
        control.map(|d| (d, true)).into_iter().chain(plan.drills.iter().map(|d| (d, false)))
    {
        if drill.selection.snapshot().is_none() {
            continue;
        }
        let slot = Arc::clone(&slots).acquire_owned().await.map_err(closed)?;
        if bench.watch.stopped() {
            break;
        }
        let (reserved, bytes_max) = space.reserve(drill).await?;
        let task = drill::Task {
            drill: drill.clone(),
            is_control,
            at: plan.at,
            keep: limits.keep && !is_control,
            bytes_max,
            watch: bench.watch.within(limits.timeout.map(|t| t.0)),
            lifetime: limits
                .timeout
                .map_or(Duration::from_secs(7 * 86_400), |t| t.0.saturating_add(Duration::from_secs(3600))),
            bench: bench.clone(),
        };
        running.spawn(async move {
            let result = bounded(task).await;
            drop((slot, reserved));
            result
        });
        while let Some(done) = running.try_join_next() {
            ended.add(done, bench);
        }
    }
    while let Some(done) = running.join_next().await {
        ended.add(done, bench);
    }
    if let Some(error) = ended.broken {
        return Err(error);
    }
    if bench.watch.stopped() {
        bench.evidence.write(Event::Interrupted { reason: "it was told to stop".to_owned() })?;
    }
    bench.evidence.write(Event::RunFinished { seconds: start.elapsed().as_secs_f64() })?;
    bench.evidence.sync()
}

/// What drills ended with.
#[derive(Default)]
struct Ended {
    /// Why evidence cannot be written.
    broken: Option<Error>,
}

impl Ended {
    /// Without evidence a run proves nothing: the other drills are stopped, and give their leases back.
    fn add(&mut self, done: std::result::Result<Result<()>, tokio::task::JoinError>, bench: &Bench) {
        if let Err(error) = done.unwrap_or_else(|e| Err(joined(e))) {
            self.broken.get_or_insert(error);
            bench.watch.stop();
        }
    }
}

fn report_copies(plan: &Plan, bench: &Bench) -> Result<()> {
    for (name, copy) in bench.copies.iter() {
        let copy_name = || name.clone();
        match &copy.inventory {
            Ok(inventory) => {
                if inventory.readable {
                    let facts = inventory.facts.clone();
                    bench.evidence.write(Event::CopyOpened { copy: copy_name(), facts })?;
                }
                let other = stranger(plan, name, inventory, bench);
                for finding in inventory.findings.iter().cloned().chain(other) {
                    bench.evidence.write(Event::CopyFinding { copy: copy_name(), finding })?;
                }
            }
            Err(error) => {
                bench.evidence.write(Event::CopyError { copy: copy_name(), error: error.clone() })?
            }
        }
    }
    Ok(())
}

/// A copy that was initialised anew holds another repository under the same address: everything in it may be
/// intact, and everything that was proven before is gone.
fn stranger(plan: &Plan, copy: &CopyName, inventory: &Inventory, bench: &Bench) -> Option<Finding> {
    let seen = &inventory.facts.repository;
    let drills = plan.drills.iter().filter(|d| &d.copy == copy && inventory.readable);
    // A baseline that cannot be read is told by the drill that needs it.
    let mut known = drills.filter_map(|d| bench.recalled(copy, &d.series).ok().flatten());
    known.find(|known| &known.repository != seen).map(|known| {
        Finding::anomaly(
            REPOSITORY_IDENTITY,
            "config",
            format!("the repository that was proven before, {}", short(&known.repository)),
            format!(
                "another one, {} (if that was meant: firedrill baselines --drop-copy {copy})",
                short(seen)
            ),
        )
    })
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Runs a drill on a thread of its own, where panics and hangs stay contained.
async fn bounded(task: drill::Task) -> Result<()> {
    let (name, evidence, watch) =
        (task.drill.name.clone(), Arc::clone(&task.bench.evidence), task.watch.clone());
    let mut work = tokio::task::spawn_blocking(move || task.execute());
    let overdue = async {
        loop {
            // A stop may come at any time; a deadline is known.
            let left = watch.left().unwrap_or(Duration::MAX);
            if watch.stopped() || left.is_zero() {
                tokio::time::sleep(GRACE).await;
                return;
            }
            tokio::time::sleep(left.min(Duration::from_millis(200))).await;
        }
    };
    let error = tokio::select! {
        done = &mut work => match done {
            Ok(result) => return result,
            Err(e) => joined(e),
        },
        () = overdue => watch.check().err().unwrap_or_else(|| watch.timed_out()).because(
            "the drill did not notice and was left behind",
        ),
    };
    evidence.write(Event::DrillError { drill: name, error })
}

/// Scratch bytes that are promised to drills.
struct Space {
    bytes: Option<u64>,
    units: Arc<Semaphore>,
    all: u32,
}

impl Space {
    fn new(bytes: Option<u64>) -> Self {
        let units = bytes.map_or(1, |b| b.div_ceil(SCRATCH_UNIT).max(1));
        // More units than a semaphore can count is as good as no limit for planning.
        let all = u32::try_from(units).unwrap_or(u32::MAX >> 4).min(u32::MAX >> 4);
        Self { bytes, units: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Waits until the bytes of `drill` fit beside the others, and says how many it may write. A drill of
    /// unknown or too large size gets all there is, alone.
    async fn reserve(&self, drill: &Drill) -> Result<(Option<OwnedSemaphorePermit>, Option<u64>)> {
        let Some(bytes) = self.bytes else { return Ok((None, None)) };
        let known = drill.selection.snapshot().and_then(|s| s.bytes);
        let units = known.map_or(self.all, |b| u32::try_from(b.div_ceil(SCRATCH_UNIT)).unwrap_or(self.all));
        let units = units.clamp(1, self.all);
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await.map_err(closed)?;
        let own = if units == self.all { bytes } else { u64::from(units) * SCRATCH_UNIT };
        Ok((Some(permit), Some(own)))
    }
}

fn closed(_: tokio::sync::AcquireError) -> Error {
    Error::new(ErrorKind::Internal, "start a drill").because("a semaphore was closed")
}

fn joined(error: tokio::task::JoinError) -> Error {
    let cause = match error.try_into_panic() {
        Ok(panic) => format!("it panicked: {}", panic_message(&*panic)),
        Err(error) => error.to_string(),
    };
    Error::new(ErrorKind::Internal, "finish the drill")
        .because(cause)
        .advise("this is a bug in firedrill or in a library it uses; please report it")
}

/// What a panic said.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
