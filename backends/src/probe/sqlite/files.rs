//! Opening restored files component by component: nothing is followed, nothing outside the root is reached.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// The restored root, with the folder that was used last.
pub(super) struct Files {
    root: OwnedFd,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Files {
    pub(super) fn below(root: &Path) -> io::Result<Self> {
        let root = openat(CWD, root, flags() | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { root, last: None })
    }

    /// Opens a regular file. `None` if there is none at that place: that is for the `tree` probe to report.
    pub(super) fn file(&mut self, path: &[u8]) -> io::Result<Option<File>> {
        let (folder, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
            None => (&[][..], path),
        };
        let opened = self.folder(folder).and_then(|folder| open(folder, name, OFlags::empty()));
        match opened {
            Ok(file) => {
                let file = File::from(file);
                Ok(if file.metadata()?.is_file() { Some(file) } else { None })
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL | Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The first bytes of a regular file, as many as there are.
    pub(super) fn start(&mut self, path: &[u8], length: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut start = Vec::with_capacity(length);
        file.take(length as u64).read_to_end(&mut start)?;
        Ok(Some(start))
    }

    fn folder(&mut self, path: &[u8]) -> Result<&OwnedFd, Errno> {
        if path.is_empty() {
            return Ok(&self.root);
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let mut components = path.split(|b| *b == b'/');
            let first = components.next().unwrap_or_default();
            let mut folder = open(&self.root, first, OFlags::DIRECTORY)?;
            for component in components {
                folder = open(&folder, component, OFlags::DIRECTORY)?;
            }
            self.last = Some((path.to_vec(), folder));
        }
        self.last.as_ref().map(|(_, folder)| folder).ok_or(Errno::NOENT)
    }
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK
}

fn open(folder: &OwnedFd, name: &[u8], extra: OFlags) -> Result<OwnedFd, Errno> {
    if matches!(name, b"" | b"." | b"..") {
        return Err(Errno::NOENT);
    }
    openat(folder, name, flags() | OFlags::NOFOLLOW | extra, Mode::empty())
}
