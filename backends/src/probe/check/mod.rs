//! Checks of a person's own: programs that look at a copy of the restored data in a sealed cell.
//!
//! The contract is in `harness/docs/custom-probes.md`.
//!
//! *Verified*
//! - What each check of the config says it verified, by counting what it checked.
//! - That the data which a check asks for is in the snapshot.
//!
//! *Not verified*
//! - Whether a check is right: one that counts and does not look is green.
//! - Anything, when a check ends without the words and the exit code of the contract: then the drill is
//!   inconclusive.

mod said;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::time::Instant;

use firedrill_core::cell::{Cell, Kit, Pipes, Program, inside};
use firedrill_core::config::trials::CheckConfig;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::event::Phase;
use firedrill_core::finding::{Examination, Finding, RecoveryBasis, RecoveryPoint};
use firedrill_core::plan::CHECK_PROBE;
use firedrill_core::ports::Probe;
use firedrill_core::snapshot::Series;
use firedrill_core::subject::Subject;
use sha2::{Digest as _, Sha256};

use self::said::Said;
use super::bringing::{bring, meant, outermost};
use super::engine::session::Session;

/// Where the copy of the restored data is.
const DATA: &str = "data";
/// Where the files of the check are, and where it runs if there are any.
const FILES: &str = "check";
/// Where it finds what it left behind in the last verified drill.
const BASELINE: &str = "baseline.json";
/// A file of a check is at most this large.
const FILE_MAX: u64 = 64 << 20;

/// Runs the checks of the config.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckProbe;

impl Probe for CheckProbe {
    fn name(&self) -> &'static str {
        CHECK_PROBE
    }

    fn recognises(&self, subject: &Subject) -> bool {
        !subject.drill.trials.checks.is_empty()
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut session = Session::new(subject, CHECK_PROBE, "items");
        let mut units = BTreeSet::new();
        for check in &subject.drill.trials.checks {
            if let Some(unit) = examine_one(&mut session, check) {
                units.insert(unit);
            }
        }
        // Different things cannot be counted together under one name.
        if let (1, Some(unit)) = (units.len(), units.pop_first()) {
            session.examination.unit = unit;
        }
        session.finish()
    }
}

/// Runs one check, and returns what it counted.
fn examine_one(session: &mut Session<'_>, check: &CheckConfig) -> Option<String> {
    let subject = session.subject;
    let mut data = Vec::new();
    for path in &check.data {
        let found = meant(subject, path);
        if found.is_empty() {
            session.find(Finding::damage(
                &format!("check.{}.data", check.name),
                path,
                format!("what the check `{}` looks at", check.name),
                "no such file or folder in the snapshot",
            ));
        }
        data.extend(found);
    }
    if data.is_empty() && !check.data.is_empty() {
        return None;
    }
    let start = Instant::now();
    let said = run(session, check, &outermost(data));
    // No recovery waits for it.
    session.spent(Phase::Verify, start.elapsed());
    match said {
        Ok(said) => take(session, check, said),
        Err(error) => {
            session.examination.interrupt(format!("the check `{}`: {}", check.name, error.chain()));
            None
        }
    }
}

fn run(session: &mut Session<'_>, check: &CheckConfig, data: &[Vec<u8>]) -> Result<Said> {
    let subject = session.subject;
    let Some((program, arguments)) = check.command.split_first() else {
        return Err(Error::new(ErrorKind::Usage, "run it").because("its command is empty"));
    };
    let kit =
        Kit { name: check.kit().to_owned(), at_least: None, at_most: None, programs: vec![program.clone()] };
    let cell = session.cell(&[kit], &[])?;
    bring_data(subject, cell.as_ref(), data)?;
    for file in &check.files {
        let note = bring_file(cell.as_ref(), file)?;
        session.note(format!("the check `{}` used {note}", check.name));
    }
    let mut program = Program::new(program, arguments);
    program.environment = environment(subject);
    if let Some(baseline) = baseline(subject, &check.name) {
        cell.bring(&mut baseline.as_bytes(), &inside(BASELINE))?;
        program = program.env("FIREDRILL_BASELINE", inside(BASELINE));
    }
    program.environment.extend(check.environment.clone());
    if !check.files.is_empty() {
        program.folder = inside(FILES);
    }
    program.limit = check.timeout.map(|timeout| timeout.0);
    let ended = cell.run(&program, Pipes::default())?;
    // What it said counts; a cell that does not go away will be swept.
    if let Err(error) = cell.close() {
        session.note(error.chain());
    }
    Ok(said::understand(&check.name, &ended))
}

