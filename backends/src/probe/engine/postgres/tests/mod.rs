//! The probe with real dumps by the real tools, in real cells.

mod attacks;
mod cuts;
mod folders;

mod healthy;
mod recorded;
mod sabotage;
mod source;
mod wanted;

use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::ports::Probe as _;
use firedrill_core::subject::Subject;

use super::PostgresProbe;
use crate::probe::fixture::Fixture;
use source::{RUNTIME, present};

/// A snapshot with these files, and a runtime.
fn subject(files: &[(&str, &[u8])]) -> (Fixture, Subject) {
    let fixture = Fixture::new();
    for (path, content) in files {
        fixture.write(path, content);
    }
    let mut subject = fixture.subject();
    subject.runtime = crate::runtime::from_config(&RuntimeConfig::default());
    (fixture, subject)
}

fn examine(subject: &Subject) -> Examination {
    let _entered = RUNTIME.enter();
    assert!(PostgresProbe.recognises(subject), "there is something to load");
    PostgresProbe.examine(subject)
}

/// Examines a snapshot with one file.
fn load(path: &str, content: &[u8]) -> Examination {
    let (_fixture, subject) = subject(&[(path, content)]);
    examine(&subject)
}

/// The codes of what is wrong, without gaps.
fn wrong(examination: &Examination) -> Vec<&str> {
    examination.findings.iter().filter(|f| f.class != Class::Gap).map(|f| f.code.as_str()).collect()
}

#[track_caller]
fn assert_green(examination: &Examination) {
    assert!(wrong(examination).is_empty(), "{:#?}", examination.findings);
    assert_eq!(examination.interrupted, None, "{:#?}", examination.notes);
    assert!(examination.checked > 0, "{examination:#?}");
}

#[track_caller]
fn assert_found(examination: &Examination, code: &str) {
    assert!(wrong(examination).contains(&code), "no {code} in {examination:#?}");
}

/// Whether a judge would call it verified.
fn is_verified(examination: &Examination) -> bool {
    wrong(examination).is_empty() && examination.interrupted.is_none() && examination.checked > 0
}

#[test]
fn nothing_is_recognised_without_an_engine_unless_it_is_demanded() {
    let (_fixture, mut subject) = subject(&[("a.sql", b"--\n-- PostgreSQL database dump\n--\n")]);
    subject.runtime = None;
    assert!(!PostgresProbe.recognises(&subject));
    subject.drill.expectations.load = true;
    assert!(PostgresProbe.recognises(&subject));
    let examination = PostgresProbe.examine(&subject);
    assert!(examination.interrupted.is_some());
    let (_fixture, subject) = super::tests::subject(&[("a.txt", b"nothing")]);
    assert!(!PostgresProbe.recognises(&subject));
}
