//! What the page shows, as plain text: everything is worded, cleaned and bounded here, so that the
//! template only lays it out.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use firedrill_core::event::Phase;
use firedrill_core::judge::{ControlState, CopyJudgement, DrillJudgement, Judgement};
use firedrill_core::snapshot::CopyName;
use firedrill_core::verdict::{Exit, Verdict};

use super::cards::{self, Card};
use super::{drill, problem};
use crate::story::{self, Standing};
use crate::text;

/// Findings per drill, and deliberate damages.
pub(super) const FINDINGS_PER_DRILL: usize = 50;
/// Drills on the page.
const DRILLS_MAX: usize = 2_000;
/// Characters of a finding's field, of a note, of a name.
pub(super) const FIELD_MAX: usize = 600;
pub(super) const NAME_MAX: usize = 200;
/// Notes and gaps per examination.
pub(super) const NOTES_MAX: usize = 20;

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

    pub(super) fn of(standing: Standing) -> Self {
        match standing {
            Standing::Failed => Self::Bad,
            Standing::Inconclusive => Self::Doubt,
            Standing::ObjectiveMissed => Self::Objective,
            Standing::Verified => Self::Good,
        }
    }
}

/// The tone of a drill. Nothing is green in a run that would have called damage verified.
pub(super) fn tone_in(judgement: &Judgement, standing: Standing) -> Tone {
    match judgement.control.state {
        ControlState::Missed if standing == Standing::Verified => Tone::None,
        _ => Tone::of(standing),
    }
}

pub(super) fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Failed => "failed",
        Standing::Inconclusive => "inconclusive",
        Standing::ObjectiveMissed => "verified, objective missed",
        Standing::Verified => "verified",
    }
}

pub(super) fn verdict_badge(judgement: &Judgement, verdict: Verdict) -> (Tone, &'static str) {
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
    /// What the data was loaded into.
    pub(super) engines: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Something that is not verified, and how many drills share it.
pub(super) struct Gap {
    pub(super) text: String,
    pub(super) shared: String,
}

pub(super) struct ControlView {
    /// Whether the config switches it off.
    pub(super) off: bool,
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
            shown.iter().enumerate().map(|(i, d)| drill::view(judgement, d, i, longest)).collect();
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
            problems: problem::problems(judgement, &shown),
            copies: judgement.copies.iter().map(copy_view).collect(),
            matrix: matrix(judgement, &shown),
            drills_more: sorted.len() - drills.len(),
            drills,
            several_copies: judgement.copies.len() > 1,
            phases: phases(&shown),
            unproven: unproven(judgement),
            control: control_view(judgement),
            facts: facts(judgement),
            command: text::brief(&judgement.command, 4_000),
        }
    }
}

/// The phases that any drill had, for the legend.
fn phases(drills: &[&DrillJudgement]) -> Vec<&'static str> {
    let had = |phase: &Phase| drills.iter().any(|d| d.rta.phases.contains_key(phase));
    Phase::ALL.into_iter().filter(|p| *p != Phase::Provision).filter(had).map(Phase::word).collect()
}

fn run_tone(judgement: &Judgement) -> (Tone, &'static str) {
    match judgement.verdict {
        Verdict::Failed => (Tone::Bad, "failed"),
        Verdict::Inconclusive if judgement.exit == Exit::NothingSelected => (Tone::Doubt, "nothing selected"),
        Verdict::Inconclusive => (Tone::Doubt, "inconclusive"),
        Verdict::Verified if judgement.drills.iter().any(DrillJudgement::objective_missed) => {
            (Tone::Objective, "verified, objective missed")
        }
        Verdict::Verified => (Tone::Good, "verified"),
    }
}

pub(super) fn copy_tone(copy: &CopyJudgement) -> (Tone, &'static str) {
    match story::copy_standing(copy) {
        Standing::Failed => (Tone::Bad, "damaged"),
        Standing::Inconclusive => (Tone::Doubt, "not read"),
        missed @ Standing::ObjectiveMissed => (Tone::of(missed), "late"),
        Standing::Verified => (Tone::Good, "readable"),
    }
}

/// Notes shown about one copy.
const COPY_NOTES_MAX: usize = 12;

fn copy_view(copy: &CopyJudgement) -> CopyView {
    let (tone, word) = copy_tone(copy);
    let facts = match &copy.facts {
        Some(facts) => {
            let opened = format!(
                "{} version {}, {} snapshots, opened in {}",
                text::brief(&facts.kind, 40),
                facts.version,
                text::count(facts.snapshots),
                text::span(facts.seconds)
            );
            let notes = facts.notes.iter().take(COPY_NOTES_MAX).map(|note| text::brief(note, FIELD_MAX));
            std::iter::once(opened).chain(notes).collect::<Vec<_>>().join("; ")
        }
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
pub(super) fn anchor(index: usize) -> String {
    format!("drill-{index}")
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
            ControlState::NotRun | ControlState::SwitchedOff => Tone::Doubt,
            ControlState::NotPlanned => Tone::None,
        },
        off: control.state == ControlState::SwitchedOff,
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
