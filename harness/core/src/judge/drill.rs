//! The verdict on one drill.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::event::{Event, Injected, Phase};
use crate::finding::{Class, Examination, Finding, RecoveryBasis, RecoveryPoint};
use crate::plan::{Drill, Plan, Selection};
use crate::verdict::Verdict;

use super::judgement::{DrillJudgement, Objective, ObjectiveState, Reason, Rpa, Rta};

/// All records about one drill.
#[derive(Clone, Debug, Default)]
pub struct DrillEvidence<'e> {
    pub(super) started: bool,
    pub(super) finished: bool,
    pub(super) kept: Option<String>,
    pub(super) phases: BTreeMap<Phase, f64>,
    pub(super) restored: Option<&'e Event>,
    pub(super) recognised: Option<&'e [String]>,
    pub(super) examinations: Vec<&'e Examination>,
    pub(super) errors: Vec<&'e Error>,
    pub(super) injected: Vec<Injected>,
    /// What kept us from reading the copy.
    pub(super) copy_errors: Vec<Error>,
}

impl<'e> DrillEvidence<'e> {
    pub(super) fn add(&mut self, event: &'e Event) {
        match event {
            Event::DrillStarted { .. } => self.started = true,
            Event::PhaseFinished { phase, seconds, .. } => *self.phases.entry(*phase).or_default() += seconds,
            Event::Restored { .. } => self.restored = Some(event),
            Event::Recognised { probes, .. } => self.recognised = Some(probes),
            Event::Examined { examination, .. } => self.examinations.push(examination),
            Event::ControlDamaged { injected, .. } => self.injected.extend(injected.iter().cloned()),
            Event::DrillError { error, .. } => self.errors.push(error),
            Event::DrillFinished { kept, .. } => {
                self.finished = true;
                self.kept.clone_from(kept);
            }
            _ => {}
        }
    }

    pub(super) fn findings(&self) -> impl Iterator<Item = &'e Finding> + use<'e> {
        let restored = match self.restored {
            Some(Event::Restored { findings, .. }) => findings.as_slice(),
            _ => &[],
        };
        restored.iter().chain(self.examinations.clone().into_iter().flat_map(|e| &e.findings))
    }

    fn findings_omitted(&self) -> u64 {
        let restored = match self.restored {
            Some(Event::Restored { findings_omitted, .. }) => *findings_omitted,
            _ => 0,
        };
        restored + self.examinations.iter().map(|e| e.findings_omitted).sum::<u64>()
    }

    /// What keeps this evidence from proving anything.
    fn gaps(&self, drill: &Drill) -> Vec<String> {
        let mut gaps: Vec<String> = self.errors.iter().map(|e| e.chain()).collect();
        if drill.selection == Selection::Unknown {
            let why: String = self.copy_errors.iter().map(|e| format!(": {}", e.chain())).collect();
            gaps.push(format!("the copy {} could not be read{why}", drill.copy));
            return gaps;
        }
        if !self.started {
            gaps.push("the drill was planned and did not start".to_owned());
            return gaps;
        }
        let examined: BTreeSet<_> = self.examinations.iter().map(|e| e.probe.as_str()).collect();
        if self.errors.is_empty() {
            if self.restored.is_none() {
                gaps.push("the restore did not end".to_owned());
            }
            if self.recognised.is_none() {
                gaps.push("the restored data was not looked at".to_owned());
            }
            let announced = self.recognised.unwrap_or_default();
            for probe in drill.required.iter().chain(announced).collect::<BTreeSet<_>>() {
                if !examined.contains(probe.as_str()) {
                    gaps.push(format!("the probe `{probe}` did not report"));
                }
            }
            if !self.finished {
                gaps.push("the drill did not end".to_owned());
            }
        }
        // A check or an application has cells as well, and loads nothing.
        let loaded = self.examinations.iter().any(|e| {
            ENGINES.contains(&e.probe.as_str()) && e.engine.as_ref().is_some_and(|e| !e.cells.is_empty())
        });
        // The negative control asks the tree probe and no engine.
        if drill.expectations.load && !loaded && self.errors.is_empty() && self.injected.is_empty() {
            gaps.push(
                "the config demands that dumps are loaded, and none was loaded into an engine".to_owned(),
            );
        }
        for examination in &self.examinations {
            if let Some(why) = &examination.interrupted {
                gaps.push(format!("the probe `{}` was interrupted: {why}", examination.probe));
            } else if examination.checked == 0 && examination.findings.is_empty() {
                gaps.push(format!("the probe `{}` examined nothing", examination.probe));
            }
        }
        gaps
    }
}

