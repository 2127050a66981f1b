//! One fault, struck once, and what the restore test said of it.

use std::collections::BTreeSet;

use firedrill_core::finding::Finding;
use firedrill_core::judge::{DrillJudgement, Judgement};
use firedrill_core::snapshot::Series;
use firedrill_core::verdict::Verdict;
use serde::{Deserialize, Serialize};

use super::fault::{Class, Fault, Struck};

/// What came of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// Everything that was hit failed, by findings that explain why.
    Detected {
        /// The codes of these findings.
        by: BTreeSet<String>,
    },
    /// It failed, but nothing that was said explains this fault: somebody would look in the wrong place.
    Lucky {
        /// The codes of what was said.
        by: BTreeSet<String>,
    },
    /// Something that was hit was called verified, or nobody said what is wrong with it.
    Missed,
    /// There is nothing in these backups that the fault could strike.
    NotApplicable {
        /// Why.
        why: String,
    },
    /// We failed: to strike, or to test.
    Broken {
        /// Why.
        why: String,
    },
}

/// One fault, struck once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The fault.
    pub fault: String,
    /// Its class.
    pub class: Class,
    /// The seed. The same seed strikes the same copy in the same way.
    pub seed: u64,
    /// What was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub struck: Option<Struck>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Drills of tags that were not hit.
    pub bystanders: u64,
    /// Of these, the ones that failed.
    pub alarms: BTreeSet<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// What the restore test of a struck copy is worth.
pub(super) struct Judged {
    pub(super) outcome: Outcome,
    pub(super) bystanders: u64,
    pub(super) alarms: BTreeSet<String>,
}

/// Judges a restore test of a copy of which `tags` were verified before it was struck.
pub(super) fn judge(fault: &Fault, struck: &Struck, tags: &[String], judgement: &Judgement) -> Judged {
    let drills = |tag: &str| {
        let series = Series::Tag(tag.to_owned());
        judgement.drills.iter().filter(move |drill| drill.series == series)
    };
    // A lucky red does not count: a finding has to be of the right kind.
    let explains = |finding: &&Finding| finding.class.fails() && fault.is_explained_by(&finding.code);
    let of_copies: BTreeSet<_> = judgement
        .copies
        .iter()
        .filter(|copy| copy.verdict != Verdict::Verified)
        .flat_map(|copy| &copy.findings)
        .filter(explains)
        .map(|finding| finding.code.clone())
        .collect();
    let of_drills = |drill: &DrillJudgement| -> BTreeSet<String> {
        drill.findings.iter().filter(explains).map(|finding| finding.code.clone()).collect()
    };

    let mut by = of_copies.clone();
    let (mut red, mut missed) = (BTreeSet::new(), false);
    for tag in &struck.tags {
        let mut told = false;
        for drill in drills(tag) {
            let codes = of_drills(drill);
            // What the copy says explains a drill that it keeps from being verified.
            told |= drill.verdict == Verdict::Failed && !codes.is_empty()
                || drill.verdict != Verdict::Verified && !of_copies.is_empty();
            if drill.verdict == Verdict::Failed {
                red.extend(drill.findings.iter().map(|finding| finding.code.clone()));
            }
            by.extend(codes);
        }
        // Where nothing can be listed there is no drill.
        told |= drills(tag).next().is_none() && !of_copies.is_empty();
        missed |= !told;
    }
    missed |= struck.tags.is_empty() && of_copies.is_empty();
    let outcome = match missed {
        false => Outcome::Detected { by },
        true if !red.is_empty() => Outcome::Lucky { by: red },
        true => Outcome::Missed,
    };

    let others = tags.iter().filter(|tag| !struck.tags.contains(*tag)).flat_map(|tag| drills(tag));
    let failed = others.clone().filter(|drill| drill.verdict == Verdict::Failed);
    let alarms = failed.map(alarm).collect();
    Judged { outcome, bystanders: others.count() as u64, alarms }
}

/// A drill that should not have failed, and why it did.
pub(super) fn alarm(drill: &DrillJudgement) -> String {
    let codes: BTreeSet<_> = drill.findings.iter().map(|finding| finding.code.as_str()).collect();
    format!("{}: {}", drill.name, codes.into_iter().collect::<Vec<_>>().join(", "))
}
