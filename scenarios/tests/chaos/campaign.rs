//! Campaigns by the command, and what their reports have to say.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use firedrill_core::secret::Secret;
use firedrill_scenarios::chaos::{Class, Fault, Outcome, Report};
use firedrill_scenarios::damage;
use firedrill_scenarios::fleet::TestRepository;

use crate::shared::Shared;
use crate::{binary, fixture};

const SEED: &str = "7";

/// What the campaign of the class showed: it is run once for all trials of the class.
fn report(class: Class) -> Result<Report> {
    let shared = Shared::get(&format!("chaos-{class}"), |folder, _| {
        let fleet = fixture::fleet()?;
        let repository = fleet.root.join("repository");
        let before = fixture::digests(&repository)?;
        let output = chaos(&repository, folder, &["--class", class.as_str(), "--seed", SEED])?;
        ensure!(folder.join("chaos.json").is_file(), "no report: {}", told(&output));
        ensure!(fixture::digests(&repository)? == before, "the backups themselves were changed");
        let left: Vec<_> = std::fs::read_dir(folder.join("scratch"))?.collect();
        ensure!(left.is_empty(), "left in scratch: {left:?}");
        Ok(())
    })?;
    let report = std::fs::read(shared.root.join("chaos.json"))?;
    Ok(serde_json::from_slice(&report)?)
}

fn chaos(repository: &Path, work: &Path, arguments: &[&str]) -> Result<Output> {
    let config = fixture::config(work, repository)?;
    let output = Command::new(binary::binary()?)
        .arg("chaos")
        .args(arguments)
        .arg("--config")
        .arg(config)
        .arg("--json-file")
        .arg(work.join("chaos.json"))
        .output()?;
    let said = told(&output);
    ensure!(!said.contains(fixture::PASSWORD), "it tells the password");
    Ok(output)
}

fn told(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

/// The fault takes effect, and is detected and explained.
pub(crate) fn detects(fault: &Fault) -> Result<()> {
    let report = report(fault.class)?;
    let trial = report.trials.iter().find(|trial| trial.fault == fault.name).context("it was not struck")?;
    ensure!(matches!(trial.outcome, Outcome::Detected { .. }), "{trial:#?}");
    let struck = trial.struck.as_ref().context("nobody says what was done")?;
    ensure!(!struck.what.is_empty(), "nobody says what was done");
    Ok(())
}

/// Nothing healthy failed, the score is right, and every tag was looked at.
pub(crate) fn is_quiet(class: Class) -> Result<()> {
    let report = report(class)?;
    ensure!(report.alarms.alarms.is_empty(), "{:#?}", report.alarms);
    ensure!(report.not_verified.is_empty() && report.tags.len() == 8, "{:?}", report.not_verified);
    ensure!(report.alarms.drills >= 2 * 8 && report.alarms.rate_max < 0.2, "{:?}", report.alarms);
    let injected = report.trials.iter().filter(|trial| trial.struck.is_some()).count() as u64;
    ensure!(injected > 0 && report.score.injected == injected, "{:?}", report.score);
    Ok(())
}

/// The same seed does the same; another one does something else.
pub(crate) fn repeats() -> Result<()> {
    let fleet = fixture::fleet()?;
    let struck = |seed: &str| -> Result<Vec<_>> {
        let work = tempfile::tempdir()?;
        let arguments = ["--fault", "data-bit", "--fault", "source-bit-rot", "--seed", seed];
        let output = chaos(&fleet.root.join("repository"), work.path(), &arguments)?;
        let report = std::fs::read(work.path().join("chaos.json")).with_context(|| told(&output))?;
        let report: Report = serde_json::from_slice(&report)?;
        Ok(report.trials.into_iter().map(|trial| (trial.fault, trial.seed, trial.struck)).collect())
    };
    let first = struck("1")?;
    ensure!(first.len() == 2 && first.iter().all(|(_, _, struck)| struck.is_some()), "{first:?}");
    ensure!(struck("1")? == first, "the same seed struck otherwise");
    ensure!(struck("2")? != first, "another seed struck the same");
    Ok(())
}

/// Where nothing was verified before, no red shows that anything was noticed.
pub(crate) fn needs_something_healthy() -> Result<()> {
    let fleet = fixture::fleet()?;
    let work = tempfile::tempdir()?;
    let password = Secret::new(fixture::PASSWORD);
    let empty = TestRepository::init(&work.path().join("empty"), &password)?;
    let whole = TestRepository::open(&fleet.root.join("repository"), &password)?;
    let broken = whole.copy_to(&work.path().join("broken"))?;
    let _damage = damage::named("keys-deleted")?.apply(broken.path(), fixture::PASSWORD, 1)?;
    for (repository, why) in [
        (empty, "no tag is verified before anything is broken"),
        (broken, "it has no keys: nobody can open it"),
    ] {
        let work = tempfile::tempdir()?;
        let output = chaos(repository.path(), work.path(), &["--fault", "data-bit", "--seed", SEED])?;
        ensure!(output.status.code() == Some(2) && told(&output).contains(why), "{}", told(&output));
        ensure!(!work.path().join("chaos.json").exists(), "there is a report all the same");
    }
    Ok(())
}
