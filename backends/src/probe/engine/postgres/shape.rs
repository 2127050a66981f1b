//! What tells where statements, and whole dumps, end.

use super::split::End;

/// Headers and end markers that were seen.
#[derive(Default)]
pub(super) struct Marks {
    dumps_open: bool,
    clusters_open: bool,
    restricted: bool,
}

impl Marks {
    pub(super) fn comment(&mut self, text: &[u8]) {
        match text.trim_ascii_end() {
            b"-- PostgreSQL database dump" => self.dumps_open = true,
            b"-- PostgreSQL database cluster dump" => self.clusters_open = true,
            b"-- PostgreSQL database dump complete" => self.dumps_open = false,
            b"-- PostgreSQL database cluster dump complete" => self.clusters_open = false,
            _ => {}
        }
    }

    pub(super) fn meta(&mut self, text: &[u8]) {
        if text.starts_with(b"\\restrict") {
            self.restricted = true;
        } else if text.starts_with(b"\\unrestrict") {
            self.restricted = false;
        }
    }

    pub(super) fn end(&self) -> End {
        if self.dumps_open {
            End::NoMarker("-- PostgreSQL database dump complete")
        } else if self.clusters_open {
            End::NoMarker("-- PostgreSQL database cluster dump complete")
        } else if self.restricted {
            End::NoMarker("\\unrestrict")
        } else {
            End::Whole
        }
    }
}

/// What tells where a statement ends, as psql has it.
#[derive(Default)]
pub(super) struct Shape {
    words: [u8; 4],
    count: usize,
    pub(super) first: Vec<u8>,
    pub(super) last: Vec<u8>,
    pub(super) parentheses: u32,
    pub(super) begins: u32,
    from_stdin: bool,
}

impl Shape {
    pub(super) fn word(&mut self, word: &[u8]) {
        let lower: Vec<u8> = word.iter().take(16).map(u8::to_ascii_lowercase).collect();
        let known: [&[u8]; 5] = [b"create", b"function", b"procedure", b"or", b"replace"];
        if let Some(slot) = self.words.get_mut(self.count) {
            *slot =
                if known.contains(&lower.as_slice()) { lower.first().copied().unwrap_or(0) } else { b'-' };
        }
        if self.count == 0 {
            self.first.clone_from(&lower);
        }
        self.count += 1;
        let routine = matches!(self.words, [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']);
        if routine && self.parentheses == 0 {
            match lower.as_slice() {
                b"begin" => self.begins += 1,
                b"case" if self.begins > 0 => self.begins += 1,
                b"end" => self.begins = self.begins.saturating_sub(1),
                _ => {}
            }
        }
        self.from_stdin |= self.parentheses == 0 && self.last == b"from" && lower == b"stdin";
        self.last = lower;
    }

    pub(super) fn is_copy(&self) -> bool {
        self.first == b"copy" && self.from_stdin
    }
}
