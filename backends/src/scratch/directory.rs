//! Scratch in plain directories.
//!
//! Each lease is a folder `firedrill-<id>` with mode 0700 that holds `label.json`, `data/` (restored
//! content) and `work/` (probes' copies). While its owner lives it holds a lock on the label, which
//! the kernel releases when the owner dies, however it dies: that is how [`Scratch::sweep`] tells a lease in
//! use from a leftover. A lease made on another machine (a shared file system) is left alone until it
//! expires.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firedrill_core::clock::Clock;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::ports::{Lease, LeaseRequest, Scratch, Swept};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{self as rfs, AtFlags, FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

const PREFIX: &str = "firedrill-";
const LABEL: &str = "label.json";
const LABEL_SIZE_MAX: u64 = 64 << 10;
/// What every label starts with.
const LABEL_START: &str = "{\"firedrill_lease\":";
/// A lease has its label long before this time passed.
const MAKING_SECONDS: i64 = 60;

/// What a lease says about itself.
#[derive(Debug, Serialize, Deserialize)]
struct Label {
    /// Marks the folder as ours.
    firedrill_lease: u32,
    run: String,
    drill: String,
    created: Timestamp,
    expires: Timestamp,
    /// Tells one boot of one machine from all others.
    boot: String,
    /// A person asked to keep it.
    #[serde(default)]
    kept: bool,
}

/// Leases below one folder.
pub struct DirectoryScratch {
    base: PathBuf,
    clock: Arc<dyn Clock>,
    kept_too: bool,
}

impl DirectoryScratch {
    /// Leases below `base`, which is made if it does not exist.
    pub fn new(base: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { base, clock, kept_too: false }
    }

    /// The folder that is used when nobody names one: below the temporary folder, private to this user.
    pub fn default_base() -> PathBuf {
        std::env::temp_dir().join(format!("firedrill-scratch-{}", rustix::process::geteuid().as_raw()))
    }

    /// Lets [`Scratch::sweep`] remove leases that were kept on purpose, too.
    #[must_use]
    pub fn sweeping_kept(mut self) -> Self {
        self.kept_too = true;
        self
    }

    /// Makes the base, or checks that an existing one cannot be changed by other users.
    fn prepare(&self) -> Result<()> {
        let attempt = || format!("use {} as scratch", self.base.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.base)
            .and_then(|()| std::fs::symlink_metadata(&self.base))
            .map_err(|e| {
                Error::new(ErrorKind::Scratch, attempt())
                    .from_source(&e)
                    .advise("choose a writable folder with --scratch")
            })
            .and_then(|meta| {
                let others_write = meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0;
                let stranger = meta.uid() != rustix::process::geteuid().as_raw() && meta.uid() != 0;
                if meta.is_dir() && !others_write && !stranger {
                    return Ok(());
                }
                Err(Error::new(ErrorKind::Usage, attempt())
                    .because("it is a link, belongs to another user, or other users can write to it")
                    .advise("choose a private folder with --scratch"))
            })
    }

    fn sweep_one(&self, name: &str, swept: &mut Swept) {
        let folder = self.base.join(name);
        match self.leftover(&folder) {
            Ok(None) => match remove(&self.base, name) {
                Ok(()) => swept.removed.push(name.to_owned()),
                Err(e) => swept.failed.push(format!("{name}: {e}")),
            },
            Ok(Some(why)) => swept.in_use.push(format!("{name}: {why}")),
            Err(why) => swept.failed.push(format!("{name}: {why}")),
        }
    }

    /// `None` when the lease may be removed, or why not.
    fn leftover(&self, folder: &Path) -> std::result::Result<Option<String>, String> {
        let path = folder.join(LABEL);
        let file = match OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
        {
            Ok(file) => file,
            // A lease whose owner died before it wrote the label holds nothing.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && is_bare(folder) => {
                return Ok(self.in_the_making(folder));
            }
            Err(e) => return Err(format!("its label cannot be read: {e}")),
        };
        if rfs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Some("its owner is alive".to_owned()));
        }
        let mut text = String::new();
        file.take(LABEL_SIZE_MAX)
            .read_to_string(&mut text)
            .map_err(|e| format!("its label cannot be read: {e}"))?;
        let label: Label = match serde_json::from_str(&text) {
            Ok(label) => label,
            // Cut short: its owner died while it wrote it.
            Err(_) if LABEL_START.starts_with(&text) || text.starts_with(LABEL_START) => {
                return Ok(self.in_the_making(folder));
            }
            Err(e) => return Err(format!("its label is not one of ours: {e}")),
        };
        if label.kept && !self.kept_too {
            return Ok(Some("it was kept on purpose (sweep --kept removes it)".to_owned()));
        }
        if label.boot != boot_id() && label.expires > self.clock.now() {
            return Ok(Some(format!(
                "it was made elsewhere or before a restart, and expires at {}",
                label.expires
            )));
        }
        Ok(None)
    }
}

impl DirectoryScratch {
    /// A lease without a whole label is a leftover, unless it is so young that its owner may be about to
    /// write one.
    fn in_the_making(&self, folder: &Path) -> Option<String> {
        let made = std::fs::symlink_metadata(folder).ok()?.mtime();
        let age = self.clock.now().as_second().saturating_sub(made);
        (age < MAKING_SECONDS).then(|| "it is being made".to_owned())
    }
}

