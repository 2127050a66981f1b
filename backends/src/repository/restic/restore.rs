//! One snapshot into one lease.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use firedrill_core::error::Result;
use firedrill_core::finding::{FINDINGS_MAX, Finding};
use firedrill_core::manifest::{Digest, Entry, Kind, Manifest};
use firedrill_core::ports::{Order, Restored};

use super::catalog::Catalog;
use super::fetch::{Deliver, Fetch, Times};
use super::store::Store;
use super::tree;
use super::writer::{Writer, withheld};

/// Restores one order.
pub(super) fn restore(
    store: &Store,
    catalog: &Catalog,
    order: &Order<'_>,
    workers: usize,
) -> Result<Restored> {
    let start = Instant::now();
    let store = &store.metered();
    let walked = tree::walk(store, catalog, order.snapshot, workers, &order.watch)?;
    let manifest = Arc::new(walked.manifest);
    let locate = start.elapsed();

    let start = Instant::now();
    let times = Times::default();
    let writer = Writer::new(order.lease.data(), order.bytes_max)?;
    let makeable = makeable(&manifest);
    for entry in chosen(&manifest, &makeable).map(|(_, e)| e).filter(|e| e.kind == Kind::Directory) {
        order.watch.check()?;
        writer.make_folder(&entry.path)?;
    }
    let content = Content::plan(&manifest, &makeable, &writer, order);
    order.progress.expect(content.bytes);
    let fetch = Fetch { store, catalog, trees: false, workers, watch: &order.watch, times: &times };
    let mut copy_findings = walked.copy_findings;
    copy_findings.extend(fetch.run(&content.wanted, &content)?);
    finish(&manifest, &makeable, &writer, order)?;
    let (fetch, write) = times.split(start.elapsed());

    let mut restored = Restored {
        files: content.whole.load(Ordering::Relaxed),
        bytes: content.written.load(Ordering::Relaxed),
        bytes_read: store.bytes_read(),
        withheld: withheld_of(&manifest),
        findings: walked.findings,
        findings_omitted: walked.findings_omitted,
        copy_findings,
        locate,
        fetch,
        write,
        manifest: Arc::clone(&manifest),
    };
    for finding in content.lost() {
        if restored.findings.len() < FINDINGS_MAX {
            restored.findings.push(finding);
        } else {
            restored.findings_omitted += 1;
        }
    }
    Ok(restored)
}

/// The longest name that Linux has room for.
const NAME_MAX: usize = 255;

/// Which entries can be made here. A name that is too long is fine elsewhere: its entry is left out with
/// everything below it, and the examination of the tree says that it could not look at it.
fn makeable(manifest: &Manifest) -> Vec<bool> {
    let mut lost: Option<&[u8]> = None;
    let fits = |entry: &'_ Entry| entry.name().len() <= NAME_MAX;
    let mut makeable = Vec::with_capacity(manifest.entries().len());
    for entry in manifest.entries() {
        // Each folder is followed by all that is in it.
        let inside =
            lost.and_then(|folder| entry.path.strip_prefix(folder)).is_some_and(|r| r.starts_with(b"/"));
        if !inside {
            lost = (!fits(entry) && entry.kind == Kind::Directory).then_some(&entry.path);
        }
        makeable.push(!inside && fits(entry));
    }
    makeable
}

/// Entries that are made, with their positions.
fn chosen<'m>(
    manifest: &'m Manifest,
    makeable: &'m [bool],
) -> impl DoubleEndedIterator<Item = (usize, &'m Entry)> {
    let made = |number: usize| makeable.get(number).copied().unwrap_or(false);
    manifest.entries().iter().enumerate().filter(move |(number, _)| made(*number))
}

/// A file that waits for its chunks.
struct File<'m> {
    entry: &'m Entry,
    /// The length of all its chunks together.
    length: u64,
    /// Chunks that are still to come.
    missing: AtomicU32,
    /// Whether it exists, guarded because its first chunks may come on two threads at once.
    made: Mutex<bool>,
    /// Why it cannot be whole.
    lost: Mutex<Option<String>>,
    /// That its chunks do not add up to its size, if they do not.
    misfit: Option<String>,
}

impl File<'_> {
    /// Why it is not whole. What is wrong with a chunk tells more than that the sum is wrong.
    fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone().or_else(|| self.misfit.clone())
    }
}

/// All content of a snapshot, and where each chunk of it goes.
struct Content<'m> {
    files: Vec<File<'m>>,
    wanted: Vec<Digest>,
    /// For each digest the files (positions in `files`) and offsets that want it.
    places: HashMap<Digest, Vec<(u32, u64)>>,
    bytes: u64,
    written: AtomicU64,
    whole: AtomicU64,
    writer: &'m Writer,
    order: &'m Order<'m>,
}

