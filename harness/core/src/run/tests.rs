//! A run in which something breaks: a probe, a library, scratch, the evidence itself. Whatever it is, the
//! run ends in time, gives back what it took, proves nothing that it did not see, and goes on with the rest.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Bench, OpenCopy, run};
use crate::clock::{Clock, SimulatedClock};
use crate::config::units::{Size, Span};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{CopyFacts, Event, Injected};
use crate::evidence::{self, Writer};
use crate::finding::{Examination, Finding};
use crate::judge::{Judgement, judge};
use crate::manifest::Manifest;
use crate::plan::{Control, Drill, DrillName, Limits, Plan, PlannedCopy, Selection};
use crate::ports::{Inventory, Lease, LeaseRequest, Order, Probe, Repository, Restored, Scratch, Swept};
use crate::snapshot::{CopyName, Series, Snapshot, SnapshotId};
use crate::subject::Subject;
use crate::verdict::{Exit, Verdict};
use crate::watch::Watch;

const TIMEOUT: Duration = Duration::from_millis(300);
/// Limit, grace, and what a busy machine adds.
const IN_TIME: Duration = Duration::from_secs(10);

/// What goes wrong, and where. Drills of `bad` meet it, drills of `good` do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trouble {
    #[default]
    Nothing,
    RestorePanics,
    RestoreHangs,
    RestoreFails,
    RestoreGivesNothing,
    RestoreFinds,
    ManifestPanics,
    RecognitionPanics,
    ProbePanics,
    ProbeHangs,
    ProbeSeesNothing,
    NoScratch,
    ScratchPanics,
    ScratchStays,
    RecallPanics,
    ObserverPanics,
    SabotagePanics,
}

/// Set when a test is over, so that what hangs can end.
#[derive(Clone, Default)]
struct Over(Arc<AtomicBool>);

