//! The process runtime as somebody who is not root, and where there are no namespaces to be had.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use firedrill_backends::runtime::process::ProcessRuntime;
use firedrill_core::cell::{CellRequest, Runtime as _};
use firedrill_core::error::ErrorKind;
use firedrill_core::watch::Watch;

use super::{PROCESS_ONLY, config, shell};

/// Somebody who owns nothing.
const NOBODY: &str = "65534";

/// Whether this machine is one where the test makes sense; says so where not.
fn possible(what: &str, command: &mut Command) -> bool {
    let output = command.output();
    if rustix::process::geteuid().is_root() && output.as_ref().is_ok_and(|o| o.status.success()) {
        return true;
    }
    let told = format!("SKIPPED: {what} needs root and namespaces for others: {output:?}");
    assert!(std::env::var("FIREDRILL_TEST_NO_SKIP").as_deref() != Ok("1"), "{told}");
    let _ = writeln!(std::io::stderr(), "{told}");
    false
}

/// A copy of these tests that everybody may run, in a folder that everybody may write to.
fn copy(place: &Path) -> std::path::PathBuf {
    let copy = place.join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o1777)).unwrap();
    copy
}

fn setpriv() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]);
    command
}

#[test]
fn everything_holds_for_somebody_who_is_not_root() {
    if std::env::var_os(PROCESS_ONLY).is_some()
        || !possible("running as another user", setpriv().args(["unshare", "--user", "--map-root-user", "--net", "true"]))
    {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let tests = copy(place.path());
    let output = setpriv()
        .arg(tests)
        .args(["suite::", "--test-threads", "2"])
        .env(PROCESS_ONLY, "1")
        .env("TMPDIR", place.path())
        .env("HOME", place.path())
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("test suite::the_seal_is_proven_and_holds ... ok"), "{said}");
}

#[test]
fn without_namespaces_nothing_is_started_and_the_advice_says_what_to_do() {
    let mut unshare = Command::new("unshare");
    if std::env::var_os(PROCESS_ONLY).is_some()
        || !possible("taking namespaces away", unshare.args(["--mount", "true"]))
    {
        return;
    }
    for (fake, mode, cause) in [
        ("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n", 0o755, "Operation not permitted"),
        ("", 0o644, "util-linux"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let tests = copy(place.path());
        let path = place.path().join("unshare");
        std::fs::write(&path, fake).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let hide = "mount --make-rprivate / && mount --bind \"$0\" \"$(readlink -f \"$(command -v unshare)\")\" && exec \"$@\"";
        let as_nobody = setpriv();
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", hide])
            .arg(&path)
            .arg(as_nobody.get_program())
            .args(as_nobody.get_args())
            .arg(&tests)
            .args(["--ignored", "--exact", "others::open_without_namespaces"])
            .env("CELL_CAUSE", cause)
            .env("TMPDIR", place.path())
            .current_dir("/")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
#[ignore = "it is started by `without_namespaces_nothing_is_started_and_the_advice_says_what_to_do`"]
fn open_without_namespaces() {
    let Ok(cause) = std::env::var("CELL_CAUSE") else { return };
    let place = tempfile::tempdir().unwrap();
    let work = place.path().join("work");
    let request = CellRequest {
        lease: "refused",
        work: &work,
        kits: &[shell()],
        aliases: &[],
        lifetime: Duration::from_secs(60),
        watch: Watch::unlimited(),
    };
    let error = ProcessRuntime::new(&config()).open(&request).err().expect("there are no namespaces");
    assert_eq!(error.kind, ErrorKind::Unsealed, "{}", error.chain());
    assert!(error.chain().contains(&cause), "{}", error.chain());
    let advice = error.advice.unwrap();
    assert!(advice.contains("container runtime") || advice.contains("install"), "{advice}");
    assert!(!work.exists(), "its folder is left");
}
