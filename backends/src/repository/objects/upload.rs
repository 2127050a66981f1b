//! Stores dumps as plain objects: whole, proven, or not at all.
//!
//! *Verified*: what is stored has the length and the hash of what was given. A server gets a hash with each request
//! and refuses what does not fit; afterwards it is asked for length and ETag, and where these prove nothing, the
//! object is read again. In a folder, the file is synced before it gets its name. An object is never written over.
//!
//! The SHA-256 is kept for readers: as metadata in a bucket, in a file `NAME.sha256` in a folder.
//!
//! *Not verified*: what is in the dump. That is what restore tests are for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use firedrill_core::config::objects::plain_components;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::sending::{Send, Sending};
use super::shelf::Shelf;
use crate::repository::access::Access;
use crate::repository::error::Fault;
use crate::repository::location::Location;
use crate::repository::s3::objects::{self, Objects};

/// Parts of a large upload have this size, if that makes few enough of them.
const PART: u64 = 16 << 20;
/// No server takes more parts; some room is left.
const PARTS_MAX: u64 = 9_000;
/// Larger parts would not fit into memory.
const PART_MAX: u64 = 512 << 20;
/// How much is read and hashed at a time.
const PIECE: usize = 1 << 20;
/// So many bytes tell what is compressed already.
const HEAD: u64 = 4;

/// A folder or a prefix of a bucket that dumps are stored in.
pub struct Uploads {
    location: Location,
    place: Place,
    part: u64,
}

enum Place {
    Folder(Shelf),
    Bucket(Objects),
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub key: String,
    /// Its length, compressed.
    pub bytes: u64,
    /// The SHA-256 of it, in hexadecimal digits.
    pub sha256: String,
}

impl Uploads {
    /// Opens the place. A folder is made when it is not there.
    pub fn open(location: &Location, access: &Access) -> Result<Self> {
        let place = match location {
            Location::Local(root) => Place::Folder(Shelf::open(root)?),
            Location::S3(place) => Place::Bucket(objects::open(place, access)?),
            Location::Rest(_) => {
                return Err(Error::new(ErrorKind::Usage, format!("store objects in {location}"))
                    .because("a rest-server holds restic repositories, not plain objects")
                    .advise("give a folder or s3:URL/BUCKET/PREFIX"));
            }
        };
        Ok(Self { location: location.clone(), place, part: PART })
    }

    /// With parts of another size, at least 5 MiB.
    #[must_use]
    pub fn with_part_size(mut self, bytes: u64) -> Self {
        self.part = bytes.clamp(5 << 20, PART_MAX);
        self
    }

    /// Stores what `stream` gives under the name `key`, compressed as its ending says (`.gz`, `.zst`) unless it
    /// is already. A stream that ends with an error stores nothing: a reader that knows that its program failed
    /// says so at the end. For a bucket, everything is first written to a file in `work`.
    pub fn store(&self, key: &str, stream: &mut dyn Read, work: &Path, watch: &Watch) -> Result<Stored> {
        let mut head = Vec::new();
        let read = Read::take(&mut *stream, HEAD).read_to_end(&mut head);
        read.map_err(|error| self.failed(key).from_source(&error))?;
        let packing = Packing::of(key).of_what_begins(&head);
        let stream = &mut head.as_slice().chain(stream);
        match &self.place {
            Place::Folder(shelf) => {
                let mut temporary = shelf.begin(&self.plain(key)?, false)?;
                let (bytes, sha256) = self.spool(key, stream, packing, temporary.file(), watch)?;
                temporary.finish(&sha256)?;
                Ok(Stored { key: key.to_owned(), bytes, sha256 })
            }
            Place::Bucket(_) => {
                let mut spooled = Spooled::new(work).map_err(|error| self.failed(key).from_source(&error))?;
                self.spool(key, stream, packing, &mut spooled.file, watch)?;
                self.store_file(key, &spooled.path, watch)
            }
        }
    }

    /// Stores a file as it is.
    pub fn store_file(&self, key: &str, file: &Path, watch: &Watch) -> Result<Stored> {
        self.put_file(key, file, false, watch)
    }

    /// The same; with `replace`, an object of this name is written over, as a whole.
    pub(super) fn put_file(&self, key: &str, file: &Path, replace: bool, watch: &Watch) -> Result<Stored> {
        let failed = |error: &io::Error| self.failed(key).from_source(error);
        let open = || File::open(file).map_err(|error| failed(&error));
        match &self.place {
            Place::Folder(shelf) => {
                let mut temporary = shelf.begin(&self.plain(key)?, replace)?;
                let (bytes, sha256) =
                    self.spool(key, &mut open()?, Packing::None, temporary.file(), watch)?;
                temporary.finish(&sha256)?;
                Ok(Stored { key: key.to_owned(), bytes, sha256 })
            }
            Place::Bucket(bucket) => {
                self.plain(key)?;
                let (bytes, sha256) = self.spool(key, &mut open()?, Packing::None, &mut io::sink(), watch)?;
                let stored = Stored { key: key.to_owned(), bytes, sha256 };
                let send = Send {
                    bucket,
                    stored: &stored,
                    file: open()?,
                    part: self.part_size(bytes)?,
                    replace,
                    watch,
                };
                send.all().map_err(|error| match error {
                    Sending::Fault(fault) => fault.into_error(self.attempted(key)),
                    Sending::Error(error) => error,
                })?;
                Ok(stored)
            }
        }
    }

