//! Whether the repository is whole: every snapshot with all that it needs, and packs that are what their names say.

use firedrill_core::error::{ErrorKind, Result};
use firedrill_core::finding::Finding;
use firedrill_core::watch::Watch;
use rustic_core::{FileType, Id};

use super::super::catalog::{self, Key};
use super::super::store::Content;
use super::Writer;
use super::prune::has;

/// So many errors are told one by one.
const ERRORS_MAX: usize = 100;

/// What a check saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Packs there are.
    pub packs: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// What is wrong.
    pub errors: Vec<String>,
    /// How much more is wrong.
    pub errors_more: u64,
}

impl Checked {
    fn wrong(&mut self, what: String) {
        match self.errors.len() < ERRORS_MAX {
            true => self.errors.push(what),
            false => self.errors_more += 1,
        }
    }
}

impl Writer {
    /// Checks under a shared lock: keys, index and snapshots, everything that snapshots need, and `percent` of the
    /// packs, which are read whole. Another `part` reads others; after a hundred parts, all were read.
    pub fn check(&self, percent: u32, part: u64, watch: &Watch) -> Result<Checked> {
        let lock = self.lock_shared(watch)?;
        let opened = catalog::open(&self.store, Key::Password(&self.password), watch)?;
        let mut checked = Checked::default();
        let told = |finding: &Finding| format!("{}: {}", finding.location, finding.seen);
        opened.findings.iter().for_each(|finding| checked.wrong(told(finding)));
        let catalog = match opened.usable() {
            Ok(catalog) => catalog,
            // The findings say why; without any the error does.
            Err(error) if checked.errors.is_empty() => return Err(error),
            Err(_) => return Ok(checked),
        };
        for snapshot in &opened.snapshots {
            watch.check()?;
            let needs = self.used(catalog, std::iter::once(snapshot.tree.as_str()), &lock, watch);
            match needs {
                Ok(used) => {
                    let missing = used.iter().filter(|blob| !has(catalog, blob)).count();
                    if missing > 0 {
                        checked
                            .wrong(format!("snapshot {}: {missing} blobs are missing", snapshot.id.short()));
                    }
                }
                Err(error) if matches!(error.kind, ErrorKind::Timeout | ErrorKind::Cancelled) => {
                    return Err(error);
                }
                Err(error) => {
                    checked.wrong(format!("snapshot {}: {}", snapshot.id.short(), error.causes.join(": ")));
                }
            }
        }
        let listed = self.store.list(FileType::Pack)?;
        checked.packs = listed.len() as u64;
        for (id, size) in listed.iter().filter(|(id, _)| is_chosen(id, percent, part)) {
            watch.check()?;
            lock.check()?;
            checked.packs_read += 1;
            match self.store.read_named(FileType::Pack, id, *size)? {
                Content::Good(_) => {}
                Content::Damaged(why, _) => checked.wrong(format!("pack {id}: {why}")),
                Content::Gone => checked.wrong(format!("pack {id}: it was listed, and is not there")),
            }
        }
        Ok(checked)
    }
}

/// Whether a pack is read this time. The names are hashes, so that any part of them is a fair share.
fn is_chosen(id: &Id, percent: u32, part: u64) -> bool {
    let number =
        u64::from_str_radix(id.to_hex().as_str().get(..8).unwrap_or_default(), 16).unwrap_or_default();
    let percent = u64::from(percent.min(100));
    if percent == 0 {
        return false;
    }
    // Parts follow one another around the circle of hundred slices.
    let from = part.wrapping_mul(percent) % 100;
    (number % 100 + 100 - from) % 100 < percent
}

#[cfg(test)]
mod tests {
    use super::is_chosen;

    #[test]
    fn every_pack_has_its_turn() {
        let ids: Vec<_> =
            (0..500_u32).map(|n| format!("{n:08x}{}", "0".repeat(56)).parse().unwrap()).collect();
        for percent in [1, 7, 10, 33, 100] {
            let parts = 100_u64.div_ceil(u64::from(percent));
            assert!(
                ids.iter().all(|id| (5..5 + parts).any(|part| is_chosen(id, percent, part))),
                "{percent}"
            );
            let chosen = ids.iter().filter(|id| is_chosen(id, percent, 3)).count();
            assert_eq!(chosen, 5 * percent as usize, "{percent}");
        }
        assert!(ids.iter().all(|id| !is_chosen(id, 0, 0)));
    }
}
