//! Entries of tree blobs. Our own types: a verifier needs the fields that a restore drops (`error`), has to
//! survive node types that it does not know, and must not believe any name.

use std::os::unix::ffi::OsStringExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firedrill_core::manifest::{Attribute, Digest, Kind};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};

/// No name is longer, however it is quoted.
const NAME_LENGTH_MAX: usize = 32 << 10;
/// Linux takes no longer target of a symbolic link.
const LINK_TARGET_MAX: usize = 4095;

/// One entry of a tree.
#[derive(Deserialize)]
pub(super) struct Node {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    pub(super) mode: Option<u32>,
    #[serde(default, deserialize_with = "time")]
    pub(super) mtime: Option<Timestamp>,
    #[serde(default)]
    pub(super) uid: Option<u32>,
    #[serde(default)]
    pub(super) gid: Option<u32>,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    links: u64,
    #[serde(default)]
    linktarget: Option<String>,
    #[serde(default)]
    linktarget_raw: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    extended_attributes: Vec<RawAttribute>,
    #[serde(default, deserialize_with = "null_as_default")]
    content: Vec<HexDigest>,
    #[serde(default)]
    subtree: Option<HexDigest>,
    #[serde(default)]
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
struct RawAttribute {
    name: String,
    #[serde(default)]
    value: Option<String>,
}

/// An id in hexadecimal digits.
struct HexDigest(Digest);

impl<'de> Deserialize<'de> for HexDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let mut digest = [0; 32];
        hex::decode_to_slice(text.as_bytes(), &mut digest)
            .map_err(|_| de::Error::custom("an id that is not 64 hexadecimal digits"))?;
        Ok(Self(digest))
    }
}

fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Go writes years that jiff does not know for broken clocks; an unreadable time is no time.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    Ok(text.and_then(|t| t.parse().ok()))
}

impl Node {
    /// The name, unquoted, if it can be the name of one directory entry.
    pub(super) fn file_name(&self) -> Result<Vec<u8>, String> {
        if self.name.len() > NAME_LENGTH_MAX {
            return Err(format!("a name of {} bytes", self.name.len()));
        }
        let name = unquote(&self.name)
            .ok_or_else(|| format!("the name {:?} is not quoted as restic does", self.name))?;
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return Err(format!("the name {:?} could leave its folder", self.name));
        }
        Ok(name)
    }

    /// What it is; an error for types that nobody restores.
    pub(super) fn kind(&self) -> Result<Kind, String> {
        Ok(match self.kind.as_str() {
            "file" => Kind::File,
            "dir" => Kind::Directory,
            "symlink" => Kind::Symlink(self.link_target()?),
            "fifo" => Kind::Fifo,
            "socket" => Kind::Socket,
            "dev" | "chardev" => Kind::Device,
            other => return Err(format!("the type {other:?} is not one of a file")),
        })
    }

    /// The name as it stands in the tree, for people: the start of it, if it is no real one.
    pub(super) fn written_name(&self) -> &str {
        self.name.get(..self.name.floor_char_boundary(NAME_LENGTH_MAX)).unwrap_or_default()
    }

    fn link_target(&self) -> Result<Vec<u8>, String> {
        let target = match (&self.linktarget_raw, &self.linktarget) {
            (Some(raw), _) => {
                STANDARD.decode(raw).map_err(|_| "a link target that is not base64".to_owned())?
            }
            (None, Some(text)) => std::ffi::OsString::from(text).into_vec(),
            (None, None) => Vec::new(),
        };
        if target.is_empty() || target.contains(&0) {
            return Err("a symbolic link without a usable target".to_owned());
        }
        if target.len() > LINK_TARGET_MAX {
            return Err(format!("a symbolic link whose target has {} bytes", target.len()));
        }
        Ok(target)
    }

    /// The permission bits `0o7777`: Go keeps setuid, setgid and sticky elsewhere.
    pub(super) fn permissions(&self) -> Option<u32> {
        const SETUID: u32 = 1 << 23;
        const SETGID: u32 = 1 << 22;
        const STICKY: u32 = 1 << 20;
        // restic leaves out a mode of zero. An entry without any metadata (a program's output that was
        // stored under a name) has no time either, and then no mode is known.
        let mode = self.mode.or_else(|| self.mtime.map(|_| 0));
        mode.map(|mode| {
            let bit = |go, unix| if mode & go != 0 { unix } else { 0 };
            (mode & 0o777) | bit(SETUID, 0o4000) | bit(SETGID, 0o2000) | bit(STICKY, 0o1000)
        })
    }

    /// The extended attributes, sorted by name.
    pub(super) fn attributes(&self) -> Result<Vec<Attribute>, String> {
        let mut attributes = Vec::with_capacity(self.extended_attributes.len());
        for raw in &self.extended_attributes {
            let value = STANDARD
                .decode(raw.value.as_deref().unwrap_or_default())
                .map_err(|_| format!("the attribute {:?} is not base64", raw.name))?;
            attributes.push(Attribute { name: raw.name.clone(), value });
        }
        attributes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(attributes)
    }

    /// What identifies the inode when the file has several names.
    pub(super) fn inode(&self) -> Option<(u64, u64)> {
        (self.kind == "file" && self.links > 1 && self.inode != 0).then_some((self.device_id, self.inode))
    }

    /// The ids of the content.
    pub(super) fn content(&self) -> impl Iterator<Item = Digest> {
        self.content.iter().map(|id| id.0)
    }

    /// The id of the tree below.
    pub(super) fn subtree(&self) -> Option<Digest> {
        self.subtree.as_ref().map(|id| id.0)
    }
}

