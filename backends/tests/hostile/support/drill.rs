//! Drills every snapshot of a crafted repository as the command would, and says what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firedrill_backends::probe;
use firedrill_backends::repository::location::{Access, Environment, Location};
use firedrill_backends::repository::restic::Restic;
use firedrill_backends::scratch::directory::DirectoryScratch;
use firedrill_core::clock::SimulatedClock;
use firedrill_core::config::units::Span;
use firedrill_core::event::Event;
use firedrill_core::evidence::{self, Writer};
use firedrill_core::finding::Finding;
use firedrill_core::judge::{self, DrillJudgement, Judgement};
use firedrill_core::plan::Limits;
use firedrill_core::planner::{self, CopyView, Filter, Request};
use firedrill_core::ports::{Repository as _, Scratch};
use firedrill_core::run::{self, Bench, OpenCopy};
use firedrill_core::secret::Secret;
use firedrill_core::snapshot::CopyName;
use firedrill_core::verdict::Verdict;
use firedrill_core::watch::Watch;
use jiff::{SignedDuration, Timestamp};

use super::craft::{MADE, PASSWORD};
use super::place::Place;

/// A drill of hostile content may take this long before it is given up.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) judgement: Judgement,
    /// How long opening, planning, drilling and judging took.
    pub(crate) took: Duration,
}

/// Drills everything in the repository of `place`; what was restored is kept in its scratch.
pub(crate) fn drill(place: &Place) -> Told {
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let judgement = runtime.block_on(drilled(place));
    runtime.shutdown_background();
    Told { judgement, took: start.elapsed() }
}

async fn drilled(place: &Place) -> Judgement {
    let made: Timestamp = MADE.parse().expect("a time");
    let at = made.checked_add(SignedDuration::from_hours(1)).expect("a time");
    let clock = Arc::new(SimulatedClock::starting_at(at));
    let copies = Arc::new(BTreeMap::from([(CopyName("primary".to_owned()), open(place).await)]));
    let views: Vec<_> = copies
        .iter()
        .map(|(name, copy)| CopyView {
            name: name.clone(),
            location: "crafted".to_owned(),
            inventory: copy.inventory.as_ref().ok().filter(|inventory| inventory.readable),
        })
        .collect();
    let limits = Limits { jobs: 2, scratch: None, timeout: Some(Span(TIMEOUT)), keep: true };
    let request = Request {
        seed: 1,
        at,
        filter: Filter::default(),
        limits,
        control: false,
        proven: Default::default(),
    };
    let plan = planner::plan(None, &views, &request).expect("a plan");

    let folder = place.state().join("run");
    let writer = Arc::new(Writer::create(&folder, clock.clone()).expect("evidence"));
    let bench = Bench {
        run: "hostile".to_owned(),
        copies: Arc::clone(&copies),
        scratch: Arc::new(DirectoryScratch::new(place.scratch(), clock)),
        runtime: None,
        probes: Arc::new(probe::all()),
        sabotage: Arc::new(|_, _, _| Ok(Vec::new())),
        recall: Arc::new(|_, _| Ok(None)),
        observe: Arc::new(|_, _| ()),
        evidence: Arc::clone(&writer),
        watch: Watch::unlimited(),
    };
    writer
        .write(Event::RunStarted {
            run: "hostile".to_owned(),
            version: "0".to_owned(),
            command: "firedrill".to_owned(),
            plan: Box::new(plan.clone()),
        })
        .expect("evidence");
    run::run(&plan, &bench).await.expect("evidence can be written");
    let evidence = evidence::read(&folder).expect("evidence can be read");
    judge::judge(&evidence).expect("evidence can be judged")
}

async fn open(place: &Place) -> OpenCopy {
    let address = place.repository().display().to_string();
    let opened = tokio::task::spawn_blocking(move || {
        let location = Location::parse(&address).expect("a path is a location");
        let backend = location.open(&Access::from_environment(Environment::default())).expect("a backend");
        let restic = Restic::new(backend, Secret::new(PASSWORD));
        let inventory = restic.snapshots(&Watch::unlimited().within(Some(TIMEOUT)));
        OpenCopy { repository: Arc::new(restic), inventory, canary_key: Some(Secret::new("key")) }
    });
    opened.await.expect("opening does not panic")
}

impl Told {
    /// The only drill.
    #[track_caller]
    pub(crate) fn only(&self) -> &DrillJudgement {
        assert_eq!(self.judgement.drills.len(), 1, "{self:#?}");
        &self.judgement.drills[0]
    }

    /// Everything that is wrong with the backup, wherever it was found.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &Finding> {
        let copies = self.judgement.copies.iter().flat_map(|copy| &copy.findings);
        self.judgement.drills.iter().flat_map(|drill| &drill.findings).chain(copies)
    }

    /// Whether a finding speaks of `what`.
    pub(crate) fn names(&self, what: &str) -> bool {
        self.findings()
            .any(|f| f.location.contains(what) || f.seen.contains(what) || f.expected.contains(what))
    }

    /// A finding speaks of each of these.
    #[track_caller]
    pub(crate) fn assert_names<'w>(&self, what: impl IntoIterator<Item = &'w str>) {
        for what in what {
            let all: Vec<_> = self.findings().collect();
            assert!(self.names(what), "no finding speaks of {what:?}: {all:#?}\n{:#?}", self.reasons());
        }
    }

    /// Why the drills are not verified.
    pub(crate) fn reasons(&self) -> Vec<&str> {
        let drills = self.judgement.drills.iter().flat_map(|drill| &drill.reasons);
        drills.chain(&self.judgement.reasons).map(|reason| reason.text.as_str()).collect()
    }

    /// The verdict of the only drill.
    #[track_caller]
    pub(crate) fn assert_verdict(&self, verdict: Verdict) {
        assert_eq!(self.only().verdict, verdict, "{:#?}", self.only());
    }

    /// No probe panicked, and no reader.
    #[track_caller]
    pub(crate) fn assert_calm(&self) {
        for reason in self.reasons() {
            assert!(!reason.contains("panic"), "{reason}");
        }
    }

    /// Where the only drill was restored to.
    #[track_caller]
    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(self.only().kept.clone().unwrap_or_else(|| panic!("nothing was kept: {self:#?}")))
    }

    /// Names of everything that was restored at the top.
    #[track_caller]
    pub(crate) fn restored(&self) -> BTreeSet<Vec<u8>> {
        names(&self.root())
    }

    /// A healthy file that was restored beside hostile ones.
    #[track_caller]
    pub(crate) fn assert_file(&self, path: &str, content: &str) {
        let seen = std::fs::read_to_string(self.root().join(path));
        assert!(seen.as_ref().is_ok_and(|seen| seen == content), "{path}: {seen:?}\n{:#?}", self.only());
    }
}

/// Names in a folder.
pub(crate) fn names(folder: &Path) -> BTreeSet<Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().as_bytes().to_vec()).collect()
}

/// Every lease that the run left behind on purpose can be removed.
pub(crate) fn assert_swept(place: &Place) {
    let clock = Arc::new(SimulatedClock::starting_at(Timestamp::MAX));
    let swept = DirectoryScratch::new(place.scratch(), clock).sweeping_kept().sweep().expect("a sweep");
    assert!(swept.failed.is_empty() && swept.in_use.is_empty(), "{swept:?}");
    let left = names(&place.scratch());
    assert!(left.is_empty(), "left behind: {left:?}");
}
