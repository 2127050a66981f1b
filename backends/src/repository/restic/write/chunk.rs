//! Cuts content into chunks where restic would cut it: chunks that it stored are found again.

use std::io::{self, Read};

use rustic_cdc::{Rabin64, RollingHash64 as _};

/// No chunk but the last is smaller.
const MIN: usize = 512 << 10;
/// No chunk is larger.
const MAX: usize = 8 << 20;
/// On average a chunk is as long as this mask allows: 1 MiB.
const MASK: u64 = (1 << 20) - 1;
/// Bits of the number of bytes that are looked at to decide on a cut.
const WINDOW_BITS: u32 = 6;
const WINDOW: usize = 1 << WINDOW_BITS;
const BUFFER: usize = 64 << 10;

/// A chunker for the polynomial of one repository. Making one takes longer than using it.
#[derive(Clone)]
pub(super) struct Chunker(Rabin64);

impl Chunker {
    pub(super) fn new(polynomial: u64) -> Self {
        Self(Rabin64::new_with_polynom(WINDOW_BITS, &polynomial))
    }

    /// The chunks of `source`.
    pub(super) fn cut<R: Read>(&mut self, source: R) -> Chunks<'_, R> {
        Chunks { hash: &mut self.0, source, buffer: vec![0; BUFFER], start: 0, end: 0, ended: false }
    }
}

/// An iteration over chunks.
pub(super) struct Chunks<'a, R> {
    hash: &'a mut Rabin64,
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

impl<R: Read> Chunks<'_, R> {
    /// What is buffered; empty only at the end.
    fn filled(&mut self) -> io::Result<&[u8]> {
        while self.start == self.end && !self.ended {
            match self.source.read(&mut self.buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => (self.start, self.end) = (0, count.min(BUFFER)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    /// The next chunk; nothing at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut chunk = Vec::new();
        while chunk.len() < MIN {
            let room = MIN - chunk.len();
            let part = self.filled()?;
            let part = part.get(..part.len().min(room)).unwrap_or_default();
            if part.is_empty() {
                return Ok((!chunk.is_empty()).then_some(chunk));
            }
            chunk.extend_from_slice(part);
            self.start += part.len();
        }
        let window = chunk.get(chunk.len() - WINDOW..).unwrap_or_default();
        self.hash.reset_and_prefill_window(&mut window.iter().copied());
        while chunk.len() < MAX && self.hash.hash & MASK != 0 {
            let room = MAX - chunk.len();
            self.filled()?;
            let part = self.buffer.get(self.start..self.end.min(self.start + room)).unwrap_or_default();
            if part.is_empty() {
                break;
            }
            let mut taken = 0;
            for byte in part {
                self.hash.slide(*byte);
                taken += 1;
                if self.hash.hash & MASK == 0 {
                    break;
                }
            }
            chunk.extend_from_slice(part.get(..taken).unwrap_or_default());
            self.start += taken;
        }
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunker, MAX, MIN};

    fn random(count: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let step = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..count).map(step).collect()
    }

    fn lengths(content: &[u8]) -> Vec<usize> {
        let mut chunker = Chunker::new(0x003D_A335_8B4D_C173);
        let mut chunks = chunker.cut(content);
        let mut all = Vec::new();
        let mut lengths = Vec::new();
        while let Some(chunk) = chunks.next().unwrap() {
            lengths.push(chunk.len());
            all.extend(chunk);
        }
        assert!(all == content);
        lengths
    }

    #[test]
    fn chunks_add_up_and_keep_their_limits() {
        assert!(lengths(b"").is_empty());
        assert_eq!(lengths(b"x"), [1]);
        let found = lengths(&random(20 << 20));
        assert!(found.len() > 8 && found.iter().rev().skip(1).all(|n| (MIN..=MAX).contains(n)), "{found:?}");
    }

    #[test]
    fn cuts_move_with_the_content() {
        let content = random(12 << 20);
        let moved = [b"something before", content.as_slice()].concat();
        let (plain, moved) = (lengths(&content), lengths(&moved));
        assert_eq!(plain.last(), moved.last());
    }
}
