//! The negative control: the smallest snapshot with content, restored once more and damaged.

use crate::config::settings::Objectives;
use crate::plan::{Control, Drill, DrillName, Trials};
use crate::seed;

/// What the name of the control drill starts with, in place of a copy.
const PREFIX: &str = "control";

pub(super) fn control(drills: &[Drill], run_seed: u64) -> Option<Control> {
    let alone: Vec<Drill> = drills.iter().filter(|drill| drill.parts.is_empty()).cloned().collect();
    // The parts of a group are drilled on their own, too, unless only the group was asked for.
    let chosen = smallest(&alone, run_seed).or_else(|| {
        let parts: Vec<Drill> = drills.iter().flat_map(parts_alone).collect();
        smallest(&parts, run_seed)
    })?;
    let rest = chosen.name.0.split_once("::").map_or(chosen.name.0.as_str(), |(_, rest)| rest);
    let mut name = DrillName(format!("{PREFIX}::{rest}"));
    while drills.iter().any(|d| d.name == name) {
        name.0.push('~');
    }
    let seed = seed::child(run_seed, &name.0);
    let of = chosen.name.clone();
    let trials = Trials::default();
    let drill = Drill { name, objectives: Objectives::default(), trials, seed, ..chosen };
    Some(Control { of, drill })
}

fn smallest(drills: &[Drill], run_seed: u64) -> Option<Drill> {
    drills
        .iter()
        .filter_map(|drill| Some((drill, drill.selection.snapshot()?)))
        .filter(|(_, s)| s.bytes != Some(0) && s.files != Some(0))
        // Of unknown size only when no size is known; the seed decides among equals.
        .min_by_key(|(d, s)| (s.bytes.unwrap_or(u64::MAX), seed::child(run_seed, &d.name.0), &d.name))
        .map(|(drill, _)| drill.clone())
}

/// Each part of a group as if it were drilled alone.
fn parts_alone(group: &Drill) -> impl Iterator<Item = Drill> {
    group.parts.iter().map(|part| Drill {
        series: part.series.clone(),
        selection: part.selection.clone(),
        parts: Vec::new(),
        ..group.clone()
    })
}
