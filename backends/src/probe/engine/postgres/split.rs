//! Cuts a dump into statements, `COPY` data and meta-commands, in bounded memory.
//!
//! It follows psql's lexer as far as statements end: quotes, `E''` strings, dollar quotes, nested comments,
//! parentheses, `BEGIN ATOMIC ... END` in functions. Bytes stay bytes, whatever their encoding. Nothing is
//! interpreted: a meta-command is told, and whoever reads decides.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memchr2, memmem};

use super::shape::{Marks, Shape};

/// Bytes that are read at a time, and the size of a block of `COPY` data.
const BLOCK: usize = 256 << 10;
/// The longest statement that is taken; the server itself refuses one of a gigabyte.
const STATEMENT_MAX: usize = 256 << 20;
/// The longest meta-command, comment or tag of a dollar quote that is looked at.
const LINE_MAX: usize = 1024;

/// One piece of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A statement, without the semicolon at its end.
    Statement {
        /// The line on which it begins.
        line: u64,
        /// Its bytes, in the encoding of the dump.
        text: Vec<u8>,
        /// Whether it is a `COPY ... FROM stdin`: then data follows.
        copy: bool,
    },
    /// Some of the data of the `COPY` before: whole lines, unless one is very long.
    Data(Vec<u8>),
    /// The `\.` behind the data.
    DataEnd,
    /// A backslash outside of strings and data, with the rest of its line.
    Meta {
        /// The line on which it stands.
        line: u64,
        /// The command, from its backslash on, cut when it is very long.
        text: Vec<u8>,
        /// Whether a statement had begun before it.
        inside: bool,
    },
    /// The end of the dump.
    End(End),
}

/// How a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Between two statements, and every end marker was there.
    Whole,
    /// Inside a statement that began on this line.
    InStatement(u64),
    /// Inside the data of a `COPY`, on this line.
    InData(u64),
    /// Between two statements, and this is missing.
    NoMarker(&'static str),
}

/// Why a dump cannot be cut further.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Its reader failed.
    Read(io::Error),
    /// A statement that begins on this line is longer than what is taken.
    TooLong(u64),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Cuts what a reader gives.
pub(super) struct Splitter<R> {
    reader: R,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
    /// Why its reader failed, until that is told.
    failed: Option<io::Error>,
    line: u64,
    in_data: bool,
    line_begins: bool,
    escapes: bool,
    double_bytes: bool,
    marks: Marks,
}

