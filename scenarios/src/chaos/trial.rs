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

/// The drills of a tag.
pub(super) fn drills<'j>(judgement: &'j Judgement, tag: &str) -> impl Iterator<Item = &'j DrillJudgement> {
    let series = Series::Tag(tag.to_owned());
    judgement.drills.iter().filter(move |drill| drill.series == series)
}

/// Judges a restore test of a copy of which `tags` were verified before it was struck.
pub(super) fn judge(fault: &Fault, struck: &Struck, tags: &[String], judgement: &Judgement) -> Judged {
    // A lucky red does not count: a finding has to be of the right kind.
    let explains = |finding: &&Finding| finding.class.fails() && fault.is_explained_by(&finding.code);
    let codes = |findings: &[Finding]| -> BTreeSet<String> {
        findings.iter().filter(explains).map(|finding| finding.code.clone()).collect()
    };
    let bad_copies = judgement.copies.iter().filter(|copy| copy.verdict != Verdict::Verified);
    let of_copies: BTreeSet<String> = bad_copies.flat_map(|copy| codes(&copy.findings)).collect();

    let mut by = of_copies.clone();
    let (mut red, mut green, mut unclear) = (BTreeSet::new(), false, None);
    for tag in &struck.tags {
        let mut told = drills(judgement, tag).next().is_none() && !of_copies.is_empty();
        for drill in drills(judgement, tag) {
            let own = codes(&drill.findings);
            // What the copy says explains a drill that it keeps from being verified.
            told |= drill.verdict == Verdict::Failed && !own.is_empty()
                || drill.verdict != Verdict::Verified && !of_copies.is_empty();
            by.extend(own);
        }
        if told {
            continue;
        }
        let failed = drills(judgement, tag).filter(|drill| drill.verdict == Verdict::Failed);
        red.extend(failed.flat_map(|drill| &drill.findings).map(|finding| finding.code.clone()));
        green |= drills(judgement, tag).any(|drill| drill.verdict == Verdict::Verified);
        // Somebody or something kept the restore test from looking: that is neither a miss nor a detection.
        unclear = unclear.or_else(|| Some(format!("{tag} could not be judged")));
    }
    if struck.tags.is_empty() && of_copies.is_empty() {
        green = judgement.drills.iter().any(|drill| drill.verdict == Verdict::Verified);
        unclear = Some("nothing could be judged".to_owned());
    }
    let outcome = match unclear {
        None => Outcome::Detected { by },
        Some(_) if green => Outcome::Missed,
        Some(_) if !red.is_empty() => Outcome::Lucky { by: red },
        Some(why) => Outcome::Broken { why },
    };

    let others = tags.iter().filter(|tag| !struck.tags.contains(*tag));
    let (bystanders, alarms) = quiet(judgement, others);
    Judged { outcome, bystanders, alarms }
}

/// How many drills of these healthy tags came to a verdict, and which of them failed.
pub(super) fn quiet<'t>(
    judgement: &Judgement,
    tags: impl Iterator<Item = &'t String>,
) -> (u64, BTreeSet<String>) {
    let (mut judged, mut alarms) = (0, BTreeSet::new());
    for drill in tags.flat_map(|tag| drills(judgement, tag)) {
        judged += u64::from(matches!(drill.verdict, Verdict::Verified | Verdict::Failed));
        if drill.verdict == Verdict::Failed {
            alarms.insert(alarm(drill));
        }
    }
    (judged, alarms)
}

/// A drill that should not have failed, and why it did.
pub(super) fn alarm(drill: &DrillJudgement) -> String {
    let codes: BTreeSet<_> = drill.findings.iter().map(|finding| finding.code.as_str()).collect();
    format!("{}: {}", drill.name, codes.into_iter().collect::<Vec<_>>().join(", "))
}
