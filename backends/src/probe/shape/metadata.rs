//! Owners, modes, extended attributes and hard links that were lost in bulk, as by a staging copy.

use std::collections::{BTreeMap, HashMap};

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::Entry;

use super::past::{Past, examples};
use super::view::View;

/// Fewer changes than this are somebody's work on single files.
const CHANGES_MIN: usize = 3;

/// Old and new entry of one path.
type Pair<'p> = (&'p Entry, &'p Entry);

pub(super) fn examine(now: &View<'_>, past: &[Past<'_>], examination: &mut Examination) {
    // The oldest comparable state decides: what lies between may have been the flattened one.
    let states = past.iter().rev().filter_map(|p| Some((p, common(now, p.tree.as_ref()?))));
    let most = past.iter().filter_map(|p| Some(common(now, p.tree.as_ref()?).len())).max().unwrap_or(0);
    let Some((state, pairs)) = states.into_iter().find(|(_, pairs)| pairs.len() * 2 >= most) else { return };
    if pairs.len() < CHANGES_MIN {
        return;
    }
    let files: Vec<_> = pairs.iter().filter(|(old, _)| old.is_file()).copied().collect();
    let folders: Vec<_> = pairs.iter().filter(|(old, _)| !old.is_file()).copied().collect();
    let mut report = |code: &str, what: &str, found: Option<(Vec<Pair<'_>>, String)>| {
        if let Some((changed, seen)) = found {
            examination.find(Finding::anomaly(
                code,
                examples(changed.iter().map(|(_, new)| new.path.as_slice())),
                format!("{what} as in {}", state.label),
                format!("{} of {} common entries have {seen}", changed.len(), pairs.len()),
            ));
        }
    };
    let owner = |e: &Entry| Some((e.uid?, e.gid?));
    report("shape.owners_lost", "owners", flattened(&pairs, owner, |(u, g)| format!("owner {u}:{g}")));
    let mode = |e: &Entry| e.mode;
    report("shape.modes_lost", "modes", flattened(&files, mode, |m| format!("mode {m:04o}")));
    report("shape.modes_lost", "modes", flattened(&folders, mode, |m| format!("mode {m:04o}")));
    report("shape.attributes_lost", "extended attributes", attributes(&pairs));
    report("shape.hardlinks_lost", "hard links", hardlinks(&files));
}

fn common<'p>(now: &'p View<'_>, tree: &'p View<'_>) -> Vec<Pair<'p>> {
    let new = now.manifest.entries().iter().filter(|e| now.is_inside(&e.path) && now.matters(e));
    new.filter_map(|new| {
        let old = *tree.index.get(new.path.as_slice())?;
        let same_kind = std::mem::discriminant(&old.kind) == std::mem::discriminant(&new.kind);
        let plain = !matches!(new.kind, firedrill_core::manifest::Kind::Symlink(_));
        (same_kind && plain).then_some((old, new))
    })
    .collect()
}

/// The pairs whose value changed to one and the same, when those are most of all, or all that differed
/// from it before.
fn flattened<'p, T: Ord + Copy>(
    pairs: &[Pair<'p>],
    value: impl Fn(&Entry) -> Option<T>,
    show: impl Fn(T) -> String,
) -> Option<(Vec<Pair<'p>>, String)> {
    let known: Vec<_> =
        pairs.iter().filter_map(|(old, new)| Some(((*old, *new), value(old)?, value(new)?))).collect();
    let mut targets: BTreeMap<T, usize> = BTreeMap::new();
    for (_, old, new) in &known {
        if old != new {
            *targets.entry(*new).or_default() += 1;
        }
    }
    let changed: usize = targets.values().sum();
    let (target, count) = targets.into_iter().max_by_key(|(_, count)| *count)?;
    let differed = known.iter().filter(|(_, old, _)| *old != target).count();
    let most = changed * 2 >= known.len();
    let all_that_differed = count * 20 >= differed * 19 && count * 5 >= known.len();
    if count < CHANGES_MIN || count * 10 < changed * 9 || !(most || all_that_differed) {
        return None;
    }
    let hit = known.iter().filter(|(_, old, new)| old != new && *new == target).map(|(pair, ..)| *pair);
    Some((hit.collect(), show(target)))
}

fn attributes<'p>(pairs: &[Pair<'p>]) -> Option<(Vec<Pair<'p>>, String)> {
    // Labels of the host's policy come and go with the policy.
    let own = |e: &Entry| e.attributes.iter().any(|a| a.name != "security.selinux");
    let had: Vec<_> = pairs.iter().filter(|(old, _)| own(old)).copied().collect();
    let all_gone = had.iter().all(|(_, new)| !own(new));
    (had.len() >= CHANGES_MIN && all_gone).then(|| (had, "no extended attributes any more".to_owned()))
}

fn hardlinks<'p>(files: &[Pair<'p>]) -> Option<(Vec<Pair<'p>>, String)> {
    let mut groups: HashMap<u64, Vec<Pair<'p>>> = HashMap::new();
    for pair in files.iter().filter(|(old, _)| old.link_group != 0) {
        groups.entry(pair.0.link_group).or_default().push(*pair);
    }
    groups.retain(|_, members| members.len() >= 2);
    let still_linked = |members: &Vec<Pair<'_>>| {
        let groups: Vec<_> = members.iter().map(|(_, new)| new.link_group).filter(|g| *g != 0).collect();
        groups
            .iter()
            .enumerate()
            .any(|(at, group)| groups.get(at + 1..).is_some_and(|rest| rest.contains(group)))
    };
    if groups.len() < 2 || groups.values().any(still_linked) {
        return None;
    }
    let mut hit: Vec<_> = groups.into_values().flatten().collect();
    hit.sort_by(|a, b| a.1.path.cmp(&b.1.path));
    Some((hit, "no hard link any more".to_owned()))
}
