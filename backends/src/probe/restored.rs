//! Bounded reading of restored files, below the root of the restore and nowhere else.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;

/// The root of a restore. A hostile tree with links that point outside cannot lead a reader there.
#[derive(Debug)]
pub(crate) struct Restored(Dir);

impl Restored {
    /// Opens the root.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        Dir::open_ambient_dir(root, ambient_authority()).map(Self)
    }

    /// The first `max` bytes of the regular file `path`; `None` when there is no such file. An error is
    /// about us: scratch could not be read.
    pub(crate) fn head(&self, path: &[u8], max: usize) -> io::Result<Option<Vec<u8>>> {
        // Not following a link and not waiting for a pipe: only a regular file is read.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.bits().cast_signed());
        let file = match self.0.open_with(OsStr::from_bytes(path), &options) {
            Ok(file) => file,
            Err(e) if is_absence(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(max as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

fn is_absence(error: &io::Error) -> bool {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        // A link or a socket is no regular file either.
        Some(code) => matches!(code, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO),
        // The sandbox's own refusal of a path that leads outside comes without a number.
        None => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use super::Restored;

    #[test]
    fn only_regular_files_below_the_root_are_read() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "outside").unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/f"), "0123456789").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("out")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let restored = Restored::open(root.path()).unwrap();
        assert_eq!(restored.head(b"d/f", 4).unwrap().unwrap(), b"0123");
        for path in [&b"d"[..], b"d/g", b"d/f/x", b"link", b"out/secret", b"../x", b"pipe"] {
            assert_eq!(restored.head(path, 4).unwrap(), None, "{}", String::from_utf8_lossy(path));
        }
    }
}
