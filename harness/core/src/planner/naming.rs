//! Names of drills: `copy::label::which`. The label is the name of the target or the series itself. It
//! depends only on the target and on what the copy holds, so that a new target renames no other drill.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;
use crate::config::TargetConfig;
use crate::plan::{Drill, DrillName};
use crate::seed;
use crate::snapshot::{CopyName, Series, Snapshot};

/// How the series of one copy are called, and how many share each name.
pub(super) struct Labels(BTreeMap<String, BTreeSet<Series>>);

impl Labels {
    pub(super) fn of(source: &Source<'_>) -> Self {
        let mut labels: BTreeMap<String, BTreeSet<Series>> = BTreeMap::new();
        for series in source.series.iter().flat_map(|s| s.keys()) {
            labels.entry(plain(&series.to_string())).or_default().insert(series.clone());
        }
        Self(labels)
    }

    pub(super) fn name(
        &self,
        copy: &CopyName,
        target: Option<&TargetConfig>,
        series: &Series,
        which: &str,
    ) -> DrillName {
        let label = plain(&target.map_or_else(|| series.to_string(), |t| t.name.clone()));
        let another = self.0.get(&label).is_some_and(|held| held.iter().any(|s| s != series));
        let label = if another { format!("{label}~{:08x}", digest(series)) } else { label };
        DrillName::new(copy, &Series::Tag(label), which)
    }
}

/// A label as it is in the name.
fn plain(text: &str) -> String {
    if text.is_empty() { "(empty)".to_owned() } else { text.replace("::", ":") }
}

/// Tells series of the same name apart: a tag that looks like `host:/path`, for example.
fn digest(series: &Series) -> u64 {
    let text = match series {
        Series::Tag(tag) => format!("tag\0{tag}"),
        Series::Untagged { host, paths } => format!("untagged\0{host}\0{}", paths.join("\0")),
        Series::Group(name) => format!("group\0{name}"),
    };
    seed::child(0, &text) >> 32
}

/// The shortest beginnings of the ids that tell `snapshots` apart, at least eight digits long.
pub(super) fn short_ids(snapshots: &[&Snapshot]) -> Vec<String> {
    let cut = |length: usize| -> Vec<String> {
        snapshots.iter().map(|s| s.id.0.chars().take(length).collect()).collect()
    };
    let longest = snapshots.iter().map(|s| s.id.0.chars().count()).max().unwrap_or(0);
    let distinct = snapshots.iter().map(|s| &s.id).collect::<BTreeSet<_>>().len();
    let mut length = 8;
    loop {
        let ids = cut(length);
        if length >= longest || ids.iter().collect::<BTreeSet<_>>().len() == distinct {
            return ids;
        }
        length += 4;
    }
}

/// Whatever the repository holds, no two drills share a name.
pub(super) fn make_unique(drills: &mut [Drill]) {
    let mut seen = BTreeSet::new();
    for drill in drills {
        let first = drill.name.0.clone();
        let mut number = 2;
        while !seen.insert(drill.name.clone()) {
            drill.name.0 = format!("{first}~{number}");
            number += 1;
        }
    }
}
