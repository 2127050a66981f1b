//! The command when it is stopped or killed in the middle of a run.
#![cfg(test)]

#[path = "support/binary.rs"]
mod binary;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use firedrill_core::secret::Secret;
use firedrill_core::seed;
use firedrill_scenarios::fleet::{Fleet, Scale, TestRepository};
use rustix::process::{Pid, Signal, kill_process};

const PASSWORD: &str = "crash-fixture";

/// A repository, and places for runs that are stopped.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let password = Secret::new(PASSWORD);
        let start = "2026-03-01T03:00:00Z".parse().unwrap();
        let fleet = Fleet::create(&folder.path().join("fleet"), Scale::Small, 3, start, &password).unwrap();
        let repository = TestRepository::init(&folder.path().join("repository"), &password).unwrap();
        fleet.back_up_all(&repository).unwrap();
        Self(folder)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn start(&self, state: &str) -> Child {
        Command::new(binary::binary().unwrap())
            .args(["restore-test", "--at", "2026-03-01T05:00:00Z", "--seed", "1", "--repository"])
            .arg(self.folder("repository"))
            .arg("--state")
            .arg(self.folder(state))
            .arg("--scratch")
            .arg(self.folder("scratch"))
            .env("RESTIC_PASSWORD", PASSWORD)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn firedrill(&self, arguments: &[&str], path: &Path) -> Output {
        Command::new(binary::binary().unwrap()).args(arguments).arg(path).output().unwrap()
    }

    /// What is left in scratch.
    fn leases(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder("scratch")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    /// The exit code of judging the one run in `state`; `None` when it has not begun.
    fn judged(&self, state: &str) -> Option<i32> {
        let run = std::fs::read_dir(self.folder(state).join("runs")).ok()?.next()?.unwrap().path();
        self.firedrill(&["judge"], &run).status.code()
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // It may have ended by itself just now.
    let _ = kill_process(pid, signal);
}

/// The run has made its first lease.
fn wait_for_a_lease(place: &Place) {
    let started = Instant::now();
    while place.leases().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "no lease was made");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_that_is_stopped_cleans_up_and_says_so() {
    let place = Place::new();
    for (state, signal) in [("interrupted", Signal::INT), ("terminated", Signal::TERM)] {
        let mut run = place.start(state);
        wait_for_a_lease(&place);
        send(&run, signal);
        let asked = Instant::now();
        assert_eq!(run.wait().unwrap().code(), Some(2), "{state}");
        assert!(asked.elapsed() < Duration::from_secs(30), "{state}");
        assert_eq!(place.leases(), Vec::<String>::new(), "{state}");
        assert_eq!(place.judged(state), Some(2), "{state}");
    }
}

#[test]
fn sweep_removes_what_a_killed_run_leaves_and_nothing_else() {
    let place = Place::new();
    let scratch = place.folder("scratch");
    let (mut killed, mut left_something) = (0, 0);
    for round in 0..8 {
        let state = format!("killed-{round}");
        let mut run = place.start(&state);
        if round == 0 {
            wait_for_a_lease(&place);
            // What is in use stays.
            let swept = place.firedrill(&["sweep", "--scratch"], &scratch);
            assert!(swept.status.success());
            assert!(
                !String::from_utf8_lossy(&swept.stdout).contains("removed: "),
                "a lease in use was removed"
            );
        } else {
            std::thread::sleep(Duration::from_millis(20 + seed::child(7, &state) % 1200));
        }
        send(&run, Signal::KILL);
        killed += i32::from(run.wait().unwrap().code().is_none());
        left_something += i32::from(!place.leases().is_empty());
        // A lease whose owner died while it made it is left alone for a minute, and holds nothing.
        assert!(place.firedrill(&["sweep", "--scratch"], &scratch).status.success());
        for lease in place.leases() {
            let label = scratch.join(&lease).join("label.json");
            assert!(
                std::fs::metadata(label).is_ok_and(|l| l.len() == 0)
                    || !scratch.join(&lease).join("data").exists()
            );
        }
        if let Some(code) = place.judged(&state) {
            assert!(matches!(code, 0 | 2 | 64), "killed in round {round}, judged {code}");
        }
    }
    assert!(
        killed > 0 && left_something > 0,
        "{killed} killed, {left_something} left something: proves nothing"
    );
}
