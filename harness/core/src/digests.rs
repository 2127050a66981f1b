//! Digests: what the pipeline knew of the data at the moment of the backup, so that a restore is compared with it
//! exactly, without any tolerance.
//!
//! The format and how to record it are in `harness/docs/digests.md`. A file of digests holds one JSON object:
//!
//! ```text
//! {"firedrill_digests":1,"signature":"<64 hex>","content":{"time":"..","postgres":{..},..}}
//! ```
//!
//! A digest stands for a set of items (the rows of a table, the keys below a prefix) and not for their order: the
//! hashes of the items are added up. Equal items count as often as they occur.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::secret::Secret;

/// The usual name of a file of digests.
pub const FILE: &str = ".firedrill-digests.json";
/// What any name of such a file ends with.
pub const SUFFIX: &str = ".firedrill-digests.json";
/// A longer file is not read.
pub const LENGTH_MAX: usize = 32 << 20;
/// More tables, folders and prefixes than this in one file are refused.
pub const ITEMS_MAX: usize = 200_000;
/// The version of the format.
const VERSION: u32 = 1;
/// What the signature covers starts with this, so that it can stand for nothing else.
const CONTEXT: &str = "firedrill digests 1\n";

/// Why some text is not a file of digests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// The digest of a set of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub [u8; 16]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let mut digest = [0; 16];
        hex::decode_to_slice(&text, &mut digest)
            .map_err(|_| D::Error::custom("a digest is not 32 hexadecimal digits"))?;
        Ok(Self(digest))
    }
}

/// Adds items up. The order in which they come does not matter; taking one out takes it out of the digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    items: u64,
    high: u64,
    low: u64,
}

impl Sum {
    /// A sum that a database has made: the number of rows, and the sums of the first and of the last eight bytes of
    /// their hashes as decimal numbers, signed or not.
    pub fn of_parts(items: u64, high: &str, low: &str) -> Option<Self> {
        // Sums of 2^64 rows fit.
        let part = |text: &str| text.parse::<i128>().ok().map(|sum| sum.rem_euclid(1 << 64));
        Some(Self { items, high: u64::try_from(part(high)?).ok()?, low: u64::try_from(part(low)?).ok()? })
    }

    /// Adds an item by its content.
    pub fn add(&mut self, item: &[u8]) {
        self.add_hash(Sha256::digest(item).into());
    }

    /// Adds an item by the SHA-256 of its content.
    pub fn add_hash(&mut self, hash: [u8; 32]) {
        let (high, low) = halves(hash);
        self.items = self.items.saturating_add(1);
        self.high = self.high.wrapping_add(high);
        self.low = self.low.wrapping_add(low);
    }

    /// How many items there are.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// The digest of the items, all of which have these columns.
    pub fn digest<'c>(&self, columns: impl IntoIterator<Item = &'c str>) -> Digest {
        let columns: Vec<&str> = columns.into_iter().collect();
        let mut hash = Sha256::new();
        hash.update(serde_json::to_string(&columns).unwrap_or_default());
        hash.update(format!("\n{:016x}{:016x}\n", self.high, self.low));
        let hash: [u8; 32] = hash.finalize().into();
        let mut digest = [0; 16];
        digest.copy_from_slice(hash.first_chunk::<16>().unwrap_or(&[0; 16]));
        Digest(digest)
    }

    /// Rows and digest of a table with these columns.
    pub fn table<'c>(&self, columns: impl IntoIterator<Item = &'c str>) -> Table {
        Table { rows: self.items, digest: self.digest(columns), exact: true }
    }
}

fn halves(hash: [u8; 32]) -> (u64, u64) {
    let half = |at: usize| {
        let bytes = hash.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_be_bytes(bytes.unwrap_or_default())
    };
    (half(0), half(8))
}

/// What is known of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its rows.
    pub rows: u64,
    /// The digest of its rows.
    pub digest: Digest,
    /// Whether it is of the same moment as the backup.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub exact: bool,
}

