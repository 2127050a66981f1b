//! Snapshots by id, or all of them.

use std::collections::BTreeMap;

use super::choose::owner;
use super::naming::short_ids;
use super::{LATEST, Labels, Ordered, Planner, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Selection;
use crate::snapshot::{Snapshot, SnapshotId};

/// Fewer digits would be ambiguous sooner or later.
const DIGITS_MIN: usize = 4;
/// More candidates than this are not named.
const CANDIDATES_MAX: usize = 5;

pub(super) fn snapshots(planner: &Planner<'_>, sources: &[Source<'_>]) -> Result<Vec<Ordered>> {
    let wanted = resolve_all(&planner.filter().snapshots, sources)?;
    let mut drills = Vec::new();
    for (place, source) in sources.iter().enumerate() {
        let labels = Labels::of(source);
        let targets = planner.targets(source);
        let mut found = Vec::new();
        for (series, snapshots) in source.series.iter().flatten() {
            let chosen: Vec<&Snapshot> = snapshots
                .iter()
                .filter(|s| wanted.as_ref().is_none_or(|ids| ids.contains(&s.id)))
                .filter(|s| planner.wants_series(series) && planner.wants_host(&s.host) && planner.existed(s))
                .copied()
                .collect();
            for (snapshot, which) in chosen.iter().zip(short_ids(&chosen)) {
                let target = owner(&targets, series, snapshot);
                let names = &planner.filter().targets;
                if !names.is_empty() && !target.is_some_and(|(_, t)| names.contains(&t.name)) {
                    continue;
                }
                let selection = Selection::Snapshot((*snapshot).clone());
                found.push(planner.drill(
                    (place, source),
                    target,
                    series.clone(),
                    selection,
                    (&labels, &which),
                ));
            }
        }
        if wanted.is_none() {
            for (i, target) in targets {
                let has_some = found.iter().any(|d| d.target == i);
                // Without a host of its own the target is not what a filter by host is about.
                let about = planner.filter().hosts.is_empty() || !target.hosts().is_empty();
                if has_some || !about || !planner.wants_target(target) || !planner.wants_a_host_of(target) {
                    continue;
                }
                let selection = if source.series.is_some() { Selection::Missing } else { Selection::Unknown };
                found.push(planner.drill(
                    (place, source),
                    Some((i, target)),
                    target.series(),
                    selection,
                    (&labels, LATEST),
                ));
            }
        }
        // Stable: within a target or series the order is that of time.
        found.sort_by_key(|d| d.target);
        drills.extend(found);
    }
    Ok(drills)
}

/// The ids that `prefixes` mean; `None` when all snapshots are wanted.
fn resolve_all(prefixes: &[String], sources: &[Source<'_>]) -> Result<Option<Vec<SnapshotId>>> {
    if prefixes.is_empty() {
        return Ok(None);
    }
    let mut known: BTreeMap<&SnapshotId, &Snapshot> = BTreeMap::new();
    for snapshot in sources.iter().filter_map(|s| s.series.as_ref()).flat_map(|s| s.values()).flatten() {
        known.insert(&snapshot.id, snapshot);
    }
    let all_read = sources.iter().all(|s| s.series.is_some());
    let mut ids = Vec::new();
    for prefix in prefixes {
        match resolve(prefix, &known) {
            Ok(id) => ids.push(id.clone()),
            // It may be in the copy that could not be read. That copy makes the run inconclusive.
            Err(Unresolved::Unknown(_)) if !all_read => {}
            Err(Unresolved::Unknown(error) | Unresolved::Wrong(error)) => return Err(error),
        }
    }
    Ok(Some(ids))
}

enum Unresolved {
    /// No copy that was read holds it.
    Unknown(Error),
    /// It does not say which one.
    Wrong(Error),
}

fn resolve<'s>(
    prefix: &str,
    known: &BTreeMap<&'s SnapshotId, &'s Snapshot>,
) -> Result<&'s SnapshotId, Unresolved> {
    let error = || Error::new(ErrorKind::Usage, format!("select the snapshot {prefix}"));
    if let Some((id, _)) = known.get_key_value(&SnapshotId(prefix.to_owned())) {
        return Ok(*id);
    }
    let typed = prefix.to_lowercase();
    if typed.len() < DIGITS_MIN || !typed.bytes().all(|b| b.is_ascii_hexdigit()) {
        let advice = if typed == LATEST {
            "the latest snapshots are drilled when none is named".to_owned()
        } else {
            format!("give at least {DIGITS_MIN} hexadecimal digits of its id")
        };
        return Err(Unresolved::Wrong(error().because("this is not the id of a snapshot").advise(advice)));
    }
    let found: Vec<_> = known.iter().filter(|(id, _)| id.0.starts_with(&typed)).collect();
    match found.as_slice() {
        [(id, _)] => Ok(**id),
        [] => {
            let mut newest: Vec<&Snapshot> = known.values().copied().collect();
            newest.sort_by(|a, b| (b.time, &b.id).cmp(&(a.time, &a.id)));
            let error = error().because("no copy holds a snapshot with this id");
            Err(Unresolved::Unknown(if newest.is_empty() {
                error
            } else {
                error.advise(format!("the newest are: {}", candidates(&newest)))
            }))
        }
        several => {
            let several: Vec<&Snapshot> = several.iter().map(|(_, s)| **s).collect();
            Err(Unresolved::Wrong(
                error()
                    .because(format!("{} snapshots have ids that begin like this", several.len()))
                    .advise(format!("give more digits of one of: {}", candidates(&several))),
            ))
        }
    }
}

fn candidates(snapshots: &[&Snapshot]) -> String {
    let shown: Vec<&Snapshot> = snapshots.iter().take(CANDIDATES_MAX).copied().collect();
    let mut words: Vec<String> = shown
        .iter()
        .zip(short_ids(&shown))
        .map(|(s, id)| {
            let tags = if s.tags.is_empty() { "untagged".to_owned() } else { s.tags.join(" ") };
            format!("{id} ({tags}, {}, {})", s.host, s.time)
        })
        .collect();
    if snapshots.len() > CANDIDATES_MAX {
        words.push(format!("and {} more", snapshots.len() - CANDIDATES_MAX));
    }
    words.join("; ")
}
