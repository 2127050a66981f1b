//! Takes blobs, keeps those that are new, compresses and encrypts them on a few threads, and writes packs and
//! index files. Memory is bounded by what is on the way: for each thread some chunks and a pack that it writes, and two
//! packs being filled.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::manifest::Digest;
use rustic_core::repofile::BlobType;
use rustic_core::{FileType, Id};
use sha2::{Digest as _, Sha256};

use super::super::catalog::Index;
use super::files::Files;
use super::lock::Lock;
use super::pack::{Indexing, PACK_OVERHEAD, Packing, size_in_pack};

/// How content is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not, as far as file content goes.
    Off,
    /// Fast and good.
    #[default]
    Auto,
    /// Slow and a little better.
    Max,
}

impl Compression {
    fn level(self, kind: BlobType) -> Option<i32> {
        match (self, kind) {
            (Self::Off, BlobType::Data) => None,
            (Self::Off | Self::Auto, _) => Some(3),
            (Self::Max, _) => Some(11),
        }
    }
}

/// What was added to the repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) data_blobs: u64,
    pub(super) tree_blobs: u64,
    /// Bytes of content.
    pub(super) bytes: u64,
    /// Bytes in packs.
    pub(super) packed: u64,
}

/// What the threads share.
struct Shared<'a> {
    files: &'a Files,
    lock: &'a Lock,
    compression: Compression,
    pack_size: usize,
    trees: Mutex<Packing>,
    data: Mutex<Packing>,
    index: Mutex<Indexing>,
    added: Mutex<Added>,
    packs: Mutex<Vec<Id>>,
    failed: Mutex<Option<Error>>,
}

struct Job {
    kind: BlobType,
    digest: Digest,
    content: Vec<u8>,
}

/// Where blobs are handed in. There is one of it, so what is new is decided without waiting.
pub(super) struct Saver<'a> {
    shared: &'a Shared<'a>,
    sender: SyncSender<Job>,
    /// What the repository had before; nothing when everything is to be written again.
    known: Option<&'a Index>,
    sent: HashSet<(bool, Digest)>,
}

/// How blobs are saved.
pub(super) struct Saving<'a> {
    pub(super) files: &'a Files,
    pub(super) lock: &'a Lock,
    pub(super) compression: Compression,
    pub(super) pack_size: usize,
    pub(super) workers: usize,
}

impl Saving<'_> {
    /// Runs `work`, which hands in blobs. When it returns, all of them are in packs, and all packs in an index;
    /// with an error, that is not promised.
    pub(super) fn run<R>(
        &self,
        known: Option<&Index>,
        work: impl FnOnce(&mut Saver<'_>) -> Result<R>,
    ) -> Result<(R, Added, Vec<Id>)> {
        let shared = Shared {
            files: self.files,
            lock: self.lock,
            compression: self.compression,
            pack_size: self.pack_size,
            trees: Mutex::new(Packing::new()),
            data: Mutex::new(Packing::new()),
            index: Mutex::default(),
            added: Mutex::default(),
            packs: Mutex::default(),
            failed: Mutex::new(None),
        };
        let workers = self.workers.max(1);
        let (sender, receiver) = sync_channel(workers);
        let receiver = Mutex::new(receiver);
        let result = std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| shared.work(&receiver));
            }
            let mut saver = Saver { shared: &shared, sender, known, sent: HashSet::new() };
            // A panic must not leave the threads waiting for more.
            catch_unwind(AssertUnwindSafe(|| work(&mut saver))).unwrap_or_else(|_| Err(panicked()))
        });
        if let Some(error) = locked(&shared.failed).take() {
            return Err(error);
        }
        let result = result?;
        shared.finish()?;
        Ok((result, *locked(&shared.added), std::mem::take(&mut *locked(&shared.packs))))
    }
}

impl Saver<'_> {
    /// Saves a blob unless the repository has it, and returns its id.
    pub(super) fn save(&mut self, kind: BlobType, content: Vec<u8>) -> Result<Digest> {
        let digest: Digest = Sha256::digest(&content).into();
        if self.has(kind, &digest) {
            return Ok(digest);
        }
        self.sent.insert((kind == BlobType::Tree, digest));
        let sent = self.sender.send(Job { kind, digest, content });
        if sent.is_err() || locked(&self.shared.failed).is_some() {
            return Err(Error::new(ErrorKind::Internal, "save a blob").because("an earlier one failed"));
        }
        Ok(digest)
    }

    /// Whether the repository has this blob, in a pack that is there and that nobody means to remove.
    pub(super) fn has(&self, kind: BlobType, digest: &Digest) -> bool {
        let tree = kind == BlobType::Tree;
        self.sent.contains(&(tree, *digest))
            || self.known.is_some_and(|index| {
                index.places(digest).any(|place| {
                    place.tree == tree && index.pack(place).is_some_and(|pack| pack.fits && !pack.marked)
                })
            })
    }

    /// `Ok` while work may go on.
    pub(super) fn check(&self) -> Result<()> {
        self.shared.lock.check()
    }
}