impl Over {
    fn hang(&self) {
        while !self.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

struct FakeRepository(Trouble, Over);

impl Repository for FakeRepository {
    fn snapshots(&self, _: &Watch) -> Result<Inventory> {
        Ok(Inventory::default())
    }

    fn manifest(&self, _: &Snapshot, _: &Watch) -> Result<(Manifest, Vec<Finding>)> {
        assert_ne!(self.0, Trouble::ManifestPanics, "the manifest");
        Ok((Manifest::default(), Vec::new()))
    }

    fn restore(&self, orders: &[Order<'_>]) -> Vec<Result<Restored>> {
        if is_bad(orders[0].drill) {
            match self.0 {
                Trouble::RestorePanics => panic!("the library met what it did not expect"),
                Trouble::RestoreHangs => self.1.hang(),
                Trouble::RestoreGivesNothing => return Vec::new(),
                Trouble::RestoreFails => {
                    return vec![Err(Error::new(ErrorKind::Scratch, "write to scratch"))];
                }
                Trouble::RestoreFinds => {
                    let findings = vec![Finding::damage("restore.content", "file", "content", "none")];
                    return vec![Ok(Restored { findings, ..Restored::default() })];
                }
                _ => {}
            }
        }
        orders.iter().map(|_| Ok(Restored::default())).collect()
    }
}

fn is_bad(drill: &DrillName) -> bool {
    drill.0.contains("bad")
}

struct FakeProbe(&'static str, Trouble, Over);

impl Probe for FakeProbe {
    fn name(&self) -> &'static str {
        self.0
    }

    fn recognises(&self, subject: &Subject) -> bool {
        if self.1 == Trouble::RecognitionPanics && is_bad(&subject.drill.name) {
            panic!("what is this");
        }
        true
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut examination = Examination { checked: 7, ..Examination::new(self.0, "entries") };
        if is_bad(&subject.drill.name) {
            match self.1 {
                Trouble::ProbePanics | Trouble::RecognitionPanics => panic!("a hostile file"),
                Trouble::ProbeHangs => self.2.hang(),
                Trouble::ProbeSeesNothing => examination.checked = 0,
                _ => {}
            }
        }
        examination
    }
}

#[derive(Default)]
struct Leases {
    made: AtomicUsize,
    released: AtomicUsize,
}

struct FakeScratch(Trouble, Arc<Leases>);

impl Scratch for FakeScratch {
    fn provision(&self, request: &LeaseRequest<'_>) -> Result<Lease> {
        let bad = is_bad(request.drill);
        if bad && self.0 == Trouble::NoScratch {
            return Err(Error::new(ErrorKind::Scratch, "make a scratch folder").because("no space"));
        }
        assert!(!bad || self.0 != Trouble::ScratchPanics, "scratch");
        self.1.made.fetch_add(1, Ordering::SeqCst);
        let (leases, stays) = (Arc::clone(&self.1), bad && self.0 == Trouble::ScratchStays);
        Ok(Lease::new(request.drill.0.clone(), PathBuf::from("/"), PathBuf::from("/"), move |_| {
            leases.released.fetch_add(1, Ordering::SeqCst);
            if stays { Err(Error::new(ErrorKind::Scratch, "remove the lease")) } else { Ok(None) }
        }))
    }

    fn sweep(&self) -> Result<Swept> {
        Ok(Swept::default())
    }
}

fn now() -> Timestamp {
    "2026-03-08T04:00:00Z".parse().unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SimulatedClock::starting_at(now()))
}

fn snapshot(tag: &str, id: &str, time: &str) -> Snapshot {
    Snapshot {
        id: SnapshotId(id.repeat(32)),
        time: time.parse().unwrap(),
        host: "host".to_owned(),
        tags: vec![tag.to_owned()],
        paths: vec!["/".to_owned()],
        tree: "cd".repeat(32),
        program: String::new(),
        files: Some(1),
        bytes: Some(1),
    }
}

fn drill(tag: &str) -> Drill {
    let (copy, series) = (CopyName("primary".to_owned()), Series::Tag(tag.to_owned()));
    Drill {
        name: DrillName::new(&copy, &series, "latest"),
        copy,
        series,
        target: None,
        selection: Selection::Snapshot(snapshot(tag, "ab", "2026-03-08T03:00:00Z")),
        objectives: Default::default(),
        expectations: Default::default(),
        hosts: Vec::new(),
        probes: Default::default(),
        parts: Vec::new(),
        trials: Default::default(),
        required: vec!["tree".to_owned()],
        seed: 1,
    }
}

fn plan(drills: &[&str], jobs: usize) -> Plan {
    Plan {
        seed: 1,
        at: now(),
        copies: vec![PlannedCopy { name: CopyName("primary".to_owned()), location: "/".to_owned() }],
        drills: drills.iter().map(|tag| drill(tag)).collect(),
        control: None,
        control_off: false,
        limits: Limits { jobs, timeout: Some(Span(TIMEOUT)), ..Limits::default() },
        interval: None,
    }
}

/// What came of a run.
struct Told {
    result: Result<()>,
    judgement: Option<Judgement>,
    leases: Arc<Leases>,
    took: Duration,
}

/// A run that is set up and not started.
struct Stage {
    trouble: Trouble,
    plan: Plan,
    over: Over,
    folder: tempfile::TempDir,
    /// Where evidence goes instead.
    evidence: Option<Writer>,
    stop_after: Option<Duration>,
}

impl Stage {
    fn with(trouble: Trouble) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (plan, over) = (plan(&["bad", "good"], 2), Over::default());
        Self { trouble, plan, over, folder, evidence: None, stop_after: None }
    }

    fn bench(&self, evidence: Writer, leases: &Arc<Leases>) -> Bench {
        let trouble = self.trouble;
        let inventory = Inventory {
            facts: CopyFacts::default(),
            snapshots: ["bad", "good"]
                .into_iter()
                .flat_map(|tag| {
                    let earlier = snapshot(tag, "cd", "2026-03-07T03:00:00Z");
                    [earlier, snapshot(tag, "ab", "2026-03-08T03:00:00Z")]
                })
                .collect(),
            findings: Vec::new(),
            readable: true,
        };
        let repository = Arc::new(FakeRepository(trouble, self.over.clone()));
        let copy = OpenCopy { repository, inventory: Ok(inventory), canary_key: None };
        let fails = move |wanted: Trouble| assert_ne!(trouble, wanted, "told to panic");
        Bench {
            run: "run".to_owned(),
            copies: Arc::new(BTreeMap::from([(CopyName("primary".to_owned()), copy)])),
            scratch: Arc::new(FakeScratch(trouble, Arc::clone(leases))),
            runtime: None,
            probes: Arc::new(vec![
                Box::new(FakeProbe("tree", trouble, self.over.clone())),
                Box::new(FakeProbe("other", Trouble::Nothing, self.over.clone())),
            ]),
            sabotage: Arc::new(move |_, _, _| {
                fails(Trouble::SabotagePanics);
                Ok(vec![Injected {
                    what: "a bit".to_owned(),
                    expected_code: "tree.content".to_owned(),
                    location: "file".to_owned(),
                }])
            }),
            recall: Arc::new(move |_, series| {
                if series == &Series::Tag("bad".to_owned()) {
                    fails(Trouble::RecallPanics);
                }
                Ok(None)
            }),
            observe: Arc::new(move |drill, _| {
                if is_bad(drill) {
                    fails(Trouble::ObserverPanics);
                }
            }),
            evidence: Arc::new(evidence),
            watch: Watch::unlimited(),
        }
    }

    fn run(mut self) -> Told {
        let leases = Arc::new(Leases::default());
        let readable = self.evidence.is_none();
        let writer =
            self.evidence.take().unwrap_or_else(|| Writer::create(self.folder.path(), clock()).unwrap());
        let bench = self.bench(writer, &leases);
        let started = bench.evidence.write(Event::RunStarted {
            run: "run".to_owned(),
            version: "0".to_owned(),
            command: "firedrill".to_owned(),
            plan: Box::new(self.plan.clone()),
        });
        assert!(started.is_ok() || !readable);
        if let Some(after) = self.stop_after {
            let watch = bench.watch.clone();
            std::thread::spawn(move || {
                std::thread::sleep(after);
                watch.stop();
            });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let start = Instant::now();
        let result = runtime.block_on(run(&self.plan, &bench));
        let took = start.elapsed();
        let judged = || judge(&evidence::read(self.folder.path()).unwrap()).unwrap();
        let judgement = readable.then(judged);
        self.over.0.store(true, Ordering::SeqCst);
        // What was left behind ends now, and whatever it still says changes no verdict.
        runtime.shutdown_timeout(Duration::from_secs(5));
        if let Some(judgement) = &judgement {
            let later = judged();
            assert_eq!(later.verdict, judgement.verdict);
            for (before, after) in judgement.drills.iter().zip(&later.drills) {
                assert_eq!(before.verdict, after.verdict, "{after:#?}");
            }
        }
        Told { result, judgement, leases, took }
    }
}

impl Told {
    #[track_caller]
    fn drill(&self, tag: &str) -> (Verdict, String) {
        let judgement = self.judgement.as_ref().unwrap();
        let drill = judgement.drills.iter().find(|d| d.name.0.contains(tag)).unwrap();
        let reasons: Vec<_> = drill.reasons.iter().map(|r| r.text.as_str()).collect();
        (drill.verdict, reasons.join("\n"))
    }

    /// The bad drill is inconclusive for a reason that says `why`, the good one is verified, the run ended in
    /// time and gave everything back.
    #[track_caller]
    fn assert_contained(&self, why: &str) {
        let (verdict, reasons) = self.drill("bad");
        assert_eq!(verdict, Verdict::Inconclusive, "{reasons}");
        assert!(reasons.contains(why), "{reasons}");
        assert_eq!(self.drill("good").0, Verdict::Verified, "{}", self.drill("good").1);
        assert_eq!(self.judgement.as_ref().unwrap().exit, Exit::Inconclusive);
        assert!(self.result.is_ok(), "{:?}", self.result);
        assert!(self.took < IN_TIME, "{:?}", self.took);
        assert_eq!(self.leases.made.load(Ordering::SeqCst), self.leases.released.load(Ordering::SeqCst));
    }
}

#[test]
fn nothing_is_wrong() {
    let told = Stage::with(Trouble::Nothing).run();
    assert_eq!(told.judgement.as_ref().unwrap().exit, Exit::Verified);
    assert_eq!(told.leases.released.load(Ordering::SeqCst), 2);
}

#[test]
fn a_probe_panics() {
    let told = Stage::with(Trouble::ProbePanics).run();
    told.assert_contained("the probe `tree` was interrupted: the probe panicked: a hostile file");
    // The other probe had its turn.
    let judgement = told.judgement.unwrap();
    assert_eq!(judgement.drills[0].examinations.len(), 2);
}

#[test]
fn a_probe_panics_while_it_looks_whether_there_is_something_for_it() {
    let told = Stage::with(Trouble::RecognitionPanics).run();
    told.assert_contained("the probe panicked");
}

#[test]
fn a_probe_sees_nothing() {
    Stage::with(Trouble::ProbeSeesNothing).run().assert_contained("the probe `tree` examined nothing");
}

#[test]
fn a_probe_hangs() {
    Stage::with(Trouble::ProbeHangs).run().assert_contained("did not notice and was left behind");
}

#[test]
fn a_repository_hangs() {
    Stage::with(Trouble::RestoreHangs).run().assert_contained("the limit of 300ms passed");
}

/// With one slot, what hangs must not keep the others from their turn.
#[test]
fn a_repository_hangs_in_the_only_slot() {
    let mut stage = Stage::with(Trouble::RestoreHangs);
    stage.plan.limits.jobs = 1;
    stage.plan.limits.scratch = Some(Size(1 << 20));
    stage.run().assert_contained("the limit of 300ms passed");
}

#[test]
fn a_repository_panics() {
    let told = Stage::with(Trouble::RestorePanics).run();
    told.assert_contained("it panicked: the library met what it did not expect");
}

#[test]
fn a_repository_panics_over_the_past() {
    let told = Stage::with(Trouble::ManifestPanics).run();
    for tag in ["bad", "good"] {
        let (verdict, reasons) = told.drill(tag);
        assert!(verdict == Verdict::Inconclusive && reasons.contains("panicked"), "{reasons}");
    }
    assert_eq!(told.leases.released.load(Ordering::SeqCst), 2);
}

#[test]
fn a_repository_gives_no_result() {
    Stage::with(Trouble::RestoreGivesNothing).run().assert_contained("the repository gave no result");
}

#[test]
fn scratch_refuses_to_be_written() {
    Stage::with(Trouble::RestoreFails).run().assert_contained("write to scratch");
}

#[test]
fn there_is_no_scratch() {
    Stage::with(Trouble::NoScratch).run().assert_contained("make a scratch folder: no space");
}

#[test]
fn scratch_panics() {
    Stage::with(Trouble::ScratchPanics).run().assert_contained("panicked");
}

#[test]
fn a_lease_cannot_be_given_back() {
    Stage::with(Trouble::ScratchStays).run().assert_contained("remove the lease");
}

#[test]
fn what_remembers_panics() {
    let told = Stage::with(Trouble::RecallPanics).run();
    // Without memory there is less to compare with; the drill itself is none the worse.
    assert_eq!(told.drill("bad").0, Verdict::Verified, "{}", told.drill("bad").1);
    assert_eq!(told.drill("good").0, Verdict::Verified);
}

#[test]
fn who_watches_panics() {
    Stage::with(Trouble::ObserverPanics).run().assert_contained("panicked");
}

/// Damage that was seen stays damage, whatever else happens.
#[test]
fn a_finding_beats_the_trouble_beside_it() {
    let mut stage = Stage::with(Trouble::RestoreFinds);
    stage.stop_after = Some(Duration::ZERO);
    let (finding, both) = (Stage::with(Trouble::RestoreFinds).run(), stage.run());
    assert_eq!(finding.drill("bad").0, Verdict::Failed);
    assert_eq!(finding.drill("good").0, Verdict::Verified);
    assert_ne!(both.judgement.unwrap().verdict, Verdict::Verified);
}

#[test]
fn the_control_panics() {
    let mut stage = Stage::with(Trouble::SabotagePanics);
    let mut control = drill("good");
    control.name = DrillName("control::good::latest".to_owned());
    stage.plan.control = Some(Control { of: stage.plan.drills[1].name.clone(), drill: control });
    let told = stage.run();
    assert_eq!(told.judgement.as_ref().unwrap().exit, Exit::Inconclusive);
    assert_eq!(told.drill("good").0, Verdict::Verified);
    assert_eq!(told.leases.made.load(Ordering::SeqCst), told.leases.released.load(Ordering::SeqCst));
}

#[test]
fn a_run_is_told_to_stop() {
    let mut stage = Stage::with(Trouble::RestoreHangs);
    stage.plan = plan(&["bad one", "bad two", "bad three", "good"], 1);
    stage.plan.limits.timeout = None;
    stage.stop_after = Some(Duration::from_millis(100));
    let told = stage.run();
    assert!(told.took < IN_TIME, "{:?}", told.took);
    let judgement = told.judgement.unwrap();
    assert_eq!((judgement.verdict, judgement.exit), (Verdict::Inconclusive, Exit::Inconclusive));
    assert!(judgement.reasons.iter().any(|r| r.text.contains("told to stop")), "{:?}", judgement.reasons);
    let good = judgement.drills.iter().find(|d| d.name.0.contains("good")).unwrap();
    assert_eq!(good.verdict, Verdict::Inconclusive, "it never started");
}

/// Evidence that cannot be written ends the run; every lease is given back all the same.
#[test]
fn there_is_no_room_for_evidence() {
    let mut stage = Stage::with(Trouble::Nothing);
    let full = File::options().write(true).open("/dev/full").unwrap();
    stage.evidence = Some(Writer::to(full, clock()));
    let told = stage.run();
    let error = told.result.unwrap_err();
    assert!(
        error.kind == ErrorKind::Scratch && error.chain().contains("write evidence"),
        "{}",
        error.chain()
    );
    assert_eq!(told.leases.made.load(Ordering::SeqCst), told.leases.released.load(Ordering::SeqCst));
}

/// The same in the middle of a run, while other drills go on.
#[test]
fn evidence_breaks_in_the_middle() {
    /// Where the pipe that takes evidence is closed.
    const LINES: usize = 6;
    let (reader, writer) = std::io::pipe().unwrap();
    let mut stage = Stage::with(Trouble::Nothing);
    stage.plan = plan(&["a", "b", "c", "d", "e", "f"], 3);
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    stage.evidence = Some(Writer::to(file, clock()));
    let reading = std::thread::spawn(move || {
        use std::io::BufRead as _;
        let mut lines = std::io::BufReader::with_capacity(1, reader).lines();
        lines.by_ref().take(LINES).for_each(drop);
    });
    let told = stage.run();
    reading.join().unwrap();
    assert!(told.result.is_err());
    assert!(told.took < IN_TIME, "{:?}", told.took);
    assert_eq!(told.leases.made.load(Ordering::SeqCst), told.leases.released.load(Ordering::SeqCst));
}

/// Whoever shows the run must not end it.
#[test]
fn a_listener_panics() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), clock()).unwrap();
    let heard = Arc::new(Mutex::new(0));
    let hearing = Arc::clone(&heard);
    writer.listen(Box::new(move |_| {
        *hearing.lock().unwrap() += 1;
        panic!("what is this event");
    }));
    for _ in 0..3 {
        writer.write(Event::RunFinished { seconds: 1.0 }).unwrap();
    }
    let evidence = evidence::read(folder.path()).unwrap();
    assert_eq!((evidence.records.len(), evidence.damage), (3, None));
    assert_eq!(*heard.lock().unwrap(), 1, "it was told more after it had panicked");
}
