//! What the page shows, as plain text: everything is worded, cleaned and bounded here, so that the
//! template only lays it out.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use firedrill_core::event::Phase;
use firedrill_core::finding::{Class, Examination, Finding, RecoveryBasis};
use firedrill_core::judge::{
    ControlState, CopyJudgement, DrillJudgement, Judgement, Objective, ObjectiveState,
};
use firedrill_core::snapshot::CopyName;
use firedrill_core::verdict::Verdict;

use super::cards::{self, Card};
use crate::story::{self, Standing};
use crate::text;

/// Findings shown at once and behind a click, per drill and on the whole page.
const FINDINGS_AT_ONCE: usize = 5;
const FINDINGS_PER_DRILL: usize = 50;
const FINDINGS_PER_PAGE: usize = 2_000;
/// Drills on the page.
const DRILLS_MAX: usize = 2_000;
/// Characters of a finding's field, of a note, of a name.
const FIELD_MAX: usize = 600;
const NAME_MAX: usize = 200;
/// Notes and gaps per examination.
const NOTES_MAX: usize = 20;

#[derive(Template)]
#[template(path = "report.html")]
pub(super) struct Page {
    pub(super) tone: Tone,
    pub(super) word: &'static str,
    pub(super) lead: String,
    pub(super) points: Vec<(Tone, String)>,
    pub(super) tally: String,
    pub(super) at: String,
    pub(super) reasons: Vec<String>,
    pub(super) cards: Vec<Card>,
    pub(super) problems: Vec<Problem>,
    pub(super) copies: Vec<CopyView>,
    pub(super) matrix: Vec<MatrixRow>,
    pub(super) drills: Vec<DrillView>,
    pub(super) drills_more: usize,
    pub(super) several_copies: bool,
    pub(super) phases: Vec<&'static str>,
    pub(super) unproven: Vec<Gap>,
    pub(super) control: ControlView,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) command: String,
}

/// The colour and symbol of something. Never the only bearer of meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Objective,
    Doubt,
    Bad,
    None,
}

impl Tone {
    /// The CSS class, which is also the name of the symbol.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Objective => "objective",
            Self::Doubt => "doubt",
            Self::Bad => "bad",
            Self::None => "none",
        }
    }

    fn of(standing: Standing) -> Self {
        match standing {
            Standing::Failed => Self::Bad,
            Standing::Inconclusive => Self::Doubt,
            Standing::ObjectiveMissed => Self::Objective,
            Standing::Verified => Self::Good,
        }
    }
}

/// The tone of a drill. Nothing is green in a run that would have called damage verified.
fn tone_in(judgement: &Judgement, standing: Standing) -> Tone {
    match judgement.control.state {
        ControlState::Missed if standing == Standing::Verified => Tone::None,
        _ => Tone::of(standing),
    }
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Failed => "failed",
        Standing::Inconclusive => "inconclusive",
        Standing::ObjectiveMissed => "verified, objective missed",
        Standing::Verified => "verified",
    }
}

fn verdict_badge(judgement: &Judgement, verdict: Verdict) -> (Tone, &'static str) {
    let standing = match verdict {
        Verdict::Failed => Standing::Failed,
        Verdict::Inconclusive => Standing::Inconclusive,
        Verdict::Verified => Standing::Verified,
    };
    (tone_in(judgement, standing), word(standing))
}

/// One drill or copy that is not simply verified.
pub(super) struct Problem {
    pub(super) tone: Tone,
    pub(super) word: &'static str,
    pub(super) subject: String,
    pub(super) about: String,
    pub(super) findings: Vec<FindingView>,
    pub(super) findings_folded: Vec<FindingView>,
    pub(super) findings_more: u64,
    pub(super) gaps: Vec<String>,
    pub(super) objectives: Vec<String>,
}

pub(super) struct FindingView {
    pub(super) class: &'static str,
    pub(super) code: String,
    pub(super) location: String,
    pub(super) expected: String,
    pub(super) seen: String,
}

