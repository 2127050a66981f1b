//! Who waits for whom.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use firedrill_backends::repository::restic::write::{
    BackupRequest, ForgetRequest, LockOptions, PruneRequest, Source, WriterOptions,
};
use firedrill_core::error::ErrorKind;

use crate::support::rest_server::{RestServer, Setup};
use crate::support::restic::{Access, Repository, Restic};
use crate::support::tools::Workplace;
use crate::writing::{check, impatient, json, open, open_with, repository, watch};

fn locks(repository: &Repository) -> Vec<String> {
    let output = repository.run(["list", "locks", "--no-lock"]);
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

fn exit(repository: &Repository, arguments: &[&str]) -> Option<i32> {
    let mut command = repository.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("restic runs").code()
}

#[test]
fn restic_respects_ours() {
    for generation in ["0.18", "0.19"] {
        let place = Workplace::new();
        let Some(repository) = repository(&place, generation, "2") else { continue };
        let source = place.folder("source");
        fs::write(source.join("file"), b"x").expect("write");
        let id = repository.backup(&source, &[], &[]);
        let writer = open(&repository.access);

        let shared = writer.lock_shared(&watch()).expect("nobody is in the way");
        assert_eq!(locks(&repository).len(), 1);
        let file = &locks(&repository)[0];
        let lock = json(&repository, &["cat", "lock", file, "--no-lock"]);
        assert_eq!(lock["exclusive"], false);
        assert_eq!(lock["pid"], u64::from(std::process::id()));
        assert_eq!(exit(&repository, &["forget", &id, "--prune"]), Some(11), "restic {generation}");
        assert_eq!(exit(&repository, &["backup", source.to_str().expect("UTF-8")]), Some(0));
        drop(shared);
        assert!(locks(&repository).is_empty());

        let exclusive = writer.lock_exclusive(&watch()).expect("nobody is in the way");
        assert!(exclusive.is_exclusive() && exclusive.check().is_ok());
        assert_eq!(exit(&repository, &["backup", source.to_str().expect("UTF-8")]), Some(11));
        assert_eq!(exit(&repository, &["unlock"]), Some(0), "restic does not take it for stale");
        assert_eq!(locks(&repository).len(), 1);
        drop(exclusive);
        assert_eq!(exit(&repository, &["forget", &id, "--prune"]), Some(0));
    }
}

/// A restic that holds its shared lock until its input ends.
#[test]
fn we_respect_those_of_restic() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let mut command = repository.command(["backup", "--quiet", "--stdin"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("restic starts");
    let started = Instant::now();
    while locks(&repository).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "restic took no lock");
    }
    let writer = open(&repository.access);
    let refused = writer.prune(&PruneRequest::default(), &watch()).expect_err("a backup is running");
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert!(refused.chain().contains("it is locked by process "), "{}", refused.chain());
    assert!(writer.forget(&ForgetRequest::default(), None, &watch()).is_err());
    assert!(writer.lock_shared(&watch()).is_ok(), "two may add at a time");
    assert_eq!(locks(&repository).len(), 1, "what was refused left nothing behind");

    let lock = LockOptions { wait: Duration::from_secs(60), ..LockOptions::default() };
    let patient = open_with(&repository.access, WriterOptions { lock, ..WriterOptions::default() });
    let waiting = std::thread::spawn(move || patient.prune(&PruneRequest::default(), &watch()).map(drop));
    std::thread::sleep(Duration::from_millis(600));
    assert!(!waiting.is_finished());
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"something, for restic refuses to save nothing").expect("restic reads its input");
    drop(input);
    assert!(child.wait().expect("wait").success(), "the backup was disturbed");
    waiting.join().expect("no panic").expect("it came to its turn");
    check(&repository);
}

#[test]
fn a_lock_of_the_dead_is_removed() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let mut command = repository.command(["backup", "--quiet", "--stdin"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("restic starts");
    let started = Instant::now();
    while locks(&repository).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "restic took no lock");
    }
    // The child is `timeout`; restic is its child.
    let kill = std::process::Command::new("pkill").args(["-KILL", "-P", &child.id().to_string()]).status();
    assert!(kill.is_ok_and(|status| status.success()), "restic could not be killed");
    let _ = child.wait();
    assert_eq!(locks(&repository).len(), 1, "a killed restic leaves its lock");
    drop(open(&repository.access).lock_exclusive(&watch()).expect("the lock is stale"));
    assert!(locks(&repository).is_empty());
}

#[test]
fn a_lock_is_renewed_and_its_loss_is_noticed() {
    let Some(restic) = Restic::need("0.19") else { return };
    let place = Workplace::new();
    let Some(server) = RestServer::start(&place, Setup::default()) else { return };
    let repository = Repository::init(&restic, Access::to(server.url("fleet")), "2");
    let lock = LockOptions { refresh: Duration::from_millis(300), ..impatient().lock };
    let writer = open_with(&repository.access, WriterOptions { lock, ..impatient() });
    let held = writer.lock_shared(&watch()).expect("nobody is in the way");
    let first = locks(&repository);
    let started = Instant::now();
    while locks(&repository) == first {
        assert!(started.elapsed() < Duration::from_secs(20), "the lock is not renewed");
    }
    assert!(held.check().is_ok());
    // Renewing writes the new lock before it removes the old one, so there may be two for a moment.
    assert!(!locks(&repository).is_empty());
    repository.run(["unlock", "--remove-all"]);
    let started = Instant::now();
    while held.check().is_ok() {
        assert!(started.elapsed() < Duration::from_secs(20), "nobody noticed that the lock is gone");
        std::thread::sleep(Duration::from_millis(50));
        // One that was just being renewed is removed as well.
        repository.run(["unlock", "--remove-all"]);
    }
    drop(held);
    assert!(locks(&repository).is_empty());
}

#[test]
fn a_lock_that_cannot_be_renewed_stops_the_work() {
    let Some(restic) = Restic::need("0.19") else { return };
    let place = Workplace::new();
    let Some(server) = RestServer::start(&place, Setup::default()) else { return };
    let repository = Repository::init(&restic, Access::to(server.url("fleet")), "2");
    let lock = LockOptions {
        refresh: Duration::from_millis(100),
        lost: Duration::from_millis(900),
        ..impatient().lock
    };
    let writer = open_with(&repository.access, WriterOptions { lock, ..impatient() });
    let folder = server.folder.join("fleet/locks");
    let endless = move || {
        // Nothing can be written there any more; what is there stays.
        fs::rename(&folder, folder.with_extension("away"))?;
        fs::write(&folder, b"in the way")?;
        Ok(std::io::repeat(7))
    };
    let started = Instant::now();
    let error = writer.backup(vec![Source::stream("/endless", endless)], &BackupRequest::default(), &watch());
    let error = error.expect_err("the lock is lost");
    assert!(error.chain().contains("could not be renewed"), "{}", error.chain());
    assert!(started.elapsed() < Duration::from_secs(60));
    let away = server.folder.join("fleet/locks.away");
    fs::remove_file(server.folder.join("fleet/locks")).expect("remove");
    fs::rename(away, server.folder.join("fleet/locks")).expect("rename");
    assert!(repository.snapshots().is_empty());
    assert!(Path::new(&server.folder).is_dir());
}
