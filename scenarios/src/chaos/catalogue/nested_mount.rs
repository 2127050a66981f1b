//! A folder that was a mount of its own is empty.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use std::path::PathBuf;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "nested-mount",
    class: Class::Source,
    summary: "a folder that was a mount of its own is empty",
    what: "With `--one-file-system`, or in a pod that does not mount all that the application mounts, a \
        folder is there and what is in it is not.",
    notice: "A folder that held much holds nothing.",
    act: "Mount the volume in the backup, or back it up as a target of its own.",
    seen: &[],
    not_verified: "Folders that held little.",
    codes: &["shape."],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let files = staged.files()?;
        let tops: Vec<_> = staged.paths().map(|path| staged.on_disk(path)).collect();
        let full = |folder: &PathBuf| {
            !tops.contains(folder) && files.iter().filter(|file| file.path.starts_with(folder)).count() >= FILES_MIN
        };
        let folders: Vec<_> = staged.folders()?.into_iter().filter(full).collect();
        let folder = folders.choose(rng).ok_or_else(|| nothing("no folder of this tag holds much"))?;
        staged.unmount(folder)?;
        Ok(format!("{} is empty", staged.name(folder)))
    })
}

/// In fewer files nobody would have mounted anything.
const FILES_MIN: usize = 10;
