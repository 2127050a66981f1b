//! The `shape` probe: the content looks like what this series held before.
//!
//! *Verified*: there is content at all; what the config expects is there; every backed-up path is there
//! and is not a mere link. Against the last verified (or accepted) drill and the earlier snapshots that
//! could be read: no large share of files or bytes, no folder, no kind of file, no database and no dump
//! vanished, shrank or became empty; nothing is missing from a folder that did not change; owners, modes,
//! attributes and hard links were not flattened; no content changed behind an unchanged size and time; no
//! mass renaming, no mass of random content where plain content was; the host is the usual one; the
//! snapshots that were there still are.
//!
//! *Not verified*: that any single file is right, or that one deleted file was meant to be deleted. Names
//! that come and go in healthy operation (logs, caches, locks, companions of databases) and the paths in
//! `ignore` count for nothing. Without a baseline and without an earlier snapshot there is nothing to
//! compare with, and the examination says so. Content is judged by samples of bounded size.

mod content;
mod demands;
mod disguise;
mod identity;
mod metadata;
mod past;
mod shrink;
mod silent;
mod stored;
mod view;

use firedrill_core::finding::Examination;
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

use past::Past;
use stored::Stored;
use view::View;

/// The name of the probe, and of its part of a baseline.
const NAME: &str = "shape";

/// Examines the shape of the content.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShapeProbe;

impl Probe for ShapeProbe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recognises(&self, _: &Subject) -> bool {
        true
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut examination = Examination::new(NAME, "entries");
        if let Err(why) = examine(subject, &mut examination) {
            examination.interrupt(why);
        }
        examination
    }
}

fn examine(subject: &Subject, examination: &mut Examination) -> Result<(), String> {
    let watch = || subject.watch.check().map_err(|e| e.chain());
    watch()?;
    let now = View::of(&subject.manifest, &subject.snapshot.paths, subject);
    examination.checked = subject.manifest.entries().len() as u64;

    let stored = Stored::of_baseline(subject, examination);
    identity::examine(subject, stored.as_ref(), examination);
    if !subject.manifest.is_complete() {
        // What is missing is lost in the repository, which the restore has reported; it was not left out.
        examination.not_verified.push("the shape of the content: some of it cannot be read".to_owned());
        return Ok(());
    }
    let empty = demands::examine(subject, &now, examination);
    watch()?;
    let all = past::collect(subject, &now, stored.as_ref(), examination);
    let past = all.split_at(all.partition_point(|p| !p.judged)).0;
    say_what_is_compared(subject, past, examination);

    demands::links(&now, &all, &subject.snapshot, examination);
    // An empty backup is one finding, not one per thing that is missing from it; a link is why it is empty.
    if !empty {
        demands::paths(&all, &subject.snapshot, examination);
        shrink::examine(subject, &now, &all, examination);
        watch()?;
        metadata::examine(&now, past, examination);
        silent::examine(&now, past, &subject.snapshot, examination);
        watch()?;
    }
    let looks = disguise::examine(subject, &now, past, stored.as_ref(), examination)?;
    examination.baseline = Stored::of_now(subject, &now, looks).into_map();
    Ok(())
}

fn say_what_is_compared(subject: &Subject, past: &[Past<'_>], examination: &mut Examination) {
    if let Some(why) = &subject.history.baseline_note {
        examination.not_verified.push(format!("the comparison with the last verified drill: {why}"));
    }
    if past.is_empty() {
        let own = subject.history.baseline.as_ref().is_some_and(|b| b.snapshot == subject.snapshot.id);
        examination.not_verified.push(if own {
            "progress: this snapshot is itself the last one that was drilled".to_owned()
        } else {
            "the comparison with the past: no baseline and no earlier snapshot to compare with".to_owned()
        });
    } else {
        let labels: Vec<_> = past.iter().map(|p| p.label.as_str()).collect();
        examination.notes.push(format!("compared with {}", labels.join(", ")));
    }
    for earlier in &subject.history.earlier {
        if let Err(why) = &earlier.manifest {
            examination.not_verified.push(format!(
                "the comparison with the snapshot {} of {:.0}: {why}",
                earlier.snapshot.id.short(),
                earlier.snapshot.time
            ));
        }
    }
}

#[cfg(test)]
mod tests;
