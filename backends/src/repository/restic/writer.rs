//! Writes entries into a lease, and nowhere else.
//!
//! Every operation names a single path component relative to an open folder, and folders are opened
//! component by component without following symbolic links. A snapshot can therefore not write outside
//! its lease, whatever its names and links say, and paths longer than `PATH_MAX` work.
//!
//! Deliberately not made: device nodes, sockets, setuid and setgid bits of files, and file capabilities.
//! They would give power to whoever runs on this machine, and their loss loses no data.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::manifest::{Entry, Kind, display_path, is_withheld};
use rustix::fs::{self, AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

/// Open folders that are kept for the next entry.
const FOLDERS_MAX: usize = 256;
/// Runs of zeros are left as holes in steps of this many bytes.
const PAGE: usize = 4096;

/// Writes below one folder.
pub(in crate::repository) struct Writer {
    root: Arc<OwnedFd>,
    folders: Mutex<HashMap<Vec<u8>, Arc<OwnedFd>>>,
    written: AtomicU64,
    bytes_max: Option<u64>,
    owner: bool,
}

impl Writer {
    /// A writer below `root`, which exists and is empty. At most `bytes_max` bytes are written.
    pub(in crate::repository) fn new(root: &Path, bytes_max: Option<u64>) -> Result<Self> {
        let root = fs::open(root, FOLDER, Mode::empty()).map_err(|e| scratch("open the lease", b"", e))?;
        Ok(Self {
            root: Arc::new(root),
            folders: Mutex::default(),
            written: AtomicU64::new(0),
            bytes_max,
            owner: rustix::process::geteuid().is_root(),
        })
    }

    /// Makes a folder that is open to nobody else until [`Writer::settle_folder`].
    pub(in crate::repository) fn make_folder(&self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.place(path)?;
        fs::mkdirat(&*parent, &name, Mode::RWXU).map_err(|e| scratch("make the folder", path, e))
    }

    /// Makes an empty file and returns it.
    pub(in crate::repository) fn make_file(&self, path: &[u8]) -> Result<OwnedFd> {
        let (parent, name) = self.place(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&*parent, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| scratch("make the file", path, e))
    }

    /// Opens a file that was made before.
    pub(super) fn open_file(&self, path: &[u8]) -> Result<OwnedFd> {
        let (parent, name) = self.place(path)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&*parent, &name, flags, Mode::empty()).map_err(|e| scratch("open the file", path, e))
    }

    /// Writes `content` at `offset`; pages of zeros stay holes.
    pub(in crate::repository) fn write(
        &self,
        file: &OwnedFd,
        path: &[u8],
        offset: u64,
        content: &[u8],
    ) -> Result<()> {
        let mut at = 0;
        while at < content.len() {
            let run = run_of_data(&content[at..]);
            if run == 0 {
                at += content.len().saturating_sub(at).min(PAGE);
                continue;
            }
            self.spend(run as u64)?;
            let mut rest = &content[at..at + run];
            let mut place = offset + at as u64;
            while !rest.is_empty() {
                match rustix::io::pwrite(file, rest, place) {
                    Ok(0) => return Err(scratch("write", path, Errno::IO)),
                    Ok(n) => {
                        rest = rest.get(n..).unwrap_or_default();
                        place += n as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(e) => return Err(scratch("write", path, e)),
                }
            }
            at += run;
        }
        Ok(())
    }

    fn spend(&self, bytes: u64) -> Result<()> {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        match self.bytes_max {
            Some(max) if before.saturating_add(bytes) > max => {
                Err(Error::new(ErrorKind::Scratch, "restore within the scratch limit")
                    .because(format!("the content needs more than {max} bytes"))
                    .advise("raise --scratch-limit or run fewer --jobs"))
            }
            _ => Ok(()),
        }
    }

    /// Gives a file its length and metadata, and closes it. Without a length it ends where its content
    /// does: a size that the content does not bear out is not believed.
    pub(in crate::repository) fn settle_file(
        &self,
        file: OwnedFd,
        entry: &Entry,
        length: Option<u64>,
    ) -> Result<()> {
        if let Some(length) = length {
            fs::ftruncate(&file, length).map_err(|e| scratch("set the length of", &entry.path, e))?;
        }
        self.settle(&file, entry, 0o6000)
    }

    /// Gives a folder its metadata. Call it when nothing more is written into the folder.
    pub(super) fn settle_folder(&self, entry: &Entry) -> Result<()> {
        let folder = self.folder(&entry.path)?;
        self.forget(&entry.path);
        self.settle(&folder, entry, 0)
    }

    fn settle(&self, file: &OwnedFd, entry: &Entry, withheld_mode: u32) -> Result<()> {
        if self.owner {
            let (uid, gid) = owner(entry);
            fs::fchown(file, uid, gid).map_err(|e| scratch("set the owner of", &entry.path, e))?;
        }
        for attribute in entry.attributes.iter().filter(|a| !is_withheld(&a.name)) {
            let set = CString::new(attribute.name.as_str())
                .map_err(|_| Errno::INVAL)
                .and_then(|name| fs::fsetxattr(file, &name, &attribute.value, fs::XattrFlags::empty()));
            tolerate(set, "set an attribute of", &entry.path)?;
        }
        if let Some(mode) = entry.mode {
            fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777 & !withheld_mode))
                .map_err(|e| scratch("set the mode of", &entry.path, e))?;
        }
        if let Some(times) = times(entry) {
            fs::futimens(file, &times).map_err(|e| scratch("set the time of", &entry.path, e))?;
        }
        Ok(())
    }

    /// Makes a symbolic link; what it points to is never looked at.
    pub(super) fn make_link(&self, entry: &Entry, target: &[u8]) -> Result<()> {
        let (parent, name) = self.place(&entry.path)?;
        fs::symlinkat(target, &*parent, &name)
            .map_err(|e| scratch("make the symbolic link", &entry.path, e))?;
        self.settle_by_name(&parent, &name, entry)
    }

    /// Makes a named pipe.
    pub(super) fn make_fifo(&self, entry: &Entry) -> Result<()> {
        let (parent, name) = self.place(&entry.path)?;
        let mode = Mode::from_raw_mode(entry.mode.unwrap_or(0o600) & 0o777);
        fs::mknodat(&*parent, &name, fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|e| scratch("make the named pipe", &entry.path, e))?;
        fs::chmodat(&*parent, &name, mode, AtFlags::empty())
            .map_err(|e| scratch("set the mode of", &entry.path, e))?;
        self.settle_by_name(&parent, &name, entry)
    }

    fn settle_by_name(&self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        if self.owner {
            let (uid, gid) = owner(entry);
            fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| scratch("set the owner of", &entry.path, e))?;
        }
        if !entry.attributes.is_empty() {
            // There is no call that sets an attribute relative to an open folder without following links;
            // the folder's own entry in /proc names it without a path that could be changed meanwhile.
            use std::os::fd::AsRawFd as _;
            let mut path = format!("/proc/self/fd/{}/", parent.as_fd().as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            for attribute in entry.attributes.iter().filter(|a| !is_withheld(&a.name)) {
                let set = CString::new(attribute.name.as_str()).map_err(|_| Errno::INVAL).and_then(|name| {
                    fs::lsetxattr(path.as_slice(), &name, &attribute.value, fs::XattrFlags::empty())
                });
                tolerate(set, "set an attribute of", &entry.path)?;
            }
        }
        match times(entry) {
            Some(times) => fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| scratch("set the time of", &entry.path, e)),
            None => Ok(()),
        }
    }

    /// Gives the file at `existing` a second name.
    pub(super) fn hard_link(&self, existing: &[u8], path: &[u8]) -> Result<()> {
        let (from, old) = self.place(existing)?;
        let (to, new) = self.place(path)?;
        fs::linkat(&*from, &old, &*to, &new, AtFlags::empty()).map_err(|e| scratch("hard-link", path, e))
    }

    /// The open folder that holds `path`, and the last component.
    fn place(&self, path: &[u8]) -> Result<(Arc<OwnedFd>, Vec<u8>)> {
        match path.iter().rposition(|c| *c == b'/') {
            Some(slash) => Ok((self.folder(&path[..slash])?, path[slash + 1..].to_vec())),
            None => Ok((Arc::clone(&self.root), path.to_vec())),
        }
    }

    /// Opens a folder, starting from the nearest one that is still open.
    fn folder(&self, path: &[u8]) -> Result<Arc<OwnedFd>> {
        let mut known = path.len();
        let mut folder = loop {
            if known == 0 {
                break Arc::clone(&self.root);
            }
            if let Some(open) = self.lock().get(&path[..known]) {
                break Arc::clone(open);
            }
            known = path[..known].iter().rposition(|c| *c == b'/').unwrap_or(0);
        };
        let mut done = known;
        while done < path.len() {
            let start = if done == 0 { 0 } else { done + 1 };
            let end = path[start..].iter().position(|c| *c == b'/').map_or(path.len(), |n| start + n);
            let next = fs::openat(&*folder, &path[start..end], FOLDER, Mode::empty())
                .map_err(|e| scratch("open the folder", &path[..end], e))?;
            folder = Arc::new(next);
            done = end;
            let mut folders = self.lock();
            if folders.len() >= FOLDERS_MAX {
                folders.clear();
            }
            folders.insert(path[..end].to_vec(), Arc::clone(&folder));
        }
        Ok(folder)
    }

    fn forget(&self, path: &[u8]) {
        self.lock().remove(path);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, Arc<OwnedFd>>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How many bytes at the start of `content` hold data; 0 when it starts with a page of zeros. Looking for
/// zeros costs little: in real data the first byte of a page usually decides.
fn run_of_data(content: &[u8]) -> usize {
    let mut end = 0;
    while end < content.len() {
        let page = &content[end..content.len().min(end + PAGE)];
        if page.iter().all(|b| *b == 0) {
            break;
        }
        end += page.len();
    }
    end
}

fn owner(entry: &Entry) -> (Option<fs::Uid>, Option<fs::Gid>) {
    // The number of all ones means "leave it as it is" to the kernel.
    let real = |id: Option<u32>| id.filter(|id| *id != u32::MAX);
    (real(entry.uid).map(fs::Uid::from_raw), real(entry.gid).map(fs::Gid::from_raw))
}

fn times(entry: &Entry) -> Option<Timestamps> {
    let mtime = entry.mtime?;
    // The kernel wants nanoseconds counted upwards, also before 1970.
    let (mut seconds, mut nanos) = (mtime.as_second(), i64::from(mtime.subsec_nanosecond()));
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    Some(Timestamps { last_access: time, last_modification: time })
}

/// Attributes that this file system or user cannot set are no reason to stop: the examination of the tree
/// compares them and says what that means.
fn tolerate(result: std::result::Result<(), Errno>, attempted: &str, path: &[u8]) -> Result<()> {
    match result {
        Ok(())
        | Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::RANGE | Errno::TOOBIG)
        // What does not fit into an inode looks like a full disk.
        | Err(Errno::NOSPC | Errno::DQUOT) => Ok(()),
        Err(e) => Err(scratch(attempted, path, e)),
    }
}

