//! Files that are either complete or not there.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use firedrill_core::error::{Error, ErrorKind, Result};

/// Whether a missing folder is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    /// It is made: reports go wherever they are wanted.
    Make,
    /// It must be there: somebody else reads it, and a misspelt one would never be read.
    MustExist,
}

/// Checks that `path` can be written.
pub(crate) fn check(what: &str, path: &Path, folder: Folder) -> Result<()> {
    let failed = |e: &dyn std::error::Error| {
        Error::new(ErrorKind::Usage, format!("write {what} to {}", path.display()))
            .from_source(e)
            .advise("choose a path in a folder that exists and is writable")
    };
    if path.is_dir() {
        return Err(failed(&std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    if is_special(path) {
        return Ok(());
    }
    let parent = parent_of(path);
    if folder == Folder::Make {
        std::fs::create_dir_all(&parent).map_err(|e| failed(&e))?;
    }
    temporary(&parent).map_err(|e| failed(&e)).map(drop)
}

/// Writes `content` to a new file beside `path` and puts it in place of `path` in one step, readable
/// for everybody (node-exporter runs as another user).
pub(crate) fn write(what: &str, path: &Path, content: &[u8]) -> Result<()> {
    let written = if is_special(path) {
        OpenOptions::new().write(true).open(path).and_then(|mut f| f.write_all(content))
    } else {
        replace(path, content)
    };
    written.map_err(|e| {
        Error::new(ErrorKind::Unavailable, format!("write {what} to {}", path.display())).from_source(&e)
    })
}

fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = temporary(&parent_of(path))?;
    file.write_all(content)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// A temporary name that ends in neither `.prom` nor `.xml`, so that nobody collects it by pattern.
fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".firedrill-").suffix(".tmp").tempfile_in(folder)
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether `path` is a device or a pipe (`/dev/stdout`), which must not be replaced by a file.
fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.prom");
        std::fs::write(&path, "old").unwrap();
        check("metrics", &path, Folder::MustExist).unwrap();
        write("metrics", &path, b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_an_error_or_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none/a.xml");
        let error = check("metrics", &path, Folder::MustExist).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(write("metrics", &path, b"x").is_err());
        check("the report", &path, Folder::Make).unwrap();
        write("the report", &path, b"x").unwrap();
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check("the report", folder.path(), Folder::Make).is_err());
    }

    #[test]
    fn a_device_stays_a_device() {
        let null = Path::new("/dev/null");
        check("the report", null, Folder::Make).unwrap();
        write("the report", null, b"x").unwrap();
        assert!(is_special(null));
    }
}
