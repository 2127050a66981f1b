//! Counts what is in a snapshot of etcd.

use std::collections::HashSet;

use super::bolt::{Flaw, Visit, wrong};

/// Keys whose existence is followed; 8 bytes each.
const KEYS_MAX: usize = 4_000_000;

/// What a walk has found.
pub(super) struct Found {
    pub(super) has_key_bucket: bool,
    /// Entries of the key bucket: every kept revision of every key.
    pub(super) revisions: u64,
    /// The highest main revision.
    pub(super) newest: u64,
    /// Keys that exist, unless there are too many to follow.
    pub(super) keys: Option<u64>,
    pub(super) alarms: u64,
    live: Option<HashSet<u64>>,
}

impl Found {
    pub(super) fn new() -> Self {
        Self {
            has_key_bucket: false,
            revisions: 0,
            newest: 0,
            keys: None,
            alarms: 0,
            live: Some(HashSet::new()),
        }
    }

    /// At the end of the walk.
    pub(super) fn finish(mut self) -> Self {
        self.keys = self.live.take().map(|live| live.len() as u64);
        self
    }

    fn revision(&mut self, key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        let Some(main) = key.first_chunk::<8>().filter(|_| key.len() >= 17 && key.get(8) == Some(&b'_'))
        else {
            return wrong("a key in the key bucket that is no revision");
        };
        self.revisions += 1;
        self.newest = self.newest.max(u64::from_be_bytes(*main));
        let Some(live) = &mut self.live else { return Ok(()) };
        let Some(name) = first_field(value) else { return wrong("a revision without a key") };
        let name = fingerprint(name);
        if key.get(17) == Some(&b't') {
            live.remove(&name);
        } else {
            live.insert(name);
        }
        if live.len() > KEYS_MAX {
            self.live = None;
        }
        Ok(())
    }
}

impl Visit for Found {
    fn bucket(&mut self, name: &[u8]) {
        self.has_key_bucket |= name == b"key";
    }

    fn entry(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        match bucket {
            b"key" => self.revision(key, value),
            b"alarm" => {
                self.alarms += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Field 1 of a protobuf message, which etcd writes first.
fn first_field(message: &[u8]) -> Option<&[u8]> {
    let (&tag, mut rest) = message.split_first()?;
    if tag != 0x0a {
        return None;
    }
    let mut length = 0_usize;
    for shift in [0, 7, 14, 21] {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return rest.get(..length);
        }
    }
    None
}

fn fingerprint(name: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    // Longer keys do not occur in etcd; a hostile one must not make us hash the same megabytes again
    // and again.
    hasher.write(name.get(..4096).unwrap_or(name));
    hasher.write_usize(name.len());
    hasher.finish()
}
