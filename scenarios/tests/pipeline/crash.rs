//! `firedrill run`, killed at random moments: what was complete stays complete, and the next run goes on as if
//! nothing had been.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use firedrill_core::pipeline::job::Outcome;
use firedrill_core::pipeline::ledger::Ledger;
use firedrill_core::pipeline::spec::JobName;
use firedrill_core::pipeline::state::JobState;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::binary;
use crate::place::{Content, PASSWORD, Restic, change, cheap_repository, content, snapshot_files, workplace};

/// What is killed, by turns.
const JOBS: [&str; 6] = ["files", "retention", "mirror", "files", "check", "mirror"];
/// What the retention keeps of each series: enough that the mirror does not take its source for a broken one.
const KEEP: &str = "--keep-last=8";
/// Most of the kills must hit a run, and not its beginning or end.
const TRIES_FOR_EACH: usize = 4;

struct Place {
    folder: tempfile::TempDir,
    restic: Restic,
    mirror: Restic,
    chance: StdRng,
    /// What every snapshot restores to.
    known: BTreeMap<String, (PathBuf, Content)>,
    /// How long a run of each job takes at the moment.
    typical: BTreeMap<&'static str, Duration>,
}

/// What became of the kills.
#[derive(Debug, Default)]
struct Tally {
    killed: usize,
    /// Those in the middle of a run.
    died: BTreeMap<&'static str, usize>,
    /// Those that left a lock in the repository.
    locks_left: usize,
    /// Those that left one that keeps a restic out.
    exclusive_left: usize,
    /// Those that left a folder of work.
    work_left: usize,
    restored: usize,
}