/// Where a sequence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// The last number that was given out, or the first one that will be.
    pub last: i64,
    /// Whether `last` was given out already.
    pub called: bool,
    /// By how much it moves on.
    pub increment: i64,
}

impl Sequence {
    /// Whether `other` would give out numbers again that this one has given out.
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        let place =
            |of: &Self| (if self.increment < 0 { -i128::from(of.last) } else { of.last.into() }, of.called);
        place(self) > place(other)
    }
}

/// What is known of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The version of the server.
    pub server: String,
    /// Whether these digests are of the same moment as the backup. Otherwise only the names of tables count.
    pub exact: bool,
    /// Patterns of tables that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<String>,
    /// The tables, by name (in PostgreSQL with their schema).
    #[serde(default)]
    pub tables: BTreeMap<String, Table>,
    /// Materialized views, which a restore makes anew.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub materialized_views: BTreeMap<String, Table>,
    /// Sequences.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sequences: BTreeMap<String, Sequence>,
    /// All large objects together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large_objects: Option<Table>,
}

impl Database {
    /// Whether a table was left out on purpose.
    pub fn leaves_out(&self, table: &str) -> bool {
        self.excluded.iter().any(|pattern| matches(pattern, table))
    }
}

/// What is known of one folder, without the folders in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Regular files and symbolic links.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The digest of their names and content.
    pub digest: Digest,
}

/// What is known of one tree of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// The top: relative to the folder of the file of digests, or absolute.
    pub path: String,
    /// Patterns of names and of paths below the top that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<String>,
    /// The folders, by their path below the top; the top itself is `.`. A byte that is not UTF-8, and `%`, is
    /// written `%` and two hexadecimal digits.
    pub folders: BTreeMap<String, Folder>,
}

/// What is known of one SQLite file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// Its tables.
    pub tables: BTreeMap<String, Table>,
}

/// What is known of the keys below one prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// How many there are.
    pub keys: u64,
    /// The digest of names, values and versions.
    pub digest: Digest,
    /// The newest revision among them.
    pub revision: u64,
}

/// What is known of one snapshot of etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// The newest revision.
    pub revision: u64,
    /// Live keys by the first two parts of their names.
    pub prefixes: BTreeMap<String, Keys>,
}

/// What a file of digests says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// When they were recorded.
    pub time: Timestamp,
    /// Trees of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Tree>,
    /// SQLite files, by their path as in [`Tree::path`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sqlite: BTreeMap<String, Sqlite>,
    /// Databases of PostgreSQL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub postgres: BTreeMap<String, Database>,
    /// Databases of MariaDB.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mariadb: BTreeMap<String, Database>,
    /// Snapshots of etcd, by their path as in [`Tree::path`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub etcd: BTreeMap<String, Etcd>,
}

/// A file of digests. Whether it is authentic, only [`Sealed::verify`] tells.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// What it says.
    pub digests: Digests,
    /// What the signature covers.
    written: String,
    signature: Option<[u8; 32]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    firedrill_digests: u32,
    #[serde(default)]
    signature: Option<String>,
    #[serde(borrow)]
    content: &'a RawValue,
}

impl Digests {
    /// Nothing, recorded at `time`.
    pub fn new(time: Timestamp) -> Self {
        Self {
            time,
            files: Vec::new(),
            sqlite: BTreeMap::new(),
            postgres: BTreeMap::new(),
            mariadb: BTreeMap::new(),
            etcd: BTreeMap::new(),
        }
    }

