//! Tests with a real MariaDB, which makes the backups and examines them.

mod damaged;
mod healthy;
mod hostile;
mod made;

use std::sync::Arc;

use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

use super::MariadbProbe;
use crate::probe::fixture::{Fixture, found};
use crate::runtime::process::ProcessRuntime;

/// Whether this machine has a MariaDB; says so loudly when it has not.
fn have() -> bool {
    let programs =
        ["mariadbd", "mariadb", "mariadb-dump", "mariadb-backup", "mbstream", "mariadb-install-db"];
    firedrill_testing::have(&programs)
}

/// A subject with these files, and a runtime.
fn subject(fixture: &Fixture) -> Subject {
    let mut subject = fixture.subject();
    subject.runtime = Some(Arc::new(ProcessRuntime::new(&RuntimeConfig::default())));
    subject
}

/// Examines one file.
fn examine(name: &str, content: impl AsRef<[u8]>) -> Examination {
    let fixture = Fixture::new();
    fixture.write(name, content);
    examine_subject(&subject(&fixture))
}

fn examine_subject(subject: &Subject) -> Examination {
    assert!(MariadbProbe.recognises(subject));
    let examination = MariadbProbe.examine(subject);
    assert!(
        std::fs::read_dir(&subject.work).unwrap().next().is_none(),
        "something is left in the work folder"
    );
    examination
}

/// Nothing is wrong, something was examined, and only these gaps are told.
fn must_be_clean(examination: &Examination) {
    let wrong: Vec<_> = found(examination).into_iter().filter(|(_, class, _)| *class != Class::Gap).collect();
    assert!(wrong.is_empty(), "{examination:#?}");
    assert_eq!(examination.interrupted, None, "{examination:#?}");
    assert!(examination.checked > 0, "{examination:#?}");
}

/// Not verified: a finding that counts, or an interruption.
fn must_not_be_clean(examination: &Examination) {
    let wrong = examination.findings.iter().any(|f| f.class != Class::Gap);
    assert!(wrong || examination.interrupted.is_some(), "{examination:#?}");
}

fn codes(examination: &Examination) -> Vec<&str> {
    examination.findings.iter().map(|f| f.code.as_str()).collect()
}