/// Undoes Go's `strconv.Quote` (without the outer quotes).
pub(super) fn unquote(text: &str) -> Option<Vec<u8>> {
    if !text.contains('\\') {
        return Some(text.as_bytes().to_vec());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match rest.next()? {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            same @ ('\\' | '"' | '\'') => bytes.push(same as u8),
            'x' => bytes.push(u8::try_from(digits(&mut rest, 2, 16)?).ok()?),
            'u' => push_char(&mut bytes, digits(&mut rest, 4, 16)?)?,
            'U' => push_char(&mut bytes, digits(&mut rest, 8, 16)?)?,
            first @ '0'..='3' => {
                let low = digits(&mut rest, 2, 8)?;
                bytes.push(u8::try_from(first.to_digit(8)? * 64 + low).ok()?);
            }
            _ => return None,
        }
    }
    Some(bytes)
}

fn digits(rest: &mut std::str::Chars<'_>, count: usize, base: u32) -> Option<u32> {
    (0..count).try_fold(0_u32, |n, _| n.checked_mul(base)?.checked_add(rest.next()?.to_digit(base)?))
}

fn push_char(bytes: &mut Vec<u8>, code: u32) -> Option<()> {
    bytes.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{Node, unquote};

    #[test]
    fn go_quoting_is_undone() {
        assert_eq!(unquote(r"plain").unwrap(), b"plain");
        assert_eq!(
            unquote(r#"a\"b\\c\n\t\x00\xff\u00e4\U0001f600\101"#).unwrap(),
            b"a\"b\\c\n\t\0\xff\xc3\xa4\xf0\x9f\x98\x80A"
        );
        for broken in [r"\", r"\x1", r"\xzz", r"\ud800", r"\q", r"\9"] {
            assert_eq!(unquote(broken), None, "{broken}");
        }
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for name in ["", ".", "..", "a/b", "/etc", r"a\\x00b", r"..\\x2f", r"\\x2e\\x2e"] {
            let node: Node = serde_json::from_str(&format!(r#"{{"name":"{name}","type":"file"}}"#)).unwrap();
            assert!(node.file_name().is_err(), "{name}");
        }
        let node: Node = serde_json::from_str(r#"{"name":"...","type":"file"}"#).unwrap();
        assert_eq!(node.file_name().unwrap(), b"...");
    }

    #[test]
    fn go_mode_bits_become_unix_bits() {
        let node: Node = serde_json::from_str(&format!(
            r#"{{"name":"x","type":"file","mode":{}}}"#,
            (1 << 23) | (1 << 20) | 0o644
        ))
        .unwrap();
        assert_eq!(node.permissions(), Some(0o5644));
    }
}
