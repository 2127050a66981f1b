//! The command under test: how it is found, what it is told, and what is read of its answers.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// One drill of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Drill {
    pub(crate) name: String,
    pub(crate) copy: String,
    /// `None` for untagged snapshots.
    pub(crate) tag: Option<String>,
}

impl Drill {
    /// The drill with this name, `copy::tag::which`, if the name tells.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut parts = name.split("::");
        let (copy, tag, _) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none();
        whole.then(|| Self { name: name.to_owned(), copy: copy.to_owned(), tag: Some(tag.to_owned()) })
    }
}

/// Every drill that firedrill would run for `config`.
pub(crate) fn plan(config: &Path) -> Result<Vec<Drill>> {
    let output = command()?
        .args(["restore-test", "--dry-run", "--json", "--config"])
        .arg(config)
        .output()
        .context("start firedrill")?;
    // 2 says that a copy could not be read. Its drills are planned all the same, and will say so.
    ensure!(matches!(output.status.code(), Some(0 | 2)), "firedrill could not plan: {}", told(&output));
    let plan: Value = serde_json::from_slice(&output.stdout).context("read the plan")?;
    let drills = plan["drills"].as_array().context("the plan has no drills")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    drills
        .iter()
        .map(|drill| {
            Ok(Drill {
                name: text(&drill["name"]).context("a drill has no name")?,
                copy: text(&drill["copy"]).context("a drill has no copy")?,
                tag: text(&drill["series"]["tag"]),
            })
        })
        .collect()
}

/// Runs one drill; fails unless firedrill judges it verified and says so with exit code 0.
pub(crate) fn verify(config: &Path, drill: &Drill, state: Option<&Path>) -> Result<()> {
    let (verdict, output) = run(config, drill, state)?;
    if verdict == "verified" && output.status.success() {
        return Ok(());
    }
    bail!("{} is {verdict}; firedrill ended with {}\n{}", drill.name, output.status, told(&output))
}

/// Runs one drill; returns its verdict and what firedrill said.
pub(crate) fn run(config: &Path, drill: &Drill, state: Option<&Path>) -> Result<(String, Output)> {
    let work = tempfile::tempdir()?;
    let json = work.path().join("judgement.json");
    let mut command = command()?;
    command.args(["restore-test", "--copy", &drill.copy]);
    if let Some(tag) = &drill.tag {
        command.args(["--tag", tag]);
    }
    if let Some(state) = state {
        command.arg("--state").arg(state);
    }
    command.arg("--json-file").arg(&json).arg("--config").arg(config);
    let output = command.output().context("start firedrill")?;
    // An exit code alone would let a command pass that did nothing.
    let judgement = std::fs::read(&json).with_context(|| {
        format!("firedrill left no judgement; it ended with {}\n{}", output.status, told(&output))
    })?;
    let judgement: Value = serde_json::from_slice(&judgement).context("read the judgement")?;
    let drills = judgement["drills"].as_array().context("the judgement has no drills")?;
    let judged = drills.iter().find(|judged| judged["name"].as_str() == Some(&drill.name));
    let verdict = judged.and_then(|judged| judged["verdict"].as_str());
    let verdict = verdict.with_context(|| format!("{} was not drilled\n{}", drill.name, told(&output)))?;
    Ok((verdict.to_owned(), output))
}

fn told(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn command() -> Result<Command> {
    Ok(Command::new(crate::binary::binary()?))
}
