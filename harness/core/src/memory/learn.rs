//! From the evidence of a run to baselines.

use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};
use crate::evidence::Evidence;
use crate::finding::Class;
use crate::judge::{CopyJudgement, DrillJudgement, Judgement, judge};
use crate::plan::DrillName;
use crate::verdict::Verdict;

use super::{Acceptance, Baseline, REPOSITORY_IDENTITY, SNAPSHOT_GONE};

/// The baselines that a run leaves: one for each verified drill of the latest snapshot of its series. A
/// run that proves nothing as a whole (cut short, damaged, its negative control missed) teaches nothing.
/// `judgement` must be the one on `evidence`; otherwise nothing is learnt.
pub fn learn(evidence: &Evidence, judgement: &Judgement) -> Vec<Baseline> {
    let same = judgement.evidence.head == evidence.head && evidence.damage.is_none();
    if !same || !judgement.reasons.is_empty() {
        return Vec::new();
    }
    // What an unexpected repository holds must not become what is expected.
    let strange = |c: &&CopyJudgement| c.findings.iter().any(|f| f.code == REPOSITORY_IDENTITY);
    let strangers: Vec<_> = judgement.copies.iter().filter(strange).map(|c| &c.name).collect();
    judgement
        .drills
        .iter()
        .filter(|drill| drill.verdict == Verdict::Verified && of_latest(&drill.name))
        .filter(|drill| !strangers.contains(&&drill.copy))
        .filter_map(|drill| baseline(drill, judgement))
        .collect()
}

/// The baseline of a drill that failed only by anomalies, accepted by a person with a reason.
pub fn accept(evidence: &Evidence, drill: &DrillName, reason: &str, now: Timestamp) -> Result<Baseline> {
    let refuse = |why: String| Error::new(ErrorKind::Usage, format!("accept {drill}")).because(why);
    if reason.trim().is_empty() {
        return Err(refuse("no reason was given".to_owned()).advise("say why the change was meant"));
    }
    let judgement = judge(evidence).map_err(|e| refuse(e.to_string()))?;
    if let Some(gap) = judgement.reasons.first() {
        return Err(refuse(format!("the run proves nothing: {}", gap.text)).advise("run it again"));
    }
    let Some(judged) = judgement.drills.iter().find(|d| &d.name == drill) else {
        let names: Vec<_> = judgement.drills.iter().map(|d| d.name.0.as_str()).take(20).collect();
        return Err(refuse("the run has no such drill".to_owned())
            .advise(format!("its drills are: {}", names.join(", "))));
    };
    if judged.verdict == Verdict::Verified {
        return Err(refuse("it is verified, there is nothing to accept".to_owned()));
    }
    if let Some(damage) = judged.findings.iter().find(|f| f.class == Class::Damage) {
        return Err(refuse(format!("{}: {}: {}", damage.code, damage.location, damage.seen))
            .advise("damage cannot be accepted; only changes of the content can"));
    }
    if let Some(gap) = judged.reasons.iter().find(|r| r.verdict == Verdict::Inconclusive) {
        return Err(refuse(format!("it was not examined completely: {}", gap.text)).advise("run it again"));
    }
    if judged.findings_omitted > 0 {
        return Err(refuse(format!(
            "{} more findings were not kept, and nobody can know what is accepted with them",
            judged.findings_omitted
        )));
    }
    let gone = judged.findings.iter().find(|f| f.code == SNAPSHOT_GONE);
    let mut accepted = baseline(judged, &judgement).ok_or_else(|| refuse("it has no snapshot".to_owned()))?;
    accepted.accepted = Some(Acceptance {
        time: now,
        reason: reason.trim().to_owned(),
        gone: gone.map(|f| crate::snapshot::SnapshotId(f.location.clone())),
    });
    Ok(accepted)
}

/// Whether the drill was of the latest snapshot of its series: that is what its name says.
fn of_latest(name: &DrillName) -> bool {
    name.0.rsplit("::").next() == Some("latest")
}

