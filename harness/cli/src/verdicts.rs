//! `firedrill judge` and `firedrill report`: old evidence, judged and shown again.

use std::path::Path;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::evidence;
use firedrill_core::judge::{self, Judgement};
use firedrill_core::verdict::Exit;

use crate::args::{ReportArgs, RunArgs, SinkArgs};
use crate::sinks::Sinks;

pub(crate) fn judge(args: &RunArgs) -> Result<Exit> {
    let judgement = judged(&args.run)?;
    let options = SinkArgs { json: args.json, ..SinkArgs::default() };
    let mut sinks = Sinks::new(&options, None)?;
    sinks.preflight()?;
    Ok(sinks.finish(&judgement))
}

pub(crate) fn report(args: &ReportArgs) -> Result<Exit> {
    let judgement = judged(&args.run)?;
    let mut sinks = Sinks::new(&args.sinks, None)?;
    let folder =
        if args.run.is_dir() { args.run.as_path() } else { args.run.parent().unwrap_or(Path::new(".")) };
    sinks.report_beside(folder);
    sinks.preflight()?;
    Ok(sinks.finish(&judgement))
}

/// Reads and judges the evidence of a run.
pub(crate) fn judged(run: &Path) -> Result<Judgement> {
    let evidence = evidence::read(run)?;
    judge::judge(&evidence)
        .map_err(|e| Error::new(ErrorKind::Unavailable, format!("judge {}", run.display())).from_source(&e))
}