impl<R: Read> Splitter<R> {
    /// Cuts what `reader` gives.
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            at: 0,
            ended: false,
            failed: None,
            line: 1,
            in_data: false,
            line_begins: true,
            escapes: false,
            double_bytes: false,
            marks: Marks::default(),
        }
    }

    /// The next piece. Behind [`Piece::End`] there is nothing more to ask for.
    pub(super) fn next(&mut self) -> Result<Piece, Trouble> {
        if self.line == 1 && self.at == 0 && self.ahead(3)? == b"\xef\xbb\xbf" {
            self.advance(3);
        }
        if self.in_data {
            return self.data();
        }
        loop {
            match self.ahead(2)? {
                [] => return Ok(Piece::End(self.marks.end())),
                [b' ' | b'\t' | b'\r' | b'\n' | 0x0c | 0x0b, ..] => self.advance(1),
                // An empty statement.
                [b';', ..] => self.advance(1),
                b"--" => {
                    let mut text = Vec::new();
                    // As for psql, also a lone carriage return ends it.
                    self.up_to(&mut text, |rest| memchr2(b'\n', b'\r', rest))?;
                    self.marks.comment(&text);
                }
                b"/*" => {
                    let began = self.line;
                    if !self.block_comment(&mut Vec::new())? {
                        return Ok(Piece::End(End::InStatement(began)));
                    }
                }
                [b'\\', ..] => return self.meta(false),
                _ => return self.statement(),
            }
        }
    }

    // ---- bytes ----

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Reads more behind what is there; `false` at the end.
    fn fill(&mut self) -> Result<bool, Trouble> {
        if self.ended {
            return Ok(false);
        }
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        if let Some(error) = self.failed.take() {
            self.ended = true;
            return Err(error.into());
        }
        // Pipes and decoders give little at a time. What came before an error is looked at before it is told.
        match (&mut self.reader).take(BLOCK as u64).read_to_end(&mut self.buffer) {
            Ok(read) => self.ended = read == 0,
            Err(error) => self.failed = Some(error),
        }
        Ok(!self.ended)
    }

    /// The next `wanted` bytes without taking them; fewer at the end.
    fn ahead(&mut self, wanted: usize) -> Result<&[u8], Trouble> {
        while self.rest().len() < wanted && self.fill()? {}
        let rest = self.rest();
        Ok(rest.get(..wanted).unwrap_or(rest))
    }

    fn advance(&mut self, bytes: usize) {
        let end = self.at.saturating_add(bytes).min(self.buffer.len());
        let passed = self.buffer.get(self.at..end).unwrap_or_default();
        self.line += memchr_iter(b'\n', passed).count() as u64;
        self.at = end;
    }

    /// Moves `bytes` to `text`.
    fn take(&mut self, bytes: usize, text: &mut Vec<u8>) {
        let rest = self.rest();
        let taken = rest.get(..bytes).unwrap_or(rest);
        text.extend_from_slice(taken);
        let length = taken.len();
        self.advance(length);
    }

    /// Moves what comes to `text` until `find` finds something in it. `false`: the dump ended before.
    fn take_until(
        &mut self,
        text: &mut Vec<u8>,
        began: u64,
        find: impl Fn(&[u8]) -> Option<usize>,
    ) -> Result<bool, Trouble> {
        loop {
            if let Some(at) = find(self.rest()) {
                self.take(at, text);
                return Ok(true);
            }
            self.take(usize::MAX, text);
            if text.len() > STATEMENT_MAX {
                return Err(Trouble::TooLong(began));
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    /// Takes the rest of the line without its end; of a very long one only the beginning is kept.
    fn rest_of_line(&mut self, text: &mut Vec<u8>) -> Result<(), Trouble> {
        self.up_to(text, |rest| memchr(b'\n', rest))
    }

    fn up_to(&mut self, text: &mut Vec<u8>, find: impl Fn(&[u8]) -> Option<usize>) -> Result<(), Trouble> {
        loop {
            let rest = self.rest();
            let end = find(rest);
            let length = end.unwrap_or(rest.len());
            let room = LINE_MAX.saturating_sub(text.len());
            text.extend_from_slice(rest.get(..length.min(room)).unwrap_or_default());
            self.advance(length);
            if end.is_some() || !self.fill()? {
                return Ok(());
            }
        }
    }

    // ---- statements ----

    fn statement(&mut self) -> Result<Piece, Trouble> {
        let line = self.line;
        let mut text = Vec::new();
        let mut shape = Shape::default();
        loop {
            if text.len() > STATEMENT_MAX {
                return Err(Trouble::TooLong(line));
            }
            let (byte, next) = match self.ahead(2)? {
                [] => return Ok(Piece::End(End::InStatement(line))),
                [byte] => (*byte, 0),
                [byte, next, ..] => (*byte, *next),
            };
            let closed = match (byte, next) {
                (b';', _) if shape.parentheses == 0 && shape.begins == 0 => {
                    self.advance(1);
                    return self.finished(line, text, &shape);
                }
                (b'\'', _) => {
                    let escapes = self.escapes || shape.last == b"e" && is_string_prefix(&text);
                    self.string(&mut text, line, escapes)?
                }
                (b'"', _) => {
                    self.take(1, &mut text);
                    let closed = self.take_until(&mut text, line, |rest| memchr(b'"', rest))?;
                    self.take(1, &mut text);
                    closed
                }
                (b'$', _) => self.dollar(&mut text, line)?,
                (b'-', b'-') => {
                    // Not LINE_MAX bounded: a comment is part of the statement.
                    self.take_until(&mut text, line, |rest| memchr2(b'\n', b'\r', rest))?;
                    true
                }
                (b'/', b'*') => self.block_comment(&mut text)?,
                // psql takes `\;` and `\:` for the bare character; nothing that dumps writes so.
                (b'\\', _) => return self.meta(true),
                (byte, _) if is_word_start(byte) => {
                    self.word(&mut text, &mut shape)?;
                    true
                }
                (byte, _) => {
                    match byte {
                        b'(' => shape.parentheses = shape.parentheses.saturating_add(1),
                        b')' => shape.parentheses = shape.parentheses.saturating_sub(1),
                        _ => {}
                    }
                    self.take(1, &mut text);
                    true
                }
            };
            if !closed {
                return Ok(Piece::End(End::InStatement(line)));
            }
        }
    }

    fn word(&mut self, text: &mut Vec<u8>, shape: &mut Shape) -> Result<(), Trouble> {
        let begin = text.len();
        loop {
            let rest = self.rest();
            let mut length = 0;
            while let Some(byte) = rest.get(length).filter(|byte| is_word(**byte)) {
                length += 1 + usize::from(self.double_bytes && *byte >= 0x81);
            }
            let length = length.min(rest.len());
            let whole = length < rest.len();
            self.take(length, text);
            if whole || text.len() > STATEMENT_MAX || !self.fill()? {
                break;
            }
        }
        shape.word(text.get(begin..).unwrap_or_default());
        Ok(())
    }

    fn string(&mut self, text: &mut Vec<u8>, began: u64, escapes: bool) -> Result<bool, Trouble> {
        self.take(1, text);
        loop {
            let double_bytes = self.double_bytes;
            let found = self.take_until(text, began, |rest| {
                if double_bytes {
                    rest.iter().position(|byte| *byte >= 0x81 || matches!(byte, b'\'' | b'\\'))
                } else if escapes {
                    memchr2(b'\'', b'\\', rest)
                } else {
                    memchr(b'\'', rest)
                }
            })?;
            if !found {
                return Ok(false);
            }
            let byte = self.ahead(1)?.first().copied().unwrap_or(0);
            match byte {
                b'\'' => {
                    self.take(1, text);
                    return Ok(true);
                }
                b'\\' if !escapes => self.take(1, text),
                // A backslash or the first half of a character takes the next byte with it.
                _ => {
                    if self.ahead(2)?.len() < 2 {
                        return Ok(false);
                    }
                    self.take(2, text);
                }
            }
        }
    }

    fn dollar(&mut self, text: &mut Vec<u8>, began: u64) -> Result<bool, Trouble> {
        let ahead = self.ahead(LINE_MAX)?;
        let name = ahead.get(1..).unwrap_or_default();
        let length = name.iter().take_while(|byte| is_word(**byte) && **byte != b'$').count();
        let starts_well = name.first().is_none_or(|byte| !byte.is_ascii_digit());
        if name.get(length) != Some(&b'$') || !starts_well {
            self.take(1, text);
            return Ok(true);
        }
        let tag = ahead.get(..length + 2).unwrap_or_default().to_vec();
        self.take(tag.len(), text);
        let finder = memmem::Finder::new(&tag);
        loop {
            if let Some(at) = finder.find(self.rest()) {
                self.take(at + tag.len(), text);
                return Ok(true);
            }
            // The tag may be cut by the end of the block.
            let safe = self.rest().len().saturating_sub(tag.len());
            self.take(safe, text);
            if text.len() > STATEMENT_MAX {
                return Err(Trouble::TooLong(began));
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    fn block_comment(&mut self, text: &mut Vec<u8>) -> Result<bool, Trouble> {
        let began = self.line;
        let mut depth = 0_u32;
        loop {
            match self.ahead(2)? {
                b"/*" => {
                    depth = depth.saturating_add(1);
                    self.take(2, text);
                }
                b"*/" => {
                    depth -= 1;
                    self.take(2, text);
                    if depth == 0 {
                        return Ok(true);
                    }
                }
                [_, _] => self.take(1, text),
                _ => return Ok(false),
            }
            if text.len() > STATEMENT_MAX {
                return Err(Trouble::TooLong(began));
            }
        }
    }

    fn finished(&mut self, line: u64, text: Vec<u8>, shape: &Shape) -> Result<Piece, Trouble> {
        let copy = shape.is_copy();
        if copy {
            // The data begins on the next line.
            let mut rest = Vec::new();
            self.rest_of_line(&mut rest)?;
            if self.ahead(1)?.is_empty() {
                return Ok(Piece::End(End::InData(line)));
            }
            self.advance(1);
            self.in_data = true;
            self.line_begins = true;
        }
        if shape.first == b"set" {
            self.setting(&text);
        }
        Ok(Piece::Statement { line, text, copy })
    }

    /// Follows the settings that change where statements end.
    fn setting(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text.get(..200).unwrap_or(text)).to_ascii_lowercase();
        let value = |name: &str| {
            let (_, value) = text.split_once(name)?;
            Some(value.trim_start_matches([' ', '=', '\'']).trim_start_matches("to ").to_owned())
        };
        if let Some(value) = value("standard_conforming_strings") {
            self.escapes = value.starts_with("off") || value.starts_with("false");
        }
        if let Some(value) = value("client_encoding") {
            // In these the second byte of a character may be a backslash.
            let value = value.trim_start_matches([' ', '\'']);
            let kinds = ["sjis", "shift_jis", "big5", "gbk", "uhc", "gb18030", "johab"];
            self.double_bytes = kinds.iter().any(|kind| value.starts_with(kind));
        }
    }

    fn meta(&mut self, inside: bool) -> Result<Piece, Trouble> {
        let line = self.line;
        let mut text = Vec::new();
        self.rest_of_line(&mut text)?;
        if !inside {
            self.marks.meta(&text);
            // A new session has its own settings.
            self.double_bytes &= !text.starts_with(b"\\encoding") && !text.starts_with(b"\\connect");
            self.escapes &= !text.starts_with(b"\\connect");
        }
        Ok(Piece::Meta { line, text, inside })
    }

    // ---- data ----

    fn data(&mut self) -> Result<Piece, Trouble> {
        // Enough to see whether a line that begins here is the last one.
        if self.line_begins {
            let ahead = self.ahead(4)?;
            if ahead.starts_with(b"\\.\n") || ahead.starts_with(b"\\.\r\n") || ahead == b"\\." {
                let mut text = Vec::new();
                self.rest_of_line(&mut text)?;
                self.in_data = false;
                return Ok(Piece::DataEnd);
            }
        }
        while self.rest().len() < BLOCK / 2 && self.fill()? {}
        let rest = self.rest();
        if rest.is_empty() {
            return Ok(Piece::End(End::InData(self.line)));
        }
        let last = memmem::find_iter(rest, b"\n\\.")
            .find(|at| matches!(rest.get(at + 3..), Some([] | [b'\n', ..] | [b'\r', ..])));
        // Up to the last line, or else whole lines, or else whatever there is of a very long one.
        let length = match last {
            Some(at) => at + 1,
            None => memchr::memrchr(b'\n', rest).map_or(rest.len(), |at| at + 1),
        };
        if last.is_none() && self.ended && length < self.rest().len() {
            // A last line without its end is no row.
            let block = self.rest().to_vec();
            self.advance(block.len());
            return Ok(Piece::Data(block));
        }
        let mut block = Vec::with_capacity(length);
        self.take(length, &mut block);
        self.line_begins = block.last() == Some(&b'\n');
        Ok(Piece::Data(block))
    }
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// Whether the text ends in a lone `E`, so that the string behind it knows escapes.
fn is_string_prefix(text: &[u8]) -> bool {
    match text {
        [.., before, b'e' | b'E'] => !is_word(*before),
        [b'e' | b'E'] => true,
        _ => false,
    }
}
