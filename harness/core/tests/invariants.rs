//! The invariants of the design that the pure parts can keep on their own.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::Cursor;
use std::sync::Arc;

use firedrill_core::cell::{CellFacts, EngineFacts};
use firedrill_core::clock::SimulatedClock;
use firedrill_core::config::settings::{Expectations, Objectives, Probes};
use firedrill_core::config::units::Span;
use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::event::{CopyFacts, Event, Injected, Phase};
use firedrill_core::evidence::{self, Evidence, Writer};
use firedrill_core::finding::{Class, Examination, Finding, RecoveryBasis, RecoveryPoint};
use firedrill_core::judge::{ControlState, Judgement, ObjectiveState, judge};
use firedrill_core::plan::{Control, Drill, DrillName, Limits, Plan, PlannedCopy, Selection};
use firedrill_core::snapshot::{CopyName, Series, Snapshot, SnapshotId};
use firedrill_core::verdict::{Exit, Verdict};
use jiff::Timestamp;
use proptest::prelude::*;

const AT: &str = "2026-03-08T04:00:00Z";

fn at() -> Timestamp {
    AT.parse().unwrap()
}

fn snapshot(tag: &str) -> Snapshot {
    Snapshot {
        id: SnapshotId("ab".repeat(32)),
        time: "2026-03-08T03:00:00Z".parse().unwrap(),
        host: "node".to_owned(),
        tags: vec![tag.to_owned()],
        paths: vec!["/backup".to_owned()],
        tree: "cd".repeat(32),
        program: String::new(),
        files: Some(3),
        bytes: Some(300),
    }
}

fn drill(copy: &str, tag: &str) -> Drill {
    let copy = CopyName(copy.to_owned());
    let series = Series::Tag(tag.to_owned());
    Drill {
        name: DrillName::new(&copy, &series, "latest"),
        copy,
        series,
        target: None,
        selection: Selection::Snapshot(snapshot(tag)),
        objectives: Objectives::default(),
        expectations: Expectations::default(),
        hosts: Vec::new(),
        probes: Probes::default(),
        parts: Vec::new(),
        trials: Default::default(),
        required: vec!["tree".to_owned(), "shape".to_owned()],
        seed: 1,
    }
}

fn plan(drills: Vec<Drill>) -> Plan {
    let control =
        drills.first().map(|of| Control { of: of.name.clone(), drill: drill("control", "grafana") });
    Plan {
        seed: 7,
        at: at(),
        copies: vec![PlannedCopy { name: CopyName("primary".to_owned()), location: "/repo".to_owned() }],
        drills,
        control,
        control_off: false,
        limits: Limits::default(),
        interval: None,
    }
}

fn examination(probe: &str) -> Examination {
    Examination { checked: 5, ..Examination::new(probe, "entries") }
}

/// Everything that a healthy drill leaves behind.
fn healthy(drill: &DrillName) -> Vec<Event> {
    let mut events = vec![Event::DrillStarted { drill: drill.clone() }];
    for (phase, seconds) in
        [(Phase::Provision, 9.0), (Phase::Locate, 1.0), (Phase::Fetch, 2.0), (Phase::Write, 3.0)]
    {
        events.push(Event::PhaseFinished { drill: drill.clone(), phase, seconds });
    }
    events.push(Event::Restored {
        drill: drill.clone(),
        files: 3,
        bytes: 300,
        bytes_read: 200,
        withheld: Vec::new(),
        findings: Vec::new(),
        findings_omitted: 0,
    });
    events.push(Event::Recognised {
        drill: drill.clone(),
        probes: vec!["tree".to_owned(), "shape".to_owned()],
    });
    for probe in ["tree", "shape"] {
        events.push(Event::Examined { drill: drill.clone(), examination: examination(probe) });
    }
    events.push(Event::PhaseFinished { drill: drill.clone(), phase: Phase::Examine, seconds: 4.0 });
    events.push(Event::DrillFinished { drill: drill.clone(), kept: None });
    events
}

fn damage(what: &str) -> Injected {
    Injected { what: what.to_owned(), expected_code: "tree.content".to_owned(), location: what.to_owned() }
}

/// A control drill whose damages `seen` were found.
fn control(injected: &[&str], seen: &[&str]) -> Vec<Event> {
    let name = drill("control", "grafana").name;
    let mut events = healthy(&name);
    let at = events.iter().position(|e| matches!(e, Event::Recognised { .. })).unwrap();
    events.insert(
        at,
        Event::ControlDamaged { drill: name, injected: injected.iter().map(|w| damage(w)).collect() },
    );
    for event in &mut events {
        if let Event::Examined { examination, .. } = event
            && examination.probe == "tree"
        {
            examination.findings =
                seen.iter().map(|l| Finding::damage("tree.content", *l, "a", "b")).collect();
        }
    }
    events
}

