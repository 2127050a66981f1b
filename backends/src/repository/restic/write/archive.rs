//! Walks what is backed up and saves it: content as chunks, folders as trees.
//!
//! What cannot be read is left out of its folder and told: with `strict`, the caller then saves no snapshot.
//! Errors of the repository end the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::manifest::Digest;
use jiff::Timestamp;
use rustic_core::repofile::BlobType;

use super::backup::{BackupRequest, Counts, UNREAD_MAX, Unread};
use super::chunk::Chunker;
use super::disk::{is_cache_tag, names, open};
use super::left_out::{Rules, Word};
use super::node::{Hex, Node};
use super::parent::Parents;
use super::people::Accounts;
use super::saver::Saver;
use super::source::{Beside, Folder, Opener, Place};

/// Content of so many chunks is cut and saved by the same thread.
const SHORT: usize = 2;
/// A file that grows is read at most this much beyond the size that it had.
const GROWTH_MAX: u64 = 16 << 20;
/// Linux allows no deeper path to be named.
const DEPTH_MAX: usize = 2048;
/// What SQLite keeps beside a database.
const LOGS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// A walk.
pub(super) struct Archive<'a, 's> {
    pub(super) saver: &'a mut Saver<'s>,
    pub(super) parents: &'a Parents<'a>,
    pub(super) request: &'a BackupRequest,
    pub(super) rules: &'a Rules,
    /// Whose word counts where the walk is.
    pub(super) word: Word,
    /// Sources on disk that the walk came to.
    pub(super) met: BTreeSet<PathBuf>,
    pub(super) beside: Beside,
    pub(super) accounts: &'a Accounts,
    pub(super) chunker: Chunker,
    /// The time of the snapshot, which streams carry.
    pub(super) time: Timestamp,
    pub(super) seen: Seen,
}

/// What a walk saw.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) counts: Counts,
    pub(super) unread: Vec<Unread>,
    pub(super) unread_more: u64,
    pub(super) excused: Vec<Unread>,
    pub(super) excused_more: u64,
    pub(super) mounts: Vec<PathBuf>,
}

/// A tree while its entries come in.
struct Tree(Vec<u8>);

impl Tree {
    fn new() -> Self {
        Self(b"{\"nodes\":[".to_vec())
    }

    fn add(&mut self, node: &Node) -> Result<()> {
        let json = node
            .json()
            .map_err(|error| Error::new(ErrorKind::Internal, "write a tree").from_source(&error))?;
        if self.0.last() != Some(&b'[') {
            self.0.push(b',');
        }
        self.0.extend(json);
        Ok(())
    }

    fn close(mut self) -> Vec<u8> {
        self.0.extend(b"]}\n");
        self.0
    }
}

/// The entries of the same folder in the parent snapshot.
type Earlier = BTreeMap<Vec<u8>, Node>;

