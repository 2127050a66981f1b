//! What a snapshot holds, read from its pages without an engine.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io;

use firedrill_core::cell::Version;
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::proto;
use super::{crc32c, kube};
use crate::probe::structure::etcd::bolt::{Bolt, Flaw, Visit, walk, wrong};
use crate::probe::structure::etcd::{digest, trailer};

/// Keys that are followed; about 40 bytes each.
const KEYS_MAX: usize = 4_000_000;
/// Keys whose values are compared.
const SAMPLE: usize = 256;
/// Longer values are not compared.
pub(super) const VALUE_MAX: usize = 1 << 20;
/// Prefixes that are counted.
const PREFIXES_MAX: usize = 2000;
/// Bootstrap data of k3s is some 50 KB, and there is one of it.
const BOOTSTRAP_MAX: usize = 16;
const PROVIDERS_MAX: usize = 16;

/// Whether the content fits the appended SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Fits,
    Wrong,
    /// A database file that was copied from a member has none.
    Absent,
}

/// A key whose value is compared with what a running etcd says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sampled {
    pub(super) key: Vec<u8>,
    pub(super) length: usize,
    pub(super) digest: [u8; 32],
}

/// Keys that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) count: u64,
    /// Sum of [`fingerprint`] over all of them.
    pub(super) digest: u64,
    pub(super) prefixes: BTreeMap<String, u64>,
    /// The same for the prefixes that somebody wants to know of.
    pub(super) wanted: BTreeMap<String, u64>,
    /// Whether `prefixes` has all of them.
    pub(super) prefixes_complete: bool,
    pub(super) sample: Vec<Sampled>,
    /// Providers and keys of values that are encrypted at rest, with the number of values.
    pub(super) encrypted: BTreeMap<String, u64>,
}

/// What a snapshot holds.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) hash: Hash,
    /// Why the pages cannot be followed.
    pub(super) flaw: Option<String>,
    pub(super) revision: u64,
    /// `None` when there are too many to follow.
    pub(super) live: Option<Live>,
    /// CRC-32C of what HashKV covers: revisions after the last compaction, and of those before it the ones of keys
    /// that exist. `None` when it was not made.
    pub(super) sum: Option<u32>,
    /// The version of etcd that wrote it, as far as it is noted.
    pub(super) version: Option<Version>,
    /// Alarms that were raised, by their number.
    pub(super) alarms: Vec<u64>,
    /// Whether clients have to log in.
    pub(super) auth: bool,
    /// Whether it holds objects of Kubernetes.
    pub(super) kubernetes: bool,
    /// Bootstrap data of k3s, by the name of its key below `/bootstrap/`.
    pub(super) bootstrap: BTreeMap<String, Vec<u8>>,
    /// The newest time at which a node renewed its lease.
    pub(super) renewed: Option<Timestamp>,
    /// The authority that the cluster's clients trust, as PEM.
    pub(super) root_ca: Option<Vec<u8>>,
}

impl Content {
    /// Reads the snapshot in `file`, and counts the keys below `wanted` prefixes. An error is about us.
    pub(super) fn read(file: &File, watch: &Watch, seed: u64, wanted: &[String]) -> io::Result<Self> {
        let proceed = || watch.check().map_err(|e| io::Error::other(e.chain()));
        let length = file.metadata()?.len();
        let hashed = length % 512 == 32;
        let end = if hashed { length.saturating_sub(32) } else { length };
        let hash = match hashed {
            true if trailer(file, end)? == digest(&proceed, file, end)? => Hash::Fits,
            true => Hash::Wrong,
            false => Hash::Absent,
        };
        let mut reading = Reading::new(seed, wanted);
        let mut sum = None;
        let flaw = match follow(file, end, &proceed, &mut reading) {
            Ok(()) => {
                sum = reading.sum(file, end, &proceed)?;
                None
            }
            Err(Flaw::Wrong(why)) => Some(why),
            Err(Flaw::Io(error)) => return Err(error),
        };
        let mut content = reading.finish(hash, flaw);
        content.sum = sum;
        Ok(content)
    }

    /// Whether nothing speaks against it so far.
    pub(super) fn is_sound(&self) -> bool {
        self.hash != Hash::Wrong && self.flaw.is_none()
    }
}

fn follow(
    file: &File,
    end: u64,
    proceed: &dyn Fn() -> io::Result<()>,
    reading: &mut Reading,
) -> Result<(), Flaw> {
    let bolt = Bolt::open(file, end)?;
    if bolt.bytes() > end {
        return wrong(format!("its pages take {} bytes, and it has {end}", bolt.bytes()));
    }
    walk(&bolt, proceed, reading)?;
    if reading.keys_seen { Ok(()) } else { wrong("there is no bucket called key") }
}

