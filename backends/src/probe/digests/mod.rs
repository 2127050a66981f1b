//! The `digests` probe: restored data is exactly what the pipeline knew at the moment of the backup.
//!
//! *Verified*, for each file of digests among the restored files
//! - It is one, and signed by the key of the pipeline, where a key is known and it is signed.
//! - Trees of files: every folder holds the same names with the same content, no more and no less.
//! - SQLite files: every table has the same rows, no more and no less.
//! - Snapshots of etcd, packed or not: every prefix has the same live keys.
//! - By the probes that load dumps into engines ([`compare`]): every table has the same rows.
//!
//! *Not verified*
//! - Who wrote a file of digests that is not signed.
//! - Databases whose dump was not loaded, and digests that are not of the same moment as the dump.
//! - Modes, owners and times of files; schemas beyond the names of columns; generated columns; what extensions keep.

pub(crate) mod compare;
mod expected;
mod tables;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use firedrill_core::digests::{Etcd, Folder, Tree, is_name, path_bytes};
use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::display_path;
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

use super::engine::dumps::Source;
use super::engine::etcd::unpack::Packed;
use super::structure;
use crate::digests::{etcd, files};
use expected::{Expected, Found};

/// The name of the probe.
const NAME: &str = "digests";

/// Compares restored data with digests that were recorded at the time of the backup.
#[derive(Clone, Copy, Debug, Default)]
pub struct DigestsProbe;

impl Probe for DigestsProbe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recognises(&self, subject: &Subject) -> bool {
        subject.manifest.files().any(|entry| is_name(entry.name()))
    }

    fn examine(&self, subject: &Subject) -> Examination {
        let mut examination = Examination::new(NAME, "digests");
        if let Err(why) = examine(subject, &mut examination) {
            examination.interrupt(why);
        }
        examination
    }
}

fn examine(subject: &Subject, examination: &mut Examination) -> Result<(), String> {
    let root = Dir::open_ambient_dir(&subject.root, ambient_authority())
        .map_err(|error| format!("the restored data: {error}"))?;
    for found in expected::find(subject)? {
        subject.watch.check().map_err(|error| error.chain())?;
        examination.checked += 1;
        let expected = match found {
            Found::Good(expected) => expected,
            Found::Broken { location, why } => {
                let finding = Finding::damage("digests.malformed", location, "a file of digests", why);
                examination.find(finding);
                continue;
            }
            Found::Forged { location } => {
                examination.find(Finding::damage(
                    "digests.forged",
                    location,
                    "digests that are signed with the canary key",
                    "another signature",
                ));
                continue;
            }
        };
        if let Some(doubt) = &expected.doubt {
            examination.not_verified.push(format!("who wrote {}: {doubt}", expected.location));
        }
        let digests = &expected.digests;
        for tree in &digests.files {
            compare_tree(subject, &root, &expected, tree, examination)?;
        }
        if !digests.sqlite.is_empty() {
            compare_sqlite(subject, &expected, examination)?;
        }
        for (path, etcd) in &digests.etcd {
            compare_etcd(subject, &expected, path, etcd, examination)?;
        }
        for (engine, databases) in [("postgres", &digests.postgres), ("mariadb", &digests.mariadb)] {
            for (name, database) in databases {
                let location = &expected.location;
                let moment = if database.exact {
                    ""
                } else {
                    ", and only by the names of its tables: it is not exact"
                };
                examination.not_verified.push(format!(
                    "the database {} in {location}: the probe {engine} compares it when it loads its dump{moment}",
                    display_path(name.as_bytes()),
                ));
            }
        }
    }
    Ok(())
}

/// Whether something that digests tell of is part of the snapshot. What they name from the root may have been left out
/// of the backup on purpose; what they name beside themselves may not.
fn present(
    subject: &Subject,
    expected: &Expected,
    path: &str,
    code: &str,
    examination: &mut Examination,
) -> Option<Vec<u8>> {
    let (place, absolute) = expected.place(path);
    // The root of a snapshot has no entry.
    if place.is_empty() || subject.manifest.entries().iter().any(|entry| entry.path == place) {
        return Some(place);
    }
    let shown = display_path(&place);
    if absolute {
        examination
            .not_verified
            .push(format!("{shown}: {} tells of it, and it was not backed up", expected.location));
    } else {
        examination.find(Finding::damage(
            code,
            shown,
            format!("what {} tells of", expected.location),
            "nothing",
        ));
    }
    None
}

fn compare_tree(
    subject: &Subject,
    root: &Dir,
    expected: &Expected,
    tree: &Tree,
    examination: &mut Examination,
) -> Result<(), String> {
    let Some(place) = present(subject, expected, &tree.path, "digests.files", examination) else {
        return Ok(());
    };
    let seen = measure_tree(subject, root, tree, &place)
        .map_err(|error| format!("the restored folder {}: {error}", display_path(&place)))?;
    let Some(seen) = seen else {
        let (expected, seen) = (format!("what {} tells of", expected.location), "no such file or folder");
        examination.find(Finding::damage("digests.files", display_path(&place), expected, seen));
        return Ok(());
    };
    let shown = |folder: &str| match (folder, place.is_empty()) {
        (".", true) => ".".to_owned(),
        (".", false) => display_path(&place),
        (_, true) => display_path(&path_bytes(folder)),
        (_, false) => display_path(&[&place[..], b"/", &path_bytes(folder)].concat()),
    };
    let count = |folder: &Folder| format!("{} entries with {} bytes", folder.entries, folder.bytes);
    for (folder, promised) in &tree.folders {
        let at = shown(folder);
        match seen.get(folder) {
            Some(there) if there == promised => examination.checked += 1,
            Some(there) => {
                let same = (there.entries, there.bytes) == (promised.entries, promised.bytes);
                let seen = match same {
                    true => "as many, with other names or content".to_owned(),
                    false => count(there),
                };
                examination.find(Finding::damage(
                    "digests.files",
                    at,
                    expected.promise(&count(promised)),
                    seen,
                ));
            }
            None => {
                let promise = expected.promise(&format!("a folder with {}", count(promised)));
                examination.find(Finding::damage("digests.files", at, promise, "no folder"));
            }
        }
    }
    for (folder, there) in seen.iter().filter(|(folder, _)| !tree.folders.contains_key(*folder)) {
        let promise = expected.promise("no such folder");
        examination.find(Finding::damage("digests.files", shown(folder), promise, count(there)));
    }
    Ok(())
}

