//! What no rule may remove. Rules are written once and run for years; these limits are what stands between a typo,
//! a clock that runs ahead or a week of bad backups, and the last good one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::rules::{Decided, Decision};
use crate::snapshot::SnapshotId;

/// A clock may be ahead by this much without raising doubts.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Limits that are checked before anything is removed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guard {
    /// Snapshots that must stay whatever the rules say: the newest verified of each series.
    pub never_drop: BTreeSet<SnapshotId>,
    /// At most this share of all snapshots may go at once; `None` without limit.
    pub max_share: Option<f64>,
    /// Whether rules are applied although a snapshot is dated in the future.
    pub allow_future: bool,
    /// Whether a series may lose all of its snapshots.
    pub allow_empty: bool,
}

/// Why nothing is removed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A snapshot would go that must stay.
    #[error("snapshot {} is the newest verified of its series, and the rules would remove it", .0.short())]
    NeverDrop(SnapshotId),
    /// Too many would go at once.
    #[error("the rules would remove {removed} of {all} snapshots at once")]
    TooMany {
        /// How many would go.
        removed: usize,
        /// How many there are.
        all: usize,
    },
    /// A series would lose all of its snapshots.
    #[error("the rules would remove all {count} snapshots of {series}")]
    Emptied {
        /// What the series is known by.
        series: String,
        /// How many it has.
        count: usize,
    },
    /// A snapshot is dated in the future, where it takes the places of real ones.
    #[error("snapshot {} is dated {time}, which has not come yet: it would push out real ones", .id.short())]
    Future {
        /// The snapshot.
        id: SnapshotId,
        /// Its date.
        time: Timestamp,
    },
}

impl Guard {
    /// Keeps what must stay, whatever the rules said of it.
    pub fn spare(&self, decided: &mut [Decided]) {
        for one in decided.iter_mut().filter(|one| self.never_drop.contains(&one.candidate.id)) {
            if one.is_removed() {
                one.decision = Decision::Keep { reasons: vec!["newest verified".to_owned()] };
            }
        }
    }

    /// Whether `decided` may be carried out.
    pub fn check(&self, decided: &[Decided], now: Timestamp) -> Result<(), Refusal> {
        let removed = decided.iter().filter(|one| one.is_removed());
        if let Some(one) = removed.clone().find(|one| self.never_drop.contains(&one.candidate.id)) {
            return Err(Refusal::NeverDrop(one.candidate.id.clone()));
        }
        let removed = removed.count();
        if removed == 0 {
            return Ok(());
        }
        let latest = now.checked_add(AHEAD_MAX).unwrap_or(Timestamp::MAX);
        let future = decided.iter().find(|one| one.candidate.time > latest);
        if let Some(one) = future.filter(|_| !self.allow_future) {
            return Err(Refusal::Future { id: one.candidate.id.clone(), time: one.candidate.time });
        }
        if self.max_share.is_some_and(|share| removed as f64 > share * decided.len() as f64) {
            return Err(Refusal::TooMany { removed, all: decided.len() });
        }
        if self.allow_empty { Ok(()) } else { check_series(decided) }
    }
}

fn check_series(decided: &[Decided]) -> Result<(), Refusal> {
    let mut series: BTreeMap<usize, (usize, &Decided, bool)> = BTreeMap::new();
    for one in decided {
        let entry = series.entry(one.series).or_insert((0, one, false));
        entry.0 += 1;
        entry.2 |= !one.is_removed();
    }
    match series.into_values().find(|(_, _, kept)| !kept) {
        Some((count, one, _)) => Err(Refusal::Emptied { series: name(one), count }),
        None => Ok(()),
    }
}

fn name(one: &Decided) -> String {
    struct Named<'a>(&'a Decided);
    impl fmt::Display for Named<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let candidate = &self.0.candidate;
            write!(f, "host {}, paths {}", candidate.host, candidate.paths.join(" "))?;
            match candidate.tags.is_empty() {
                true => Ok(()),
                false => write!(f, ", tags {}", candidate.tags.join(",")),
            }
        }
    }
    Named(one).to_string()
}
