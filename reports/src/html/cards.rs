//! The three questions of an operator, answered at the top of the page.

use std::collections::{BTreeMap, BTreeSet};

use firedrill_core::judge::{ControlState, DrillJudgement, Judgement, ObjectiveState};
use firedrill_core::snapshot::Series;
use firedrill_core::verdict::Verdict;

use super::view::Tone;
use crate::{story, text};

/// Names in one sentence.
const NAMES_MAX: usize = 4;

/// One question and its answer.
pub(super) struct Card {
    pub(super) question: &'static str,
    pub(super) answer: String,
    pub(super) note: String,
    /// What spoils the answer, each with its tone.
    pub(super) buts: Vec<(Tone, String)>,
}

pub(super) fn cards(judgement: &Judgement) -> Vec<Card> {
    vec![lose(judgement), down(judgement), know(judgement)]
}

/// What would be lost: for each tag the newest recovery point of all verified drills counts, because
/// that is what one would restore.
fn lose(judgement: &Judgement) -> Card {
    let mut best: BTreeMap<&Series, &DrillJudgement> = BTreeMap::new();
    let seconds = |d: &DrillJudgement| d.rpa.as_ref().map_or(f64::INFINITY, |r| r.seconds);
    for drill in judgement.drills.iter().filter(|d| d.verdict == Verdict::Verified && d.rpa.is_some()) {
        let known = best.entry(&drill.series).or_insert(drill);
        if seconds(drill) < seconds(known) {
            *known = drill;
        }
    }
    let worst = best.values().max_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    let proven: BTreeSet<_> = best.keys().copied().collect();
    let mut seen = BTreeSet::new();
    let lost: Vec<_> = judgement
        .drills
        .iter()
        .filter(|d| !proven.contains(&d.series) && seen.insert(&d.series))
        .map(|d| text::brief(&d.series.to_string(), 80))
        .collect();
    let mut buts = Vec::new();
    if !lost.is_empty() {
        let tone = if judgement.verdict == Verdict::Failed { Tone::Bad } else { Tone::Doubt };
        buts.push((tone, format!("No proven backup of {}", text::listed(&lost, NAMES_MAX))));
    }
    buts.extend(void(judgement));
    buts.extend(missed(judgement, "Recovery point", |d| d.rpo.state == ObjectiveState::Missed));
    match worst {
        Some(worst) => Card {
            question: "What would I lose?",
            answer: format!("Up to {}", text::span(seconds(worst))),
            note: format!(
                "the worst case is {}, restored from its newest proven snapshot",
                story::subject(judgement, worst)
            ),
            buts,
        },
        None => Card {
            question: "What would I lose?",
            answer: "Unknown".to_owned(),
            note: "no backup was proven restorable".to_owned(),
            buts,
        },
    }
}

/// What takes the worth from every answer.
fn void(judgement: &Judgement) -> Option<(Tone, String)> {
    let void = judgement.control.state == ControlState::Missed;
    void.then(|| (Tone::Bad, "Not proven: this run missed its negative control".to_owned()))
}

fn down(judgement: &Judgement) -> Card {
    let verified = || judgement.drills.iter().filter(|d| d.verdict == Verdict::Verified);
    let measured = || verified().filter_map(|d| Some((d, d.rta.total_seconds?)));
    let longest = measured().max_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut buts: Vec<_> = void(judgement).into_iter().collect();
    buts.extend(missed(judgement, "Recovery time", |d| d.rto.state == ObjectiveState::Missed));
    match longest {
        Some((drill, seconds)) => Card {
            question: "How long would I be down?",
            answer: format!("{} at most", text::span(seconds)),
            note: format!(
                "per tag, for {}; everything one after another took {}. Getting a machine to restore to \
                 is not part of it",
                story::subject(judgement, drill),
                text::span(measured().map(|(_, s)| s).sum())
            ),
            buts,
        },
        None => Card {
            question: "How long would I be down?",
            answer: "Unknown".to_owned(),
            note: "no proven restore was measured from beginning to end".to_owned(),
            buts,
        },
    }
}

fn missed(judgement: &Judgement, what: &str, is: impl Fn(&DrillJudgement) -> bool) -> Option<(Tone, String)> {
    let names: Vec<_> =
        judgement.drills.iter().filter(|d| is(d)).map(|d| story::subject(judgement, d)).collect();
    (!names.is_empty())
        .then(|| (Tone::Objective, format!("{what} objective missed: {}", text::listed(&names, NAMES_MAX))))
}

fn know(judgement: &Judgement) -> Card {
    let drills = &judgement.drills;
    let files: u64 = drills.iter().map(|d| d.files).sum();
    let bytes: u64 = drills.iter().map(|d| d.bytes).sum();
    let checked: u64 = drills.iter().flat_map(|d| &d.examinations).map(|e| e.checked).sum();
    let probes: BTreeSet<_> = drills.iter().flat_map(|d| &d.examinations).map(|e| &e.probe).collect();
    let mut buts = Vec::new();
    let mut note = format!(
        "{} restored, {} examined by {}",
        text::bytes(bytes),
        text::counted(usize::try_from(checked).unwrap_or(usize::MAX), "item", "items"),
        text::counted(probes.len(), "kind of probe", "kinds of probe"),
    );
    let control = story::control(judgement);
    match judgement.control.state {
        ControlState::Caught => note.push_str(&format!("; {control}")),
        ControlState::Missed => buts.push((Tone::Bad, control)),
        ControlState::NotRun => buts.push((Tone::Doubt, format!("Negative control: {control}"))),
        ControlState::SwitchedOff => buts.push((Tone::Doubt, format!("Negative control: {control}"))),
        ControlState::NotPlanned => buts.push((Tone::Doubt, "No negative control was run".to_owned())),
    }
    Card {
        question: "How do you know?",
        answer: format!(
            "{} restored",
            text::counted(usize::try_from(files).unwrap_or(usize::MAX), "file", "files")
        ),
        note,
        buts,
    }
}
