//! The data of archive entries: blocks of chunks in custom format, files in the others.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

use super::super::codec;
use super::super::context::{Context, reported};
use super::super::input::Input;
use super::super::inspect::Item;
use super::super::{Format, sql};
use super::{Archive, Codec, Flaw, Table, Toc};

const BLOCK_DATA: u8 = 1;
const BLOCK_BLOBS: u8 = 3;

/// Reads all blocks behind the table of contents of a custom-format archive.
pub(super) fn walk(
    context: &Context<'_>,
    item: &Item,
    toc: &Toc,
    archive: &mut Archive<'_, '_>,
    tables: &mut BTreeMap<String, u64>,
) -> Result<(), Flaw> {
    let mut due: HashMap<i64, &Table> = toc.with_data.iter().map(|entry| (entry.id, entry)).collect();
    loop {
        let begin = archive.input.offset();
        let Some([kind]) = archive.input.array::<1>()? else { break };
        let id = archive.int("at the beginning of a data block")?;
        let Some(entry) = due.remove(&id) else {
            return Err(Flaw::Wrong(format!("a data block at byte {begin} for the unknown entry {id}")));
        };
        if entry.position.is_some_and(|position| position != begin) {
            return Err(Flaw::Wrong(format!(
                "the data of {} is not where the table of contents says",
                entry.name
            )));
        }
        match kind {
            BLOCK_DATA => {
                let rows = block(context, item, toc.codec, entry, archive)?;
                if entry.is_table {
                    *tables.entry(entry.name.clone()).or_default() += rows;
                }
            }
            BLOCK_BLOBS => {
                while archive.int("inside large objects")? != 0 {
                    block(context, item, toc.codec, entry, archive)?;
                }
            }
            other => return Err(Flaw::Wrong(format!("a data block of type {other} at byte {begin}"))),
        }
    }
    match due.values().min_by_key(|entry| entry.id) {
        Some(first) => {
            Err(archive.cut(&format!("without the data of {} entries ({} first)", due.len(), first.name)))
        }
        None => Ok(()),
    }
}

/// Reads the chunks of one block; returns the rows.
fn block(
    context: &Context<'_>,
    item: &Item,
    codec: Codec,
    entry: &Table,
    archive: &mut Archive<'_, '_>,
) -> Result<u64, Flaw> {
    let location = format!("{}: {}", item.location, entry.name);
    let mut chunks = Chunks { archive, left: 0, ended: false, flaw: None, name: &entry.name };
    let outcome = decoded(context, codec, entry, &location, &mut chunks);
    if let Some(flaw) = chunks.flaw.take() {
        return Err(flaw);
    }
    // The block is followed to its end even when its content is damaged, to judge the ones behind it.
    let mut rest = 0_u64;
    let mut bytes = [0; 4096];
    loop {
        match chunks.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => rest += n as u64,
            Err(error) => return Err(chunks.flaw.take().unwrap_or(Flaw::Stop(error))),
        }
    }
    match outcome {
        Ok(_) if rest > 0 && codec != Codec::Lz4 => {
            Err(Flaw::Wrong(format!("{rest} bytes behind the end of the data of {}", entry.name)))
        }
        Ok(rows) => Ok(rows),
        // Reported where it arose; the walk goes on.
        Err(_) => Ok(0),
    }
}

fn decoded(
    context: &Context<'_>,
    codec: Codec,
    entry: &Table,
    location: &str,
    chunks: &mut Chunks<'_, '_, '_>,
) -> io::Result<u64> {
    let mut raw = Input::part(context, chunks, location);
    if raw.peek(1)?.is_empty() {
        return if entry.copy { check(context, location, entry, &mut raw) } else { Ok(0) };
    }
    match codec {
        Codec::None => check(context, location, entry, &mut raw),
        Codec::Lz4 => {
            context.leave_out("data that pg_dump compressed with lz4");
            Ok(0)
        }
        Codec::Zstd => {
            let mut input = codec::decoder(context, Format::Zstd, raw, location)?;
            check(context, location, entry, &mut input)
        }
        Codec::Gzip => {
            let decoder = flate2::bufread::ZlibDecoder::new(&mut raw);
            let mut input = Input::decoder(context, decoder, "pg_archive", location);
            let rows = check(context, location, entry, &mut input)?;
            drop(input);
            if raw.drain()? > 0 {
                context.damage(
                    "pg_archive.damaged",
                    location,
                    "one compressed stream per table",
                    "more bytes behind its end",
                );
            }
            Ok(rows)
        }
    }
}

/// Reads the plain data of an entry to its end; returns the rows.
pub(in super::super) fn check(
    context: &Context<'_>,
    location: &str,
    entry: &Table,
    input: &mut Input<'_>,
) -> io::Result<u64> {
    if !entry.is_table {
        input.drain()?;
        return Ok(0);
    }
    let (rows, closed) = sql::count_rows(input, entry.copy)?;
    if entry.copy && !closed {
        context.damage(
            "pg_archive.truncated",
            location,
            "data that ends with a \\. line",
            format!("it ends after {rows} rows without one"),
        );
    }
    Ok(rows)
}

/// The chunks of one block as one stream: a length before each, and a length of zero behind the last.
struct Chunks<'c, 'i, 'a> {
    archive: &'c mut Archive<'i, 'a>,
    left: u64,
    ended: bool,
    flaw: Option<Flaw>,
    name: &'c str,
}

impl Chunks<'_, '_, '_> {
    fn next_length(&mut self) -> Result<u64, Flaw> {
        let place = format!("inside the data of {}", self.name);
        let length = self.archive.int(&place)?;
        u64::try_from(length).map_err(|_| Flaw::Wrong(format!("a chunk of {length} bytes, {place}")))
    }

    fn fail(&mut self, flaw: Flaw) -> io::Error {
        self.ended = true;
        self.flaw = Some(flaw);
        // The flaw is taken up by whoever holds the chunks.
        reported()
    }
}

impl Read for Chunks<'_, '_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            match self.next_length() {
                Ok(0) => self.ended = true,
                Ok(length) => self.left = length,
                Err(flaw) => return Err(self.fail(flaw)),
            }
        }
        if self.ended {
            return Ok(0);
        }
        let room = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.archive.input.read(into.get_mut(..room).unwrap_or_default())?;
        if n == 0 && room > 0 {
            let flaw = self.archive.cut(&format!("inside the data of {}", self.name));
            return Err(self.fail(flaw));
        }
        self.left -= n as u64;
        Ok(n)
    }
}
