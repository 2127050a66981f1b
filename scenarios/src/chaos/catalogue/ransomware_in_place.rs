//! All files are encrypted, and keep name, size and time.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::Rng as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::staged::Time;
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "ransomware-in-place",
    class: Class::Security,
    summary: "all files are encrypted, and keep name, size and time",
    what: "As before, by somebody who knows how backups notice changes.",
    notice: "Content changed under unchanged times; files are not what their names and first bytes say.",
    act: "Stop the retention at once. Disconnect the source; restore the snapshot before this one.",
    seen: &[],
    not_verified: "Encryption of a small share of the files.",
    codes: &["shape.encrypted", "shape.magic", "shape.changed_silently"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let files = staged.files()?;
        if files.is_empty() {
            return Err(nothing("this tag has no files"));
        }
        for file in &files {
            let mut noise = staged.read(file)?;
            rng.fill_bytes(&mut noise);
            staged.write(&file.path, &noise, Time::Kept)?;
        }
        Ok(format!("{} files are noise", files.len()))
    })
}
