//! The folder of a cell, as this machine sees it: what is brought into a cell is written here, and the disk is
//! watched here. Programs of the cell may have put anything there, so that no link in it is ever followed.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firedrill_core::cell::{CELL_FOLDER, below};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use rustix::fs::{self as rfs, Mode, OFlags, ResolveFlags};

use super::copying::{self, Owner};
use crate::scratch;

/// How often the disk is looked at, at most: looking takes time itself.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// The folder of a cell. It is removed with everything in it when this is dropped.
pub(super) struct CellFolder {
    work: PathBuf,
    own: PathBuf,
    owner: Owner,
    disk: u64,
    full: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
}

impl CellFolder {
    /// Makes the new folder `work`, and in it the one that the cell sees, which belongs to `user`. Without a
    /// user it stays ours.
    pub(super) fn new(work: &Path, user: Option<u32>, disk: u64) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::new(ErrorKind::Scratch, format!("make a folder for a cell in {}", work.display()))
                .from_source(&e)
        };
        make_private(work).map_err(failed)?;
        let own = work.join("cell");
        let owner = user.map(|user| (rfs::Uid::from_raw(user), rfs::Gid::from_raw(user)));
        let (full, closed) = (Arc::default(), Arc::default());
        let folder = Self { work: work.to_owned(), own, owner, disk, full, closed };
        make_private(&folder.own).map_err(failed)?;
        std::os::unix::fs::chown(&folder.own, user, user).map_err(failed)?;
        Ok(folder)
    }

    /// The folder that the cell sees.
    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    /// Makes another folder, which the cell does not see by itself.
    pub(super) fn beside(&self, name: &str) -> Result<PathBuf> {
        let path = self.work.join(name);
        make_private(&path).map_err(|e| {
            Error::new(ErrorKind::Scratch, format!("make a folder for a cell in {}", self.work.display()))
                .from_source(&e)
        })?;
        Ok(path)
    }

    /// Calls `kill` when the cell has written too much, unless it is closed by then.
    pub(super) fn watch_disk(&self, kill: impl Fn() + Send + 'static) {
        let (own, max) = (self.own.clone(), self.disk);
        let (full, closed) = (Arc::clone(&self.full), Arc::clone(&self.closed));
        std::thread::spawn(move || {
            while !closed.load(Ordering::Relaxed) {
                let start = Instant::now();
                if used_bytes(&own) > max {
                    full.store(true, Ordering::SeqCst);
                    return kill();
                }
                let mut left = DISK_PAUSE.max(start.elapsed() * 10);
                while !left.is_zero() && !closed.load(Ordering::Relaxed) {
                    let step = left.min(Duration::from_millis(100));
                    std::thread::sleep(step);
                    left -= step;
                }
            }
        });
    }

    /// `Err` when the cell was killed because it wrote too much; `attempted` says during what.
    pub(super) fn check_disk(&self, attempted: impl Fn() -> Error) -> Result<()> {
        if !self.full.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(attempted()
            .because(format!("the cell wrote more than {} bytes", self.disk))
            .advise("raise `runtime: { disk: ... }` in the config"))
    }

    /// Writes what `from` gives into the file `to`, making its folders. Returns the bytes written.
    pub(super) fn bring(&self, from: &mut dyn Read, to: &str, watch: &Watch) -> Result<u64> {
        let path = relative(to)?;
        let failed = |e: std::io::Error| {
            Error::new(ErrorKind::Scratch, format!("write {to} in a cell")).from_source(&e)
        };
        let folder = self.make_parents(&path).map_err(failed)?;
        let name = path.file_name().unwrap_or_default();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            // A pipe that a program put there must not hold us up.
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(within(&folder).join(name))
            .map_err(failed)?;
        let mut written = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            watch.check()?;
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    let what = format!("read what becomes {to} in a cell");
                    return Err(Error::new(ErrorKind::Unavailable, what).from_source(&e));
                }
            };
            file.write_all(buffer.get(..n).unwrap_or_default()).map_err(failed)?;
            written += n as u64;
            if written > self.disk {
                return Err(failed(std::io::Error::other("it is larger than the disk limit of the cell")));
            }
        }
        self.hand_over(&folder, name).map_err(failed)?;
        Ok(written)
    }

    /// Makes the new file `to`, and its folders.
    pub(super) fn create<'c>(&'c self, to: &str, watch: &'c Watch) -> Result<NewFile<'c>> {
        let path = relative(to)?;
        let name = path.file_name().unwrap_or_default();
        let make = || {
            let folder = self.make_parents(&path)?;
            let mut options = OpenOptions::new();
            // Nothing that a program put there is opened: a new file is made, or none.
            options.write(true).create_new(true).mode(0o600);
            let file = options.open(within(&folder).join(name))?;
            self.hand_over(&folder, name)?;
            Ok(file)
        };
        let file = make().map_err(|e: std::io::Error| {
            Error::new(ErrorKind::Scratch, format!("make {to} in a cell")).from_source(&e)
        })?;
        Ok(NewFile { file, written: 0, folder: self, watch })
    }

    /// Copies the restored file or folder `from` to `to`, following nothing.
    pub(super) fn bring_tree(&self, from: &Path, to: &str, watch: &Watch) -> Result<()> {
        let path = relative(to)?;
        let folder = self
            .make_parents(&path)
            .map_err(|e| Error::new(ErrorKind::Scratch, format!("make {to} in a cell")).from_source(&e))?;
        copying::tree(from, &within(&folder).join(path.file_name().unwrap_or_default()), self.owner, watch)
    }

    /// Connects to a unix socket below the folder.
    pub(super) fn connect(&self, inside: &str) -> Result<tokio::net::UnixStream> {
        let failed = |e: &dyn std::error::Error| {
            Error::new(ErrorKind::Unavailable, "connect to a server in a cell").from_source(e)
        };
        // By way of a descriptor: paths of sockets have to be short, and links lead elsewhere.
        let socket = self.open(&relative(inside)?, OFlags::PATH).map_err(|e| failed(&e))?;
        let stream = std::os::unix::net::UnixStream::connect(within(&socket)).map_err(|e| failed(&e))?;
        stream.set_nonblocking(true).map_err(|e| failed(&e))?;
        tokio::net::UnixStream::from_std(stream).map_err(|e| failed(&e))
    }

    /// Removes the folder with everything in it. May be called twice.
    pub(super) fn remove(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let (Some(parent), Some(name)) = (self.work.parent(), self.work.file_name().and_then(|n| n.to_str()))
        else {
            return Ok(());
        };
        scratch::remove(parent, name).map_err(|e| {
            Error::new(ErrorKind::Scratch, format!("remove the cell in {}", self.work.display()))
                .from_source(&e)
        })
    }

    /// Opens something below the folder.
    fn open(&self, path: &Path, flags: OFlags) -> std::io::Result<OwnedFd> {
        let own = rfs::open(&self.own, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(rfs::openat2(&own, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// Makes the folders that lead to `path`.
    fn make_parents(&self, path: &Path) -> std::io::Result<OwnedFd> {
        let mut here = self.open(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY)?;
        for part in path.parent().into_iter().flat_map(Path::components) {
            let name = part.as_os_str();
            match rfs::mkdirat(&here, name, Mode::RWXU) {
                Ok(()) => self.hand_over(&here, name)?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            here = rfs::openat(&here, name, flags, Mode::empty())?;
        }
        Ok(here)
    }

    /// Gives something that we made to the cell's user.
    fn hand_over(&self, folder: &OwnedFd, name: &std::ffi::OsStr) -> std::io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            rfs::chownat(folder, name, Some(uid), Some(gid), rfs::AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

/// A file in the making, which ends at the limit of the cell's disk.
pub(super) struct NewFile<'c> {
    file: std::fs::File,
    written: u64,
    folder: &'c CellFolder,
    watch: &'c Watch,
}

impl Write for NewFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.watch.check().map_err(|e| std::io::Error::other(e.chain()))?;
        let full = self.folder.full.load(Ordering::SeqCst);
        if full || self.written.saturating_add(bytes.len() as u64) > self.folder.disk {
            return Err(std::io::Error::other("there is more than the disk limit of the cell allows"));
        }
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for CellFolder {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("{}", error.chain());
        }
    }
}

/// The place of an inside path below the cell's folder.
fn relative(inside: &str) -> Result<PathBuf> {
    below(inside).filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::Internal, format!("find {inside} in a cell"))
            .because(format!("it is not below {CELL_FOLDER}"))
    })
}

