//! Files whose times follow a simulated clock.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

/// One target's folder on one day. Paths are relative to it. Everything that is written gets a time of
/// the simulated clock at once, except folders: those get it in [`Stage::settle`], when all is written.
pub(super) struct Stage {
    root: PathBuf,
    now: Timestamp,
    /// The source of all choices on this day.
    pub(super) rng: StdRng,
    folders: BTreeSet<PathBuf>,
}

impl Stage {
    /// A stage at `root`, which is made if it is missing.
    pub(super) fn new(root: &Path, now: Timestamp, seed: u64) -> Result<Self> {
        let mut stage =
            Self { root: root.to_owned(), now, rng: StdRng::seed_from_u64(seed), folders: BTreeSet::new() };
        stage.folder("")?;
        Ok(stage)
    }

    /// The simulated time.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// The real path of a relative one.
    pub(super) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Makes a folder and its parents.
    pub(super) fn folder(&mut self, relative: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.path(relative);
        if !path.is_dir() {
            if let Some(parent) = path.parent().filter(|parent| parent.starts_with(&self.root)) {
                let above = parent.strip_prefix(&self.root).unwrap_or(Path::new("")).to_owned();
                let above = self.folder(above)?;
                self.folders.insert(above);
            }
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
            // Not left to the umask, so that the same seed gives the same fleet everywhere.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            self.folders.insert(path.clone());
        }
        Ok(path)
    }

    /// Writes a file, replacing what was there.
    pub(super) fn write(&mut self, relative: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        self.write_with_mode(relative, content, 0o644)
    }

    /// Writes a file with these permission bits.
    pub(super) fn write_with_mode(
        &mut self,
        relative: impl AsRef<Path>,
        content: &[u8],
        mode: u32,
    ) -> Result<()> {
        let path = self.place(relative)?;
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        self.date(&path)
    }

    /// Appends to a file, which is made if it is missing.
    pub(super) fn append(&mut self, relative: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        let path = self.place(relative)?;
        if !path.exists() {
            fs::write(&path, b"")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
        let mut file = fs::OpenOptions::new().append(true).open(&path)?;
        file.write_all(content).with_context(|| format!("append to {}", path.display()))?;
        self.date(&path)
    }

    /// Makes a file of `length` bytes that is a hole but for `content` at its start.
    pub(super) fn sparse(&mut self, relative: impl AsRef<Path>, content: &[u8], length: u64) -> Result<()> {
        let path = self.place(&relative)?;
        self.write(relative, content)?;
        fs::OpenOptions::new().write(true).open(&path)?.set_len(length)?;
        self.date(&path)
    }

    /// Makes a symbolic link.
    pub(super) fn symlink(&mut self, relative: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
        let path = self.place(relative)?;
        std::os::unix::fs::symlink(target, &path).with_context(|| format!("link {}", path.display()))?;
        self.date(&path)
    }

    /// Gives the file at `existing` a second name.
    pub(super) fn hard_link(&mut self, existing: impl AsRef<Path>, relative: impl AsRef<Path>) -> Result<()> {
        let path = self.place(relative)?;
        fs::hard_link(self.path(existing), &path).with_context(|| format!("link {}", path.display()))
    }

    /// Makes a named pipe.
    pub(super) fn fifo(&mut self, relative: impl AsRef<Path>) -> Result<()> {
        let path = self.place(relative)?;
        rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, 0o640.into(), 0)
            .with_context(|| format!("make the pipe {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
        self.date(&path)
    }

    /// Sets an extended attribute where the file system keeps them.
    pub(super) fn attribute(&self, relative: impl AsRef<Path>, name: &str, value: &[u8]) -> Result<()> {
        match rustix::fs::lsetxattr(self.path(relative), name, value, XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("set {name}")),
        }
    }

    /// Removes a file.
    pub(super) fn remove(&mut self, relative: impl AsRef<Path>) -> Result<()> {
        let path = self.path(relative);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        self.folders.extend(path.parent().map(Path::to_owned));
        Ok(())
    }

    /// Dates what somebody else (SQLite) wrote here: the file itself, and its `-wal` and `-shm`.
    pub(super) fn date_database(&mut self, relative: impl AsRef<Path>) -> Result<()> {
        let path = self.path(relative);
        self.folders.extend(path.parent().map(Path::to_owned));
        for suffix in ["", "-wal", "-shm"] {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            let file = PathBuf::from(name);
            if file.exists() {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
                set_time(&file, self.now)?;
            }
        }
        Ok(())
    }

    /// All regular files below the root, relative, sorted.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    found.insert(entry.path().strip_prefix(&self.root)?.to_owned());
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Dates the folders in which something was made or removed. Call it last.
    pub(super) fn settle(&mut self) -> Result<()> {
        // Deepest first is not needed: dating a folder does not change its parent.
        std::mem::take(&mut self.folders).into_iter().try_for_each(|folder| set_time(&folder, self.now))
    }

    /// The real path, with its folder made, and noted for [`Stage::settle`].
    fn place(&mut self, relative: impl AsRef<Path>) -> Result<PathBuf> {
        let relative = relative.as_ref();
        if let Some(parent) = relative.parent() {
            let folder = self.folder(parent)?;
            self.folders.insert(folder);
        }
        Ok(self.path(relative))
    }

    /// Files are written over the three quarters of an hour before the backup.
    fn date(&mut self, path: &Path) -> Result<()> {
        let age = SignedDuration::from_millis(self.rng.random_range(0..2_700_000));
        set_time(path, self.now.checked_sub(age)?)
    }
}

/// Sets the access and modification time of what is at `path`, links not followed.
pub(super) fn set_time(path: &Path, time: Timestamp) -> Result<()> {
    let time = Timespec { tv_sec: time.as_second(), tv_nsec: time.subsec_nanosecond().into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("set the time of {}", path.display()))
}
