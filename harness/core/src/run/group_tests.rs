//! A group is restored as one: each part into a folder of its own, and everything that is measured is of the whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use super::{Bench, OpenCopy, run};
use crate::clock::SimulatedClock;
use crate::config::units::Size;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{CopyFacts, Event, Phase};
use crate::evidence::{self, Writer};
use crate::finding::{Examination, Finding};
use crate::judge::{DrillJudgement, judge};
use crate::manifest::{Chunk, Kind, Manifest, NewEntry};
use crate::plan::{Drill, DrillName, Limits, Part, Plan, PlannedCopy, Selection};
use crate::ports::{Inventory, Lease, LeaseRequest, Order, Probe, Repository, Restored, Scratch, Swept};
use crate::snapshot::{CopyName, Series, Snapshot, SnapshotId};
use crate::subject::Subject;
use crate::verdict::Verdict;
use crate::watch::Watch;

/// Each snapshot holds one file, called after its tag. That of `torn` does not come back.
struct OneFileEach(Mutex<Vec<(String, Option<u64>)>>);

impl Repository for OneFileEach {
    fn snapshots(&self, _: &Watch) -> Result<Inventory> {
        Ok(Inventory::default())
    }

    fn manifest(&self, _: &Snapshot, _: &Watch) -> Result<(Manifest, Vec<Finding>)> {
        Err(Error::new(ErrorKind::Internal, "a group has no past of its own"))
    }

    fn restore(&self, orders: &[Order<'_>]) -> Vec<Result<Restored>> {
        let restore = |order: &Order<'_>| {
            let name = &order.snapshot.tags[0];
            self.0.lock().unwrap().push((name.clone(), order.bytes_max));
            let mut findings = Vec::new();
            if name == "torn" {
                findings.push(Finding::damage("restore.content", "torn", "content", "none"));
            } else {
                std::fs::write(order.lease.data().join(name), "data").unwrap();
            }
            let mut manifest = Manifest::default();
            let entry = NewEntry { size: 4, link_group: 7, ..NewEntry::bare(name.as_str(), Kind::File) };
            manifest.push(entry, [Chunk { digest: [0; 32], length: 4 }]);
            let second = Duration::from_secs(1);
            Ok(Restored {
                manifest: Arc::new(manifest),
                files: 1,
                bytes: 4,
                findings,
                locate: second,
                fetch: second,
                write: second,
                ..Restored::default()
            })
        };
        orders.iter().map(restore).collect()
    }
}

struct Folder(tempfile::TempDir);

impl Scratch for Folder {
    fn provision(&self, _: &LeaseRequest<'_>) -> Result<Lease> {
        Ok(Lease::new("lease".into(), self.0.path().into(), self.0.path().into(), |_| Ok(None)))
    }

    fn sweep(&self) -> Result<Swept> {
        Ok(Swept::default())
    }
}

/// Counts the files of the manifest that are there.
struct Counting(&'static str);

impl Probe for Counting {
    fn name(&self) -> &'static str {
        self.0
    }

    fn recognises(&self, _: &Subject) -> bool {
        true
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut examination = Examination::new(self.0, "files");
        for entry in subject.manifest.files() {
            assert_eq!(subject.manifest.chunks(entry).len(), 1);
            examination.notes.push(format!("{} {}", entry.display(), entry.link_group));
            examination.checked += u64::from(subject.root.join(entry.display()).is_file());
        }
        examination.notes.push(format!("{} means {}", "db/x", subject.meant_by("db/x").len()));
        examination
    }
}

fn snapshot(tag: &str, time: &str) -> Selection {
    Selection::Snapshot(Snapshot {
        id: SnapshotId(tag.repeat(20)),
        time: time.parse().unwrap(),
        host: "host".into(),
        tags: vec![tag.into()],
        paths: vec![format!("/srv/{tag}")],
        tree: tag.into(),
        program: String::new(),
        files: Some(1),
        bytes: Some(4),
    })
}

fn drill(parts: &[(&str, Selection)]) -> Drill {
    let (copy, series) = (CopyName("primary".into()), Series::Group("shop".into()));
    let part = |(target, selection): &(&str, Selection)| Part {
        target: (*target).to_owned(),
        series: Series::Tag((*target).to_owned()),
        selection: selection.clone(),
    };
    Drill {
        name: DrillName::new(&copy, &series, "latest"),
        copy,
        series,
        target: Some("shop".into()),
        // The planner makes it the oldest of all.
        selection: snapshot("group", "2026-03-08T02:00:00Z"),
        parts: parts.iter().map(part).collect(),
        objectives: Default::default(),
        expectations: Default::default(),
        hosts: Vec::new(),
        probes: Default::default(),
        trials: Default::default(),
        required: vec!["tree".into()],
        seed: 1,
    }
}