impl Archive<'_, '_> {
    /// Saves a stream and returns its entry; nothing when it did not end well.
    pub(super) fn stream(&mut self, path: &Path, open: Opener) -> Result<Option<Node>> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let mut node = Node::made(name, false, self.time);
        node.user = self.accounts.user(node.uid);
        node.group = self.accounts.group(node.gid);
        let content = match open() {
            Ok(reader) => self.content(reader)?,
            Err(error) => Err(error),
        };
        match content {
            Ok((content, size)) => {
                node.content = Some(content);
                node.size = size;
                Ok(Some(node))
            }
            Err(error) => {
                self.tell(path, error.to_string());
                Ok(None)
            }
        }
    }

    /// Saves everything in `folder`, and returns the id of its tree.
    pub(super) fn folder(&mut self, folder: &Folder, path: &Path, earlier: Option<Digest>) -> Result<Digest> {
        let before = self.earlier(earlier)?;
        let mut tree = Tree::new();
        for (name, place) in &folder.children {
            let here = path.join(std::ffi::OsStr::from_bytes(name));
            let previous = before.get(name);
            if let Some(node) = self.placed(name, place, &here, previous)? {
                tree.add(&node)?;
            }
        }
        self.saver.save(BlobType::Tree, tree.close())
    }

    /// The entry for what stands at `path` in the snapshot; nothing when it is left out or cannot be read.
    fn placed(
        &mut self,
        name: &[u8],
        place: &Place,
        path: &Path,
        previous: Option<&Node>,
    ) -> Result<Option<Node>> {
        match place {
            Place::Made(node) | Place::Spare(node) => {
                self.count_file(previous, node);
                Ok(Some((**node).clone()))
            }
            Place::Disk(disk) => self.entry(name, disk, previous, None, 0),
            Place::Copy(disk) => {
                self.with_word(Word::default(), |archive| archive.any(name, disk, previous, None, 0))
            }
            Place::Folder(inner) => self.way(name, inner, path, previous).map(Some),
        }
    }

    /// What was made for folders that are not in the backup is missing from it, which somebody has to be told.
    pub(super) fn tell_homeless(&mut self) {
        for (folder, places) in std::mem::take(&mut self.beside.0) {
            for (name, place) in places {
                if !matches!(place, Place::Spare(_)) {
                    let path = folder.join(std::ffi::OsStr::from_bytes(&name));
                    self.tell(&path, "its folder is left out of the backup, or is not there".to_owned());
                }
            }
        }
    }

    /// A source that lies in another one and was not met there is missing: it is gone, or behind a link.
    pub(super) fn tell_unmet(&mut self) {
        let unmet: Vec<PathBuf> =
            self.rules.sources().filter(|path| !self.met.contains(*path)).map(Path::to_owned).collect();
        for path in unmet {
            self.word = self.rules.at(&path).unwrap_or_default();
            self.tell(&path, "it is not there, or lies behind a link".to_owned());
        }
    }

    /// Does something where the word of somebody else counts.
    fn with_word<T>(&mut self, word: Word, work: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.word, word);
        let done = work(self);
        self.word = outer;
        done
    }

    /// A folder that leads to sources.
    fn way(&mut self, name: &[u8], inner: &Folder, path: &Path, previous: Option<&Node>) -> Result<Node> {
        let subtree = self.folder(inner, path, previous.and_then(|node| node.subtree).map(|id| id.0))?;
        let on_disk = inner.on_disk.as_deref().and_then(|disk| {
            // A link on the way is followed, as it is when the source is opened.
            let meta = fs::metadata(disk).ok().filter(Metadata::is_dir)?;
            Node::of(name, disk, &meta, self.accounts).ok()
        });
        let mut node = on_disk.map_or_else(|| Node::made(name, true, self.time), |(node, _)| node);
        node.subtree = Some(Hex(subtree));
        self.count_folder(previous, &node);
        Ok(node)
    }

    /// The root of the file system as a source.
    pub(super) fn root(&mut self, disk: &Path, earlier: Option<Digest>) -> Result<Option<Digest>> {
        let device = match fs::symlink_metadata(disk) {
            Ok(meta) => meta.dev(),
            Err(error) => {
                self.tell(disk, error.to_string());
                return Ok(None);
            }
        };
        self.met.insert(disk.to_owned());
        let word = self.rules.at(disk).unwrap_or_default();
        self.with_word(word, |archive| archive.listed(disk, earlier, device, 0))
    }

    /// The entry for what is at `disk`; nothing when it is left out or cannot be read. `device` is the file
    /// system to stay on.
    fn entry(
        &mut self,
        name: &[u8],
        disk: &Path,
        previous: Option<&Node>,
        device: Option<u64>,
        depth: usize,
    ) -> Result<Option<Node>> {
        self.saver.check()?;
        let own = self.rules.at(disk);
        // What a source says of itself begins where it begins.
        let device = if own.is_some() { None } else { device };
        if own.is_some() {
            self.met.insert(disk.to_owned());
        }
        let mut word = own.unwrap_or_else(|| self.word.clone());
        if self.rules.leave_out(&word, disk.as_os_str().as_bytes()) {
            if !self.rules.leads(disk) {
                return Ok(None);
            }
            word = Word::Way;
        }
        self.with_word(word, |archive| archive.any(name, disk, previous, device, depth))
    }

    /// The same, whatever the patterns say.
    fn any(
        &mut self,
        name: &[u8],
        disk: &Path,
        previous: Option<&Node>,
        device: Option<u64>,
        depth: usize,
    ) -> Result<Option<Node>> {
        let meta = match fs::symlink_metadata(disk) {
            Ok(meta) => meta,
            Err(error) => {
                let gone = error.kind() == io::ErrorKind::NotFound && depth > 0;
                self.tell(disk, if gone { "it vanished meanwhile".to_owned() } else { error.to_string() });
                return Ok(None);
            }
        };
        let foreign = device.is_some_and(|device| self.rules.stay(&self.word) && meta.dev() != device);
        let only_folders = foreign || matches!(self.word, Word::Way);
        // Sockets are made anew by whoever listens on them.
        if meta.file_type().is_socket() || (only_folders && !meta.is_dir()) {
            return Ok(None);
        }
        let node = match Node::of(name, disk, &meta, self.accounts) {
            Ok((node, unread)) => {
                if let Some(why) = unread {
                    self.tell(disk, why);
                }
                node
            }
            Err(why) => {
                self.tell(disk, why);
                return Ok(None);
            }
        };
        if meta.is_dir() {
            return self.directory(node, disk, previous, (foreign, device.unwrap_or(meta.dev())), depth);
        }
        if meta.is_file() { self.file(node, disk, previous, &meta) } else { Ok(Some(node)) }
    }

    fn directory(
        &mut self,
        mut node: Node,
        disk: &Path,
        previous: Option<&Node>,
        (foreign, device): (bool, u64),
        depth: usize,
    ) -> Result<Option<Node>> {
        let subtree = if foreign {
            // The folder itself is kept: something is mounted there after a restore, too.
            self.seen.mounts.push(disk.to_owned());
            match self.rules.leads(disk) {
                true => self.with_word(Word::Way, |archive| archive.listed(disk, None, device, depth + 1))?,
                false => Some(self.saver.save(BlobType::Tree, Tree::new().close())?),
            }
        } else {
            let earlier = previous.and_then(|node| node.subtree).map(|id| id.0);
            self.listed(disk, earlier, device, depth + 1)?
        };
        let Some(subtree) = subtree else { return Ok(None) };
        node.subtree = Some(Hex(subtree));
        self.count_folder(previous, &node);
        Ok(Some(node))
    }

    /// The tree of a folder on disk; nothing when it cannot be listed.
    fn listed(
        &mut self,
        disk: &Path,
        earlier: Option<Digest>,
        device: u64,
        depth: usize,
    ) -> Result<Option<Digest>> {
        let names = match names(disk) {
            Ok(_) if depth > DEPTH_MAX => Err(io::Error::other("it lies too deep")),
            names => names,
        };
        let names = match names {
            Ok(names) => names,
            Err(error) => {
                self.tell(disk, error.to_string());
                return Ok(None);
            }
        };
        let only = self.mark(disk, &names);
        let before = self.earlier(earlier)?;
        let made = match only {
            None => self.beside.0.remove(disk).unwrap_or_default(),
            Some(_) => BTreeMap::new(),
        };
        let names = with_made(names, &made);
        let mut tree = Tree::new();
        for name in &names {
            let path = disk.join(std::ffi::OsStr::from_bytes(name));
            let marked = only.as_ref().is_some_and(|only| only != name);
            if marked {
                let way =
                    |archive: &mut Self| archive.entry(name, &path, before.get(name), Some(device), depth);
                if let Some(node) = self.with_word(Word::Way, way)? {
                    tree.add(&node)?;
                }
                continue;
            }
            let node = match made.get(name) {
                Some(Place::Spare(_)) if fs::symlink_metadata(&path).is_ok() => None,
                Some(_) if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) => {
                    self.tell(&path, "a folder stands where this would go".to_owned());
                    Some(None)
                }
                Some(place) => Some(self.placed(name, place, &path, before.get(name))?),
                None => None,
            };
            let node = match node {
                Some(node) => node,
                None => self.entry(name, &path, before.get(name), Some(device), depth)?,
            };
            if let Some(node) = node {
                tree.add(&node)?;
            }
        }
        self.saver.save(BlobType::Tree, tree.close()).map(Some)
    }

    /// The file by which a folder says that it is not to be saved, if it has one.
    fn mark(&self, disk: &Path, names: &[Vec<u8>]) -> Option<Vec<u8>> {
        let has = |mark: &[u8]| names.binary_search_by(|name| name.as_slice().cmp(mark)).is_ok();
        let cache = b"CACHEDIR.TAG";
        if self.rules.leave_caches(&self.word) && has(cache) && is_cache_tag(&disk.join("CACHEDIR.TAG")) {
            return Some(cache.to_vec());
        }
        self.rules.mark(&self.word, has)
    }

    fn file(
        &mut self,
        mut node: Node,
        disk: &Path,
        previous: Option<&Node>,
        meta: &Metadata,
    ) -> Result<Option<Node>> {
        if let Some(earlier) = previous
            && node.is_unchanged_since(earlier, self.request.ignore_inode, self.request.ignore_ctime)
            && let Some(content) = &earlier.content
            && content.iter().all(|id| self.saver.has(BlobType::Data, &id.0))
        {
            node.content = Some(content.clone());
            self.seen.counts.files_unmodified += 1;
            self.seen.counts.bytes += node.size;
            return Ok(Some(node));
        }
        let content = match open(disk, meta) {
            Ok((file, size)) => self.content(file.take(size.saturating_add(GROWTH_MAX)))?,
            Err(error) => Err(error),
        };
        let (content, size) = match content {
            Ok(read) => read,
            Err(error) => {
                self.tell(disk, error.to_string());
                return Ok(None);
            }
        };
        node.content = Some(content);
        node.size = size;
        self.count_file(previous, &node);
        Ok(Some(node))
    }

    /// Saves what `reader` gives. The outer error is the repository's, the inner one the reader's.
    fn content(&mut self, reader: impl Read + Send) -> Result<io::Result<(Vec<Hex>, u64)>> {
        let mut chunker = self.chunker.clone();
        let mut chunks = chunker.cut(reader);
        let mut content = (Vec::new(), 0);
        for _ in 0..SHORT {
            match self.chunk(chunks.next(), &mut content)? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(ended) => return Ok(ended.map(|()| content)),
            }
        }
        // A long one: looking for cuts takes as long as all the rest, and is done beside it.
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(1);
            scope.spawn(move || {
                loop {
                    let next = chunks.next();
                    let is_last = !matches!(next, Ok(Some(_)));
                    if sender.send(next).is_err() || is_last {
                        return;
                    }
                }
            });
            for next in receiver {
                if let ControlFlow::Break(ended) = self.chunk(next, &mut content)? {
                    return Ok(ended.map(|()| content));
                }
            }
            Ok(Err(io::Error::other("reading ended without a word")))
        })
    }

    /// Saves the next chunk of some content, until there is none.
    fn chunk(
        &mut self,
        next: io::Result<Option<Vec<u8>>>,
        (ids, size): &mut (Vec<Hex>, u64),
    ) -> Result<ControlFlow<io::Result<()>>> {
        self.saver.check()?;
        match next {
            Ok(Some(chunk)) => {
                *size += chunk.len() as u64;
                ids.push(Hex(self.saver.save(BlobType::Data, chunk)?));
                Ok(ControlFlow::Continue(()))
            }
            Ok(None) => Ok(ControlFlow::Break(Ok(()))),
            Err(error) => Ok(ControlFlow::Break(Err(error))),
        }
    }

    fn earlier(&self, tree: Option<Digest>) -> Result<Earlier> {
        tree.map_or_else(|| Ok(Earlier::new()), |tree| self.parents.entries(&tree))
    }

    fn count_file(&mut self, previous: Option<&Node>, node: &Node) {
        let counts = &mut self.seen.counts;
        match previous {
            None => counts.files_new += 1,
            Some(previous) if previous == node => counts.files_unmodified += 1,
            Some(_) => counts.files_changed += 1,
        }
        counts.bytes += node.size;
    }

    fn count_folder(&mut self, previous: Option<&Node>, node: &Node) {
        let counts = &mut self.seen.counts;
        match previous {
            None => counts.dirs_new += 1,
            Some(previous) if previous == node => counts.dirs_unmodified += 1,
            Some(_) => counts.dirs_changed += 1,
        }
    }

    fn tell(&mut self, path: &Path, why: String) {
        if self.rules.excuse(&self.word, path.as_os_str().as_bytes()) {
            if self.seen.excused.len() < UNREAD_MAX {
                self.seen.excused.push(Unread { path: path.to_owned(), why });
            } else {
                self.seen.excused_more += 1;
            }
        } else if self.seen.unread.len() < UNREAD_MAX {
            self.seen.unread.push(Unread { path: path.to_owned(), why });
        } else {
            self.seen.unread_more += 1;
        }
    }
}

/// What stands in a folder after what was made for it came in. Beside the copy of a database its live log would be
/// replayed onto the copy, so that one goes with the live file.
fn with_made(mut names: Vec<Vec<u8>>, made: &BTreeMap<Vec<u8>, Place>) -> Vec<Vec<u8>> {
    if made.is_empty() {
        return names;
    }
    let is_log = |name: &[u8]| {
        LOGS.iter()
            .filter_map(|ending| name.strip_suffix(ending.as_bytes()))
            .any(|database| made.get(database).is_some_and(|place| !matches!(place, Place::Spare(_))))
    };
    names.retain(|name| !is_log(name));
    names.extend(made.keys().cloned());
    names.sort_unstable();
    names.dedup();
    names
}
