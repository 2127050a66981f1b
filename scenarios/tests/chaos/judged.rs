//! The judgement of a campaign itself: restore tests that see nothing, see something else, or see nothing at all, and
//! backups that lead elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::judge::Judgement;
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use firedrill_scenarios::chaos::{Campaign, FAULTS, Fault, Outcome, Report, RestoreTest, named};
use firedrill_scenarios::fleet::{Job, TestRepository, copy_repository};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{binary, fixture};

/// A restore test that says the same of every copy but the first, which is the one that nothing was done to.
struct Stubborn {
    first: Value,
    then: Value,
    asked: std::sync::atomic::AtomicBool,
}

impl RestoreTest for Stubborn {
    fn run(&self, _: &Path, _: &Path) -> Result<Judgement> {
        let asked = self.asked.swap(true, std::sync::atomic::Ordering::SeqCst);
        Ok(serde_json::from_value(if asked { self.then.clone() } else { self.first.clone() })?)
    }
}

/// What the command says of the repository.
fn judgement(repository: &Path) -> Result<Value> {
    let work = tempfile::tempdir()?;
    let json = work.path().join("judgement.json");
    let output = Command::new(binary::binary()?)
        .arg("restore-test")
        .arg("--config")
        .arg(fixture::config(work.path(), repository)?)
        .arg("--state")
        .arg(work.path().join("state"))
        .arg("--json-file")
        .arg(&json)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(serde_json::from_slice(&fs::read(json).context(said)?)?)
}

fn campaign(repository: &Path, first: &Value, then: Value, faults: &[&Fault]) -> Result<Report> {
    let work = tempfile::tempdir()?;
    let base = work.path().join("base");
    copy_repository(repository, &base)?;
    let password = Secret::new(fixture::PASSWORD);
    let test = Stubborn { first: first.clone(), then, asked: false.into() };
    let campaign = Campaign {
        base: &base,
        work: work.path(),
        password: &password,
        canary_key: None,
        test: &test,
        clock: &SystemClock,
        watch: &Watch::unlimited(),
    };
    campaign.run(faults, 1, 5, &mut |_| {})
}

/// Green whatever happens is missed; red for no reason is luck; no verdict proves nothing.
pub(crate) fn notices_nothing() -> Result<()> {
    let fleet = fixture::fleet()?;
    let repository = fleet.root.join("repository");
    let healthy = judgement(&repository)?;
    let faults: Vec<_> = FAULTS.iter().collect();
    let all_drills = |change: &dyn Fn(&mut Value)| {
        let mut changed = healthy.clone();
        changed["drills"].as_array_mut().into_iter().flatten().for_each(change);
        changed
    };

    let blind = campaign(&repository, &healthy, healthy.clone(), &faults)?;
    let struck = blind.trials.iter().filter(|trial| trial.struck.is_some()).count();
    ensure!(struck > 40 && blind.survivors().count() == struck, "{:?}", blind.score);
    ensure!(blind.trials.iter().all(|trial| trial.struck.is_none() || trial.outcome == Outcome::Missed));
    ensure!(
        blind.alarms.alarms.is_empty() && blind.trouble.is_empty(),
        "{:?} {:?}",
        blind.alarms,
        blind.trouble
    );

    let some = &faults[..3];
    let red = all_drills(&|drill| {
        drill["verdict"] = json!("failed");
        drill["findings"] =
            json!([{"code": "tree.extra", "class": "damage", "location": "x", "expected": "", "seen": ""}]);
    });
    let lucky = campaign(&repository, &healthy, red, some)?;
    ensure!(lucky.score.lucky > 0 && lucky.score.detected == 0, "{:?}", lucky.score);
    ensure!(!lucky.alarms.alarms.is_empty(), "who is red whatever happens raises alarms for nothing");

    let unclear = all_drills(&|drill| drill["verdict"] = json!("inconclusive"));
    let unclear = campaign(&repository, &healthy, unclear, some)?;
    ensure!(unclear.score.broken == 3 && unclear.score.injected == 0, "{:?}", unclear.score);
    ensure!(unclear.alarms.drills == unclear.tags.len() as u64, "what was not judged is not quiet either");
    ensure!(!unclear.trouble.is_empty(), "a control that judged nothing says so");
    Ok(())
}

/// A backed-up path that is a link to a folder of this machine, and one below such a link.
pub(crate) fn stays_in_scratch() -> Result<()> {
    let work = tempfile::tempdir()?;
    let outside = work.path().join("outside");
    fs::create_dir_all(outside.join("below"))?;
    for name in ["kept", "below/kept", "below/other"] {
        fs::write(outside.join(name), "not ours")?;
    }
    let root = work.path().join("root");
    fs::create_dir_all(root.join("data/app"))?;
    for number in 0..40 {
        fs::write(root.join(format!("data/app/{number}.txt")), number.to_string().repeat(50))?;
    }
    std::os::unix::fs::symlink(&outside, root.join("data/link"))?;
    let before = fixture::digests(&outside)?;
    let password = Secret::new(fixture::PASSWORD);
    let now = SystemClock.now();
    for (number, paths) in
        [["/data/app", "/data/link"], ["/data/app", "/data/link/below"], ["/data", "/data/app"]]
            .iter()
            .enumerate()
    {
        let repository = TestRepository::init(&work.path().join(format!("repository-{number}")), &password)?;
        for age in [30, 20] {
            repository.snapshot(&Job {
                root: &root,
                paths,
                excludes: &[],
                tags: &["app"],
                host: "app",
                time: now.checked_sub(SignedDuration::from_hours(age))?,
            })?;
        }
        let names =
            ["volume-empty", "volume-fresh", "mass-deletion", "ransomware", "path-is-link", "nested-mount"];
        let faults: Vec<_> = names.into_iter().filter_map(named).collect();
        ensure!(faults.len() == names.len(), "a fault has another name");
        let mut healthy = judgement(repository.path())?;
        // The targets of the fleet are not in here.
        for drill in healthy["drills"].as_array_mut().into_iter().flatten() {
            let ours = drill["series"]["tag"] == "app";
            drill["verdict"] = json!(if ours { "verified" } else { "inconclusive" });
        }
        let report = campaign(repository.path(), &healthy, healthy.clone(), &faults)?;
        ensure!(fixture::digests(&outside)? == before, "{paths:?}: something outside of scratch was changed");
        ensure!(report.score.broken == 0, "{paths:?}: {:#?}", report.trials);
        // What can be staged safely is struck.
        let struck = report.trials.iter().filter(|trial| trial.struck.is_some()).count();
        ensure!((struck > 0) == (number == 2), "{paths:?}: {:#?}", report.trials);
    }
    Ok(())
}
