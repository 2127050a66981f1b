//! Dumps that no longer move on: the job that writes them is dead, and the backup stores the last one
//! again and again.

use std::collections::BTreeMap;

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::{Entry, Manifest};
use firedrill_core::subject::Subject;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::probe::bases::Bases;
use crate::probe::names;

/// Where the baseline keeps the versions.
const DUMPS: &str = "dumps";
/// At most this many dumps are kept.
const DUMPS_MAX: usize = 40;
const FORM_BYTES_MAX: usize = 200;
/// A rhythm shows in so many versions.
const VERSIONS_MIN: usize = 3;
/// A dump is late after so many of its longest intervals, which count as an hour at least: a few dumps by
/// hand in a row are no rhythm.
const PATIENCE: i32 = 3;
const INTERVAL_MIN: SignedDuration = SignedDuration::from_hours(1);

/// One version of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    mtime: Timestamp,
    size: u64,
    /// SHA-256 of the first chunk, hexadecimal.
    digest: String,
    /// The longest time between two versions that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval_seconds: Option<i64>,
}

impl Version {
    fn is(&self, other: &Self) -> bool {
        self.mtime == other.mtime && self.size == other.size && self.digest == other.digest
    }
}

/// The newest version of each dump, by the loose form of its path: dumps may carry the date in the name.
type Versions = BTreeMap<String, (Version, String)>;

pub(super) fn examine(subject: &Subject, examination: &mut Examination) {
    let baseline = subject.history.baseline.as_ref().filter(|b| b.snapshot_time <= subject.snapshot.time);
    let accepted = baseline.filter(|b| b.accepted.is_some()).map(|b| b.snapshot_time);
    let past: Vec<(Timestamp, Versions)> = subject
        .history
        .earlier
        .iter()
        .filter(|e| e.snapshot.time < subject.snapshot.time)
        .filter(|e| accepted.is_none_or(|since| e.snapshot.time >= since))
        .filter_map(|e| Some((e.snapshot.time, versions(e.manifest.as_ref().ok()?, &e.snapshot.paths))))
        .collect();
    let remembered: BTreeMap<String, Version> = baseline
        .and_then(|b| b.probes.get(super::NAME)?.get(DUMPS).cloned())
        .and_then(|kept| serde_json::from_value(kept).ok())
        .unwrap_or_default();
    let remembered_at = baseline.map(|b| b.snapshot_time);

    let mut kept = BTreeMap::new();
    for (form, (mut version, path)) in versions(&subject.manifest, &subject.snapshot.paths) {
        let mut states: Vec<(Timestamp, &Version)> =
            past.iter().filter_map(|(time, all)| Some((*time, &all.get(&form)?.0))).collect();
        if let (Some(time), Some(known)) = (remembered_at, remembered.get(&form))
            && time < subject.snapshot.time
            && states.iter().all(|(t, _)| *t > time)
        {
            states.push((time, known));
        }
        let learnt = remembered.get(&form).and_then(|v| v.interval_seconds).map(SignedDuration::from_secs);
        let longest = longest_interval(&states).or(learnt);
        // What a person accepted as it stands is not late.
        let meant = accepted.is_some() && remembered.get(&form).is_some_and(|v| v.is(&version));
        let stall = stalled_once(subject.snapshot.time, &version, &states)
            .or_else(|| late(subject.snapshot.time, &version, &states, longest))
            .filter(|_| !meant);
        if let Some(expected) = stall {
            examination.find(Finding::anomaly(
                "freshness.stalled",
                path,
                expected,
                format!("still the one of {}", version.mtime),
            ));
        }
        version.interval_seconds = longest.map(|l| l.as_secs());
        if kept.len() < DUMPS_MAX && form.len() <= FORM_BYTES_MAX {
            kept.insert(form, version);
        }
    }
    if let Ok(value) = serde_json::to_value(&kept)
        && !kept.is_empty()
    {
        examination.baseline.insert(DUMPS.to_owned(), value);
    }
}

fn versions(manifest: &Manifest, paths: &[String]) -> Versions {
    let bases = Bases::of(manifest, paths);
    let is_dump = |entry: &&Entry| names::is_dump(bases.name(&entry.path));
    let mut newest: BTreeMap<String, &Entry> = BTreeMap::new();
    for entry in manifest.files().filter(|e| e.mtime.is_some() && e.size > 0).filter(is_dump) {
        let form = names::loose(&String::from_utf8_lossy(&entry.path));
        let slot = newest.entry(form).or_insert(entry);
        if entry.mtime > slot.mtime {
            *slot = entry;
        }
    }
    newest
        .into_iter()
        .filter_map(|(form, entry)| {
            let digest = hex::encode(manifest.chunks(entry).first()?.digest);
            let version = Version { mtime: entry.mtime?, size: entry.size, digest, interval_seconds: None };
            Some((form, (version, entry.display())))
        })
        .collect()
}

/// Each earlier snapshot had a version of its own, and this one, after as long as those were apart, has
/// the last one once more.
fn stalled_once(now: Timestamp, version: &Version, states: &[(Timestamp, &Version)]) -> Option<String> {
    let (last, _) = states.first().filter(|(_, v)| v.is(version))?;
    let each_had_its_own = states.windows(2).all(|pair| matches!(pair, [(_, a), (_, b)] if !a.is(b)));
    let apart = states.windows(2).filter_map(|pair| match pair {
        [(new, _), (old, _)] => Some(new.duration_since(*old)),
        _ => None,
    });
    let usual = apart.max()?;
    let as_long = now.duration_since(*last).saturating_mul(4) >= usual.saturating_mul(3);
    (states.len() >= VERSIONS_MIN && each_had_its_own && as_long)
        .then(|| "a new dump, as in each earlier snapshot".to_owned())
}

/// The version is older than the rhythm of the earlier ones allows.
fn late(
    now: Timestamp,
    version: &Version,
    states: &[(Timestamp, &Version)],
    longest: Option<SignedDuration>,
) -> Option<String> {
    let longest = longest?.max(INTERVAL_MIN);
    states.first().filter(|(_, v)| v.is(version))?;
    let age = now.duration_since(version.mtime);
    (age > longest.saturating_mul(PATIENCE))
        .then(|| format!("a new dump about every {}, as before", super::span(longest)))
}

/// The longest time between two versions, when there are enough of them to tell.
fn longest_interval(states: &[(Timestamp, &Version)]) -> Option<SignedDuration> {
    let mut times: Vec<_> = states.iter().map(|(_, v)| v.mtime).collect();
    times.sort_unstable();
    times.dedup();
    let apart = times.windows(2).filter_map(|pair| match pair {
        [old, new] => Some(new.duration_since(*old)),
        _ => None,
    });
    if times.len() >= VERSIONS_MIN { apart.max() } else { None }
}
