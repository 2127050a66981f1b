//! A folder that objects are written to: under another name first, which nobody takes for a dump.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt as _};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use jiff::Timestamp;

/// What the name of a file with a hash ends in.
const SUM: &str = ".sha256";
/// Folders within folders.
const DEPTH_MAX: usize = 64;
/// So many names are tried that killed processes may have left behind.
const NAMES_TRIED: usize = 1000;

/// A name that nobody else uses at this moment, and that readers take for an unfinished file.
pub(super) fn unique(name: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Names of files end at 255 bytes.
    let name = name.get(..name.floor_char_boundary(200)).unwrap_or_default();
    format!(".{name}.{}-{number}.part", std::process::id())
}

/// What a file that has a name of [`unique`] was to be called.
fn meant(name: &str) -> Option<&str> {
    let (meant, numbers) = name.strip_prefix('.')?.strip_suffix(".part")?.rsplit_once('.')?;
    let (process, number) = numbers.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(process) && digits(number)).then_some(meant)
}

/// The name of the file with the hash of `path`.
pub(super) fn sum_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(SUM);
    path.with_file_name(name)
}

/// A folder. Nothing outside of it is ever reached, whatever links there are in it.
pub(super) struct Shelf {
    root: PathBuf,
    dir: Dir,
}

/// A file that has no name yet. Without [`finish`](Temporary::finish) it goes away.
pub(super) struct Temporary<'s> {
    shelf: &'s Shelf,
    path: PathBuf,
    hidden: PathBuf,
    file: File,
    replace: bool,
}

impl Shelf {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let open = || {
            Dir::create_ambient_dir_all(root, ambient_authority())?;
            Dir::open_ambient_dir(root, ambient_authority())
        };
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Unavailable, format!("open {}", root.display())).from_source(&error)
        };
        Ok(Self { root: root.to_owned(), dir: open().map_err(failed)? })
    }

    fn failed(&self, verb: &str, path: &Path, error: &io::Error) -> Error {
        Error::new(ErrorKind::Unavailable, format!("{verb} {}", self.root.join(path).display()))
            .from_source(error)
    }

    /// Begins a file that will be called `path`, which must not be there unless it is to be replaced.
    pub(super) fn begin(&self, path: &Path, replace: bool) -> Result<Temporary<'_>> {
        if !replace && self.dir.symlink_metadata(path).is_ok() {
            return Err(self.failed("write", path, &io::ErrorKind::AlreadyExists.into()));
        }
        let begin = || {
            if let Some(folder) = path.parent() {
                self.dir.create_dir_all(folder)?;
            }
            self.create(path)
        };
        let (hidden, file) = begin().map_err(|error| self.failed("write", path, &error))?;
        Ok(Temporary { shelf: self, path: path.to_owned(), hidden, file, replace })
    }

    /// Makes a file beside `path` under a name of its own.
    fn create(&self, path: &Path) -> io::Result<(PathBuf, File)> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        for _ in 0..NAMES_TRIED {
            let hidden = path.with_file_name(unique(&name));
            match self.dir.open_with(&hidden, &options) {
                // A process of the same number was killed here.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => return opened.map(|file| (hidden, file)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Removes a file and its hash.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        for path in [path, &sum_of(path)] {
            match self.dir.remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("remove", path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes files of ours that never got their name and were last written before that moment; the names that they
    /// should have got.
    pub(super) fn sweep(
        &self,
        ours: &dyn Fn(&str) -> bool,
        before: Timestamp,
        watch: &Watch,
    ) -> Result<Vec<String>> {
        let mut swept = Vec::new();
        let mut waiting = vec![PathBuf::new()];
        while let Some(folder) = waiting.pop() {
            watch.check()?;
            let failed = |error: io::Error| self.failed("tidy", &folder, &error);
            let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder.as_path() };
            for entry in self.dir.read_dir(here).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let (path, kind) = (folder.join(entry.file_name()), entry.file_type().map_err(failed)?);
                if kind.is_dir() && path.components().count() < DEPTH_MAX {
                    waiting.push(path);
                } else if kind.is_file()
                    && let Some(name) = meant(&entry.file_name().to_string_lossy())
                {
                    let meant = folder.join(name).display().to_string();
                    if !ours(&meant) && !meant.strip_suffix(SUM).is_some_and(ours) {
                        continue;
                    }
                    let written = entry.metadata().and_then(|meta| meta.modified()).map_err(failed)?;
                    let written = Timestamp::try_from(written.into_std());
                    if written.is_ok_and(|written| written < before) {
                        self.dir.remove_file(&path).map_err(failed)?;
                        swept.push(meant);
                    }
                }
            }
        }
        Ok(swept)
    }

    /// Gives `from` the name `to`, unless there is a file of that name.
    fn name(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.dir.hard_link(from, &self.dir, to) {
            Ok(()) => self.dir.remove_file(from),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            // Not every file system knows a second name; nobody else writes here meanwhile.
            Err(_) if self.dir.symlink_metadata(to).is_err() => self.dir.rename(from, &self.dir, to),
            Err(error) => Err(error),
        }
    }
}

impl Temporary<'_> {
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name, and writes its hash beside it.
    pub(super) fn finish(self, sha256: &str) -> Result<()> {
        let finish = || {
            self.file.sync_all()?;
            if self.replace {
                self.shelf.dir.rename(&self.hidden, &self.shelf.dir, &self.path)?;
            } else {
                self.shelf.name(&self.hidden, &self.path)?;
            }
            let name = self.path.file_name().unwrap_or_default().to_string_lossy();
            let (hidden, mut file) = self.shelf.create(Path::new(&sum_of(&self.path)))?;
            writeln!(file, "{sha256}  {name}")?;
            file.sync_all()?;
            self.shelf.dir.rename(&hidden, &self.shelf.dir, sum_of(&self.path))?;
            let folder = self.shelf.root.join(self.path.parent().unwrap_or(Path::new("")));
            std::fs::File::open(folder)?.sync_all()
        };
        finish().map_err(|error| self.shelf.failed("write", &self.path, &error))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // It is not there any more when it got its name.
        let _ = self.shelf.dir.remove_file(&self.hidden);
    }
}
