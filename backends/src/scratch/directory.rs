//! Scratch in plain directories.
//!
//! Each lease is a folder `firedrill-<id>` with mode 0700 that holds `label.json`, `data/` (restored
//! content) and `work/` (probes' copies). While its owner lives it holds a lock on the label, which
//! the kernel releases when the owner dies, however it dies: that is how [`Scratch::sweep`] tells a lease in
//! use from a leftover. A lease made on another machine (a shared file system) is left alone until it
//! expires.
//!
//! Who makes a lease holds a shared lock on the base folder until the label is locked. A lease without a
//! label whose base can be locked alone is therefore nobody's.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firedrill_core::clock::Clock;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::ports::{Lease, LeaseRequest, Scratch, Swept};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{self as rfs, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::removal::remove;

const PREFIX: &str = "firedrill-";
pub(super) const LABEL: &str = "label.json";
const LABEL_SIZE_MAX: u64 = 64 << 10;
/// What every label starts with.
const LABEL_START: &str = "{\"firedrill_lease\":";
/// A lease has its label long before this time passed.
const MAKING_SECONDS: i64 = 60;
/// The name of a drill is kept up to this length: a label is small.
const DRILL_MAX: usize = 4 << 10;
/// So many names are tried for one lease: more runs of one id do not meet in one scratch folder.
const NAMES_MAX: u32 = 100;
/// Where restored content goes.
const DATA: &str = "data";
/// Where probes may write.
const WORK: &str = "work";

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

/// What a label, or its absence, means for a sweep.
enum Claim {
    /// Nobody's. Whatever is locked stays locked while this is held.
    Leftover(Option<OwnedFd>),
    /// It stays, for this reason.
    Alone(String),
    /// Somebody else has removed it.
    Gone,
}

enum Look {
    Labelled(Claim),
    /// Nothing yet, or half a label.
    Unlabelled,
    /// Something, and no label at all.
    Strange,
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
        match self.claim(&self.base.join(name)) {
            // The locks are held until everything is gone, so that two sweeps do not meet in one lease.
            Ok(Claim::Leftover(_locks)) => match remove(&self.base, name) {
                Ok(()) => swept.removed.push(name.to_owned()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => swept.failed.push(format!("{name}: {e}")),
            },
            Ok(Claim::Alone(why)) => swept.in_use.push(format!("{name}: {why}")),
            Ok(Claim::Gone) => {}
            Err(why) => swept.failed.push(format!("{name}: {why}")),
        }
    }

    /// Whether the lease may be removed. `Err`: it cannot be told.
    fn claim(&self, folder: &Path) -> std::result::Result<Claim, String> {
        match self.look(folder)? {
            Look::Labelled(claim) => Ok(claim),
            Look::Unlabelled | Look::Strange => match self.nobody_makes_leases(folder) {
                Err(why) => Ok(Claim::Alone(why)),
                // Its owner may have finished the label just before.
                Ok(base) => match self.look(folder)? {
                    Look::Labelled(claim) => Ok(claim),
                    Look::Unlabelled => Ok(Claim::Leftover(base)),
                    Look::Strange => Err("it has no label".to_owned()),
                },
            },
        }
    }

