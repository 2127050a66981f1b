//! Judgements as they come out of real runs: made from events, by the real judge, so that they can never
//! say something that a judgement cannot say.

use std::collections::BTreeMap;
use std::time::Duration;

use firedrill_core::config::settings::Objectives;
use firedrill_core::config::units::Span;
use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::event::{CopyFacts, Event, Injected, Phase};
use firedrill_core::evidence::{Evidence, Record};
use firedrill_core::finding::{Examination, Finding, RecoveryBasis, RecoveryPoint};
use firedrill_core::judge::{Judgement, judge};
use firedrill_core::plan::{Control, Drill, DrillName, Plan, PlannedCopy, Selection};
use firedrill_core::snapshot::{CopyName, Series, Snapshot, SnapshotId};
use jiff::{SignedDuration, Timestamp};

const HOUR: u64 = 3_600;

/// One drill and what happens to it.
#[derive(Clone)]
pub(crate) struct Spec {
    copy: String,
    tag: String,
    which: String,
    age_seconds: u64,
    basis: RecoveryBasis,
    files: u64,
    bytes: u64,
    seconds: f64,
    rto: Option<u64>,
    rpo: Option<u64>,
    outcome: Outcome,
}

#[derive(Clone)]
enum Outcome {
    Good,
    Missing,
    NotStarted,
    Errored(Error),
    Damaged(Vec<Finding>),
    Interrupted(String),
}

impl Spec {
    fn new(tag: &str, age_hours: u64, files: u64, bytes: u64, seconds: f64) -> Self {
        Self {
            copy: "primary".to_owned(),
            tag: tag.to_owned(),
            which: "latest".to_owned(),
            age_seconds: age_hours * HOUR + 7 * 60,
            basis: RecoveryBasis::Data,
            files,
            bytes,
            seconds,
            rto: Some(1_800),
            rpo: Some(26 * HOUR),
            outcome: Outcome::Good,
        }
    }

    fn on(mut self, copy: &str) -> Self {
        self.copy = copy.to_owned();
        self
    }

    fn which(mut self, which: &str) -> Self {
        self.which = which.to_owned();
        self
    }

    fn came_to(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    fn drill(&self, at: Timestamp) -> Drill {
        let copy = CopyName(self.copy.clone());
        let series = Series::Tag(self.tag.clone());
        let id: String =
            (0..4).map(|i| format!("{:016x}", firedrill_core::seed::child(i, &self.tag))).collect();
        let snapshot = Snapshot {
            id: SnapshotId(id.clone()),
            time: at - SignedDuration::from_secs(self.age_seconds as i64),
            host: format!("{}-0", self.tag),
            tags: vec![self.tag.clone()],
            paths: vec![format!("/var/lib/{}", self.tag)],
            tree: id,
            program: "restic 0.14.0".to_owned(),
            files: Some(self.files),
            bytes: Some(self.bytes),
        };
        Drill {
            name: DrillName::new(&copy, &series, &self.which),
            copy,
            series,
            target: None,
            selection: match self.outcome {
                Outcome::Missing => Selection::Missing,
                _ => Selection::Snapshot(snapshot),
            },
            objectives: Objectives {
                rpo: self.rpo.map(|s| Span(Duration::from_secs(s))),
                rto: self.rto.map(|s| Span(Duration::from_secs(s))),
            },
            expectations: Default::default(),
            hosts: Vec::new(),
            probes: Default::default(),
            parts: Vec::new(),
            trials: Default::default(),
            required: vec!["tree".to_owned(), "shape".to_owned()],
            seed: 3,
        }
    }
}

/// A run, told event by event.
struct Run {
    plan: Plan,
    events: Vec<Event>,
}

impl Run {
    fn of(specs: &[Spec], locations: &[(&str, &str)]) -> Self {
        let at = moment();
        let copies: Vec<_> = locations
            .iter()
            .map(|(name, location)| PlannedCopy {
                name: CopyName((*name).to_owned()),
                location: (*location).to_owned(),
            })
            .collect();
        let drills: Vec<_> = specs.iter().map(|s| s.drill(at)).collect();
        let control = drills.iter().find(|d| d.selection.snapshot().is_some()).map(|of| Control {
            of: of.name.clone(),
            drill: Drill { name: DrillName("control::negative::damaged".to_owned()), ..of.clone() },
        });
        let plan = Plan {
            seed: 4_242,
            at,
            copies,
            drills,
            control,
            control_off: false,
            limits: Default::default(),
            interval: Some(Span(Duration::from_secs(7 * 24 * HOUR))),
        };
        let mut run = Self { plan, events: Vec::new() };
        for copy in run.plan.copies.clone() {
            let facts = CopyFacts {
                kind: "restic".to_owned(),
                repository: "5f2e6c1d".repeat(8),
                version: 2,
                snapshots: 214,
                seconds: 0.8,
                notes: Vec::new(),
            };
            run.events.push(Event::CopyOpened { copy: copy.name, facts });
        }
        for (spec, drill) in specs.iter().zip(run.plan.drills.clone()) {
            run.tell(spec, &drill);
        }
        run
    }

