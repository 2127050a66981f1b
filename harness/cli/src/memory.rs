//! `firedrill accept` and `firedrill baselines`.

use std::path::{Path, PathBuf};

use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::evidence;
use firedrill_core::memory::{self, Baseline, Memory};
use firedrill_core::plan::DrillName;
use firedrill_core::verdict::Exit;

use crate::args::{AcceptArgs, BaselinesArgs};
use crate::state;

pub(crate) fn accept(args: &AcceptArgs) -> Result<Exit> {
    let evidence = evidence::read(&args.run)?;
    let folder = match args.state.clone().or_else(|| state_of(&args.run)) {
        Some(folder) => folder,
        None => {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("find the state folder of {}", args.run.display()),
            )
            .because("the run does not lie in one")
            .advise("name it with --state"));
        }
    };
    let baseline =
        memory::accept(&evidence, &DrillName(args.drill.clone()), &args.reason, SystemClock.now())?;
    Memory::open(&folder)?.put(&baseline)?;
    crate::print(&format!(
        "accepted: the next drill of {} in {} is compared with snapshot {}\n",
        baseline.series,
        baseline.copy,
        baseline.snapshot.short()
    ));
    Ok(Exit::Verified)
}

/// The state folder that a run lies in: `STATE/runs/RUN`.
fn state_of(run: &Path) -> Option<PathBuf> {
    let run = run.canonicalize().ok()?;
    let folder = if run.is_dir() { run.as_path() } else { run.parent()? };
    let runs = folder.parent()?;
    (runs.file_name()? == "runs").then(|| runs.parent().map(Path::to_owned))?
}

pub(crate) fn baselines(args: &BaselinesArgs) -> Result<Exit> {
    let memory = Memory::open(&state::folder(args.state.as_deref(), None))?;
    let mut known = Vec::new();
    for entry in memory.list()? {
        match entry {
            Ok(baseline) => known.push(baseline),
            Err(error) => crate::complain(&error),
        }
    }
    if let Some(copy) = &args.drop_copy {
        return drop_baselines(&memory, &known, copy, args.tag.as_deref());
    }
    if args.json {
        let text = serde_json::to_string_pretty(&known)
            .map_err(|e| Error::new(ErrorKind::Internal, "print the baselines").from_source(&e))?;
        crate::print(&format!("{text}\n"));
        return Ok(Exit::Verified);
    }
    for baseline in &known {
        let accepted =
            baseline.accepted.as_ref().map(|a| format!(", accepted: {}", a.reason)).unwrap_or_default();
        crate::print(&format!(
            "{}::{} snapshot {} of {}, run {}{accepted}\n",
            baseline.copy,
            baseline.series,
            baseline.snapshot.short(),
            baseline.snapshot_time,
            baseline.run
        ));
    }
    crate::print(&format!("{} baselines\n", known.len()));
    Ok(Exit::Verified)
}

fn drop_baselines(memory: &Memory, known: &[Baseline], copy: &str, tag: Option<&str>) -> Result<Exit> {
    let mut dropped = 0;
    for baseline in known {
        let wanted = baseline.copy.0 == copy && tag.is_none_or(|tag| baseline.series.to_string() == tag);
        if wanted && memory.remove(&baseline.copy, &baseline.series)? {
            dropped += 1;
        }
    }
    crate::print(&format!("{dropped} baselines dropped\n"));
    if dropped == 0 {
        return Err(Error::new(ErrorKind::Usage, "drop baselines").because("there is none like that"));
    }
    Ok(Exit::Verified)
}
