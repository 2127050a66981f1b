//! The `canary` probe: the restored canaries are authentic, planted for this target, and moved on.
//!
//! *Verified*: each canary in the root of a backed-up path (and each one deeper that names this target)
//! is well-formed, signed with the canary key, planted for this target, not later than its snapshot, and
//! newer than the canary of the last verified drill and of the earlier snapshots that were read. A canary
//! that is required, or was there the last time, is there. The oldest one is the recovery point.
//!
//! *Not verified*: that the data beside the canary was captured at the same moment; who planted it, among
//! those who know the key; signatures, when no key is known. Canaries deeper in the tree that name
//! another target belong to data that has a drill of its own.

use std::collections::BTreeMap;

use firedrill_core::canary::{Canary, FILE, LENGTH_MAX};
use firedrill_core::config::settings::Demand;
use firedrill_core::finding::{Examination, Finding, RecoveryBasis, RecoveryPoint};
use firedrill_core::manifest::{Entry, display_path};
use firedrill_core::memory::Baseline;
use firedrill_core::ports::Probe;
use firedrill_core::snapshot::Series;
use firedrill_core::subject::Subject;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::names::{is_canary, parent};
use super::restored::Restored;

/// The name of the probe.
const NAME: &str = "canary";
/// Where its baseline keeps the canaries.
const KEY: &str = "canaries";
/// More canaries than this are not read.
const CANARIES_MAX: usize = 1000;
/// Clocks of the planter and of the backup may differ by this much.
const CLOCKS_MAX: SignedDuration = SignedDuration::from_mins(15);

/// Examines canaries.
#[derive(Clone, Copy, Debug, Default)]
pub struct CanaryProbe;

/// What the baseline keeps of one canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    sequence: u64,
    time: Timestamp,
}

impl Probe for CanaryProbe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recognises(&self, subject: &Subject) -> bool {
        subject.drill.expectations.canary == Demand::Required
            || subject.manifest.entries().iter().any(is_canary)
            || newer_than_baseline(subject).is_some_and(|b| !remembered(b).is_empty())
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut examination = Examination::new(NAME, "canaries");
        if let Err(why) = examine(subject, &mut examination) {
            examination.interrupt(why);
        }
        examination
    }
}

fn examine(subject: &Subject, examination: &mut Examination) -> Result<(), String> {
    let required = subject.drill.expectations.canary == Demand::Required;
    if subject.canary_key.is_none() {
        if required {
            examination.interrupt("no key is known that authenticates canaries");
        }
        examination.not_verified.push("the signature of canaries: no key is known".to_owned());
    }
    let restored = Restored::open(&subject.root).map_err(|e| format!("the restored data: {e}"))?;
    let mut own: BTreeMap<String, Seen> = BTreeMap::new();
    let mut foreign = 0u64;
    let mut oldest: Option<Timestamp> = None;
    let canaries = subject.manifest.entries().iter().filter(|e| is_canary(e));
    for (number, entry) in canaries.enumerate() {
        subject.watch.check().map_err(|e| e.chain())?;
        if number >= CANARIES_MAX {
            examination.not_verified.push(format!("canaries beyond the first {CANARIES_MAX}"));
            break;
        }
        let Some(content) = restored
            .head(&entry.path, LENGTH_MAX + 1)
            .map_err(|e| format!("the restored file {}: {e}", entry.display()))?
        else {
            examination.interrupt(format!("the canary {} was not restored", entry.display()));
            continue;
        };
        examination.checked += 1;
        let in_root = is_in_root(subject, entry);
        let canary = match Canary::parse(&content) {
            Ok(canary) => canary,
            Err(_) if !in_root => {
                foreign += 1;
                continue;
            }
            Err(why) => {
                examination.find(Finding::damage(
                    "canary.malformed",
                    entry.display(),
                    "a canary",
                    format!("no canary: {why}"),
                ));
                continue;
            }
        };
        if !in_root && !is_ours(subject, canary.target()) {
            foreign += 1;
            continue;
        }
        let seen = Seen { sequence: canary.sequence(), time: canary.time() };
        own.insert(entry.display(), seen);
        if judge_canary(subject, entry, &canary, examination) {
            oldest = Some(oldest.map_or(seen.time, |o| o.min(seen.time)));
        }
    }
    if foreign > 0 {
        examination.notes.push(format!("{foreign} canaries of other targets lie deeper in the tree"));
    }
    missing(subject, required, &own, examination);
    examination.recovery_point = oldest.map(|time| RecoveryPoint { time, basis: RecoveryBasis::Canary });
    if let Ok(value) = serde_json::to_value(&own)
        && !own.is_empty()
    {
        examination.baseline.insert(KEY.to_owned(), value);
    }
    Ok(())
}

/// Examines one canary of this target; whether its time can be relied on.
fn judge_canary(subject: &Subject, entry: &Entry, canary: &Canary, examination: &mut Examination) -> bool {
    let place = entry.display();
    let authentic = match &subject.canary_key {
        Some(key) if !canary.verify(key) => {
            examination.find(Finding::damage(
                "canary.forged",
                place,
                "a canary that is signed with the canary key",
                format!("another signature, on a canary for `{}` of {}", canary.target(), canary.time()),
            ));
            return false;
        }
        Some(_) => true,
        None => {
            examination.notes.push(format!(
                "{place}: a canary for `{}` of {}, not authenticated",
                canary.target(),
                canary.time()
            ));
            false
        }
    };
    if !is_ours(subject, canary.target()) {
        examination.find(Finding::anomaly(
            "canary.target",
            place.clone(),
            format!(
                "a canary for `{}`",
                subject.drill.target.clone().unwrap_or(subject.drill.series.to_string())
            ),
            format!("one for `{}`", canary.target()),
        ));
    }
    let latest = subject.snapshot.time.saturating_add(CLOCKS_MAX).unwrap_or(Timestamp::MAX);
    let plausible = canary.time() <= latest;
    if !plausible {
        examination.find(Finding::anomaly(
            "canary.future",
            place,
            format!("a canary that was planted before the snapshot of {:.0}", subject.snapshot.time),
            format!("one of {}", canary.time()),
        ));
    }
    progress(subject, entry, canary, examination);
    authentic && plausible
}