/// One number for a key and the revisions that it has seen.
pub(super) fn fingerprint(key: &[u8], create: u64, modified: u64, version: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    for number in [create, modified, version] {
        hasher.write_u64(number);
    }
    hasher.finish()
}

fn name_hash(seed: u64, key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(key);
    hasher.finish()
}

/// A key that exists, so far.
struct Known {
    fingerprint: u64,
    modified: u64,
    /// Index of the provider that encrypted its value, plus 1.
    provider: u8,
}

struct Reading {
    seed: u64,
    keys_seen: bool,
    newest: u64,
    compacted: u64,
    known: Option<HashMap<u64, Known>>,
    live: Live,
    sample: BTreeMap<u64, Sampled>,
    providers: Vec<(String, u64)>,
    versions: [Option<Version>; 2],
    alarms: Vec<u64>,
    auth: bool,
    kubernetes: bool,
    bootstrap: BTreeMap<String, Vec<u8>>,
    renewed: Option<Timestamp>,
    root_ca: Option<Vec<u8>>,
}

impl Reading {
    fn new(seed: u64, wanted: &[String]) -> Self {
        Self {
            seed,
            keys_seen: false,
            newest: 0,
            compacted: 0,
            known: Some(HashMap::new()),
            live: Live {
                prefixes_complete: true,
                wanted: wanted.iter().map(|prefix| (prefix.clone(), 0)).collect(),
                ..Live::default()
            },
            sample: BTreeMap::new(),
            providers: Vec::new(),
            versions: [None; 2],
            alarms: Vec::new(),
            auth: false,
            kubernetes: false,
            bootstrap: BTreeMap::new(),
            renewed: None,
            root_ca: None,
        }
    }

    /// Reads everything again: only now it is known what exists, and what was compacted.
    fn sum(&self, file: &File, end: u64, proceed: &dyn Fn() -> io::Result<()>) -> io::Result<Option<u32>> {
        let Some(known) = &self.known else { return Ok(None) };
        let mut summing = Summing { known, compacted: self.compacted, sum: crc32c::Sum::default() };
        summing.sum.add(b"key");
        match Bolt::open(file, end).and_then(|bolt| walk(&bolt, proceed, &mut summing)) {
            Ok(()) => Ok(Some(summing.sum.value())),
            Err(Flaw::Wrong(_)) => Ok(None),
            Err(Flaw::Io(error)) => Err(error),
        }
    }

    fn finish(self, hash: Hash, flaw: Option<String>) -> Content {
        let mut live = self.live;
        live.sample = self.sample.into_values().collect();
        live.encrypted = self.providers.into_iter().filter(|(_, count)| *count > 0).collect();
        Content {
            hash,
            flaw,
            // An etcd without any key starts at revision 1.
            revision: self.newest.max(self.compacted).max(1),
            live: self.known.map(|_| live),
            sum: None,
            version: self.versions.into_iter().flatten().max(),
            alarms: self.alarms,
            auth: self.auth,
            kubernetes: self.kubernetes,
            bootstrap: self.bootstrap,
            renewed: self.renewed,
            root_ca: self.root_ca,
        }
    }

    fn revision(&mut self, key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        let Some(main) = key.first_chunk::<8>().filter(|_| key.len() >= 17 && key.get(8) == Some(&b'_'))
        else {
            return wrong("a key in the key bucket that is no revision");
        };
        self.newest = self.newest.max(u64::from_be_bytes(*main));
        let Some(name) = proto::bytes(value, 1) else { return wrong("a revision without a key") };
        if key.get(17) == Some(&b't') {
            self.removed(name)
        } else {
            self.put(name, value)
        }
        Ok(())
    }

    fn put(&mut self, name: &[u8], record: &[u8]) {
        let value = proto::bytes(record, 5).unwrap_or_default();
        self.look_into(name, value);
        let modified = proto::number(record, 3);
        let fingerprint = fingerprint(name, proto::number(record, 2), modified, proto::number(record, 4));
        let provider = self.provider(value);
        let Some(known) = &mut self.known else { return };
        match known.insert(name_hash(0, name), Known { fingerprint, modified, provider }) {
            Some(before) => {
                self.live.digest = self.live.digest.wrapping_sub(before.fingerprint);
                self.count_encrypted(before.provider, false);
            }
            None => {
                self.live.count += 1;
                self.count_prefix(name, true);
            }
        }
        self.live.digest = self.live.digest.wrapping_add(fingerprint);
        self.count_encrypted(provider, true);
        self.sample(name, value);
        if self.known.as_ref().is_some_and(|known| known.len() > KEYS_MAX) {
            self.known = None;
        }
    }

    fn removed(&mut self, name: &[u8]) {
        self.sample.remove(&name_hash(self.seed, name));
        if let Some(bootstrap) = bootstrap_name(name) {
            self.bootstrap.remove(&bootstrap);
        }
        let Some(before) = self.known.as_mut().and_then(|known| known.remove(&name_hash(0, name))) else {
            return;
        };
        self.live.count = self.live.count.saturating_sub(1);
        self.live.digest = self.live.digest.wrapping_sub(before.fingerprint);
        self.count_prefix(name, false);
        self.count_encrypted(before.provider, false);
    }

