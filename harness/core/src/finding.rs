//! What is wrong with a backup, and what was looked at.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cell::EngineFacts;

/// What a finding means for the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The data came back, but a recovery needs something that this backup does not hold: roles, a token, a
    /// certificate authority. It does not change the verdict; whether it is kept elsewhere, a person must know.
    Gap,
    /// An objective was missed: the backup is intact, but it is too old or restores too slowly.
    Objective,
    /// The content does not fit what is known of this backup: it shrank, stalled, came from another
    /// host, or looks encrypted by somebody else. A person can accept it with a reason.
    Anomaly,
    /// Something that the backup promises is missing, unreadable or different.
    Damage,
}

impl Class {
    /// Whether a drill fails by it.
    pub fn fails(self) -> bool {
        matches!(self, Self::Anomaly | Self::Damage)
    }
}

/// One thing that is wrong with a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable dotted name, `probe.what`, for example `tree.content` or `sqlite.integrity`.
    pub code: String,
    /// What it means for the verdict.
    pub class: Class,
    /// Where: a path inside the snapshot, a repository file, a table.
    pub location: String,
    /// What a good backup would have shown.
    pub expected: String,
    /// What was seen instead.
    pub seen: String,
}

impl Finding {
    /// Something promised is missing, unreadable or different.
    pub fn damage(
        code: &str,
        location: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self::of(Class::Damage, code, location, expected, seen)
    }

    /// The content does not fit what is known of this backup.
    pub fn anomaly(
        code: &str,
        location: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self::of(Class::Anomaly, code, location, expected, seen)
    }

    /// A recovery needs something that this backup does not hold.
    pub fn gap(
        code: &str,
        location: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self::of(Class::Gap, code, location, expected, seen)
    }

    /// An objective was missed.
    pub fn objective(
        code: &str,
        location: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self::of(Class::Objective, code, location, expected, seen)
    }

    fn of(
        class: Class,
        code: &str,
        location: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self {
            code: code.to_owned(),
            class,
            location: location_of(location.into()),
            expected: clipped(expected.into(), TEXT_MAX),
            seen: clipped(seen.into(), TEXT_MAX),
        }
    }
}

/// `location` as findings keep it.
pub(crate) fn location_of(location: String) -> String {
    clipped(location, LOCATION_MAX)
}

/// How the recovery point of restored data was learnt, best evidence first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryBasis {
    /// An authentic canary, planted by the pipeline at a known moment.
    Canary,
    /// A time written inside the data (a dump header, an application's newest row).
    Data,
    /// The time of the snapshot, which says when the job ran, not what it holds.
    Snapshot,
}

/// The moment up to which restored data is known to be complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// The moment.
    pub time: Timestamp,
    /// How it was learnt.
    pub basis: RecoveryBasis,
}

/// At most this many findings are kept per examination; the rest is counted.
pub const FINDINGS_MAX: usize = 100;

/// At most this many notes are kept per examination, and as many remarks on what is not verified.
const NOTES_MAX: usize = 200;
/// A longer text was made by what is in a backup, not for people.
const TEXT_MAX: usize = 4 << 10;
/// Paths inside snapshots can be longer than any that a system call takes.
const LOCATION_MAX: usize = 40 << 10;
/// What a probe remembers takes at most this many bytes; a baseline holds that of all probes.
const BASELINE_MAX: usize = 1 << 20;

/// `text`, or the beginning of it.
fn clipped(mut text: String, length_max: usize) -> String {
    if text.len() > length_max {
        text.truncate(text.floor_char_boundary(length_max));
        text.push('…');
    }
    text
}

/// What one probe looked at and found. A probe never returns an error: what kept it from looking is
/// `interrupted`, and an interrupted or empty examination proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Examination {
    /// The probe's name.
    pub probe: String,
    /// How many items were really examined (entries, rows, chunks), in `unit`.
    pub checked: u64,
    /// What is counted in `checked`, plural.
    pub unit: String,
    /// What is wrong, at most [`FINDINGS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// How many further findings were not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub findings_omitted: u64,
    /// How many gaps and missed objectives were not kept. What a verdict does not suffer from when it is kept must
    /// not weigh more when it is not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lesser_omitted: u64,
    /// Why the examination could not be finished, if it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<String>,
    /// What this examination leaves unproven, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_verified: Vec<String>,
    /// Worth knowing, without weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The recovery point that the data itself shows, if it shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point: Option<RecoveryPoint>,
    /// The engines that the data was loaded into, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineFacts>,
    /// What the next drill of this tag will be compared with; see [`crate::memory`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub baseline: BTreeMap<String, serde_json::Value>,
}

impl Examination {
    /// An examination by `probe` that has looked at nothing yet.
    pub fn new(probe: &str, unit: &str) -> Self {
        Self { probe: probe.to_owned(), unit: unit.to_owned(), ..Self::default() }
    }

