//! Walks the restored tree by directory handles: no path is ever longer than one name, nothing is followed,
//! and nothing outside the root is reached. This thread lists; a few others look at what it lists.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use firedrill_core::finding::Finding;
use firedrill_core::manifest::{Entry, Kind, display_path};
use firedrill_core::subject::Subject;
use rustix::fs::{CWD, FileType, OFlags, RawDir, fstat};
use rustix::io::Errno;

use super::disk::{self, Handle};
use super::index::{Directory, Index};
use super::look::{Batch, Shared, compare_links};
use super::metadata::{Buffers, Metadata};
use super::tally::Tally;

/// Entries that are handed to a thread at a time.
const BATCH: usize = 64;
/// Bytes of content after which a batch is full.
const BATCH_BYTES: u64 = 8 << 20;
/// Batches that wait.
const QUEUE: usize = 16;
/// Bytes of names that are read at a time.
const LISTING: usize = 32 * 1024;
/// Directories that are kept open on the way down. Higher ones are opened again on the way back.
const OPEN_MAX: usize = 48;
/// More threads gain nothing on the disks that scratch lives on, and other drills run beside this one.
const THREADS_MAX: usize = 4;

/// Compares all of the restored tree. `Err` says why nothing could be compared.
pub(super) fn compare(subject: &Subject) -> Result<Tally, String> {
    compare_as(subject, rustix::process::geteuid().is_root())
}

/// The same, with or without the right to restore owners.
pub(super) fn compare_as(subject: &Subject, root_user: bool) -> Result<Tally, String> {
    let root = disk::open(CWD, path_bytes(&subject.root), OFlags::DIRECTORY)
        .map_err(|errno| format!("cannot open the restored root: {}", std::io::Error::from(errno)))?;
    let index = Index::of(&subject.manifest);
    let shared =
        Shared { subject, manifest: &subject.manifest, metadata: Metadata::new(&subject.work, root_user) };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS_MAX));
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Arc::new(Mutex::new(receiver));

    let mut tally = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let receiver = Arc::clone(&receiver);
                let shared = &shared;
                scope.spawn(move || shared.work(&receiver))
            })
            .collect();
        // The walk must notice when all threads are gone, so that only they may hold the receiver.
        drop(receiver);
        let mut walk = Walk::new(&shared, &index, sender);
        walk.list_defects();
        walk.run(root);
        let mut tally = walk.tally;
        drop(walk.sender);
        for worker in workers {
            match worker.join() {
                Ok(part) => tally.merge(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        tally
    });
    compare_links(&subject.manifest, &mut tally);
    Ok(tally)
}

fn path_bytes(path: &std::path::Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}

/// One directory on the way from the root to where the walk is.
struct Frame {
    open: Option<Arc<OwnedFd>>,
    identity: (u64, u64),
    pending: Vec<usize>,
}

struct Walk<'a, 'm> {
    shared: &'a Shared<'m>,
    index: &'a Index<'m>,
    sender: SyncSender<Batch>,
    seen: Vec<bool>,
    buffers: Buffers,
    tally: Tally,
}

impl<'a, 'm> Walk<'a, 'm> {
    fn new(shared: &'a Shared<'m>, index: &'a Index<'m>, sender: SyncSender<Batch>) -> Self {
        Self {
            shared,
            index,
            sender,
            seen: vec![false; shared.manifest.entries().len()],
            buffers: Buffers::default(),
            tally: Tally::default(),
        }
    }

