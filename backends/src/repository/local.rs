//! Repositories in a folder.
//!
//! Only making one is rustic's. It leaves out of a listing what it may not look at, which would make a missing
//! permission look like missing packs; it would wait forever on a named pipe; and it does not see to it that the
//! name of a new file survives a loss of power.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use firedrill_core::error::{Error, ErrorKind, Result};
use rustic_backend::BackendOptions;
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::error::{Fault, Trouble, local_advice, of_io, or_rustic, to_error};
use super::guard::{OBJECT_MAX, id_of, key_of, size_of};
use super::locks::{LOCK_MAX, LockFolder};

#[derive(Debug)]
struct Local {
    root: PathBuf,
    writer: Arc<dyn WriteBackend>,
}

/// Opens `root`, which need not exist.
pub(super) fn open(root: &Path) -> Result<Arc<dyn WriteBackend>> {
    let text = root.to_str().ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("open repository {}", root.display()))
            .because("its path is not UTF-8")
    })?;
    let backends = BackendOptions::default()
        .repository(format!("local:{text}"))
        .to_backends()
        .map_err(|error| to_error(ErrorKind::Unavailable, format!("open repository {text}"), &error))?;
    Ok(Arc::new(Local { root: root.to_owned(), writer: backends.repository() }))
}

/// Whether `root` is a folder that can be looked into.
pub(super) fn look(root: &Path) -> Result<()> {
    let failed = |kind| Error::new(kind, format!("open repository {}", root.display()));
    let looked = fs::metadata(root).and_then(|meta| match meta.is_dir() {
        true => fs::read_dir(root).map(|_| ()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    });
    looked.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failed(ErrorKind::NoRepository)
            .because("no such directory")
            .advise("check the path, and that the disk is mounted"),
        io::ErrorKind::NotADirectory => failed(ErrorKind::NoRepository).because("not a directory"),
        io::ErrorKind::PermissionDenied => failed(ErrorKind::Unavailable)
            .because("permission denied")
            .advise("run as a user who may read the repository: restic writes files for their owner alone"),
        _ => failed(ErrorKind::Unavailable).from_source(&error),
    })
}

fn fault(error: &io::Error) -> Fault {
    let trouble = of_io(error);
    Fault { advice: local_advice(trouble), ..Fault::new(trouble, error.to_string()) }
}

/// `None` when there is nothing at that path (any more).
fn present<T>(result: io::Result<T>) -> Result<Option<T>, Fault> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(&error)),
    }
}

/// Opens a regular file without waiting for anything.
fn open_file(path: &Path) -> Result<(File, Metadata), Fault> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| fault(&error))?;
    let meta = file.metadata().map_err(|error| fault(&error))?;
    if !meta.is_file() {
        return Err(Fault::new(Trouble::Misshapen, "not a regular file"));
    }
    Ok((file, meta))
}