fn run_of(plan: &Plan, middle: Vec<Event>) -> Vec<Event> {
    let mut events = vec![
        Event::RunStarted {
            run: "r1".to_owned(),
            version: "0".to_owned(),
            command: "firedrill restore-test".to_owned(),
            plan: Box::new(plan.clone()),
        },
        Event::CopyOpened { copy: CopyName("primary".to_owned()), facts: CopyFacts::default() },
    ];
    events.extend(middle);
    events.push(Event::RunFinished { seconds: 10.0 });
    events
}

fn file_of(events: Vec<Event>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::create(folder.path(), Arc::new(SimulatedClock::starting_at(at()))).unwrap();
    for event in events {
        writer.write(event).unwrap();
    }
    std::fs::read(folder.path().join(evidence::FILE)).unwrap()
}

fn read(file: &[u8]) -> Evidence {
    evidence::parse(Cursor::new(file)).unwrap()
}

fn judged(events: Vec<Event>) -> Judgement {
    judge(&read(&file_of(events))).unwrap()
}

fn green() -> (Plan, Vec<Event>) {
    let drill = drill("primary", "grafana");
    let mut events = control(&["a", "b"], &["a", "b"]);
    events.extend(healthy(&drill.name));
    (plan(vec![drill]), events)
}

#[test]
fn a_healthy_run_is_verified_and_measured() {
    let (plan, events) = green();
    let judgement = judged(run_of(&plan, events));
    assert_eq!((judgement.verdict, judgement.exit), (Verdict::Verified, Exit::Verified));
    assert_eq!(judgement.control.state, ControlState::Caught);
    let drill = &judgement.drills[0];
    assert_eq!(drill.rta.total_seconds, Some(10.0), "locate, fetch, write and examine, without provisioning");
    let rpa = drill.rpa.clone().unwrap();
    assert_eq!((rpa.seconds, rpa.basis), (3600.0, RecoveryBasis::Snapshot));
}

#[test]
fn a_canary_is_better_evidence_for_the_recovery_point_than_the_snapshot() {
    let (mut plan, mut events) = green();
    plan.drills[0].objectives =
        Objectives { rpo: Some("90m".parse::<Span>().unwrap()), rto: Some("9s".parse().unwrap()) };
    for event in &mut events {
        if let Event::Examined { examination, .. } = event {
            examination.recovery_point = Some(RecoveryPoint {
                time: "2026-03-08T02:00:00Z".parse().unwrap(),
                basis: RecoveryBasis::Canary,
            });
        }
    }
    let judgement = judged(run_of(&plan, events));
    let drill = &judgement.drills[0];
    assert_eq!(drill.rpa.clone().unwrap().seconds, 7200.0);
    assert_eq!((drill.rpo.state, drill.rto.state), (ObjectiveState::Missed, ObjectiveState::Missed));
    assert_eq!((judgement.verdict, judgement.exit), (Verdict::Verified, Exit::ObjectiveMissed));
}

#[test]
fn what_is_missing_makes_a_drill_inconclusive() {
    let (plan, events) = green();
    for skipped in 0..events.len() {
        let Some(about) = about(&events[skipped]) else { continue };
        if matches!(events[skipped], Event::PhaseFinished { .. } | Event::ControlDamaged { .. }) {
            continue;
        }
        let mut fewer = events.clone();
        fewer.remove(skipped);
        if about.starts_with("control")
            && !matches!(events[skipped], Event::DrillFinished { .. } | Event::Examined { .. })
        {
            continue;
        }
        if let Event::Examined { examination, .. } = &events[skipped]
            && about.starts_with("control")
            && examination.probe != "tree"
        {
            continue;
        }
        let judgement = judged(run_of(&plan, fewer));
        assert_eq!(judgement.exit, Exit::Inconclusive, "without {:?}", events[skipped]);
    }
}

fn about(event: &Event) -> Option<String> {
    match event {
        Event::DrillStarted { drill }
        | Event::PhaseFinished { drill, .. }
        | Event::Restored { drill, .. }
        | Event::Recognised { drill, .. }
        | Event::Examined { drill, .. }
        | Event::ControlDamaged { drill, .. }
        | Event::DrillFinished { drill, .. } => Some(drill.0.clone()),
        _ => None,
    }
}

/// What an engine leaves behind, into which something was loaded.
fn engine() -> EngineFacts {
    let phases = [(Phase::Start, 1.0), (Phase::Load, 2.0), (Phase::Answer, 0.5), (Phase::Verify, 3.0)];
    EngineFacts { cells: vec![CellFacts::default()], phases: phases.into() }
}

