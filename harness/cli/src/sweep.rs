//! `firedrill sweep`.

use std::sync::Arc;

use firedrill_backends::scratch::directory::DirectoryScratch;
use firedrill_core::clock::SystemClock;
use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::ports::Scratch as _;
use firedrill_core::verdict::Exit;

use crate::args::SweepArgs;

pub(crate) fn sweep(args: &SweepArgs) -> Result<Exit> {
    let base = args.scratch.clone().unwrap_or_else(DirectoryScratch::default_base);
    let mut scratch = DirectoryScratch::new(base.clone(), Arc::new(SystemClock));
    if args.kept {
        scratch = scratch.sweeping_kept();
    }
    let mut swept = scratch.sweep()?;
    // Those of all runtimes, whatever a config says today: what was left behind was made by another run.
    if let Some(runtime) = firedrill_backends::runtime::from_config(&RuntimeConfig::default()) {
        match runtime.sweep() {
            Ok(cells) => {
                swept.removed.extend(cells.removed);
                swept.in_use.extend(cells.in_use);
                swept.failed.extend(cells.failed);
            }
            Err(error) => swept.failed.push(error.chain()),
        }
    }
    let mut text = String::new();
    for (title, leases) in
        [("removed", &swept.removed), ("left alone", &swept.in_use), ("could not remove", &swept.failed)]
    {
        for lease in leases {
            text.push_str(&format!("{title}: {lease}\n"));
        }
    }
    text.push_str(&format!(
        "{} removed, {} left alone in {} and among containers\n",
        swept.removed.len(),
        swept.in_use.len(),
        base.display()
    ));
    crate::print(&text);
    if swept.failed.is_empty() {
        return Ok(Exit::Verified);
    }
    Err(Error::new(ErrorKind::Scratch, format!("remove {} leftovers", swept.failed.len())))
}
