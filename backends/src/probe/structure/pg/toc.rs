//! Header and table of contents, for archive versions 1.10 (PostgreSQL 8.3) to 1.16 (PostgreSQL 17).

use std::io;

use super::super::context::Context;
use super::super::input::Input;

/// The newest archive version that is known.
const VERSION_MAX: (u8, u8) = (1, 16);

/// Bounds against hostile counts and lengths; real archives stay far below.
const ENTRIES_MAX: u64 = 5_000_000;
const DATA_ENTRIES_MAX: usize = 500_000;
const STRING_MAX: u64 = 1 << 30;
const STRING_KEPT: u64 = 1024;

/// Why an archive cannot be followed.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// Reading stopped, and the reason is on record.
    Stop(io::Error),
    /// The archive ends too early, at this byte, in the middle of something.
    Cut(u64, String),
    /// Something else than the format allows.
    Wrong(String),
    /// Something that we cannot judge.
    Beyond(String),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Stop(error)
    }
}

impl Flaw {
    /// Files the flaw; `Err` when it is on record already.
    pub(crate) fn report(self, context: &Context<'_>, at: &str, expected: &str) -> io::Result<()> {
        match self {
            Self::Stop(error) => return Err(error),
            Self::Cut(byte, place) => {
                let seen = format!("it ends at byte {byte}, {place}");
                context.damage("pg_archive.truncated", at, expected, seen);
            }
            Self::Wrong(seen) => context.damage("pg_archive.damaged", at, expected, seen),
            Self::Beyond(what) => context.interrupt(format!("{at}: {what}")),
        }
        Ok(())
    }
}

/// How data is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Gzip,
    Lz4,
    Zstd,
}

/// An entry with data.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) id: i64,
    /// `schema.table`, or what else it is.
    pub(crate) name: String,
    /// Whether it is the data of a table, and not large objects.
    pub(crate) is_table: bool,
    /// Whether the data is for `COPY`, and so ends in a `\.` line.
    pub(crate) copy: bool,
    /// The file it is in, for the formats that have files.
    pub(crate) file: Vec<u8>,
    /// Where its block begins, if the archive says so.
    pub(crate) position: Option<u64>,
}

/// The table of contents, as far as data goes.
#[derive(Debug)]
pub(crate) struct Toc {
    pub(crate) custom: bool,
    pub(crate) codec: Codec,
    pub(crate) entries: u64,
    pub(crate) with_data: Vec<Table>,
    version: (u8, u8, u8),
    created: String,
    database: String,
    server: String,
    dump: String,
}

impl Toc {
    pub(crate) fn tables_with_data(&self) -> usize {
        self.with_data.iter().filter(|entry| entry.is_table).count()
    }

    /// The table whose data is in the file `name`.
    pub(crate) fn table_of(&self, name: &[u8]) -> Option<&Table> {
        self.with_data.iter().find(|entry| entry.is_table && entry.file == name)
    }

    pub(crate) fn describe(&self, context: &Context<'_>, at: &str) {
        let (major, minor, revision) = self.version;
        context.note(format!(
            "{at}: pg_dump archive {major}.{minor}.{revision} of database {} (server {}, pg_dump {}), {} entries, \
             created {} in the local time of its host",
            self.database, self.server, self.dump, self.entries, self.created
        ));
    }

    /// Files a finding for each data file that is not there.
    pub(crate) fn report_missing(&self, context: &Context<'_>, at: &str, is_there: impl Fn(&[u8]) -> bool) {
        // Large objects have files of their own, and a list of them under a name that varies.
        for entry in self.with_data.iter().filter(|entry| entry.is_table) {
            let found = [&b""[..], b".gz", b".lz4", b".zst"]
                .iter()
                .any(|ending| is_there(&[entry.file.as_slice(), ending].concat()));
            if !found {
                context.damage(
                    "pg_archive.data_missing",
                    at,
                    format!("the data of {} in {}", entry.name, String::from_utf8_lossy(&entry.file)),
                    "no such file",
                );
            }
        }
    }
}