#[test]
fn a_demand_to_load_is_met_by_an_engine_and_by_nothing_else() {
    let (mut plan, mut events) = green();
    plan.drills[0].expectations.load = true;
    assert_eq!(judged(run_of(&plan, events.clone())).exit, Exit::Inconclusive);
    let name = plan.drills[0].name.clone();
    let shape = events.iter().position(|event| {
        matches!(event, Event::Examined { drill, examination } if *drill == name && examination.probe == "shape")
    });
    let (shape, before) = (shape.unwrap(), events.clone());
    let mut examined_by = |probe: &str| {
        events.clone_from(&before);
        let mut one = before[shape].clone();
        let Event::Examined { examination, .. } = &mut one else { unreachable!() };
        probe.clone_into(&mut examination.probe);
        examination.engine = Some(engine());
        events.insert(shape, one);
        events.clone()
    };
    // A check has a cell as well, and loads nothing.
    assert_eq!(judged(run_of(&plan, examined_by("check"))).exit, Exit::Inconclusive);
    let mut events = examined_by("postgres");
    for (phase, seconds) in engine().phases {
        let at = events.len() - 1;
        events.insert(at, Event::PhaseFinished { drill: name.clone(), phase, seconds });
    }
    let judgement = judged(run_of(&plan, events));
    assert_eq!(judgement.exit, Exit::Verified);
    let rta = &judgement.drills[0].rta;
    assert_eq!((rta.total_seconds, rta.answer_seconds), (Some(16.5), Some(9.5)));
}

#[test]
fn a_gap_is_told_and_changes_no_verdict() {
    let (plan, mut events) = green();
    for event in &mut events {
        if let Event::Examined { drill, examination } = event
            && drill.0.starts_with("primary")
        {
            examination.findings.push(Finding::gap("postgres.role", "shop", "the role shop", "none"));
        }
    }
    let judgement = judged(run_of(&plan, events));
    assert_eq!(judgement.exit, Exit::Verified);
    assert!(judgement.drills[0].findings.iter().any(|f| f.code == "postgres.role"));
}

#[test]
fn a_probe_that_examined_nothing_or_was_interrupted_is_never_green() {
    for spoil in
        [(|e: &mut Examination| e.checked = 0) as fn(&mut Examination), |e| e.interrupt("the disk went away")]
    {
        let (plan, mut events) = green();
        for event in &mut events {
            if let Event::Examined { examination, drill } = event
                && drill.0.starts_with("primary")
                && examination.probe == "shape"
            {
                spoil(examination);
            }
        }
        assert_eq!(judged(run_of(&plan, events)).exit, Exit::Inconclusive);
    }
}

#[test]
fn a_control_that_is_missed_or_not_run_spoils_the_run() {
    let (plan, _) = green();
    for (injected, seen, state) in
        [(vec!["a", "b"], vec!["a"], ControlState::Missed), (vec![], vec!["a"], ControlState::NotRun)]
    {
        let mut events = control(&injected, &seen);
        events.extend(healthy(&plan.drills[0].name));
        let judgement = judged(run_of(&plan, events));
        assert_eq!((judgement.control.state, judgement.exit), (state, Exit::Inconclusive));
    }
}

#[test]
fn a_target_without_snapshot_fails_and_an_unreadable_copy_is_inconclusive() {
    for (selection, exit) in [(Selection::Missing, Exit::Failed), (Selection::Unknown, Exit::Inconclusive)] {
        let (mut plan, events) = green();
        let mut other = drill("primary", "emby");
        other.selection = selection;
        plan.drills.push(other);
        assert_eq!(judged(run_of(&plan, events)).exit, exit);
    }
}

#[test]
fn a_control_that_is_switched_off_is_not_one_that_was_impossible() {
    let (mut plan, events) = green();
    plan.control = None;
    let impossible = judged(run_of(&plan, events.clone()));
    assert_eq!((impossible.control.state, impossible.exit), (ControlState::NotPlanned, Exit::Verified));
    plan.control_off = true;
    let off = judged(run_of(&plan, events));
    assert_eq!((off.control.state, off.exit), (ControlState::SwitchedOff, Exit::Verified));
    assert_eq!(serde_json::to_value(off.control.state).unwrap(), "switched_off");
}

#[test]
fn an_empty_plan_selected_nothing_and_proves_nothing() {
    let judgement = judged(run_of(&plan(vec![]), vec![]));
    assert_eq!((judgement.verdict, judgement.exit), (Verdict::Inconclusive, Exit::NothingSelected));
    assert_eq!(judgement.reasons.len(), 1);
    // What is worse than that keeps its exit.
    let copy = || CopyName("primary".to_owned());
    let finding = Finding::damage("repository.index", "index/ab", "a", "b");
    let damaged = Event::CopyFinding { copy: copy(), finding };
    let judgement = judged(run_of(&plan(vec![]), vec![damaged]));
    assert_eq!((judgement.verdict, judgement.exit), (Verdict::Failed, Exit::Failed));
    let error = Error::new(ErrorKind::Unavailable, "open it");
    let judgement = judged(run_of(&plan(vec![]), vec![Event::CopyError { copy: copy(), error }]));
    assert_eq!((judgement.verdict, judgement.exit), (Verdict::Inconclusive, Exit::Inconclusive));
}

