//! Blobs from packs, in parallel. Each range of a pack is read once, each blob is decrypted,
//! decompressed and hashed once, and handed to whoever wants it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use firedrill_core::error::Result;
use firedrill_core::finding::Finding;
use firedrill_core::manifest::Digest;
use firedrill_core::watch::Watch;
use rustic_core::FileType;
use sha2::{Digest as _, Sha256};

use super::catalog::{Catalog, Pack, Place};
use super::crypto::{OVERHEAD, decompress};
use super::pool;
use super::store::{Store, Unread};
use crate::repository::guard::name;

/// At most this much is read at a time, unless a single blob is larger.
const RANGE_MAX: u32 = 8 << 20;
/// Reading over a gap of this size is cheaper than another request.
const GAP_MAX: u32 = 256 << 10;
/// Packs up to this size are read whole when most of them is needed; their name is then checked, too.
const WHOLE_MAX: u32 = 32 << 20;
/// No real blob is larger: restic's chunks end at 8 MiB, and trees of a million entries below this.
const BLOB_MAX: u32 = 1 << 30;
/// Up to this size a blob may have been compressed to nothing: it may be all zeros.
const UNPACKED_FREE: u64 = 128 << 20;
/// Larger blobs are trees, which hold names, times and ids: they do not shrink more than this.
const UNPACKED_RATIO_MAX: u64 = 256;

/// Time spent by all threads together.
#[derive(Default)]
pub(super) struct Times {
    fetch: AtomicU64,
    write: AtomicU64,
}

impl Times {
    fn add(&self, fetch: Duration, write: Duration) {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        self.fetch.fetch_add(nanos(fetch), Ordering::Relaxed);
        self.write.fetch_add(nanos(write), Ordering::Relaxed);
    }

    /// Splits `wall` in proportion to the time that the threads spent fetching and writing.
    pub(super) fn split(&self, wall: Duration) -> (Duration, Duration) {
        let fetch = self.fetch.load(Ordering::Relaxed) as f64;
        let write = self.write.load(Ordering::Relaxed) as f64;
        let share = if fetch + write > 0.0 { fetch / (fetch + write) } else { 1.0 };
        let fetch = wall.mul_f64(share);
        (fetch, wall.saturating_sub(fetch))
    }
}

/// Takes a blob, or the reason why there is none. Called once per wanted blob, on any thread.
pub(super) trait Deliver: Sync {
    fn deliver(&self, digest: &Digest, content: Result<&[u8], &str>) -> Result<()>;
}

impl<F: Fn(&Digest, Result<&[u8], &str>) -> Result<()> + Sync> Deliver for F {
    fn deliver(&self, digest: &Digest, content: Result<&[u8], &str>) -> Result<()> {
        self(digest, content)
    }
}

/// What fetching needs.
pub(super) struct Fetch<'a> {
    pub(super) store: &'a Store,
    pub(super) catalog: &'a Catalog,
    /// Whether trees are wanted, and not data.
    pub(super) trees: bool,
    pub(super) workers: usize,
    pub(super) watch: &'a Watch,
    pub(super) times: &'a Times,
}

/// One contiguous read.
struct Job {
    pack: u32,
    offset: u32,
    length: u32,
    /// The read covers the whole file, so its name can be checked.
    whole: bool,
    blobs: Vec<(Place, Digest)>,
}

