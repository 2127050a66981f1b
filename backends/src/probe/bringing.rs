//! Brings restored files and folders that a config names into a cell.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use firedrill_core::cell::Cell;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::manifest::{Kind, display_path};
use firedrill_core::subject::Subject;

/// The entries of the snapshot that `path` from a config means, as far as they are there.
pub(crate) fn meant(subject: &Subject, path: &str) -> Vec<Vec<u8>> {
    let wanted = subject.meant_by(path);
    let there = |path: &Vec<u8>| {
        let entry = subject.manifest.entries().iter().find(|entry| &entry.path == path);
        entry.is_some_and(|entry| matches!(entry.kind, Kind::File | Kind::Directory))
    };
    let mut meant: Vec<_> = wanted.into_iter().filter(there).collect();
    meant.sort();
    meant.dedup();
    meant
}

/// Of `paths` those that are not below another one.
pub(crate) fn outermost(mut paths: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    paths.sort();
    paths.dedup();
    let all = paths.clone();
    paths.retain(|path| {
        !all.iter()
            .any(|other| path.strip_prefix(other.as_slice()).is_some_and(|rest| rest.starts_with(b"/")))
    });
    paths
}

/// Copies the entry `path` of the snapshot to `to` in the cell.
pub(crate) fn bring(subject: &Subject, cell: &dyn Cell, path: &[u8], to: &str) -> Result<()> {
    let from = real_place(&subject.root, path).map_err(|e| {
        Error::new(ErrorKind::Scratch, format!("find {} in scratch", display_path(path))).from_source(&e)
    })?;
    cell.bring_tree(&from, to)
}

/// The place of `path` below `root`. What leads there must be folders: a link of the backup would lead out of
/// scratch.
fn real_place(root: &Path, path: &[u8]) -> std::io::Result<PathBuf> {
    let mut place = root.to_owned();
    let mut names = path.split(|b| *b == b'/').peekable();
    while let Some(name) = names.next() {
        if matches!(name, b"" | b"." | b"..") {
            return Err(std::io::Error::other("it is no plain path"));
        }
        place.push(OsStr::from_bytes(name));
        let meta = place.symlink_metadata()?;
        if names.peek().is_some() && !meta.is_dir() {
            return Err(std::io::Error::other("a link or a file is in its way"));
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_another_path_comes_with_it() {
        let paths = ["a/b", "a", "ab", "c/d", "a"].map(|p| p.as_bytes().to_vec()).to_vec();
        assert_eq!(outermost(paths), ["a", "ab", "c/d"].map(|p| p.as_bytes().to_vec()));
    }

    #[test]
    fn a_link_leads_nowhere() {
        let place = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        std::fs::create_dir(place.path().join("d")).unwrap();
        std::fs::write(place.path().join("d/f"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path(), place.path().join("out")).unwrap();
        assert!(real_place(place.path(), b"d/f").is_ok());
        for path in [&b"out/secret"[..], b"../x", b"d/../d/f", b"/d", b"d/missing"] {
            assert!(real_place(place.path(), path).is_err(), "{}", display_path(path));
        }
    }
}
