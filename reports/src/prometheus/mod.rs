//! Metrics of a run, for alerts that fire when a backup cannot be restored and when nobody tried.
//!
//! All are gauges, because a restore test is a batch job: when it last ran, when it last succeeded, and
//! what it measured. Labels are `copy` and `tag` and, where the name says so, one of a fixed set; never
//! a snapshot id, which would make a new series every week.
//!
//! | metric | labels |
//! |---|---|
//! | `firedrill_expected_info` | copy, tag: one per tag of the plan, to join with what may be missing |
//! | `firedrill_restore_test_verdict` | copy, tag, verdict: 1 for the verdict it got, 0 for the others |
//! | `firedrill_restore_test_last_run_timestamp_seconds` | copy, tag |
//! | `firedrill_restore_test_last_success_timestamp_seconds` | copy, tag: only when verified |
//! | `firedrill_restore_test_findings` | copy, tag |
//! | `firedrill_restore_test_objective_missed` | copy, tag |
//! | `firedrill_restore_test_phase_duration_seconds` | copy, tag, phase |
//! | `firedrill_test_interval_seconds` | copy, tag: when the plan knows it |
//! | `firedrill_recovery_time_actual_seconds`, `..._objective_seconds` | copy, tag |
//! | `firedrill_recovery_point_actual_seconds`, `..._objective_seconds` | copy, tag |
//! | `firedrill_recovery_point_basis` | copy, tag, basis: 1 for the one that holds |
//! | `firedrill_restored_bytes`, `firedrill_restored_files`, `firedrill_bytes_read` | copy, tag |
//! | `firedrill_snapshot_age_seconds` | copy, tag |
//! | `firedrill_copy_ok` | copy |
//! | `firedrill_negative_control_ok` | none; absent when there was nothing to control, and when the config switches the control off |
//! | `firedrill_run_verdict` | verdict: a run that drilled nothing is inconclusive |
//! | `firedrill_run_duration_seconds`, `firedrill_run_last_run_timestamp_seconds` | none |
//! | `firedrill_build_info` | version |
//! | `backup_restore_status` | none: tags that could not be verified; see [`ReferenceStatus`] |
//!
//! Decisions:
//!
//! * The basis of a recovery point is a series of its own and not a label of the recovery point: the
//!   main series must go on when a canary appears or disappears.
//! * A measurement that was not made is absent, never 0.
//! * The last success is written only when the drill is verified *and* nothing puts the run as a whole
//!   in doubt: a run that missed its negative control proves nothing.
//! * Several drills of one tag in one copy (the latest and an older snapshot) share one series: the
//!   verdict is the worst of them, measurements are those of the newest snapshot.
//! * `backup_start_timestamp` is *not* written, although backup scripts push it: alerts of the kind
//!   "no backup for two hours" look at every instance of it and would fire between weekly restore tests.

mod series;
mod textfile;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::event::Phase;
use firedrill_core::finding::RecoveryBasis;
use firedrill_core::judge::{ControlState, Judgement};
use firedrill_core::verdict::Verdict;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry, TextEncoder};

pub(crate) use series::{Series, merged};
pub use textfile::Textfile;

/// The name of the metric that must outlive a failing run.
pub(crate) const LAST_SUCCESS: &str = "firedrill_restore_test_last_success_timestamp_seconds";
/// The name of the metric that existing alerts know.
const REFERENCE_STATUS: &str = "backup_restore_status";

/// How `backup_restore_status` is written: the number of tags that could not be verified. Existing
/// setups alert on `backup_restore_status > 0`. A Pushgateway accepts one type per metric name, so where
/// a script pushes the same name without a type, firedrill has to do so as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferenceStatus {
    /// As a gauge.
    #[default]
    Gauge,
    /// Without a type.
    Untyped,
    /// Not at all.
    Off,
}

/// All metrics of a judgement, except [`ReferenceStatus`]'s, sorted by name.
pub fn families(judgement: &Judgement) -> Result<Vec<MetricFamily>> {
    let mut metrics = Metrics::default();
    for series in merged(judgement) {
        metrics.tag(judgement, &series)?;
        metrics.success(judgement, &series)?;
    }
    metrics.run(judgement)?;
    Ok(metrics.families())
}

/// Metrics in the text format, version 0.0.4.
pub fn encode(families: &[MetricFamily]) -> Result<String> {
    TextEncoder::new().encode_to_string(families).map_err(|e| broken(&e))
}

