//! What the source dropped goes from the copy as well, unless the source looks as if it had lost it.
//!
//! The order is that of copying, reversed: snapshots, then the index, then packs. With the key, the index of what
//! stays is read, and packs that it names stay, too. Without it, packs go only when the source dropped index files:
//! a prune writes a new index before it removes packs, and a disk that loses packs does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use firedrill_core::error::{Error, ErrorKind, Result};
use rustic_core::{FileType, Id};

use super::end::{Listing, Sizes};
use super::identical::{Run, lacking};
use crate::repository::restic::known;

/// Removes from the copy, which was `before`, what the source does not have.
pub(super) fn remove(run: &Run<'_>, source: &Listing, before: &Listing) -> Result<()> {
    refuse_emptied(run, source, before)?;
    let now = run.copy.look(run.watch)?;
    refuse_incomplete(source, &now)?;
    let needed = needed(run, source, &now)?;

    delete(run, FileType::Snapshot, &gone(&source.snapshots, &now.snapshots))?;
    let index = gone(&source.index, &now.index);
    delete(run, FileType::Index, &index)?;
    let packs = gone(&source.packs, &now.packs);
    let mut kept = 0;
    match needed {
        Some(needed) => {
            let (named, unneeded): (Vec<Id>, Vec<Id>) = packs.into_iter().partition(|id| needed.contains_key(id));
            delete(run, FileType::Pack, &unneeded)?;
            kept = named.len();
        }
        None if !packs.is_empty() && index.is_empty() => run.note(format!(
            "{} packs that the source does not have stay: no index file was dropped, so it may have lost them",
            packs.len()
        )),
        None => delete(run, FileType::Pack, &packs)?,
    }
    delete(run, FileType::Key, &gone(&source.keys, &now.keys))?;
    if kept > 0 { Err(lost(kept)) } else { Ok(()) }
}

/// What the index of the source names, by size, when there is a key to read it.
fn needed(run: &Run<'_>, source: &Listing, now: &Listing) -> Result<Option<BTreeMap<Id, u64>>> {
    let Some(password) = &run.request.password else { return Ok(None) };
    let wanted: BTreeSet<Id> = source.index.keys().copied().collect();
    let needed = known::indexed_packs(run.copy.backend(), password, &wanted, run.watch)?;
    let absent = needed.keys().filter(|id| !now.packs.contains_key(id)).count();
    if absent > 0 {
        return Err(refused(format!("{absent} packs that its index names are nowhere")));
    }
    Ok(Some(needed))
}

fn gone(source: &Sizes, copy: &Sizes) -> Vec<Id> {
    copy.keys().filter(|id| !source.contains_key(id)).copied().collect()
}

/// One by one: this order is what makes it safe to be killed.
fn delete(run: &Run<'_>, kind: FileType, files: &[Id]) -> Result<()> {
    for id in files {
        run.watch.check()?;
        run.copy.remove(kind, id, run.watch)?;
        run.deleted.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::Unavailable, "remove from the mirror what its source dropped")
        .because(why)
        .advise(
            "nothing was removed: a broken source must not empty its mirror; check the source, and if it is right, \
             begin a new mirror",
        )
}

fn lost(packs: usize) -> Error {
    Error::new(ErrorKind::Unavailable, "remove from the mirror what its source dropped")
        .because(format!("the source lost {packs} packs that its own index names"))
        .advise("the mirror still has them: copy them back from there")
}

/// Refuses when the source has lost more than retention takes.
fn refuse_emptied(run: &Run<'_>, source: &Listing, before: &Listing) -> Result<()> {
    let (has, had) = (source.snapshots.len(), before.snapshots.len());
    if (has as f64) < run.request.keep_ratio_min * had as f64 {
        return Err(refused(format!("the source has {has} snapshots, and the mirror had {had}")));
    }
    for (source, before, what) in [
        (&source.index, &before.index, "index files"),
        (&source.packs, &before.packs, "packs"),
        (&source.snapshots, &before.snapshots, "snapshots"),
    ] {
        if source.is_empty() && !before.is_empty() {
            return Err(refused(format!("the source has no {what} at all")));
        }
    }
    Ok(())
}

/// Refuses unless the copy has everything by now.
fn refuse_incomplete(source: &Listing, now: &Listing) -> Result<()> {
    let kinds = [
        (&source.packs, &now.packs),
        (&source.index, &now.index),
        (&source.snapshots, &now.snapshots),
        (&source.keys, &now.keys),
    ];
    let lacks: usize = kinds.iter().map(|(source, now)| lacking(source, now).count()).sum();
    if lacks > 0 {
        return Err(refused(format!("the mirror still lacks {lacks} files")));
    }
    Ok(())
}
