//! Healthy snapshots under the names and in the wrappings that tools give them.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use firedrill_core::config::settings::EtcdExpectation;
use firedrill_core::event::Phase;
use firedrill_core::finding::{Class, RecoveryBasis};

use super::cluster::{Etcd, have, lease, run};
use super::{assert_green, codes, examine, subject};
use crate::probe::fixture::Fixture;

/// Keys that were changed, removed and compacted, of any bytes, one of them with a lease that soon ends.
pub(super) fn plain() -> Option<&'static [u8]> {
    static SNAPSHOT: OnceLock<Vec<u8>> = OnceLock::new();
    have(&["etcd", "etcdctl"]).then(|| SNAPSHOT.get_or_init(make).as_slice())
}

fn make() -> Vec<u8> {
    let etcd = Etcd::start();
    let pairs: Vec<_> = (0..2500).map(|n| (format!("/app/item-{n:04}"), "v".repeat(n % 300))).collect();
    etcd.put(&pairs);
    etcd.put(&[(&b"\x00\xff odd \"key\"\n"[..], &b"\xfe\x00"[..]), (b"-dash", b"1"), (b"big", &[7; 60_000])]);
    etcd.delete("/app/item-00");
    etcd.put(&pairs[..50]);
    run(etcd.etcdctl().args(["compact", "10"]));
    etcd.put(&pairs[..7]);
    let granted = String::from_utf8(run(etcd.etcdctl().args(["lease", "grant", "2"]))).unwrap();
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    run(etcd.etcdctl().args(["put", "passing", "x", "--lease", &lease]));
    etcd.save()
}

#[test]
fn a_snapshot_is_restored_and_every_key_compared() {
    let Some(snapshot) = plain() else { return };
    let fixture = Fixture::new();
    fixture.write("backup/daily.db", snapshot);
    let mut subject = subject(&fixture);
    subject.drill.expectations.etcd = Some(EtcdExpectation {
        keys_min: Some(2400),
        prefixes: [("/app/item-01".to_owned(), 100), ("/app/".to_owned(), 2450)].into(),
        ..EtcdExpectation::default()
    });
    let examination = examine(&subject);
    assert_green(&examination);
    let notes = examination.notes.join("\n");
    assert!(notes.contains("with 2454 keys; compared: every key, all revisions by HashKV"), "{notes}");
    let engine = examination.engine.unwrap();
    for phase in [Phase::Load, Phase::Start, Phase::Answer, Phase::Verify] {
        assert!(engine.phases[&phase] > 0.0, "{phase:?}");
    }
    assert!(engine.cells[0].seal.verdict().is_ok());
    subject.drill.expectations.etcd = Some(EtcdExpectation {
        keys_min: Some(2455),
        prefixes: [("/app/item-01".to_owned(), 101), ("/none/".to_owned(), 1)].into(),
        ..EtcdExpectation::default()
    });
    let expected =
        [("etcd.keys", Class::Damage), ("etcd.prefix", Class::Damage), ("etcd.prefix", Class::Damage)];
    assert_eq!(codes(&examine(&subject)), expected);
    // The same can be said without an engine.
    subject.runtime = None;
    let examination = examine(&subject);
    assert_eq!(codes(&examination), expected);
    assert!(examination.not_verified.iter().any(|what| what.contains("was not restored into an etcd")));
    subject.drill.expectations.load = true;
    assert!(examine(&subject).interrupted.is_some());
}

#[test]
fn wrappings_are_taken_off() {
    let Some(snapshot) = plain() else { return };
    if !have(&["zip", "gzip", "zstd"]) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let name = "etcd-snapshot-node1-1780000000";
    std::fs::write(place.path().join(name), snapshot).unwrap();
    run(Command::new("zip").current_dir(place.path()).args(["-q", "out.zip", name]));
    let through = |program: &str| {
        let input = std::fs::File::open(place.path().join(name)).unwrap();
        let output = Command::new(program).arg("-c").stdin(input).stderr(Stdio::null()).output().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    for (name, content) in [
        (format!("snapshots/{name}.zip"), std::fs::read(place.path().join("out.zip")).unwrap()),
        (
            "snapshots/on-demand-node1-1780000000.zip".to_owned(),
            std::fs::read(place.path().join("out.zip")).unwrap(),
        ),
        (format!("etcd/{name}.gz"), through("gzip")),
        ("etcd/snapshot.db.zst".to_owned(), through("zstd")),
        ("snapshots/on-demand-node1-1780000000".to_owned(), snapshot.to_vec()),
    ] {
        let fixture = Fixture::new();
        fixture.write(&name, content);
        let subject = subject(&fixture);
        let examination = examine(&subject);
        assert_green(&examination);
        if name.contains("1780000000") {
            let point = examination.recovery_point.unwrap();
            assert_eq!(point.time.as_second(), 1_780_000_000, "{name}");
            assert_eq!(point.basis, RecoveryBasis::Data);
        }
    }
}

#[test]
fn renewed_leases_of_nodes_tell_the_age_of_the_data() {
    if !have(&["etcd", "etcdctl"]) {
        return;
    }
    let etcd = Etcd::start();
    etcd.put(&[
        ("/registry/leases/kube-node-lease/node1", lease(1_779_999_990)),
        ("/registry/leases/kube-node-lease/node2", lease(1_779_999_900)),
        ("/registry/leases/kube-node-lease/node3", lease(1_999_999_900)),
    ]);
    etcd.put(&[("/registry/leases/kube-node-lease/node1", lease(1_780_000_000))]);
    let fixture = Fixture::new();
    fixture.write("snapshot.db", etcd.save());
    // A clock that is ahead of all others is not believed.
    let examination = examine(&subject(&fixture));
    assert_eq!(codes(&examination), [("etcd.pki", Class::Gap)]);
    assert!(examination.notes.iter().any(|note| note.contains("future")));
    etcd.delete("/registry/leases/kube-node-lease/node3");
    run(etcd.etcdctl().args(["compact", "4"]));
    fixture.write("snapshot.db", etcd.save());
    let examination = examine(&subject(&fixture));
    let point = examination.recovery_point.unwrap();
    assert_eq!((point.time.as_second(), point.basis), (1_780_000_000, RecoveryBasis::Data));
}

#[test]
fn an_etcd_that_is_expected_has_to_be_there() {
    let fixture = Fixture::new();
    fixture.write("notes.txt", "nothing");
    let mut subject = subject(&fixture);
    subject.drill.expectations.etcd = Some(EtcdExpectation::default());
    assert_eq!(codes(&examine(&subject)), [("etcd.missing", Class::Damage)]);
}