/// The text of `backup_restore_status`; empty when it is off.
pub(crate) fn reference_status(judgement: &Judgement, style: ReferenceStatus) -> String {
    let ty = match style {
        ReferenceStatus::Off => return String::new(),
        ReferenceStatus::Gauge => "gauge",
        ReferenceStatus::Untyped => "untyped",
    };
    format!(
        "# HELP {REFERENCE_STATUS} Tags that could not be verified by the last restore test.\n\
         # TYPE {REFERENCE_STATUS} {ty}\n\
         {REFERENCE_STATUS} {}\n",
        unverified(judgement)
    )
}

/// How many tags are not verified in some copy; at least 1 when the run as a whole is not.
fn unverified(judgement: &Judgement) -> usize {
    let tags: std::collections::BTreeSet<_> =
        judgement.drills.iter().filter(|d| d.verdict != Verdict::Verified).map(|d| &d.series).collect();
    tags.len().max(usize::from(judgement.verdict != Verdict::Verified))
}

/// Seconds since 1970 at which the run ended, as far as is known.
fn ended(judgement: &Judgement) -> f64 {
    let started = judgement.started.as_millisecond() as f64 / 1_000.0;
    started + judgement.seconds.filter(|s| s.is_finite()).unwrap_or_default()
}

fn broken(error: &prometheus::Error) -> Error {
    Error::new(ErrorKind::Internal, "turn the judgement into metrics").from_source(error)
}

/// A registry that is filled one value at a time.
#[derive(Default)]
pub(crate) struct Metrics {
    vectors: std::collections::BTreeMap<&'static str, GaugeVec>,
    registry: Registry,
}

impl Metrics {
    pub(crate) fn set(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) -> Result<()> {
        if !value.is_finite() {
            return Ok(());
        }
        let values: Vec<_> = labels.iter().map(|(_, value)| *value).collect();
        if !self.vectors.contains_key(name) {
            let names: Vec<_> = labels.iter().map(|(name, _)| *name).collect();
            let vector = GaugeVec::new(Opts::new(name, help), &names).map_err(|e| broken(&e))?;
            self.registry.register(Box::new(vector.clone()) as Box<dyn Collector>).map_err(|e| broken(&e))?;
            self.vectors.insert(name, vector);
        }
        if let Some(vector) = self.vectors.get(name) {
            vector.get_metric_with_label_values(&values).map_err(|e| broken(&e))?.set(value);
        }
        Ok(())
    }

    /// What is known of one tag in one copy, without its last success.
    pub(crate) fn tag(&mut self, judgement: &Judgement, series: &Series<'_>) -> Result<()> {
        let own = [("copy", series.copy.as_str()), ("tag", series.tag.as_str())];
        let with = |name, value| [own[0], own[1], (name, value)];
        let drill = series.newest;
        self.set("firedrill_expected_info", "A tag that is restore-tested.", &own, 1.0)?;
        for verdict in Verdict::ALL {
            self.set(
                "firedrill_restore_test_verdict",
                "1 for the verdict of the last restore test, 0 for the others.",
                &with("verdict", verdict.word()),
                one_if(verdict == series.verdict),
            )?;
        }
        self.set(
            "firedrill_restore_test_last_run_timestamp_seconds",
            "When the last restore test ended, whatever came of it.",
            &own,
            ended(judgement),
        )?;
        self.set(
            "firedrill_restore_test_findings",
            "What the last restore test found wrong with the backup.",
            &own,
            series.findings as f64,
        )?;
        self.set(
            "firedrill_restore_test_objective_missed",
            "Whether the last restore test missed an objective.",
            &own,
            one_if(series.objective_missed),
        )?;
        if let Some(interval) = judgement.interval_seconds {
            let help = "How often the restore test is meant to run.";
            self.set("firedrill_test_interval_seconds", help, &own, interval)?;
        }
        for phase in Phase::ALL {
            if let Some(seconds) = drill.rta.phases.get(&phase) {
                self.set(
                    "firedrill_restore_test_phase_duration_seconds",
                    "How long each phase of the last restore test took.",
                    &with("phase", phase.word()),
                    *seconds,
                )?;
            }
        }
        self.recovery(judgement, series)
    }

