//! The source holds lost+found and nothing else.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "volume-fresh",
    class: Class::Source,
    summary: "the source holds lost+found and nothing else",
    what: "The volume was made anew with a file system. Its folder is not empty, so that a check for that \
        passes.",
    notice: "Everything that was known is gone.",
    act: "Find out why the volume is new. Restore the data into it, or point the backup at the right one.",
    seen: &["velero-io/velero#7318"],
    not_verified: "That a fresh volume is noticed which was fresh when it was first verified.",
    codes: &["shape."],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, _| {
        let folders = staged.top_folders();
        if folders.is_empty() || staged.files()?.is_empty() {
            return Err(nothing("no path of this tag is a folder with files"));
        }
        for folder in folders {
            staged.unmount(&folder)?;
            std::fs::create_dir(folder.join("lost+found"))?;
        }
        Ok("only lost+found is in its folders".to_owned())
    })
}