/// A path to what `descriptor` stands for, wherever it was moved.
fn within(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// Bytes on disk below `folder`. What vanishes meanwhile does not count.
fn used_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            total += meta.blocks() * 512;
            if meta.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder(place: &Path) -> CellFolder {
        CellFolder::new(&place.join("work"), None, 1000).unwrap()
    }

    #[test]
    fn links_and_pipes_in_the_folder_lead_nowhere() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("f"), "kept").unwrap();
        let folder = folder(place.path());
        symlink(&outside, folder.own().join("out")).unwrap();
        symlink(outside.join("f"), folder.own().join("file")).unwrap();
        rfs::mknodat(rfs::CWD, folder.own().join("pipe"), rfs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let watch = Watch::unlimited();
        for to in ["/cell/out/f", "/cell/out/g", "/cell/file", "/cell/pipe"] {
            assert!(folder.bring(&mut &b"x"[..], to, &watch).is_err(), "{to}");
            assert!(folder.create(to, &watch).is_err(), "{to}");
        }
        assert!(folder.bring_tree(&outside, "/cell/out/tree", &watch).is_err());
        assert_eq!(std::fs::read_to_string(outside.join("f")).unwrap(), "kept");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        folder.bring_tree(&outside, "/cell/a/tree", &watch).unwrap();
        assert_eq!(std::fs::read_to_string(folder.own().join("a/tree/f")).unwrap(), "kept");
    }

    #[test]
    fn what_is_larger_than_the_disk_is_not_brought_in() {
        let place = tempfile::tempdir().unwrap();
        let folder = folder(place.path());
        let watch = Watch::unlimited();
        assert_eq!(folder.bring(&mut [0; 1000].as_slice(), "/cell/f", &watch).unwrap(), 1000);
        let error = folder.bring(&mut [0; 1001].as_slice(), "/cell/f", &watch).unwrap_err().chain();
        assert!(error.contains("disk limit"), "{error}");
        let mut file = folder.create("/cell/a/new", &watch).unwrap();
        file.write_all(&[0; 600]).unwrap();
        let error = file.write_all(&[0; 401]).unwrap_err().to_string();
        assert!(error.contains("disk limit"), "{error}");
        drop(file);
        drop(folder);
        assert!(!place.path().join("work").exists());
    }
}
