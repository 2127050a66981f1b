//! The folder that keeps evidence and baselines.

use std::path::{Path, PathBuf};

use firedrill_core::config::Config;
use firedrill_core::error::{Error, ErrorKind, Result};
use jiff::Timestamp;

/// So many runs of one seed may start in one second.
const SAME_MAX: u32 = 1000;

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

/// Makes the folder of a new run. Its name, which is the run's id, says when the run started, and enough of
/// the seed to tell two runs of one second apart; a number does where even that is the same.
pub(crate) fn new_run(state: &Path, started: Timestamp, seed: u64) -> Result<(String, PathBuf)> {
    let runs = state.join("runs");
    let failed = |error: &std::io::Error| {
        Error::new(ErrorKind::Usage, format!("make a folder for the run in {}", runs.display()))
            .from_source(error)
            .advise("choose a writable folder with --state")
    };
    std::fs::create_dir_all(&runs).map_err(|e| failed(&e))?;
    let id = format!("{}-{:04x}", started.strftime("%Y%m%dT%H%M%SZ"), seed & 0xffff);
    for number in 1..=SAME_MAX {
        let id = if number == 1 { id.clone() } else { format!("{id}-{number}") };
        let folder = runs.join(&id);
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok((id, folder)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < SAME_MAX => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Err(failed(&std::io::ErrorKind::AlreadyExists.into()))
}