impl Fetch<'_> {
    /// Fetches every digest of `wanted` (each named once). Returns damage that no wanted blob suffers
    /// from: packs whose content does not fit their name although everything needed is intact.
    pub(super) fn run(&self, wanted: &[Digest], deliver: &impl Deliver) -> Result<Vec<Finding>> {
        let damaged_packs = Mutex::new(Vec::new());
        let jobs = self.jobs(wanted, deliver)?;
        pool::each(&jobs, self.workers, |job| {
            self.watch.check()?;
            if let Some(finding) = self.job(job, deliver)? {
                damaged_packs.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
            }
            Ok(())
        })?;
        Ok(damaged_packs.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn jobs(&self, wanted: &[Digest], deliver: &impl Deliver) -> Result<Vec<Job>> {
        let mut order = Vec::new();
        let mut packs: HashMap<u32, Vec<(Place, Digest)>> = HashMap::new();
        for digest in wanted {
            match self.first_usable(digest) {
                Ok(place) => {
                    let blobs = packs.entry(place.pack).or_default();
                    if blobs.is_empty() {
                        order.push(place.pack);
                    }
                    blobs.push((place, *digest));
                }
                Err(why) => deliver.deliver(digest, Err(&why))?,
            }
        }
        let mut jobs = Vec::new();
        for pack in order {
            let mut blobs = packs.remove(&pack).unwrap_or_default();
            blobs.sort_unstable_by_key(|(place, _)| place.offset);
            let listed = self.catalog.index.packs.get(pack as usize).and_then(|p| p.listed).unwrap_or(0);
            cut(pack, listed, blobs, &mut jobs);
        }
        Ok(jobs)
    }

    fn first_usable(&self, digest: &Digest) -> Result<Place, String> {
        let mut why = format!("blob {} is in no index", short(digest));
        for place in self.catalog.index.places(digest) {
            match self.usable(place) {
                Ok(()) => return Ok(place),
                Err(reason) => why = format!("blob {}: {reason}", short(digest)),
            }
        }
        Err(why)
    }

    fn usable(&self, place: Place) -> Result<(), String> {
        let Some(Pack { id, listed, .. }) = self.catalog.index.pack(place) else {
            return Err("the index names no pack".to_owned());
        };
        let pack = name(FileType::Pack, id);
        if place.tree != self.trees {
            let called = if place.tree { "a tree" } else { "data" };
            return Err(format!("the index calls it {called} in {pack}"));
        }
        let Some(listed) = *listed else { return Err(format!("{pack} is missing")) };
        if !possible(place) {
            let unpacked = place.uncompressed.map(|n| format!(" and {n} unpacked")).unwrap_or_default();
            return Err(format!(
                "the index gives it an impossible length in {pack}: {} bytes{unpacked}",
                place.length
            ));
        }
        if u64::from(place.offset) + u64::from(place.length) > u64::from(listed) {
            return Err(format!("{pack} is cut short: it has {listed} bytes and the blob ends beyond"));
        }
        Ok(())
    }

    fn job(&self, job: &Job, deliver: &impl Deliver) -> Result<Option<Finding>> {
        let Some(pack) = self.catalog.index.packs.get(job.pack as usize) else { return Ok(None) };
        let largest = job.blobs.iter().map(|(place, _)| unpacked(*place) + u64::from(place.length)).max();
        let memory = u64::from(job.length) + largest.unwrap_or_default();
        let _room = self.store.gate().enter(memory, self.watch)?;
        let start = Instant::now();
        let bytes = match self.store.read_pack(&pack.id, job.offset, job.length) {
            Ok(bytes) => bytes,
            Err(Unread::Damage(why)) => {
                for (_, digest) in &job.blobs {
                    deliver.deliver(digest, Err(&why))?;
                }
                return Ok(None);
            }
            Err(Unread::Trouble(error)) => return Err(error),
        };
        // A pack of another size cannot have the right name, and has been reported already.
        let misnamed =
            job.whole && pack.fits && hex::encode(Sha256::digest(&bytes)) != pack.id.to_hex().as_str();
        self.times.add(start.elapsed(), Duration::ZERO);

        let mut lost = false;
        for (place, digest) in &job.blobs {
            self.watch.check()?;
            let start = Instant::now();
            let from = (place.offset - job.offset) as usize;
            let unit = bytes.get(from..from + place.length as usize).unwrap_or_default();
            let content =
                self.verify(unit, *place, digest).or_else(|why| self.elsewhere(*place, digest, &why));
            let fetched = start.elapsed();
            lost |= content.is_err();
            deliver.deliver(digest, content.as_deref().map_err(String::as_str))?;
            self.times.add(fetched, start.elapsed().saturating_sub(fetched));
        }
        // Whoever needed damaged blobs says so; and what a second read does not show was the line's fault.
        let damaged = misnamed && !lost && self.still_misnamed(pack, job.length);
        Ok(damaged.then(|| {
            Finding::damage(
                "repository.pack",
                name(FileType::Pack, &pack.id),
                "content that fits its name",
                "other content; everything that this run needed from it is intact (its header or another blob is damaged)",
            )
        }))
    }

    fn still_misnamed(&self, pack: &Pack, length: u32) -> bool {
        let again = self.store.read_pack(&pack.id, 0, length);
        again.is_ok_and(|bytes| hex::encode(Sha256::digest(&bytes)) != pack.id.to_hex().as_str())
    }

    /// Reads a blob once more, then from every other place where it is stored.
    fn elsewhere(&self, failed: Place, digest: &Digest, why: &str) -> Result<Vec<u8>, String> {
        let mut reason = self.describe(failed, digest, why);
        for place in std::iter::once(failed).chain(self.catalog.index.places(digest)) {
            if self.usable(place).is_err() {
                continue;
            }
            let Some(pack) = self.catalog.index.pack(place) else { continue };
            match self.store.read_pack(&pack.id, place.offset, place.length) {
                Ok(unit) => match self.verify(&unit, place, digest) {
                    Ok(content) => return Ok(content),
                    Err(why) => reason = self.describe(place, digest, &why),
                },
                Err(Unread::Damage(why)) => reason = self.describe(place, digest, &why),
                // The first read said what is wrong; that a second one failed adds nothing.
                Err(Unread::Trouble(_)) => {}
            }
        }
        Err(reason)
    }

    fn describe(&self, place: Place, digest: &Digest, why: &str) -> String {
        let pack = self.catalog.index.pack(place).map(|p| name(FileType::Pack, &p.id)).unwrap_or_default();
        format!("blob {} in {pack}: {why}", short(digest))
    }

    fn verify(&self, unit: &[u8], place: Place, digest: &Digest) -> Result<Vec<u8>, String> {
        if unit.len() != place.length as usize {
            return Err(format!("{} bytes where {} were asked for", unit.len(), place.length));
        }
        let mut content = self.catalog.cipher.decrypt(unit)?;
        if let Some(length) = place.uncompressed {
            content = decompress(&content, u64::from(length))?;
            if content.len() != length as usize {
                return Err(format!("it unpacks to {} bytes, the index says {length}", content.len()));
            }
        }
        if Sha256::digest(&content).as_slice() != digest {
            return Err("its content has another SHA-256 than its id".to_owned());
        }
        Ok(content)
    }
}

/// How large the content of a blob is.
fn unpacked(place: Place) -> u64 {
    u64::from(place.uncompressed.unwrap_or(place.length.saturating_sub(OVERHEAD)))
}

/// Whether a real blob can have the lengths that the index gives it.
fn possible(place: Place) -> bool {
    let most = UNPACKED_FREE + UNPACKED_RATIO_MAX * u64::from(place.length);
    (OVERHEAD..=BLOB_MAX).contains(&place.length) && unpacked(place) <= most.min(u64::from(BLOB_MAX))
}

/// Cuts the wanted blobs of one pack into reads.
fn cut(pack: u32, listed: u32, blobs: Vec<(Place, Digest)>, jobs: &mut Vec<Job>) {
    let needed: u64 = blobs.iter().map(|(place, _)| u64::from(place.length)).sum();
    if listed <= WHOLE_MAX && needed * 5 >= u64::from(listed) * 3 {
        jobs.push(Job { pack, offset: 0, length: listed, whole: true, blobs });
        return;
    }
    let mut job: Option<Job> = None;
    for (place, digest) in blobs {
        let end = place.offset.saturating_add(place.length);
        match &mut job {
            Some(open)
                if place.offset <= open.offset.saturating_add(open.length).saturating_add(GAP_MAX)
                    && end - open.offset <= RANGE_MAX =>
            {
                open.length = open.length.max(end - open.offset);
                open.blobs.push((place, digest));
            }
            _ => {
                let fresh = Job {
                    pack,
                    offset: place.offset,
                    length: place.length,
                    whole: false,
                    blobs: vec![(place, digest)],
                };
                jobs.extend(job.replace(fresh));
            }
        }
    }
    jobs.extend(job);
}

fn short(digest: &Digest) -> String {
    let mut text = hex::encode(digest);
    text.truncate(16);
    text
}
