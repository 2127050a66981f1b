//! Tests with a real etcd, in sealed cells.

mod authorities;
mod cluster;
mod damaged;
mod healthy;
mod past;
mod tokens;

use std::sync::Arc;

use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::ports::Probe as _;
use firedrill_core::subject::Subject;

use super::EtcdProbe;
use crate::probe::fixture::Fixture;

/// Restored files, and an engine for them.
fn subject(fixture: &Fixture) -> Subject {
    let mut subject = fixture.subject();
    subject.runtime = crate::runtime::from_config(&RuntimeConfig::default());
    // Fixtures are made now, whatever the time of the fixture's snapshot.
    subject.at = "2026-06-01T00:00:00Z".parse().unwrap();
    Arc::make_mut(&mut subject.manifest);
    subject
}

fn examine(subject: &Subject) -> Examination {
    assert!(EtcdProbe.recognises(subject));
    let examination = EtcdProbe.examine(subject);
    let left: Vec<_> = std::fs::read_dir(&subject.work).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left in the working folder: {left:?}");
    examination
}

/// Codes and classes of all findings.
fn codes(examination: &Examination) -> Vec<(&str, Class)> {
    examination.findings.iter().map(|f| (f.code.as_str(), f.class)).collect()
}

#[track_caller]
fn assert_green(examination: &Examination) {
    assert!(examination.findings.is_empty(), "false alarm: {:#?}", examination.findings);
    assert_eq!(examination.interrupted, None);
    assert!(examination.checked > 0);
}

/// Whether a judge could take this for a proof.
fn looks_green(examination: &Examination) -> bool {
    let weighty = examination.findings.iter().any(|f| f.class != Class::Gap);
    !weighty && examination.interrupted.is_none() && examination.checked > 0
}
