//! Old objects go by rules, as snapshots do. A series is what the names say.

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::retention::{Candidate, Decided, GroupBy, Guard, Policy, apply};
use firedrill_core::watch::Watch;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::upload::{Uploads, gave_up};
use super::{ObjectSettings, Objects, catalog};
use crate::repository::access::Access;
use crate::repository::location::Location;

/// What was begun so long ago belongs to nobody any more.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);

/// What goes.
#[derive(Clone, Debug)]
pub struct ObjectRetention<'a> {
    /// How names are read.
    pub settings: &'a ObjectSettings,
    /// The rules.
    pub policy: &'a Policy,
    /// What must stay.
    pub guard: &'a Guard,
    /// Where the rules are applied.
    pub zone: &'a TimeZone,
    /// When they are applied.
    pub now: Timestamp,
    /// Whether nothing is removed.
    pub dry_run: bool,
}

/// What went.
#[derive(Clone, Debug, Default)]
pub struct ObjectsForgotten {
    /// What the rules said of each object.
    pub decided: Vec<Decided>,
    /// The names of the objects that are gone.
    pub removed: Vec<String>,
    /// Their bytes.
    pub bytes_freed: u64,
    /// Bytes of what stays.
    pub bytes: u64,
    /// What is no backup by its name, and was left alone.
    pub notes: Vec<String>,
}

/// Applies rules to the objects at `location`. What is no backup by its name stays.
pub fn forget_objects(
    location: &Location,
    access: &Access,
    request: &ObjectRetention<'_>,
    watch: &Watch,
) -> Result<ObjectsForgotten> {
    let listing = Objects::source(location, access)?.list(&request.settings.patterns, watch)?;
    let catalog = catalog::Catalog::of(listing, request.settings, request.now);
    let candidates: Vec<Candidate> =
        catalog.snapshots.iter().map(|one| Candidate::in_zone(one, request.zone)).collect();
    let by = GroupBy { host: false, paths: false, tags: true };
    let mut decided = apply(&candidates, by, request.policy, request.now, request.zone);
    request.guard.spare(&mut decided);
    request.guard.check(&decided, request.now).map_err(|refusal| {
        Error::new(ErrorKind::Usage, "apply retention rules")
            .from_source(&refusal)
            .advise("nothing was removed; check the rules, the clocks and what was verified lately")
    })?;
    let bytes = |one: &Decided| {
        let found = catalog.snapshots.iter().find(|snapshot| snapshot.id == one.candidate.id);
        found.and_then(|snapshot| snapshot.bytes).unwrap_or_default()
    };
    let mut forgotten = ObjectsForgotten { notes: catalog.notes.clone(), ..ObjectsForgotten::default() };
    let uploads = if request.dry_run { None } else { Some(Uploads::open(location, access)?) };
    if let Some(uploads) = &uploads {
        // Each target gives up what it left behind; this is for those that are there no more.
        let since = request.now.checked_sub(FORGOTTEN).unwrap_or(Timestamp::MIN);
        match uploads.sweep(&|key| catalog::is_named(key, request.settings), since, watch) {
            Ok(swept) => forgotten.notes.extend(gave_up(&swept)),
            Err(error) => forgotten.notes.push(error.chain()),
        }
    }
    for one in &decided {
        let (true, Some(uploads), Some(key)) = (one.is_removed(), &uploads, one.candidate.paths.first())
        else {
            forgotten.bytes += bytes(one);
            continue;
        };
        watch.check()?;
        uploads.remove(key)?;
        forgotten.bytes_freed += bytes(one);
        forgotten.removed.push(key.clone());
    }
    forgotten.decided = decided;
    Ok(forgotten)
}