pub(super) struct CopyView {
    pub(super) name: String,
    pub(super) location: String,
    pub(super) tone: Tone,
    pub(super) word: &'static str,
    pub(super) facts: String,
}

/// One tag in all copies.
pub(super) struct MatrixRow {
    pub(super) tag: String,
    pub(super) cells: Vec<Vec<MatrixCell>>,
}

pub(super) struct MatrixCell {
    pub(super) tone: Tone,
    pub(super) word: &'static str,
    pub(super) note: String,
    pub(super) anchor: String,
}

pub(super) struct DrillView {
    pub(super) anchor: String,
    pub(super) tone: Tone,
    pub(super) verdict: (Tone, &'static str),
    pub(super) objective_missed: bool,
    pub(super) tag: String,
    pub(super) copy: String,
    pub(super) snapshot: String,
    pub(super) snapshot_id: String,
    pub(super) snapshot_time: String,
    pub(super) snapshot_age: String,
    pub(super) host: String,
    pub(super) restored: String,
    pub(super) restored_note: String,
    pub(super) lose: Measure,
    pub(super) down: Measure,
    pub(super) segments: Vec<Segment>,
    pub(super) phases_told: String,
    pub(super) examined: String,
    pub(super) probes: Vec<ProbeView>,
    pub(super) withheld: Vec<String>,
    pub(super) kept: Option<String>,
}

/// A measurement beside its objective.
pub(super) struct Measure {
    pub(super) actual: String,
    pub(super) objective: String,
    pub(super) note: &'static str,
    pub(super) missed: bool,
    /// How much of the objective is used up, in percent, for a bar.
    pub(super) used: Option<u32>,
}

/// One phase in a bar.
pub(super) struct Segment {
    pub(super) class: &'static str,
    pub(super) percent: String,
}

pub(super) struct ProbeView {
    pub(super) name: String,
    pub(super) tone: Tone,
    pub(super) result: String,
    pub(super) checked: String,
    pub(super) not_verified: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Something that is not verified, and how many drills share it.
pub(super) struct Gap {
    pub(super) text: String,
    pub(super) shared: String,
}

pub(super) struct ControlView {
    pub(super) tone: Tone,
    pub(super) told: String,
    pub(super) of: Option<String>,
    pub(super) damages: Vec<Damage>,
}

pub(super) struct Damage {
    pub(super) what: String,
    pub(super) location: String,
    pub(super) code: String,
    pub(super) found: bool,
}

impl Page {
    pub(super) fn of(judgement: &Judgement) -> Self {
        let sorted = story::worst_first(judgement);
        let longest = sorted.iter().filter_map(|d| d.rta.total_seconds).fold(0.0, f64::max);
        let shown: Vec<_> = sorted.iter().copied().take(DRILLS_MAX).collect();
        let drills: Vec<_> =
            shown.iter().enumerate().map(|(i, d)| drill_view(judgement, d, i, longest)).collect();
        let (tone, word) = run_tone(judgement);
        Self {
            tone,
            word,
            lead: story::lead(judgement),
            points: story::points(judgement).into_iter().map(|(s, text)| (Tone::of(s), text)).collect(),
            tally: story::tally(judgement),
            at: text::moment(judgement.at),
            reasons: judgement.reasons.iter().map(|r| text::brief(&r.text, FIELD_MAX)).collect(),
            cards: cards::cards(judgement),
            problems: problems(judgement, &shown),
            copies: judgement.copies.iter().map(copy_view).collect(),
            matrix: matrix(judgement, &shown),
            drills_more: sorted.len() - drills.len(),
            drills,
            several_copies: judgement.copies.len() > 1,
            phases: Phase::ALL.into_iter().filter(|p| *p != Phase::Provision).map(Phase::word).collect(),
            unproven: unproven(judgement),
            control: control_view(judgement),
            facts: facts(judgement),
            command: text::brief(&judgement.command, 4_000),
        }
    }
}

fn run_tone(judgement: &Judgement) -> (Tone, &'static str) {
    match judgement.verdict {
        Verdict::Failed => (Tone::Bad, "failed"),
        Verdict::Inconclusive => (Tone::Doubt, "inconclusive"),
        Verdict::Verified if judgement.drills.is_empty() => (Tone::Doubt, "nothing selected"),
        Verdict::Verified if judgement.drills.iter().any(DrillJudgement::objective_missed) => {
            (Tone::Objective, "verified, objective missed")
        }
        Verdict::Verified => (Tone::Good, "verified"),
    }
}

fn problems(judgement: &Judgement, drills: &[&DrillJudgement]) -> Vec<Problem> {
    let mut room = FINDINGS_PER_PAGE;
    let copies = judgement.copies.iter().filter(|c| c.verdict != Verdict::Verified);
    let mut problems: Vec<_> = copies.map(|copy| copy_problem(copy, &mut room)).collect();
    let bad = drills.iter().filter(|d| Standing::of(d) != Standing::Verified);
    problems.extend(bad.map(|drill| drill_problem(judgement, drill, &mut room)));
    problems
}

fn copy_problem(copy: &CopyJudgement, room: &mut usize) -> Problem {
    let (tone, word) = copy_tone(copy);
    let mut problem = Problem {
        tone,
        word,
        subject: format!("The copy {} as a whole", text::brief(&copy.name.0, NAME_MAX)),
        about: text::brief(&copy.location, FIELD_MAX),
        findings: Vec::new(),
        findings_folded: Vec::new(),
        findings_more: 0,
        gaps: copy.errors.iter().map(|e| text::brief(&e.chain(), FIELD_MAX)).collect(),
        objectives: Vec::new(),
    };
    problem.show(&copy.findings.iter().collect::<Vec<_>>(), 0, room);
    if copy.findings.is_empty() && copy.errors.is_empty() {
        problem.gaps.push("it was planned and was not opened".to_owned());
    }
    problem
}

fn drill_problem(judgement: &Judgement, drill: &DrillJudgement, room: &mut usize) -> Problem {
    let standing = Standing::of(drill);
    let about = match (&drill.snapshot, drill.snapshot_time) {
        (Some(id), Some(time)) => {
            format!("snapshot {} of {}", text::brief(id.short(), 8), text::moment(time))
        }
        _ => "no snapshot".to_owned(),
    };
    let missed = [("recovery time", &drill.rto), ("recovery point", &drill.rpo)];
    let mut problem = Problem {
        tone: Tone::of(standing),
        word: word(standing),
        subject: story::subject(judgement, drill),
        about,
        findings: Vec::new(),
        findings_folded: Vec::new(),
        findings_more: 0,
        gaps: drill
            .reasons
            .iter()
            .filter(|r| r.verdict == Verdict::Inconclusive)
            .map(|r| text::brief(&r.text, FIELD_MAX))
            .collect(),
        objectives: missed.into_iter().filter_map(|(what, o)| story::missed(what, o)).collect(),
    };
    let mut findings: Vec<_> = drill.findings.iter().collect();
    // Damage weighs most, and of each kind one is worth more than many of the same kind.
    let mut seen = BTreeMap::new();
    findings.sort_by_cached_key(|f| {
        let repeated = seen.entry(&f.code).and_modify(|n| *n += 1).or_insert(0_usize);
        (*repeated > 0, std::cmp::Reverse(f.class), *repeated)
    });
    problem.show(&findings, drill.findings_omitted, room);
    problem
}

impl Problem {
    fn show(&mut self, findings: &[&Finding], omitted: u64, room: &mut usize) {
        let count = findings.len().min(FINDINGS_PER_DRILL).min((*room).max(1));
        *room = room.saturating_sub(count);
        let mut views = findings.iter().take(count).map(|f| finding_view(f));
        self.findings = views.by_ref().take(FINDINGS_AT_ONCE).collect();
        self.findings_folded = views.collect();
        self.findings_more = (findings.len() - count) as u64 + omitted;
    }
}

fn finding_view(finding: &Finding) -> FindingView {
    FindingView {
        class: match finding.class {
            Class::Damage => "damage",
            Class::Anomaly => "anomaly",
            Class::Objective => "objective",
        },
        code: text::brief(&finding.code, 80),
        location: text::brief(&finding.location, FIELD_MAX),
        expected: text::brief(&finding.expected, FIELD_MAX),
        seen: text::brief(&finding.seen, FIELD_MAX),
    }
}

fn copy_tone(copy: &CopyJudgement) -> (Tone, &'static str) {
    match copy.verdict {
        Verdict::Failed => (Tone::Bad, "damaged"),
        Verdict::Inconclusive => (Tone::Doubt, "not read"),
        Verdict::Verified => (Tone::Good, "readable"),
    }
}

fn copy_view(copy: &CopyJudgement) -> CopyView {
    let (tone, word) = copy_tone(copy);
    let facts = match &copy.facts {
        Some(facts) => format!(
            "{} version {}, {} snapshots, opened in {}",
            text::brief(&facts.kind, 40),
            facts.version,
            text::count(facts.snapshots),
            text::span(facts.seconds)
        ),
        None => "not opened".to_owned(),
    };
    let location = text::brief(&copy.location, FIELD_MAX);
    CopyView { name: text::brief(&copy.name.0, NAME_MAX), location, tone, word, facts }
}

/// Tags by copies, tags with the worst verdict first; empty when there is only one copy.
fn matrix(judgement: &Judgement, drills: &[&DrillJudgement]) -> Vec<MatrixRow> {
    let copies: Vec<&CopyName> = judgement.copies.iter().map(|c| &c.name).collect();
    if copies.len() < 2 {
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let tags = drills.iter().map(|d| &d.series).filter(|s| seen.insert(*s));
    tags.map(|series| MatrixRow {
        tag: tag_text(&series.to_string()),
        cells: copies
            .iter()
            .map(|copy| {
                let own = drills.iter().enumerate().filter(|(_, d)| &d.series == series && d.copy == **copy);
                own.map(|(i, d)| matrix_cell(judgement, d, i)).collect()
            })
            .collect(),
    })
    .collect()
}

fn matrix_cell(judgement: &Judgement, drill: &DrillJudgement, index: usize) -> MatrixCell {
    let standing = Standing::of(drill);
    let note = match &drill.rpa {
        Some(rpa) => format!("{} behind", text::span(rpa.seconds)),
        None => "nothing restored".to_owned(),
    };
    MatrixCell { tone: tone_in(judgement, standing), word: word(standing), note, anchor: anchor(index) }
}

fn tag_text(tag: &str) -> String {
    if tag.is_empty() { "(no tag)".to_owned() } else { text::brief(tag, NAME_MAX) }
}

/// Numbered, because names may be anything.
fn anchor(index: usize) -> String {
    format!("drill-{index}")
}

fn drill_view(judgement: &Judgement, drill: &DrillJudgement, index: usize, longest: f64) -> DrillView {
    let standing = Standing::of(drill);
    let restored = drill.rpa.is_some();
    let files = usize::try_from(drill.files).unwrap_or(usize::MAX);
    let checked: u64 = drill.examinations.iter().map(|e| e.checked).sum();
    DrillView {
        anchor: anchor(index),
        tone: tone_in(judgement, standing),
        verdict: verdict_badge(judgement, drill.verdict),
        objective_missed: drill.objective_missed(),
        tag: story::tag(drill),
        copy: text::brief(&drill.copy.0, NAME_MAX),
        snapshot: drill.snapshot.as_ref().map_or("none".to_owned(), |s| text::brief(s.short(), 8)),
        snapshot_id: drill.snapshot.as_ref().map(|s| text::brief(&s.0, 64)).unwrap_or_default(),
        snapshot_time: drill.snapshot_time.map(text::moment).unwrap_or_default(),
        snapshot_age: drill
            .snapshot_time
            .map(|t| text::age(judgement.at.duration_since(t).as_secs_f64()))
            .unwrap_or_default(),
        host: drill.host.as_deref().map(|h| text::brief(h, NAME_MAX)).unwrap_or_default(),
        restored: if restored { text::bytes(drill.bytes) } else { "nothing".to_owned() },
        restored_note: if restored { text::counted(files, "file", "files") } else { String::new() },
        lose: lose(drill),
        down: measure(drill.rta.total_seconds, &drill.rto, "RTO", ""),
        segments: segments(drill, longest),
        phases_told: phases_told(drill),
        examined: match drill.examinations.len() {
            0 => "nothing examined".to_owned(),
            probes => format!(
                "{} by {}",
                text::counted(usize::try_from(checked).unwrap_or(usize::MAX), "item", "items"),
                text::counted(probes, "probe", "probes")
            ),
        },
        probes: drill.examinations.iter().map(|e| probe_view(drill, e)).collect(),
        withheld: drill.withheld.iter().take(NOTES_MAX).map(|w| text::brief(w, FIELD_MAX)).collect(),
        kept: drill.kept.as_deref().map(|k| text::brief(k, FIELD_MAX)),
    }
}

/// What would be lost. Where the backup is not verified that is only the least one would lose.
fn lose(drill: &DrillJudgement) -> Measure {
    let mut lose = measure(drill.rpa.as_ref().map(|r| r.seconds), &drill.rpo, "RPO", basis(drill));
    if drill.verdict != Verdict::Verified && drill.rpa.is_some() {
        lose.actual = format!("at least {}", lose.actual);
    }
    lose
}

fn basis(drill: &DrillJudgement) -> &'static str {
    match drill.rpa.as_ref().map(|r| r.basis) {
        Some(RecoveryBasis::Canary) => "by a canary",
        Some(RecoveryBasis::Data) => "by its data",
        Some(RecoveryBasis::Snapshot) => "by snapshot time only",
        None => "",
    }
}

fn measure(actual: Option<f64>, objective: &Objective, name: &str, note: &'static str) -> Measure {
    let missed = objective.state == ObjectiveState::Missed;
    let promised = objective.objective_seconds.map(text::span);
    let used = match (actual, objective.objective_seconds) {
        (Some(actual), Some(promised)) if promised > 0.0 => {
            Some((actual / promised * 100.0).clamp(1.0, 100.0) as u32)
        }
        _ => None,
    };
    Measure {
        actual: actual.map_or("not measured".to_owned(), text::span),
        objective: match (promised, missed) {
            (Some(promised), true) => format!("{name} {promised} missed"),
            (Some(promised), false) => format!("{name} {promised}"),
            (None, _) => format!("no {name}"),
        },
        note,
        missed,
        used,
    }
}

/// The phases of the recovery time as parts of a bar that is as long as the longest one on the page.
fn segments(drill: &DrillJudgement, longest: f64) -> Vec<Segment> {
    if drill.rta.total_seconds.is_none() || longest <= 0.0 {
        return Vec::new();
    }
    let counted = Phase::ALL.into_iter().filter(|p| *p != Phase::Provision);
    counted
        .filter_map(|phase| {
            let share = drill.rta.phases.get(&phase)? / longest * 100.0;
            share
                .is_finite()
                .then(|| Segment { class: phase.word(), percent: format!("{:.2}", share.clamp(0.0, 100.0)) })
        })
        .collect()
}

fn phases_told(drill: &DrillJudgement) -> String {
    let told: Vec<_> =
        drill.rta.phases.iter().map(|(p, s)| format!("{} {}", p.word(), text::span(*s))).collect();
    told.join(", ")
}

fn probe_view(drill: &DrillJudgement, examination: &Examination) -> ProbeView {
    let prefix = format!("{}.", examination.probe);
    // The judge moves findings to the drill; their code tells whose they are.
    let found = drill.findings.iter().filter(|f| f.code.starts_with(&prefix)).count() as u64
        + examination.findings_omitted;
    let count = |n: u64| text::counted(usize::try_from(n).unwrap_or(usize::MAX), "finding", "findings");
    let (tone, result) = match (&examination.interrupted, found) {
        (Some(why), 0) => (Tone::Doubt, format!("interrupted: {}", text::brief(why, FIELD_MAX))),
        (Some(why), n) => {
            (Tone::Bad, format!("{}, then interrupted: {}", count(n), text::brief(why, FIELD_MAX)))
        }
        (None, 0) if examination.checked == 0 => (Tone::Doubt, "examined nothing".to_owned()),
        (None, 0) if nobodys(drill) => (Tone::None, "see the findings above".to_owned()),
        (None, 0) => (Tone::Good, "nothing wrong".to_owned()),
        (None, n) => (Tone::Bad, count(n)),
    };
    let texts = |all: &[String]| all.iter().take(NOTES_MAX).map(|t| text::brief(t, FIELD_MAX)).collect();
    ProbeView {
        name: text::brief(&examination.probe, 40),
        tone,
        result,
        checked: format!("{} {}", text::count(examination.checked), text::brief(&examination.unit, 40)),
        not_verified: texts(&examination.not_verified),
        notes: texts(&examination.notes),
    }
}

/// Whether there is a finding that cannot be told to be one probe's. Then no probe is called clean.
fn nobodys(drill: &DrillJudgement) -> bool {
    let known = |probe: &str| {
        matches!(probe, "restore" | "snapshot") || drill.examinations.iter().any(|e| e.probe == probe)
    };
    drill.findings.iter().any(|f| !f.code.split_once('.').is_some_and(|(probe, _)| known(probe)))
}

/// What no drill verified, said once for all drills that share it, most common first.
fn unproven(judgement: &Judgement) -> Vec<Gap> {
    let mut gaps: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for drill in &judgement.drills {
        let own: BTreeSet<_> = drill
            .examinations
            .iter()
            .flat_map(|e| e.not_verified.iter().map(|gap| (e.probe.as_str(), gap.as_str())))
            .collect();
        for gap in own {
            *gaps.entry(gap).or_default() += 1;
        }
    }
    let mut gaps: Vec<_> = gaps.into_iter().collect();
    gaps.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let all = judgement.drills.len();
    gaps.into_iter()
        .take(2 * NOTES_MAX)
        .map(|((probe, gap), n)| Gap {
            text: format!("{}: {}", text::brief(probe, 40), text::brief(gap, FIELD_MAX)),
            shared: if n == all { "all drills".to_owned() } else { format!("{n} of {all} drills") },
        })
        .collect()
}

fn control_view(judgement: &Judgement) -> ControlView {
    let control = &judgement.control;
    ControlView {
        tone: match control.state {
            ControlState::Caught => Tone::Good,
            ControlState::Missed => Tone::Bad,
            ControlState::NotRun => Tone::Doubt,
            ControlState::NotPlanned => Tone::None,
        },
        told: story::control(judgement),
        of: control.of.as_ref().map(|d| text::brief(&d.0, NAME_MAX)),
        damages: control
            .injected
            .iter()
            .take(FINDINGS_PER_DRILL)
            .map(|injected| Damage {
                what: text::brief(&injected.what, FIELD_MAX),
                location: text::brief(&injected.location, FIELD_MAX),
                code: text::brief(&injected.expected_code, 80),
                found: control.state != ControlState::NotRun && !control.missed.contains(injected),
            })
            .collect(),
    }
}

fn facts(judgement: &Judgement) -> Vec<(&'static str, String)> {
    let took = judgement.seconds.map_or("it did not end".to_owned(), text::span);
    let interval =
        judgement.interval_seconds.map_or("not known".to_owned(), |s| format!("every {}", text::span(s)));
    vec![
        ("Run", text::brief(&judgement.run, NAME_MAX)),
        ("Started", text::moment(judgement.started)),
        ("Took", took),
        ("Meant to run", interval),
        ("Seed", judgement.seed.to_string()),
        ("firedrill", text::brief(&judgement.version, 80)),
        ("Evidence", format!("{} lines", text::count(judgement.evidence.lines))),
        ("Evidence head", text::brief(&judgement.evidence.head, 64)),
    ]
}
