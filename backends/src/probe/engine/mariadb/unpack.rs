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
    place(stream, |path| cell.create(&format!("{to}/{path}")).map_err(|e| e.chain()))
}

fn place<'c>(
    stream: impl Read,
    mut create: impl FnMut(&str) -> Result<Box<dyn Write + 'c>, String>,
) -> Result<(), String> {
    let mut parts = HashMap::<String, Part<'_>>::new();
    let mut buffer = vec![0; PIECE];
    // For the headers; pieces are larger than its buffer and pass it by.
    let stream = &mut BufReader::new(stream);
    while let Some((kind, path)) = header(stream).map_err(|e| e.to_string())? {
        if !parts.contains_key(&path) {
            parts.insert(path.clone(), Part { file: create(&path)?, offset: 0 });
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn chunk(kind: u8, path: &str, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(path.len()).unwrap().to_le_bytes();
        [&MAGIC[..], &[0, kind], &length, path.as_bytes(), rest].concat()
    }

    fn piece(path: &str, offset: u64, content: &[u8]) -> Vec<u8> {
        let length = content.len() as u64;
        let checksum = crc32fast::hash(content).to_le_bytes();
        let rest = [&length.to_le_bytes()[..], &offset.to_le_bytes(), &checksum, content].concat();
        chunk(b'P', path, &rest)
    }

    fn end(path: &str) -> Vec<u8> {
        chunk(b'E', path, &[])
    }

    fn placed(folder: &Path, stream: &[u8]) -> Result<(), String> {
        place(stream, |path| {
            let file = std::fs::File::create_new(folder.join(path)).map_err(|e| e.to_string())?;
            Ok(Box::new(file) as Box<dyn Write>)
        })
    }

    #[test]
    fn pieces_of_several_files_land_in_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let long: Vec<u8> = (0..PIECE * 2 + 7).map(|n| (n % 251) as u8).collect();
        let (first, second) = long.split_at(PIECE + 3);
        let stream = [
            piece("a", 0, first),
            piece("b", 0, b"text"),
            piece("a", first.len() as u64, second),
            end("b"),
            piece("empty", 0, b""),
            end("empty"),
            end("a"),
        ]
        .concat();
        placed(folder.path(), &stream).unwrap();
        assert!(std::fs::read(folder.path().join("a")).unwrap() == long);
        assert_eq!(std::fs::read(folder.path().join("b")).unwrap(), b"text");
        assert_eq!(std::fs::read(folder.path().join("empty")).unwrap(), b"");
    }

    #[test]
    fn what_is_not_the_plain_stream_that_was_found_ends_it() {
        let whole = [piece("a", 0, b"some"), piece("a", 4, b"thing"), end("a")].concat();
        let folder = tempfile::tempdir().unwrap();
        placed(folder.path(), &whole).unwrap();
        for cut in 1..whole.len() {
            let folder = tempfile::tempdir().unwrap();
            assert!(placed(folder.path(), &whole[..cut]).is_err(), "cut at {cut}");
        }
        let mut flipped = whole.clone();
        let last = whole.len() - end("a").len() - 1;
        flipped[last] ^= 1;
        for (stream, says) in [
            (flipped, "another content"),
            ([piece("a", 0, b"some"), piece("a", 5, b"x"), end("a")].concat(), "offset 5"),
            ([piece("a", 0, b"x"), chunk(b'D', "a", &[])].concat(), "no longer the plain stream"),
            ([whole.clone(), whole].concat(), "exists"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let why = placed(folder.path(), &stream).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
