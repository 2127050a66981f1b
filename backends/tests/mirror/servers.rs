//! From and to a rest-server; bandwidth; how far behind.

use std::time::{Duration, Instant};

use firedrill_backends::mirror::{MirrorRequest, lag, mirror_identical};
use firedrill_core::config::jobs::MirrorMode;
use firedrill_core::progress::Progress;

use crate::place::{
    at, day_of_work, files, flip, mirror, newest, noise, of_kind, replace, restic_is_happy, side, source,
    watch, well, with_key,
};
use crate::support::rest_server::{RestServer, Setup};
use crate::support::restic::{Access, Repository};
use crate::support::tools::Workplace;

#[test]
fn to_a_server_and_back() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let Some(server) = RestServer::start(&place, Setup::default()) else { return };
    let source = source(&place, &restic);
    let remote = Access::to(server.url("fleet"));
    let back = at(&place.path("back"));
    for (from, to) in [(&source.access, &remote), (&remote, &back)] {
        let (from, to) = (side(from), side(to));
        let request = MirrorRequest { delete: true, ..MirrorRequest::between(&from, &to) };
        well(&mirror_identical(&from, &to, &request, &Progress::default(), &watch()));
    }
    assert!(files(&place.path("back")) == files(&place.path("source")));
    restic_is_happy(&Repository { restic: restic.clone(), access: remote.clone() }, &place.path("restored"));
    // A file of the wrong size is replaced although a server writes over none.
    let victim = &of_kind(&server.folder.join("fleet"), "data")[0];
    replace(victim, b"cut");
    well(&mirror(&source.access, &remote, &with_key(&source.access)));
    restic_is_happy(&Repository { restic, access: remote }, &place.path("restored"));
}

#[test]
fn bandwidth_is_limited_over_all_transfers() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let folder = place.folder("files");
    let source = Repository::init(&restic, at(&place.path("source")), "2");
    for seed in 0..6 {
        std::fs::write(folder.join(format!("file {seed}")), noise(seed, 100_000)).expect("write");
        source.backup(&folder, &[], &[]);
    }
    let copy = at(&place.path("copy"));
    let request = MirrorRequest { bandwidth: Some(200_000), ..with_key(&source.access) };
    let start = Instant::now();
    let done = mirror(&source.access, &copy, &request);
    let took = start.elapsed();
    well(&done);
    assert!(done.facts.bytes_copied > 600_000, "{done:?}");
    // All but the last transfers take their time.
    assert!(took > Duration::from_millis(2200), "{took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_copy_says_how_far_behind_it_is() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let source = source(&place, &restic);
    let copy = at(&place.path("copy"));
    well(&mirror(&source.access, &copy, &with_key(&source.access)));
    let now = "2100-01-01T00:00:00Z".parse().unwrap();
    let behind = |key: bool| {
        let (mut from, to) = (side(&source.access), side(&copy));
        from.password = from.password.filter(|_| key);
        lag(&from, &to, MirrorMode::Identical, now, &watch()).unwrap()
    };
    for key in [false, true] {
        assert_eq!((behind(key).files_missing, behind(key).lag_seconds), (0, Some(0.0)));
    }
    day_of_work(&place.path("files"), 4);
    source.backup(&place.path("files"), &["fleet"], &["--time", "2026-01-01 00:00:00"]);
    let year = 365.25 * 86400.0;
    let by_snapshot = behind(true);
    assert!(by_snapshot.files_missing >= 4, "{by_snapshot:?}");
    assert!(by_snapshot.lag_seconds.is_some_and(|lag| (lag - 74.0 * year).abs() < year), "{by_snapshot:?}");
    // Without a key it is the time of the file, which is that of this machine.
    assert!(behind(false).lag_seconds.is_some_and(|lag| lag > year));
    flip(&of_kind(&place.path("copy"), "data")[0]);
    assert_eq!(behind(false).files_missing, by_snapshot.files_missing, "content is not compared");
}