fn baseline(drill: &DrillJudgement, judgement: &Judgement) -> Option<Baseline> {
    let copy = judgement.copies.iter().find(|c| c.name == drill.copy)?;
    Some(Baseline {
        repository: copy.facts.as_ref()?.repository.clone(),
        copy: drill.copy.clone(),
        series: drill.series.clone(),
        run: judgement.run.clone(),
        snapshot: drill.snapshot.clone()?,
        snapshot_time: drill.snapshot_time?,
        host: drill.host.clone()?,
        accepted: None,
        probes: drill
            .examinations
            .iter()
            .filter(|e| !e.baseline.is_empty())
            .map(|e| (e.probe.clone(), e.baseline.clone()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{CopyFacts, Event, Phase};
    use crate::evidence::Record;
    use crate::finding::{Examination, Finding};
    use crate::plan::{Drill, Limits, Plan, PlannedCopy, Selection};
    use crate::snapshot::{CopyName, Series, Snapshot, SnapshotId};

    fn time() -> Timestamp {
        "2026-01-02T03:00:00Z".parse().unwrap()
    }

    fn drill(which: &str) -> Drill {
        let copy = CopyName("primary".into());
        let series = Series::Tag("grafana".into());
        Drill {
            name: DrillName::new(&copy, &series, which),
            copy,
            series,
            target: None,
            selection: Selection::Snapshot(Snapshot {
                id: SnapshotId("aa".into()),
                time: time(),
                host: "h".into(),
                tags: vec!["grafana".into()],
                paths: vec!["/data".into()],
                tree: "t".into(),
                program: String::new(),
                files: None,
                bytes: None,
            }),
            objectives: Default::default(),
            expectations: Default::default(),
            hosts: Vec::new(),
            probes: Default::default(),
            parts: Vec::new(),
            trials: Default::default(),
            required: vec!["shape".into()],
            seed: 7,
        }
    }

    fn run(which: &str, findings: Vec<Finding>, interrupted: Option<&str>, finished: bool) -> Evidence {
        let drill = drill(which);
        let name = drill.name.clone();
        let mut examination = Examination::new("shape", "entries");
        examination.checked = 3;
        examination.interrupted = interrupted.map(str::to_owned);
        examination.baseline.insert("files".into(), 3.into());
        findings.into_iter().for_each(|f| examination.find(f));
        let plan = Plan {
            seed: 7,
            at: time(),
            copies: vec![PlannedCopy { name: drill.copy.clone(), location: "x".into() }],
            drills: vec![drill.clone()],
            control: None,
            control_off: false,
            limits: Limits::default(),
            interval: None,
        };
        let facts = CopyFacts { repository: "r1".into(), ..CopyFacts::default() };
        let mut events = vec![
            Event::RunStarted {
                run: "run-1".into(),
                version: "0".into(),
                command: "c".into(),
                plan: Box::new(plan),
            },
            Event::CopyOpened { copy: drill.copy.clone(), facts },
            Event::DrillStarted { drill: name.clone() },
            Event::PhaseFinished { drill: name.clone(), phase: Phase::Examine, seconds: 1.0 },
            Event::Restored {
                drill: name.clone(),
                files: 3,
                bytes: 3,
                bytes_read: 3,
                withheld: vec![],
                findings: vec![],
                findings_omitted: 0,
            },
            Event::Recognised { drill: name.clone(), probes: vec!["shape".into()] },
            Event::Examined { drill: name.clone(), examination },
            Event::DrillFinished { drill: name, kept: None },
        ];
        if finished {
            events.push(Event::RunFinished { seconds: 1.0 });
        }
        let records = events
            .into_iter()
            .enumerate()
            .map(|(seq, event)| Record {
                evidence: 1,
                seq: seq as u64,
                time: time(),
                prev: String::new(),
                event,
            })
            .collect();
        Evidence { records, head: "head".into(), damage: None }
    }

    fn learnt(evidence: &Evidence) -> usize {
        learn(evidence, &judge(evidence).unwrap()).len()
    }

    fn anomaly(code: &str) -> Finding {
        Finding::anomaly(code, "bb", "e", "s")
    }

    #[test]
    fn a_verified_drill_of_the_latest_snapshot_leaves_its_baseline() {
        let evidence = run("latest", vec![], None, true);
        let all = learn(&evidence, &judge(&evidence).unwrap());
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].repository, "r1");
        assert_eq!(all[0].snapshot.0, "aa");
        assert_eq!(all[0].probes["shape"]["files"], 3);
        assert_eq!(all[0].accepted, None);
    }

    #[test]
    fn nothing_is_learnt_from_what_proves_nothing() {
        assert_eq!(learnt(&run("aa", vec![], None, true)), 0, "an older snapshot");
        assert_eq!(learnt(&run("latest", vec![anomaly("shape.files")], None, true)), 0, "failed");
        assert_eq!(learnt(&run("latest", vec![], Some("time"), true)), 0, "inconclusive");
        assert_eq!(learnt(&run("latest", vec![], None, false)), 0, "cut");
        let mut damaged = run("latest", vec![], None, true);
        damaged.damage = Some("line 9".into());
        assert_eq!(learnt(&damaged), 0, "damaged");
        let sound = run("latest", vec![], None, true);
        let mut other = sound.clone();
        other.head = "another".into();
        assert!(learn(&other, &judge(&sound).unwrap()).is_empty(), "another run's judgement");
    }

    #[test]
    fn anomalies_can_be_accepted_with_a_reason() {
        let evidence = run("latest", vec![anomaly("shape.files")], None, true);
        let name = drill("latest").name;
        let accepted = accept(&evidence, &name, " cleaned up ", time()).unwrap();
        assert_eq!(accepted.accepted.as_ref().unwrap().reason, "cleaned up");
        assert_eq!(accepted.accepted.unwrap().gone, None);
        assert_eq!(accepted.probes["shape"]["files"], 3);
        let gone = run("latest", vec![anomaly(SNAPSHOT_GONE)], None, true);
        let accepted = accept(&gone, &name, "expired", time()).unwrap();
        assert_eq!(accepted.accepted.unwrap().gone, Some(SnapshotId("bb".into())));
    }

    #[test]
    fn nothing_else_can_be_accepted_and_the_refusal_says_why() {
        let name = drill("latest").name;
        let refused =
            |evidence: &Evidence, reason: &str| accept(evidence, &name, reason, time()).unwrap_err().chain();
        let ok = run("latest", vec![anomaly("shape.files")], None, true);
        assert!(refused(&ok, "  ").contains("no reason"));
        assert!(refused(&run("latest", vec![], None, true), "r").contains("nothing to accept"));
        let damage = vec![anomaly("shape.files"), Finding::damage("tree.content", "x", "e", "s")];
        assert!(refused(&run("latest", damage, None, true), "r").contains("tree.content"));
        let gap = run("latest", vec![anomaly("shape.files")], Some("time"), true);
        assert!(refused(&gap, "r").contains("not examined completely"));
        assert!(refused(&run("latest", vec![], Some("time"), true), "r").contains("not examined"));
        let cut = run("latest", vec![anomaly("shape.files")], None, false);
        assert!(refused(&cut, "r").contains("proves nothing"));
        let many = (0..=crate::finding::FINDINGS_MAX).map(|_| anomaly("shape.files")).collect();
        assert!(refused(&run("latest", many, None, true), "r").contains("not kept"));
        let other = DrillName("primary::emby::latest".into());
        let error = accept(&ok, &other, "r", time()).unwrap_err();
        assert!(error.chain().contains("primary::grafana::latest"), "{}", error.chain());
    }
}
