//! The certificate authorities of kubeadm.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use firedrill_core::config::settings::{Demand, EtcdExpectation};
use firedrill_core::finding::{Class, Examination};
use tempfile::TempDir;

use super::cluster::{Etcd, have, root_ca, run};
use super::{assert_green, codes, examine, subject};
use crate::probe::fixture::Fixture;

/// What kubeadm makes, and a snapshot of its cluster.
struct Kubeadm {
    folder: TempDir,
    snapshot: Vec<u8>,
}

fn openssl(folder: &Path, line: &str) {
    run(Command::new("openssl").current_dir(folder).args(line.split_whitespace()));
}

fn authority(folder: &Path, name: &str, key: &str, days: &str) {
    openssl(folder, &key.replace("OUT", &format!("{name}.key")));
    let subject = format!("/CN={}", name.replace('/', "-"));
    openssl(folder, &format!("req -x509 -new -key {name}.key -subj {subject} -days {days} -out {name}.crt"));
}

const RSA: &str = "genrsa -traditional -out OUT 2048";
const RSA_PKCS8: &str = "genpkey -algorithm RSA -out OUT -pkeyopt rsa_keygen_bits:2048";
const EC: &str = "ecparam -name prime256v1 -genkey -noout -out OUT";

fn kubeadm() -> Option<&'static Kubeadm> {
    static KUBEADM: OnceLock<Kubeadm> = OnceLock::new();
    have(&["etcd", "etcdctl", "openssl"]).then(|| KUBEADM.get_or_init(make))
}

fn make() -> Kubeadm {
    let folder = TempDir::new().unwrap();
    let pki = folder.path();
    std::fs::create_dir(pki.join("etcd")).unwrap();
    authority(pki, "ca", RSA, "36500");
    authority(pki, "etcd/ca", RSA_PKCS8, "36500");
    authority(pki, "front-proxy-ca", EC, "36500");
    openssl(pki, &RSA.replace("OUT", "sa.key"));
    openssl(pki, "rsa -in sa.key -pubout -out sa.pub");
    let etcd = Etcd::start();
    let ca = std::fs::read(pki.join("ca.crt")).unwrap();
    etcd.put(&[
        ("/registry/namespaces/default", b"k8s\0".to_vec()),
        ("/registry/configmaps/kube-system/kube-root-ca.crt", root_ca(&ca)),
    ]);
    Kubeadm { snapshot: etcd.save(), folder }
}

const FILES: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "sa.key",
    "sa.pub",
];

fn drill(demand: Demand, files: &[&str], change: impl Fn(&Path)) -> Option<Examination> {
    let kubeadm = kubeadm()?;
    let fixture = Fixture::new();
    fixture.write("etcd-snapshots/daily/snapshot.db", &kubeadm.snapshot);
    for name in files {
        let content = std::fs::read(kubeadm.folder.path().join(name)).unwrap();
        fixture.write(&format!("etcd-snapshots/daily/pki/{name}"), content);
    }
    let pki: PathBuf = fixture.path("etcd-snapshots/daily/pki");
    change(&pki);
    let mut subject = subject(&fixture);
    // Certificates are made at the time of this machine; by then one of a day has expired.
    subject.at = "2090-01-01T00:00:00Z".parse().unwrap();
    subject.drill.expectations.etcd = Some(EtcdExpectation { pki: demand, ..EtcdExpectation::default() });
    let examination = examine(&subject);
    assert!(!serde_json::to_string(&examination).unwrap().contains("PRIVATE KEY"));
    Some(examination)
}

#[test]
fn authorities_that_fit_are_enough() {
    let Some(examination) = drill(Demand::Required, &FILES, |_| {}) else { return };
    assert_green(&examination);
}

#[test]
fn authorities_in_an_archive_are_found() {
    if !have(&["tar", "gzip"]) {
        return;
    }
    let pack = |pki: &Path| {
        let folder = pki.parent().unwrap();
        run(Command::new("tar").current_dir(folder).args(["-czf", "pki.tar.gz", "./pki"]));
        std::fs::remove_dir_all(pki).unwrap();
    };
    let Some(examination) = drill(Demand::Required, &FILES, pack) else { return };
    assert_green(&examination);
}

#[test]
fn missing_authorities_are_a_gap_and_damage_where_they_are_required() {
    let Some(examination) = drill(Demand::Optional, &[], |_| {}) else { return };
    assert_eq!(codes(&examination), [("etcd.pki", Class::Gap)]);
    let Some(examination) = drill(Demand::Required, &[], |_| {}) else { return };
    assert_eq!(codes(&examination), [("etcd.pki", Class::Damage)]);
    let some: Vec<_> = FILES.into_iter().filter(|name| *name != "sa.key").collect();
    let Some(examination) = drill(Demand::Optional, &some, |_| {}) else { return };
    assert_eq!(codes(&examination), [("etcd.pki", Class::Gap)]);
    assert_eq!(examination.findings[0].seen, "without sa.key");
}

#[test]
fn what_does_not_fit_is_damage() {
    let copy = |from: &'static str, to: &'static str| {
        move |pki: &Path| {
            std::fs::copy(pki.join(from), pki.join(to)).unwrap();
        }
    };
    type Change = Box<dyn Fn(&Path)>;
    let expired = |pki: &Path| {
        openssl(pki, "req -x509 -new -subj /CN=old -key front-proxy-ca.key -days 1 -out front-proxy-ca.crt");
    };
    let cases: [(Change, &str, &str); 6] = [
        (Box::new(copy("etcd/ca.key", "ca.key")), "pki/ca.key", "another certificate"),
        (Box::new(copy("front-proxy-ca.key", "etcd/ca.key")), "etcd/ca.key", "another certificate"),
        (
            Box::new(|pki| {
                openssl(pki, "rsa -in ca.key -pubout -out sa.pub");
            }),
            "pki/sa.pub",
            "another one",
        ),
        (Box::new(expired), "front-proxy-ca.crt", "expired"),
        (
            Box::new(|pki| {
                let key = std::fs::read(pki.join("ca.key")).unwrap();
                std::fs::write(pki.join("ca.key"), &key[..key.len() / 2]).unwrap();
            }),
            "pki/ca.key",
            "no private key",
        ),
        (
            Box::new(|pki| {
                std::fs::copy(pki.join("etcd/ca.crt"), pki.join("ca.crt")).unwrap();
                std::fs::copy(pki.join("etcd/ca.key"), pki.join("ca.key")).unwrap();
            }),
            "pki/ca.crt",
            "another authority",
        ),
    ];
    for (change, location, seen) in cases {
        let Some(examination) = drill(Demand::Optional, &FILES, change) else { return };
        assert_eq!(codes(&examination), [("etcd.pki", Class::Damage)], "{location}");
        let finding = &examination.findings[0];
        assert!(finding.location.ends_with(location) && finding.seen.contains(seen), "{finding:?}");
    }
}