    /// Records a finding, or counts it when there are too many already. A graver one takes the place of a lesser.
    pub fn find(&mut self, finding: Finding) {
        let mut left_out = finding.class;
        if self.findings.len() < FINDINGS_MAX {
            return self.findings.push(finding);
        }
        let lesser = self.findings.iter().enumerate().rev().filter(|(_, kept)| !kept.class.fails());
        let least = lesser.min_by_key(|(_, kept)| kept.class).map(|(at, kept)| (at, kept.class));
        if let Some((at, class)) = least.filter(|(_, class)| *class < finding.class) {
            left_out = class;
            self.findings.remove(at);
            self.findings.push(finding);
        }
        if left_out.fails() {
            self.findings_omitted += 1;
        } else {
            self.lesser_omitted += 1;
        }
    }

    /// Records why the examination could not be finished. The first reason is kept.
    pub fn interrupt(&mut self, reason: impl Into<String>) {
        self.interrupted.get_or_insert_with(|| location_of(reason.into()));
    }

    /// Cuts down what a hostile backup can make large, so that the examination fits into evidence and what
    /// it remembers into a baseline.
    pub(crate) fn bound(&mut self) {
        for finding in &mut self.findings {
            finding.location = location_of(std::mem::take(&mut finding.location));
        }
        let remembered = serde_json::to_vec(&self.baseline).map_or(usize::MAX, |json| json.len());
        if remembered > BASELINE_MAX {
            self.baseline.clear();
            let left_out = format!("the next drill against this one: that would take {remembered} bytes");
            self.not_verified.insert(0, left_out);
        }
        if self.lesser_omitted > 0 {
            let what = format!("{} more gaps or missed objectives that were not kept", self.lesser_omitted);
            self.notes.insert(0, what);
        }
        for texts in [&mut self.notes, &mut self.not_verified] {
            let more = texts.len().saturating_sub(NOTES_MAX);
            texts.truncate(NOTES_MAX);
            for text in texts.iter_mut() {
                *text = location_of(std::mem::take(text));
            }
            if more > 0 {
                texts.push(format!("and {more} more"));
            }
        }
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hostile_backup_makes_large_is_cut_down() {
        // Characters of three bytes, so that no limit falls between two of them.
        let long = "€".repeat(1 << 20);
        let finding = Finding::damage("tree.content", long.as_str(), long.as_str(), long.as_str());
        for (text, max) in
            [(&finding.location, LOCATION_MAX), (&finding.expected, TEXT_MAX), (&finding.seen, TEXT_MAX)]
        {
            assert!(text.len() <= max + '…'.len_utf8() && text.ends_with('…'));
        }
        let mut examination = Examination::new("shape", "entries");
        examination.find(Finding { location: long.clone(), ..finding });
        examination.notes = vec![long.clone(); 300];
        examination.not_verified = vec![long.clone(); 300];
        examination.baseline.insert("paths".to_owned(), long.as_str().into());
        examination.interrupt(long);
        examination.bound();
        assert_eq!((examination.notes.len(), examination.not_verified.len()), (201, 201));
        assert!(examination.notes.iter().any(|note| note == "and 100 more"));
        assert!(examination.not_verified.iter().any(|text| text.starts_with("the next drill against")));
        assert!(examination.baseline.is_empty());
        assert!(serde_json::to_vec(&examination).unwrap().len() < 20 << 20);
    }

    #[test]
    fn what_does_not_fail_a_drill_does_not_fail_it_in_numbers() {
        let mut examination = Examination::new("postgres", "databases");
        for number in 0..FINDINGS_MAX + 30 {
            examination.find(Finding::gap("postgres.role", number.to_string(), "a role", "none"));
        }
        assert_eq!((examination.findings_omitted, examination.lesser_omitted), (0, 30));
        // What is graver is kept, and in its order.
        examination.find(Finding::objective("postgres.newest", "late", "new", "old"));
        examination.find(Finding::damage("postgres.rows", "lost", "rows", "none"));
        assert_eq!(examination.findings.len(), FINDINGS_MAX);
        let last: Vec<_> = examination.findings.iter().rev().take(3).map(|f| f.location.as_str()).collect();
        assert_eq!(last, ["lost", "late", "97"]);
        for _ in 0..FINDINGS_MAX {
            examination.find(Finding::damage("postgres.rows", "lost", "rows", "none"));
        }
        assert_eq!((examination.findings_omitted, examination.lesser_omitted), (1, 131));
        assert!(examination.findings.iter().all(|finding| finding.class == Class::Damage));
        examination.bound();
        assert!(examination.notes.iter().any(|note| note.starts_with("131 more gaps")));
    }

    #[test]
    fn what_is_not_large_stays_as_it_is() {
        let mut examination = Examination::new("shape", "entries");
        examination.find(Finding::anomaly("shape.empty", "data", "files", "none"));
        examination.notes.push("a note".to_owned());
        examination.baseline.insert("files".to_owned(), 7.into());
        let before = examination.clone();
        examination.bound();
        assert_eq!(examination, before);
    }
}
