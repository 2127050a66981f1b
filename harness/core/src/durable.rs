//! Small files that survive a crash at any moment, and that tell when somebody changed them.
//!
//! A file has two lines: a header with the kind of content, its format version and the SHA-256 of the second line,
//! and the content as JSON. The hash is there because JSON with one wrong digit is still JSON.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a file holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// The word in the header.
    pub(crate) word: &'static str,
    /// What people call it.
    pub(crate) called: &'static str,
    /// The version of the format.
    pub(crate) version: u32,
    /// A larger file is not one of ours, and none is written.
    pub(crate) bytes_max: u64,
}

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The file system refused.
    Io(std::io::Error),
    /// The file is not sound.
    Damaged(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(flatten)]
    kind: BTreeMap<String, u32>,
    sha256: String,
}

/// The content of the file, if there is one.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, kind: Kind) -> Result<Option<T>, Trouble> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let mut bytes = Vec::new();
    file.take(kind.bytes_max + 1).read_to_end(&mut bytes)?;
    parse(&bytes, kind).map(Some).map_err(Trouble::Damaged)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], kind: Kind) -> Result<T, String> {
    if bytes.len() as u64 > kind.bytes_max {
        return Err(format!("it is larger than any {}", kind.called));
    }
    let mut lines = bytes.split(|b| *b == b'\n');
    let (Some(header), Some(body), Some([])) = (lines.next(), lines.next(), lines.next()) else {
        return Err("it is cut short".to_owned());
    };
    let header: Header = serde_json::from_slice(header).map_err(|e| format!("its header: {e}"))?;
    match header.kind.get(kind.word) {
        Some(version) if *version == kind.version => {}
        Some(other) => {
            return Err(format!("it has format version {other}, this firedrill reads {}", kind.version));
        }
        None => return Err(format!("its header does not say that it is a {}", kind.called)),
    }
    if header.sha256 != hex::encode(Sha256::digest(body)) {
        return Err("its content does not fit its hash".to_owned());
    }
    serde_json::from_slice(body).map_err(|e| e.to_string())
}

/// Writes beside the target, makes it durable, and renames: a reader sees the old or the new content. The caller
/// holds a lock, so that the name of the temporary file can be fixed and a crash leaves one at most.
pub(crate) fn write<T: Serialize>(path: &Path, kind: Kind, content: &T) -> std::io::Result<()> {
    let body = serde_json::to_vec(content)?;
    let header = Header {
        kind: BTreeMap::from([(kind.word.to_owned(), kind.version)]),
        sha256: hex::encode(Sha256::digest(&body)),
    };
    let mut text = serde_json::to_vec(&header)?;
    text.push(b'\n');
    text.extend(body);
    text.push(b'\n');
    if text.len() as u64 > kind.bytes_max {
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!(
                "it would have {} bytes, and no {} may have more than {}",
                text.len(),
                kind.called,
                kind.bytes_max
            ),
        ));
    }
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Opens a file to lock it, and makes it when it is not there.
pub(crate) fn lock_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}
