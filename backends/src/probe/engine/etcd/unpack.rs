//! From a dump to a file whose pages can be read in any order.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::PathBuf;

use ::zip::ZipArchive;
use ::zip::result::ZipError;
use firedrill_core::subject::Subject;

use crate::probe::engine::dumps::{Dump, is_own_trouble};
use crate::probe::structure::zip::{DIRECTORY_MAX, directory_size};

/// Largest snapshot that is unpacked; etcd itself advises at most 8 GiB.
const UNPACKED_MAX: u64 = 16 << 30;
/// Entries of a zip archive that are looked at; k3s writes one.
const ENTRIES_MAX: usize = 100;
/// Where the magic number of a bbolt database stands.
const MAGIC: std::ops::Range<usize> = 16..20;

/// Why there is no file.
#[derive(Debug)]
pub(super) enum Failure {
    /// The dump is damaged, which the probes of its layers tell.
    Damaged(String),
    /// Something kept us from unpacking it.
    Trouble(String),
}

/// The snapshot as a file; a copy of it goes with this.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) file: File,
    copy: Option<PathBuf>,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if let Some(copy) = &self.copy {
            // What stays behind goes with the lease.
            let _removed = std::fs::remove_file(copy);
        }
    }
}

/// Opens a plain snapshot, and unpacks any other into the working folder.
pub(super) fn unpack(subject: &Subject, dump: &Dump) -> Result<Unpacked, Failure> {
    let mut head = [0; 4];
    let mut source = dump.source(subject).map_err(damaged_or_trouble)?;
    let zipped = dump.layers.is_empty() && source.read_exact(&mut head).is_ok() && head == *b"PK\x03\x04";
    if zipped {
        return unzip(subject, dump);
    }
    if dump.layers.is_empty() {
        let file = dump.file(subject).map_err(damaged_or_trouble)?;
        return Ok(Unpacked { file, copy: None });
    }
    let mut reader = dump.read(subject).map_err(damaged_or_trouble)?;
    copy(subject, &mut reader)
}

fn unzip(subject: &Subject, dump: &Dump) -> Result<Unpacked, Failure> {
    let trouble = |e: io::Error| Failure::Trouble(format!("failed to read {}: {e}", dump.location));
    let file = dump.file(subject).map_err(trouble)?;
    if directory_size(&file).map_err(trouble)?.is_some_and(|size| size > DIRECTORY_MAX) {
        return Err(Failure::Trouble(format!("the directory of {} is too large", dump.location)));
    }
    let mut source = dump.source(subject).map_err(trouble)?;
    source.rewind().map_err(trouble)?;
    let mut archive = ZipArchive::new(BufReader::new(source)).map_err(from_zip)?;
    for index in 0..archive.len().min(ENTRIES_MAX) {
        let mut entry = archive.by_index(index).map_err(from_zip)?;
        if entry.is_dir() {
            continue;
        }
        let mut head = Vec::new();
        (&mut entry).take(32).read_to_end(&mut head).map_err(damaged_or_trouble)?;
        if head.get(MAGIC) == Some(&0xED0C_DAED_u32.to_le_bytes()[..]) {
            return copy(subject, &mut head.as_slice().chain(entry));
        }
    }
    Err(Failure::Damaged("the archive holds no database".to_owned()))
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

fn copy(subject: &Subject, from: &mut dyn Read) -> Result<Unpacked, Failure> {
    let trouble = |e: io::Error| Failure::Trouble(format!("failed to unpack a snapshot to scratch: {e}"));
    let path = subject.work.join("etcd-snapshot.db");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
    let mut unpacked = Unpacked { file: file.map_err(trouble)?, copy: Some(path) };
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
            return Err(Failure::Trouble(format!("it is larger than {UNPACKED_MAX} bytes when unpacked")));
        }
        unpacked.file.write_all(buffer.get(..n).unwrap_or_default()).map_err(trouble)?;
    }
    unpacked.file.rewind().map_err(trouble)?;
    Ok(unpacked)
}
