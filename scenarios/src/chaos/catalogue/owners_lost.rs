//! A copy in between lost owners, modes and attributes.

use anyhow::Result;
use rand::rngs::StdRng;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "owners-lost",
    class: Class::Source,
    summary: "a copy in between lost owners, modes and attributes",
    what: "The data was copied to a staging folder without `--preserve`, and backed up there. After a \
        restore the application may not read its own files.",
    notice: "Everything belongs to one user, and all files have the same mode.",
    act: "Back up the data itself, or preserve all metadata when it is copied.",
    seen: &["restic/restic#3860", "restic/restic#2447"],
    not_verified: "Metadata that only a few files had.",
    codes: &["shape.owners_lost", "shape.modes_lost", "shape.attributes_lost", "shape.hardlinks_lost"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, _| {
        let (mut all, mut changed) = (0, 0);
        let mut failed = Ok(());
        staged.walk(|path, meta| {
            let plain = if meta.is_dir() { 0o755 } else { 0o644 };
            let differs = meta.permissions().mode() & 0o7777 != plain || meta.uid() != UID || meta.gid() != UID;
            all += 1;
            if meta.is_symlink() || !differs || failed.is_err() {
                return;
            }
            changed += 1;
            failed = chown(path, Some(UID), Some(UID))
                .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(plain)));
        })?;
        failed.map_err(|error| nothing(format!("owners cannot be changed here: {error}")))?;
        match changed * FEW < all || changed < CHANGES_MIN {
            true => Err(nothing("nearly everything in this tag has the same owner and mode anyway")),
            false => Ok(format!("{changed} files and folders belong to one user and have one mode")),
        }
    })
}

/// Fewer changes are somebody's work on single files.
const CHANGES_MIN: usize = 3;
/// One in so many, or less, is a few.
const FEW: usize = 4;
/// Whom a staging copy belongs to.
const UID: u32 = 0;
