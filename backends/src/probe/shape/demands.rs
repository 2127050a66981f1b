//! What has to be there whatever the past was: content, what the config expects, the backed-up paths.

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::{Entry, Kind, display_path};
use firedrill_core::snapshot::Snapshot;
use firedrill_core::subject::Subject;

use super::past::{Past, lost, replaced};
use super::view::{View, located, meant};
use crate::probe::names;

/// Examines what needs no past; says whether the backup is empty.
pub(super) fn examine(subject: &Subject, now: &View<'_>, examination: &mut Examination) -> bool {
    let empty = emptiness(now, &subject.snapshot, examination);
    minima(subject, now, examination);
    for path in &subject.drill.expectations.paths {
        expected_path(subject, now, path, examination);
    }
    if !empty {
        for path in subject.snapshot.known_paths() {
            backed_up_path(now, path, examination);
        }
    }
    empty
}

fn is_content(entry: &Entry) -> bool {
    let in_lost_and_found = entry.path.split(|b| *b == b'/').any(|part| part == b"lost+found");
    !names::is_canary(entry) && !in_lost_and_found
}

fn emptiness(now: &View<'_>, snapshot: &Snapshot, examination: &mut Examination) -> bool {
    let mut content = now.manifest.files().filter(|e| is_content(e)).peekable();
    let place = snapshot.paths.join(", ");
    if content.peek().is_none() {
        let has_remains = now.manifest.entries().iter().any(|e| e.name() == b"lost+found");
        examination.find(Finding::damage(
            "shape.empty",
            place,
            "at least one file",
            if has_remains { "none, only lost+found: a fresh volume" } else { "none" },
        ));
        return true;
    }
    let (mut files, mut bytes) = (0u64, 0u64);
    for entry in content {
        files += 1;
        bytes = bytes.saturating_add(entry.size);
    }
    if bytes == 0 {
        examination.find(Finding::anomaly(
            "shape.all_empty",
            place,
            "files with content",
            format!("{files} files, all of them empty"),
        ));
    }
    false
}

fn minima(subject: &Subject, now: &View<'_>, examination: &mut Examination) {
    let expectations = &subject.drill.expectations;
    let place = || subject.snapshot.paths.join(", ");
    let files = now.manifest.files().count() as u64;
    if let Some(min) = expectations.files_min.filter(|min| files < *min) {
        let seen = files.to_string();
        examination.find(Finding::damage("shape.files_min", place(), format!("at least {min} files"), seen));
    }
    let bytes = now.manifest.bytes();
    if let Some(min) = expectations.bytes_min.filter(|min| bytes < min.0) {
        let seen = format!("{bytes} bytes");
        examination.find(Finding::damage("shape.bytes_min", place(), format!("at least {min}"), seen));
    }
}

fn expected_path(subject: &Subject, now: &View<'_>, path: &str, examination: &mut Examination) {
    let candidates = meant(&now.index, subject, path);
    let found: Vec<_> = candidates.iter().filter_map(|p| now.index.get(p.as_slice())).collect();
    if found.iter().any(|e| !matches!(e.kind, Kind::Symlink(_))) {
        return;
    }
    let seen = match found.first().map(|e| &e.kind) {
        Some(Kind::Symlink(to)) => format!("only a symbolic link to {}", display_path(to)),
        _ => "nothing".to_owned(),
    };
    examination.find(Finding::damage("shape.path_missing", path, "the path that the config expects", seen));
}

fn backed_up_path(now: &View<'_>, path: &str, examination: &mut Examination) {
    let at = located(now, path);
    let there = at.is_empty() || now.index.contains_key(at.as_slice());
    if !there {
        examination.find(Finding::damage(
            "shape.path_missing",
            path,
            "content of this path: the snapshot says that it was backed up",
            "nothing",
        ));
    }
}

/// Backed-up paths that became links.
pub(super) fn links(now: &View<'_>, past: &[Past<'_>], snapshot: &Snapshot, examination: &mut Examination) {
    for path in snapshot.known_paths() {
        became_link(now, past, path, examination);
    }
}

/// Compares the backed-up paths with those of the past.
pub(super) fn paths(past: &[Past<'_>], snapshot: &Snapshot, examination: &mut Examination) {
    // What is not known to be among the paths may be one of the others.
    if snapshot.has_more_paths() {
        return;
    }
    let mut known: Vec<&String> = past.iter().flat_map(|p| &p.paths).collect();
    known.sort();
    known.dedup();
    for path in known {
        let bare = path.trim_end_matches('/');
        let covered = snapshot.paths.iter().any(|own| {
            let own = own.trim_end_matches('/');
            bare.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if covered {
            continue;
        }
        let gone = lost(past, |p| {
            let is_old = |own: &str| p.paths.iter().any(|old| old == own);
            (p.paths.contains(path) && !replaced(path, snapshot.paths.iter(), is_old)).then_some(())
        });
        if let Some((state, ())) = gone {
            examination.find(Finding::anomaly(
                "shape.path_gone",
                path.clone(),
                format!("this path among those backed up, as in {}", state.label),
                format!("only {}", snapshot.paths.join(", ")),
            ));
        }
    }
}

fn became_link(now: &View<'_>, past: &[Past<'_>], path: &str, examination: &mut Examination) {
    let at = located(now, path);
    let Some(Kind::Symlink(to)) = now.index.get(at.as_slice()).map(|e| &e.kind) else { return };
    let was = lost(past, |p| {
        let folder = p.summary.folders.get(&super::past::key(&at)).is_some_and(|f| f.amount.files > 0);
        let entry = p.tree.as_ref().and_then(|tree| tree.index.get(at.as_slice()));
        let real = entry.is_some_and(|e| !matches!(e.kind, Kind::Symlink(_)));
        (folder || real).then_some(())
    });
    if let Some((state, ())) = was {
        examination.find(Finding::damage(
            "shape.path_symlink",
            path,
            format!("content, as in {}", state.label),
            format!("only a symbolic link to {}; what it points to is not in the backup", display_path(to)),
        ));
    }
}