    /// What the snapshot's own list tells without a look at the disk.
    fn list_defects(&mut self) {
        for entry in self.shared.manifest.entries() {
            if let Some(error) = &entry.read_error {
                let finding = Finding::damage(
                    "tree.read_error",
                    entry.display(),
                    "content that the backup program could read",
                    format!("its error: {}", display_path(error.as_bytes())),
                );
                self.tally.find(&entry.path, finding);
            }
        }
        let below = if self.index.lost == 0 {
            String::new()
        } else {
            format!(" ({} entries below such names are lost with them)", self.index.lost)
        };
        for (position, defect) in &self.index.defects {
            let Some(entry) = self.shared.entry(*position) else { continue };
            let expected = "a list in which each entry has a place of its own";
            let seen = format!("an entry that {defect}{below}");
            self.tally.find(&entry.path, Finding::damage("tree.names", entry.display(), expected, seen));
        }
        for position in &self.index.too_long {
            let Some(entry) = self.shared.entry(*position) else { continue };
            self.tally.hinder(|| entry.display(), "restore", Errno::NAMETOOLONG);
        }
    }

    fn run(&mut self, root: OwnedFd) {
        let mut stack = Vec::new();
        match self.enter(root, None) {
            Ok(frame) => stack.push(frame),
            Err(errno) => self.tally.hinder(|| "the restored root".to_owned(), "list", errno),
        }
        while let Some(frame) = stack.last_mut() {
            if !self.shared.proceed(&mut self.tally) {
                return;
            }
            let next = frame.pending.pop();
            let here = frame.open.clone();
            match (next, here) {
                (Some(position), Some(here)) => {
                    if let Some(frame) = self.descend(&here, position) {
                        stack.push(frame);
                        let far = stack.len().checked_sub(OPEN_MAX);
                        if let Some(far) = far.and_then(|depth| stack.get_mut(depth)) {
                            far.open = None;
                        }
                    }
                }
                (_, here) => {
                    stack.pop();
                    if let Err(reason) = reopen(stack.last_mut(), here) {
                        self.tally.stopped.get_or_insert(reason);
                        return;
                    }
                }
            }
        }
    }

    /// Opens, compares and lists one directory.
    fn descend(&mut self, here: &OwnedFd, position: usize) -> Option<Frame> {
        let entry = self.shared.entry(position)?;
        let entered = disk::open(here.as_fd(), entry.name(), OFlags::DIRECTORY).and_then(|directory| {
            let stat = fstat(&directory)?;
            let handle = Handle::Open(directory.as_fd());
            let metadata = &self.shared.metadata;
            metadata.compare(entry, &stat, handle, true, &mut self.buffers, &mut self.tally);
            self.tally.checked += 1;
            self.enter(directory, Some(position))
        });
        match entered {
            Ok(frame) => Some(frame),
            Err(errno) => {
                self.tally.hinder(|| entry.display(), "list", errno);
                None
            }
        }
    }

    /// Lists a directory: hands out what it holds, reports what is missing and what is extra.
    fn enter(&mut self, directory: OwnedFd, at: Directory) -> Result<Frame, Errno> {
        let stat = fstat(&directory)?;
        let directory = Arc::new(directory);
        let children = self.index.children(at);
        let mut frame = Frame {
            open: Some(Arc::clone(&directory)),
            identity: (stat.st_dev, stat.st_ino),
            pending: Vec::new(),
        };
        let mut batch = Batch { directory: Arc::clone(&directory), entries: Vec::new(), bytes: 0 };
        let mut listing = Vec::<u8>::with_capacity(LISTING);
        let mut names = RawDir::new(&*directory, listing.spare_capacity_mut());
        while let Some(name) = names.next() {
            let name = name?;
            let (bytes, mut kind) = (name.file_name().to_bytes(), name.file_type());
            if bytes == b"." || bytes == b".." {
                continue;
            }
            if kind == FileType::Unknown {
                kind = FileType::from_raw_mode(disk::stat(directory.as_fd(), bytes)?.st_mode);
            }
            match self.index.find(children, bytes).and_then(|found| children.get(found)) {
                Some((_, position)) => self.take(*position, kind, &mut frame, &mut batch),
                None => self.extra(at, bytes, kind),
            }
        }
        self.hand_out(&mut batch);
        self.report_missing(children);
        Ok(frame)
    }

