//! Archives of pg_dump, in the custom, tar and directory formats.
//!
//! pg_restore turns an archive into SQL inside the cell, and that is loaded like a plain dump: one way of loading,
//! which knows what is missing, counts rows as they come, and runs nothing. pg_restore decompresses while the
//! server works.

use std::ffi::OsStr;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};

use firedrill_core::cell::{Cell, Ended, Pipes, inside};
use firedrill_core::error::Result;
use firedrill_core::subject::Subject;

use super::load::{Job, Loaded, load};
use super::server::{block_on, program};
use crate::probe::engine::dumps::Dump;
use crate::probe::names::{last, parent};

/// Strings in a header are shorter.
const STRING_MAX: usize = 4096;
/// Bytes that are handed on at a time, and how many such blocks may wait.
const BLOCK: usize = 256 << 10;
const BLOCKS: usize = 8;

/// An archive inside a cell, as pg_restore takes it.
pub(super) struct Brought {
    path: String,
    /// Why pg_restore must not see it, if that is so.
    pub(super) broken: Option<String>,
}

/// Copies an archive into the cell.
pub(super) fn bring(cell: &dyn Cell, subject: &Subject, dump: &Dump, number: u64) -> Result<Brought> {
    if last(&dump.path) == b"toc.dat" && dump.layers.is_empty() {
        let path = inside(&format!(".firedrill/archive-{number}"));
        let folder = Path::new(OsStr::from_bytes(parent(&dump.path)));
        cell.bring_tree(&subject.root.join(folder), &path)?;
        return Ok(Brought { path, broken: None });
    }
    let path = inside(&format!(".firedrill/archive-{number}.dump"));
    // What cannot be unpacked is damage, while an error of the cell or of the file is not.
    let reader = dump.read(subject).map_err(|error| trouble(&error))?;
    let mut reader = Tolerant { reader, members: Members::default(), failed: None };
    cell.bring(&mut reader, &path)?;
    Ok(Brought { path, broken: reader.failed.clone().or_else(|| reader.members.broken()) })
}

/// Follows the headers of a tar archive. pg_restore goes round in circles for ever at the end of one that was cut.
#[derive(Default)]
struct Members {
    header: Vec<u8>,
    left: u64,
    read: u64,
    /// There is nothing more to follow: it ended well, or it is no tar archive.
    done: bool,
}

