//! Everything that is not in order: findings about the backup apart from what kept firedrill from
//! looking.

use std::collections::BTreeMap;

use firedrill_core::finding::{Class, Finding};
use firedrill_core::judge::{CopyJudgement, DrillJudgement, Judgement};
use firedrill_core::verdict::Verdict;

use super::view::{FIELD_MAX, FINDINGS_PER_DRILL, FindingView, NAME_MAX, Problem, Tone, copy_tone, word};
use crate::story::{self, Standing};
use crate::text;

/// Findings shown without a click, per drill.
const FINDINGS_AT_ONCE: usize = 5;
/// Findings on the whole page; after that one per drill.
const FINDINGS_PER_PAGE: usize = 2_000;

pub(super) fn problems(judgement: &Judgement, drills: &[&DrillJudgement]) -> Vec<Problem> {
    let mut room = FINDINGS_PER_PAGE;
    let copies = judgement.copies.iter().filter(|c| story::copy_standing(c) != Standing::Verified);
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
            Class::Gap => "gap",
        },
        code: text::brief(&finding.code, 80),
        location: text::brief(&finding.location, FIELD_MAX),
        expected: text::brief(&finding.expected, FIELD_MAX),
        seen: text::brief(&finding.seen, FIELD_MAX),
    }
}
