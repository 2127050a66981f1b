//! Copies restored files into a cell, following nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use rustix::fs::{self as rfs, AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// Folders deeper than this are not copied; nothing that an engine can start on nests like that.
const DEPTH_MAX: usize = 200;

/// Who owns the copies; `None` leaves that to the file system.
pub(super) type Owner = Option<(rfs::Uid, rfs::Gid)>;

/// Copies `from`, a file or a folder with everything in it, to the new name `to`. Devices, sockets and pipes are
/// left out, symbolic links are made anew, and nothing is followed. Modes stay, without setuid and setgid bits.
pub(super) fn tree(from: &Path, to: &Path, owner: Owner, watch: &Watch) -> Result<()> {
    let failed = |e: &dyn std::error::Error| {
        Error::new(ErrorKind::Scratch, format!("copy {} into a cell", from.display())).from_source(e)
    };
    let (Some(name), Some(parent)) = (from.file_name(), from.parent()) else {
        return Err(failed(&io::Error::other("it has no name")));
    };
    let (Some(new), Some(new_parent)) = (to.file_name(), to.parent()) else {
        return Err(failed(&io::Error::other("the copy has no name")));
    };
    let open = |path: &Path| rfs::open(path, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty());
    let source = open(parent).map_err(|e| failed(&e))?;
    let target = open(new_parent).map_err(|e| failed(&e))?;
    let copy = Copying { owner, watch };
    let (name, new) =
        (std::os::unix::ffi::OsStrExt::as_bytes(name), std::os::unix::ffi::OsStrExt::as_bytes(new));
    copy.entry(&source, name, &target, new, 0).map_err(|e| match watch.check() {
        Err(stopped) => stopped,
        Ok(()) => failed(&e),
    })
}

struct Copying<'w> {
    owner: Owner,
    watch: &'w Watch,
}

impl Copying<'_> {
    fn entry(&self, from: &OwnedFd, name: &[u8], to: &OwnedFd, new: &[u8], depth: usize) -> io::Result<()> {
        self.watch.check().map_err(|e| io::Error::other(e.chain()))?;
        let stat = rfs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
        match rfs::FileType::from_raw_mode(stat.st_mode) {
            rfs::FileType::RegularFile => self.file(from, name, to, new, mode),
            rfs::FileType::Symlink => {
                let target = rfs::readlinkat(from, name, Vec::new())?;
                rfs::symlinkat(&target, to, new)?;
                self.own(to, new)
            }
            rfs::FileType::Directory => self.folder(from, name, to, new, mode, depth),
            _ => Ok(()),
        }
    }

    fn file(&self, from: &OwnedFd, name: &[u8], to: &OwnedFd, new: &[u8], mode: Mode) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut source = std::fs::File::from(rfs::openat(from, name, flags, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut target = std::fs::File::from(rfs::openat(to, new, flags, Mode::RUSR | Mode::WUSR)?);
        // In the kernel, and as a shared extent where the file system can do that.
        io::copy(&mut source, &mut target)?;
        rfs::fchmod(&target, mode | Mode::RUSR | Mode::WUSR)?;
        self.own(to, new)
    }

    fn folder(
        &self,
        from: &OwnedFd,
        name: &[u8],
        to: &OwnedFd,
        new: &[u8],
        mode: Mode,
        depth: usize,
    ) -> io::Result<()> {
        if depth >= DEPTH_MAX {
            return Err(io::Error::other(format!("it has more than {DEPTH_MAX} folders inside each other")));
        }
        let source = rfs::openat(from, name, FOLDER, Mode::empty())?;
        match rfs::mkdirat(to, new, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        let target = rfs::openat(to, new, FOLDER, Mode::empty())?;
        for entry in rfs::Dir::read_from(&source)? {
            let entry = entry?;
            let child = entry.file_name().to_bytes();
            if child != b"." && child != b".." {
                self.entry(&source, child, &target, child, depth + 1)?;
            }
        }
        rfs::fchmod(&target, mode | Mode::RWXU)?;
        self.own(to, new)
    }

    fn own(&self, folder: &OwnedFd, name: &[u8]) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            rfs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn everything_but_special_files_is_copied_and_nothing_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        std::fs::write(&outside, "secret").unwrap();
        let from = place.path().join("from");
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::write(from.join("a/b/f"), "text").unwrap();
        std::fs::set_permissions(from.join("a/b/f"), std::fs::Permissions::from_mode(0o4711)).unwrap();
        symlink(&outside, from.join("link")).unwrap();
        rfs::mknodat(rfs::CWD, from.join("pipe"), rfs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let to = place.path().join("to");
        tree(&from, &to, None, &Watch::unlimited()).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("a/b/f")).unwrap(), "text");
        let mode = std::fs::metadata(to.join("a/b/f")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o711, "without setuid, readable and writable for the owner");
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), outside);
        assert!(!to.join("pipe").exists());
    }

    #[test]
    fn a_stop_is_told_as_such() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("f"), "x").unwrap();
        let watch = Watch::unlimited();
        watch.stop();
        let error = tree(&place.path().join("f"), &place.path().join("g"), None, &watch).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Cancelled);
    }
}