impl Members {
    fn feed(&mut self, mut bytes: &[u8]) {
        self.read += bytes.len() as u64;
        while !self.done && !bytes.is_empty() {
            let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= skipped as u64;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = (512 - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(bytes.get(..wanted).unwrap_or_default());
            bytes = bytes.get(wanted..).unwrap_or_default();
            if self.header.len() == 512 {
                self.member();
            }
        }
    }

    fn member(&mut self) {
        let header = std::mem::take(&mut self.header);
        // A custom archive has no members, and the last member is followed by nothing but zeros.
        self.done = header.starts_with(b"PGDMP") || header.iter().all(|byte| *byte == 0);
        let field = header.get(124..136).unwrap_or_default();
        let size = match field {
            [first, rest @ ..] if first & 0x80 != 0 => rest
                .iter()
                .fold(0_u64, |size, byte| size.saturating_mul(256).saturating_add(u64::from(*byte))),
            digits => {
                let digits = digits.iter().filter(|byte| matches!(byte, b'0'..=b'7'));
                digits
                    .fold(0_u64, |size, digit| size.saturating_mul(8).saturating_add(u64::from(digit - b'0')))
            }
        };
        self.left = size.div_ceil(512).saturating_mul(512);
    }

    fn broken(&self) -> Option<String> {
        (!self.done).then(|| {
            format!("the tar archive ends at byte {}, inside a member or before its end mark", self.read)
        })
    }
}

fn trouble(error: &io::Error) -> firedrill_core::error::Error {
    firedrill_core::error::Error::new(firedrill_core::error::ErrorKind::Scratch, "read the archive")
        .from_source(error)
}

/// Ends where its reader fails for damage.
struct Tolerant {
    reader: Box<dyn Read + Send>,
    members: Members,
    failed: Option<String>,
}

impl Read for Tolerant {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(into) {
            Ok(n) => {
                self.members.feed(into.get(..n).unwrap_or_default());
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) if !crate::probe::engine::dumps::is_own_trouble(&error) => {
                self.failed = Some(format!("it cannot be unpacked: {error}"));
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

/// Loads an archive. The second part is how pg_restore ended.
pub(super) fn restore(job: &Job<'_>, brought: &Brought) -> (Loaded, Result<Ended>) {
    let restore = program("pg_restore", ["-f", "-", &brought.path]);
    let cell = job.server.cell();
    let (reader, writer) = pipe();
    std::thread::scope(|scope| {
        let pipes = Pipes { stdin: None, stdout: Some(Box::new(writer)) };
        let restoring = scope.spawn(move || cell.run(&restore, pipes));
        let loaded = block_on(load(job, Box::new(reader)));
        let ended = restoring
            .join()
            .unwrap_or_else(|_| Err(trouble(&io::Error::other("pg_restore's thread panicked"))));
        (loaded, ended)
    })
}

/// A pipe in memory. pg_restore writes little at a time, and each byte of a real one would pass the kernel twice.
fn pipe() -> (Reader, Writer) {
    let (blocks, received) = mpsc::sync_channel(BLOCKS);
    (Reader { received, block: Cursor::default() }, Writer { blocks, block: Vec::new() })
}

struct Writer {
    blocks: SyncSender<Vec<u8>>,
    block: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.block.extend_from_slice(bytes);
        if self.block.len() >= BLOCK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(2 * BLOCK));
        self.blocks.send(block).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody is left to be told when nobody reads any more.
        let _sent = self.flush();
    }
}

struct Reader {
    received: mpsc::Receiver<Vec<u8>>,
    block: Cursor<Vec<u8>>,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            match self.block.read(into)? {
                0 => match self.received.recv() {
                    Ok(block) => self.block = Cursor::new(block),
                    Err(_) => break,
                },
                n => return Ok(n),
            }
        }
        Ok(0)
    }
}

/// The version of the server and the database, from the header of an archive or of the `toc.dat` in a tar.
pub(super) fn origin(head: &[u8]) -> (Option<String>, Option<String>) {
    header(head).map_or((None, None), |(database, server)| (Some(server), Some(database)))
}

/// The encoding, which the first entry of each archive sets.
pub(super) fn encoding(head: &[u8]) -> Option<String> {
    let start = b"SET client_encoding = '";
    let at = memchr::memmem::find(head, start)? + start.len();
    let value = head.get(at..)?.split(|byte| *byte == b'\'').next()?;
    Some(String::from_utf8_lossy(value.get(..value.len().min(40))?).into_owned())
}

fn header(head: &[u8]) -> Option<(String, String)> {
    // In a tar archive `toc.dat` comes first, behind one block of 512 bytes.
    let head = if head.starts_with(b"PGDMP") {
        head
    } else {
        head.get(512..).filter(|h| h.starts_with(b"PGDMP"))?
    };
    let (minor, int) = (*head.get(6)?, usize::from(*head.get(8)?));
    // Magic, three bytes of version, two sizes, the format; then how it is compressed, and seven integers of time.
    let compression = if minor >= 15 { 1 } else { 1 + int };
    let mut at = 11 + compression + 7 * (1 + int);
    let mut string = || {
        let sign = *head.get(at)?;
        let length = head.get(at + 1..at + 1 + int)?;
        let length = length
            .iter()
            .rev()
            .fold(0_usize, |n, byte| n.saturating_mul(256).saturating_add(usize::from(*byte)));
        let from = at + 1 + int;
        let text = head.get(from..from.checked_add(length)?).filter(|_| sign == 0 && length <= STRING_MAX)?;
        at = from + length;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    Some((string()?, string()?))
}