    fn tell(&mut self, spec: &Spec, planned: &Drill) {
        let drill = planned.name.clone();
        let findings = match &spec.outcome {
            Outcome::Missing | Outcome::NotStarted => return,
            Outcome::Damaged(findings) => findings.clone(),
            _ => Vec::new(),
        };
        self.events.push(Event::DrillStarted { drill: drill.clone() });
        if let Outcome::Errored(error) = &spec.outcome {
            self.events.push(Event::DrillError { drill: drill.clone(), error: error.clone() });
            self.events.push(Event::DrillFinished { drill, kept: None });
            return;
        }
        let (from_restore, from_probes): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|f| f.code.starts_with("restore."));
        for (phase, share) in
            [(Phase::Provision, 0.002), (Phase::Locate, 0.06), (Phase::Fetch, 0.52), (Phase::Write, 0.14)]
        {
            self.phase(&drill, phase, spec.seconds * share);
        }
        self.events.push(Event::Restored {
            drill: drill.clone(),
            files: spec.files,
            bytes: spec.bytes,
            bytes_read: spec.bytes / 2,
            withheld: Vec::new(),
            findings: from_restore,
            findings_omitted: 0,
        });
        let probes = ["tree", "shape", "freshness", "sqlite"].map(str::to_owned).to_vec();
        self.events.push(Event::Recognised { drill: drill.clone(), probes: probes.clone() });
        for probe in probes {
            let examination = examination(spec, planned, &probe, &from_probes);
            self.events.push(Event::Examined { drill: drill.clone(), examination });
        }
        self.phase(&drill, Phase::Examine, spec.seconds * 0.28);
        self.events.push(Event::DrillFinished { drill, kept: None });
    }

    fn phase(&mut self, drill: &DrillName, phase: Phase, seconds: f64) {
        self.events.push(Event::PhaseFinished { drill: drill.clone(), phase, seconds });
    }

    /// The negative control runs; the last `missed` of its four damages go unseen.
    fn control(mut self, missed: usize) -> Self {
        let Some(control) = self.plan.control.clone() else { return self };
        let drill = control.drill.name;
        let injected = [
            ("one byte of a file was changed", "tree.content", "data/app.db"),
            ("a file was removed", "tree.missing", "data/config.ini"),
            ("a file was cut in half", "tree.size", "data/log.0"),
            ("a page of a database was overwritten with zeros", "sqlite.integrity", "data/app.db"),
        ]
        .map(|(what, code, location)| Injected {
            what: what.to_owned(),
            expected_code: code.to_owned(),
            location: location.to_owned(),
        });
        let mut examination = Examination { checked: 1_204, ..Examination::new("tree", "entries") };
        for damage in &injected[..injected.len() - missed] {
            examination.find(Finding::damage(&damage.expected_code, &damage.location, "as it was", "damage"));
        }
        self.events.push(Event::DrillStarted { drill: drill.clone() });
        self.events.push(Event::ControlDamaged { drill: drill.clone(), injected: injected.to_vec() });
        self.events.push(Event::Examined { drill: drill.clone(), examination });
        self.events.push(Event::DrillFinished { drill, kept: None });
        self
    }

