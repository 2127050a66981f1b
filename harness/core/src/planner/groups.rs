//! Groups: targets that only mean something together, restored as one.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::choose::{allowed, latest_moment};
use super::{LATEST, Labels, Ordered, Planner, Source};
use crate::config::settings::{Expectations, Objectives};
use crate::config::{Config, GroupConfig, TargetConfig};
use crate::plan::{Drill, GROUP_PROBE, Part, Selection, Trials};
use crate::snapshot::{Series, Snapshot, SnapshotId};

/// Adds a drill for each group in each copy that must hold all of its targets.
pub(super) fn plan(planner: &Planner<'_>, sources: &[Source<'_>], drills: &mut Vec<Ordered>) {
    let filter = planner.filter();
    let about_snapshots = filter.all_snapshots || !filter.snapshots.is_empty();
    if about_snapshots || !filter.tags.is_empty() || !filter.hosts.is_empty() {
        return;
    }
    let Some(config) = planner.config else { return };
    for group in &config.groups {
        if !filter.targets.is_empty() && !filter.targets.contains(&group.name) {
            continue;
        }
        let targets: Option<Vec<&TargetConfig>> =
            group.targets.iter().map(|name| config.targets.iter().find(|t| &t.name == name)).collect();
        let Some(targets) = targets else { continue };
        for (place, source) in sources.iter().enumerate() {
            if targets.iter().all(|target| target.belongs_in(&source.name, source.kind)) {
                let drill = drill(planner, config, group, &targets, source);
                drills.push(Ordered { copy: place, target: usize::MAX, drill });
            }
        }
    }
    drills.sort_by_key(|d| d.copy);
}

fn drill(
    planner: &Planner<'_>,
    config: &Config,
    group: &GroupConfig,
    targets: &[&TargetConfig],
    source: &Source<'_>,
) -> Drill {
    let series = Series::Group(group.name.clone());
    let parts = parts(planner, group, targets, source);
    let trials = Trials {
        checks: group.checks.clone(),
        app: group.app.clone(),
        invariants: group.invariants.clone(),
        max_skew: group.max_skew,
    };
    let mut required = vec!["tree".to_owned(), GROUP_PROBE.to_owned()];
    required.extend(trials.probes().into_iter().filter(|name| name != GROUP_PROBE));
    let copy = config.copy(&source.name).map(|c| &c.objectives);
    let objectives = Objectives {
        rpo: copy.and_then(|o| o.rpo).or(group.objectives.rpo),
        rto: copy.and_then(|o| o.rto).or(group.objectives.rto),
    };
    Drill {
        name: Labels::of(source).name(&source.name, None, &series, LATEST),
        copy: source.name.clone(),
        series,
        target: Some(group.name.clone()),
        selection: together(&parts),
        parts,
        objectives,
        expectations: Expectations::default(),
        hosts: Vec::new(),
        probes: config.probes.clone(),
        trials,
        required,
        seed: 0,
    }
}

/// The snapshots of all targets that are nearest to one moment, as late as possible.
fn parts(
    planner: &Planner<'_>,
    group: &GroupConfig,
    targets: &[&TargetConfig],
    source: &Source<'_>,
) -> Vec<Part> {
    let of_target = |target: &TargetConfig| -> Vec<&Snapshot> {
        let held = source.series.as_ref().and_then(|held| held.get(&target.series()));
        let known = allowed(planner, Some(target), held.map(Vec::as_slice).unwrap_or_default());
        let limit = latest_moment(planner, Some(target));
        // What is dated in the future is taken where there is nothing else, as for a target alone.
        match known.iter().any(|s| s.time <= limit) {
            true => known.into_iter().filter(|s| s.time <= limit).collect(),
            false => known.into_iter().take(1).collect(),
        }
    };
    let held: Vec<Vec<&Snapshot>> = targets.iter().map(|target| of_target(target)).collect();
    let max_skew = group.max_skew.and_then(|skew| SignedDuration::try_from(skew.0).ok());
    let chosen = consistent(&held, max_skew);
    let part = |(target, snapshot): (&&TargetConfig, Option<&Snapshot>)| Part {
        target: target.name.clone(),
        series: target.series(),
        selection: match snapshot {
            Some(snapshot) => Selection::Snapshot(snapshot.clone()),
            None if source.series.is_some() => Selection::Missing,
            None => Selection::Unknown,
        },
    };
    targets.iter().zip(chosen).map(part).collect()
}

