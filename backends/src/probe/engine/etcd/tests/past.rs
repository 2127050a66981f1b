//! Snapshots compared with the last verified drill.

use firedrill_core::finding::Class;

use super::cluster::{Etcd, have, run};
use super::{assert_green, codes, examine, subject};
use crate::probe::fixture::{Fixture, remember};

#[test]
fn a_revision_that_goes_back_and_objects_that_vanish_are_told() {
    if !have(&["etcd", "etcdctl"]) {
        return;
    }
    let etcd = Etcd::start();
    let of = |kind: &str| -> Vec<_> { (0..40).map(|n| (format!("/registry/{kind}/x/{n}"), "v")).collect() };
    etcd.put(&of("secrets"));
    etcd.put(&of("events"));
    let early = etcd.save();
    etcd.delete("/registry/events/");
    etcd.delete("/registry/secrets/x/1");
    run(etcd.etcdctl().args(["put", "/app/later", "1"]));
    let later = etcd.save();
    etcd.delete("/registry/secrets/x/2");
    etcd.delete("/registry/secrets/x/3");
    let shrunk = etcd.save();
    let fixture = Fixture::new();
    let drill = |content: &[u8], before: Option<&firedrill_core::finding::Examination>| {
        fixture.write("etcd-snapshot-n1-1780000000", content);
        let mut subject = subject(&fixture);
        if let Some(before) = before {
            remember(&mut subject, before);
        }
        let mut examination = examine(&subject);
        // The authorities are another matter.
        examination.findings.retain(|f| f.class != Class::Gap);
        examination
    };
    let first = drill(&early, None);
    assert_green(&first);
    let second = drill(&later, Some(&first));
    assert_green(&second);
    assert_eq!(codes(&drill(&early, Some(&second))), [("etcd.revision", Class::Anomaly)]);
    assert_eq!(codes(&drill(&shrunk, Some(&first))), [("etcd.prefix_fell", Class::Anomaly)]);
}
