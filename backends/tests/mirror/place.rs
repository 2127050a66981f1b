//! A small repository with a history, and a backend that stops.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use firedrill_backends::mirror::{MirrorRequest, Mirrored, Side, identical};
use firedrill_backends::repository::location::{Access as Way, Location};
use firedrill_core::progress::Progress;
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};

use crate::support::restic::{Access, Repository, Restic};
use crate::support::tools::{Workplace, bounded, run};

pub(crate) fn newest() -> Option<Restic> {
    Restic::need("0.19")
}

pub(crate) fn watch() -> Watch {
    Watch::unlimited().within(Some(std::time::Duration::from_secs(150)))
}

pub(crate) fn side(access: &Access) -> Side {
    Side {
        location: Location::parse(&access.url).expect("an address"),
        access: Way { retries: 1, ..Way::default() },
        password: Some(Secret::new(access.password.clone())),
    }
}

pub(crate) fn at(folder: &Path) -> Access {
    Access::to(folder.display().to_string())
}

/// Bytes that do not compress, different for each `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(step).flatten().take(length).collect()
}

/// A repository in `source` with two snapshots of the folder `files`.
pub(crate) fn source(place: &Workplace, restic: &Restic) -> Repository {
    let files = place.folder("files");
    let repository = Repository::init(restic, at(&place.path("source")), "2");
    for day in 0..2 {
        day_of_work(&files, day);
        repository.backup(&files, &["fleet"], &[]);
    }
    repository
}

/// What changes in a day.
pub(crate) fn day_of_work(files: &Path, day: u64) {
    fs::create_dir_all(files.join("folder")).expect("a folder");
    fs::write(files.join(format!("folder/day {day}")), noise(day + 1, 30_000)).expect("write");
    fs::write(files.join("log"), format!("up to day {day}\n").repeat(200)).expect("write");
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// A backend that refuses to write or remove after so many times.
#[derive(Debug)]
pub(crate) struct Stopping {
    inner: Arc<dyn WriteBackend>,
    left: AtomicUsize,
    pub(crate) done: AtomicUsize,
}

impl Stopping {
    pub(crate) fn after(writes: usize, inner: Arc<dyn WriteBackend>) -> Arc<Self> {
        Arc::new(Self { inner, left: AtomicUsize::new(writes), done: AtomicUsize::new(0) })
    }

    fn take(&self) -> RusticResult<()> {
        let taken = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if taken.is_err() {
            return Err(RusticError::new(ErrorKind::Backend, "stopped on purpose"));
        }
        self.done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl ReadBackend for Stopping {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.inner.list_with_size(tpe)
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        self.inner.read_full(tpe, id)
    }

    fn read_partial(&self, tpe: FileType, id: &Id, c: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        self.inner.read_partial(tpe, id, c, offset, length)
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.inner.warmup_path(tpe, id)
    }
}

impl WriteBackend for Stopping {
    fn create(&self) -> RusticResult<()> {
        self.inner.create()
    }

    fn write_bytes(&self, tpe: FileType, id: &Id, c: bool, content: BytesList) -> RusticResult<()> {
        self.take()?;
        self.inner.write_bytes(tpe, id, c, content)
    }

    fn remove(&self, tpe: FileType, id: &Id, c: bool) -> RusticResult<()> {
        self.take()?;
        self.inner.remove(tpe, id, c)
    }
}

/// What is asked of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    List(FileType),
    Read(FileType),
}

/// What a test does just before.
type Hook = Box<dyn Fn(Asked) + Send + Sync>;

/// A source in which something happens while it is read.
pub(crate) struct Moving {
    pub(crate) inner: Arc<dyn WriteBackend>,
    pub(crate) before: Hook,
}

impl std::fmt::Debug for Moving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl ReadBackend for Moving {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        (self.before)(Asked::List(tpe));
        self.inner.list_with_size(tpe)
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        (self.before)(Asked::Read(tpe));
        self.inner.read_full(tpe, id)
    }

    fn read_partial(&self, tpe: FileType, id: &Id, c: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        self.inner.read_partial(tpe, id, c, offset, length)
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        self.inner.warmup_path(tpe, id)
    }
}

