use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use firedrill_core::clock::{SimulatedClock, SystemClock};
use firedrill_core::plan::DrillName;
use firedrill_core::ports::{Lease, LeaseRequest, Scratch as _, Swept};
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::{DRILL_MAX, DirectoryScratch, LABEL, NAMES_MAX, PREFIX, boot_id, lease_id};

const LIFETIME: Duration = Duration::from_secs(3600);

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn scratch(base: &Path) -> DirectoryScratch {
    DirectoryScratch::new(base.to_owned(), Arc::new(SystemClock))
}

fn provision(base: &Path, drill: &str) -> firedrill_core::error::Result<Lease> {
    let drill = DrillName(drill.to_owned());
    scratch(base).provision(&LeaseRequest { run: "run", drill: &drill, lifetime: LIFETIME, bytes: None })
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// A lease whose owner is dead, with this label and some content.
fn leftover(base: &Path, name: &str, label: &str) -> PathBuf {
    let folder = base.join(format!("firedrill-{name}"));
    fs::create_dir_all(folder.join("data/sub")).unwrap();
    fs::write(folder.join("data/sub/file"), "content").unwrap();
    fs::write(folder.join(LABEL), label).unwrap();
    folder
}

fn label(boot: &str, expires: &str, kept: bool) -> String {
    format!(
        r#"{{"firedrill_lease":1,"run":"r","drill":"d","created":"2026-01-01T00:00:00Z","expires":"{expires}","boot":"{boot}","kept":{kept}}}"#
    )
}

const LONG_AGO: &str = "2026-01-01T01:00:00Z";
const FAR_AWAY: &str = "2999-01-01T00:00:00Z";

#[test]
fn a_lease_is_private_and_leaves_nothing_behind() {
    let place = place();
    let base = place.path().join("not/there/yet");
    let lease = provision(&base, "a").unwrap();
    let folder = base.join(format!("firedrill-{}", lease.id()));
    assert_eq!((mode(&base), mode(&folder), mode(&folder.join(LABEL))), (0o700, 0o700, 0o600));
    assert_eq!((mode(lease.data()), mode(lease.work())), (0o700, 0o700));
    fs::write(lease.data().join("file"), "content").unwrap();
    assert_eq!(lease.release(false).unwrap(), None);
    assert!(names(&base).is_empty());
    // A lease that is dropped is released, too.
    drop(provision(&base, "b").unwrap());
    assert!(names(&base).is_empty());
}

#[test]
fn leases_of_different_drills_do_not_meet() {
    let place = place();
    let (a, b) = (provision(place.path(), "a").unwrap(), provision(place.path(), "b").unwrap());
    assert_ne!(a.data(), b.data());
}

#[test]
fn two_runs_of_the_same_second_and_seed_share_scratch() {
    let place = place();
    let leases: Vec<Lease> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| provision(place.path(), "a").unwrap())).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let folders: BTreeSet<_> = leases.iter().map(|lease| lease.data().to_owned()).collect();
    assert_eq!(folders.len(), 6);
    for (n, lease) in leases.into_iter().enumerate() {
        fs::write(lease.data().join("file"), "content").unwrap();
        lease.release(false).unwrap();
        assert_eq!(names(place.path()).len(), 5 - n, "one lease took another away");
    }
}

#[test]
fn the_search_for_a_free_name_ends() {
    let place = place();
    let drill = DrillName("a".to_owned());
    let request = LeaseRequest { run: "run", drill: &drill, lifetime: LIFETIME, bytes: None };
    for attempt in 0..NAMES_MAX {
        fs::write(place.path().join(format!("{PREFIX}{}", lease_id(&request, attempt))), "taken").unwrap();
    }
    let error = provision(place.path(), "a").map(drop).unwrap_err();
    assert!(error.chain().contains("exists"), "{}", error.chain());
    assert_eq!(names(place.path()).len(), NAMES_MAX as usize, "somebody's file was taken away");
}