/// What goes wrong in scratch is our trouble, never the backup's.
fn scratch(attempted: &str, path: &[u8], errno: Errno) -> Error {
    let advice = match errno {
        Errno::NOSPC | Errno::DQUOT => {
            "scratch is full: free some space, or choose another place with --scratch"
        }
        Errno::ROFS => "scratch is read-only: choose another place with --scratch",
        Errno::ACCESS | Errno::PERM => {
            "scratch refuses it: run as root, or choose another place with --scratch"
        }
        Errno::MFILE | Errno::NFILE => "raise the limit of open files (ulimit -n)",
        Errno::NAMETOOLONG => {
            "the file system of scratch has no names of this length: choose another with --scratch"
        }
        _ => "look at the file system of scratch, or choose another place with --scratch",
    };
    Error::new(ErrorKind::Scratch, format!("{attempted} {} in scratch", display_path(path)))
        .because(errno.to_string())
        .advise(advice)
}

/// Whether an entry loses anything in scratch on purpose, in words.
pub(super) fn withheld(entry: &Entry) -> Option<&'static str> {
    match entry.kind {
        Kind::Device => Some("device nodes"),
        Kind::Socket => Some("sockets"),
        Kind::File if entry.mode.is_some_and(|mode| mode & 0o6000 != 0) => {
            Some("setuid or setgid bits of files")
        }
        Kind::File if entry.attributes.iter().any(|a| is_withheld(&a.name)) => Some("file capabilities"),
        _ => None,
    }
}
