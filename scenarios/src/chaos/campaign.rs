//! Faults, one after another, each struck at a copy of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use firedrill_core::clock::Clock;
use firedrill_core::judge::Judgement;
use firedrill_core::secret::Secret;
use firedrill_core::seed;
use firedrill_core::snapshot::Series;
use firedrill_core::verdict::Verdict;
use firedrill_core::watch::Watch;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::fault::Fault;
use super::score::Report;
use super::trial::{Judged, Outcome, Trial, alarm, judge, quiet};
use super::victim::{Victim, is_not_applicable};

/// After so many faults a copy is tested that nothing was done to.
const CONTROL_EVERY: usize = 10;

/// The restore test that is put to the test.
pub trait RestoreTest {
    /// Tests every tag of the repository in the folder `repository`, with what was learned in the folder `state`.
    fn run(&self, repository: &Path, state: &Path) -> Result<Judgement>;
}

/// What faults are struck at, and how it is told whether they were noticed.
pub struct Campaign<'a> {
    /// A copy of the repository that nothing is done to: copies of it are struck.
    pub base: &'a Path,
    /// A folder for these copies, on the same file system: they share all files that are not struck.
    pub work: &'a Path,
    /// The password of the repository.
    pub password: &'a Secret,
    /// The key of its canaries, if that is known.
    pub canary_key: Option<&'a Secret>,
    /// The restore test.
    pub test: &'a dyn RestoreTest,
    /// Tells the time that new snapshots claim.
    pub clock: &'a dyn Clock,
    /// Says stop.
    pub watch: &'a Watch,
}

