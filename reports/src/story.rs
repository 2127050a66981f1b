//! What a judgement says, in sentences. Shared by all sinks that speak to people, so that the console
//! and the report never disagree.

use std::collections::{BTreeMap, BTreeSet};

use firedrill_core::finding::{Class, Finding};
use firedrill_core::judge::{
    ControlState, CopyJudgement, DrillJudgement, Judgement, Objective, ObjectiveState,
};
use firedrill_core::verdict::Verdict;

use crate::text;

/// Names of tags in a headline; the rest is counted.
const NAMES_MAX: usize = 3;
/// A location or a sentence in a list of reasons is cut at this many characters.
const SENTENCE_MAX: usize = 600;

/// How a drill is shown: its verdict, with a missed objective set apart. Worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    Failed,
    Inconclusive,
    ObjectiveMissed,
    Verified,
}

impl Standing {
    pub(crate) fn of(drill: &DrillJudgement) -> Self {
        match drill.verdict {
            Verdict::Failed => Self::Failed,
            Verdict::Inconclusive => Self::Inconclusive,
            Verdict::Verified if drill.objective_missed() => Self::ObjectiveMissed,
            Verdict::Verified => Self::Verified,
        }
    }
}

/// The drills, worst first, otherwise in the order of the plan.
pub(crate) fn worst_first(judgement: &Judgement) -> Vec<&DrillJudgement> {
    let mut drills: Vec<_> = judgement.drills.iter().collect();
    drills.sort_by_key(|d| Standing::of(d));
    drills
}

/// The number of different tags in all copies.
pub(crate) fn tags(judgement: &Judgement) -> usize {
    judgement.drills.iter().map(|d| &d.series).collect::<BTreeSet<_>>().len()
}

/// What a drill is about: its tag, with the copy when there are several, and with `which` snapshot when
/// that is not simply the latest.
pub(crate) fn subject(judgement: &Judgement, drill: &DrillJudgement) -> String {
    let mut subject = tag(drill);
    if judgement.copies.len() > 1 {
        subject.push_str(" on ");
        subject.push_str(&text::brief(&drill.copy.0, 80));
    }
    subject
}

/// The tag of a drill, with `which` snapshot when that is not simply the latest.
pub(crate) fn tag(drill: &DrillJudgement) -> String {
    let mut tag = text::brief(&drill.series.to_string(), 200);
    if tag.is_empty() {
        tag.push_str("(no tag)");
    }
    if let Some((_, which)) = drill.name.0.rsplit_once("::")
        && which != "latest"
    {
        tag.push_str(&format!(" ({})", text::brief(which, 80)));
    }
    tag
}

/// The one sentence that an operator has to read.
pub(crate) fn headline(judgement: &Judgement) -> String {
    let points = points(judgement).into_iter().map(|(_, point)| point);
    std::iter::once(lead(judgement)).chain(points).collect::<Vec<_>>().join("; ")
}

/// The first part of the headline: how much is proven.
pub(crate) fn lead(judgement: &Judgement) -> String {
    if judgement.control.state == ControlState::Missed {
        return "This run proves nothing: it did not notice damage that was done on purpose".to_owned();
    }
    if judgement.drills.is_empty() { "Nothing was drilled".to_owned() } else { proven(judgement) }
}

/// The other parts of the headline: what is not proven, worst first.
pub(crate) fn points(judgement: &Judgement) -> Vec<(Standing, String)> {
    let mut points = Vec::new();
    if judgement.control.state == ControlState::Missed {
        return points;
    }
    for (standing, word) in [
        (Standing::Failed, "FAILED"),
        (Standing::Inconclusive, "inconclusive"),
        (Standing::ObjectiveMissed, "missed an objective"),
    ] {
        let names: Vec<_> = judgement
            .drills
            .iter()
            .filter(|d| Standing::of(d) == standing)
            .map(|d| subject(judgement, d))
            .collect();
        if !names.is_empty() {
            let names = format!("{} {word}: {}", names.len(), text::listed(&names, NAMES_MAX));
            points.push((standing, names));
        }
    }
    for copy in &judgement.copies {
        let name = text::brief(&copy.name.0, 80);
        let standing = copy_standing(copy);
        let point = match standing {
            Standing::Failed => format!("the copy {name} is DAMAGED"),
            Standing::Inconclusive => format!("the copy {name} could not be read"),
            Standing::ObjectiveMissed => format!("the copy {name} missed an objective"),
            Standing::Verified => continue,
        };
        points.push((standing, point));
    }
    points
}