/// Lists `folder`, which lies directly in the folder of a file type or is it.
fn list_folder(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<(Id, u32)>, Fault> {
    let Some(entries) = present(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut listed = Vec::new();
    for entry in entries {
        let Some(entry) = present(entry)? else { continue };
        let name = entry.file_name();
        let Some((id, name)) = name.to_str().and_then(|name| Some((id_of(name)?, name))) else {
            continue;
        };
        if !wanted(name) {
            continue;
        }
        // Follows links: some people keep packs on another disk.
        let Some(meta) = present(fs::metadata(entry.path()))? else { continue };
        if meta.is_file() {
            listed.push((id, size_of(meta.len(), name)));
        }
    }
    Ok(listed)
}

impl Local {
    fn path(&self, tpe: FileType, id: &Id) -> PathBuf {
        self.root.join(key_of(tpe, id))
    }

    fn attempt(&self, verb: &str, tpe: FileType, id: &Id) -> String {
        format!("{verb} {}", self.path(tpe, id).display())
    }

    fn file(&self, tpe: FileType, id: &Id) -> Result<(File, Metadata), Fault> {
        open_file(&self.path(tpe, id))
    }

    fn list_packs(&self) -> Result<Vec<(Id, u32)>, Fault> {
        let mut listed = Vec::new();
        for first in 0..=u8::MAX {
            let start = hex::encode([first]);
            // A pack in the wrong folder cannot be read, so it does not count.
            listed.append(&mut list_folder(&self.root.join("data").join(&start), |name| {
                name.starts_with(&start)
            })?);
        }
        Ok(listed)
    }

    fn list_config(&self) -> Result<Vec<(Id, u32)>, Fault> {
        let meta = present(fs::metadata(self.root.join("config")))?;
        Ok(meta.map(|meta| (Id::default(), size_of(meta.len(), "config"))).into_iter().collect())
    }
}

impl ReadBackend for Local {
    fn location(&self) -> String {
        format!("local:{}", self.root.display())
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let listed = match tpe {
            FileType::Config => self.list_config(),
            FileType::Pack => self.list_packs(),
            _ => list_folder(&self.root.join(tpe.dirname()), |_| true),
        };
        or_rustic(listed, || format!("list {}", self.root.join(tpe.dirname()).display()))
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        let read = || {
            let (file, meta) = self.file(tpe, id)?;
            if meta.len() > OBJECT_MAX {
                return Err(Fault::new(Trouble::Oversized, format!("it has {} bytes", meta.len())));
            }
            let mut content = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default());
            file.take(OBJECT_MAX).read_to_end(&mut content).map_err(|error| fault(&error))?;
            Ok(content.into())
        };
        or_rustic(read(), || self.attempt("read", tpe, id))
    }

    fn read_partial(&self, tpe: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        let read = || {
            let (mut file, meta) = self.file(tpe, id)?;
            let end = u64::from(offset) + u64::from(length);
            // Asked before anything is allocated: a damaged index may ask for any length.
            if end > meta.len() {
                let text =
                    format!("it has {} bytes, and {length} from {offset} on were asked for", meta.len());
                return Err(Fault::new(Trouble::Short, text));
            }
            if u64::from(length) > OBJECT_MAX {
                return Err(Fault::new(Trouble::Oversized, format!("{length} bytes were asked for at once")));
            }
            file.seek(SeekFrom::Start(offset.into())).map_err(|error| fault(&error))?;
            let mut content = vec![0; length as usize];
            file.read_exact(&mut content).map_err(|error| fault(&error))?;
            Ok(content.into())
        };
        or_rustic(read(), || self.attempt("read", tpe, id))
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.path(tpe, id).display().to_string()
    }
}

impl WriteBackend for Local {
    fn create(&self) -> RusticResult<()> {
        self.writer.create()
    }

    fn write_bytes(&self, tpe: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let written = write_new(&self.path(tpe, id), content.slice()).map_err(|error| fault(&error));
        or_rustic(written, || self.attempt("write", tpe, id))
    }

    fn remove(&self, tpe: FileType, id: &Id, _: bool) -> RusticResult<()> {
        let removed = present(fs::remove_file(self.path(tpe, id))).map(drop);
        or_rustic(removed, || self.attempt("remove", tpe, id))
    }
}

/// Writes a file as a whole or not at all, with its content and its name on the disk when this returns.
///
/// It has no name before it is complete, so that nothing is left behind by a process that is killed.
fn write_new(path: &Path, content: &[Bytes]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let unnamed = || {
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode).map(File::from)
    };
    let file = unnamed().or_else(|error| match error {
        Errno::NOENT => fs::create_dir_all(folder).map_err(|_| error).and_then(|()| unnamed()),
        _ => Err(error),
    });
    // Network file systems in particular know no files without a name. They may also get one only as root.
    if let Ok(file) = file {
        fill(&file, content)?;
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::linkat(CWD, link, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => return File::open(folder)?.sync_all(),
            Err(error) => tracing::debug!(%error, path = %path.display(), "a name of its own first"),
        }
    }
    write_beside(path, folder, content)
}

/// The same for what is there already, and where a file needs a name: one that nobody reads, at first.
fn write_beside(path: &Path, folder: &Path, content: &[Bytes]) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // restic knows names with `-tmp-` in them for what is left behind by somebody who was killed.
    let other = folder.join(format!("{}-tmp-{}-{number}", name.to_string_lossy(), std::process::id()));
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&other);
    let file = create().or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => fs::create_dir_all(folder).and_then(|()| create()),
        _ => Err(error),
    })?;
    let write = || {
        fill(&file, content)?;
        fs::rename(&other, path)?;
        File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| {
        // It may have its real name by now, and otherwise harms nobody.
        let _ = fs::remove_file(&other);
    })
}

fn fill(mut file: &File, content: &[Bytes]) -> io::Result<()> {
    content.iter().try_for_each(|part| file.write_all(part))?;
    // As restic does: nobody writes to a file of a repository twice.
    file.set_permissions(fs::Permissions::from_mode(0o400))?;
    file.sync_all()
}

/// The folder `locks`.
#[derive(Debug)]
pub(super) struct Locks(PathBuf);

impl Locks {
    pub(super) fn new(root: &Path) -> Self {
        Self(root.join("locks"))
    }

    fn path(&self, id: &Id) -> PathBuf {
        self.0.join(id.to_hex().as_str())
    }
}

impl LockFolder for Locks {
    fn list(&self) -> Result<Vec<(Id, u32)>, Fault> {
        list_folder(&self.0, |_| true)
    }

    fn read(&self, id: &Id) -> Result<Bytes, Fault> {
        let (file, _) = open_file(&self.path(id))?;
        let mut content = Vec::new();
        file.take(LOCK_MAX).read_to_end(&mut content).map_err(|error| fault(&error))?;
        Ok(content.into())
    }

    fn write(&self, id: &Id, content: Vec<u8>) -> Result<(), Fault> {
        write_new(&self.path(id), &[content.into()]).map_err(|error| fault(&error))
    }

    fn remove(&self, id: &Id) -> Result<(), Fault> {
        present(fs::remove_file(self.path(id))).map(drop)
    }
}
