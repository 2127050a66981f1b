//! The latest snapshot of each target and of each series.

use jiff::Timestamp;

use super::{LATEST, Labels, Ordered, Pick, Planner, Source};
use crate::config::TargetConfig;
use crate::plan::Selection;
use crate::snapshot::{Series, Snapshot};

pub(super) fn latest(planner: &Planner<'_>, sources: &[Source<'_>]) -> Vec<Ordered> {
    let mut drills = Vec::new();
    for (place, source) in sources.iter().enumerate() {
        let labels = Labels::of(source);
        let targets = planner.targets(source);
        for (i, target) in &targets {
            if !planner.wants_target(target) || !planner.wants_a_host_of(target) {
                continue;
            }
            let Some(selection) = of_target(planner, source, target) else { continue };
            let target = Some((*i, *target));
            let series = target.map(|(_, t)| t.series());
            drills.extend(
                series.map(|s| planner.drill((place, source), target, s, selection, (&labels, LATEST))),
            );
        }
        if !planner.filter().targets.is_empty() {
            continue;
        }
        for (series, snapshots) in source.series.iter().flatten() {
            if !planner.wants_series(series) {
                continue;
            }
            // What hosts write that no target of this series names is drilled as well, on its own.
            let unclaimed = |s: &&Snapshot| owner(&targets, series, s).is_none();
            let rest: Vec<&Snapshot> = snapshots.iter().copied().filter(unclaimed).collect();
            if let Some(snapshot) = pick(planner, None, &rest) {
                let selection = Selection::Snapshot(snapshot.clone());
                drills.push(planner.drill(
                    (place, source),
                    None,
                    series.clone(),
                    selection,
                    (&labels, LATEST),
                ));
            }
        }
    }
    drills
}

/// What to restore for `target`; `None` when the request is about hosts that it does not mention and
/// that never wrote it.
fn of_target(planner: &Planner<'_>, source: &Source<'_>, target: &TargetConfig) -> Option<Selection> {
    let Some(series) = &source.series else { return Some(Selection::Unknown) };
    let snapshots = series.get(&target.series()).map(Vec::as_slice).unwrap_or_default();
    match pick(planner, Some(target), snapshots) {
        Some(snapshot) => Some(Selection::Snapshot(snapshot.clone())),
        None if target.hosts().is_empty() && !planner.filter().hosts.is_empty() => None,
        None => Some(Selection::Missing),
    }
}

/// The latest of `snapshots` (oldest first) that the request and the target allow. A snapshot that is
/// dated in the future by more than the tolerance is taken only when there is no other: it would
/// shadow the real latest.
fn pick<'s>(
    planner: &Planner<'_>,
    target: Option<&TargetConfig>,
    snapshots: &[&'s Snapshot],
) -> Option<&'s Snapshot> {
    let known = allowed(planner, target, snapshots);
    let limit = latest_moment(planner, target);
    known.iter().rfind(|s| s.time <= limit).or_else(|| known.first()).copied()
}

/// What is dated later does not count as the latest.
pub(super) fn latest_moment(planner: &Planner<'_>, target: Option<&TargetConfig>) -> Timestamp {
    match planner.filter().pick {
        Pick::At(time) => time,
        Pick::Latest => {
            let tolerance = planner.probes(target).freshness.future_max.0;
            planner.at.checked_add(tolerance).unwrap_or(Timestamp::MAX)
        }
    }
}

/// Those of `snapshots` that the request and the target allow.
pub(super) fn allowed<'s>(
    planner: &Planner<'_>,
    target: Option<&TargetConfig>,
    snapshots: &[&'s Snapshot],
) -> Vec<&'s Snapshot> {
    let writers = target.map(TargetConfig::hosts).unwrap_or_default();
    let fits = |s: &&&'s Snapshot| {
        (writers.is_empty() || writers.contains(&s.host)) && planner.wants_host(&s.host) && planner.existed(s)
    };
    snapshots.iter().filter(fits).copied().collect()
}

/// Which target, if any, `snapshot` of `series` belongs to.
pub(super) fn owner<'t>(
    targets: &[(usize, &'t TargetConfig)],
    series: &Series,
    snapshot: &Snapshot,
) -> Option<(usize, &'t TargetConfig)> {
    targets
        .iter()
        .find(|(_, t)| t.series() == *series && (t.hosts().is_empty() || t.hosts().contains(&snapshot.host)))
        .copied()
}