impl Campaign<'_> {
    /// Strikes with each of `faults` so many times as there are `rounds`, and tells `see` of each trial.
    ///
    /// Fails when nothing was verified before: then nothing could show that a fault was noticed.
    pub fn run(
        &self,
        faults: &[&Fault],
        rounds: u64,
        seed: u64,
        see: &mut dyn FnMut(&Trial),
    ) -> Result<Report> {
        let state = self.work.join("state");
        let healthy = self.untouched(&state)?;
        let tags: BTreeSet<String> = healthy
            .drills
            .iter()
            .filter_map(|drill| match &drill.series {
                Series::Tag(tag) if drill.verdict == Verdict::Verified => Some(tag.clone()),
                _ => None,
            })
            .collect();
        let others = healthy.drills.iter().filter(|drill| drill.verdict != Verdict::Verified);
        let not_verified: Vec<_> =
            others.map(|drill| format!("{} ({})", alarm(drill), drill.verdict)).collect();
        ensure!(
            !tags.is_empty(),
            "no tag is verified before anything is broken, so that nothing can be shown: {}",
            not_verified.join("; ")
        );
        let mut report = Report::new(seed, rounds, tags.into_iter().collect(), not_verified);
        report.healthy(report.tags.len() as u64, Vec::new());
        // What was shown until something went wrong, or somebody said stop, is shown all the same.
        if let Err(error) = self.strike_all(faults, &state, &mut report, see) {
            report.trouble.push(format!("{error:#}"));
        }
        Ok(report)
    }

    fn strike_all(
        &self,
        faults: &[&Fault],
        state: &Path,
        report: &mut Report,
        see: &mut dyn FnMut(&Trial),
    ) -> Result<()> {
        let mut since = 0;
        for round in 0..report.rounds {
            for fault in faults {
                self.watch.check().map_err(super::victim::told)?;
                let seed = seed::child(report.seed, &format!("{} {round}", fault.name));
                let trial = self.trial(fault, seed, &report.tags, state);
                see(&trial);
                report.add(trial);
                since += 1;
                if since == CONTROL_EVERY {
                    since = 0;
                    self.control(state, report)?;
                }
            }
        }
        self.control(state, report)
    }

    /// Strikes with one fault.
    fn trial(&self, fault: &Fault, seed: u64, tags: &[String], state: &Path) -> Trial {
        let started = Instant::now();
        let mut trial = Trial {
            fault: fault.name.to_owned(),
            class: fault.class,
            seed,
            struck: None,
            outcome: Outcome::Missed,
            bystanders: 0,
            alarms: BTreeSet::new(),
            seconds: 0.0,
        };
        match self.strike(fault, seed, tags, state, &mut trial) {
            Ok(judged) => {
                trial.outcome = judged.outcome;
                trial.bystanders = judged.bystanders;
                trial.alarms = judged.alarms;
            }
            Err(error) if is_not_applicable(&error) => {
                trial.outcome = Outcome::NotApplicable { why: format!("{error:#}") };
            }
            Err(error) => trial.outcome = Outcome::Broken { why: format!("{error:#}") },
        }
        trial.seconds = started.elapsed().as_secs_f64();
        trial
    }

    fn strike(
        &self,
        fault: &Fault,
        seed: u64,
        tags: &[String],
        state: &Path,
        trial: &mut Trial,
    ) -> Result<Judged> {
        let place = Place::new(self.work, self.base, state)?;
        let victim = Victim {
            repository: &place.repository(),
            password: self.password,
            tags,
            canary_key: self.canary_key,
            now: self.clock.now(),
            scratch: &place.folder.path().join("staged"),
            watch: self.watch,
        };
        let struck = (fault.strike)(&victim, &mut StdRng::seed_from_u64(seed))?;
        let struck = trial.struck.insert(struck);
        let judgement = self.test.run(&place.repository(), &place.state())?;
        Ok(judge(fault, struck, tags, &judgement))
    }

    /// Tests a copy that nothing was done to, and keeps what was learned in `state`.
    fn untouched(&self, state: &Path) -> Result<Judgement> {
        fs::create_dir(state).with_context(|| format!("make {}", state.display()))?;
        let place = Place::new(self.work, self.base, state)?;
        self.test.run(&place.repository(), state)
    }

    /// Counts alarms where nothing was broken.
    fn control(&self, state: &Path, report: &mut Report) -> Result<()> {
        let place = Place::new(self.work, self.base, state)?;
        let judgement = self.test.run(&place.repository(), &place.state())?;
        let (judged, alarms) = quiet(&judgement, report.tags.iter());
        // A control that looked at less than all would make the rate of alarms look better than it is.
        if judged < report.tags.len() as u64 {
            report
                .trouble
                .push(format!("only {judged} of {} healthy tags could be judged", report.tags.len()));
        }
        let copies = judgement.copies.iter().filter(|copy| copy.verdict == Verdict::Failed);
        let copies = copies.map(|copy| format!("the copy {}", copy.name));
        let alarms = alarms.into_iter().chain(copies).map(|alarm| format!("healthy copy: {alarm}")).collect();
        report.healthy(judged, alarms);
        Ok(())
    }
}

/// Where one fault is struck: a copy of the repository and of what was learned, gone when this is dropped.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(work: &Path, base: &Path, state: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("copy-").tempdir_in(work)?;
        let place = Self { folder };
        // Files of a repository are replaced and never written to, so that copies can share them.
        link_all(base, &place.repository())?;
        copy_all(state, &place.state())?;
        fs::create_dir(place.folder.path().join("staged"))?;
        Ok(place)
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }
}

fn link_all(from: &Path, to: &Path) -> Result<()> {
    each(from, to, |from, to| fs::hard_link(from, to))
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    each(from, to, |from, to| fs::copy(from, to).map(drop))
}

fn each(from: &Path, to: &Path, put: impl Fn(&Path, &Path) -> std::io::Result<()>) -> Result<()> {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        fs::create_dir(to.join(&folder)).with_context(|| format!("make {}", to.join(&folder).display()))?;
        for entry in fs::read_dir(from.join(&folder)).with_context(|| format!("list {}", from.display()))? {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(name),
                kind if kind.is_file() => {
                    put(&from.join(&name), &to.join(&name))
                        .with_context(|| format!("copy {}", name.display()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