fn drilled(parts: &[(&str, Selection)]) -> (DrillJudgement, Vec<(String, Option<u64>)>) {
    let at: Timestamp = "2026-03-08T04:00:00Z".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let evidence = Writer::create(folder.path(), Arc::new(SimulatedClock::starting_at(at))).unwrap();
    let repository = Arc::new(OneFileEach(Mutex::default()));
    let copy = OpenCopy {
        repository: Arc::clone(&repository) as Arc<dyn Repository>,
        inventory: Ok(Inventory { facts: CopyFacts::default(), readable: true, ..Inventory::default() }),
        canary_key: None,
    };
    let name = CopyName("primary".into());
    let plan = Plan {
        seed: 1,
        at,
        copies: vec![PlannedCopy { name: name.clone(), location: "/".into() }],
        drills: vec![drill(parts)],
        control: None,
        control_off: true,
        limits: Limits { jobs: 1, scratch: Some(Size(1 << 20)), ..Limits::default() },
        interval: None,
    };
    let bench = Bench {
        run: "run".into(),
        copies: Arc::new(BTreeMap::from([(name, copy)])),
        scratch: Arc::new(Folder(tempfile::tempdir().unwrap())),
        runtime: None,
        probes: Arc::new(vec![Box::new(Counting("tree")), Box::new(Counting("shape"))]),
        sabotage: Arc::new(|_, _, _| Ok(Vec::new())),
        recall: Arc::new(|_, _| Ok(None)),
        observe: Arc::new(|_, _| {}),
        evidence: Arc::new(evidence),
        watch: Watch::unlimited(),
    };
    bench
        .evidence
        .write(Event::RunStarted {
            run: "run".into(),
            version: "0".into(),
            command: String::new(),
            plan: Box::new(plan.clone()),
        })
        .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(&plan, &bench)).unwrap();
    let mut judgement = judge(&evidence::read(folder.path()).unwrap()).unwrap();
    let orders = repository.0.lock().unwrap().clone();
    (judgement.drills.remove(0), orders)
}

#[test]
fn parts_are_restored_in_order_and_measured_as_one() {
    let (drill, orders) = drilled(&[
        ("db", snapshot("db", "2026-03-08T02:00:00Z")),
        ("media", snapshot("media", "2026-03-08T03:00:00Z")),
    ]);
    assert_eq!(drill.verdict, Verdict::Verified, "{:?}", drill.reasons);
    let bytes = 1 << 20;
    assert_eq!(orders, [("db".to_owned(), Some(bytes)), ("media".to_owned(), Some(bytes - 4))]);
    assert_eq!((drill.files, drill.bytes), (2, 8));
    assert_eq!(drill.rta.phases[&Phase::Fetch], 2.0, "the sum of both");
    assert_eq!(drill.rpa.unwrap().seconds, 2.0 * 3600.0, "that of the oldest");
    let probes: Vec<_> = drill.examinations.iter().map(|e| e.probe.as_str()).collect();
    assert_eq!(probes, ["tree"], "what looks at a series has nothing to look at");
    assert_eq!(drill.examinations[0].checked, 2);
    assert_eq!(drill.examinations[0].notes, ["db/db 1", "media/media 2", "db/x means 3"]);
}

#[test]
fn damage_of_a_part_says_which() {
    let (drill, _) = drilled(&[
        ("db", snapshot("torn", "2026-03-08T02:00:00Z")),
        ("media", snapshot("media", "2026-03-08T03:00:00Z")),
    ]);
    assert_eq!(drill.verdict, Verdict::Failed);
    assert_eq!(drill.findings[0].location, "db/torn");
    assert_eq!(drill.examinations[0].checked, 1, "the other one is there");
}

#[test]
fn a_part_without_a_snapshot_does_not_keep_the_others_from_theirs() {
    let (_, orders) =
        drilled(&[("gone", Selection::Missing), ("db", snapshot("db", "2026-03-08T02:00:00Z"))]);
    assert_eq!(orders.len(), 1);
}
