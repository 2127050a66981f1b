//! One bit of a source file is flipped.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::staged::Time;
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "source-bit-rot",
    class: Class::Source,
    summary: "one bit of a source file is flipped",
    what: "A disk or a memory module of the source flips a bit. Size and time of the file stay what they \
        were; the backup is faithful.",
    notice: "The content changed, and the time of the file did not.",
    act: "Restore the file from the snapshot before. Look for the hardware that did it.",
    seen: &["restic/restic#5220"],
    not_verified: "Rot that is older than the first verified snapshot, and rot in files that change in every \
        backup.",
    codes: &["shape.changed_silently", "digests.", "sqlite.integrity", "sqlite.constraints", "gzip.damaged", "tar.", "zip.", "xbstream.", "etcd_snapshot."],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let files: Vec<_> = staged.files()?.into_iter().filter(|file| file.size > 0).collect();
        let file = files.choose(rng).ok_or_else(|| nothing("no file of this tag has content"))?;
        let mut content = staged.read(file)?;
        let at = rng.random_range(0..content.len());
        if let Some(byte) = content.get_mut(at) {
            *byte ^= 1 << rng.random_range(0..8);
        }
        staged.write(&file.path, &content, Time::Kept)?;
        Ok(format!("one bit at {at} of {}", staged.name(&file.path)))
    })
}