fn proven(judgement: &Judgement) -> String {
    let all = judgement.drills.len();
    let verified = judgement.count(Verdict::Verified);
    let noun = if judgement.copies.len() > 1 || tags(judgement) != all { "backup" } else { "tag" };
    match (verified, all) {
        (0, 1) => format!("The only {noun} is not proven restorable"),
        (1, 1) => format!("The only {noun} is proven restorable"),
        (0, _) => format!("None of {all} {noun}s is proven restorable"),
        _ if verified == all => format!("All {all} {noun}s are proven restorable"),
        _ => format!(
            "{verified} of {all} {noun}s {} proven restorable",
            if verified == 1 { "is" } else { "are" }
        ),
    }
}

/// `12 tags: 11 verified, 1 failed, 0 inconclusive in 34 s`.
pub(crate) fn tally(judgement: &Judgement) -> String {
    let tags = tags(judgement);
    let mut line = text::counted(tags, "tag", "tags");
    if judgement.drills.len() != tags {
        line = format!("{} of {line}", text::counted(judgement.drills.len(), "drill", "drills"));
    }
    if judgement.copies.len() > 1 {
        line.push_str(&format!(" on {} copies", judgement.copies.len()));
    }
    let count = |verdict| judgement.count(verdict);
    line.push_str(&format!(
        ": {} verified, {} failed, {} inconclusive",
        count(Verdict::Verified),
        count(Verdict::Failed),
        count(Verdict::Inconclusive)
    ));
    let missed = judgement.drills.iter().filter(|d| d.objective_missed()).count();
    if missed > 0 {
        line.push_str(&format!(", {missed} missed an objective"));
    }
    match judgement.seconds {
        Some(seconds) => line.push_str(&format!(" in {}", text::span(seconds))),
        None => line.push_str(", and the run did not end"),
    }
    line
}

/// What became of the negative control.
pub(crate) fn control(judgement: &Judgement) -> String {
    let control = &judgement.control;
    let all = control.injected.len();
    match control.state {
        ControlState::Caught => format!("{all} of {all} deliberate damages found"),
        ControlState::Missed => format!(
            "{} of {all} deliberate damages found; this run cannot tell a damaged backup from a good one",
            all.saturating_sub(control.missed.len())
        ),
        ControlState::NotRun => "planned, but it did not run to its end".to_owned(),
        ControlState::NotPlanned => "none; nothing with content was drilled".to_owned(),
        ControlState::SwitchedOff => {
            "switched off in the config; whether damage would be found was not tested".to_owned()
        }
    }
}

/// One entry in the list of what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What, in one line.
    pub(crate) what: String,
    /// More about it.
    pub(crate) detail: Option<String>,
}

/// Why a drill is not simply verified: damage first, then what was not examined, then objectives.
/// Findings with the same code are one entry.
pub(crate) fn troubles(drill: &DrillJudgement) -> Vec<Trouble> {
    let of =
        |wanted: fn(Class) -> bool| drill.findings.iter().filter(|f| wanted(f.class)).collect::<Vec<_>>();
    let objectives = of(|class| class == Class::Objective);
    let gaps = of(|class| class == Class::Gap);
    let mut troubles = grouped(of(|class| !matches!(class, Class::Objective | Class::Gap)));
    if drill.findings_omitted > 0 {
        let what = format!("{} more findings that were not kept", text::count(drill.findings_omitted));
        troubles.push(Trouble { what, detail: None });
    }
    troubles.extend(
        drill
            .reasons
            .iter()
            .filter(|r| r.verdict == Verdict::Inconclusive)
            .map(|r| Trouble { what: text::brief(&r.text, SENTENCE_MAX), detail: None }),
    );
    troubles.extend(grouped(objectives));
    let missed = [missed("recovery time", &drill.rto), missed("recovery point", &drill.rpo)];
    troubles.extend(missed.into_iter().flatten().map(|what| Trouble { what, detail: None }));
    troubles.extend(grouped(gaps));
    troubles
}