    /// Decides what is to be done with an entry that is there.
    fn take(&mut self, position: usize, kind: FileType, frame: &mut Frame, batch: &mut Batch) {
        let Some(entry) = self.shared.entry(position) else { return };
        if self.seen.get(position).copied().unwrap_or(true) {
            return;
        }
        if let Some(seen) = self.seen.get_mut(position) {
            *seen = true;
        }
        if !disk::fits(&entry.kind, kind) {
            if entry.read_error.is_none() {
                let seen = format!("{}{}", disk::word(kind), self.and_below(entry, position));
                let expected = disk::kind_word(&entry.kind);
                self.tally.find(&entry.path, Finding::damage("tree.type", entry.display(), expected, seen));
            }
        } else if entry.kind == Kind::Directory {
            frame.pending.push(position);
        } else if entry.read_error.is_none() {
            batch.entries.push(position);
            batch.bytes = batch.bytes.saturating_add(entry.size);
            if batch.entries.len() >= BATCH || batch.bytes >= BATCH_BYTES {
                self.hand_out(batch);
            }
        }
    }

    fn hand_out(&mut self, batch: &mut Batch) {
        let entries = std::mem::take(&mut batch.entries);
        batch.bytes = 0;
        if entries.is_empty() {
            return;
        }
        let full = Batch { directory: Arc::clone(&batch.directory), entries, bytes: 0 };
        if self.sender.send(full).is_err() {
            self.tally.stopped.get_or_insert_with(|| "all threads of the probe are gone".to_owned());
        }
    }

    fn extra(&mut self, at: Directory, name: &[u8], kind: FileType) {
        let mut path = at.and_then(|at| self.shared.entry(at)).map(|e| e.path.clone()).unwrap_or_default();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let expected = "nothing: the snapshot does not list it";
        let finding = Finding::damage("tree.extra", display_path(&path), expected, disk::word(kind));
        self.tally.find(&path, finding);
    }

    fn report_missing(&mut self, children: &[(Directory, usize)]) {
        for (_, position) in children {
            let Some(entry) = self.shared.entry(*position) else { continue };
            if self.seen.get(*position).copied().unwrap_or(true) {
                continue;
            }
            match entry.kind {
                Kind::Socket => self.tally.sockets += 1,
                Kind::Device => self.tally.devices += 1,
                _ if entry.read_error.is_some() => {}
                _ => {
                    let seen = format!("nothing{}", self.and_below(entry, *position));
                    let expected = disk::kind_word(&entry.kind);
                    self.tally
                        .find(&entry.path, Finding::damage("tree.missing", entry.display(), expected, seen));
                }
            }
        }
    }

    /// What is lost together with a directory.
    fn and_below(&self, entry: &Entry, position: usize) -> String {
        match entry.kind {
            Kind::Directory => match self.index.below(position) {
                0 => String::new(),
                count => format!(", and none of the {count} entries below it"),
            },
            _ => String::new(),
        }
    }
}

/// Opens the directory that the walk comes back to, if it was closed, by way of its child.
fn reopen(parent: Option<&mut Frame>, child: Option<Arc<OwnedFd>>) -> Result<(), String> {
    let Some(parent) = parent else { return Ok(()) };
    if parent.open.is_some() {
        return Ok(());
    }
    let child = child.ok_or("lost the way back to a directory")?;
    let opened = disk::open(child.as_fd(), b"..", OFlags::DIRECTORY)
        .and_then(|directory| fstat(&directory).map(|stat| (directory, stat)));
    match opened {
        Ok((directory, stat)) if (stat.st_dev, stat.st_ino) == parent.identity => {
            parent.open = Some(Arc::new(directory));
            Ok(())
        }
        Ok(_) => Err("the restored tree was moved while it was examined".to_owned()),
        Err(errno) => Err(format!("cannot go back to a directory: {}", std::io::Error::from(errno))),
    }
}
