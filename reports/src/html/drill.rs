//! One drill: what would be lost, how long it took, what was examined.

use firedrill_core::cell::{CellFacts, SealState};
use firedrill_core::event::Phase;
use firedrill_core::finding::{Examination, RecoveryBasis};
use firedrill_core::judge::{DrillJudgement, Judgement, Objective, ObjectiveState};
use firedrill_core::verdict::Verdict;

use super::view::{
    DrillView, FIELD_MAX, Measure, NAME_MAX, NOTES_MAX, ProbeView, Segment, Tone, anchor, tone_in,
    verdict_badge,
};
use crate::story::{self, Standing};
use crate::text;

/// What the page shows of one drill. Bars are drawn against `longest` seconds.
pub(super) fn view(judgement: &Judgement, drill: &DrillJudgement, index: usize, longest: f64) -> DrillView {
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
    let answer = drill.rta.answer_seconds.map(|s| format!("; first good answer after {}", text::span(s)));
    told.join(", ") + &answer.unwrap_or_default()
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
        engines: engines(examination),
        notes: texts(&examination.notes),
    }
}

/// `postgres 15.20 in a cell of the process runtime, sealed`: each kind of cell once.
fn engines(examination: &Examination) -> Vec<String> {
    let told = |cell: &CellFacts| {
        let software: Vec<_> = cell
            .software
            .iter()
            .map(|s| s.version.map_or_else(|| s.kit.clone(), |version| format!("{} {version}", s.kit)))
            .collect();
        let accepted: Vec<_> = cell
            .seal
            .parts
            .iter()
            .filter(|(_, state)| !matches!(state, SealState::Holds(_)))
            .map(|(part, _)| part.word())
            .collect();
        let seal = match accepted.is_empty() {
            true => "its seal was tried and holds".to_owned(),
            false => format!("NOT sealed: {} (accepted by the config)", accepted.join(", ")),
        };
        text::brief(
            &format!("{} in a cell of the {} runtime; {seal}", software.join(" and "), cell.runtime),
            FIELD_MAX,
        )
    };
    let mut engines: Vec<String> = examination.engine.iter().flat_map(|e| &e.cells).map(told).collect();
    engines.sort();
    engines.dedup();
    engines
}

/// Whether there is a finding that cannot be told to be one probe's. Then no probe is called clean.
fn nobodys(drill: &DrillJudgement) -> bool {
    let known = |probe: &str| {
        matches!(probe, "restore" | "snapshot") || drill.examinations.iter().any(|e| e.probe == probe)
    };
    drill.findings.iter().any(|f| !f.code.split_once('.').is_some_and(|(probe, _)| known(probe)))
}