impl WriteBackend for Moving {
    fn write_bytes(&self, _: FileType, _: &Id, _: bool, _: BytesList) -> RusticResult<()> {
        panic!("a source is not written to")
    }

    fn remove(&self, _: FileType, _: &Id, _: bool) -> RusticResult<()> {
        panic!("nothing is removed from a source")
    }
}

/// Mirrors with a stop after so many writes; what it said, and how many writes there were.
pub(crate) fn mirror_until(
    writes: usize,
    source: &Access,
    copy: &Access,
    request: &MirrorRequest,
) -> (Mirrored, usize) {
    let from = side(source).open().expect("the source opens");
    let to = Stopping::after(writes, side(copy).open_writable().expect("the copy opens"));
    let backend: Arc<dyn WriteBackend> = Arc::clone(&to) as Arc<dyn WriteBackend>;
    let done = identical(&from, &backend, request, &Progress::default(), &watch());
    (done, to.done.load(Ordering::SeqCst))
}

pub(crate) fn mirror(source: &Access, copy: &Access, request: &MirrorRequest) -> Mirrored {
    mirror_until(usize::MAX, source, copy, request).0
}

pub(crate) fn with_key(source: &Access) -> MirrorRequest {
    MirrorRequest {
        password: Some(Secret::new(source.password.clone())),
        workers: 2,
        ..MirrorRequest::default()
    }
}

#[track_caller]
pub(crate) fn well(done: &Mirrored) {
    assert!(done.error.is_none(), "{}", done.error.as_ref().map(|e| e.chain()).unwrap_or_default());
    assert_eq!(done.facts.files_missing, 0, "{done:?}");
}

#[track_caller]
pub(crate) fn refusal(done: &Mirrored) -> String {
    done.error.as_ref().unwrap_or_else(|| panic!("it ended well: {done:?}")).chain()
}

/// restic checks all of it, and restores the newest snapshot that it sees, if there is one.
#[track_caller]
pub(crate) fn restic_is_happy(repository: &Repository, into: &Path) {
    repository.run(["check", "--no-lock", "--read-data"]);
    if repository.snapshots().is_empty() {
        return;
    }
    let _ = fs::remove_dir_all(into);
    let mut command = repository.command(["restore", "--no-lock", "--quiet", "latest", "--target"]);
    run(command.arg(into));
    let restored =
        into.join(into.parent().expect("a folder").join("files").strip_prefix("/").expect("absolute"));
    assert!(restored.join("folder").is_dir(), "{} holds nothing", restored.display());
}

/// All files of a repository but locks, with their content.
pub(crate) fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let listed = run(bounded(Path::new("/usr/bin/find")).arg(root).args(["-type", "f"]));
    let text = String::from_utf8(listed.stdout).expect("names are UTF-8");
    let mut all: Vec<_> = text
        .lines()
        .map(PathBuf::from)
        .filter(|path| !path.starts_with(root.join("locks")))
        .map(|path| (path.strip_prefix(root).expect("below").to_owned(), fs::read(&path).expect("read")))
        .collect();
    all.sort();
    all
}

/// The files of one kind.
pub(crate) fn of_kind(root: &Path, kind: &str) -> Vec<PathBuf> {
    let all = files(root).into_iter().map(|(path, _)| path);
    all.filter(|path| path.starts_with(kind)).map(|path| root.join(path)).collect()
}

/// Changes one byte in the middle of a file, in a folder where others may have made it read-only.
pub(crate) fn flip(path: &Path) {
    let mut content = fs::read(path).expect("read");
    let middle = content.len() / 2;
    content[middle] ^= 1;
    replace(path, &content);
}

pub(crate) fn replace(path: &Path, content: &[u8]) {
    fs::remove_file(path).expect("remove");
    fs::write(path, content).expect("write");
}
