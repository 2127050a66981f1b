//! Looking at one entry on disk, always relative to an open directory and never through a symbolic link.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use firedrill_core::manifest::Kind;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, lgetxattr, llistxattr, openat, statat,
};
use rustix::io::Errno;

/// No list of attributes and no value is longer: `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`.
pub(super) const ATTRIBUTES_MAX: usize = 64 * 1024;

/// How an entry is reached.
#[derive(Clone, Copy)]
pub(super) enum Handle<'a> {
    /// By a descriptor of its own: files and directories.
    Open(BorrowedFd<'a>),
    /// By directory and name: what cannot be opened without consequences.
    Named(BorrowedFd<'a>, &'a [u8]),
}

impl Handle<'_> {
    /// All names of attributes, each ended by a zero byte.
    pub(super) fn attribute_names<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let length = match self {
            Self::Open(fd) => flistxattr(fd, &mut *buffer)?,
            Self::Named(directory, name) => llistxattr(through_proc(directory, name), &mut *buffer)?,
        };
        Ok(buffer.get(..length).unwrap_or_default())
    }

    /// The value of one attribute.
    pub(super) fn attribute<'b>(&self, name: &[u8], buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let length = match self {
            Self::Open(fd) => fgetxattr(fd, name, &mut *buffer)?,
            Self::Named(directory, entry) => lgetxattr(through_proc(directory, entry), name, &mut *buffer)?,
        };
        Ok(buffer.get(..length).unwrap_or_default())
    }
}

/// There is no `llistxattrat` on the kernels we meet; this path is short however deep the directory is.
fn through_proc(directory: &BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Opens a directory or a file for reading. Reading does not touch its access time where that can be had.
pub(super) fn open(directory: BorrowedFd<'_>, name: &[u8], extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | extra;
    match openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may ask for NOATIME.
        Err(Errno::PERM) => openat(directory, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// What the kernel knows of an entry, itself, not what it points to.
pub(super) fn stat(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Whether something of type `seen` is what `kind` asks for.
pub(super) fn fits(kind: &Kind, seen: FileType) -> bool {
    matches!(
        (kind, seen),
        (Kind::File, FileType::RegularFile)
            | (Kind::Directory, FileType::Directory)
            | (Kind::Symlink(_), FileType::Symlink)
            | (Kind::Fifo, FileType::Fifo)
    )
}

/// The type for people.
pub(super) fn word(seen: FileType) -> &'static str {
    match seen {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "something of unknown type",
    }
}

/// The kind for people.
pub(super) fn kind_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::File => "a regular file",
        Kind::Directory => "a directory",
        Kind::Symlink(_) => "a symbolic link",
        Kind::Fifo => "a named pipe",
        Kind::Socket => "nothing, since sockets are not restored",
        Kind::Device => "nothing, since devices are not made in scratch",
    }
}
