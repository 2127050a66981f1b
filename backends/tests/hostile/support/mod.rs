//! What the stories are told with.

pub(crate) mod craft;
pub(crate) mod drill;
pub(crate) mod place;

use std::io::Write as _;

/// Says that a part of a test cannot run here. Fails where nothing may be skipped.
pub(crate) fn skip(reason: &str) {
    let line = format!("SKIPPED: {reason}");
    eprintln!("{line}");
    if let Some(log) = std::env::var_os("FIREDRILL_SKIP_LOG")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(log)
    {
        // The log is a service to the reader; without it the line above remains.
        let _ = writeln!(file, "{line}");
    }
    assert_ne!(
        std::env::var("FIREDRILL_TEST_NO_SKIP").as_deref(),
        Ok("1"),
        "nothing may be skipped here, but {reason}"
    );
}

/// Whether this process may change owners and do what scratch withholds.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
