//! Damaged snapshots.

use firedrill_core::finding::Class;
use firedrill_core::ports::Probe as _;

use super::cluster::{Etcd, Seeded, have};
use super::healthy::plain;
use super::{codes, examine, looks_green, subject};
use crate::probe::fixture::Fixture;

#[test]
fn a_cut_snapshot_is_never_green() {
    let Some(snapshot) = plain() else { return };
    let mut seeded = Seeded(11);
    let places = (0..8).map(|_| seeded.below(snapshot.len()));
    // At the end of a page it looks like a database file that was copied from a member.
    let pages = [snapshot.len() - 32, snapshot.len() - 32 - 4096, 8 * 4096, snapshot.len() - 1];
    for length in places.chain(pages).filter(|length| *length > 100) {
        let fixture = Fixture::new();
        fixture.write("etcd-snapshot-node1-1780000000", &snapshot[..length]);
        let examination = examine(&subject(&fixture));
        // Behind its last page a database file has room to grow: without its hash and some of that, every key is
        // still there. The probe of the structure tells of the hash in any case.
        let whole = examination.notes.iter().any(|note| note.contains("with 2454 keys; compared: every key"));
        assert!(!looks_green(&examination) || whole, "cut at {length}: {examination:#?}");
        let told = examination.findings.iter().any(|f| f.code == "etcd.restore" || f.code == "etcd.no_hash");
        assert!(told, "cut at {length}: {examination:#?}");
    }
}

#[test]
fn a_flipped_bit_is_found_by_the_restore() {
    let Some(snapshot) = plain() else { return };
    let mut seeded = Seeded(12);
    for _ in 0..6 {
        let place = seeded.below(snapshot.len());
        let mut damaged = snapshot.to_vec();
        damaged[place] ^= 1 << seeded.below(8);
        let fixture = Fixture::new();
        fixture.write("etcd-snapshot-node1-1780000000", damaged);
        let examination = examine(&subject(&fixture));
        assert_eq!(codes(&examination), [("etcd.restore", Class::Damage)], "byte {place}");
    }
}

#[test]
fn damage_below_a_hash_that_fits_is_found_by_the_engine_or_by_the_pages() {
    use sha2::Digest as _;
    let Some(snapshot) = plain() else { return };
    let content = snapshot.len() - 32;
    let mut seeded = Seeded(13);
    for round in 0..6 {
        let mut damaged = snapshot[..content].to_vec();
        // Headers of pages, which everything else hangs on.
        for _ in 0..4 {
            let page = 2 + seeded.below(content / 4096 - 2);
            damaged[page * 4096 + 8 + seeded.below(4)] ^= 1 << seeded.below(8);
        }
        let hash = sha2::Sha256::digest(&damaged);
        damaged.extend_from_slice(&hash);
        let fixture = Fixture::new();
        fixture.write("etcd-snapshot-node1-1780000000", damaged);
        let examination = examine(&subject(&fixture));
        // Pages that are free may hold anything.
        let harmless = examination.notes.iter().any(|note| note.contains("compared: every key"));
        assert!(!looks_green(&examination) || harmless, "round {round}: {examination:#?}");
    }
}

#[test]
fn a_copied_database_file_is_restored_and_told_as_unprotected() {
    if !have(&["etcd", "etcdctl"]) {
        return;
    }
    let etcd = Etcd::start();
    etcd.put(&[("a", "1"), ("b", "2")]);
    let member = etcd.member();
    let fixture = Fixture::new();
    fixture.write("var/lib/etcd/member/snap/db", &member);
    let examination = examine(&subject(&fixture));
    assert_eq!(codes(&examination), [("etcd.no_hash", Class::Gap)]);
    assert!(examination.notes.iter().any(|note| note.contains("with 2 keys")), "{examination:#?}");
    fixture.write("var/lib/etcd/member/snap/db", &member[..3 * 4096]);
    assert!(!looks_green(&examine(&subject(&fixture))));
}

#[test]
fn an_alarm_is_told() {
    if !have(&["etcd", "etcdctl"]) {
        return;
    }
    let etcd = Etcd::start_with(&["--quota-backend-bytes=16384"]);
    let refused = etcd.etcdctl().args(["put", "a", "1"]).output().unwrap();
    assert!(!refused.status.success(), "there is space left");
    let fixture = Fixture::new();
    fixture.write("snapshot.db", etcd.save());
    let mut subject = subject(&fixture);
    assert_eq!(codes(&examine(&subject)), [("etcd.alarm", Class::Anomaly)]);
    subject.runtime = None;
    assert_eq!(codes(&examine(&subject)), [("etcd.alarm", Class::Anomaly)], "from the pages alone");
    let findings = super::super::alarm_findings("s", &[1, 2]);
    let classes: Vec<_> = findings.iter().map(|f| f.class).collect();
    assert_eq!(classes, [Class::Anomaly, Class::Damage]);
}

#[test]
fn a_stop_is_no_damage() {
    let Some(snapshot) = plain() else { return };
    let fixture = Fixture::new();
    fixture.write("snapshot.db", snapshot);
    let subject = subject(&fixture);
    subject.watch.stop();
    let examination = super::super::EtcdProbe.examine(&subject);
    assert!(examination.findings.is_empty() && examination.interrupted.is_some(), "{examination:#?}");
}

#[test]
fn what_newer_software_saved_is_not_judged_by_older() {
    let Some(snapshot) = plain() else { return };
    let mut newer = snapshot.to_vec();
    let at = newer.windows(5).position(|w| w == b"3.4.0").expect("the version of the cluster");
    let places: Vec<usize> = (at..newer.len() - 5).filter(|at| &newer[*at..*at + 5] == b"3.4.0").collect();
    for place in places {
        newer[place] = b'9';
    }
    let fixture = Fixture::new();
    fixture.write("snapshot.db", newer);
    let mut subject = subject(&fixture);
    let examination = examine(&subject);
    // Its hash does not fit any more, and still nobody here may say what a newer etcd would make of it.
    assert!(examination.findings.is_empty(), "{examination:#?}");
    assert!(
        examination.not_verified.iter().any(|what| what.contains("was not restored")),
        "{examination:#?}"
    );
    subject.drill.expectations.load = true;
    assert!(examine(&subject).interrupted.is_some_and(|why| why.contains("etcd 9.4")), "with advice");
}