/// An archive being read.
pub(crate) struct Archive<'i, 'a> {
    pub(crate) input: &'i mut Input<'a>,
    version: (u8, u8, u8),
    int_size: usize,
    offset_size: usize,
}

impl<'i, 'a> Archive<'i, 'a> {
    pub(crate) fn new(input: &'i mut Input<'a>) -> Self {
        Self { input, version: (0, 0, 0), int_size: 4, offset_size: 8 }
    }

    fn at_least(&self, minor: u8) -> bool {
        (self.version.0, self.version.1) >= (1, minor)
    }

    pub(crate) fn cut(&self, place: &str) -> Flaw {
        Flaw::Cut(self.input.offset(), place.to_owned())
    }

    pub(crate) fn byte(&mut self, place: &str) -> Result<u8, Flaw> {
        match self.input.array::<1>()? {
            Some([byte]) => Ok(byte),
            None => Err(self.cut(place)),
        }
    }

    /// A sign byte, then the magnitude, least significant byte first.
    pub(crate) fn int(&mut self, place: &str) -> Result<i64, Flaw> {
        let negative = match self.byte(place)? {
            0 => false,
            1 => true,
            other => return Err(Flaw::Wrong(format!("an integer with sign {other}, {place}"))),
        };
        let mut value = 0_i64;
        for place_value in 0..self.int_size {
            let byte = i64::from(self.byte(place)?);
            let shifted = byte.checked_shl(u32::try_from(place_value * 8).unwrap_or(u32::MAX)).unwrap_or(0);
            value |= shifted;
        }
        let value = value & i64::MAX;
        Ok(if negative { -value } else { value })
    }

    /// A string, of which the beginning is kept; `None` for NULL.
    fn string(&mut self, place: &str) -> Result<Option<String>, Flaw> {
        let Ok(length) = u64::try_from(self.int(place)?) else { return Ok(None) };
        if length > STRING_MAX {
            return Err(Flaw::Wrong(format!("a string of {length} bytes, {place}")));
        }
        let mut kept = vec![0; usize::try_from(length.min(STRING_KEPT)).unwrap_or(0)];
        let read = self.input.read_full(&mut kept)?;
        let rest = length - kept.len() as u64;
        if read < kept.len() || self.input.skip(rest)? < rest {
            return Err(self.cut(place));
        }
        Ok(Some(String::from_utf8_lossy(&kept).chars().flat_map(char::escape_default).collect()))
    }

    fn text(&mut self, place: &str) -> Result<String, Flaw> {
        Ok(self.string(place)?.unwrap_or_default())
    }

    /// Reads header and table of contents.
    pub(crate) fn read_toc(&mut self) -> Result<Toc, Flaw> {
        const HEADER: &str = "inside the header";
        let mut magic = [0; 5];
        if self.input.read_full(&mut magic)? < magic.len() {
            return Err(self.cut(HEADER));
        }
        self.version = (self.byte(HEADER)?, self.byte(HEADER)?, self.byte(HEADER)?);
        let (major, minor, _) = self.version;
        if (major, minor) > VERSION_MAX || (major, minor) < (1, 10) {
            return Err(Flaw::Beyond(format!(
                "archive version {major}.{minor} is not known to this firedrill"
            )));
        }
        self.int_size = usize::from(self.byte(HEADER)?);
        self.offset_size = usize::from(self.byte(HEADER)?);
        if !(1..=8).contains(&self.int_size) || !(1..=8).contains(&self.offset_size) {
            return Err(Flaw::Wrong("impossible sizes of integers in the header".to_owned()));
        }
        let custom = match self.byte(HEADER)? {
            1 => true,
            3 | 5 => false,
            other => return Err(Flaw::Wrong(format!("archive format {other}"))),
        };
        let codec = self.codec()?;
        let created = self.created()?;
        let mut toc = Toc {
            custom,
            codec,
            entries: 0,
            with_data: Vec::new(),
            version: self.version,
            created,
            database: self.text(HEADER)?,
            server: self.text(HEADER)?,
            dump: self.text(HEADER)?,
        };
        self.entries(&mut toc)?;
        Ok(toc)
    }