    /// Removes an object and what is kept beside it; that it is gone already is fine.
    pub fn remove(&self, key: &str) -> Result<()> {
        match &self.place {
            Place::Folder(shelf) => shelf.remove(&self.plain(key)?),
            Place::Bucket(bucket) => bucket
                .delete(key)
                .map_err(|fault| fault.into_error(format!("remove {key} from {}", self.location))),
        }
    }

    /// Gives up what was begun before that moment and never completed, of objects that are `ours`: uploads in parts
    /// in a bucket, and files without their name in a folder. The names of these objects.
    ///
    /// Whoever asks knows that nobody writes these objects at the moment: their writers are dead.
    pub fn sweep(
        &self,
        ours: &dyn Fn(&str) -> bool,
        before: Timestamp,
        watch: &Watch,
    ) -> Result<Vec<String>> {
        let told =
            |fault: Fault| fault.into_error(format!("give up unfinished uploads in {}", self.location));
        let bucket = match &self.place {
            Place::Folder(shelf) => return shelf.sweep(ours, before, watch),
            Place::Bucket(bucket) => bucket,
        };
        let mut swept = Vec::new();
        for begun in bucket.begun("").map_err(told)? {
            watch.check()?;
            if ours(&begun.key) && begun.since.is_some_and(|since| since < before) {
                bucket.abort(&begun.key, &begun.upload).map_err(told)?;
                swept.push(begun.key);
            }
        }
        Ok(swept)
    }

    fn attempted(&self, key: &str) -> String {
        format!("store {key} in {}", self.location)
    }

    fn failed(&self, key: &str) -> Error {
        Error::new(ErrorKind::Unavailable, self.attempted(key))
    }

    fn plain(&self, key: &str) -> Result<PathBuf> {
        let parts = plain_components(key).filter(|parts| parts.join("/") == key);
        parts.map(|parts| parts.iter().collect()).ok_or_else(|| {
            Error::new(ErrorKind::Usage, self.attempted(key)).because("the name cannot be that of a file")
        })
    }

    fn part_size(&self, bytes: u64) -> Result<u64> {
        let part = self.part.max(bytes.div_ceil(PARTS_MAX));
        if part > PART_MAX {
            return Err(Error::new(ErrorKind::Usage, format!("store {bytes} bytes in {}", self.location))
                .because("that is more than a server takes as one object"));
        }
        Ok(part)
    }

    /// Writes what `stream` gives to `file`, packed; length and hash of what was written.
    fn spool(
        &self,
        key: &str,
        stream: &mut dyn Read,
        packing: Packing,
        file: &mut dyn Write,
        watch: &Watch,
    ) -> Result<(u64, String)> {
        let told = |error: io::Error| self.failed(key).from_source(&error);
        let mut packer = packing.begin(Hashing { file, hash: Sha256::new(), bytes: 0 }).map_err(told)?;
        let mut piece = vec![0; PIECE];
        let mut empty = true;
        loop {
            watch.check()?;
            let read = match stream.read(&mut piece) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(told(error)),
            };
            if read == 0 {
                break;
            }
            empty = false;
            packer.write_all(piece.get(..read).unwrap_or_default()).map_err(told)?;
        }
        if empty {
            return Err(self.failed(key).because("there is nothing to store: it is empty"));
        }
        let hashing = packer.finish().map_err(told)?;
        Ok((hashing.bytes, hex::encode(hashing.hash.finalize())))
    }
}

/// What to tell about what was swept, if anything.
pub(crate) fn gave_up(swept: &[String]) -> Option<String> {
    let first = swept.first()?;
    Some(match swept.len() {
        1 => format!("gave up what an earlier run left unfinished: {first}"),
        n => format!("gave up what earlier runs left unfinished: {first} and {} more", n - 1),
    })
}

/// How a name says that its content is packed.
#[derive(Clone, Copy)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(key: &str) -> Self {
        let ends = |ending: &[&str]| ending.iter().any(|end| key.to_ascii_lowercase().ends_with(end));
        if ends(&[".gz", ".gzip", ".tgz"]) {
            Self::Gzip
        } else if ends(&[".zst", ".zstd", ".tzst"]) {
            Self::Zstd
        } else {
            Self::None
        }
    }

    /// What is left to do with content that begins like this: many a command compresses its output itself.
    fn of_what_begins(self, head: &[u8]) -> Self {
        match self {
            Self::Gzip if head.starts_with(&[0x1f, 0x8b, 0x08]) => Self::None,
            Self::Zstd if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => Self::None,
            other => other,
        }
    }

    fn begin<W: Write>(self, to: W) -> io::Result<Packer<W>> {
        Ok(match self {
            Self::None => Packer::None(to),
            Self::Gzip => Packer::Gzip(flate2::write::GzEncoder::new(to, flate2::Compression::default())),
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(to, 3)?;
                encoder.include_checksum(true)?;
                Packer::Zstd(encoder)
            }
        })
    }
}

enum Packer<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Packer<W> {
    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::None(to) => to.write_all(piece),
            Self::Gzip(to) => to.write_all(piece),
            Self::Zstd(to) => to.write_all(piece),
        }
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::None(to) => Ok(to),
            Self::Gzip(to) => to.finish(),
            Self::Zstd(to) => to.finish(),
        }
    }
}

/// Hashes and counts what passes.
struct Hashing<'f> {
    file: &'f mut dyn Write,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let written = self.file.write(piece)?;
        self.hash.update(piece.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file in the folder of a run, removed in the end.
pub(super) struct Spooled {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Spooled {
    pub(super) fn new(work: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = work.join(super::shelf::unique("object"));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // The folder it lies in is removed as a whole later.
        let _ = std::fs::remove_file(&self.path);
    }
}