/// The probes that load dumps and physical backups into engines.
const ENGINES: [&str; 3] = ["postgres", "mariadb", "etcd"];

pub(super) fn judge(drill: &Drill, plan: &Plan, evidence: DrillEvidence<'_>) -> DrillJudgement {
    let mut findings: Vec<Finding> = evidence.findings().cloned().collect();
    let mut reasons = Vec::new();
    if drill.selection == Selection::Missing {
        findings.push(Finding::damage(
            "snapshot.missing",
            drill.series.to_string(),
            "at least one snapshot",
            "none in this copy",
        ));
    }
    reasons.extend(findings.iter().filter(|f| !matches!(f.class, Class::Objective | Class::Gap)).map(|f| {
        Reason::failed(format!("{}: {}: expected {}, saw {}", f.code, f.location, f.expected, f.seen))
    }));
    let omitted = evidence.findings_omitted();
    if omitted > 0 {
        reasons.push(Reason::failed(format!("{omitted} more findings that were not kept")));
    }
    if drill.selection != Selection::Missing {
        reasons.extend(evidence.gaps(drill).into_iter().map(Reason::incomplete));
    }
    let snapshot = drill.selection.snapshot();
    let rta = rta(&evidence.phases);
    let rpa = if evidence.restored.is_some() { rpa(drill, plan, &evidence) } else { None };
    let rto = Objective::of(drill.objectives.rto.map(|s| s.seconds()), rta.total_seconds);
    let rpo = Objective::of(drill.objectives.rpo.map(|s| s.seconds()), rpa.as_ref().map(|r| r.seconds));
    if reasons.is_empty() && [&rto, &rpo].iter().any(|o| o.state == ObjectiveState::Unmeasured) {
        reasons.push(Reason::incomplete("an objective was set, and nothing was measured for it"));
    }
    let verdict = reasons.iter().map(|r| r.verdict).fold(Verdict::Verified, Verdict::and);
    let (files, bytes, bytes_read, withheld) = match evidence.restored {
        Some(Event::Restored { files, bytes, bytes_read, withheld, .. }) => {
            (*files, *bytes, *bytes_read, withheld.clone())
        }
        _ => (0, 0, 0, Vec::new()),
    };
    DrillJudgement {
        name: drill.name.clone(),
        copy: drill.copy.clone(),
        series: drill.series.clone(),
        target: drill.target.clone(),
        snapshot: snapshot.map(|s| s.id.clone()),
        snapshot_time: snapshot.map(|s| s.time),
        host: snapshot.map(|s| s.host.clone()),
        verdict,
        reasons,
        findings,
        findings_omitted: omitted,
        errors: evidence.errors.iter().map(|e| (*e).clone()).collect(),
        examinations: evidence
            .examinations
            .iter()
            .map(|e| Examination { findings: Vec::new(), ..(*e).clone() })
            .collect(),
        withheld,
        files,
        bytes,
        bytes_read,
        rta,
        rpa,
        rto,
        rpo,
        kept: evidence.kept,
    }
}

fn rta(phases: &BTreeMap<Phase, f64>) -> Rta {
    // Without engines there is nothing to start, load or ask.
    let needed = [Phase::Locate, Phase::Fetch, Phase::Write, Phase::Examine];
    let engines = [Phase::Start, Phase::Load, Phase::Answer, Phase::Verify];
    let spent = |phase: &Phase| phases.get(phase).copied();
    let total_seconds: Option<f64> = needed.iter().map(spent).sum();
    let total_seconds = total_seconds.map(|total| total + engines.iter().filter_map(spent).sum::<f64>());
    let answered = phases.contains_key(&Phase::Answer);
    let answer_seconds = answered.then(|| Phase::UNTIL_ANSWER.iter().filter_map(spent).sum());
    Rta { phases: phases.clone(), total_seconds, answer_seconds }
}

/// The recovery point on the best basis there is; among equals the oldest, since all of the data has to
/// come back.
fn rpa(drill: &Drill, plan: &Plan, evidence: &DrillEvidence<'_>) -> Option<Rpa> {
    let snapshot = drill.selection.snapshot()?;
    let point = evidence
        .examinations
        .iter()
        .filter_map(|e| e.recovery_point.clone())
        .min_by_key(|p| (p.basis, p.time))
        .unwrap_or(RecoveryPoint { time: snapshot.time, basis: RecoveryBasis::Snapshot });
    let seconds = plan.at.duration_since(point.time).as_secs_f64().max(0.0);
    Some(Rpa { seconds, time: point.time, basis: point.basis })
}
