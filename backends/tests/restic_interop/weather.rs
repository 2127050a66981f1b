//! A server in bad weather. What passes must not raise an alarm; what does not pass must not look
//! restored, must not hang, and must not be called damage of the backup.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::awkward::Bytes;
use crate::support::compare::Allow;
use crate::support::faulty_server::{Fault, FaultyServer, Rule};
use crate::support::firedrill::{Outcome, restore_with_firedrill};
use crate::support::rest_server::{RestServer, Setup};
use crate::support::restic::{Access, Repository, Restic};
use crate::support::tools::Workplace;

/// Restores a small snapshot through a proxy that follows `rules`.
fn restore_in(rules: &[Rule]) -> Option<(Outcome, Vec<String>, Duration)> {
    let restic = Restic::need("0.19")?;
    let place = Workplace::new();
    let source = place.folder("source");
    for number in 0..4_u64 {
        std::fs::write(source.join(format!("file {number}")), Bytes(number).take(400_000)).expect("write");
    }
    let server = RestServer::start(&place, Setup::default())?;
    let repository = Repository::init(&restic, Access::to(server.url("fleet")), "2");
    let id = repository.backup(&source, &["files"], &[]);
    let proxy = FaultyServer::in_front_of(server.address, rules);
    let access = Access::to(server.url_through(proxy.address, "fleet"));
    let into = place.folder("into");
    let started = Instant::now();
    let outcome = restore_with_firedrill(&access, &id, &into);
    let took = started.elapsed();
    assert!(proxy.struck() > 0, "the fault met no request: {:?}", proxy.seen());
    let restored = into.join(source.strip_prefix("/").expect("an absolute path"));
    Some((outcome, differences(&source, &restored), took))
}

fn differences(source: &Path, restored: &Path) -> Vec<String> {
    if !restored.is_dir() {
        return vec!["nothing was restored".to_owned()];
    }
    crate::support::compare::differences(source, restored, Allow::WhatScratchWithholds)
}

fn assert_passes(rules: &[Rule]) {
    let Some((outcome, differences, _)) = restore_in(rules) else { return };
    outcome.expect_clean();
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn every_object_fails_once_with_500() {
    assert_passes(&[Rule::first(1, "/", Fault::Status(500))]);
}

#[test]
fn packs_fail_twice_with_503() {
    assert_passes(&[Rule::first(2, "/data/", Fault::Status(503))]);
}

#[test]
fn the_line_is_cut_once_in_every_pack() {
    assert_passes(&[Rule::first(1, "/data/", Fault::CutAfter(1000))]);
}

#[test]
fn the_line_is_slow() {
    assert_passes(&[Rule::first(1, "/data/", Fault::Slow(1_000_000))]);
}

#[test]
fn bytes_are_wrong_once_in_every_pack() {
    assert_passes(&[Rule::first(1, "/data/", Fault::WrongBytes)]);
}

/// Nothing may look restored when the bytes were always wrong.
#[test]
fn bytes_are_always_wrong() {
    let rule = Rule::always("/data/", Fault::WrongBytes);
    let Some((outcome, differences, _)) = restore_in(&[rule]) else { return };
    assert!(!outcome.is_clean());
    assert!(!differences.is_empty());
}

/// Storage that refuses packs for ever says nothing about what is in them.
#[test]
fn packs_are_refused() {
    for fault in [Fault::Status(403), Fault::Status(500)] {
        let Some((outcome, differences, took)) = restore_in(&[Rule::always("/data/", fault)]) else { return };
        assert!(!outcome.is_clean(), "{fault:?}");
        assert!(!differences.is_empty(), "{fault:?}");
        assert!(took < Duration::from_secs(120), "{fault:?} took {took:?}");
    }
}

#[test]
fn lengths_are_always_wrong() {
    for by in [1000, -1000] {
        let rule = Rule::always("/data/", Fault::WrongLength(by));
        let Some((outcome, _, took)) = restore_in(&[rule]) else { return };
        assert!(!outcome.is_clean(), "{by}");
        assert!(took < Duration::from_secs(120), "{by} took {took:?}");
    }
}

#[test]
fn packs_never_arrive() {
    let Some((outcome, _, took)) = restore_in(&[Rule::always("/data/", Fault::Hang)]) else { return };
    assert!(!outcome.is_clean());
    assert!(took < Duration::from_secs(120), "took {took:?}");
}

/// Restoring without a key is not possible, and no reason to call the backup damaged.
#[test]
fn keys_are_refused() {
    let Some((outcome, differences, _)) = restore_in(&[Rule::always("/keys/", Fault::Status(403))]) else {
        return;
    };
    assert!(outcome.error.is_some() && outcome.findings.is_empty(), "{outcome:?}");
    assert!(!differences.is_empty());
}