    fn look(&self, folder: &Path) -> std::result::Result<Look, String> {
        let unreadable = |e: io::Error| format!("its label cannot be read: {e}");
        match std::fs::symlink_metadata(folder) {
            Ok(meta) if meta.uid() == rustix::process::geteuid().as_raw() => {}
            Ok(_) => return Ok(Look::Labelled(Claim::Alone("it belongs to another user".to_owned()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Look::Labelled(Claim::Gone)),
            Err(e) => return Err(unreadable(e)),
        }
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(folder.join(LABEL));
        let mut file = match opened {
            Ok(file) if file.metadata().is_ok_and(|meta| meta.is_file()) => file,
            Ok(_) => return Err("its label is not a file".to_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return without_label(folder),
            Err(e) => return Err(unreadable(e)),
        };
        if rfs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Look::Labelled(Claim::Alone("its owner is alive".to_owned())));
        }
        let mut text = String::new();
        (&mut file).take(LABEL_SIZE_MAX).read_to_string(&mut text).map_err(unreadable)?;
        match serde_json::from_str(&text) {
            Ok(label) => Ok(Look::Labelled(self.judge(&label, file))),
            // Cut short: its owner died while it wrote it.
            Err(_) if LABEL_START.starts_with(&text) || text.starts_with(LABEL_START) => Ok(Look::Unlabelled),
            Err(e) => Err(format!("its label is not one of ours: {e}")),
        }
    }

    /// What the label of a lease without a living owner says.
    fn judge(&self, label: &Label, lock: File) -> Claim {
        if label.kept && !self.kept_too {
            return Claim::Alone("it was kept on purpose (sweep --kept removes it)".to_owned());
        }
        if label.boot != boot_id() && label.expires > self.clock.now() {
            return Claim::Alone(format!(
                "it was made elsewhere or before a restart, and expires at {}",
                label.expires
            ));
        }
        Claim::Leftover(Some(lock.into()))
    }

    /// Makes sure that no lease is being made, as long as what it returns is held. Where folders cannot be
    /// locked, age has to tell.
    fn nobody_makes_leases(&self, folder: &Path) -> std::result::Result<Option<OwnedFd>, String> {
        let in_the_making = || "it is being made".to_owned();
        match self.lock_base(FlockOperation::NonBlockingLockExclusive) {
            Ok(base) => Ok(Some(base)),
            Err(Errno::WOULDBLOCK) => Err(in_the_making()),
            Err(_) => {
                let made = std::fs::symlink_metadata(folder).map_or(i64::MAX, |meta| meta.mtime());
                let age = self.clock.now().as_second().saturating_sub(made);
                if age < MAKING_SECONDS { Err(in_the_making()) } else { Ok(None) }
            }
        }
    }

    fn lock_base(&self, how: FlockOperation) -> std::result::Result<OwnedFd, Errno> {
        let base =
            rfs::open(&self.base, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rfs::flock(&base, how)?;
        Ok(base)
    }

    /// Makes a lease under the first name that is free: runs that started in the same second with the same
    /// seed have the same id, and may share scratch.
    fn make_one(&self, request: &LeaseRequest<'_>, label: &Label) -> io::Result<(String, File)> {
        let mut taken = None;
        for attempt in 0..NAMES_MAX {
            let id = lease_id(request, attempt);
            match self.make(&self.base.join(format!("{PREFIX}{id}")), label) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => taken = Some(e),
                made => return made.map(|lock| (id, lock)),
            }
        }
        Err(taken.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
    }

    /// Makes the folder of a lease with everything that belongs into it, and returns the lock on its label.
    fn make(&self, folder: &Path, label: &Label) -> io::Result<File> {
        let private = |path: &Path| DirBuilder::new().mode(0o700).create(path);
        // Where the base cannot be locked, a sweep goes by age.
        let making = self.lock_base(FlockOperation::LockShared);
        private(folder)?;
        let made = open_label(folder).and_then(|file| {
            rfs::flock(&file, FlockOperation::LockExclusive)?;
            write_label(&file, label)?;
            private(&folder.join(DATA))?;
            private(&folder.join(WORK))?;
            Ok(file)
        });
        if made.is_err() {
            // Half a lease (scratch is full, say) would be in the way of nobody, but it need not stay.
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let _ = remove(&self.base, name);
        }
        drop(making);
        made
    }
}

impl Scratch for DirectoryScratch {
    fn provision(&self, request: &LeaseRequest<'_>) -> Result<Lease> {
        self.prepare()?;
        let now = self.clock.now();
        let lifetime = SignedDuration::try_from(request.lifetime).unwrap_or(SignedDuration::from_hours(24));
        let mut drill = request.drill.to_string();
        drill.truncate(drill.floor_char_boundary(DRILL_MAX));
        let label = Label {
            firedrill_lease: 1,
            run: request.run.to_owned(),
            drill,
            created: now,
            expires: now.checked_add(lifetime).unwrap_or(Timestamp::MAX),
            boot: boot_id(),
            kept: false,
        };
        let (id, lock) = self.make_one(request, &label).map_err(|e| {
            Error::new(ErrorKind::Scratch, format!("make a scratch folder in {}", self.base.display()))
                .from_source(&e)
                .advise("choose a folder with room that you can write to, with --scratch")
        })?;
        let name = format!("{PREFIX}{id}");
        let folder = self.base.join(&name);
        let (data, work) = (folder.join(DATA), folder.join(WORK));
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
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(swept),
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

fn open_label(folder: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(folder.join(LABEL))
}

/// Writes the label in place: it is never renamed, because the lock belongs to the file. What it overwrites
/// is cut off last, so that a full disk does not cost a lease its label.
fn write_label(mut file: &File, label: &Label) -> io::Result<()> {
    let text = serde_json::to_vec(label)?;
    file.seek(io::SeekFrom::Start(0))?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)
}

/// A lease whose owner died before it wrote the label holds nothing.
fn without_label(folder: &Path) -> std::result::Result<Look, String> {
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(Look::Unlabelled),
        Ok(false) => Ok(Look::Strange),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Look::Labelled(Claim::Gone)),
        Err(e) => Err(format!("it cannot be listed: {e}")),
    }
}

/// A short name for the lease of this run and drill, another one for each attempt.
fn lease_id(request: &LeaseRequest<'_>, attempt: u32) -> String {
    use sha2::{Digest as _, Sha256};
    let hash = hex::encode(Sha256::digest(format!("{} {} {attempt}", request.run, request.drill)));
    hash[..16].to_owned()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests;
