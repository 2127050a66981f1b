//! Archives of pg_dump in its custom format: a table of contents that says which entries have data, and then that
//! data, block by block. One that is cut has its table of contents all the same, so that `pg_restore -l` is content
//! with it.

use std::collections::HashSet;

use super::{Follow, fill, skip};

/// Archive versions that are known: those of PostgreSQL 8.3 to 17.
const VERSIONS: std::ops::RangeInclusive<(u8, u8)> = (1, 10)..=(1, 16);
/// When the table of contents is looked for first, and up to which size.
const TOC_FIRST: usize = 64 << 10;
const TOC_MAX: usize = 256 << 20;

const DATA: u8 = 1;
const BLOBS: u8 = 3;

/// Why a table of contents was not read.
enum Halt {
    /// More bytes are needed.
    Short,
    /// It is of a kind that is not known here.
    Beyond,
    /// It cannot be one.
    Wrong(&'static str),
}

/// What comes next.
#[derive(Default)]
enum Next {
    #[default]
    Toc,
    /// The kind of a block and the number of its entry.
    Block,
    /// The number of a large object; zero behind the last.
    Blob,
    /// The length of a chunk; zero behind the last.
    Chunk {
        of_blob: bool,
    },
    Skip {
        left: u64,
        of_blob: bool,
    },
    /// Nothing can be said about the rest.
    Lost,
}

/// Follows an archive.
#[derive(Default)]
pub(super) struct Archive {
    next: Next,
    buffer: Vec<u8>,
    /// The table of contents is looked for when there is so much of it.
    try_at: usize,
    integer: usize,
    /// The entries whose data is still to come.
    due: HashSet<i64>,
}

impl Archive {
    /// Reads the table of contents, if it is there as a whole; what comes behind it.
    fn open(&mut self) -> Result<Vec<u8>, String> {
        let mut bytes = Bytes { rest: &self.buffer, integer: 4, version: (0, 0) };
        match toc(&mut bytes) {
            Ok(due) => {
                let behind = bytes.rest.to_vec();
                (self.integer, self.due, self.next) = (bytes.integer, due, Next::Block);
                self.buffer = Vec::new();
                Ok(behind)
            }
            Err(Halt::Wrong(why)) => Err(why.to_owned()),
            Err(Halt::Short) if self.buffer.len() < TOC_MAX => {
                self.try_at = self.buffer.len().saturating_mul(2);
                Ok(Vec::new())
            }
            Err(Halt::Short | Halt::Beyond) => {
                (self.next, self.buffer) = (Next::Lost, Vec::new());
                Ok(Vec::new())
            }
        }
    }

