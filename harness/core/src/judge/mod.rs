//! Evidence in, verdicts out. Pure: no clock, no files, no network. Any old run can be judged again.
//!
//! A drill is *verified* only when its evidence says so line by line: started, restored, every required
//! and every recognising probe examined something and finished, and the drill ended. Whatever is
//! missing makes it *inconclusive*; whatever is wrong with the backup makes it *failed*. A run without any
//! drill proves nothing and is inconclusive, too; it has an exit code of its own.

mod drill;
mod judgement;

use std::collections::BTreeMap;

use crate::event::Event;
use crate::evidence::Evidence;
use crate::finding::{Class, location_of};
use crate::plan::{Drill, DrillName, Plan};
use crate::verdict::{Exit, Verdict};

pub use drill::DrillEvidence;
pub use judgement::{
    ControlJudgement, ControlState, CopyJudgement, DrillJudgement, EvidenceFacts, Judgement, Objective,
    ObjectiveState, Reason, Rpa, Rta,
};

/// Why a run could not be judged at all: it has no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the evidence does not start with the plan of a run{}", .0.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
pub struct NoPlan(pub Option<String>);

/// Judges the evidence of one run.
pub fn judge(evidence: &Evidence) -> Result<Judgement, NoPlan> {
    let Some(first) = evidence.records.first() else {
        return Err(NoPlan(evidence.damage.clone()));
    };
    let Event::RunStarted { run, version, command, plan } = &first.event else {
        return Err(NoPlan(evidence.damage.clone()));
    };
    let collected = Collected::from(evidence);

    let drills: Vec<_> =
        plan.drills.iter().map(|drill| drill::judge(drill, plan, collected.of(drill))).collect();
    let copies: Vec<_> = plan.copies.iter().map(|copy| collected.copy(&copy.name, &copy.location)).collect();
    let control = control(plan, &collected);

    let mut reasons = Vec::new();
    if let Some(damage) = &evidence.damage {
        reasons.push(Reason::incomplete(format!("the evidence file is damaged: {damage}")));
    }
    if collected.seconds.is_none() {
        reasons.push(Reason::incomplete("the evidence ends before the run did"));
    }
    if let Some(why) = &collected.interrupted {
        reasons.push(Reason::incomplete(format!("the run was interrupted: {why}")));
    }
    match control.state {
        ControlState::Missed => reasons.push(Reason::incomplete(
            "the negative control was not found out: this run cannot tell a damaged backup from a good one",
        )),
        ControlState::NotRun if plan.control.is_some() => {
            reasons.push(Reason::incomplete("the negative control was planned and did not run to its end"));
        }
        ControlState::Caught
        | ControlState::NotRun
        | ControlState::NotPlanned
        | ControlState::SwitchedOff => {}
    }
    let own = if reasons.is_empty() { Verdict::Verified } else { Verdict::Inconclusive };
    let mut verdict =
        drills.iter().map(|d| d.verdict).chain(copies.iter().map(|c| c.verdict)).fold(own, Verdict::and);

    let late = |copy: &CopyJudgement| copy.findings.iter().any(|f| f.class == Class::Objective);
    let missed = drills.iter().any(DrillJudgement::objective_missed) || copies.iter().any(late);
    let exit = match verdict {
        Verdict::Failed => Exit::Failed,
        Verdict::Inconclusive => Exit::Inconclusive,
        // Not Inconclusive: who asked for something that is not there has an exit code to tell it by.
        Verdict::Verified if plan.drills.is_empty() => Exit::NothingSelected,
        Verdict::Verified if missed => Exit::ObjectiveMissed,
        Verdict::Verified => Exit::Verified,
    };
    if plan.drills.is_empty() {
        reasons.push(Reason::incomplete("nothing was drilled, so nothing is proven"));
        verdict = verdict.and(Verdict::Inconclusive);
    }
    Ok(Judgement {
        judgement: judgement::VERSION,
        run: run.clone(),
        version: version.clone(),
        command: command.clone(),
        seed: plan.seed,
        at: plan.at,
        started: first.time,
        seconds: collected.seconds,
        verdict,
        exit,
        reasons,
        copies,
        drills,
        control,
        interval_seconds: plan.interval.map(|i| i.seconds()),
        evidence: EvidenceFacts { lines: evidence.records.len() as u64, head: evidence.head.clone() },
    })
}

