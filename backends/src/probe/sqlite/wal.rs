//! A reader of write-ahead logs that notices more than SQLite does: SQLite silently takes the first frame
//! that does not fit for the end of the log.

use std::io::{self, BufReader, Read};

use firedrill_core::watch::Watch;

use super::header::{Header, SharedIndex, be32};

const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
/// How often the watch is asked, in frames.
const WATCHED: u64 = 256;
/// Generations of a log are numbered by its first salt. Frames of that many earlier ones are left-overs.
const GENERATIONS: u32 = 1 << 20;
/// The index may be a moment ahead of the log in a copy of a busy database: so many frames mean nothing.
const AHEAD: u64 = 8;

/// What is known of a write-ahead log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// There is none.
    Absent,
    /// It holds nothing yet.
    Empty,
    /// It cannot be read at all.
    Unusable(&'static str),
    /// It has a good header.
    Frames(Frames),
}

/// The frames of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    page_size: u64,
    salts: [u8; 8],
    /// Whole frames from the start whose salts and checksums fit.
    valid: u64,
    /// Those up to the last commit.
    committed: u64,
    /// Change counters of the first and the last committed version of page 1.
    counters: Option<(u32, u32)>,
    /// Behind the last valid frame.
    behind: Behind,
}

/// What follows the last valid frame.
#[derive(Debug, Default, PartialEq, Eq)]
enum Behind {
    /// Nothing, or what is left of an earlier generation.
    #[default]
    Nothing,
    /// A frame that does not fit, and this many commits of the same generation.
    Commits { bad: u64, lost: u64 },
    /// Frames of an earlier generation, then newer ones: it was overwritten while it was copied.
    Overtaken,
}

impl Log {
    /// Reads a log of `size` bytes from its start.
    pub(super) fn read(file: impl Read, size: u64, watch: &Watch) -> io::Result<Self> {
        if size == 0 {
            return Ok(Self::Empty);
        }
        let mut file = BufReader::with_capacity(256 * 1024, file);
        let mut header = [0; LOG_HEADER];
        if !fill(&mut file, &mut header)? {
            return Ok(Self::Empty);
        }
        let page_size = be32(&header, 8);
        let magic = be32(&header, 0);
        if header == [0; LOG_HEADER] {
            // After a crash a file can be longer than what was written to it.
            let mut rest = [0; FRAME_HEADER];
            let zero = !fill(&mut file, &mut rest)? || rest == [0; FRAME_HEADER];
            return Ok(if zero { Self::Empty } else { Self::Unusable("its header is zero") });
        }
        if magic & !1 != MAGIC {
            return Ok(Self::Unusable("it does not start like a write-ahead log"));
        }
        if !(512..=65_536).contains(&page_size) || !page_size.is_power_of_two() {
            return Ok(Self::Unusable("its page size is none"));
        }
        let big = magic & 1 == 1;
        let sum = checksum(header.get(..24).unwrap_or_default(), big, (0, 0));
        if sum != (be32(&header, 24), be32(&header, 28)) {
            return Ok(Self::Unusable("the checksum of its header is wrong"));
        }
        if be32(&header, 4) != VERSION {
            return Ok(Self::Unusable("its version is not known"));
        }
        let mut salts = [0; 8];
        salts.copy_from_slice(header.get(16..24).unwrap_or(&[0; 8]));
        Frames::read(file, page_size, salts, big, sum, watch).map(Self::Frames)
    }

    /// Whether there is a log with anything in it.
    pub(super) fn present(&self) -> bool {
        matches!(self, Self::Unusable(_) | Self::Frames(_))
    }

    /// Whether the log adds to the database.
    pub(super) fn committed(&self) -> bool {
        matches!(self, Self::Frames(frames) if frames.committed > 0)
    }

    /// The change counter of the database with this log.
    pub(super) fn counter(&self) -> Option<u32> {
        match self {
            Self::Frames(frames) => frames.counters.map(|(_, last)| last),
            _ => None,
        }
    }

    /// What is wrong with this log beside a database with `header`.
    pub(super) fn wrong_for(&self, header: &Header, index: Option<&SharedIndex>) -> Option<String> {
        let frames = match self {
            Self::Absent | Self::Empty => return None,
            Self::Unusable(why) => return Some(format!("a log that cannot be read: {why}")),
            Self::Frames(frames) => frames,
        };
        if frames.page_size != header.page_size {
            let (own, other) = (frames.page_size, header.page_size);
            return Some(format!("a log with pages of {own} bytes beside a database with pages of {other}"));
        }
        if let Behind::Commits { bad, lost } = frames.behind {
            return Some(format!(
                "frame {bad} is damaged, and {lost} committed transactions behind it are lost"
            ));
        }
        frames.of_another_time(header).or_else(|| frames.shorter_than(index?))
    }

