//! zip archives.
//!
//! *Verified*: the central directory is there and can be read; every entry decompresses to its end and
//! fits its CRC. Entries are recognised and checked in their turn: k3s keeps etcd snapshots this way.
//!
//! *Not verified*: encrypted entries, and methods other than stored and deflated.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use ::zip::ZipArchive;
use ::zip::result::ZipError;

use super::context::{Context, is_reported, reported};
use super::input::Input;
use super::inspect::{self, Item};

/// The library keeps the whole directory in memory; 64 MiB list more than half a million entries.
pub(crate) const DIRECTORY_MAX: u64 = 64 << 20;

/// Checks the archive in `file`.
pub(super) fn check(context: &Context<'_>, item: &Item, mut file: File) -> io::Result<()> {
    let trouble = |error: io::Error| {
        context.interrupt(format!("failed to read {}: {error}", item.location));
        reported()
    };
    file.rewind().map_err(trouble)?;
    if directory_size(&file).map_err(trouble)?.is_some_and(|size| size > DIRECTORY_MAX) {
        context.interrupt(format!("the directory of {} is larger than {DIRECTORY_MAX} bytes", item.location));
        return Err(reported());
    }
    let source = Watched { context, file, location: &item.location };
    let mut archive = match ZipArchive::new(BufReader::new(source)) {
        Ok(archive) => archive,
        Err(error) => return broken(context, &item.location, "a readable central directory", error),
    };
    for index in 0..archive.len() {
        context.proceed()?;
        entry(context, item, &mut archive, index)?;
    }
    context.note(format!("{}: zip archive, {} entries", item.location, archive.len()));
    Ok(())
}

fn entry<R: Read + Seek>(
    context: &Context<'_>,
    item: &Item,
    archive: &mut ZipArchive<R>,
    index: usize,
) -> io::Result<()> {
    let entry = match archive.by_index(index) {
        Ok(entry) => entry,
        Err(error) => {
            let at = format!("{}, entry {}", item.location, index + 1);
            return broken(context, &at, "a readable entry", error);
        }
    };
    if entry.is_dir() {
        return Ok(());
    }
    let inner = item.member(entry.name_raw());
    let content = Input::decoder(context, entry, "zip", &inner.location);
    match inspect::stream(context, &inner, content, 1) {
        // The entry's damage is on record; the others may be whole.
        Err(error) if is_reported(&error) => Ok(()),
        other => other,
    }
}

fn broken(context: &Context<'_>, at: &str, expected: &str, error: ZipError) -> io::Result<()> {
    // The library may wrap what it got from beneath; nothing is damaged because we had to stop.
    context.proceed()?;
    match error {
        ZipError::UnsupportedArchive(_)
        | ZipError::InvalidPassword
        | ZipError::CompressionMethodNotSupported(_) => {
            context.leave_out("zip entries that are encrypted or compressed by a method other than deflate");
        }
        error => context.damage("zip.damaged", at, expected, error.to_string()),
    }
    Ok(())
}

/// The size that the end record gives for the central directory, as far as one can be found.
pub(crate) fn directory_size(file: &File) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let mut tail = vec![0; usize::try_from(length.min(66_000)).unwrap_or(0)];
    let begin = length - tail.len() as u64;
    file.read_exact_at(&mut tail, begin)?;
    let Some(end) = tail.windows(4).rposition(|window| window == b"PK\x05\x06") else { return Ok(None) };
    let field =
        |at: usize| tail.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match field(end + 12) {
        Some(u32::MAX) => {}
        other => return Ok(other.map(u64::from)),
    }
    let locator = end.checked_sub(20).and_then(|at| tail.get(at + 8..at + 16));
    let Some(Ok(at)) = locator.map(<[u8; 8]>::try_from) else { return Ok(None) };
    let mut size = [0; 8];
    match u64::from_le_bytes(at).checked_add(40).filter(|at| at.saturating_add(8) <= length) {
        Some(at) => file.read_exact_at(&mut size, at)?,
        None => return Ok(None),
    }
    Ok(Some(u64::from_le_bytes(size)))
}

/// A file whose I/O errors are our trouble, and whose reading can be stopped.
struct Watched<'a> {
    context: &'a Context<'a>,
    file: File,
    location: &'a str,
}

impl Watched<'_> {
    fn trouble(&self, error: &io::Error) -> io::Error {
        self.context.interrupt(format!("failed to read {}: {error}", self.location));
        reported()
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.context.proceed()?;
        self.file.read(into).map_err(|error| self.trouble(&error))
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        // A seek to before the beginning is what a damaged archive asks for, not what a disk does.
        self.file.seek(to)
    }
}