fn control(plan: &Plan, collected: &Collected<'_>) -> ControlJudgement {
    let Some(control) = &plan.control else {
        return ControlJudgement {
            state: if plan.control_off { ControlState::SwitchedOff } else { ControlState::NotPlanned },
            of: None,
            injected: Vec::new(),
            missed: Vec::new(),
        };
    };
    let evidence = collected.of(&control.drill);
    let findings: Vec<_> = evidence.findings().collect();
    let missed: Vec<_> = evidence
        .injected
        .iter()
        .filter(|i| {
            let location = location_of(i.location.clone());
            !findings.iter().any(|f| f.code == i.expected_code && f.location == location)
        })
        .cloned()
        .collect();
    let state = if evidence.injected.is_empty() || !evidence.finished || !evidence.errors.is_empty() {
        ControlState::NotRun
    } else if missed.is_empty() {
        ControlState::Caught
    } else {
        ControlState::Missed
    };
    ControlJudgement { state, of: Some(control.of.clone()), injected: evidence.injected.clone(), missed }
}

/// The records of a run, sorted by what they are about.
#[derive(Default)]
struct Collected<'e> {
    drills: BTreeMap<&'e DrillName, DrillEvidence<'e>>,
    copies: BTreeMap<&'e crate::snapshot::CopyName, CopyJudgement>,
    seconds: Option<f64>,
    interrupted: Option<String>,
}

impl<'e> From<&'e Evidence> for Collected<'e> {
    fn from(evidence: &'e Evidence) -> Self {
        let mut all = Self::default();
        for record in &evidence.records {
            all.add(&record.event);
        }
        all
    }
}

impl<'e> Collected<'e> {
    fn of(&self, drill: &Drill) -> DrillEvidence<'e> {
        let mut evidence = self.drills.get(&drill.name).cloned().unwrap_or_default();
        evidence.copy_errors = self.copies.get(&drill.copy).map(|c| c.errors.clone()).unwrap_or_default();
        evidence
    }

    fn copy(&self, name: &crate::snapshot::CopyName, location: &str) -> CopyJudgement {
        let mut copy = self.copies.get(name).cloned().unwrap_or_else(|| CopyJudgement::new(name.clone()));
        copy.location = location.to_owned();
        copy.settle();
        copy
    }

    fn copy_mut(&mut self, name: &'e crate::snapshot::CopyName) -> &mut CopyJudgement {
        self.copies.entry(name).or_insert_with(|| CopyJudgement::new(name.clone()))
    }

    fn add(&mut self, event: &'e Event) {
        match event {
            Event::RunStarted { .. } => {}
            Event::CopyOpened { copy, facts } => self.copy_mut(copy).facts = Some(facts.clone()),
            Event::CopyFinding { copy, finding } => {
                // Several drills may have come across the same damage.
                let findings = &mut self.copy_mut(copy).findings;
                if !findings.contains(finding) {
                    findings.push(finding.clone());
                }
            }
            Event::CopyError { copy, error } => self.copy_mut(copy).errors.push(error.clone()),
            Event::Interrupted { reason } => self.interrupted = Some(reason.clone()),
            Event::RunFinished { seconds } => self.seconds = Some(*seconds),
            Event::DrillStarted { drill }
            | Event::PhaseFinished { drill, .. }
            | Event::Restored { drill, .. }
            | Event::Recognised { drill, .. }
            | Event::Examined { drill, .. }
            | Event::ControlDamaged { drill, .. }
            | Event::DrillError { drill, .. }
            | Event::DrillFinished { drill, .. } => self.drills.entry(drill).or_default().add(event),
        }
    }
}
