//! Digests of the live keys in a snapshot of etcd, read from the file itself.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;

use firedrill_core::digests::{Etcd, Keys, Sum, path_text};
use sha2::{Digest as _, Sha256};

use crate::probe::engine::etcd::unpack::{Failure, Packed};
use crate::probe::structure::etcd::bolt::{Bolt, Flaw, Visit, walk, wrong};
use crate::probe::structure::etcd::{digest, trailer};

/// Live keys that are followed; some hundred bytes each.
const KEYS_MAX: usize = 2_000_000;
/// Prefixes that are told apart; keys beyond are counted together.
const PREFIXES_MAX: usize = 10_000;
/// What keys beyond [`PREFIXES_MAX`] are counted as.
const OTHER: &str = "*";

/// Live keys, added up by prefix.
#[derive(Default)]
struct Summary(BTreeMap<String, (Sum, u64)>);

impl Summary {
    fn add(&mut self, mut prefix: String, hash: [u8; 32], revision: u64) {
        if self.0.len() >= PREFIXES_MAX && !self.0.contains_key(&prefix) {
            OTHER.clone_into(&mut prefix);
        }
        let (sum, newest) = self.0.entry(prefix).or_default();
        sum.add_hash(hash);
        *newest = revision.max(*newest);
    }

    /// The digests of a store at this revision.
    fn finish(self, revision: u64) -> Etcd {
        let prefixes = self.0.into_iter().map(|(prefix, (sum, revision))| {
            (prefix, Keys { keys: sum.items(), digest: sum.digest(["key", "value"]), revision })
        });
        Etcd { revision, prefixes: prefixes.collect() }
    }
}

/// Why a snapshot has no digests.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It could not be read.
    Ours(io::Error),
    /// It is no whole snapshot.
    Broken(String),
}

impl From<Flaw> for Trouble {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Io(error) => Self::Ours(error),
            Flaw::Wrong(seen) => Self::Broken(seen),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Ours(error)
    }
}

/// Measures a snapshot that may be packed.
pub(crate) fn measure_packed(
    packed: &Packed<'_>,
    proceed: &dyn Fn() -> io::Result<()>,
) -> Result<Etcd, Trouble> {
    let unpacked = packed.unpack().map_err(|failure| match failure {
        Failure::Damaged(seen) => Trouble::Broken(format!("it cannot be unpacked: {seen}")),
        Failure::Trouble(why) => Trouble::Ours(io::Error::other(why)),
    })?;
    measure(&unpacked.file, proceed)
}

/// Measures the snapshot in `file`, whose hash has to fit where it has one. Asks `proceed` again and again.
pub(crate) fn measure(file: &File, proceed: &dyn Fn() -> io::Result<()>) -> Result<Etcd, Trouble> {
    let length = file.metadata()?.len();
    let hashed = length % 512 == 32;
    let content = if hashed { length - 32 } else { length };
    if hashed && trailer(file, content)? != digest(proceed, file, content)? {
        return Err(Trouble::Broken("its content does not fit the appended SHA-256".to_owned()));
    }
    let bolt = Bolt::open(file, content)?;
    if bolt.bytes() > content {
        return Err(Trouble::Broken(format!("{content} bytes, of {}", bolt.bytes())));
    }
    let mut live = Live::default();
    walk(&bolt, proceed, &mut live)?;
    if !live.has_keys {
        return Err(Trouble::Broken("it has no bucket called key".to_owned()));
    }
    let mut summary = Summary::default();
    // In a fixed order, so that beyond the limit the same prefixes are told apart.
    let mut keys: Vec<_> = live.keys.into_values().collect();
    keys.sort_unstable();
    for (prefix, hash, revision) in keys {
        summary.add(prefix, hash, revision);
    }
    Ok(summary.finish(live.newest))
}

/// The last state of every key. Revisions come in order.
#[derive(Default)]
struct Live {
    has_keys: bool,
    newest: u64,
    keys: HashMap<[u8; 16], (String, [u8; 32], u64)>,
}

impl Visit for Live {
    fn bucket(&mut self, name: &[u8]) {
        self.has_keys |= name == b"key";
    }

    fn entry(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        if bucket != b"key" {
            return Ok(());
        }
        let Some(main) = key.first_chunk::<8>() else {
            return wrong("a key in the key bucket that is no revision");
        };
        let revision = u64::from_be_bytes(*main);
        self.newest = self.newest.max(revision);
        let record = Record::of(value);
        let id: [u8; 32] = Sha256::digest(record.key).into();
        let id = *id.first_chunk::<16>().unwrap_or(&[0; 16]);
        if key.get(17) == Some(&b't') {
            self.keys.remove(&id);
            return Ok(());
        }
        let hash = hash(record.key, record.value, record.revision, record.version);
        self.keys.insert(id, (prefix(record.key), hash, record.revision));
        if self.keys.len() > KEYS_MAX {
            return Err(Flaw::Io(io::Error::other(format!("there are more than {KEYS_MAX} keys"))));
        }
        Ok(())
    }
}

/// The fields of a key-value pair that count.
#[derive(Default)]
struct Record<'m> {
    key: &'m [u8],
    value: &'m [u8],
    revision: u64,
    version: u64,
}

impl<'m> Record<'m> {
    fn of(mut message: &'m [u8]) -> Self {
        let mut record = Self::default();
        while let Some(tag) = varint(&mut message) {
            let wire = tag & 7;
            if wire == 2 {
                let length = varint(&mut message).and_then(|length| usize::try_from(length).ok());
                let Some((field, rest)) = length.and_then(|length| message.split_at_checked(length)) else {
                    break;
                };
                message = rest;
                match tag >> 3 {
                    1 => record.key = field,
                    5 => record.value = field,
                    _ => {}
                }
            } else if wire == 0 {
                let Some(number) = varint(&mut message) else { break };
                match tag >> 3 {
                    3 => record.revision = number,
                    4 => record.version = number,
                    _ => {}
                }
            } else {
                break;
            }
        }
        record
    }
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn hash(key: &[u8], value: &[u8], revision: u64, version: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [key, value] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(revision.to_be_bytes());
    hash.update(version.to_be_bytes());
    hash.finalize().into()
}

/// The first two parts of a name: `/registry/secrets` of `/registry/secrets/default/a`.
fn prefix(key: &[u8]) -> String {
    let from = usize::from(key.first() == Some(&b'/'));
    let mut slashes = key.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let end = slashes.nth(1).unwrap_or(key.len()).min(255);
    path_text(key.get(..end).unwrap_or(key))
}

#[cfg(test)]
mod tests {
    use super::{Record, prefix};

    #[test]
    fn keys_are_grouped_by_two_parts() {
        assert_eq!(prefix(b"/registry/secrets/default/a"), "/registry/secrets");
        assert_eq!(prefix(b"/registry/secrets"), "/registry/secrets");
        assert_eq!(prefix(b"a/b/c"), "a/b");
        assert_eq!(prefix(b"plain"), "plain");
    }

    #[test]
    fn records_are_read_and_hostile_ones_end() {
        let record = Record::of(b"\x0a\x01a\x10\x02\x18\x03\x20\x04\x2a\x02bc");
        assert_eq!(
            (record.key, record.value, record.revision, record.version),
            (&b"a"[..], &b"bc"[..], 3, 4)
        );
        for hostile in
            [&b"\x0a\xff\xff\xff\xff\x0f"[..], b"\x0a", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert_eq!(Record::of(hostile).key, b"");
        }
    }
}
