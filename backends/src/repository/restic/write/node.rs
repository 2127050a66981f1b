//! Entries of tree blobs, written as restic writes them, byte for byte wherever that is possible: an unchanged
//! folder then has the same tree whoever saves it.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firedrill_core::manifest::Digest;
use jiff::Timestamp;
use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::people::Accounts;

/// Go's bits for what a file is.
const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const FIFO: u32 = 1 << 25;
const CHARACTER: u32 = 1 << 21;
/// No attribute, and no list of their names, is larger on Linux.
const ATTRIBUTE_MAX: usize = 64 << 10;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) mode: u32,
    #[serde(default)]
    pub(super) mtime: Time,
    #[serde(default)]
    pub(super) atime: Time,
    #[serde(default)]
    pub(super) ctime: Time,
    #[serde(default)]
    pub(super) uid: u32,
    #[serde(default)]
    pub(super) gid: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) user: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) group: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) inode: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) device_id: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) links: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) linktarget: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) linktarget_raw: Option<String>,
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "null_as_default")]
    pub(super) extended_attributes: Vec<Attribute>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) device: u64,
    #[serde(default)]
    pub(super) content: Option<Vec<Hex>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) subtree: Option<Hex>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) error: String,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

/// An id in hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hex(pub(super) Digest);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let mut digest = [0; 32];
        hex::decode_to_slice(text.as_bytes(), &mut digest).map_err(serde::de::Error::custom)?;
        Ok(Self(digest))
    }
}

/// A time. One that cannot be read compares as the beginning of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Time(pub(super) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self(text.parse().unwrap_or(Timestamp::MIN)))
    }
}

impl Time {
    /// A time of a file; what no calendar of restic's knows becomes its first or last moment.
    fn of(seconds: i64, nanoseconds: i64) -> Self {
        /// 0000-01-01.
        const FIRST: i64 = -62_167_219_200;
        let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
        let limit = if seconds < FIRST { Timestamp::from_second(FIRST) } else { Ok(Timestamp::MAX) };
        let time = if seconds < FIRST { limit } else { Timestamp::new(seconds, nanoseconds).or(limit) };
        Self(time.unwrap_or(Timestamp::UNIX_EPOCH))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Node {
    /// An entry that is on no disk.
    pub(super) fn made(name: &[u8], folder: bool, time: Timestamp) -> Self {
        let (kind, mode) = if folder { ("dir", DIRECTORY | 0o755) } else { ("file", 0o644) };
        let time = Time(time);
        Self {
            name: quoted(name),
            kind: kind.to_owned(),
            mode,
            mtime: time,
            atime: time,
            ctime: time,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            user: String::new(),
            group: String::new(),
            inode: 0,
            device_id: 0,
            size: 0,
            links: 0,
            linktarget: String::new(),
            linktarget_raw: None,
            extended_attributes: Vec::new(),
            device: 0,
            content: None,
            subtree: None,
            error: String::new(),
        }
    }

    /// The entry `name` for what is at `path`, or why there can be none. Attributes that cannot be read are told
    /// in the second place.
    pub(super) fn of(
        name: &[u8],
        path: &Path,
        meta: &std::fs::Metadata,
        accounts: &Accounts,
    ) -> Result<(Self, Option<String>), String> {
        let mtime = Time::of(meta.mtime(), meta.mtime_nsec());
        let mut node = Self {
            mtime,
            // The time of the last access changes with every backup, and nobody needs it.
            atime: mtime,
            ctime: Time::of(meta.ctime(), meta.ctime_nsec()),
            uid: meta.uid(),
            gid: meta.gid(),
            user: accounts.user(meta.uid()),
            group: accounts.group(meta.gid()),
            inode: meta.ino(),
            device_id: meta.dev(),
            ..Self::made(name, false, mtime.0)
        };
        node.mode = permissions(meta.mode());
        node.set_kind(path, meta)?;
        let (attributes, unread) = match attributes(path) {
            Ok(attributes) => (attributes, None),
            Err(errno) => (Vec::new(), Some(format!("its extended attributes cannot be read: {errno}"))),
        };
        node.extended_attributes = attributes;
        Ok((node, unread))
    }

    fn set_kind(&mut self, path: &Path, meta: &std::fs::Metadata) -> Result<(), String> {
        use std::os::unix::fs::FileTypeExt as _;
        let kind = meta.file_type();
        let (name, bits) = if kind.is_file() {
            ("file", 0)
        } else if kind.is_dir() {
            ("dir", DIRECTORY)
        } else if kind.is_symlink() {
            ("symlink", SYMLINK)
        } else if kind.is_block_device() {
            ("dev", DEVICE)
        } else if kind.is_char_device() {
            ("chardev", DEVICE | CHARACTER)
        } else if kind.is_fifo() {
            ("fifo", FIFO)
        } else {
            return Err("it is of no kind that can be saved".to_owned());
        };
        self.kind = name.to_owned();
        self.mode |= bits;
        match name {
            "file" => self.size = meta.len(),
            "symlink" => {
                let target = std::fs::read_link(path).map_err(|error| error.to_string())?;
                for chunk in target.as_os_str().as_bytes().utf8_chunks() {
                    self.linktarget.push_str(chunk.valid());
                    // Go replaces byte by byte.
                    self.linktarget.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
                }
                if target.to_str().is_none() {
                    self.linktarget_raw = Some(STANDARD.encode(target.as_os_str().as_bytes()));
                }
            }
            "dev" | "chardev" => self.device = meta.rdev(),
            _ => {}
        }
        if !matches!(name, "dir" | "fifo") {
            self.links = meta.nlink();
        }
        Ok(())
    }

    /// Whether the content of a file that is `self` now may be taken over from `earlier`.
    pub(super) fn is_unchanged_since(&self, earlier: &Self, ignore_inode: bool, ignore_ctime: bool) -> bool {
        earlier.kind == "file"
            && self.kind == "file"
            && earlier.size == self.size
            && earlier.mtime == self.mtime
            && (ignore_ctime || earlier.ctime == self.ctime)
            && (ignore_inode || earlier.inode == self.inode)
            && earlier.error.is_empty()
    }

    /// The entry as it stands in a tree.
    pub(super) fn json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_string(self)?;
        if self.linktarget_raw.is_some() {
            json = json.replace(char::REPLACEMENT_CHARACTER, "\\ufffd");
        }
        Ok(escaped(json.into_bytes()))
    }
}

/// Go's encoder writes these signs as escapes, so that JSON can stand in a page of HTML.
fn escaped(json: Vec<u8>) -> Vec<u8> {
    if !json.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2)) {
        return json;
    }
    let mut out = Vec::with_capacity(json.len() + 16);
    let mut rest = json.as_slice();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'<' | b'>' | b'&', _) => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            (0xe2, [0x80, last @ (0xa8 | 0xa9), tail @ ..]) => {
                out.extend_from_slice(if *last == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                rest = tail;
            }
            _ => out.push(byte),
        }
    }
    out
}

