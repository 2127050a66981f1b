//! Killed at any moment: what was there before still restores, and the next run goes on.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use firedrill_backends::repository::restic::write::{
    BackupRequest, ForgetRequest, PruneRequest, WriterOptions,
};
use firedrill_core::retention::Policy;

use crate::support::awkward::Bytes;
use crate::support::compare::{Allow, assert_same_tree};
use crate::support::firedrill::restore_with_firedrill;
use crate::support::restic::{Access, Repository};
use crate::support::tools::{Workplace, run};
use crate::writing::{back_up, check, id, impatient, open_with, repository, watch};

/// How often each story kills.
const KILLS: u32 = 8;
const REPOSITORY: &str = "FIREDRILL_TEST_VICTIM_REPOSITORY";
const SOURCE: &str = "FIREDRILL_TEST_VICTIM_SOURCE";

fn options() -> WriterOptions {
    WriterOptions { pack_size: 1 << 20, workers: 2, ..impatient() }
}

fn prune(access: &Access) {
    let request =
        ForgetRequest { policy: Policy { last: Some(1), ..Policy::default() }, ..ForgetRequest::default() };
    let thorough = PruneRequest { max_unused: 0.0, ..PruneRequest::default() };
    let done = open_with(access, options()).forget(&request, Some(&thorough), &watch());
    assert!(done.is_ok(), "{}", done.err().map(|e| e.chain()).unwrap_or_default());
}

/// What is killed: this test in a process of its own.
#[test]
#[ignore = "the other stories start it"]
fn victim() {
    let Ok(url) = std::env::var(REPOSITORY) else { return };
    let access = Access::to(url);
    match std::env::var(SOURCE) {
        Ok(source) => {
            drop(back_up(&open_with(&access, options()), Path::new(&source), &BackupRequest::default()))
        }
        Err(_) => prune(&access),
    }
}

/// Starts the victim and kills it after `delay`. Returns whether that ended it, and how long it lived.
fn kill(repository: &Path, source: Option<&Path>, delay: Duration) -> (bool, Duration) {
    let started = Instant::now();
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "kills::victim", "--ignored"]).env(REPOSITORY, repository);
    if let Some(source) = source {
        command.env(SOURCE, source);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    while started.elapsed() < delay && child.try_wait().expect("wait").is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    let status = child.wait().expect("wait");
    assert!(status.success() || status.signal() == Some(9), "the victim failed: {status}");
    (status.signal() == Some(9), started.elapsed())
}

struct Story {
    place: Workplace,
    repository: Repository,
    source: PathBuf,
    newest: String,
    expected: PathBuf,
}

impl Story {
    /// Some snapshots in small packs, of which the newest shares half with the others.
    fn begin() -> Option<Self> {
        let place = Workplace::new();
        let repository = repository(&place, "0.19", "2")?;
        let source = place.folder("source");
        let writer = open_with(&repository.access, options());
        let mut newest = String::new();
        for day in 0..5_u64 {
            for number in 0..5 {
                if number % 2 == 0 || day == 0 {
                    let content = Bytes(10 * day + number).take(500_000);
                    fs::write(source.join(format!("file {number}")), content).expect("write");
                }
            }
            newest = id(&back_up(&writer, &source, &BackupRequest::default()));
        }
        let expected = place.folder("expected");
        repository.restore(&newest, &expected);
        Some(Self { place, repository, source, newest, expected })
    }

    /// A copy of the repository, to be spoilt.
    fn copy(&self, number: u32) -> Repository {
        let to = self.place.path(&format!("copy {number}"));
        run(Command::new("cp").arg("-r").arg(&self.repository.access.url).arg(&to));
        let access = Access::to(to.display().to_string());
        Repository { access, ..self.repository.clone() }
    }

    fn assert_newest_restores(&self, repository: &Repository, name: &str) {
        let into = self.place.folder(name);
        restore_with_firedrill(&repository.access, &self.newest, &into).expect_clean();
        assert_same_tree(&self.expected, &into, Allow::WhatScratchWithholds);
        fs::remove_dir_all(into).expect("remove");
    }

    /// Kills `KILLS` times, spread over the time that the work takes.
    fn kill_and_go_on(&self, source: Option<&Path>, go_on: impl Fn(&Repository)) {
        let whole = self.copy(KILLS);
        let (_, takes) = kill(Path::new(&whole.access.url), source, Duration::from_secs(60));
        let mut killed = 0;
        for number in 0..KILLS {
            let repository = self.copy(number);
            let delay = takes.mul_f64((f64::from(number) + 0.8) / f64::from(KILLS));
            killed += u32::from(kill(Path::new(&repository.access.url), source, delay).0);
            // A shared check beside the lock of the dead one; restic takes no offence at what is left behind.
            run(&mut repository.command(["check", "--read-data", "--no-lock"]));
            self.assert_newest_restores(&repository, "after the kill");
            go_on(&repository);
            self.assert_newest_restores(&repository, "after going on");
            check(&repository);
            fs::remove_dir_all(&repository.access.url).expect("remove");
        }
        assert!(killed > KILLS / 2, "only {killed} of {KILLS} were killed while they worked");
    }
}

#[test]
fn a_prune_is_killed() {
    let Some(story) = Story::begin() else { return };
    story.kill_and_go_on(None, |repository| {
        prune(&repository.access);
        assert_eq!(repository.snapshots().len(), 1);
    });
}

#[test]
fn a_backup_is_killed() {
    let Some(story) = Story::begin() else { return };
    for number in 0..8 {
        let content = Bytes(1000 + number).take(700_000);
        fs::write(story.source.join(format!("new {number}")), content).expect("write");
    }
    story.kill_and_go_on(Some(&story.source), |repository| {
        let next =
            back_up(&open_with(&repository.access, options()), &story.source, &BackupRequest::default());
        assert!(next.snapshot().is_some());
        // What the killed one left behind goes with the next prune.
        repository.run(["prune", "--max-unused", "unlimited"]);
    });
}