#[test]
fn a_kept_lease_stays_until_it_is_asked_for() {
    let place = place();
    let lease = provision(place.path(), "a").unwrap();
    fs::write(lease.data().join("file"), "content").unwrap();
    let kept = PathBuf::from(lease.release(true).unwrap().unwrap());
    assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "content");
    assert_eq!(mode(kept.parent().unwrap()), 0o700);
    let swept = scratch(place.path()).sweep().unwrap();
    assert!(swept.removed.is_empty() && swept.in_use[0].contains("kept on purpose"), "{swept:?}");
    let swept = scratch(place.path()).sweeping_kept().sweep().unwrap();
    assert_eq!((swept.removed.len(), swept.in_use.len()), (1, 0));
    assert!(names(place.path()).is_empty());
}

#[test]
fn a_lease_in_use_is_left_alone() {
    let place = place();
    let lease = provision(place.path(), "a").unwrap();
    for swept in [scratch(place.path()).sweep(), scratch(place.path()).sweeping_kept().sweep()] {
        let swept = swept.unwrap();
        assert!(swept.removed.is_empty() && swept.in_use[0].contains("alive"), "{swept:?}");
    }
    assert!(lease.data().is_dir());
}

#[test]
fn what_the_dead_leave_behind_is_removed() {
    let place = place();
    let base = place.path();
    leftover(base, "dead", &label(&boot_id(), FAR_AWAY, false));
    leftover(base, "expired", &label("another machine", LONG_AGO, false));
    // Killed while it wrote its label, or before.
    leftover(base, "empty", "");
    leftover(base, "cut", &label(&boot_id(), FAR_AWAY, false)[..40]);
    fs::create_dir(base.join("firedrill-bare")).unwrap();
    // Killed while it was removed.
    let half = leftover(base, "half", &label(&boot_id(), FAR_AWAY, false));
    fs::create_dir_all(half.join(".removing-1/x")).unwrap();
    fs::create_dir_all(half.join(".removing-2")).unwrap();
    let swept = scratch(base).sweep().unwrap();
    assert_eq!(swept.removed.len(), 6, "{swept:?}");
    assert!(names(base).is_empty());
    assert_eq!(scratch(base).sweep().unwrap(), Swept::default());
}

#[test]
fn what_may_be_somebody_elses_stays() {
    let place = place();
    let base = place.path();
    leftover(base, "elsewhere", &label("another machine", FAR_AWAY, false));
    leftover(base, "kept", &label(&boot_id(), LONG_AGO, true));
    leftover(base, "garbage", "not a label");
    leftover(base, "other", r#"{"some":"file"}"#);
    fs::create_dir_all(base.join("firedrill-unlabelled/data")).unwrap();
    leftover(base, "linked", "");
    fs::remove_file(base.join("firedrill-linked").join(LABEL)).unwrap();
    symlink("/dev/null", base.join("firedrill-linked").join(LABEL)).unwrap();
    let piped = leftover(base, "piped", "");
    fs::remove_file(piped.join(LABEL)).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, piped.join(LABEL), Mode::RWXU).unwrap();
    // These are none of ours.
    fs::create_dir(base.join("firedrill")).unwrap();
    fs::create_dir(base.join("other-firedrill-x")).unwrap();
    fs::write(base.join("firedrill-file"), "content").unwrap();
    symlink(base.join("firedrill-garbage"), base.join("firedrill-link")).unwrap();
    let before = names(base);
    let swept = scratch(base).sweep().unwrap();
    assert_eq!(names(base), before);
    assert_eq!((swept.removed.len(), swept.in_use.len(), swept.failed.len()), (0, 2, 5), "{swept:?}");
    assert!(base.join("firedrill-garbage/data/sub/file").is_file());
}

/// Between the making of a folder and its label lies a moment in which it looks like a leftover.
#[test]
fn a_lease_in_the_making_is_left_alone() {
    let place = place();
    let base = place.path();
    fs::create_dir(base.join("firedrill-new")).unwrap();
    leftover(base, "newer", "");
    let making = rustix::fs::open(base, OFlags::RDONLY, Mode::empty()).unwrap();
    rustix::fs::flock(&making, FlockOperation::LockShared).unwrap();
    let swept = scratch(base).sweep().unwrap();
    assert!(swept.removed.is_empty() && swept.in_use.len() == 2, "{swept:?}");
    assert!(swept.in_use[0].contains("being made"));
    // The maker is dead.
    drop(making);
    assert_eq!(scratch(base).sweep().unwrap().removed.len(), 2);
}