/// How a copy as a whole stands.
pub(crate) fn copy_standing(copy: &CopyJudgement) -> Standing {
    match copy.verdict {
        Verdict::Failed => Standing::Failed,
        Verdict::Inconclusive => Standing::Inconclusive,
        // What is left are findings about objectives.
        Verdict::Verified if !copy.findings.is_empty() => Standing::ObjectiveMissed,
        Verdict::Verified => Standing::Verified,
    }
}

/// What is wrong with a copy as a whole.
pub(crate) fn copy_troubles(copy: &CopyJudgement) -> Vec<Trouble> {
    let mut troubles = grouped(copy.findings.iter().collect());
    troubles.extend(
        copy.errors.iter().map(|e| Trouble { what: text::brief(&e.chain(), SENTENCE_MAX), detail: None }),
    );
    if troubles.is_empty() && copy.verdict != Verdict::Verified {
        troubles.push(Trouble { what: "the copy was planned and was not opened".to_owned(), detail: None });
    }
    troubles
}

/// How an objective was missed, if it was.
pub(crate) fn missed(what: &str, objective: &Objective) -> Option<String> {
    match (objective.state, objective.objective_seconds, objective.actual_seconds) {
        (ObjectiveState::Missed, Some(promised), Some(actual)) => Some(format!(
            "{what} objective missed: {} promised, {} measured",
            text::span(promised),
            text::span(actual)
        )),
        _ => None,
    }
}

fn grouped(findings: Vec<&Finding>) -> Vec<Trouble> {
    let mut order = Vec::new();
    let mut by_code: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        let group = by_code.entry(&finding.code).or_default();
        if group.is_empty() {
            order.push(finding.code.as_str());
        }
        group.push(finding);
    }
    order
        .into_iter()
        .filter_map(|code| {
            let group = by_code.get(code)?;
            let first = group.first()?;
            let more = match group.len() {
                1 => String::new(),
                n => format!(" (and {} more like it)", text::count(n as u64 - 1)),
            };
            Some(Trouble {
                what: format!("{}: {}{more}", text::brief(code, 80), text::brief(&first.location, 300)),
                detail: Some(format!(
                    "expected {}, saw {}",
                    text::brief(&first.expected, SENTENCE_MAX),
                    text::brief(&first.seen, SENTENCE_MAX)
                )),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_headline_says_what_matters_most() {
        let told = |j: Judgement| headline(&j);
        assert_eq!(told(fixture::all_verified()), "All 6 tags are proven restorable");
        assert_eq!(told(fixture::one_failed()), "5 of 6 tags are proven restorable; 1 FAILED: mariadb");
        assert_eq!(
            told(fixture::two_copies()),
            "9 of 12 backups are proven restorable; 1 FAILED: mariadb on primary; \
             2 inconclusive: paperless on mirror, emby on mirror; 2 missed an objective: \
             paperless on primary, mariadb on mirror"
        );
        assert_eq!(
            told(fixture::copy_unreadable()),
            "Nothing was drilled; the copy primary could not be read"
        );
        assert!(told(fixture::control_missed()).starts_with("This run proves nothing"));
    }

    #[test]
    fn the_tally_counts_every_drill_once() {
        assert_eq!(tally(&fixture::one_failed()), "6 tags: 5 verified, 1 failed, 0 inconclusive in 34 s");
        assert_eq!(
            tally(&fixture::two_copies()),
            "12 drills of 6 tags on 2 copies: 9 verified, 1 failed, 2 inconclusive, 2 missed an objective \
             in 34 s"
        );
        assert!(tally(&fixture::cut_short()).ends_with("and the run did not end"));
    }

    #[test]
    fn findings_of_one_kind_are_one_entry() {
        let judgement = fixture::one_failed();
        let drill = worst_first(&judgement)[0];
        assert!(drill.findings.len() > 20);
        let troubles = troubles(drill);
        assert!(troubles.len() < 6, "{troubles:#?}");
        assert!(troubles.iter().any(|t| t.what.contains("22 more like it")), "{troubles:#?}");
    }
}