fn measure_tree(
    subject: &Subject,
    root: &Dir,
    tree: &Tree,
    place: &[u8],
) -> io::Result<Option<BTreeMap<String, Folder>>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut proceed = || subject.watch.check().map_err(|error| io::Error::other(error.chain()));
    let path = Path::new(std::ffi::OsStr::from_bytes(place));
    let kind = match place {
        b"" => return files::measure(root, &tree.excluded, &mut proceed).map(Some),
        _ => root.symlink_metadata(path),
    };
    match kind {
        Ok(kind) if kind.is_dir() => {
            files::measure(&files::below(root, path)?, &tree.excluded, &mut proceed).map(Some)
        }
        Ok(kind) if kind.is_file() => {
            let folder = files::below(root, path.parent().unwrap_or(Path::new("")))?;
            let name = path.file_name().unwrap_or_default();
            files::measure_file(&folder, name, &mut proceed).map(Some)
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn compare_sqlite(
    subject: &Subject,
    expected: &Expected,
    examination: &mut Examination,
) -> Result<(), String> {
    let mut places = BTreeMap::new();
    for (path, promised) in &expected.digests.sqlite {
        if let Some(place) = present(subject, expected, path, "digests.table", examination) {
            places.insert(place, promised);
        }
    }
    if places.is_empty() {
        return Ok(());
    }
    let wanted = places.keys().cloned().collect();
    super::sqlite::measure(subject, &wanted, |place, measured| {
        let Some(promised) = places.remove(place) else { return };
        let at = display_path(place);
        match measured {
            Ok(seen) => {
                let rules =
                    tables::Rules { at: &at, of: &expected.location, exact: true, same_version: true };
                rules.compare(&promised.tables, &seen, &|_| false, examination);
            }
            Err(super::sqlite::Unmeasured::Damaged(seen)) => {
                let promise = expected.promise("a database whose tables can be read");
                examination.find(Finding::damage("digests.table", at, promise, seen));
            }
            Err(super::sqlite::Unmeasured::Ours(why)) => examination.interrupt(format!("{at}: {why}")),
        }
    })?;
    for place in places.keys() {
        let promise = expected.promise("a SQLite database");
        examination.find(Finding::damage(
            "digests.table",
            display_path(place),
            promise,
            "no SQLite database",
        ));
    }
    Ok(())
}

/// What may be behind the name of a snapshot that was packed after its digests were recorded.
const PACKED: [&[u8]; 4] = [b".gz", b".zst", b".xz", b".zip"];

/// The snapshot at `path`, or the one that was packed since.
fn snapshot(
    subject: &Subject,
    expected: &Expected,
    path: &str,
    examination: &mut Examination,
) -> Option<Vec<u8>> {
    let (place, _) = expected.place(path);
    let is_there = |place: &[u8]| subject.manifest.files().any(|entry| entry.path == place);
    if !is_there(&place) {
        let mut packed = PACKED.iter().map(|ending| [place.as_slice(), ending].concat());
        if let Some(packed) = packed.find(|packed| is_there(packed)) {
            return Some(packed);
        }
    }
    present(subject, expected, path, "digests.keys", examination)
}

fn compare_etcd(
    subject: &Subject,
    expected: &Expected,
    path: &str,
    promised: &Etcd,
    examination: &mut Examination,
) -> Result<(), String> {
    let Some(place) = snapshot(subject, expected, path, examination) else { return Ok(()) };
    let at = display_path(&place);
    if structure::open(&subject.root, &place).map_err(|error| format!("{at}: {error}"))?.is_none() {
        let promise = expected.promise("a snapshot of etcd");
        examination.find(Finding::damage("digests.keys", at, promise, "no regular file"));
        return Ok(());
    }
    let proceed = || subject.watch.check().map_err(|error| io::Error::other(error.chain()));
    match measure_etcd(subject, &place, &at, &proceed) {
        Ok(seen) => tables::compare_keys(&at, &expected.location, promised, &seen, examination),
        Err(etcd::Trouble::Ours(error)) => return Err(format!("{at}: {error}")),
        Err(etcd::Trouble::Broken(seen)) => {
            let promise = expected.promise("a whole snapshot of etcd");
            examination.find(Finding::damage("digests.keys", at, promise, seen));
        }
    }
    Ok(())
}

fn measure_etcd(
    subject: &Subject,
    place: &[u8],
    at: &str,
    proceed: &dyn Fn() -> io::Result<()>,
) -> Result<Etcd, etcd::Trouble> {
    let open = || {
        let file = structure::open(&subject.root, place)?;
        let file = file.ok_or_else(|| io::Error::other("it is no regular file any more"))?;
        Ok(Source::new(file, subject.watch.clone()))
    };
    let to = subject.work.join("digests-etcd-snapshot.db");
    etcd::measure_packed(&Packed { location: at, open: &open, to }, proceed)
}

#[cfg(test)]
mod tests;
