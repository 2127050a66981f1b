//! Snapshots with other keys, beside `restic copy`.

use std::fs;

use firedrill_backends::mirror::{MirrorRequest, Mirrored, lag, reencrypted};
use firedrill_backends::repository::restic::write::{LockOptions, Writer, WriterOptions};
use firedrill_core::config::jobs::MirrorMode;
use firedrill_core::progress::Progress;

use crate::place::{
    at, day_of_work, flip, newest, of_kind, refusal, restic_is_happy, side, source, watch, well,
};
use crate::support::compare::{Allow, assert_same_tree};
use crate::support::restic::{Access, Repository};
use crate::support::tools::{Workplace, run};

fn other(place: &Workplace) -> Access {
    Access { password: "quite another".to_owned(), ..at(&place.path("other")) }
}

fn writer(access: &Access, make: bool) -> Writer {
    let side = side(access);
    let password = side.password.expect("a password");
    let wait = std::time::Duration::from_secs(1);
    let options =
        WriterOptions { lock: LockOptions { wait, ..LockOptions::default() }, ..WriterOptions::default() };
    let open = if make { Writer::init } else { Writer::open };
    open(&side.location, &side.access, &password, options, &watch())
        .unwrap_or_else(|e| panic!("{}", e.chain()))
}

fn copy(from: &Access, to: &Access, make: bool) -> Mirrored {
    let source = side(from);
    let password = source.password.clone().expect("a password");
    let backend = source.open().expect("the source opens");
    reencrypted(
        &backend,
        &password,
        &writer(to, make),
        &MirrorRequest::default(),
        &Progress::default(),
        &watch(),
    )
}

#[test]
fn restic_and_firedrill_agree_about_what_is_there() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let from = source(&place, &restic);
    let to = Repository { restic, access: other(&place) };
    let done = copy(&from.access, &to.access, true);
    well(&done);
    assert_eq!(to.snapshots().len(), 2);
    restic_is_happy(&to, &place.path("restored"));
    let from_whole = place.folder("from");
    let to_whole = place.folder("to");
    from.restore("latest", &from_whole);
    to.restore("latest", &to_whole);
    assert_same_tree(&from_whole, &to_whole, Allow::Nothing);

    // Neither copies what the other copied.
    fs::write(place.path("password"), &from.access.password).expect("write");
    let restic_copy = || {
        let mut command = to.command(["copy", "--from-repo", &from.access.url, "--from-password-file"]);
        run(command.arg(place.path("password")));
    };
    restic_copy();
    assert_eq!(to.snapshots().len(), 2, "restic knows what firedrill copied");
    day_of_work(&place.path("files"), 5);
    from.backup(&place.path("files"), &["fleet"], &[]);
    let behind =
        |now| lag(&side(&from.access), &side(&to.access), MirrorMode::Reencrypted, now, &watch()).unwrap();
    let facts = behind("2100-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(facts.files_missing, 1);
    assert!(facts.lag_seconds.is_some_and(|lag| lag > 1e9), "{facts:?}");
    restic_copy();
    let again = copy(&from.access, &to.access, false);
    well(&again);
    assert_eq!(again.facts.files_copied, 0, "firedrill knows what restic copied");
    assert_eq!(to.snapshots().len(), 3);
    assert_eq!(behind("2100-01-01T00:00:00Z".parse().unwrap()).lag_seconds, Some(0.0));
}

#[test]
fn a_snapshot_that_needs_something_damaged_is_left_out() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let from = source(&place, &restic);
    let before = of_kind(&place.path("source"), "data");
    day_of_work(&place.path("files"), 9);
    from.backup(&place.path("files"), &["fleet"], &[]);
    let new = of_kind(&place.path("source"), "data").into_iter().filter(|path| !before.contains(path));
    let largest = new.max_by_key(|path| fs::metadata(path).expect("it is there").len()).expect("a new pack");
    let sound = fs::read(&largest).expect("read");
    flip(&largest);
    let to = Repository { restic, access: other(&place) };
    let done = copy(&from.access, &to.access, true);
    let told = refusal(&done);
    assert!(told.contains("blob") || told.contains("MAC"), "{told}");
    assert_eq!((done.facts.files_missing, to.snapshots().len()), (1, 2));
    restic_is_happy(&to, &place.path("restored"));
    crate::place::replace(&largest, &sound);
    well(&copy(&from.access, &to.access, false));
    assert_eq!(to.snapshots().len(), 3);
    restic_is_happy(&to, &place.path("restored"));
}