fn permissions(mode: u32) -> u32 {
    let bit = |unix, go: u32| if mode & unix != 0 { go } else { 0 };
    (mode & 0o777) | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20)
}

fn attributes(path: &Path) -> Result<Vec<Attribute>, Errno> {
    let none = |errno| matches!(errno, Errno::OPNOTSUPP | Errno::NODATA | Errno::NOSYS);
    let mut list = vec![0_u8; ATTRIBUTE_MAX];
    let length = match llistxattr(path, &mut list) {
        Ok(length) => length,
        Err(errno) if none(errno) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let mut attributes = Vec::new();
    let mut value = Vec::new();
    for name in
        list.get(..length).unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty())
    {
        value.resize(ATTRIBUTE_MAX, 0);
        let length = match lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value) {
            Ok(length) => length,
            Err(errno) if none(errno) => continue,
            Err(errno) => return Err(errno),
        };
        let value = STANDARD.encode(value.get(..length).unwrap_or_default());
        attributes.push(Attribute { name: String::from_utf8_lossy(name).into_owned(), value: Some(value) });
    }
    Ok(attributes)
}

/// A name as Go's `strconv.Quote` writes it, without the quotes around it.
pub(super) fn quoted(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '"' => text.extend(['\\', c]),
                '\x07' => text.push_str("\\a"),
                '\x08' => text.push_str("\\b"),
                '\x0c' => text.push_str("\\f"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\x0b' => text.push_str("\\v"),
                c if c < ' ' || c == '\x7f' => text.push_str(&format!("\\x{:02x}", u32::from(c))),
                // Reading takes these either way; Go writes them so.
                '\u{80}'..='\u{9f}'
                | '\u{ad}'
                | '\u{a0}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202f}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Node, Time, escaped, quoted};
    use jiff::Timestamp;

    #[test]
    fn names_are_quoted_as_go_does() {
        assert_eq!(quoted(b"plain \xc3\xa4"), "plain ä");
        assert_eq!(quoted(b"a\"b\\c\n\x00\x7f\xff\xfe'"), r#"a\"b\\c\n\x00\x7f\xff\xfe'"#);
    }

    #[test]
    fn json_is_fit_for_html() {
        assert_eq!(
            escaped("a<b>&c\u{2028}é".as_bytes().to_vec()),
            b"a\\u003cb\\u003e\\u0026c\\u2028\xc3\xa9"
        );
    }

    #[test]
    fn an_entry_survives_the_way_out_and_back() {
        let mut node = Node::made(b"x<y", false, Timestamp::UNIX_EPOCH);
        node.size = 7;
        node.content = Some(Vec::new());
        let json = node.json().unwrap();
        assert_eq!(serde_json::from_slice::<Node>(&json).unwrap(), node);
        let text = String::from_utf8(json).unwrap();
        assert!(
            text.starts_with(r#"{"name":"x\u003cy","type":"file","mode":420,"mtime":"1970-01-01T00:00:00Z""#)
        );
    }

    #[test]
    fn broken_clocks_become_moments_that_can_be_written() {
        assert_eq!(Time::of(i64::MIN, 0).0.to_string(), "0000-01-01T00:00:00Z");
        assert_eq!(Time::of(i64::MAX, 0).0, Timestamp::MAX);
        assert_eq!(Time::of(1, 500_000_000).0.to_string(), "1970-01-01T00:00:01.5Z");
    }
}
