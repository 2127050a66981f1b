use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::super::fixture::{
    Restored, Seeded, Server, cut_everywhere, flip_everywhere, have, pipe, run, wait_for,
};

/// Two snapshots of one etcd, the second later and with fewer keys, and its database file.
struct Snapshots {
    early: Vec<u8>,
    late: Vec<u8>,
    member: Vec<u8>,
}

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn snapshots() -> Option<&'static Snapshots> {
    static SNAPSHOTS: OnceLock<Snapshots> = OnceLock::new();
    have(&["etcd", "etcdctl"]).then(|| SNAPSHOTS.get_or_init(make))
}

fn make() -> Snapshots {
    let folder = TempDir::new().unwrap();
    let client = format!("http://127.0.0.1:{}", port());
    let peer = format!("http://127.0.0.1:{}", port());
    let data = folder.path().join("data");
    let server = Command::new("etcd")
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--data-dir"])
        .arg(&data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(server);
    let etcdctl = || {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &client, "--dial-timeout", "2s"]);
        command
    };
    wait_for("etcd", || {
        etcdctl().args(["endpoint", "health"]).stderr(Stdio::null()).output().unwrap().status.success()
    });
    for n in 0..60 {
        run(etcdctl().args(["put", &format!("/registry/pods/p{n}"), &"v".repeat(300)]));
    }
    let save = |name: &str| {
        let path = folder.path().join(name);
        run(etcdctl().args(["snapshot", "save"]).arg(&path));
        std::fs::read(path).unwrap()
    };
    let early = save("early");
    run(etcdctl().args(["del", "--prefix", "/registry/pods/p"]));
    let late = save("late");
    drop(server);
    Snapshots { early, late, member: std::fs::read(data.join("member/snap/db")).unwrap() }
}

#[test]
fn a_snapshot_is_green_under_any_name_and_in_any_wrapping() {
    let Some(Snapshots { early, .. }) = snapshots() else { return };
    for name in ["etcd-snapshot-n1-1700000000", "daily.db"] {
        let report = Restored::of(name, early).examine();
        assert!(report.must_be_clean().notes().contains("keys: 60"), "{}", report.notes());
    }
    if have(&["gzip", "zip"]) {
        let gz = pipe(Command::new("gzip").arg("-c"), early);
        let restored = Restored::of("etcd-snapshot.db.gz", &gz);
        assert!(restored.examine().must_be_clean().notes().contains("keys: 60"));
        assert_eq!(std::fs::read_dir(restored.work()).unwrap().count(), 0);
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("etcd-snapshot-n1"), early).unwrap();
        run(Command::new("zip").current_dir(folder.path()).args(["-q", "o.zip", "etcd-snapshot-n1"]));
        let zip = std::fs::read(folder.path().join("o.zip")).unwrap();
        assert!(Restored::of("s.zip", &zip).examine().must_be_clean().notes().contains("keys: 60"));
    }
}

#[test]
fn a_cut_snapshot_is_never_green() {
    let Some(Snapshots { early, .. }) = snapshots() else { return };
    cut_everywhere("etcd-snapshot-n1-1700000000", early, 200, |_| false);
}

#[test]
fn a_flipped_bit_is_found_even_where_the_hash_was_made_to_fit() {
    use sha2::Digest;
    let Some(Snapshots { early, .. }) = snapshots() else { return };
    flip_everywhere("etcd-snapshot-n1-1700000000", early, 60, 0..early.len());
    // The hash fits, the pages do not: a member whose disk went bad before the snapshot.
    let content = early.len() - 32;
    let mut damaged = early[..content].to_vec();
    for page in damaged.chunks_mut(4096).skip(2) {
        page[8] ^= 0x40;
    }
    let hash = sha2::Sha256::digest(&damaged);
    damaged.extend_from_slice(&hash);
    Restored::of("etcd-snapshot-n1-1700000000", &damaged).examine().must_find("etcd_snapshot.page");
}

#[test]
fn a_copied_member_database_is_no_snapshot() {
    let Some(Snapshots { early, member, .. }) = snapshots() else { return };
    assert_eq!(member.len() % 512, 0);
    Restored::of("etcd-snapshot-n1-1700000000", member).examine().must_find("etcd_snapshot.no_hash");
    Restored::of("var/lib/etcd/member/snap/db", member).examine().must_find("etcd_snapshot.no_hash");
    Restored::of("backup.db", member).examine().must_find("etcd_snapshot.no_hash");
    Restored::of("etcd-snapshot-n1-1700000000.part", early).examine().must_find("etcd_snapshot.partial");
}

#[test]
fn another_programs_bbolt_file_concerns_nobody() {
    let Some(Snapshots { member, .. }) = snapshots() else { return };
    // The bucket names are what tells; here they are another program's.
    let mut other = member.clone();
    let mut at = 0;
    while let Some(found) = other[at..].windows(15).position(|w| w == b"members_removed") {
        at += found + 1;
    }
    for place in 0..other.len() - 4 {
        if &other[place..place + 4] == b"meta" {
            other[place..place + 4].copy_from_slice(b"mfta");
        }
    }
    assert_eq!(Restored::of("portainer.db", &other).examine().0.len(), 0);
}

#[test]
fn a_revision_that_goes_back_and_keys_that_vanish_are_told() {
    let Some(Snapshots { early, late, .. }) = snapshots() else { return };
    let name = "etcd-snapshot-n1-1700000000";
    let (first, second) = (Restored::of(name, early).examine(), Restored::of(name, late).examine());
    Restored::of(name, early).examine_after(&first).must_be_clean();
    Restored::of(name, early).examine_after(&second).must_find("etcd_snapshot.revision");
    Restored::of(name, late).examine_after(&first).must_find("etcd_snapshot.keys_fell");
}

#[test]
fn a_page_tree_that_bites_its_tail_ends() {
    let Some(Snapshots { member, .. }) = snapshots() else { return };
    let mut seeded = Seeded(8);
    let restored = Restored::new();
    for _ in 0..100 {
        let mut damaged = member.clone();
        // Page headers and references get small random numbers, which are other pages.
        for _ in 0..6 {
            let page = 2 + seeded.below(damaged.len() / 4096 - 2);
            let place = page * 4096 + 16 + 8 * seeded.below(6);
            let value = seeded.below(30) as u64;
            damaged[place..place + 8].copy_from_slice(&value.to_le_bytes());
        }
        restored.put("etcd-snapshot-n1-1700000000", &damaged);
        assert!(!restored.examine().looks_green());
    }
}

#[test]
fn digests_tell_snapshots_apart_by_prefix() {
    let Some(Snapshots { early, late, .. }) = snapshots() else { return };
    let measure = |content: &[u8]| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("snapshot");
        std::fs::write(&path, content).unwrap();
        crate::digests::etcd::measure(&std::fs::File::open(path).unwrap(), &|| Ok(()))
    };
    let (before, after) = (measure(early).unwrap(), measure(late).unwrap());
    assert_eq!(before, measure(early).unwrap());
    assert_eq!(before.prefixes["/registry/pods"].keys, 60);
    assert!(after.revision > before.revision && after.prefixes != before.prefixes);
    let mut damaged = early.clone();
    damaged[20_000] ^= 1;
    assert!(matches!(measure(&damaged), Err(crate::digests::etcd::Trouble::Broken(_))));
}
