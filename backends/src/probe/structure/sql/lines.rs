//! Lines of any length in bounded memory.

use std::io::{self, BufRead};

use crate::probe::structure::input::Input;

/// How much of the beginning of a line is kept: enough for every line that means anything.
const KEPT: usize = 2048;

/// One line, without its end. What is longer than [`KEPT`] is known by beginning and end only.
#[derive(Default)]
pub(super) struct Line {
    head: Vec<u8>,
    tail: Vec<u8>,
    whole: bool,
}

impl Line {
    /// Reads the next line, and shows each piece of it to `see`; false at the end of the input.
    pub(super) fn next(&mut self, input: &mut Input<'_>, mut see: impl FnMut(&[u8])) -> io::Result<bool> {
        self.head.clear();
        self.tail.clear();
        self.whole = true;
        let mut any = false;
        loop {
            let bytes = input.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            any = true;
            let mut rest = bytes;
            let taken = rest.skip_until(b'\n')?;
            let piece = bytes.get(..taken).unwrap_or_default();
            see(piece);
            let ended = piece.last() == Some(&b'\n');
            self.keep(piece.strip_suffix(b"\n").unwrap_or(piece));
            input.consume(taken);
            if ended {
                break;
            }
        }
        if self.head.last() == Some(&b'\r') {
            self.head.pop();
        }
        Ok(any)
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = (KEPT - self.head.len()).min(piece.len());
        let (first, rest) = piece.split_at(room);
        self.head.extend_from_slice(first);
        if !rest.is_empty() {
            self.whole = false;
            let last = rest.len().saturating_sub(32);
            self.tail.extend_from_slice(rest.get(last..).unwrap_or_default());
            let excess = self.tail.len().saturating_sub(32);
            self.tail.drain(..excess);
        }
    }

    /// The whole line, or its beginning.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether the line is exactly `text`.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        self.whole && self.head == text
    }

    pub(super) fn ends_with(&self, text: &[u8]) -> bool {
        if self.whole { self.head.ends_with(text) } else { self.tail.ends_with(text) }
    }
}
