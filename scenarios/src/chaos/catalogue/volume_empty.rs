//! The source is an empty folder.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "volume-empty",
    class: Class::Source,
    summary: "the source is an empty folder",
    what: "The volume was not mounted when the backup ran, or a claim was bound to a new volume. An empty \
        folder is backed up without an error, every hour, until retention has dropped the last snapshot \
        that held anything.",
    notice: "There is nothing where there was something before.",
    act: "Mount the volume, and back up. Let the capture refuse an empty source; keep a floor of good \
        snapshots in the retention.",
    seen: &["rsnapshot/rsnapshot#351", "k8up-io/k8up#910", "velero-io/velero#4700"],
    not_verified: "That an empty source is noticed which was empty when it was first verified.",
    codes: &["shape."],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, _| {
        let folders = staged.top_folders();
        if folders.is_empty() || staged.files()?.is_empty() {
            return Err(nothing("no path of this tag is a folder with files"));
        }
        folders.iter().try_for_each(|folder| staged.unmount(folder))?;
        Ok("nothing is left in its folders".to_owned())
    })
}
