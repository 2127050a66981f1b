//! `firedrill init COPY`: makes the repository of a copy.

use firedrill_backends::repository::access::Environment;
use firedrill_core::error::Result;
use firedrill_core::snapshot::CopyName;
use firedrill_core::verdict::Exit;
use firedrill_core::watch::Watch;

use crate::args::InitArgs;
use crate::copies;

pub(crate) fn init(args: &InitArgs) -> Result<Exit> {
    let config = crate::config::load(&args.config)?;
    let copy = copies::known_copy(&config, &CopyName(args.copy.clone()))?;
    let place = copies::place(copy, &Environment::capture())?;
    let id = place.init(&Watch::unlimited())?;
    crate::note(format!("made the repository {} at {}", id.get(..8).unwrap_or(&id), copy.location()));
    Ok(Exit::Verified)
}