impl<'m> Content<'m> {
    fn plan(manifest: &'m Manifest, makeable: &'m [bool], writer: &'m Writer, order: &'m Order<'m>) -> Self {
        let mut content = Self {
            files: Vec::new(),
            wanted: Vec::new(),
            places: HashMap::new(),
            bytes: 0,
            written: AtomicU64::new(0),
            whole: AtomicU64::new(0),
            writer,
            order,
        };
        let firsts = first_names(manifest, makeable);
        for (number, entry) in chosen(manifest, makeable) {
            if !entry.is_file() || firsts.get(&entry.link_group).is_some_and(|first| *first != number) {
                continue;
            }
            let file = u32::try_from(content.files.len()).unwrap_or(u32::MAX);
            let chunks = manifest.chunks(entry);
            let mut offset = 0;
            for chunk in chunks {
                let places = content.places.entry(chunk.digest).or_default();
                if places.is_empty() {
                    content.wanted.push(chunk.digest);
                }
                places.push((file, offset));
                offset += u64::from(chunk.length);
            }
            content.bytes += offset;
            let misfit: Option<String> = (offset != entry.size)
                .then(|| format!("the snapshot gives {} bytes, its content has {offset}", entry.size));
            if chunks.is_empty() && misfit.is_none() {
                // Nothing will be delivered to it.
                content.whole.fetch_add(1, Ordering::Relaxed);
            }
            content.files.push(File {
                entry,
                length: offset,
                missing: AtomicU32::new(u32::try_from(chunks.len()).unwrap_or(u32::MAX)),
                made: Mutex::new(false),
                lost: Mutex::new(None),
                misfit,
            });
        }
        content
    }

    fn put(&self, file: &File<'_>, offset: u64, content: Result<&[u8], &str>) -> Result<()> {
        let open = self.open(file)?;
        match content {
            Ok(bytes) => {
                self.writer.write(&open, &file.entry.path, offset, bytes)?;
                self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.order.progress.advance(bytes.len() as u64);
            }
            Err(why) => {
                file.lost
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert_with(|| why.to_owned());
            }
        }
        if file.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            let whole = file.lost().is_none();
            self.writer.settle_file(open, file.entry, whole.then_some(file.length))?;
            self.whole.fetch_add(u64::from(whole), Ordering::Relaxed);
        }
        Ok(())
    }

    fn open(&self, file: &File<'_>) -> Result<OwnedFd> {
        let mut made = file.made.lock().unwrap_or_else(PoisonError::into_inner);
        if *made {
            return self.writer.open_file(&file.entry.path);
        }
        let open = self.writer.make_file(&file.entry.path)?;
        *made = true;
        Ok(open)
    }

    fn lost(&self) -> Vec<Finding> {
        let lost = |file: &File<'_>| {
            let why = file.lost()?;
            let expected = format!("{} bytes of content", file.entry.size);
            Some(Finding::damage("restore.content", file.entry.display(), expected, why))
        };
        self.files.iter().filter_map(lost).collect()
    }
}

impl Deliver for Content<'_> {
    fn deliver(&self, digest: &Digest, content: Result<&[u8], &str>) -> Result<()> {
        for (file, offset) in self.places.get(digest).into_iter().flatten() {
            // One chunk of zeros may stand in very many places.
            self.order.watch.check()?;
            if let Some(file) = self.files.get(*file as usize) {
                self.put(file, *offset, content)?;
            }
        }
        Ok(())
    }
}

/// Everything that has no content, then the metadata of folders, deepest first.
fn finish(manifest: &Manifest, makeable: &[bool], writer: &Writer, order: &Order<'_>) -> Result<()> {
    let firsts = first_names(manifest, makeable);
    for (number, entry) in chosen(manifest, makeable) {
        order.watch.check()?;
        match &entry.kind {
            Kind::File => match firsts.get(&entry.link_group) {
                Some(first) if *first != number => {
                    if let Some(first) = manifest.entries().get(*first) {
                        writer.hard_link(&first.path, &entry.path)?;
                    }
                }
                _ if manifest.chunks(entry).is_empty() => {
                    let file = writer.make_file(&entry.path)?;
                    writer.settle_file(file, entry, None)?;
                }
                _ => {}
            },
            Kind::Symlink(target) => writer.make_link(entry, target)?,
            Kind::Fifo => writer.make_fifo(entry)?,
            Kind::Directory | Kind::Socket | Kind::Device => {}
        }
    }
    for (_, entry) in chosen(manifest, makeable).rev().filter(|(_, e)| e.kind == Kind::Directory) {
        order.watch.check()?;
        writer.settle_folder(entry)?;
    }
    Ok(())
}

/// For each group of hard links the position of its first name. All names of a group have the same content.
fn first_names(manifest: &Manifest, makeable: &[bool]) -> BTreeMap<u64, usize> {
    let mut firsts = BTreeMap::new();
    for (number, entry) in chosen(manifest, makeable) {
        if entry.is_file() && entry.link_group != 0 {
            firsts.entry(entry.link_group).or_insert(number);
        }
    }
    firsts
}

fn withheld_of(manifest: &Manifest) -> Vec<String> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for what in manifest.entries().iter().filter_map(withheld) {
        *counts.entry(what).or_default() += 1;
    }
    counts.into_iter().map(|(what, count)| format!("{count} {what}")).collect()
}
