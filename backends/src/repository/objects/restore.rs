//! One object into one lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firedrill_core::config::objects::plain_components;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::finding::Finding;
use firedrill_core::manifest::{Chunk, Kind, Manifest, NewEntry};
use firedrill_core::ports::{Order, Restored};
use firedrill_core::snapshot::Snapshot;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::sums::Sums;
use super::{Content, Source};
use crate::repository::restic::writer::Writer;

/// k3s keeps what it knows of a snapshot in a small object of the same name in this folder beside it.
const COMPANIONS: &str = ".metadata";
/// A companion that is larger is none.
const COMPANION_BYTES_MAX: u64 = 1 << 20;

/// What the object is by its listing: its content is not known before it is read.
pub(super) fn listed(snapshot: &Snapshot) -> Result<Manifest> {
    let key = key(snapshot)?;
    let mut manifest = Manifest::default();
    push_folders(&mut manifest, &key.parts);
    let entry = file(&key.path(), snapshot.bytes.unwrap_or_default(), Some(snapshot.time));
    manifest.push(entry, []);
    Ok(manifest)
}

pub(super) fn restore<'o>(source: &'o dyn Source, order: &'o Order<'_>) -> Result<Restored> {
    let start = Instant::now();
    let key = key(order.snapshot)?;
    order.watch.check()?;
    let mut content = source.open(key.whole)?.ok_or_else(|| gone(key.whole))?;
    if order.snapshot.bytes.is_some_and(|listed| listed != content.facts().size) {
        return Err(Error::new(ErrorKind::Unavailable, format!("read {}", key.whole))
            .because("it is not the object that was listed any more")
            .advise("something writes under the same name: try again"));
    }
    let companion = companion(&key, source)?;
    let locate = start.elapsed();

    let mut restore = Restore {
        source,
        writer: Writer::new(order.lease.data(), order.bytes_max)?,
        order,
        manifest: Manifest::default(),
        findings: Vec::new(),
        bytes: 0,
        fetch: Duration::ZERO,
        write: Duration::ZERO,
    };
    order.progress.expect(content.facts().size);
    restore.folders(&key.parts)?;
    // The time in the name is when the dump began; that it was stored later makes it no newer. What was
    // stored before that time is an old file under a new name.
    let time = content.facts().modified.map_or(order.snapshot.time, |m| m.min(order.snapshot.time));
    restore.file((key.whole, &key.path()), content.as_mut(), Some(time))?;
    let mut files = 1;
    if let Some((parts, mut content)) = companion {
        restore.folders(&parts)?;
        let modified = content.facts().modified;
        let path = parts.join("/");
        restore.file((&path, &path), content.as_mut(), modified)?;
        files += 1;
    }
    Ok(Restored {
        manifest: Arc::new(restore.manifest),
        files,
        bytes: restore.bytes,
        bytes_read: restore.bytes,
        findings: restore.findings,
        locate,
        fetch: restore.fetch,
        write: restore.write,
        ..Restored::default()
    })
}

/// The key of a snapshot, and the path that it becomes.
struct Key<'s> {
    whole: &'s str,
    parts: Vec<&'s str>,
}

impl Key<'_> {
    fn path(&self) -> String {
        self.parts.join("/")
    }
}

/// A snapshot may come from old evidence, so its key is looked at once more.
fn key(snapshot: &Snapshot) -> Result<Key<'_>> {
    let whole = snapshot.paths.first().map(String::as_str).unwrap_or_default();
    let parts = plain_components(whole).ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, format!("restore {}", whole.escape_debug()))
            .because("no file can have this name")
    })?;
    Ok(Key { whole, parts })
}

fn gone(key: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("read {key}"))
        .because("it was listed, and is not there any more")
        .advise("retention may have removed it meanwhile: try again")
}

type Companion<'s> = (Vec<String>, Box<dyn Content + 's>);