    fn finish(mut self) -> Judgement {
        self.events.push(Event::RunFinished { seconds: 34.2 });
        self.cut()
    }

    /// The run dies here.
    fn cut(self) -> Judgement {
        judge(&evidence(self.plan, self.events)).expect("the story starts with a plan")
    }
}

fn examination(spec: &Spec, drill: &Drill, probe: &str, findings: &[Finding]) -> Examination {
    let (unit, checked) = match probe {
        "tree" => ("entries", spec.files + spec.files / 9 + 3),
        "shape" => ("comparisons", 12),
        "freshness" => ("times", 5),
        _ => ("pages", spec.bytes / 4_096 / 3 + 1),
    };
    let mut examination = Examination { checked, ..Examination::new(probe, unit) };
    for finding in findings.iter().filter(|f| f.code.starts_with(probe)) {
        examination.find(finding.clone());
    }
    match (probe, &spec.outcome) {
        ("freshness", _) if spec.basis != RecoveryBasis::Snapshot => {
            let time = drill.selection.snapshot().map_or(moment(), |s| s.time);
            examination.recovery_point = Some(RecoveryPoint { time, basis: spec.basis });
        }
        ("sqlite", Outcome::Interrupted(why)) => {
            examination.checked = 0;
            examination.interrupt(why.clone());
        }
        ("tree", _) => {
            examination.not_verified.push("access times; no backup program keeps them reliably".to_owned());
            examination.not_verified.push("owner and group; setting them needs root".to_owned());
        }
        ("sqlite", _) => {
            examination.not_verified.push("whether the application accepts its own data".to_owned());
        }
        ("shape", _) => examination.notes.push("compared with 3 earlier snapshots".to_owned()),
        _ => {}
    }
    examination
}

/// Records of a run, without a file around them; nothing in this crate reads the chain.
pub(crate) fn evidence(plan: Plan, events: Vec<Event>) -> Evidence {
    let started = Event::RunStarted {
        run: "2026-03-01T04-00-00Z-4242".to_owned(),
        version: "0.1.0".to_owned(),
        command: "firedrill restore-test --repository rest:http://backup:8000/fleet --seed 4242".to_owned(),
        plan: Box::new(plan),
    };
    let records = std::iter::once(started)
        .chain(events)
        .enumerate()
        .map(|(seq, event)| Record {
            evidence: 1,
            seq: seq as u64,
            time: moment() + SignedDuration::from_secs(seq as i64),
            prev: String::new(),
            event,
        })
        .collect();
    Evidence { records, head: "9c1d2b".repeat(10) + "7e4f", damage: None }
}

/// When all of these runs took place.
pub(crate) fn moment() -> Timestamp {
    "2026-03-01T04:00:00Z".parse().expect("a moment")
}

/// The records of a run that went well, for sinks that watch it.
pub(crate) fn records() -> Vec<Record> {
    let run = Run::of(&fleet(), &PRIMARY).control(0);
    let mut events = run.events;
    events.push(Event::RunFinished { seconds: 34.2 });
    evidence(run.plan, events).records
}

/// The records of [`hostile`].
pub(crate) fn hostile_records() -> Vec<Record> {
    let run = hostile_run();
    evidence(run.plan, run.events).records
}

const PRIMARY: [(&str, &str); 1] = [("primary", "rest:http://backup:8000/fleet")];
const BOTH: [(&str, &str); 2] =
    [("primary", "rest:http://backup:8000/fleet"), ("mirror", "s3:https://s3.example.net/fleet-mirror")];

fn fleet() -> Vec<Spec> {
    vec![
        Spec::new("mariadb", 3, 412, 5_368_709_120, 22.6),
        Spec::new("grafana", 1, 1_204, 268_435_456, 3.1),
        Spec::new("paperless", 2, 18_233, 12_884_901_888, 31.4),
        Spec::new("emby", 1, 9_120, 2_147_483_648, 11.8),
        Spec::new("downloader", 1, 733, 419_430_400, 4.4),
        Spec::new("nextpvr", 1, 96, 31_457_280, 0.7),
    ]
}

