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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use firedrill_core::config::ObjectPattern;
use firedrill_core::config::objects::plain_components;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use jiff::{SignedDuration, Timestamp};
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::shelf::Shelf;
use crate::repository::access::Access;
use crate::repository::error::{Fault, Trouble};
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
/// An upload that was begun so long ago belongs to nobody any more.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);

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

/// An upload in parts that may be resumed: what the server said of each part.
#[derive(Serialize, Deserialize)]
struct Note {
    key: String,
    sha256: String,
    part: u64,
    upload: String,
    etags: Vec<String>,
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
                self.store_file(key, &spooled.path, None, watch)
            }
        }
    }

    /// Stores a file as it is. With `notes`, a folder that outlives the run, an upload in parts that was cut short
    /// goes on where it was.
    pub fn store_file(&self, key: &str, file: &Path, notes: Option<&Path>, watch: &Watch) -> Result<Stored> {
        self.put_file(key, file, notes, false, watch)
    }

    /// The same; with `replace`, an object of this name is written over, as a whole.
    pub(super) fn put_file(
        &self,
        key: &str,
        file: &Path,
        notes: Option<&Path>,
        replace: bool,
        watch: &Watch,
    ) -> Result<Stored> {
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
                let notes = notes.map(|folder| note_path(folder, &stored.sha256, key));
                send.all(notes.as_deref()).map_err(|error| match error {
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

    /// Gives up uploads that nobody completed in a day, of objects that one of `patterns` speaks of; without any, of
    /// all below the prefix, which then must not be empty. In a folder, removes files of ours that never got their
    /// name. Their names.
    pub fn sweep(&self, patterns: &[ObjectPattern], now: Timestamp, watch: &Watch) -> Result<Vec<String>> {
        let told =
            |fault: Fault| fault.into_error(format!("give up unfinished uploads in {}", self.location));
        let (bucket, place) = match (&self.place, &self.location) {
            (Place::Bucket(bucket), Location::S3(place)) => (bucket, place),
            (Place::Folder(shelf), _) => return shelf.sweep(now, FORGOTTEN, watch),
            _ => return Ok(Vec::new()),
        };
        let ours = |key: &str| match patterns {
            [] => !place.prefix.is_empty(),
            patterns => plain_components(key)
                .is_some_and(|parts| patterns.iter().any(|p| !p.leaves_out() && p.read(&parts).is_some())),
        };
        let mut swept = Vec::new();
        for begun in bucket.begun().map_err(told)? {
            watch.check()?;
            let old = begun.since.is_some_and(|since| now.duration_since(since) > FORGOTTEN);
            if old && ours(&begun.key) {
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

/// The file with what is known of an upload in parts.
fn note_path(folder: &Path, sha256: &str, key: &str) -> PathBuf {
    let name = hex::encode(Sha256::digest(format!("{key}\0{sha256}")));
    folder.join(format!("{}.upload", name.get(..32).unwrap_or_default()))
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

/// Why sending failed.
enum Sending {
    Fault(Fault),
    Error(Error),
}

impl From<Fault> for Sending {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Sending {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Sending {
    fn from(error: io::Error) -> Self {
        Self::Fault(Fault::new(Trouble::Other, error.to_string()))
    }
}

/// One file on its way into a bucket.
struct Send<'a> {
    bucket: &'a Objects,
    stored: &'a Stored,
    file: File,
    part: u64,
    replace: bool,
    watch: &'a Watch,
}

impl Send<'_> {
    fn all(&self, notes: Option<&Path>) -> Result<(), Sending> {
        let Stored { key, bytes, sha256 } = self.stored;
        match self.bucket.head(key) {
            // An earlier attempt may have arrived although its answer did not.
            Ok(head) if head.size == *bytes && head.sha256 == base64_of(sha256) => return Ok(()),
            Ok(_) if self.replace => {}
            Ok(_) => {
                let text = "there is an object of this name already";
                return Err(Fault::new(Trouble::Changed, text).into());
            }
            Err(fault) if fault.trouble == Trouble::Missing => {}
            Err(fault) => return Err(fault.into()),
        }
        let etag = if *bytes <= self.part {
            let body = self.piece(0, *bytes)?;
            let md5 = hex::encode(Md5::digest(&body));
            self.bucket.put(key, body, sha256)?;
            md5
        } else {
            match self.in_parts(notes) {
                // The upload that was to go on may be long gone. Its note is, too, so the second attempt begins anew.
                Err(Sending::Fault(fault)) if notes.is_some() && !passes(fault.trouble) => {
                    tracing::debug!(key, "an upload could not go on: {}", fault.text);
                    self.in_parts(notes)?
                }
                sent => sent?,
            }
        };
        self.prove(&etag).inspect_err(|_| {
            // A half or wrong object under this name would pass for a backup.
            if let Err(fault) = self.bucket.delete(key) {
                tracing::warn!(key, "a wrong object could not be removed: {}", fault.text);
            }
        })
    }

    fn piece(&self, offset: u64, length: u64) -> Result<Bytes, Sending> {
        use std::os::unix::fs::FileExt as _;
        let mut piece = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut piece, offset)?;
        Ok(piece.into())
    }

    /// Uploads in parts; the ETag that the object should have.
    fn in_parts(&self, notes: Option<&Path>) -> Result<String, Sending> {
        let Stored { key, bytes, sha256 } = self.stored;
        let noted = notes
            .and_then(read_note)
            .filter(|note| note.key == *key && note.sha256 == *sha256 && note.part == self.part);
        let mut note = match noted {
            Some(note) => note,
            None => Note {
                key: key.clone(),
                sha256: sha256.clone(),
                part: self.part,
                upload: self.bucket.begin(key, sha256)?,
                etags: Vec::new(),
            },
        };
        let sent = self.parts(&mut note, notes);
        let done = sent.and_then(|sums| {
            self.bucket.complete(key, &note.upload, &note.etags, *bytes)?;
            Ok(sums)
        });
        if let Some(path) = notes {
            // Whoever was stopped, or lost the line, goes on from here; other failures begin anew.
            let goes_on = matches!(&done, Err(Sending::Error(_)))
                || matches!(&done, Err(Sending::Fault(fault)) if passes(fault.trouble));
            if goes_on {
                return done;
            }
            let _ = std::fs::remove_file(path);
        }
        if done.is_err()
            && let Err(fault) = self.bucket.abort(key, &note.upload)
        {
            tracing::warn!(key, "an upload could not be given up: {}", fault.text);
        }
        done
    }

    fn parts(&self, note: &mut Note, notes: Option<&Path>) -> Result<String, Sending> {
        let mut sums = Md5::new();
        let mut count = 0;
        let mut offset = 0;
        while offset < self.stored.bytes {
            self.watch.check()?;
            let body = self.piece(offset, self.part.min(self.stored.bytes - offset))?;
            offset += body.len() as u64;
            sums.update(Md5::digest(&body));
            count += 1;
            if note.etags.len() >= count {
                continue;
            }
            let number = i32::try_from(count).unwrap_or(i32::MAX);
            note.etags.push(self.bucket.part(&self.stored.key, &note.upload, number, body)?);
            if let Some(path) = notes {
                write_note(path, note)?;
            }
        }
        Ok(format!("{}-{count}", hex::encode(sums.finalize())))
    }

    /// Makes sure that the server has what was sent.
    fn prove(&self, etag: &str) -> Result<(), Sending> {
        let head = self.bucket.head(&self.stored.key)?;
        let wrong = |what: String| {
            Fault::new(Trouble::Other, format!("what is there afterwards is not what was sent: {what}"))
        };
        if head.size != self.stored.bytes {
            return Err(wrong(format!("{} of {} bytes", head.size, self.stored.bytes)).into());
        }
        let seen = head.etag.as_deref().unwrap_or_default().trim_matches('"').to_ascii_lowercase();
        if seen == etag {
            return Ok(());
        }
        // Encrypted objects, and those of some servers, have ETags that are no hashes.
        let mut hash = Sha256::new();
        let mut offset = 0;
        while offset < head.size {
            self.watch.check()?;
            let length = u32::try_from((head.size - offset).min(8 << 20)).unwrap_or(u32::MAX);
            let piece = self.bucket.piece(&self.stored.key, offset, length, head.etag.as_deref())?;
            offset += piece.len() as u64;
            hash.update(&piece);
        }
        let sum = hex::encode(hash.finalize());
        if sum == self.stored.sha256 { Ok(()) } else { Err(wrong(format!("SHA-256 {sum}")).into()) }
    }
}

fn passes(trouble: Trouble) -> bool {
    matches!(trouble, Trouble::Unreachable | Trouble::TimedOut | Trouble::Busy | Trouble::Unresolved)
}

fn base64_of(sha256: &str) -> Option<String> {
    hex::decode(sha256).ok().map(|bytes| STANDARD.encode(bytes))
}

fn read_note(path: &Path) -> Option<Note> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(4 << 20).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn write_note(path: &Path, note: &Note) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(note)?)?;
    std::fs::rename(new, path)
}