    fn recovery(&mut self, judgement: &Judgement, series: &Series<'_>) -> Result<()> {
        let own = [("copy", series.copy.as_str()), ("tag", series.tag.as_str())];
        let drill = series.newest;
        let age = drill.snapshot_time.map(|t| judgement.at.duration_since(t).as_secs_f64());
        // The judge gives a recovery point to every drill that restored something, and to no other.
        let restored = |number: u64| drill.rpa.as_ref().map(|_| number as f64);
        for (name, help, value) in [
            (
                "firedrill_recovery_time_actual_seconds",
                "How long the restore took, provisioning left out.",
                drill.rta.total_seconds,
            ),
            (
                "firedrill_recovery_time_objective_seconds",
                "How long the restore may take.",
                drill.rto.objective_seconds,
            ),
            (
                "firedrill_recovery_point_actual_seconds",
                "How much data, as time, would have been lost at the moment of the restore test.",
                drill.rpa.as_ref().map(|r| r.seconds),
            ),
            (
                "firedrill_recovery_point_objective_seconds",
                "How much data, as time, may be lost.",
                drill.rpo.objective_seconds,
            ),
            ("firedrill_restored_bytes", "Bytes of content that were restored.", restored(drill.bytes)),
            ("firedrill_restored_files", "Regular files that were restored.", restored(drill.files)),
            ("firedrill_bytes_read", "Bytes read from the repository.", restored(drill.bytes_read)),
            ("firedrill_snapshot_age_seconds", "Age of the restored snapshot.", age),
        ] {
            if let Some(value) = value {
                self.set(name, help, &own, value)?;
            }
        }
        if let Some(rpa) = &drill.rpa {
            for (basis, word) in [
                (RecoveryBasis::Canary, "canary"),
                (RecoveryBasis::Data, "data"),
                (RecoveryBasis::Snapshot, "snapshot"),
            ] {
                self.set(
                    "firedrill_recovery_point_basis",
                    "1 for what the recovery point was learnt from, 0 for the others.",
                    &[own[0], own[1], ("basis", word)],
                    one_if(rpa.basis == basis),
                )?;
            }
        }
        Ok(())
    }

    /// The last success of one tag in one copy. Returns whether there was one.
    pub(crate) fn success(&mut self, judgement: &Judgement, series: &Series<'_>) -> Result<bool> {
        let proven = series.verdict == Verdict::Verified && judgement.reasons.is_empty();
        if proven {
            self.set(
                LAST_SUCCESS,
                "When a restore test last verified this tag.",
                &[("copy", &series.copy), ("tag", &series.tag)],
                ended(judgement),
            )?;
        }
        Ok(proven)
    }

    /// What is known of the run as a whole.
    pub(crate) fn run(&mut self, judgement: &Judgement) -> Result<()> {
        for verdict in Verdict::ALL {
            self.set(
                "firedrill_run_verdict",
                "1 for the verdict of the last run, 0 for the others.",
                &[("verdict", verdict.word())],
                one_if(verdict == judgement.verdict),
            )?;
        }
        if let Some(seconds) = judgement.seconds {
            self.set("firedrill_run_duration_seconds", "How long the last run took.", &[], seconds)?;
        }
        let help = "When the last run ended, whatever came of it.";
        self.set("firedrill_run_last_run_timestamp_seconds", help, &[], ended(judgement))?;
        let control = match judgement.control.state {
            ControlState::Caught => Some(true),
            ControlState::Missed | ControlState::NotRun => Some(false),
            // A zero would raise an alarm every time about what somebody decided.
            ControlState::NotPlanned | ControlState::SwitchedOff => None,
        };
        if let Some(ok) = control {
            let help = "Whether the last run found all damage that was done on purpose.";
            self.set("firedrill_negative_control_ok", help, &[], one_if(ok))?;
        }
        for copy in &judgement.copies {
            let name = series::label(&copy.name.0);
            let ok = one_if(copy.verdict == Verdict::Verified);
            let help = "Whether the copy as a whole could be read and is not damaged.";
            self.set("firedrill_copy_ok", help, &[("copy", &name)], ok)?;
        }
        let version = series::label(&judgement.version);
        let help = "The version of firedrill that made the last run.";
        self.set("firedrill_build_info", help, &[("version", &version)], 1.0)
    }

    pub(crate) fn families(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

fn one_if(condition: bool) -> f64 {
    if condition { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests;