    fn codec(&mut self) -> Result<Codec, Flaw> {
        const PLACE: &str = "inside the header";
        if !self.at_least(15) {
            // A level: -1 is zlib's default.
            return Ok(if self.int(PLACE)? == 0 { Codec::None } else { Codec::Gzip });
        }
        match self.byte(PLACE)? {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Lz4),
            3 => Ok(Codec::Zstd),
            other => Err(Flaw::Wrong(format!("compression algorithm {other}"))),
        }
    }

    fn created(&mut self) -> Result<String, Flaw> {
        let mut fields = [0; 7];
        for field in &mut fields {
            *field = self.int("inside the header")?;
        }
        let [second, minute, hour, day, month, year, _dst] = fields;
        let (year, month) = (year.saturating_add(1900), month.saturating_add(1));
        Ok(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"))
    }

    fn entries(&mut self, toc: &mut Toc) -> Result<(), Flaw> {
        const PLACE: &str = "inside the table of contents";
        let count = u64::try_from(self.int(PLACE)?).unwrap_or(u64::MAX);
        if count > ENTRIES_MAX {
            return Err(Flaw::Wrong(format!("a table of contents with {count} entries")));
        }
        for _ in 0..count {
            if let Some(entry) = self.entry(toc.custom)? {
                if toc.with_data.len() >= DATA_ENTRIES_MAX {
                    return Err(Flaw::Beyond(format!("more than {DATA_ENTRIES_MAX} entries with data")));
                }
                toc.with_data.push(entry);
            }
            toc.entries += 1;
        }
        Ok(())
    }

    /// One entry; `None` when it has no data.
    fn entry(&mut self, custom: bool) -> Result<Option<Table>, Flaw> {
        const PLACE: &str = "inside the table of contents";
        let id = self.int(PLACE)?;
        let has_dumper = self.int(PLACE)? != 0;
        if id <= 0 {
            return Err(Flaw::Wrong(format!("an entry with the id {id} in the table of contents")));
        }
        let (_table_oid, _oid) = (self.string(PLACE)?, self.string(PLACE)?);
        let tag = self.text(PLACE)?;
        let kind = self.text(PLACE)?;
        if self.at_least(11) {
            self.int(PLACE)?;
        }
        let (_definition, _drop) = (self.string(PLACE)?, self.string(PLACE)?);
        let copy = self.text(PLACE)?;
        let schema = self.text(PLACE)?;
        let _tablespace = self.string(PLACE)?;
        if self.at_least(14) {
            self.string(PLACE)?;
        }
        if self.at_least(16) {
            self.int(PLACE)?;
        }
        let (_owner, _oids) = (self.string(PLACE)?, self.string(PLACE)?);
        while self.string(PLACE)?.is_some() {}
        let (mut file, mut position, mut has_data) = (String::new(), None, has_dumper);
        if custom {
            let state = self.byte(PLACE)?;
            let mut offset = [0; 8];
            let size = self.offset_size;
            let field = offset.get_mut(..size).unwrap_or_default();
            if self.input.read_full(field)? < size {
                return Err(self.cut(PLACE));
            }
            match state {
                1 => {}
                2 => position = Some(u64::from_le_bytes(offset)),
                3 => has_data = false,
                other => return Err(Flaw::Wrong(format!("offset state {other} in the table of contents"))),
            }
        } else {
            file = self.text(PLACE)?;
            has_data = !file.is_empty();
        }
        let name = if schema.is_empty() { tag } else { format!("{schema}.{tag}") };
        let is_table = kind == "TABLE DATA";
        let name = if is_table { name } else { format!("{kind} {name}") };
        let copy = !copy.is_empty();
        Ok(has_data.then(|| Table { id, name, is_table, copy, file: file.into_bytes(), position }))
    }
}
