//! A restore test leaves the repository as it was. Every other test here checks that, too: content, names,
//! modes and times to the nanosecond, before and after each run.

use std::fs;

use firedrill_scenarios::damage;

use crate::fixture::{Fixture, PASSWORD};
use crate::place::{Place, listing};
use crate::restic::skip;

/// What makes the repository read-only in a mount namespace of its own, proves it, and becomes firedrill.
const READ_ONLY: &str = "mount --bind repository repository && \
     mount -o remount,bind,ro repository && \
     { ! touch repository/x 2>/dev/null || exit 99; } && \
     exec \"$@\"";

#[test]
fn a_repository_that_cannot_be_written() {
    let fixture = Fixture::shared().unwrap();
    let works = std::process::Command::new("unshare").args(["--mount", "mount", "--version"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        skip("no mount namespace can be made: no repository on a read-only file system is tested");
        return;
    }
    for (operator, code) in [(None, 0), (Some("data-bit"), 1), (Some("keys-deleted"), 1)] {
        let place = Place::with(&fixture.rustic()).unwrap();
        if let Some(name) = operator {
            let operator = damage::named(name).unwrap();
            let _guard = operator.apply_to(&place.repository(), PASSWORD, 1, "alpha").unwrap();
        }
        let run = place.drill().unwrap().in_shell(READ_ONLY, &["unshare", "--mount"]);
        let answer = run.ends().unwrap().expect(code).unwrap();
        assert!(operator.is_some() || answer.all_verified().is_ok());
    }
}

/// With everything that a run can be told, and by every command.
#[test]
fn nothing_is_written_whatever_is_asked() {
    let fixture = Fixture::shared().unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    let before = listing(&place.repository()).unwrap();
    assert!(before.len() > 30, "there is something to compare");
    for arguments in [&["--all-snapshots", "--jobs", "8"][..], &["--dry-run"], &["--tag", "alpha"]] {
        place.drill().unwrap().args(arguments).ends().unwrap().expect(0).unwrap();
    }
    // A lock of somebody else is neither honoured nor removed.
    let lock = place.repository().join("locks").join("ab".repeat(32));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    fs::write(&lock, "held").unwrap();
    place.drill().unwrap().ends().unwrap().expect(0).unwrap();
    assert_eq!(fs::read_to_string(&lock).unwrap(), "held");
}

/// A test that cannot fail is a bug: the comparison sees a touch that changes nothing but a time.
#[test]
fn a_touch_would_be_noticed() {
    let fixture = Fixture::shared().unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    let run = place.drill().unwrap().in_shell("touch repository/config; exec \"$@\"", &["env"]);
    let error = run.ends().err().expect("the touch is noticed");
    assert!(format!("{error:#}").contains("repository/config"), "{error:#}");
}