fn damage() -> Vec<Finding> {
    let mut findings = vec![
        Finding::damage(
            "restore.blob",
            "var/lib/mysql/ibdata1",
            "chunk 4f1a09be, 1.3 MiB",
            "the pack file 77ab21f0 ends after 412 bytes",
        ),
        Finding::damage(
            "tree.size",
            "var/lib/mysql/ibdata1",
            "79,691,776 bytes",
            "78,331,904 bytes; the end of the file is missing",
        ),
        Finding::anomaly(
            "shape.files_drop",
            "var/lib/mysql/orders",
            "about 412 files, as in the last verified snapshot",
            "131 files",
        ),
    ];
    findings.extend((0..23).map(|i| {
        Finding::damage(
            "tree.content",
            format!("var/lib/mysql/orders/t{i:03}.ibd"),
            "SHA-256 1f0c9e5b…",
            "SHA-256 a771d03e…",
        )
    }));
    findings
}

/// Six tags, all verified, all objectives met.
pub(crate) fn all_verified() -> Judgement {
    Run::of(&fleet(), &PRIMARY).control(0).finish()
}

/// One tag failed with many findings.
pub(crate) fn one_failed() -> Judgement {
    let mut specs = fleet();
    specs[0].outcome = Outcome::Damaged(damage());
    Run::of(&specs, &PRIMARY).control(0).finish()
}

/// One probe was interrupted, one drill had an error, one never started.
pub(crate) fn inconclusive() -> Judgement {
    let mut specs = fleet();
    specs[1].outcome = Outcome::Interrupted("scratch is full: no space left on device".to_owned());
    specs[3].outcome = Outcome::Errored(
        Error::new(ErrorKind::Unavailable, "read pack 77ab21f0 from the copy primary")
            .because("http://user:hunter2@backup:8000/fleet/data/77: connection reset by peer")
            .advise("look at the repository server's log, then run this again"),
    );
    specs[5].outcome = Outcome::NotStarted;
    Run::of(&specs, &PRIMARY).control(0).finish()
}

/// Everything restores, but one tag is too old, and one takes too long.
pub(crate) fn objective_missed() -> Judgement {
    let mut specs = fleet();
    specs[0].age_seconds = 51 * HOUR;
    specs[0].basis = RecoveryBasis::Snapshot;
    specs[2].rto = Some(20);
    Run::of(&specs, &PRIMARY).control(0).finish()
}

/// Two copies: one of everything.
pub(crate) fn two_copies() -> Judgement {
    let mut specs = fleet();
    specs[0].outcome = Outcome::Damaged(damage());
    specs[2].rto = Some(20);
    let mut mirror: Vec<_> = fleet().into_iter().map(|s| s.on("mirror")).collect();
    mirror[0].age_seconds = 51 * HOUR;
    mirror[0].basis = RecoveryBasis::Snapshot;
    mirror[2].outcome = Outcome::Interrupted("the limit of 10m passed".to_owned());
    mirror[3].outcome = Outcome::Errored(
        Error::new(ErrorKind::Unavailable, "read pack 77ab21f0 from the copy mirror")
            .because("connection reset by peer")
            .advise("look at the repository server's log, then run this again"),
    );
    specs.extend(mirror);
    Run::of(&specs, &BOTH).control(0).finish()
}

/// The only copy could not be read, so that nothing was planned.
pub(crate) fn copy_unreadable() -> Judgement {
    let mut run = Run::of(&[], &PRIMARY);
    run.events = vec![Event::CopyError {
        copy: CopyName("primary".to_owned()),
        error: Error::new(ErrorKind::Unavailable, "open rest:http://firedrill:hunter2@backup:8000/fleet")
            .because("connection refused")
            .advise("is the repository server up?"),
    }];
    run.finish()
}

/// The copy was read, and there was nothing to drill in it.
pub(crate) fn nothing_selected() -> Judgement {
    Run::of(&[], &PRIMARY).finish()
}

/// One copy is damaged as a whole, although every drill is good.
pub(crate) fn copy_damaged() -> Judgement {
    let mut run = Run::of(&fleet(), &PRIMARY);
    run.events.push(Event::CopyFinding {
        copy: CopyName("primary".to_owned()),
        finding: Finding::damage(
            "repository.snapshot",
            "snapshots/0c1e…",
            "a readable snapshot file",
            "its content does not match its name",
        ),
    });
    run.control(0).finish()
}