/// Of each list (oldest first) one snapshot: the newest at or before the latest moment at which they are within
/// `max_skew` of each other. Where there is no such moment, the newest of each.
fn consistent<'s>(held: &[Vec<&'s Snapshot>], max_skew: Option<SignedDuration>) -> Vec<Option<&'s Snapshot>> {
    let newest: Vec<_> = held.iter().map(|snapshots| snapshots.last().copied()).collect();
    let Some(max_skew) = max_skew else { return newest };
    let mut moments: Vec<Timestamp> = held.iter().flatten().map(|s| s.time).collect();
    moments.sort_unstable();
    moments.dedup();
    let at = |moment: &Timestamp| -> Vec<Option<&'s Snapshot>> {
        let until = |snapshots: &Vec<&'s Snapshot>| snapshots.partition_point(|s| s.time <= *moment);
        held.iter().map(|s| until(s).checked_sub(1).and_then(|last| s.get(last)).copied()).collect()
    };
    // A target without any snapshot is missed anyway, and says nothing about the others.
    let complete =
        |set: &[Option<&Snapshot>]| set.iter().zip(held).all(|(s, held)| s.is_some() || held.is_empty());
    let fits =
        |set: &Vec<Option<&'s Snapshot>>| complete(set) && skew(set.iter().flatten().copied()) <= max_skew;
    moments.iter().rev().map(at).find(fits).unwrap_or(newest)
}

/// How far apart in time snapshots are.
fn skew<'s>(snapshots: impl Iterator<Item = &'s Snapshot> + Clone) -> SignedDuration {
    let times = snapshots.map(|s| s.time);
    match (times.clone().max(), times.min()) {
        (Some(newest), Some(oldest)) => newest.duration_since(oldest),
        _ => SignedDuration::ZERO,
    }
}

/// What stands for all parts: as old as the oldest, as large as all.
fn together(parts: &[Part]) -> Selection {
    let snapshots: Vec<_> = parts.iter().filter_map(|p| Some((p, p.selection.snapshot()?))).collect();
    let Some(oldest) = snapshots.iter().map(|(_, s)| *s).min_by_key(|s| s.time) else {
        return match parts.iter().any(|p| p.selection == Selection::Unknown) {
            true => Selection::Unknown,
            false => Selection::Missing,
        };
    };
    let mut hosts: Vec<_> = snapshots.iter().map(|(_, s)| s.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    let digest = |of: fn(&Snapshot) -> &str| {
        let mut hash = Sha256::new();
        for (part, snapshot) in &snapshots {
            hash.update(format!("{}\0{}\0", part.target, of(snapshot)));
        }
        hex::encode(hash.finalize())
    };
    let paths = snapshots.iter().flat_map(|(part, s)| {
        s.known_paths().map(|path| format!("/{}/{}", part.target, path.trim_start_matches('/')))
    });
    let sum = |of: fn(&Snapshot) -> Option<u64>| {
        snapshots.iter().map(|(_, s)| of(s)).try_fold(0u64, |sum, one| Some(sum.saturating_add(one?)))
    };
    Selection::Snapshot(Snapshot {
        id: SnapshotId(digest(|s| &s.id.0)),
        time: oldest.time,
        host: hosts.join("+"),
        tags: Vec::new(),
        paths: paths.collect(),
        tree: digest(|s| &s.tree),
        program: oldest.program.clone(),
        files: sum(|s| s.files),
        bytes: sum(|s| s.bytes),
    })
}