    /// What is worth knowing and normal.
    pub(super) fn note(&self) -> Option<String> {
        let Self::Frames(frames) = self else { return None };
        if frames.behind == Behind::Overtaken {
            return Some("it was started anew while it was copied".to_owned());
        }
        let tail = frames.valid - frames.committed;
        (tail > 0).then(|| format!("{tail} frames of a transaction that was not committed"))
    }
}

impl Frames {
    fn read(
        mut file: impl Read,
        page_size: u32,
        salts: [u8; 8],
        big: bool,
        mut sum: (u32, u32),
        watch: &Watch,
    ) -> io::Result<Self> {
        let mut frames = Self { page_size: u64::from(page_size), salts, ..Self::default() };
        let mut frame = vec![0; FRAME_HEADER + page_size as usize];
        let (mut number, mut first_bad, mut counters) = (0, None, None);
        let mut later = 0;
        while fill(&mut file, &mut frame)? {
            number += 1;
            if number % WATCHED == 0 {
                watch.check().map_err(|error| io::Error::other(error.chain()))?;
            }
            let (head, page) = frame.split_at(FRAME_HEADER);
            let own = head.get(8..16) == Some(salts.as_slice()) && be32(head, 0) > 0;
            let commits = be32(head, 4) > 0;
            if first_bad.is_some() {
                later += u64::from(own && commits);
                continue;
            }
            sum = checksum(page, big, checksum(head.get(..8).unwrap_or_default(), big, sum));
            if !own || sum != (be32(head, 16), be32(head, 20)) {
                first_bad = Some((number, left_over(&salts, head)));
                continue;
            }
            frames.valid = number;
            if be32(head, 0) == 1 {
                let counter = be32(page, 24);
                counters = Some((counters.map_or(counter, |(first, _)| first), counter));
            }
            if commits {
                frames.committed = number;
                frames.counters = counters;
            }
        }
        frames.behind = match first_bad {
            Some((bad, false)) if later > 0 => Behind::Commits { bad, lost: later },
            Some((_, true)) if later > 0 => Behind::Overtaken,
            _ => Behind::Nothing,
        };
        Ok(frames)
    }

    /// A log from another moment than the database: opening the two together would destroy data. The first
    /// page carries a counter in both.
    fn of_another_time(&self, header: &Header) -> Option<String> {
        let (first, last) = self.counters?;
        let main = header.change_counter;
        // What the log holds is copied to the database, never the other way round.
        if newer(main, last) {
            return Some(format!("a log that ends at change {last} beside a database at change {main}"));
        }
        // Each log starts where the database stood.
        if newer(first, main.wrapping_add(1)) {
            return Some(format!("a log that starts at change {first} beside a database at change {main}"));
        }
        None
    }

    fn shorter_than(&self, index: &SharedIndex) -> Option<String> {
        let known = u64::from(index.frames);
        let lost = known.checked_sub(self.committed)?;
        let much = lost > AHEAD && lost.saturating_mul(4) > known;
        (index.salts == self.salts && much)
            .then(|| format!("{} committed frames, although the -shm knows of {known}", self.committed))
    }
}

/// Whether counter `a` is behind counter `b` in a count that wraps round.
fn newer(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

/// Whether a frame was written before the log was last started anew.
fn left_over(salts: &[u8; 8], head: &[u8]) -> bool {
    let age = be32(salts, 0).wrapping_sub(be32(head, 8));
    // The second salt is random: a frame in which only the first differs is damaged.
    (1..=GENERATIONS).contains(&age) && salts.get(4..8) != head.get(12..16)
}

/// Fills all of `buffer`, or says that the file ends before.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The checksum of write-ahead logs and shared indexes, continued from `sum`.
pub(super) fn checksum(bytes: &[u8], big: bool, sum: (u32, u32)) -> (u32, u32) {
    let number = |four: &[u8]| {
        let four: [u8; 4] = four.try_into().unwrap_or_default();
        if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    };
    bytes.chunks_exact(8).fold(sum, |(a, b), eight| {
        let (left, right) = eight.split_at(4);
        let a = a.wrapping_add(number(left)).wrapping_add(b);
        (a, b.wrapping_add(number(right)).wrapping_add(a))
    })
}
