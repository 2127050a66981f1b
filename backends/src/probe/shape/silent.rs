//! Changes that nobody made: content that differs behind an unchanged size and time, and entries that are
//! missing from a folder that did not change.

use std::collections::HashSet;

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::{Entry, Kind};
use firedrill_core::snapshot::Snapshot;
use jiff::Timestamp;

use super::past::{Past, examples, program};
use super::view::View;
use crate::probe::names;

/// One finding names this many paths at most.
const PATHS_PER_FINDING: usize = 10;
/// Times up to this second (1980-01-02) are constants that packers write, and say nothing.
const CONSTANT_TIMES_END: i64 = 315_619_200;
/// Later constants: those of npm (1985-10-26T08:15:00Z) and Bazel (2010-01-01).
const CONSTANT_TIMES: [i64; 2] = [499_162_500, 1_262_304_000];

pub(super) fn examine(now: &View<'_>, past: &[Past<'_>], snapshot: &Snapshot, examination: &mut Examination) {
    let program = program(snapshot);
    let changed: Vec<_> =
        now.files().filter_map(|e| Some((e, changed_since(now, past, &program, e)?))).collect();
    for group in changed.chunks(PATHS_PER_FINDING) {
        let Some((_, state)) = group.first() else { continue };
        let paths: Vec<_> = group.iter().map(|(e, _)| e.display()).collect();
        examination.find(Finding::anomaly(
            "shape.changed_silently",
            paths.join(", "),
            format!("the content of {}: size and modification time are the same", state.label),
            format!("other content in {} files", group.len()),
        ));
    }
    let mut named = HashSet::new();
    for state in past {
        left_out(now, state, &mut named, examination);
    }
}

/// The state that shows other content under the same size and time. The oldest one that knows the file
/// decides: where the content is what it was first, a state in between was the wrong one.
fn changed_since<'p, 'a>(
    now: &View<'_>,
    past: &'p [Past<'a>],
    program: &str,
    entry: &Entry,
) -> Option<&'p Past<'a>> {
    if entry.mtime.is_none_or(is_constant) || entry.size == 0 {
        return None;
    }
    let (state, tree, old) = past.iter().rev().find_map(|state| {
        let tree = state.tree.as_ref()?;
        let old = tree.file(&entry.path)?;
        (old.mtime == entry.mtime && old.size == entry.size).then_some((state, tree, old))
    })?;
    let (ours, theirs) = (now.manifest.chunks(entry), tree.manifest.chunks(old));
    // Another program may cut the same content at other places.
    let cut_alike = state.program == program || (ours.len() == 1 && theirs.len() == 1);
    let known = !ours.is_empty() && !theirs.is_empty();
    (known && cut_alike && !now.manifest.same_content(entry, tree.manifest, old)).then_some(state)
}

/// To delete or rename an entry changes the time of its folder. Where that time stayed and the entry is
/// gone, the backup left it out: it could not be read, or a pattern excludes it now.
fn left_out<'p>(
    now: &View<'_>,
    state: &'p Past<'_>,
    named: &mut HashSet<&'p [u8]>,
    examination: &mut Examination,
) {
    let Some(tree) = &state.tree else { return };
    if !folder_times_are_kept(now, tree) {
        examination.not_verified.push(format!(
            "entries that the backup left out since {}: folders there do not change their time with their content",
            state.label
        ));
        return;
    }
    let missing: Vec<_> = tree
        .manifest
        .entries()
        .iter()
        .filter(|old| matches!(old.kind, Kind::File | Kind::Directory | Kind::Symlink(_)))
        .filter(|old| !now.index.contains_key(old.path.as_slice()))
        .filter(|old| {
            let folder = names::parent(&old.path);
            is_unchanged(now, tree, folder) && tree.is_inside(folder) && tree.matters(old)
        })
        .map(|old| old.path.as_slice())
        .filter(|path| named.insert(path))
        .collect();
    if missing.is_empty() {
        return;
    }
    let count = missing.len();
    examination.find(Finding::anomaly(
        "shape.left_out",
        examples(missing),
        format!("{count} entries of {}: their folders have not changed since", state.label),
        "nothing: the backup left them out",
    ));
}

/// Some file systems make up the times of folders. They show by a folder that has something new and an
/// old time.
fn folder_times_are_kept(now: &View<'_>, tree: &View<'_>) -> bool {
    let mut new = now.files().filter(|e| !tree.index.contains_key(e.path.as_slice()));
    !new.any(|e| is_unchanged(now, tree, names::parent(&e.path)))
}

fn is_unchanged(now: &View<'_>, tree: &View<'_>, folder: &[u8]) -> bool {
    let time = |view: &View<'_>| {
        let folder = view.index.get(folder).filter(|e| e.kind == Kind::Directory)?;
        folder.mtime.filter(|t| !is_constant(*t))
    };
    time(now).is_some() && time(now) == time(tree)
}

fn is_constant(time: Timestamp) -> bool {
    let second = time.as_second();
    second <= CONSTANT_TIMES_END || CONSTANT_TIMES.contains(&second)
}