/// What lies beside an etcd snapshot of k3s, if it does.
fn companion<'s>(key: &Key<'_>, source: &'s dyn Source) -> Result<Option<Companion<'s>>> {
    let Some((name, folders)) = key.parts.split_last() else { return Ok(None) };
    if !name.contains("snapshot") && !name.contains("on-demand") {
        return Ok(None);
    }
    let parts: Vec<String> = folders.iter().copied().chain([COMPANIONS, *name]).map(str::to_owned).collect();
    let found = source.open(&parts.join("/"))?;
    Ok(found.filter(|content| content.facts().size <= COMPANION_BYTES_MAX).map(|content| (parts, content)))
}

/// A restore under way.
struct Restore<'o> {
    source: &'o dyn Source,
    writer: Writer,
    order: &'o Order<'o>,
    manifest: Manifest,
    findings: Vec<Finding>,
    bytes: u64,
    fetch: Duration,
    write: Duration,
}

impl Restore<'_> {
    /// Makes the folders that the last of `parts` lies in, as far as they are not there yet.
    fn folders<P: AsRef<str>>(&mut self, parts: &[P]) -> Result<()> {
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let known = self.manifest.entries().len();
        push_folders(&mut self.manifest, &parts);
        for entry in self.manifest.entries().get(known..).unwrap_or_default() {
            self.writer.make_folder(&entry.path)?;
        }
        Ok(())
    }

    /// Makes sure that a checksum which does not fit is that of what is stored, and not of what a bad line
    /// made of it.
    fn read_again(&self, key: &str, seen: &str) -> Result<()> {
        let mut content = self.source.open(key)?.ok_or_else(|| gone(key))?;
        let mut sums = Sums::new(&content.facts().promised);
        loop {
            self.order.watch.check()?;
            let piece = content.next()?;
            if piece.is_empty() {
                break;
            }
            sums.update(&piece);
        }
        match sums.broken() {
            Some((_, again)) if again == seen => Ok(()),
            _ => Err(Error::new(ErrorKind::Unavailable, format!("read {key}"))
                .because("read twice, it was not the same")
                .advise("the network or the server garbles data: use https, and look at both")),
        }
    }

    fn file(
        &mut self,
        (key, path): (&str, &str),
        content: &mut dyn Content,
        time: Option<Timestamp>,
    ) -> Result<()> {
        let facts = content.facts().clone();
        let open = self.writer.make_file(path.as_bytes())?;
        let mut sums = Sums::new(&facts.promised);
        let mut chunks = Vec::new();
        let mut offset = 0;
        loop {
            self.order.watch.check()?;
            let start = Instant::now();
            let piece = content.next()?;
            self.fetch += start.elapsed();
            if piece.is_empty() {
                break;
            }
            let start = Instant::now();
            sums.update(&piece);
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            chunks.push(Chunk { digest: Sha256::digest(&piece).into(), length });
            self.writer.write(&open, path.as_bytes(), offset, &piece)?;
            offset += piece.len() as u64;
            self.order.progress.advance(piece.len() as u64);
            self.write += start.elapsed();
        }
        if offset != facts.size {
            // What arrives cut short says something about the way to it.
            return Err(Error::new(ErrorKind::Unavailable, format!("read {path}"))
                .because(format!("{offset} of {} bytes came", facts.size)));
        }
        if let Some((expected, seen)) = sums.broken() {
            self.read_again(key, &seen)?;
            self.findings.push(Finding::damage("objects.checksum", path, expected, seen));
        }
        self.manifest.push(file(path, offset, time), chunks);
        if let Some(entry) = self.manifest.entries().last() {
            self.writer.settle_file(open, entry, Some(offset))?;
        }
        self.bytes += offset;
        Ok(())
    }
}

fn push_folders(manifest: &mut Manifest, parts: &[&str]) {
    for end in 1..parts.len() {
        let path = parts.get(..end).unwrap_or_default().join("/");
        if !manifest.entries().iter().any(|e| e.path == path.as_bytes()) {
            manifest.push(NewEntry::bare(path, Kind::Directory), []);
        }
    }
}

fn file(path: &str, size: u64, mtime: Option<Timestamp>) -> NewEntry {
    NewEntry { size, mtime, ..NewEntry::bare(path, Kind::File) }
}