#[test]
fn runs_and_sweeps_do_not_disturb_each_other() {
    let (place, nursery) = (place(), place());
    let (base, nursery) = (place.path(), nursery.path());
    std::thread::scope(|scope| {
        for thread in 0..3 {
            scope.spawn(move || {
                for round in 0..60 {
                    let lease = provision(base, &format!("{thread} {round}")).unwrap();
                    fs::create_dir_all(lease.data().join("a/b")).unwrap();
                    fs::write(lease.data().join("a/b/file"), "content").unwrap();
                    std::thread::yield_now();
                    assert!(lease.data().join("a/b/file").is_file(), "a living lease was swept");
                    lease.release(false).unwrap();
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(move || {
                for round in 0..60 {
                    // Sweeps meet in these.
                    let swept = scratch(base).sweep().unwrap();
                    assert!(swept.failed.is_empty(), "{swept:?}");
                    let name = format!("{:?}-{round}", std::thread::current().id());
                    let dead = leftover(nursery, &name, &label(&boot_id(), FAR_AWAY, false));
                    fs::rename(&dead, base.join(dead.file_name().unwrap())).unwrap();
                }
            });
        }
    });
    let swept = scratch(base).sweep().unwrap();
    assert!(swept.failed.is_empty() && swept.in_use.is_empty(), "{swept:?}");
    assert!(names(base).is_empty());
}

#[test]
fn a_very_long_name_of_a_drill_fits_into_the_label() {
    let place = place();
    let lease = provision(place.path(), &"ä".repeat(1 << 20)).unwrap();
    let label = lease.data().parent().unwrap().join(LABEL);
    assert!(fs::metadata(label).unwrap().len() < DRILL_MAX as u64 + 1000);
    let kept = lease.release(true).unwrap().unwrap();
    assert_eq!(scratch(place.path()).sweep().unwrap().in_use.len(), 1);
    assert!(Path::new(&kept).is_dir());
}

#[test]
fn depth_does_not_matter() {
    let place = place();
    let lease = provision(place.path(), "deep").unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut folder = rustix::fs::open(lease.data(), flags, Mode::empty()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&folder, "a name of some length", Mode::RWXU).unwrap();
        folder = rustix::fs::openat(&folder, "a name of some length", flags, Mode::empty()).unwrap();
    }
    lease.release(false).unwrap();
    assert!(names(place.path()).is_empty());
}

#[test]
fn links_are_removed_and_not_followed() {
    let place = place();
    let victim = place.path().join("victim");
    fs::create_dir_all(victim.join("sub")).unwrap();
    fs::write(victim.join("sub/file"), "content").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o755)).unwrap();
    let base = place.path().join("base");
    let lease = provision(&base, "links").unwrap();
    for (name, target) in [("folder", &victim), ("file", &victim.join("sub/file"))] {
        symlink(target, lease.data().join(name)).unwrap();
        symlink(target, lease.work().join(name)).unwrap();
    }
    fs::hard_link(victim.join("sub/file"), lease.data().join("hard")).unwrap();
    // The folder of restored content itself may have been replaced.
    let data = lease.data().to_owned();
    fs::rename(&data, lease.work().join("moved")).unwrap();
    symlink(&victim, &data).unwrap();
    lease.release(false).unwrap();
    assert!(names(&base).is_empty());
    assert_eq!(fs::read_to_string(victim.join("sub/file")).unwrap(), "content");
    assert_eq!(mode(&victim), 0o755);
}

/// Set in the process that runs a test as somebody else.
const UNPRIVILEGED: &str = "FIREDRILL_TEST_UNPRIVILEGED";

