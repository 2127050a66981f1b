//! The files in a stream, put in their places.
//!
//! `mbstream` gets a stream through a pipe (and in a container through the daemon), and writes each chunk of up to
//! 10 MB at once. Pieces of moderate size that are written straight into the cell's folder take a fraction of that: the
//! kernel finds small pages at hand, where pages for 10 MB may have to be got from the host of a virtual machine first.
//!
//! Only for streams that the structure probe found whole and *plain*: nothing but new files, each written from its
//! beginning to its end. Every checksum and every offset is checked again, so that the server starts on exactly what was
//! checked.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};

use crc32fast::Hasher;
use firedrill_core::cell::Cell;

const MAGIC: &[u8; 8] = b"XBSTCK01";
/// Longer paths are refused by mbstream too.
const PATH_MAX: u32 = 4096;
/// What is read and written at a time.
const PIECE: usize = 256 << 10;

/// A file that has begun.
struct Part<'c> {
    file: Box<dyn Write + 'c>,
    offset: u64,
}

/// Writes the files in `stream` below the folder `to` of the cell. `Err` says why that failed, which says nothing about
/// a backup that was found whole before.
pub(super) fn unpack(cell: &dyn Cell, stream: impl Read, to: &str) -> Result<(), String> {
    let mut parts = HashMap::<String, Part<'_>>::new();
    let mut buffer = vec![0; PIECE];
    // For the headers; pieces are larger than its buffer and pass it by.
    let stream = &mut BufReader::new(stream);
    loop {
        let Some((kind, path)) = header(stream).map_err(|e| e.to_string())? else { break };
        if !parts.contains_key(&path) {
            let file = cell.create(&format!("{to}/{path}")).map_err(|e| e.chain())?;
            parts.insert(path.clone(), Part { file, offset: 0 });
        }
        let part = parts.get_mut(&path);
        match (kind, part) {
            (b'P', Some(part)) => payload(stream, part, &mut buffer).map_err(|e| format!("{path}: {e}"))?,
            (b'E', _) => drop(parts.remove(&path)),
            _ => return Err("it is no longer the plain stream that it was".to_owned()),
        }
    }
    if parts.is_empty() { Ok(()) } else { Err("it ends before its files do".to_owned()) }
}

/// The type of the next chunk and the path that it is for; `None` at the end of the stream.
fn header(stream: &mut dyn Read) -> io::Result<Option<(u8, String)>> {
    let mut magic = Vec::with_capacity(MAGIC.len());
    (&mut *stream).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    if magic.is_empty() {
        return Ok(None);
    }
    if magic != MAGIC {
        return Err(io::Error::other("it is no longer the stream that it was"));
    }
    let [_flags, kind] = array(stream)?;
    let length = u32::from_le_bytes(array(stream)?);
    if length == 0 || length > PATH_MAX {
        return Err(io::Error::other(format!("a path of {length} bytes")));
    }
    let mut path = vec![0; length as usize];
    stream.read_exact(&mut path)?;
    let path = String::from_utf8(path).map_err(io::Error::other)?;
    Ok(Some((kind, path)))
}

/// Writes one chunk.
fn payload(stream: &mut dyn Read, part: &mut Part<'_>, buffer: &mut [u8]) -> io::Result<()> {
    let length = u64::from_le_bytes(array(stream)?);
    let offset = u64::from_le_bytes(array(stream)?);
    let checksum = u32::from_le_bytes(array(stream)?);
    if offset != part.offset {
        return Err(io::Error::other(format!("a piece for offset {offset}, and {} comes next", part.offset)));
    }
    let mut hasher = Hasher::new();
    let mut left = length;
    while left > 0 {
        let n = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..n).unwrap_or_default();
        stream.read_exact(piece)?;
        hasher.update(piece);
        part.file.write_all(piece)?;
        left -= n as u64;
    }
    part.offset = part.offset.saturating_add(length);
    match hasher.finalize() == checksum {
        true => Ok(()),
        false => Err(io::Error::other(format!("another content than before at offset {offset}"))),
    }
}

fn array<const N: usize>(stream: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