    /// The content of the file, signed when there is a key. Fails where it would be longer than what is read.
    pub fn to_file(&self, key: Option<&Secret>) -> Result<String, Malformed> {
        if self.items() > ITEMS_MAX {
            return Err(Malformed(format!(
                "it has {} tables, folders and prefixes, more than {ITEMS_MAX}",
                self.items()
            )));
        }
        let content = serde_json::to_string_pretty(self).map_err(|e| Malformed(e.to_string()))?;
        let signature = match key {
            Some(key) => {
                format!("\"signature\":\"{}\",\n", hex::encode(mac(key, &content).finalize().into_bytes()))
            }
            None => String::new(),
        };
        let text = format!("{{\"firedrill_digests\":{VERSION},\n{signature}\"content\":{content}}}\n");
        if text.len() > LENGTH_MAX {
            return Err(Malformed(format!("it has {} bytes, more than {LENGTH_MAX}", text.len())));
        }
        Ok(text)
    }

    /// Tables, folders and prefixes.
    fn items(&self) -> usize {
        let database = |d: &Database| d.tables.len() + d.materialized_views.len() + d.sequences.len();
        self.files.iter().map(|tree| tree.folders.len() + 1).sum::<usize>()
            + self.sqlite.values().map(|file| file.tables.len() + 1).sum::<usize>()
            + self.postgres.values().chain(self.mariadb.values()).map(|d| database(d) + 1).sum::<usize>()
            + self.etcd.values().map(|etcd| etcd.prefixes.len() + 1).sum::<usize>()
    }
}

impl Sealed {
    /// Reads the content of a file of digests. Bounded, and strict: it is written by a program.
    pub fn parse(content: &[u8]) -> Result<Self, Malformed> {
        let malformed = |why: &str| Malformed(why.to_owned());
        if content.len() > LENGTH_MAX {
            return Err(malformed("it is longer than any file of digests"));
        }
        if content.trim_ascii().is_empty() {
            return Err(malformed("it is empty"));
        }
        let text = std::str::from_utf8(content).map_err(|_| malformed("it is not text"))?;
        let document: Document<'_> = serde_json::from_str(text).map_err(|e| Malformed(e.to_string()))?;
        if document.firedrill_digests != VERSION {
            let version = document.firedrill_digests;
            return Err(Malformed(format!(
                "it has format version {version}, this firedrill reads {VERSION}"
            )));
        }
        let signature = match document.signature {
            None => None,
            Some(text) => {
                let mut signature = [0; 32];
                hex::decode_to_slice(&text, &mut signature)
                    .map_err(|_| malformed("its signature is not 64 hexadecimal digits"))?;
                Some(signature)
            }
        };
        let written = document.content.get();
        let digests: Digests = serde_json::from_str(written).map_err(|e| Malformed(e.to_string()))?;
        if digests.items() > ITEMS_MAX {
            return Err(malformed("it lists more than any file of digests"));
        }
        Ok(Self { digests, written: written.to_owned(), signature })
    }

    /// Whether it carries a signature at all.
    pub fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// Whether `key` signed it. Takes the same time for every wrong signature.
    pub fn verify(&self, key: &Secret) -> bool {
        self.signature.is_some_and(|signature| mac(key, &self.written).verify_slice(&signature).is_ok())
    }
}

/// Whether a name is that of a file of digests.
pub fn is_name(name: &[u8]) -> bool {
    name.ends_with(SUFFIX.as_bytes())
}

/// Whether `name` fits `pattern`, in which `*` stands for any text.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = left.get(at + part.len()..).unwrap_or_default();
    }
    left.ends_with(last)
}

/// A path as files of digests write it: what is not UTF-8, and `%`, as `%` and two hexadecimal digits.
pub fn path_text(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' { text.push_str("%25") } else { text.push(c) }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02x}"));
        }
    }
    text
}

/// The path that [`path_text`] wrote.
pub fn path_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.first_chunk::<2>().filter(|_| byte == b'%');
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

fn mac(key: &Secret, written: &str) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(CONTEXT.as_bytes());
    mac.update(written.as_bytes());
    mac
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_true(flag: &bool) -> bool {
    *flag
}

#[cfg(test)]
mod tests;
