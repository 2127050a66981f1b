//! Nine of ten files are gone.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "mass-deletion",
    class: Class::Source,
    summary: "nine of ten files are gone",
    what: "A clean-up script, a wrong key in a file manager, or an application that lost its data. The \
        backup holds faithfully what was left.",
    notice: "There are far fewer files than before.",
    act: "Find out what deleted them. The snapshot before this one has them.",
    seen: &[],
    not_verified: "Smaller losses, where they stay within what a target is allowed to shrink by.",
    codes: &["shape."],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let mut files = staged.files()?;
        if files.len() < FILES_MIN {
            return Err(nothing("this tag has few files"));
        }
        files.shuffle(rng);
        files.truncate(files.len() * 9 / 10);
        files.iter().try_for_each(|file| staged.remove(&file.path))?;
        Ok(format!("{} files are gone", files.len()))
    })
}

/// Of fewer files it would be another fault.
const FILES_MIN: usize = 10;