/// A tag that the config names has no snapshot.
pub(crate) fn snapshot_missing() -> Judgement {
    let mut specs = fleet();
    specs[4].outcome = Outcome::Missing;
    Run::of(&specs, &PRIMARY).control(0).finish()
}

/// Everything looks good, but so did the deliberate damage.
pub(crate) fn control_missed() -> Judgement {
    Run::of(&fleet(), &PRIMARY).control(2).finish()
}

/// The config switches the negative control off.
pub(crate) fn control_off() -> Judgement {
    let mut run = Run::of(&fleet(), &PRIMARY);
    run.plan.control = None;
    run.plan.control_off = true;
    run.finish()
}

/// The run died in the middle.
pub(crate) fn cut_short() -> Judgement {
    let mut run = Run::of(&fleet(), &PRIMARY);
    run.events.truncate(24);
    run.cut()
}

/// The latest and an older snapshot of one tag, the older one failed.
pub(crate) fn two_of_one_tag() -> Judgement {
    let latest = Spec::new("grafana", 1, 1_204, 268_435_456, 3.1);
    let mut older = latest.clone().which("oldest").came_to(Outcome::Damaged(damage()));
    older.age_seconds = 700 * HOUR;
    Run::of(&[older, latest], &PRIMARY).control(0).finish()
}

/// A large fleet.
pub(crate) fn many(tags: usize) -> Judgement {
    let specs: Vec<_> = (0..tags)
        .map(|i| {
            let spec = Spec::new(&format!("tenant-{i:03}"), 1 + i as u64 % 20, 40 + i as u64, 1 << 26, 0.4);
            match i % 67 {
                13 => spec.came_to(Outcome::Damaged(damage())),
                _ => spec,
            }
        })
        .collect();
    Run::of(&specs, &PRIMARY).control(0).finish()
}

/// Names that attack whatever shows them.
pub(crate) fn hostile() -> Judgement {
    hostile_run().finish()
}

fn hostile_run() -> Run {
    let names = [
        "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31mred",
        "<script>alert(1)</script><img src=x onerror=alert(2)>",
        "a/b c%2F?x#y\"'\\\n# TYPE firedrill_copy_ok counter",
        "invoice\u{202e}fdp.exe\u{200b}",
        "]]>&lt;\u{0}\u{fffe}\u{85}",
        "../../etc/passwd",
    ];
    let mut specs: Vec<_> = names.iter().map(|n| Spec::new(n, 2, 10, 1 << 20, 0.3)).collect();
    specs.push(Spec::new(&"very-long-tag-name-".repeat(30), 2, 10, 1 << 20, 0.3));
    for (spec, name) in specs.iter_mut().zip(names) {
        spec.outcome = Outcome::Damaged(vec![Finding::damage("tree.content", name, name, name)]);
    }
    let mut run = Run::of(&specs, &BOTH[..1]);
    run.plan.copies[0].location = "s3:https://key:hunter2@s3.example.net/\u{1b}[31m<b>".to_owned();
    run.control(0)
}

/// All of them, with a name each.
pub(crate) fn all() -> BTreeMap<&'static str, Judgement> {
    BTreeMap::from([
        ("all_verified", all_verified()),
        ("one_failed", one_failed()),
        ("inconclusive", inconclusive()),
        ("objective_missed", objective_missed()),
        ("two_copies", two_copies()),
        ("copy_unreadable", copy_unreadable()),
        ("nothing_selected", nothing_selected()),
        ("copy_damaged", copy_damaged()),
        ("snapshot_missing", snapshot_missing()),
        ("control_missed", control_missed()),
        ("control_off", control_off()),
        ("cut_short", cut_short()),
        ("two_of_one_tag", two_of_one_tag()),
        ("many", many(200)),
        ("hostile", hostile()),
    ])
}

/// Whether `text` shows the password that hides in some of these judgements.
pub(crate) fn leaks(text: &str) -> bool {
    text.contains("hunter2")
}