/// Runs the test `name` again as a user without privileges, if this one has them. Returns whether the caller
/// is that user.
fn as_a_plain_user(name: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    // The program may lie where that user cannot go; it can be started by an open file all the same.
    let program = fs::File::open(std::env::current_exe().unwrap()).unwrap();
    rustix::io::fcntl_setfd(&program, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&program);
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(format!("/proc/self/fd/{number}"))
        .args(["--exact", name, "--nocapture"])
        .env(UNPRIVILEGED, "1")
        .current_dir("/")
        .output();
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        }
        Err(error) => {
            firedrill_testing::skip(&format!("a test cannot run as another user: setpriv: {error}"));
        }
    }
    false
}

#[test]
fn folders_without_permissions_are_removed() {
    if !as_a_plain_user("scratch::directory::tests::folders_without_permissions_are_removed") {
        return;
    }
    let place = place();
    let base = place.path().join("base");
    let lease = provision(&base, "closed").unwrap();
    let closed = lease.data().join("closed");
    for (name, bits) in [("none", 0), ("read", 0o400), ("list", 0o500), ("write", 0o200), ("search", 0o100)] {
        let folder = closed.join(name);
        fs::create_dir_all(folder.join("sub/deeper")).unwrap();
        fs::write(folder.join("sub/file"), "content").unwrap();
        fs::set_permissions(folder.join("sub"), fs::Permissions::from_mode(bits)).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(bits)).unwrap();
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(lease.data(), fs::Permissions::from_mode(0o000)).unwrap();
    lease.release(false).unwrap();
    assert!(names(&base).is_empty());
}

#[test]
fn a_base_that_others_can_change_is_refused() {
    let place = place();
    let open = place.path().join("open");
    fs::create_dir(&open).unwrap();
    for bits in [0o777, 0o770, 0o702] {
        fs::set_permissions(&open, fs::Permissions::from_mode(bits)).unwrap();
        let error = provision(&open, "a").map(drop).unwrap_err();
        assert!(error.chain().contains("private folder"), "{}", error.chain());
    }
    // In a folder like /tmp nobody can take away what is another's.
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
    provision(&open, "a").unwrap();
    let link = place.path().join("link");
    symlink(&open, &link).unwrap();
    assert!(provision(&link, "a").is_err());
    fs::write(place.path().join("file"), "").unwrap();
    assert!(provision(&place.path().join("file"), "a").is_err());
}

#[test]
fn what_belongs_to_somebody_else_is_refused_and_left_alone() {
    if !rustix::process::geteuid().is_root() {
        firedrill_testing::skip("only root can give folders away");
        return;
    }
    let place = place();
    let base = place.path().join("base");
    fs::create_dir(&base).unwrap();
    let theirs = leftover(&base, "theirs", &label(&boot_id(), LONG_AGO, false));
    std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).unwrap();
    let swept = scratch(&base).sweep().unwrap();
    assert!(swept.in_use[0].contains("another user") && theirs.is_dir(), "{swept:?}");
    std::os::unix::fs::chown(&base, Some(65534), Some(65534)).unwrap();
    let error = provision(&base, "a").map(drop).unwrap_err();
    assert!(error.chain().contains("another user"), "{}", error.chain());
}

#[test]
fn a_base_that_is_not_there_holds_nothing() {
    let place = place();
    assert_eq!(scratch(&place.path().join("missing")).sweep().unwrap(), Swept::default());
    fs::write(place.path().join("file"), "").unwrap();
    assert!(scratch(&place.path().join("file")).sweep().is_err());
}

/// Where folders cannot be locked, only age tells a lease in the making from a leftover.
#[test]
fn a_clock_that_is_wrong_removes_no_living_lease() {
    let place = place();
    let lease = provision(place.path(), "a").unwrap();
    let late = Arc::new(SimulatedClock::starting_at(jiff::Timestamp::MAX));
    let swept = DirectoryScratch::new(place.path().to_owned(), late).sweep().unwrap();
    assert!(swept.removed.is_empty(), "{swept:?}");
    assert!(lease.data().is_dir());
}
