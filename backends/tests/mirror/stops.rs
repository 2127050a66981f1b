//! A run is stopped after each single file, or killed.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use firedrill_backends::mirror::MirrorRequest;

use crate::place::{
    at, copy_folder, day_of_work, files, mirror, mirror_until, newest, restic_is_happy, source, well,
    with_key,
};
use crate::support::restic::{Repository, Restic};
use crate::support::tools::Workplace;

/// Stops a run from the state `before` (a folder, or nothing) after each number of writes there is.
fn at_every_moment(place: &Workplace, source: &Repository, before: Option<&str>, request: &MirrorRequest) {
    let fresh = |name: &str| {
        let folder = place.path(name);
        let _ = fs::remove_dir_all(&folder);
        if let Some(before) = before {
            copy_folder(&place.path(before), &folder);
        }
        at(&folder)
    };
    let (whole, writes) = mirror_until(usize::MAX, &source.access, &fresh("whole"), request);
    well(&whole);
    assert!(writes > 5, "{writes} writes are too few to stop between");
    for stop in 0..=writes {
        let copy = fresh("copy");
        let (stopped, _) = mirror_until(stop, &source.access, &copy, request);
        assert_eq!(stopped.error.is_some(), stop < writes, "{stop}: {stopped:?}");
        let seen = Repository { restic: source.restic.clone(), access: copy.clone() };
        if place.path("copy/config").exists() {
            restic_is_happy(&seen, &place.path("restored"));
        } else {
            // Nothing may look like a backup before it can be opened.
            assert!(
                before.is_none()
                    && !place.path("copy/snapshots").read_dir().is_ok_and(|mut d| d.next().is_some())
            );
        }
        well(&mirror(&source.access, &copy, request));
        if request.delete || before.is_none() {
            assert!(
                files(&place.path("copy")) == files(&place.path("source")),
                "stop {stop}: not the same in the end"
            );
        }
    }
}

#[test]
fn a_new_copy_opens_at_every_moment() {
    for restic in ["0.18", "0.19"].into_iter().filter_map(Restic::need) {
        let place = Workplace::new();
        let source = source(&place, &restic);
        at_every_moment(&place, &source, None, &with_key(&source.access));
        // Nothing is copied twice.
        let again = mirror(&source.access, &at(&place.path("whole")), &with_key(&source.access));
        well(&again);
        assert_eq!(again.facts.files_copied, 0);
    }
}

/// The source goes on: a new backup, and retention that rewrites packs and index.
fn go_on(place: &Workplace, source: &Repository) {
    well(&mirror(&source.access, &at(&place.path("before")), &with_key(&source.access)));
    day_of_work(&place.path("files"), 2);
    fs::remove_file(place.path("files/folder/day 0")).expect("remove");
    source.backup(&place.path("files"), &["fleet"], &[]);
    source.run(["forget", "--keep-last", "2", "--prune", "--max-unused", "0"]);
}

#[test]
fn a_copy_opens_at_every_moment_while_it_follows_a_prune() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let source = source(&place, &restic);
    go_on(&place, &source);
    at_every_moment(
        &place,
        &source,
        Some("before"),
        &MirrorRequest { delete: true, ..with_key(&source.access) },
    );
}

#[test]
fn without_a_key_it_is_as_safe() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let source = source(&place, &restic);
    go_on(&place, &source);
    let request = MirrorRequest { delete: true, password: None, ..with_key(&source.access) };
    copy_folder(&place.path("before"), &place.path("copy"));
    let done = mirror(&source.access, &at(&place.path("copy")), &request);
    well(&done);
    assert!(done.facts.files_deleted > 2, "{done:?}");
    assert!(files(&place.path("copy")) == files(&place.path("source")));
    // Nothing goes when nothing is to go.
    let request = MirrorRequest { delete: false, ..request };
    copy_folder(&place.path("before"), &place.path("kept"));
    well(&mirror(&source.access, &at(&place.path("kept")), &request));
    let kept = Repository { restic: source.restic.clone(), access: at(&place.path("kept")) };
    assert_eq!(kept.snapshots().len(), 3);
    restic_is_happy(&kept, &place.path("restored"));
}

/// What a child of this test program does; see below.
#[test]
fn child_that_mirrors_slowly() {
    let Some(from) = std::env::var_os("MIRROR_TEST_FROM") else { return };
    let to = std::env::var_os("MIRROR_TEST_TO").expect("both are given");
    let request = MirrorRequest { bandwidth: Some(20_000), workers: 1, ..MirrorRequest::default() };
    let _ = mirror(&at(from.as_ref()), &at(to.as_ref()), &request);
}

#[test]
fn a_killed_run_is_resumed() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let source = source(&place, &restic);
    let copy = at(&place.path("copy"));
    for _ in 0..4 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "stops::child_that_mirrors_slowly"])
            .env("MIRROR_TEST_FROM", place.path("source"))
            .env("MIRROR_TEST_TO", place.path("copy"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        std::thread::sleep(Duration::from_millis(700));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        if place.path("copy/config").exists() {
            restic_is_happy(
                &Repository { restic: restic.clone(), access: copy.clone() },
                &place.path("restored"),
            );
        }
    }
    let had = files(&place.path("copy")).len() as u64;
    let all = files(&place.path("source")).len() as u64;
    assert!(had > 0, "it was killed before it did anything");
    let done = mirror(&source.access, &copy, &with_key(&source.access));
    well(&done);
    assert!(done.facts.files_copied <= all, "{done:?}: {had} of {all} were there");
    restic_is_happy(&Repository { restic, access: copy }, &place.path("restored"));
}