/// What one thread works with. Its memory is used again for every blob: given back each time, it would end up in
/// pieces that nothing else fits in.
#[derive(Default)]
struct Bench {
    compressor: Option<(i32, zstd::bulk::Compressor<'static>)>,
    packed: Vec<u8>,
    unit: Vec<u8>,
}

impl Bench {
    /// Leaves `content` in `packed`, compressed.
    fn compress(&mut self, content: &[u8], level: i32) -> Result<()> {
        let failed =
            |error: std::io::Error| Error::new(ErrorKind::Internal, "compress a blob").from_source(&error);
        if self.compressor.as_ref().is_none_or(|(own, _)| *own != level) {
            self.compressor = Some((level, zstd::bulk::Compressor::new(level).map_err(failed)?));
        }
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(content.len()));
        match &mut self.compressor {
            Some((_, compressor)) => {
                compressor.compress_to_buffer(content, &mut self.packed).map(drop).map_err(failed)
            }
            None => Err(Error::new(ErrorKind::Internal, "compress a blob")),
        }
    }
}

impl Shared<'_> {
    fn work(&self, jobs: &Mutex<Receiver<Job>>) {
        let mut bench = Bench::default();
        loop {
            let Ok(job) = locked(jobs).recv() else { return };
            // After an error, jobs are only taken so that nobody waits for ever.
            if locked(&self.failed).is_some() {
                continue;
            }
            let done = catch_unwind(AssertUnwindSafe(|| self.pack(&job, &mut bench)))
                .unwrap_or_else(|_| Err(panicked()));
            if let Err(error) = done {
                locked(&self.failed).get_or_insert(error);
            }
        }
    }

    fn pack(&self, job: &Job, bench: &mut Bench) -> Result<()> {
        let level = self.compression.level(job.kind).filter(|_| self.files.version > 1);
        let length = u32::try_from(job.content.len()).ok().and_then(NonZeroU32::new).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "save a blob").because("its length is impossible")
        })?;
        let packed = level.map(|level| bench.compress(&job.content, level)).transpose()?.is_some();
        let plain = if packed { &bench.packed } else { &job.content };
        self.files.cipher.encrypt_to(plain, &mut bench.unit)?;
        let unit = &bench.unit;
        {
            let mut added = locked(&self.added);
            match job.kind {
                BlobType::Tree => added.tree_blobs += 1,
                BlobType::Data => added.data_blobs += 1,
            }
            added.bytes += u64::from(length.get());
            added.packed += size_in_pack(unit.len(), packed);
        }
        let packing = if job.kind == BlobType::Tree { &self.trees } else { &self.data };
        let full = {
            let mut packing = locked(packing);
            packing.add(
                job.kind,
                &job.digest,
                unit,
                packed.then_some(length),
                self.pack_size + self.pack_size / 8,
            )?;
            packing.is_full(self.pack_size).then(|| std::mem::replace(&mut *packing, Packing::new()))
        };
        full.map_or(Ok(()), |full| self.write(full))
    }

    /// Writes a pack, and an index file when there are many packs.
    fn write(&self, packing: Packing) -> Result<()> {
        self.lock.check()?;
        let packed = packing.close(&self.files.cipher)?;
        let id = self.files.save_pack(packed.content)?;
        locked(&self.added).packed += PACK_OVERHEAD;
        locked(&self.packs).push(id);
        let file = {
            let mut index = locked(&self.index);
            index.add(&id, packed.blobs);
            if index.is_full() { index.take()? } else { None }
        };
        file.map_or(Ok(()), |json| self.save_index(&json))
    }

    fn finish(&self) -> Result<()> {
        for packing in [&self.data, &self.trees] {
            let packing = std::mem::replace(&mut *locked(packing), Packing::new());
            if !packing.is_empty() {
                self.write(packing)?;
            }
        }
        let file = locked(&self.index).take()?;
        file.map_or(Ok(()), |json| self.save_index(&json))
    }

    fn save_index(&self, json: &[u8]) -> Result<()> {
        self.lock.check()?;
        self.files.save(FileType::Index, json).map(drop)
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "write to the repository")
        .because("the writer panicked")
        .advise("this is a bug in firedrill or in a library it uses; please report it")
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
