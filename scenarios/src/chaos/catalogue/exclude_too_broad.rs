//! An exclude takes all files of one kind.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "exclude-too-broad",
    class: Class::Source,
    summary: "an exclude takes all files of one kind",
    what: "A pattern like `*.db` or `cache*` was meant for one folder and holds for all of them.",
    notice: "All files with one extension are gone.",
    act: "Narrow the pattern, and back up.",
    seen: &[],
    not_verified: "Kinds of which there were only few files.",
    codes: &["shape."],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let mut kinds: BTreeMap<_, Vec<PathBuf>> = BTreeMap::new();
        for file in staged.files()? {
            if let Some(extension) = file.path.extension() {
                kinds.entry(extension.to_owned()).or_default().push(file.path.clone());
            }
        }
        kinds.retain(|_, files| files.len() >= FILES_MIN);
        let kinds: Vec<_> = kinds.into_iter().collect();
        let (extension, files) = kinds.choose(rng).ok_or_else(|| nothing("no extension is common in this tag"))?;
        files.iter().try_for_each(|file| staged.leave_out(file))?;
        Ok(format!("{} files *.{} are left out", files.len(), extension.display()))
    })
}

/// An extension of fewer files is not a kind.
const FILES_MIN: usize = 10;
