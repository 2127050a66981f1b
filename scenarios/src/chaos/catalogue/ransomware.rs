//! All files are encrypted and renamed.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::Rng as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::staged::Time;
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "ransomware",
    class: Class::Security,
    summary: "all files are encrypted and renamed",
    what: "Somebody encrypts the source and adds an extension to every name. The backup holds faithfully \
        what is there, and retention will drop what was there before.",
    notice: "All names changed, and all content is noise.",
    act: "Stop the retention at once: `firedrill` spares the newest verified snapshot. Disconnect the \
        source; restore the snapshot before this one.",
    seen: &[],
    not_verified: "Encryption of a small share of the files.",
    codes: &["shape.renamed", "shape.encrypted", "shape.magic"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let files = staged.files()?;
        if files.len() < FILES_MIN {
            return Err(nothing("this tag has few files"));
        }
        for file in &files {
            let mut noise = staged.read(file)?;
            rng.fill_bytes(&mut noise);
            staged.write(&file.path, &noise, Time::Now)?;
            let mut locked = file.path.clone().into_os_string();
            locked.push(".locked");
            std::fs::rename(&file.path, locked)?;
        }
        Ok(format!("{} files are noise and have other names", files.len()))
    })
}

/// Of fewer files nothing can be told by their names.
const FILES_MIN: usize = 5;
