//! The process runtime as somebody who is not root, and where there are no namespaces to be had.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use firedrill_backends::runtime::from_config;
use firedrill_backends::runtime::process::ProcessRuntime;
use firedrill_core::cell::{CellRequest, Kit, Runtime as _};
use firedrill_core::error::ErrorKind;
use firedrill_core::watch::Watch;

use super::{PROCESS_ONLY, child, config, containers, shell};

/// Somebody who owns nothing.
const NOBODY: &str = "65534";

/// Puts the file `$0` in the place of `unshare`, and runs the rest.
const HIDE: &str = "mount --make-rprivate / && mount --bind \"$0\" \"$(readlink -f \"$(command -v unshare)\")\" && exec \"$@\"";

fn request(work: &Path) -> CellRequest<'_> {
    static KITS: LazyLock<Vec<Kit>> = LazyLock::new(|| vec![shell()]);
    CellRequest {
        lease: "others",
        work,
        kits: &KITS,
        aliases: &[],
        lifetime: Duration::from_secs(60),
        watch: Watch::unlimited(),
    }
}

/// Whether this machine is one where the test makes sense; says so where not.
fn possible(what: &str, command: &mut Command) -> bool {
    let output = command.output();
    if rustix::process::geteuid().is_root() && output.as_ref().is_ok_and(|o| o.status.success()) {
        return true;
    }
    firedrill_testing::skip(&format!("{what} needs root and namespaces for others: {output:?}"));
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
        || !possible(
            "running as another user",
            setpriv().args(["unshare", "--user", "--map-root-user", "--net", "true"]),
        )
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
        (
            "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n",
            0o755,
            "Operation not permitted",
        ),
        ("", 0o644, "util-linux"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let tests = copy(place.path());
        let path = place.path().join("unshare");
        std::fs::write(&path, fake).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let as_nobody = setpriv();
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", HIDE])
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
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn where_there_are_no_namespaces_containers_take_over() {
    let mut unshare = Command::new("unshare");
    if containers().is_none() || !possible("taking namespaces away", unshare.args(["--mount", "true"])) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("unshare");
    std::fs::write(&path, "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
        .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let own = child("others::open_automatically", &[]);
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-c", HIDE]).arg(&path).arg(own.get_program()).args(own.get_args());
    let output = hidden.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "it is started by `where_there_are_no_namespaces_containers_take_over`"]
fn open_automatically() {
    let place = tempfile::tempdir().unwrap();
    let work = place.path().join("work");
    let runtime = from_config(&config()).unwrap();
    let cell = runtime.open(&request(&work)).unwrap();
    assert_eq!(cell.facts().runtime, "container");
}

#[test]
#[ignore = "it is started by `without_namespaces_nothing_is_started_and_the_advice_says_what_to_do`"]
fn open_without_namespaces() {
    let Ok(cause) = std::env::var("CELL_CAUSE") else { return };
    let place = tempfile::tempdir().unwrap();
    let work = place.path().join("work");
    let error = ProcessRuntime::new(&config()).open(&request(&work)).err().expect("there are no namespaces");
    assert_eq!(error.kind, ErrorKind::Unsealed, "{}", error.chain());
    assert!(error.chain().contains(&cause), "{}", error.chain());
    let advice = error.advice.unwrap();
    assert!(advice.contains("container runtime") || advice.contains("install"), "{advice}");
    assert!(!work.exists(), "its folder is left");
}