    /// The next step behind the table of contents, for which `buffer` is full.
    fn step(&mut self) -> Result<(), String> {
        let bytes = std::mem::take(&mut self.buffer);
        let (kind, number) = match self.next {
            Next::Block => bytes.split_first().map_or((0, &[][..]), |(kind, number)| (*kind, number)),
            _ => (0, &bytes[..]),
        };
        let number = integer(number).ok_or("a number with an impossible sign")?;
        self.next = match self.next {
            Next::Block => {
                if !self.due.remove(&number) {
                    return Err(format!("data of entry {number}, which has none to come"));
                }
                match kind {
                    DATA => Next::Chunk { of_blob: false },
                    BLOBS => Next::Blob,
                    other => return Err(format!("a block of kind {other}")),
                }
            }
            Next::Blob if number == 0 => Next::Block,
            Next::Blob => Next::Chunk { of_blob: true },
            Next::Chunk { of_blob } => match u64::try_from(number) {
                Ok(0) if of_blob => Next::Blob,
                Ok(0) => Next::Block,
                Ok(left) => Next::Skip { left, of_blob },
                Err(_) => return Err(format!("a chunk of {number} bytes")),
            },
            Next::Toc | Next::Skip { .. } | Next::Lost => return Ok(()),
        };
        Ok(())
    }
}

impl Follow for Archive {
    fn take(&mut self, mut piece: &[u8]) -> Result<(), String> {
        if matches!(self.next, Next::Toc) {
            self.buffer.extend_from_slice(piece);
            if self.buffer.len() < self.try_at.max(TOC_FIRST) {
                return Ok(());
            }
            let behind = self.open()?;
            return if behind.is_empty() { Ok(()) } else { self.take(&behind) };
        }
        while !piece.is_empty() {
            match self.next {
                Next::Toc | Next::Lost => return Ok(()),
                Next::Skip { left, of_blob } => {
                    self.next = match skip(left, &mut piece) {
                        0 => Next::Chunk { of_blob },
                        left => Next::Skip { left, of_blob },
                    };
                }
                Next::Block | Next::Blob | Next::Chunk { .. } => {
                    // A sign stands before each number, and the kind before that of an entry.
                    let wanted = self.integer + 1 + usize::from(matches!(self.next, Next::Block));
                    if fill(&mut self.buffer, wanted, &mut piece) {
                        self.step()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        if matches!(self.next, Next::Toc) {
            let behind = self.open()?;
            self.take(&behind)?;
        }
        match self.next {
            Next::Lost => Ok(()),
            Next::Toc => Err("it ends in its table of contents".to_owned()),
            Next::Block if self.buffer.is_empty() && self.due.is_empty() => Ok(()),
            Next::Block if self.buffer.is_empty() => {
                Err(format!("the data of {} entries is missing", self.due.len()))
            }
            _ => Err("it ends inside of data".to_owned()),
        }
    }
}

/// What of an archive is there so far.
struct Bytes<'a> {
    rest: &'a [u8],
    integer: usize,
    version: (u8, u8),
}

impl Bytes<'_> {
    fn skip(&mut self, count: usize) -> Result<(), Halt> {
        self.rest = self.rest.get(count..).ok_or(Halt::Short)?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Halt> {
        let (byte, rest) = self.rest.split_first().ok_or(Halt::Short)?;
        self.rest = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<i64, Halt> {
        let bytes = self.rest.get(..=self.integer).ok_or(Halt::Short)?;
        let number = integer(bytes).ok_or(Halt::Wrong("a number with an impossible sign"))?;
        self.skip(self.integer + 1)?;
        Ok(number)
    }

    /// Skips a string; whether there was one.
    fn string(&mut self) -> Result<bool, Halt> {
        match usize::try_from(self.number()?) {
            Ok(length) => self.skip(length).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    fn strings(&mut self, count: usize) -> Result<(), Halt> {
        (0..count).try_for_each(|_| self.string().map(drop))
    }

    fn at_least(&self, minor: u8) -> bool {
        self.version >= (1, minor)
    }
}

/// Reads the header and the table of contents: the entries that have data.
fn toc(bytes: &mut Bytes<'_>) -> Result<HashSet<i64>, Halt> {
    for expected in b"PGDMP" {
        if bytes.byte()? != *expected {
            return Err(Halt::Wrong("it does not begin as an archive does"));
        }
    }
    bytes.version = (bytes.byte()?, bytes.byte()?);
    bytes.byte()?;
    if !VERSIONS.contains(&bytes.version) {
        return Err(Halt::Beyond);
    }
    bytes.integer = usize::from(bytes.byte()?);
    let offset = usize::from(bytes.byte()?);
    if !(1..=8).contains(&bytes.integer) || !(1..=8).contains(&offset) {
        return Err(Halt::Wrong("numbers of an impossible size"));
    }
    if bytes.byte()? != 1 {
        return Err(Halt::Wrong("it is an archive of another format than custom"));
    }
    if bytes.at_least(15) {
        bytes.byte()?;
    } else {
        bytes.number()?;
    }
    for _ in 0..7 {
        bytes.number()?;
    }
    bytes.strings(3)?;
    let mut due = HashSet::new();
    for _ in 0..bytes.number()? {
        let id = bytes.number()?;
        let has_data = bytes.number()? != 0;
        bytes.strings(4)?;
        if bytes.at_least(11) {
            bytes.number()?;
        }
        bytes.strings(5)?;
        if bytes.at_least(14) {
            bytes.string()?;
        }
        if bytes.at_least(16) {
            bytes.number()?;
        }
        bytes.strings(2)?;
        while bytes.string()? {}
        let state = bytes.byte()?;
        bytes.skip(offset)?;
        match state {
            1 | 2 if has_data => drop(due.insert(id)),
            1..=3 => {}
            _ => return Err(Halt::Wrong("an entry that says nothing of its data")),
        }
    }
    Ok(due)
}

/// A sign, and then the number, least significant byte first.
fn integer(bytes: &[u8]) -> Option<i64> {
    let (sign, bytes) = bytes.split_first()?;
    let size = bytes.iter().rev().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let size = i64::try_from(size & (i64::MAX as u64)).ok()?;
    match sign {
        0 => Some(size),
        1 => Some(-size),
        _ => None,
    }
}
