//! The folder that keeps evidence and baselines.

use std::path::{Path, PathBuf};

use firedrill_core::config::Config;
use jiff::Timestamp;

/// The state folder: the argument, the config, `$XDG_STATE_HOME/firedrill`, `~/.local/state/firedrill`, or a
/// folder beside scratch where a user has no home.
pub(crate) fn folder(argument: Option<&Path>, config: Option<&Config>) -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    argument
        .map(Path::to_owned)
        .or_else(|| config.and_then(|c| c.state.clone()))
        .or_else(|| named("XDG_STATE_HOME").map(|d| d.join("firedrill")))
        .or_else(|| named("HOME").map(|d| d.join(".local/state/firedrill")))
        .unwrap_or_else(|| std::env::temp_dir().join("firedrill-state"))
}

/// The folder of one run.
pub(crate) fn of_run(state: &Path, run: &str) -> PathBuf {
    state.join("runs").join(run)
}

/// A run's id: when it started, and enough of the seed to tell two runs of one second apart.
pub(crate) fn run_id(started: Timestamp, seed: u64) -> String {
    format!("{}-{:04x}", started.strftime("%Y%m%dT%H%M%SZ"), seed & 0xffff)
}
