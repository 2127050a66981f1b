//! Which snapshots are kept: the rules of `restic forget`, as a pure function.
//!
//! | file | what lives there |
//! |---|---|
//! | `age` | calendar spans such as `1y5m7d2h` |
//! | `rules` | the rules themselves |
//! | `guard` | what no rule may remove |
//!
//! A rule looks at a snapshot by the wall clock of whoever made it (the offset that the snapshot records), as
//! restic does: a backup at 23:30 belongs to that evening wherever the rules are applied.

mod age;
mod guard;
mod rules;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use age::Age;
pub use guard::{Guard, Refusal};
pub use rules::{Candidate, Decided, Decision, GroupBy, apply};

/// What is kept of one series. A snapshot is kept when any rule keeps it; without any rule all are kept. The rules
/// are those of `restic forget`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The newest so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// The newest of each of the last so many hours that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly: Option<u32>,
    /// Likewise of days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<u32>,
    /// Likewise of weeks (ISO 8601).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<u32>,
    /// Likewise of months.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly: Option<u32>,
    /// Likewise of years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yearly: Option<u32>,
    /// All that are less than this much older than the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Age>,
    /// The newest of each hour, of those that are less than this much older than the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_hourly: Option<Age>,
    /// Likewise of days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_daily: Option<Age>,
    /// Likewise of weeks (ISO 8601).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_weekly: Option<Age>,
    /// Likewise of months.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_monthly: Option<Age>,
    /// Likewise of years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_yearly: Option<Age>,
    /// All that carry one of these tags; `a,b` stands for both tags at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Policy {
    /// Whether there is no rule, so that everything is kept.
    pub fn is_empty(&self) -> bool {
        let counted = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        let aged = [
            self.within,
            self.within_hourly,
            self.within_daily,
            self.within_weekly,
            self.within_monthly,
            self.within_yearly,
        ];
        counted.iter().all(|count| count.unwrap_or(0) == 0)
            && aged.iter().all(|age| age.is_none_or(Age::is_zero))
            && self.tags.is_empty()
    }
}
