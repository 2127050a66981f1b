//! From a dump to a file whose pages can be read in any order.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use ::zip::ZipArchive;
use ::zip::result::ZipError;
use firedrill_core::subject::Subject;

use crate::probe::engine::dumps::{self, Dump, Source, is_own_trouble};
use crate::probe::structure::Format;
use crate::probe::structure::zip::{DIRECTORY_MAX, directory_size};

/// Largest snapshot that is unpacked; etcd itself advises at most 8 GiB.
const UNPACKED_MAX: u64 = 16 << 30;
/// Entries of a zip archive that are looked at; k3s writes one.
const ENTRIES_MAX: usize = 100;
/// Where the magic number of a bbolt database stands.
const MAGIC: std::ops::Range<usize> = 16..20;

/// Why there is no file.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The dump is damaged, which the probes of its layers tell.
    Damaged(String),
    /// Something kept us from unpacking it.
    Trouble(String),
}

/// The snapshot as a file. A copy of it has no name any more, and goes with this.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) file: File,
}

/// A file that is a snapshot, below layers of compression or in a zip archive.
pub(crate) struct Packed<'a> {
    /// For people.
    pub(crate) location: &'a str,
    /// Opens it; may be called several times.
    pub(crate) open: &'a dyn Fn() -> io::Result<Source>,
    /// A file that does not exist, where it can be unpacked.
    pub(crate) to: PathBuf,
}

/// Opens a plain snapshot, and unpacks any other into the working folder.
pub(super) fn unpack(subject: &Subject, dump: &Dump) -> Result<Unpacked, Failure> {
    let open = || dump.source(subject);
    let to = subject.work.join("etcd-snapshot.db");
    Packed { location: &dump.location, open: &open, to }.unpack_layers(&dump.layers)
}

impl Packed<'_> {
    /// Finds out how it is packed, and unpacks it.
    pub(crate) fn unpack(&self) -> Result<Unpacked, Failure> {
        let layers = dumps::layers(self.open).map_err(damaged_or_trouble)?;
        self.unpack_layers(&layers)
    }

    fn unpack_layers(&self, layers: &[Format]) -> Result<Unpacked, Failure> {
        let mut head = [0; 4];
        let mut source = (self.open)().map_err(damaged_or_trouble)?;
        if !layers.is_empty() {
            let mut reader = dumps::peel(Box::new(source), layers).map_err(damaged_or_trouble)?;
            return self.copy(&mut reader);
        }
        let zipped = source.read_exact(&mut head).is_ok() && head == *b"PK\x03\x04";
        source.rewind().map_err(damaged_or_trouble)?;
        if zipped { self.unzip(source) } else { Ok(Unpacked { file: source.into_file() }) }
    }

    fn unzip(&self, source: Source) -> Result<Unpacked, Failure> {
        let trouble = |e: io::Error| Failure::Trouble(format!("failed to read {}: {e}", self.location));
        if directory_size(source.file()).map_err(trouble)?.is_some_and(|size| size > DIRECTORY_MAX) {
            return Err(Failure::Trouble(format!("the directory of {} is too large", self.location)));
        }
        let mut archive = ZipArchive::new(BufReader::new(source)).map_err(from_zip)?;
        for index in 0..archive.len().min(ENTRIES_MAX) {
            let mut entry = archive.by_index(index).map_err(from_zip)?;
            if entry.is_dir() {
                continue;
            }
            let mut head = Vec::new();
            (&mut entry).take(32).read_to_end(&mut head).map_err(damaged_or_trouble)?;
            if head.get(MAGIC) == Some(&0xED0C_DAED_u32.to_le_bytes()[..]) {
                return self.copy(&mut head.as_slice().chain(entry));
            }
        }
        Err(Failure::Damaged("the archive holds no database".to_owned()))
    }

    fn copy(&self, from: &mut dyn Read) -> Result<Unpacked, Failure> {
        let trouble = |e: io::Error| Failure::Trouble(format!("failed to unpack a snapshot: {e}"));
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&self.to);
        let mut file = file.map_err(trouble)?;
        // Whatever becomes of us, nothing stays behind.
        std::fs::remove_file(&self.to).map_err(trouble)?;
        let mut buffer = vec![0; 256 << 10];
        let mut written = 0_u64;
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(damaged_or_trouble(e)),
            };
            written += n as u64;
            if written > UNPACKED_MAX {
                return Err(Failure::Trouble(format!(
                    "it is larger than {UNPACKED_MAX} bytes when unpacked"
                )));
            }
            file.write_all(buffer.get(..n).unwrap_or_default()).map_err(trouble)?;
        }
        file.rewind().map_err(trouble)?;
        Ok(Unpacked { file })
    }
}

fn from_zip(error: ZipError) -> Failure {
    match error {
        ZipError::Io(error) => damaged_or_trouble(error),
        ZipError::UnsupportedArchive(_)
        | ZipError::InvalidPassword
        | ZipError::CompressionMethodNotSupported(_) => Failure::Trouble(error.to_string()),
        error => Failure::Damaged(error.to_string()),
    }
}

fn damaged_or_trouble(error: io::Error) -> Failure {
    if is_own_trouble(&error) {
        Failure::Trouble(error.to_string())
    } else {
        Failure::Damaged(error.to_string())
    }
}
