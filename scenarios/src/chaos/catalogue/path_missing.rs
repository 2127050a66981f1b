//! One of several paths is not in the backup.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "path-missing",
    class: Class::Source,
    summary: "one of several paths is not in the backup",
    what: "A list of paths names one that is not there any more. restic with `--files-from` leaves it out \
        and says that all went well.",
    notice: "The snapshot claims fewer paths than the one before, or claims one that it does not hold.",
    act: "Correct the list, or bring the path back.",
    seen: &["restic/restic#4467"],
    not_verified: "That a path is missed that was never in a verified snapshot, unless the config names it.",
    codes: &["shape.path_missing", "shape.path_gone"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let paths: Vec<_> = staged.paths().map(str::to_owned).collect();
        let Some(path) = paths.choose(rng).filter(|_| paths.len() > 1) else {
            return Err(nothing("this tag has one path"));
        };
        staged.leave_out(&staged.on_disk(path))?;
        Ok(format!("{path} is missing"))
    })
}
