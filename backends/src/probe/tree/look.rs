//! Looking at entries that are where they should be: content, targets of links, metadata.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use firedrill_core::finding::Finding;
use firedrill_core::manifest::{Entry, Kind, Manifest, display_path};
use firedrill_core::subject::Subject;
use rustix::fs::{OFlags, Stat, fstat, readlinkat};
use rustix::io::Errno;

use super::content::{self, Content};
use super::disk::{self, Handle};
use super::metadata::{Buffers, Metadata};
use super::tally::{Link, Tally};

/// Entries of one directory for a thread to look at.
pub(super) struct Batch {
    pub(super) directory: Arc<OwnedFd>,
    pub(super) entries: Vec<usize>,
    pub(super) bytes: u64,
}

/// What all threads know.
pub(super) struct Shared<'a> {
    pub(super) subject: &'a Subject,
    pub(super) manifest: &'a Manifest,
    pub(super) metadata: Metadata<'a>,
}

impl<'a> Shared<'a> {
    pub(super) fn entry(&self, position: usize) -> Option<&'a Entry> {
        self.manifest.entries().get(position)
    }

    pub(super) fn proceed(&self, tally: &mut Tally) -> bool {
        match self.subject.watch.check() {
            Ok(()) => true,
            Err(error) => {
                tally.stopped.get_or_insert_with(|| error.chain());
                false
            }
        }
    }

    /// What each thread does until there is nothing left to do.
    pub(super) fn work(&self, receiver: &Mutex<Receiver<Batch>>) -> Tally {
        let mut tally = Tally::default();
        let mut buffers = Buffers::default();
        let mut buffer = vec![0; content::BUFFER];
        loop {
            let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = next else { return tally };
            for position in batch.entries {
                let Some(entry) = self.entry(position) else { continue };
                if !self.proceed(&mut tally) {
                    break;
                }
                let looked = match &entry.kind {
                    Kind::File => {
                        self.file(position, entry, &batch.directory, &mut buffer, &mut buffers, &mut tally)
                    }
                    _ => self.special(entry, &batch.directory, &mut buffers, &mut tally),
                };
                match looked {
                    Ok(()) => tally.checked += 1,
                    Err(errno) => tally.hinder(|| entry.display(), "read", errno),
                }
            }
        }
    }

    fn file(
        &self,
        position: usize,
        entry: &Entry,
        directory: &OwnedFd,
        buffer: &mut [u8],
        buffers: &mut Buffers,
        tally: &mut Tally,
    ) -> Result<(), Errno> {
        let file = disk::open(directory.as_fd(), entry.name(), OFlags::empty())?;
        let stat = fstat(&file)?;
        let intact = match self.content(entry, &file, &stat, buffer, tally)? {
            Some(finding) => {
                tally.find(&entry.path, finding);
                false
            }
            None => true,
        };
        if entry.link_group != 0 || stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            tally.links.push(Link { entry: position, group: entry.link_group, inode });
        }
        self.metadata.compare(entry, &stat, Handle::Open(file.as_fd()), intact, buffers, tally);
        Ok(())
    }

    /// What is wrong with the content of a file.
    fn content(
        &self,
        entry: &Entry,
        file: &OwnedFd,
        stat: &Stat,
        buffer: &mut [u8],
        tally: &mut Tally,
    ) -> Result<Option<Finding>, Errno> {
        let chunks = self.manifest.chunks(entry);
        let listed: u64 = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        let size = |expected: String, seen: String| {
            Ok(Some(Finding::damage("tree.size", entry.display(), expected, seen)))
        };
        if u64::try_from(stat.st_size) != Ok(entry.size) {
            return size(format!("{} bytes", entry.size), format!("{} bytes", stat.st_size));
        }
        if listed != entry.size {
            let seen = format!("a snapshot whose {} chunks add up to {listed} bytes", chunks.len());
            return size(format!("{} bytes", entry.size), seen);
        }
        let compared = content::compare(file.as_fd(), chunks, buffer, || self.proceed(tally))?;
        let (expected, seen) = match compared {
            Content::Same | Content::Stopped => return Ok(None),
            Content::Short { offset } => {
                (format!("{} bytes", entry.size), format!("the end of the file after {offset} bytes"))
            }
            Content::Differs { number, offset, expected, seen } => {
                let expected = hex::encode(expected);
                let total = chunks.len();
                (
                    format!("SHA-256 {expected} in chunk {} of {total}, at byte {offset}", number + 1),
                    format!("SHA-256 {}", hex::encode(seen)),
                )
            }
        };
        Ok(Some(Finding::damage("tree.content", entry.display(), expected, seen)))
    }

    fn special(
        &self,
        entry: &Entry,
        directory: &OwnedFd,
        buffers: &mut Buffers,
        tally: &mut Tally,
    ) -> Result<(), Errno> {
        let stat = disk::stat(directory.as_fd(), entry.name())?;
        if let Kind::Symlink(target) = &entry.kind {
            let seen = readlinkat(directory, entry.name(), Vec::new())?;
            if seen.as_bytes() != target {
                let (expected, seen) = (display_path(target), display_path(seen.as_bytes()));
                tally.find(&entry.path, Finding::damage("tree.link_target", entry.display(), expected, seen));
            }
        }
        if entry.link_group != 0 && stat.st_nlink == 1 {
            tally.special_links += 1;
        }
        let handle = Handle::Named(directory.as_fd(), entry.name());
        self.metadata.compare(entry, &stat, handle, true, buffers, tally);
        Ok(())
    }
}

/// Files of one group must be one inode, and no inode may belong to two groups.
pub(super) fn compare_links(manifest: &Manifest, tally: &mut Tally) {
    let mut links = std::mem::take(&mut tally.links);
    let shown = |link: &Link| manifest.entries().get(link.entry).map(Entry::display).unwrap_or_default();
    let mut find = |link: &Link, expected: String, seen: String| {
        if let Some(entry) = manifest.entries().get(link.entry) {
            tally.find(&entry.path, Finding::damage("tree.hardlink", entry.display(), expected, seen));
        }
    };
    links.sort_by_key(|link| (link.group, link.entry));
    for group in links.chunk_by(|a, b| a.group == b.group).filter(|g| g.first().is_some_and(|l| l.group != 0))
    {
        let Some((first, others)) = group.split_first() else { continue };
        for link in others.iter().filter(|link| link.inode != first.inode) {
            find(link, format!("one file with {}", shown(first)), "a file of its own".to_owned());
        }
    }
    links.sort_by_key(|link| (link.inode, link.entry));
    for inode in links.chunk_by(|a, b| a.inode == b.inode) {
        let Some((first, others)) = inode.split_first() else { continue };
        for link in others.iter().filter(|link| link.group == 0 || link.group != first.group) {
            find(link, "a file of its own".to_owned(), format!("one file with {}", shown(first)));
        }
    }
}
