//! What the first bytes of a database, of a rollback journal and of a shared index say.

use firedrill_core::finding::Finding;

use super::wal::checksum;

/// The first bytes of every SQLite database.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// A database begins with this many bytes of header.
pub(super) const HEADER: usize = 100;
/// The first and the last bytes of a rollback journal.
pub(super) const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// As much of a shared index as says how long the log is.
pub(super) const SHARED_INDEX: usize = 100;

/// A database that is bad before it is even opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    code: &'static str,
    expected: String,
    seen: String,
}

impl Bad {
    pub(super) fn finding(self, shown: &str) -> Finding {
        Finding::damage(self.code, shown, self.expected, self.seen)
    }
}

/// The header of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) page_size: u64,
    /// Counts changes; in write-ahead mode only those that reach the first page.
    pub(super) change_counter: u32,
    /// Pages in the file, where the header knows.
    pages: Option<u64>,
    write_ahead: bool,
}

impl Header {
    /// Reads the header of a file that starts with the magic bytes and is `size` bytes long.
    pub(super) fn parse(start: &[u8], size: u64) -> Result<Self, Bad> {
        let truncated = |expected: String| {
            let seen = format!("{size} bytes");
            Err(Bad { code: "sqlite.truncated", expected, seen })
        };
        if start.len() < HEADER {
            return truncated("a header of 100 bytes".to_owned());
        }
        let page_size = match start.get(16..18) {
            Some([0, 1]) => 65_536,
            Some([high, low]) => u64::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        };
        if !(512..=65_536).contains(&page_size) || !page_size.is_power_of_two() {
            let expected = "a page size between 512 and 65536".to_owned();
            let seen = format!("a page size of {page_size}");
            return Err(Bad { code: "sqlite.not_a_database", expected, seen });
        }
        if size < page_size {
            return truncated(format!("at least one page of {page_size} bytes"));
        }
        let change_counter = be32(start, 24);
        let pages = be32(start, 28);
        // Old versions of SQLite leave the number of pages alone; they do not know the second field either.
        let known = pages > 0 && change_counter == be32(start, 92);
        Ok(Self {
            page_size,
            change_counter,
            pages: known.then_some(u64::from(pages)),
            write_ahead: start.get(18..20).is_some_and(|versions| versions.contains(&2)),
        })
    }

    /// Whether the database was last used with a write-ahead log.
    pub(super) fn write_ahead(&self) -> bool {
        self.write_ahead
    }

    /// What is missing, if the file is shorter than its header says. More than that is normal: some
    /// applications let their databases grow in steps.
    pub(super) fn truncated(&self, size: u64) -> Option<Bad> {
        let pages = self.pages?;
        let expected = pages.checked_mul(self.page_size)?;
        (size < expected).then(|| Bad {
            code: "sqlite.truncated",
            expected: format!("{expected} bytes: {pages} pages of {}", self.page_size),
            seen: format!("{size} bytes"),
        })
    }
}

/// Whether a rollback journal is hot (the database is in the middle of a transaction), and how many pages
/// the database had before.
pub(super) fn hot_journal(start: &[u8]) -> Option<u32> {
    (start.starts_with(&JOURNAL_MAGIC) && start.len() >= 28).then(|| be32(start, 16))
}

/// What a `-shm` says about the log beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharedIndex {
    /// Valid frames in the log.
    pub(super) frames: u32,
    /// Those of them that are in the database too.
    copied: u32,
    /// The generation of the log.
    pub(super) salts: [u8; 8],
}

impl SharedIndex {
    /// Reads a shared index. `None` if it was caught while it changed, or says nothing.
    pub(super) fn parse(start: &[u8]) -> Option<Self> {
        let (first, second) = (start.get(..48)?, start.get(48..96)?);
        let native = |at: usize| Some(u32::from_ne_bytes(first.get(at..at + 4)?.try_into().ok()?));
        let checked = checksum(first.get(..40)?, cfg!(target_endian = "big"), (0, 0));
        let whole = first == second && first.get(12) == Some(&1) && native(0)? == 3_007_000;
        if !whole || checked != (native(40)?, native(44)?) {
            return None;
        }
        Some(Self {
            frames: native(16)?,
            copied: u32::from_ne_bytes(start.get(96..100)?.try_into().ok()?),
            salts: first.get(32..40)?.try_into().ok()?,
        })
    }

    /// Frames that are in the log and not yet in the database, if there are any.
    pub(super) fn pending(&self) -> Option<u32> {
        self.frames.checked_sub(self.copied).filter(|pending| *pending > 0)
    }
}

/// The big-endian number at `at`; zero behind the end.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    u32::from_be_bytes(four.unwrap_or_default())
}