impl Scratch for DirectoryScratch {
    fn provision(&self, request: &LeaseRequest<'_>) -> Result<Lease> {
        self.prepare()?;
        let id = lease_id(request);
        let name = format!("{PREFIX}{id}");
        let folder = self.base.join(&name);
        let attempt = |e: std::io::Error| {
            Error::new(ErrorKind::Scratch, format!("make a scratch folder in {}", self.base.display()))
                .from_source(&e)
        };
        let private = |path: &Path| DirBuilder::new().mode(0o700).create(path).map_err(attempt);
        private(&folder)?;
        let now = self.clock.now();
        let lifetime = SignedDuration::try_from(request.lifetime).unwrap_or(SignedDuration::from_hours(24));
        let label = Label {
            firedrill_lease: 1,
            run: request.run.to_owned(),
            drill: request.drill.to_string(),
            created: now,
            expires: now.checked_add(lifetime).unwrap_or(Timestamp::MAX),
            boot: boot_id(),
            kept: false,
        };
        let lock = open_label(&folder).map_err(attempt)?;
        rfs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| attempt(e.into()))?;
        write_label(&lock, &label).map_err(attempt)?;
        let (data, work) = (folder.join("data"), folder.join("work"));
        private(&data)?;
        private(&work)?;
        let base = self.base.clone();
        Ok(Lease::new(id, data, work, move |keep| {
            if keep {
                let kept = Label { kept: true, ..label };
                write_label(&lock, &kept).map_err(|e| {
                    Error::new(ErrorKind::Scratch, format!("keep {}", folder.display())).from_source(&e)
                })?;
                drop(lock);
                return Ok(Some(folder.join("data").display().to_string()));
            }
            let removed = remove(&base, &name);
            drop(lock);
            removed.map(|()| None).map_err(|e| {
                Error::new(ErrorKind::Scratch, format!("remove {}", folder.display()))
                    .from_source(&e)
                    .advise("`firedrill sweep` tries again")
            })
        }))
    }

    fn sweep(&self) -> Result<Swept> {
        let mut swept = Swept::default();
        let listing = match std::fs::read_dir(&self.base) {
            Ok(listing) => listing,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(swept),
            Err(e) => {
                return Err(
                    Error::new(ErrorKind::Scratch, format!("list {}", self.base.display())).from_source(&e)
                );
            }
        };
        let mut names: Vec<String> = listing
            .filter_map(std::result::Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(PREFIX))
            .collect();
        names.sort();
        for name in names {
            self.sweep_one(&name, &mut swept);
        }
        Ok(swept)
    }
}

fn open_label(folder: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(folder.join(LABEL))
}

/// Writes the label in place: it is never renamed, because the lock belongs to the file.
fn write_label(mut file: &File, label: &Label) -> std::io::Result<()> {
    let text = serde_json::to_vec(label)?;
    file.seek(std::io::SeekFrom::Start(0))?;
    file.set_len(0)?;
    file.write_all(&text)
}

fn is_bare(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Unique among all leases of this machine: the run and the drill are told apart by a hash.
fn lease_id(request: &LeaseRequest<'_>) -> String {
    use sha2::{Digest as _, Sha256};
    let hash = hex::encode(Sha256::digest(format!("{} {}", request.run, request.drill)));
    hash[..16].to_owned()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Removes the folder `name` in `base` with everything in it, following no links.
///
/// Folders inside are moved up one by one and then emptied in turn, so neither depth nor path length
/// matters, and only two folders are open at a time. Folders without permissions get them first.
pub fn remove(base: &Path, name: &str) -> std::io::Result<()> {
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
            let listed = own && (mine.contains(child) || child == LABEL.as_bytes());
            if child == b"." || child == b".." || listed {
                continue;
            }
            match rfs::unlinkat(&folder, child, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => continue,
                Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {}
                Err(e) => return Err(e.into()),
            }
            // Moving a folder writes its `..` entry, so it must be writable itself.
            rfs::chmodat(&folder, child, Mode::RWXU, AtFlags::empty())?;
            let up = loop {
                moved += 1;
                let up = [MOVED, moved.to_string().as_bytes()].concat();
                match rfs::renameat_with(&folder, child, &lease, &up, rfs::RenameFlags::NOREPLACE) {
                    Ok(()) => break up,
                    Err(rustix::io::Errno::EXIST) => {}
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
    match rfs::unlinkat(&lease, LABEL, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    rfs::unlinkat(&top, name, AtFlags::REMOVEDIR)?;
    Ok(())
}

/// Names of folders that were moved up.
const MOVED: &[u8] = b".removing-";
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open_folder(parent: &OwnedFd, name: &[u8]) -> std::io::Result<OwnedFd> {
    match rfs::openat(parent, name, FOLDER, Mode::empty()) {
        Err(rustix::io::Errno::ACCESS) => {
            rfs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            Ok(rfs::openat(parent, name, FOLDER, Mode::empty())?)
        }
        other => Ok(other?),
    }
}
