//! What a snapshot held at the last verified drill, and what must not have become of it since.

use std::collections::BTreeMap;

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::subject::Subject;
use serde::{Deserialize, Serialize};

use super::content::Content;
use super::{NAME, kube};
use crate::probe::engine::dumps::Dump;
use crate::probe::names;

/// At most this many snapshots are remembered.
const SNAPSHOTS_MAX: usize = 16;
/// At most this many prefixes, over all snapshots.
const PREFIXES_MAX: usize = 400;
/// Longer ones are none that Kubernetes makes.
const PREFIX_BYTES_MAX: usize = 120;
/// With fewer keys, a prefix may lose them without notice.
const KEYS_MIN: u64 = 20;

/// What is remembered of one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    revision: u64,
    keys: u64,
    /// Keys below each prefix; the largest ones.
    prefixes: BTreeMap<String, u64>,
}

/// What this drill learns.
#[derive(Debug, Default)]
pub(super) struct Learnt(BTreeMap<String, Remembered>);

impl Learnt {
    /// Keeps what is known of a snapshot that was examined.
    pub(super) fn learn(&mut self, dump: &Dump, content: &Content) {
        let Some(live) = &content.live else { return };
        if self.0.len() >= SNAPSHOTS_MAX {
            return;
        }
        let room = PREFIXES_MAX.saturating_sub(self.0.values().map(|known| known.prefixes.len()).sum());
        let worth = |prefix: &str, count: u64| {
            count > 0 && prefix.len() <= PREFIX_BYTES_MAX && !kube::is_passing(prefix)
        };
        let mut prefixes: Vec<_> =
            live.prefixes.iter().filter(|(prefix, count)| worth(prefix, **count)).collect();
        prefixes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let prefixes = prefixes.into_iter().take(room.min(100)).map(|(p, c)| (p.clone(), *c)).collect();
        let known = Remembered { revision: content.revision, keys: live.count, prefixes };
        self.0.insert(series(dump), known);
    }

    /// The baseline for the next drill.
    pub(super) fn keep(self, examination: &mut Examination) {
        for (series, known) in self.0 {
            if let Ok(value) = serde_json::to_value(known) {
                examination.baseline.insert(series, value);
            }
        }
    }
}

/// Snapshots of one series differ in the date in their names.
fn series(dump: &Dump) -> String {
    let path = String::from_utf8_lossy(&dump.path);
    if names::is_dated(&path) { names::loose(&path) } else { path.into_owned() }
}

/// Compares a snapshot with what it was.
pub(super) fn compare(subject: &Subject, dump: &Dump, content: &Content) -> Vec<Finding> {
    let mut findings = Vec::new();
    let baseline = subject.history.baseline.as_ref();
    let baseline = baseline.filter(|baseline| baseline.snapshot_time <= subject.snapshot.time);
    let value = baseline.and_then(|baseline| baseline.probes.get(NAME)?.get(&series(dump)).cloned());
    let before: Option<Remembered> = value.and_then(|value| serde_json::from_value(value).ok());
    let Some(before) = before else { return findings };
    let at = dump.location.as_str();
    if content.revision < before.revision && !told_elsewhere(subject, content.revision) {
        findings.push(Finding::anomaly(
            "etcd.revision",
            at,
            format!("revision {} of the last verified drill, or a later one", before.revision),
            format!("revision {}", content.revision),
        ));
    }
    let Some(live) = &content.live else { return findings };
    let ratio = subject.drill.probes.shape.files_drop_max_ratio;
    let fell = |had: u64, has: u64| had >= KEYS_MIN && (had.saturating_sub(has)) as f64 > had as f64 * ratio;
    for (prefix, had) in &before.prefixes {
        let has = live.prefixes.get(prefix).copied();
        let Some(has) = has.or(live.prefixes_complete.then_some(0)) else { continue };
        if fell(*had, has) {
            findings.push(Finding::anomaly(
                "etcd.prefix_fell",
                format!("{at}: {prefix}"),
                format!("about the {had} keys of the last verified drill"),
                format!("{has} keys"),
            ));
        }
    }
    findings
}

/// Whether the probe of the snapshot's structure, which knows one revision for all of them, tells it already.
fn told_elsewhere(subject: &Subject, revision: u64) -> bool {
    let probes = subject.history.baseline.as_ref().map(|baseline| &baseline.probes);
    let known = probes.and_then(|probes| probes.get("etcd_snapshot")?.get("revision")?.as_u64());
    known.is_some_and(|known| revision < known)
}
