//! How much of what was broken was detected, and how often there was an alarm for nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::fault::Class;
use super::trial::{Outcome, Trial};

/// The version of the format.
const VERSION: u32 = 1;
/// The confidence of [`Alarms::rate_max`].
const CONFIDENCE: f64 = 0.95;

/// What a campaign showed. Fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Format version.
    pub chaos: u32,
    /// The seed: the same seed strikes the same copy in the same ways.
    pub seed: u64,
    /// The tags that were verified before anything was struck; no other tag was looked at.
    pub tags: Vec<String>,
    /// Tags that were not, with what kept them.
    pub not_verified: Vec<String>,
    /// Every fault that was struck, and what came of it.
    pub trials: Vec<Trial>,
    /// All of them together.
    pub score: Score,
    /// The same by class.
    pub classes: BTreeMap<Class, Score>,
    /// In how many trials each probe explained what was struck.
    pub probes: BTreeMap<String, u64>,
    /// Alarms where nothing was broken.
    pub alarms: Alarms,
    /// How often each fault was to be struck.
    pub rounds: u64,
    /// What kept the campaign from its end, or from testing what was healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trouble: Vec<String>,
}

/// How much of what was broken was detected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Faults that took effect.
    pub injected: u64,
    /// Of these, the ones that were detected and explained.
    pub detected: u64,
    /// Of these, the ones with an alarm that does not explain them.
    pub lucky: u64,
    /// Of these, the ones that nobody noticed.
    pub missed: u64,
    /// Faults that had nothing to strike. They count neither way.
    pub not_applicable: u64,
    /// Attempts that we failed in. They count neither way, and the campaign is inconclusive.
    pub broken: u64,
}

impl Score {
    /// Detected faults among those that took effect, from 0 to 1; `None` when none did.
    pub fn ratio(&self) -> Option<f64> {
        (self.injected > 0).then(|| self.detected as f64 / self.injected as f64)
    }

    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Detected { .. } => self.detected += 1,
            Outcome::Lucky { .. } => self.lucky += 1,
            Outcome::Missed => self.missed += 1,
            Outcome::NotApplicable { .. } => self.not_applicable += 1,
            Outcome::Broken { .. } => self.broken += 1,
        }
        self.injected = self.detected + self.lucky + self.missed;
    }
}

/// Alarms where nothing was broken: in healthy copies, and of tags that a fault did not hit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alarms {
    /// Drills of what was healthy.
    pub drills: u64,
    /// Those that failed, with what they said.
    pub alarms: Vec<String>,
    /// No higher share of alarms fits these counts: upper end of the one-sided 95 % interval of Clopper and
    /// Pearson (Biometrika 26, 1934).
    pub rate_max: f64,
}

impl Report {
    pub(super) fn new(seed: u64, rounds: u64, tags: Vec<String>, not_verified: Vec<String>) -> Self {
        Self {
            chaos: VERSION,
            seed,
            tags,
            not_verified,
            trials: Vec::new(),
            score: Score::default(),
            classes: BTreeMap::new(),
            probes: BTreeMap::new(),
            alarms: Alarms { rate_max: 1.0, ..Alarms::default() },
            rounds,
            trouble: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, trial: Trial) {
        self.score.add(&trial.outcome);
        self.classes.entry(trial.class).or_default().add(&trial.outcome);
        if let Outcome::Detected { by } = &trial.outcome {
            let probes: BTreeSet<_> = by.iter().map(|code| code.split('.').next().unwrap_or(code)).collect();
            for probe in probes {
                *self.probes.entry(probe.to_owned()).or_default() += 1;
            }
        }
        let alarms = trial.alarms.iter().map(|alarm| format!("{}: {alarm}", trial.fault));
        self.healthy(trial.bystanders, alarms.collect());
        self.trials.push(trial);
    }

    /// Counts drills of what was healthy.
    pub(super) fn healthy(&mut self, drills: u64, alarms: Vec<String>) {
        self.alarms.drills += drills;
        self.alarms.alarms.extend(alarms);
        self.alarms.rate_max = rate_max(self.alarms.alarms.len() as u64, self.alarms.drills);
    }

    /// Faults that took effect and were not detected.
    pub fn survivors(&self) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(|trial| matches!(trial.outcome, Outcome::Missed | Outcome::Lucky { .. }))
    }
}

/// The largest rate at which no more than `alarms` in `drills` have a chance of 5 %.
fn rate_max(alarms: u64, drills: u64) -> f64 {
    if alarms >= drills {
        return 1.0;
    }
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        match at_most(alarms, drills, middle) > 1.0 - CONFIDENCE {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

/// The chance of at most `alarms` in `drills`, each with the chance `rate`.
fn at_most(alarms: u64, drills: u64, rate: f64) -> f64 {
    let (n, mut logarithm) = (drills as f64, drills as f64 * (-rate).ln_1p());
    let mut sum = logarithm.exp();
    for k in 1..=alarms {
        let k = k as f64;
        logarithm += ((n - k + 1.0) / k).ln() + rate.ln() - (-rate).ln_1p();
        sum += logarithm.exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From R: `binom.test(k, n, alternative = "less")$conf.int[2]`.
    #[test]
    fn the_bound_is_that_of_clopper_and_pearson() {
        for (alarms, drills, bound) in
            [(0, 300, 0.009936), (1, 300, 0.015717), (5, 100, 0.102253), (0, 1, 0.95)]
        {
            assert!((rate_max(alarms, drills) - bound).abs() < 5e-6, "{alarms} of {drills}");
        }
        assert!((rate_max(0, 0) - 1.0).abs() < 1e-9 && (rate_max(3, 3) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_had_nothing_to_strike_counts_neither_way() {
        let mut score = Score::default();
        assert_eq!(score.ratio(), None);
        score.add(&Outcome::NotApplicable { why: String::new() });
        score.add(&Outcome::Broken { why: String::new() });
        assert_eq!(score.ratio(), None);
        score.add(&Outcome::Detected { by: BTreeSet::new() });
        score.add(&Outcome::Lucky { by: BTreeSet::new() });
        assert_eq!((score.ratio(), score.injected), (Some(0.5), 2));
    }
}