#[test]
fn a_missed_objective_of_a_copy_is_told_and_fails_nothing() {
    let (plan, mut events) = green();
    let finding = Finding::objective("objects.gap", "grafana", "a dump each day", "none");
    events.push(Event::CopyFinding { copy: CopyName("primary".to_owned()), finding });
    let judgement = judged(run_of(&plan, events));
    assert_eq!((judgement.verdict, judgement.exit), (Verdict::Verified, Exit::ObjectiveMissed));
    assert_eq!(judgement.copies[0].findings.len(), 1);
}

#[test]
fn damage_of_a_copy_fails_the_run_though_its_drills_are_verified() {
    let (plan, mut events) = green();
    let finding = Finding::damage("repository.index", "index/ab", "a", "b");
    events.push(Event::CopyFinding { copy: CopyName("primary".to_owned()), finding });
    let judgement = judged(run_of(&plan, events));
    assert_eq!(judgement.drills[0].verdict, Verdict::Verified);
    assert_eq!(judgement.exit, Exit::Failed);
}

#[test]
fn evidence_cut_at_any_byte_is_never_verified() {
    let (plan, events) = green();
    let file = file_of(run_of(&plan, events));
    assert_eq!(judge(&read(&file)).unwrap().verdict, Verdict::Verified);
    for end in 0..file.len() {
        if let Ok(judgement) = judge(&read(&file[..end])) {
            assert_ne!(judgement.verdict, Verdict::Verified, "cut at byte {end} of {}", file.len());
        }
    }
}

#[test]
fn a_line_that_is_changed_removed_or_moved_breaks_the_chain() {
    let (plan, events) = green();
    let file = file_of(run_of(&plan, events));
    let lines: Vec<&[u8]> = file.split_inclusive(|b| *b == b'\n').collect();
    for i in 0..lines.len() - 1 {
        let mut removed = lines.clone();
        removed.remove(i);
        assert!(read(&removed.concat()).damage.is_some(), "line {i} removed");
        let mut swapped = lines.clone();
        swapped.swap(i, i + 1);
        assert!(read(&swapped.concat()).damage.is_some(), "lines {i} and {} swapped", i + 1);
    }
    let edited = String::from_utf8(file).unwrap().replacen("\"bytes\":300", "\"bytes\":301", 1);
    assert!(read(edited.as_bytes()).damage.is_some(), "an edited line");
}

fn any_finding() -> impl Strategy<Value = Finding> {
    let class = prop_oneof![Just(Class::Damage), Just(Class::Anomaly), Just(Class::Objective)];
    (class, "[a-z]{1,8}", any::<bool>()).prop_map(|(class, location, _)| Finding {
        class,
        ..Finding::damage("x.y", location, "expected", "seen")
    })
}

proptest! {
    #[test]
    fn adding_a_finding_never_improves_a_verdict(
        findings in proptest::collection::vec(any_finding(), 0..4),
        more in any_finding(),
        interrupted in any::<bool>(),
    ) {
        let (plan, events) = green();
        let with = |findings: &[Finding]| {
            let mut events = events.clone();
            for event in &mut events {
                if let Event::Examined { examination, drill } = event
                    && drill.0.starts_with("primary") && examination.probe == "shape"
                {
                    examination.findings = findings.to_vec();
                    if interrupted { examination.interrupt("x"); }
                }
            }
            judged(run_of(&plan, events))
        };
        let before = with(&findings);
        let after = with(&[findings.clone(), vec![more]].concat());
        prop_assert!(after.verdict >= before.verdict);
        prop_assert_eq!(before.exit.or(after.exit), after.exit);
    }

    #[test]
    fn a_file_with_one_changed_byte_is_never_verified(position in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let (plan, events) = green();
        let mut file = file_of(run_of(&plan, events));
        // The last line closes the chain; nothing follows that could vouch for it.
        let last = file[..file.len() - 1].iter().rposition(|b| *b == b'\n').unwrap();
        let at = position.index(last);
        file[at] ^= flip;
        if let Ok(judgement) = judge(&read(&file)) {
            prop_assert_ne!(judgement.verdict, Verdict::Verified);
        }
    }
}

#[test]
fn judging_twice_gives_the_same_bytes() {
    let (plan, events) = green();
    let evidence = read(&file_of(run_of(&plan, events)));
    let json = |e: &Evidence| serde_json::to_string(&judge(e).unwrap()).unwrap();
    assert_eq!(json(&evidence), json(&evidence.clone()));
}