impl Place {
    fn new(seed: u64) -> Option<Self> {
        let folder = workplace();
        let path = |name: &str| folder.path().join(name);
        cheap_repository(&path("repository"));
        let config = format!(
            r#"version: 1
copies:
  - {{name: local, repository: {repository}}}
  - {{name: offsite, role: mirror, repository: {mirror}}}
targets:
  - name: files
    tag: files
    host: files
    backup:
      capture:
        - files: {{paths: [{source}]}}
        - command: {{run: [cat, {source}/live.db], as: /backup/live.dump}}
jobs:
  - name: retention
    retention: {{copy: local, keep: {{last: 8}}, drop_max_ratio: 0.9}}
  - name: mirror
    mirror: {{from: local, to: offsite, delete: true}}
  - name: check
    check: {{copy: local, read_data_percent: 100}}
"#,
            repository = path("repository").display(),
            mirror = path("mirror").display(),
            source = path("source").display(),
        );
        std::fs::write(path("firedrill.yaml"), config).unwrap();
        let restic = Restic::need(path("repository").to_str().unwrap())?;
        let mirror = Restic::need(path("mirror").to_str().unwrap())?;
        let chance = StdRng::seed_from_u64(seed);
        Some(Self { folder, restic, mirror, chance, known: BTreeMap::new(), typical: BTreeMap::new() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::binary().unwrap());
        command.args(arguments).arg("--config").arg(self.path("firedrill.yaml"));
        command.arg("--state").arg(self.path("state")).env("RESTIC_PASSWORD", PASSWORD).stdin(Stdio::null());
        command
    }

    fn snapshots(&self) -> BTreeSet<String> {
        snapshot_files(&self.path("repository"))
    }

    /// The snapshots of the mirror, none before there is one.
    fn mirrored(&self) -> BTreeSet<String> {
        match self.path("mirror/snapshots").is_dir() {
            true => snapshot_files(&self.path("mirror")),
            false => BTreeSet::new(),
        }
    }

    fn locks(&self) -> usize {
        std::fs::read_dir(self.path("repository/locks")).unwrap().count()
    }

    fn work(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path("state/work")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn state(&self, job: &str) -> JobState {
        Ledger::open(&self.path("state")).unwrap().read(&JobName(job.to_owned())).unwrap()
    }

    fn change(&mut self, folder: &str, bytes: usize) -> PathBuf {
        let root = self.path(folder);
        change(&root, bytes, &mut self.chance);
        root
    }

    /// Remembers what snapshots that are new since `before` hold.
    fn learn(&mut self, before: &BTreeSet<String>, root: &Path) -> usize {
        let after = self.snapshots();
        let new: Vec<_> = after.difference(before).collect();
        for id in &new {
            self.known.insert((*id).clone(), (root.to_owned(), content(root)));
        }
        new.len()
    }

    /// Runs `job` to its end, which is a success.
    fn succeeds(&mut self, job: &'static str, after: &str) {
        let before = self.snapshots();
        let started = Instant::now();
        let output = self.command(&["run", job]).output().unwrap();
        self.typical.insert(job, started.elapsed());
        assert!(output.status.success(), "{job} after {after}: {}", told(&output));
        let new = self.learn(&before, &self.path("source"));
        assert_eq!(new, usize::from(job == "files"), "{job} after {after} made {new} snapshots");
        if job == "mirror" {
            assert_eq!(self.mirrored(), self.snapshots(), "{job} after {after}");
        }
        assert_eq!(self.locks(), 0, "{job} after {after} left a lock");
        assert_eq!(
            self.work(),
            Vec::<PathBuf>::new(),
            "{job} after {after} left its work, or that of a dead run"
        );
        let state = self.state(job);
        assert_eq!(state.last().map(|run| run.outcome), Some(Outcome::Succeeded));
        assert_eq!((state.failures, state.running), (0, None));
    }

    /// Kills `job` at some moment, and looks at what that leaves.
    fn kill(&mut self, job: &'static str, tally: &mut Tally) {
        if job == "files" {
            let bytes = self.chance.random_range(10_000..3_000_000);
            self.change("source", bytes);
        }
        let before = self.snapshots();
        // What the rules would drop may be gone afterwards; nothing else may.
        let must = match job {
            "retention" => self.restic.would_forget(&[KEEP.to_owned()], "UTC").keep,
            _ => before.clone(),
        };
        let must_mirrored: BTreeSet<_> = self.mirrored().intersection(&must).cloned().collect();
        let moment = self.typical[job].mul_f64(self.chance.random_range(0.02..1.05));
        let mut run =
            self.command(&["run", job]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        let _ = run.kill();
        let killed = run.wait().unwrap().signal() == Some(9);
        tally.killed += usize::from(killed);

        let told = format!("{job}, killed after {moment:?}");
        let after = self.snapshots();
        assert!(must.is_subset(&after), "{told}: a snapshot is gone that nobody meant to drop");
        assert!(must_mirrored.is_subset(&self.mirrored()), "{told}: the mirror lost a snapshot");
        assert!(job == "files" || after.is_subset(&before), "{told}: there is a new snapshot");
        assert!(self.learn(&before, &self.path("source")) <= 1, "{told}: more than one snapshot");
        let dead = self.state(job).running.is_some();
        if dead {
            *tally.died.entry(job).or_default() += 1;
        }
        tally.locks_left += usize::from(self.locks() > 0);
        tally.work_left += usize::from(!self.work().is_empty());
        self.is_told(job, dead, &told);
        self.restic_goes_on(job, tally, &told);
        self.restores(&self.restic.clone(), &must, tally, &told);
        if job == "mirror" {
            self.restores(&self.mirror.clone(), &must_mirrored, tally, &format!("{told}: mirror"));
        }
        self.succeeds(job, &told);
        if tally.killed.is_multiple_of(8) {
            self.restic.check(true);
            self.mirror.check(true);
        }
        let before_last = self.state(job).runs.iter().rev().nth(1).map(|run| run.outcome);
        assert_eq!(before_last == Some(Outcome::Died), dead, "{told}: nobody reported that");
    }

    /// `firedrill jobs` says that the run died, before any other run does.
    fn is_told(&self, job: &str, dead: bool, told: &str) {
        let output = self.command(&["jobs", "--json"]).output().unwrap();
        let jobs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let ours = jobs.as_array().unwrap().iter().find(|one| one["job"] == job).unwrap();
        assert_eq!(ours["dead"], dead, "{told}: {ours}");
        let table = self.command(&["jobs"]).output().unwrap();
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        assert_eq!(table.contains("died in the run since"), dead, "{told}:\n{table}");
        assert!(!table.contains("running since"), "{told}:\n{table}");
        assert_eq!(output.status.success(), !dead, "{told}: the exit code");
    }

    /// A real restic backs up right after the kill. It does not take an exclusive lock away whose process is dead:
    /// its users know `restic unlock` for that, which must find the lock stale.
    fn restic_goes_on(&mut self, job: &str, tally: &mut Tally, told: &str) {
        let root = self.change("other", 5_000);
        let before = self.snapshots();
        let backup = ["backup", "--quiet", "--host", "other", "--tag", "other", root.to_str().unwrap()];
        let output = self.restic.output(backup);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(job == "retention" && said.contains("already locked exclusively"), "{told}: {said}");
            tally.exclusive_left += 1;
            self.restic.run(&["unlock"]);
            self.restic.run(&backup);
        }
        assert_eq!(self.learn(&before, &root), 1, "{told}");
    }

    /// Two of the snapshots that must be there, at times all of them, restore to what they were made of.
    fn restores(&mut self, restic: &Restic, must: &BTreeSet<String>, tally: &mut Tally, told: &str) {
        let mut some: Vec<_> = must.iter().collect();
        while some.len() > 2 && !tally.killed.is_multiple_of(8) {
            some.swap_remove(self.chance.random_range(0..some.len()));
        }
        for id in some {
            let (root, content) = &self.known[id];
            let restored = restic.restored(id, root).unwrap_or_else(|why| panic!("{told}: {id}: {why}"));
            assert!(restored == *content, "{told}: {id} restores to something else");
            tally.restored += 1;
        }
    }
}

fn told(output: &Output) -> String {
    format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn kill_everything(seed: u64, moments: usize) {
    let Some(mut place) = Place::new(seed) else { return };
    eprintln!("seed {seed}");
    place.change("source", 2_000_000);
    place.change("source", 2_000_000);
    for job in JOBS {
        place.succeeds(job, "nothing");
    }
    let mut tally = Tally::default();
    for round in 0..moments * TRIES_FOR_EACH {
        if tally.killed == moments {
            break;
        }
        place.kill(JOBS[round % JOBS.len()], &mut tally);
    }
    place.succeeds("retention", "everything");
    place.succeeds("check", "everything");
    place.succeeds("mirror", "everything");
    for restic in [&place.restic, &place.mirror] {
        restic.check(true);
        for id in place.snapshots() {
            let (root, content) = &place.known[&id];
            assert!(restic.restored(&id, root).unwrap() == *content, "{id} restores to something else");
        }
    }
    eprintln!("{tally:?}");
    assert_eq!(tally.killed, moments, "too few were killed: proves little");
    for job in JOBS {
        let died = tally.died.get(job).copied().unwrap_or_default();
        assert!(died >= moments / 16, "{died} of {job} died in a run: proves little");
    }
    assert!(tally.locks_left > 0 && tally.work_left > 0, "{tally:?}: proves little");
}

#[test]
fn a_killed_run_harms_nothing_and_stands_in_no_way() {
    kill_everything(1, 40);
}

#[test]
#[ignore = "takes ten minutes or more"]
fn soak_two_hundred_killed_runs_harm_nothing() {
    kill_everything(2, 200);
}