/// Everything, or what was asked for, at the paths of the snapshot.
fn bring_data(subject: &Subject, cell: &dyn Cell, data: &[Vec<u8>]) -> Result<()> {
    if data.is_empty() {
        return cell.bring_tree(&subject.root, &inside(DATA));
    }
    for path in data {
        let name = std::str::from_utf8(path).map_err(|e| {
            Error::new(ErrorKind::Unavailable, "name what the check looks at").from_source(&e)
        })?;
        bring(subject, cell, path, &format!("{}/{name}", inside(DATA)))?;
    }
    Ok(())
}

/// Brings a file of this machine in, and says which one it was.
fn bring_file(cell: &dyn Cell, path: &std::path::Path) -> Result<String> {
    let failed = |e: &dyn std::error::Error| {
        Error::new(ErrorKind::Usage, format!("read {}, which the check needs", path.display())).from_source(e)
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let mut content = Vec::new();
    let file = File::open(path).map_err(|e| failed(&e))?;
    file.take(FILE_MAX + 1).read_to_end(&mut content).map_err(|e| failed(&e))?;
    if content.len() as u64 > FILE_MAX {
        return Err(failed(&std::io::Error::other(format!("it is larger than {FILE_MAX} bytes"))));
    }
    cell.bring(&mut content.as_slice(), &format!("{}/{name}", inside(FILES)))?;
    Ok(format!("{name}, SHA-256 {}", hex::encode(Sha256::digest(&content))))
}

fn environment(subject: &Subject) -> std::collections::BTreeMap<String, String> {
    let drill = &subject.drill;
    let tag = match &drill.series {
        Series::Tag(tag) => tag.clone(),
        Series::Untagged { .. } | Series::Group(_) => String::new(),
    };
    [
        ("DATA", inside(DATA)),
        ("TAG", tag),
        ("TARGET", drill.target.clone().unwrap_or_default()),
        ("COPY", drill.copy.to_string()),
        ("HOST", subject.snapshot.host.clone()),
        ("SNAPSHOT", subject.snapshot.id.to_string()),
        ("SNAPSHOT_TIME", subject.snapshot.time.to_string()),
        ("AT", subject.at.to_string()),
        ("SEED", drill.seed.to_string()),
    ]
    .into_iter()
    // A name with a zero byte in it cannot be said to a program.
    .map(|(name, value)| (format!("FIREDRILL_{name}"), value.replace('\0', "")))
    .collect()
}

/// What the check left behind in the last verified drill.
fn baseline(subject: &Subject, check: &str) -> Option<String> {
    let probes = &subject.history.baseline.as_ref()?.probes;
    probes.get(CHECK_PROBE)?.get(check).map(ToString::to_string)
}

/// Takes over what a check said, and returns what it counted.
fn take(session: &mut Session<'_>, check: &CheckConfig, said: Said) -> Option<String> {
    let (subject, name) = (session.subject, &check.name);
    let examination = &mut session.examination;
    for finding in said.findings {
        examination.find(finding);
    }
    let told = |text: String| format!("{name}: {text}");
    examination.notes.extend(said.notes.into_iter().map(told));
    examination.not_verified.extend(said.not_verified.into_iter().map(told));
    if let Some(why) = said.broken {
        examination.interrupt(format!("the check `{name}`: {why}"));
        return None;
    }
    let checked = said.checked.unwrap_or(0);
    // Another check must not make up for one that looked at nothing.
    if checked == 0 {
        examination.interrupt(format!("the check `{name}` examined nothing"));
        return None;
    }
    if let Some(least) = check.checked_min.filter(|least| checked < *least) {
        examination.find(Finding::anomaly(
            &format!("check.{name}.few"),
            name,
            format!("at least {least} {}", check.unit.as_deref().unwrap_or("items")),
            checked.to_string(),
        ));
    }
    examination.checked = examination.checked.saturating_add(checked);
    if let Some(baseline) = said.baseline {
        examination.baseline.insert(name.clone(), baseline);
    }
    match said.newest {
        Some(time) if time > subject.at => examination
            .not_verified
            .push(format!("{name}: the recovery point: the newest data is dated {time}, in the future")),
        Some(time) => {
            let earlier = examination.recovery_point.take().filter(|point| point.time < time);
            let point = RecoveryPoint { time, basis: RecoveryBasis::Data };
            examination.recovery_point = Some(earlier.unwrap_or(point));
        }
        None => {}
    }
    said.unit.or_else(|| check.unit.clone()).or_else(|| Some("items".to_owned()))
}
