//! The server token of k3s.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firedrill_core::config::settings::{Demand, EtcdExpectation};
use firedrill_core::finding::{Class, Examination};

use super::super::token::tests::seal;
use super::cluster::{Etcd, have};
use super::{assert_green, codes, examine, subject};
use crate::probe::fixture::Fixture;

const PASSWORD: &str = "7f3c0de5ecretpassw0rd";
const SNAPSHOT: &str = "var/lib/rancher/k3s/server/db/snapshots/etcd-snapshot-n1-1780000000";
const TOKEN: &str = "var/lib/rancher/k3s/server/token";

fn token(user: &str, password: &str) -> String {
    format!("K10{}::{user}:{password}\n", "ab".repeat(32))
}

fn bootstrap(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: serde_json::Map<_, _> = fields
        .iter()
        .map(|(name, content)| {
            let value = serde_json::json!({ "Timestamp": "2026-01-01T00:00:00Z", "Content": STANDARD.encode(content) });
            ((*name).to_owned(), value)
        })
        .collect();
    serde_json::to_vec(&fields).unwrap()
}

/// A snapshot of a k3s server, with a value that is encrypted at rest.
fn k3s() -> Option<&'static [u8]> {
    static SNAPSHOT: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || {
        let etcd = Etcd::start();
        let config =
            "kind: EncryptionConfiguration\nproviders:\n- aescbc:\n    keys:\n    - name: aescbckey\n";
        let fields = [("ServerCA", "pem"), ("ServerCAKey", "pem"), ("EncryptionConfig", config)];
        let (name, value) = seal(&bootstrap(&fields), PASSWORD);
        etcd.put(&[
            (format!("/bootstrap/{name}"), value),
            ("/registry/namespaces/default".to_owned(), b"k8s\0".to_vec()),
            ("/registry/secrets/default/a".to_owned(), b"k8s:enc:aescbc:v1:aescbckey:\x01\x02".to_vec()),
        ]);
        etcd.save()
    };
    have(&["etcd", "etcdctl"]).then(|| SNAPSHOT.get_or_init(make).as_slice())
}

fn with(files: &[(&str, String)], demand: Demand) -> Option<Examination> {
    let fixture = Fixture::new();
    fixture.write(SNAPSHOT, k3s()?);
    for (path, content) in files {
        fixture.write(path, content);
    }
    let mut subject = subject(&fixture);
    subject.drill.expectations.etcd = Some(EtcdExpectation { token: demand, ..EtcdExpectation::default() });
    let examination = examine(&subject);
    let told = serde_json::to_string(&examination).unwrap();
    assert!(!told.contains(PASSWORD), "the token is told: {told}");
    Some(examination)
}

#[test]
fn a_token_that_fits_is_enough_wherever_it_is() {
    let elsewhere = "etc/rancher/k3s/config.yaml";
    for (path, content) in [
        (TOKEN, token("server", PASSWORD)),
        (TOKEN, PASSWORD.to_owned()),
        ("secrets/k3s-token.txt", format!("{PASSWORD}\n")),
        (elsewhere, format!("cluster-init: true\ntoken: {PASSWORD}\n")),
        ("etc/systemd/system/k3s.service.env", format!("K3S_TOKEN='{PASSWORD}'\n")),
    ] {
        let Some(examination) = with(&[(path, content)], Demand::Required) else { return };
        assert_green(&examination);
    }
    // Another program's token, and that of agents, say nothing.
    let others = [
        (TOKEN, token("server", PASSWORD)),
        ("var/lib/rancher/k3s/server/agent-token", token("node", "other")),
        ("app/api_token", "abc".to_owned()),
    ];
    let Some(examination) = with(&others, Demand::Required) else { return };
    assert_green(&examination);
}

#[test]
fn a_missing_token_is_a_gap_and_damage_where_it_is_required() {
    let Some(examination) = with(&[], Demand::Optional) else { return };
    let gaps = [("etcd.token", Class::Gap), ("etcd.encryption", Class::Gap)];
    assert_eq!(codes(&examination), gaps);
    assert!(examination.findings[0].expected.contains("server/token"));
    let Some(examination) = with(&[("app/api_token", "abc".to_owned())], Demand::Optional) else { return };
    assert_eq!(codes(&examination), gaps);
    let Some(examination) = with(&[], Demand::Required) else { return };
    assert_eq!(codes(&examination)[0], ("etcd.token", Class::Damage));
}

#[test]
fn a_token_that_does_not_fit_is_damage() {
    for content in [token("server", "another"), "another".to_owned()] {
        let Some(examination) = with(&[(TOKEN, content)], Demand::Optional) else { return };
        assert_eq!(codes(&examination)[0], ("etcd.token", Class::Damage));
        assert_eq!(examination.findings[0].location, TOKEN);
    }
}

#[test]
fn bootstrap_data_that_the_right_token_does_not_open_is_damage() {
    if !have(&["etcd", "etcdctl"]) {
        return;
    }
    let (name, value) = seal(&bootstrap(&[("ServerCA", "pem"), ("ServerCAKey", "pem")]), PASSWORD);
    let (_, other) = seal(b"{}", PASSWORD);
    let mut flipped = value.clone();
    let last = flipped.len() - 4;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    for (value, expected) in [
        (flipped, ("etcd.bootstrap", Class::Damage)),
        (other, ("etcd.bootstrap", Class::Damage)),
        (Vec::new(), ("etcd.bootstrap", Class::Anomaly)),
    ] {
        let etcd = Etcd::start();
        etcd.put(&[(format!("/bootstrap/{name}"), value)]);
        let fixture = Fixture::new();
        fixture.write(SNAPSHOT, etcd.save());
        fixture.write(TOKEN, token("server", PASSWORD));
        assert_eq!(codes(&examine(&subject(&fixture))), [expected]);
    }
}
