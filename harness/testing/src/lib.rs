//! What tests of all crates share: how a test says that it cannot run here.
//!
//! A skip that looks green is the very bug that this project exists to find. So there is one way to skip: it says so
//! on standard error and in the list that `ci/test` prints at the end, and it fails where nothing may be skipped.

use std::io::Write as _;
use std::path::Path;

/// Where it is set, nothing may be skipped.
const FORBIDDEN: &str = "FIREDRILL_TEST_NO_SKIP";
/// Names the file that lists what was skipped.
const LOG: &str = "FIREDRILL_SKIP_LOG";

/// Says that a test, or a part of one, cannot run here.
///
/// # Panics
///
/// Where nothing may be skipped.
#[track_caller]
pub fn skip(reason: &str) {
    let line = format!("SKIPPED: {reason}");
    // Both are a service to the reader; the test itself needs neither.
    let _ = writeln!(std::io::stderr(), "{line}");
    if let Some(log) = std::env::var_os(LOG)
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(log)
    {
        let _ = writeln!(file, "{line}");
    }
    assert!(std::env::var_os(FORBIDDEN).is_none(), "nothing may be skipped here, but {reason}");
}

/// Whether all of these programs are here, by name on `PATH` or by their whole path; skips where one is not.
///
/// # Panics
///
/// Where one is missing and nothing may be skipped.
#[track_caller]
pub fn have<P: AsRef<Path>>(programs: &[P]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    // A whole path that is joined to a folder replaces it.
    let here =
        |program: &Path| program.is_file() || folders.iter().any(|folder| folder.join(program).is_file());
    let missing: Vec<_> = programs
        .iter()
        .map(AsRef::as_ref)
        .filter(|program| !here(program))
        .map(|program| program.display().to_string())
        .collect();
    if !missing.is_empty() {
        skip(&format!("not installed: {}", missing.join(", ")));
    }
    missing.is_empty()
}

#[cfg(test)]
mod tests {
    use super::{FORBIDDEN, LOG, have};

    /// In a process of its own, with what the variables say: whether it ended well, and what it said.
    fn told(variables: &[(&str, &std::ffi::OsStr)]) -> (bool, String) {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tests::somebody_misses_a_program", "--ignored", "--nocapture"]);
        command.env_remove(FORBIDDEN).env_remove(LOG).envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    #[test]
    #[ignore = "the other test starts it"]
    fn somebody_misses_a_program() {
        assert!(have(&["/bin/sh", "sh"]));
        assert!(!have(&["sh", "no-such-program"]));
    }

    #[test]
    fn a_skip_is_told_and_fails_where_it_must() {
        let line = "SKIPPED: not installed: no-such-program";
        let (well, said) = told(&[]);
        assert!(well && said.contains(line), "{said}");
        let (well, said) = told(&[(FORBIDDEN, "1".as_ref())]);
        assert!(!well && said.contains("nothing may be skipped here, but not installed"), "{said}");
        let log = std::env::temp_dir().join(format!("firedrill-skips-{}", std::process::id()));
        assert!(told(&[(LOG, log.as_os_str())]).0);
        let listed = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(&log).unwrap();
        assert_eq!(listed.trim(), line);
    }
}
