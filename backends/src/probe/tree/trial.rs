//! Could a faithful restore have set this metadata here at all? Tried on a fresh entry, not guessed: the
//! answer depends on the user, on capabilities and user namespaces, on the file system and its mount options.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use firedrill_core::manifest::{Entry, Kind};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Stat, Timestamps, Uid, XattrFlags, chmodat, chownat, lgetxattr, llistxattr,
    lsetxattr, mkfifoat, utimensat,
};
use rustix::time::Timespec;

use super::disk::ATTRIBUTES_MAX;
use super::metadata::{PRIVILEGES, mode_of, mtime_of};

/// What of an entry's metadata came back from a fresh entry as it was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Possible {
    pub(super) mode: bool,
    pub(super) owner: bool,
    pub(super) time: bool,
    pub(super) attributes: bool,
    /// Names of attributes that a fresh entry has without being asked.
    pub(super) given: Vec<Vec<u8>>,
}

/// A folder of our own on the file system that was restored to.
pub(super) struct Trial {
    folder: PathBuf,
    number: u64,
}

impl Trial {
    pub(super) fn below(work: &Path) -> io::Result<Self> {
        let folder = work.join("tree");
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, number: 0 })
    }

    /// Makes an entry like `entry` and looks at what became of it. `Err` only if it cannot be made at all.
    pub(super) fn attempt(&mut self, entry: &Entry) -> io::Result<Possible> {
        self.number += 1;
        let path = self.folder.join(self.number.to_string());
        match &entry.kind {
            Kind::Directory => std::fs::create_dir(&path)?,
            Kind::Symlink(_) => symlink("nowhere", &path)?,
            Kind::Fifo => mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)?,
            Kind::File | Kind::Socket | Kind::Device => {
                std::fs::File::create_new(&path)?;
            }
        }
        let given = names(&path);
        set(&path, entry);
        let possible = rustix::fs::lstat(&path).map(|stat| compare(&path, &stat, entry, given));
        if entry.kind == Kind::Directory {
            std::fs::remove_dir(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
        Ok(possible?)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // Whatever is left goes with the lease.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Errors do not matter here: what counts is what is there afterwards.
fn set(path: &Path, entry: &Entry) {
    let real = |id: &u32| *id != u32::MAX;
    let uid = entry.uid.filter(real).map(Uid::from_raw);
    let gid = entry.gid.filter(real).map(Gid::from_raw);
    let _ = chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
    for attribute in entry.attributes.iter().filter(|a| !PRIVILEGES.contains(&a.name.as_str())) {
        let _ = lsetxattr(path, attribute.name.as_str(), &attribute.value, XattrFlags::empty());
    }
    if let Some(mode) = mode_of(entry) {
        let _ = chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty());
    }
    if let Some((seconds, nanoseconds)) = entry.mtime.and_then(split) {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        let _ = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    }
}

/// Whole seconds rounded down and the nanoseconds on top of them, as the kernel wants them.
fn split(time: jiff::Timestamp) -> Option<(i64, u32)> {
    let all = time.as_nanosecond();
    let seconds = i64::try_from(all.div_euclid(1_000_000_000)).ok()?;
    Some((seconds, u32::try_from(all.rem_euclid(1_000_000_000)).ok()?))
}

fn compare(path: &Path, stat: &Stat, entry: &Entry, given: Vec<Vec<u8>>) -> Possible {
    let mut buffer = vec![0; ATTRIBUTES_MAX];
    Possible {
        mode: mode_of(entry).is_none_or(|mode| stat.st_mode & 0o7777 == mode),
        owner: entry.uid.is_none_or(|uid| uid == stat.st_uid)
            && entry.gid.is_none_or(|gid| gid == stat.st_gid),
        time: entry.mtime.is_none_or(|time| time.as_nanosecond() == mtime_of(stat)),
        attributes: entry.attributes.iter().filter(|a| !PRIVILEGES.contains(&a.name.as_str())).all(|a| {
            lgetxattr(path, a.name.as_str(), buffer.as_mut_slice())
                .is_ok_and(|length| buffer.get(..length) == Some(a.value.as_slice()))
        }),
        given,
    }
}

fn names(path: &Path) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; ATTRIBUTES_MAX];
    let length = llistxattr(path, buffer.as_mut_slice()).unwrap_or(0);
    let list = buffer.get(..length).unwrap_or_default();
    list.split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}
