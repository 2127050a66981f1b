//! A source path became a link.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "path-is-link",
    class: Class::Source,
    summary: "a source path became a link",
    what: "Somebody moved the data and left a link behind. The link is backed up, and not what it leads to.",
    notice: "What was a folder is a link.",
    act: "Name the real folder in the backup.",
    seen: &["restic/restic#5361", "restic/restic#1215"],
    not_verified: "Links deeper in the tree: a file that becomes a link counts as a file that is gone.",
    codes: &["shape.path_symlink"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let folders = staged.top_folders();
        let path = folders.choose(rng).ok_or_else(|| nothing("no path of this tag is a folder"))?;
        staged.remove(path)?;
        std::os::unix::fs::symlink("/somewhere/else", path)?;
        Ok(format!("{} is a link", staged.name(path)))
    })
}
