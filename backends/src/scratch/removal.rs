//! Removes a lease, whatever was restored into it.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// The file that is removed last: as long as it is there, somebody who finds the rest knows whose it is.
const LAST: &str = super::directory::LABEL;

/// Removes the folder `name` in `base` with everything in it, following no links.
///
/// Folders inside are moved up one by one and then emptied in turn, so neither depth nor path length
/// matters, and only two folders are open at a time. Folders without permissions get them first.
pub(crate) fn remove(base: &Path, name: &str) -> std::io::Result<()> {
    let top: OwnedFd = rfs::openat(rfs::CWD, base, FOLDER, Mode::empty())?;
    let lease = open_folder(&top, name.as_bytes())?;
    // A removal that was killed left folders under these names; they are found again like any other.
    let mut moved = 0_u64;
    let mut waiting = vec![Vec::from(b"." as &[u8])];
    let mut mine = std::collections::HashSet::new();
    while let Some(next) = waiting.pop() {
        let folder = if next == b"." { lease.try_clone()? } else { open_folder(&lease, &next)? };
        let own = next == b".";
        for entry in rfs::Dir::read_from(&folder)? {
            let entry = entry?;
            let child = entry.file_name().to_bytes();
            // What was moved up earlier is on the list already; the label goes last.
            let listed = own && (mine.contains(child) || child == LAST.as_bytes());
            if child == b"." || child == b".." || listed {
                continue;
            }
            match rfs::unlinkat(&folder, child, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(e) => return Err(e.into()),
            }
            // Moving a folder writes its `..` entry, so it must be writable itself.
            drop(open_folder(&folder, child)?);
            let up = loop {
                moved += 1;
                let up = [MOVED, moved.to_string().as_bytes()].concat();
                match rfs::renameat_with(&folder, child, &lease, &up, rfs::RenameFlags::NOREPLACE) {
                    Ok(()) => break up,
                    Err(Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
            };
            mine.insert(up.clone());
            waiting.push(up);
        }
        if !own {
            rfs::unlinkat(&lease, &next, AtFlags::REMOVEDIR)?;
        }
    }
    match rfs::unlinkat(&lease, LAST, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    match rfs::unlinkat(&top, name, AtFlags::REMOVEDIR) {
        // An empty folder without a label is nobody's, so that a sweep may have been faster.
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Names of folders that were moved up.
const MOVED: &[u8] = b".removing-";
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a folder and gives its owner every permission on it. Never follows a link: what a name stands for
/// may have changed since it was listed.
fn open_folder(parent: &OwnedFd, name: &[u8]) -> std::io::Result<OwnedFd> {
    match rfs::openat(parent, name, FOLDER, Mode::empty()) {
        Ok(folder) => {
            rfs::fchmod(&folder, Mode::RWXU)?;
            Ok(folder)
        }
        Err(Errno::ACCESS) => {
            // Without permission to read it can only be named, by way of /proc.
            let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let named = rfs::openat(parent, name, path, Mode::empty())?;
            rfs::chmod(format!("/proc/self/fd/{}", named.as_raw_fd()), Mode::RWXU)?;
            Ok(rfs::openat(parent, name, FOLDER, Mode::empty())?)
        }
        Err(e) => Err(e.into()),
    }
}
