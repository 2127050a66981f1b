//! One series per tag and copy.

use std::collections::BTreeMap;

use firedrill_core::judge::{DrillJudgement, Judgement};
use firedrill_core::seed;
use firedrill_core::verdict::Verdict;

/// A longer label value is cut and told apart by a hash.
const LABEL_MAX: usize = 200;

/// All drills of one tag in one copy.
#[derive(Clone, Debug)]
pub(crate) struct Series<'j> {
    pub(crate) copy: String,
    pub(crate) tag: String,
    pub(crate) verdict: Verdict,
    pub(crate) objective_missed: bool,
    pub(crate) findings: u64,
    /// The drill of the newest snapshot; its measurements are shown.
    pub(crate) newest: &'j DrillJudgement,
}

/// The drills of a judgement by copy and tag, sorted.
pub(crate) fn merged(judgement: &Judgement) -> Vec<Series<'_>> {
    let mut all: BTreeMap<(String, String), Series<'_>> = BTreeMap::new();
    for drill in &judgement.drills {
        let (copy, tag) = (label(&drill.copy.0), label(&drill.series.to_string()));
        let findings = drill.findings.len() as u64 + drill.findings_omitted;
        all.entry((copy.clone(), tag.clone()))
            .and_modify(|series| {
                series.verdict = series.verdict.and(drill.verdict);
                series.objective_missed |= drill.objective_missed();
                series.findings += findings;
                if drill.snapshot_time > series.newest.snapshot_time {
                    series.newest = drill;
                }
            })
            .or_insert_with(|| Series {
                copy,
                tag,
                verdict: drill.verdict,
                objective_missed: drill.objective_missed(),
                findings,
                newest: drill,
            });
    }
    all.into_values().collect()
}

/// `text` as a label value of bounded length.
pub(crate) fn label(text: &str) -> String {
    if text.chars().count() <= LABEL_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(LABEL_MAX - 17).collect();
    format!("{head}~{:016x}", seed::child(0, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn long_labels_stay_apart() {
        let (one, other) = (label(&"x".repeat(5_000)), label(&"x".repeat(5_001)));
        assert_ne!(one, other);
        assert_eq!(one.chars().count(), LABEL_MAX);
        assert_eq!(label("grafana"), "grafana");
    }

    #[test]
    fn drills_of_one_tag_share_a_series_and_the_worst_verdict() {
        let judgement = fixture::two_of_one_tag();
        let series = merged(&judgement);
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].verdict, Verdict::Failed);
        assert!(series[0].newest.name.0.ends_with("::latest"));
    }
}