/// Compares with the last verified drill and with earlier snapshots.
fn progress(subject: &Subject, entry: &Entry, canary: &Canary, examination: &mut Examination) {
    let place = entry.display();
    if let Some(baseline) = newer_than_baseline(subject)
        && let Some(before) = remembered(baseline).get(&place)
    {
        let shown = format!("number {} of {:.0}", before.sequence, before.time);
        let when = format!("the drilled snapshot of {}", baseline.snapshot_time);
        if canary.sequence() < before.sequence || canary.time() < before.time {
            examination.find(Finding::anomaly(
                "canary.backwards",
                place,
                format!("a newer canary than {shown}, which was in {when}"),
                format!("number {} of {:.0}", canary.sequence(), canary.time()),
            ));
            return;
        }
        if canary.sequence() == before.sequence {
            stalled(place, canary, &when, examination);
            return;
        }
    }
    // What a person accepted is not held against the snapshot again.
    let since = subject.history.baseline.as_ref().filter(|b| b.accepted.is_some()).map(|b| b.snapshot_time);
    let same = subject.history.earlier.iter().rfind(|earlier| {
        let comparable = earlier.snapshot.time < subject.snapshot.time
            && since.is_none_or(|since| earlier.snapshot.time >= since);
        comparable
            && earlier.manifest.as_ref().is_ok_and(|theirs| {
                let twin = theirs.entries().iter().find(|e| is_canary(e) && e.path == entry.path);
                twin.is_some_and(|twin| subject.manifest.same_content(entry, theirs, twin))
            })
    });
    if let Some(same) = same {
        stalled(place, canary, &format!("the snapshot of {:.0}", same.snapshot.time), examination);
    }
}

fn stalled(place: String, canary: &Canary, when: &str, examination: &mut Examination) {
    examination.find(Finding::anomaly(
        "canary.stalled",
        place,
        format!("a newer canary than in {when}"),
        format!("the same one, number {} of {}: the data did not move on", canary.sequence(), canary.time()),
    ));
}

/// Canaries that have to be there and are not.
fn missing(subject: &Subject, required: bool, own: &BTreeMap<String, Seen>, examination: &mut Examination) {
    let expected = newer_than_baseline(subject).map(remembered).unwrap_or_default();
    for (path, seen) in expected {
        let there = subject.manifest.entries().iter().any(|e| is_canary(e) && e.display() == path);
        if !there {
            examination.find(Finding::damage(
                "canary.missing",
                path,
                format!(
                    "a canary, as in the last drill (number {}); drop the baseline if none is planted any more",
                    seen.sequence
                ),
                "none",
            ));
        }
    }
    let reported = examination.findings.iter().any(|f| f.code.starts_with("canary."));
    if required && own.is_empty() && !reported {
        examination.find(Finding::damage(
            "canary.missing",
            subject.snapshot.paths.join(", "),
            format!("the file {FILE} in the root of what is backed up"),
            "none",
        ));
    }
}

/// The baseline, when the drilled snapshot is newer than its snapshot.
fn newer_than_baseline(subject: &Subject) -> Option<&Baseline> {
    subject.history.baseline.as_ref().filter(|b| b.snapshot_time < subject.snapshot.time)
}

fn remembered(baseline: &Baseline) -> BTreeMap<String, Seen> {
    let kept = baseline.probes.get(NAME).and_then(|kept| kept.get(KEY)).cloned();
    kept.and_then(|kept| serde_json::from_value(kept).ok()).unwrap_or_default()
}

/// Whether the canary lies in the root of a backed-up path, or is one itself. Relative paths are stored
/// without the folders above them, so any end of the path may be what the tree shows.
fn is_in_root(subject: &Subject, entry: &Entry) -> bool {
    let folder = display_path(parent(&entry.path));
    if folder.is_empty() {
        return true;
    }
    let ends_there = |base: &str, place: &str| {
        base == place || base.strip_suffix(place).is_some_and(|before| before.ends_with('/'))
    };
    let entry_path = entry.display();
    subject
        .snapshot
        .paths
        .iter()
        .map(|path| path.trim_matches('/'))
        .any(|base| ends_there(base, &folder) || ends_there(base, &entry_path))
}

pub(crate) fn is_ours(subject: &Subject, target: &str) -> bool {
    let tag_of_series = match &subject.drill.series {
        Series::Tag(tag) => Some(tag),
        Series::Untagged { .. } | Series::Group(_) => None,
    };
    let known = subject.drill.target.iter().chain(tag_of_series).chain(&subject.snapshot.tags);
    let mut known = known.peekable();
    // Without a name for what is backed up there is nothing that the canary could contradict.
    known.peek().is_none() || known.any(|name| name == target)
}

#[cfg(test)]
mod tests;