    fn look_into(&mut self, name: &[u8], value: &[u8]) {
        self.kubernetes |= name.starts_with(b"/registry/");
        if value.len() > VALUE_MAX {
            return;
        }
        if kube::is_node_lease(name) {
            self.renewed = self.renewed.max(kube::renewed(value));
        } else if kube::is_root_ca(name) {
            self.root_ca = kube::certificates(value).or(self.root_ca.take());
        } else if let Some(bootstrap) = bootstrap_name(name)
            && (self.bootstrap.len() < BOOTSTRAP_MAX || self.bootstrap.contains_key(&bootstrap))
        {
            self.bootstrap.insert(bootstrap, value.to_vec());
        }
    }

    /// Keeps the keys with the lowest hashes: another choice for each seed, and the same one for the same.
    fn sample(&mut self, name: &[u8], value: &[u8]) {
        let hash = name_hash(self.seed, name);
        if value.len() > VALUE_MAX {
            self.sample.remove(&hash);
            return;
        }
        let full = self.sample.len() >= SAMPLE;
        if full && self.sample.last_key_value().is_some_and(|(last, _)| *last < hash) {
            return;
        }
        let digest = Sha256::digest(value).into();
        self.sample.insert(hash, Sampled { key: name.to_vec(), length: value.len(), digest });
        if self.sample.len() > SAMPLE {
            self.sample.pop_last();
        }
    }

    fn provider(&mut self, value: &[u8]) -> u8 {
        let Some(provider) = kube::encrypted(value) else { return 0 };
        let at = self.providers.iter().position(|(known, _)| *known == provider);
        let at = at.or_else(|| {
            (self.providers.len() < PROVIDERS_MAX).then(|| {
                self.providers.push((provider, 0));
                self.providers.len() - 1
            })
        });
        at.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(0)
    }

    fn count_encrypted(&mut self, provider: u8, more: bool) {
        let at = usize::from(provider).checked_sub(1);
        if let Some((_, count)) = at.and_then(|at| self.providers.get_mut(at)) {
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    fn count_prefix(&mut self, name: &[u8], more: bool) {
        for (prefix, count) in &mut self.live.wanted {
            if name.starts_with(prefix.as_bytes()) {
                *count = if more { *count + 1 } else { count.saturating_sub(1) };
            }
        }
        let prefix = kube::prefix(name);
        let full = self.live.prefixes.len() >= PREFIXES_MAX;
        if full && !self.live.prefixes.contains_key(&prefix) {
            self.live.prefixes_complete = false;
            return;
        }
        let count = self.live.prefixes.entry(prefix).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
    }
}

impl Visit for Reading {
    fn bucket(&mut self, name: &[u8]) {
        self.keys_seen |= name == b"key";
    }

    fn entry(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        let version = || std::str::from_utf8(value).ok()?.parse().ok();
        match (bucket, key) {
            (b"key", _) => return self.revision(key, value),
            (b"cluster", b"clusterVersion") => self.versions[0] = version(),
            (b"meta", b"storageVersion") => self.versions[1] = version(),
            (b"meta", b"finishedCompactRev" | b"scheduledCompactRev") => {
                let main = value.first_chunk::<8>().map_or(0, |main| u64::from_be_bytes(*main));
                self.compacted = self.compacted.max(main);
            }
            (b"auth", b"authEnabled") => self.auth = value == [1],
            (b"alarm", _) if self.alarms.len() < 100 => self.alarms.push(proto::number(key, 2)),
            _ => {}
        }
        Ok(())
    }
}

/// The second reading, for the sum.
struct Summing<'r> {
    known: &'r HashMap<u64, Known>,
    compacted: u64,
    sum: crc32c::Sum,
}

impl Visit for Summing<'_> {
    fn entry(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        let (b"key", Some(main)) = (bucket, key.first_chunk::<8>()) else { return Ok(()) };
        let main = u64::from_be_bytes(*main);
        let known = || self.known.get(&name_hash(0, proto::bytes(value, 1)?));
        if main > self.compacted || known().is_some_and(|known| known.modified == main) {
            self.sum.add(key);
            self.sum.add(value);
        }
        Ok(())
    }
}

/// `/bootstrap/` and 12 hexadecimal digits is where k3s keeps what a new server needs.
fn bootstrap_name(key: &[u8]) -> Option<String> {
    let name = key.strip_prefix(b"/bootstrap/")?;
    let fits = name.len() == 12 && name.iter().all(u8::is_ascii_hexdigit);
    fits.then(|| String::from_utf8_lossy(name).into_owned())
}
