//! Bounded reading that tells damage from our own trouble.
//!
//! Layers are stacked: a file, a decoder over it, an archive member in that, a decoder again. Each layer
//! is an [`Input`]. The layer in which an error arises records it (a finding for a decoder, an
//! interruption for a file) and hands a "reported" error upwards, so that nothing is filed twice and
//! nothing that we could not read is ever filed as damage.

use std::fs::File;
use std::io::{self, BufRead, Read};

use super::context::{Context, is_reported, reported};

/// Bytes held per layer.
const BUFFER: usize = 64 * 1024;

/// Whose errors the reader below returns.
enum Origin {
    /// The file system's: our trouble.
    File,
    /// A decoder's: damage, under this probe's name.
    Decoder(&'static str),
    /// Nobody's: a window onto another layer.
    Part,
}

/// A buffered stream of one layer.
pub(super) struct Input<'a> {
    context: &'a Context<'a>,
    reader: Box<dyn Read + 'a>,
    origin: Origin,
    location: String,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    offset: u64,
    ended: bool,
    failed: bool,
}

impl<'a> Input<'a> {
    /// A file on disk.
    pub(super) fn file(context: &'a Context<'a>, file: File, location: &str) -> Self {
        Self::new(context, Box::new(file), Origin::File, location)
    }

    /// The output of a decoder whose errors are damage, filed as `probe.truncated` or `probe.damaged`.
    pub(super) fn decoder(
        context: &'a Context<'a>,
        reader: impl Read + 'a,
        probe: &'static str,
        location: &str,
    ) -> Self {
        Self::new(context, Box::new(reader), Origin::Decoder(probe), location)
    }

    /// A window onto another layer, which reports its own errors.
    pub(super) fn part(context: &'a Context<'a>, reader: impl Read + 'a, location: &str) -> Self {
        Self::new(context, Box::new(reader), Origin::Part, location)
    }

    fn new(context: &'a Context<'a>, reader: Box<dyn Read + 'a>, origin: Origin, location: &str) -> Self {
        Self {
            context,
            reader,
            origin,
            location: location.to_owned(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            offset: 0,
            ended: false,
            failed: false,
        }
    }

    /// How many bytes were taken so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next `wanted` bytes without taking them; fewer only at the end. At most half a buffer.
    pub(super) fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        let wanted = wanted.min(BUFFER / 2);
        while self.end - self.start < wanted && !self.ended {
            self.fill()?;
        }
        let end = self.end.min(self.start + wanted);
        Ok(self.buffer.get(self.start..end).unwrap_or_default())
    }

    /// Reads until `into` is full or the stream ends; returns how much was read.
    pub(super) fn read_full(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read(rest)? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    /// Reads exactly `N` bytes, or `None` when the stream ends before.
    pub(super) fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        Ok((self.read_full(&mut bytes)? == N).then_some(bytes))
    }

    /// Skips up to `bytes`; returns how many there were.
    pub(super) fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let mut left = bytes;
        while left > 0 {
            let here = self.fill_buf()?.len() as u64;
            if here == 0 {
                break;
            }
            let step = here.min(left);
            self.consume(usize::try_from(step).unwrap_or(usize::MAX));
            left -= step;
        }
        Ok(bytes - left)
    }

    /// Reads to the end; returns how many bytes there were.
    pub(super) fn drain(&mut self) -> io::Result<u64> {
        self.skip(u64::MAX)
    }

    /// Appends to the buffer.
    fn fill(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(reported());
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.context.proceed()?;
        let Some(room) = self.buffer.get_mut(self.end..).filter(|room| !room.is_empty()) else {
            return Ok(());
        };
        match self.reader.read(room) {
            Ok(0) => self.ended = true,
            Ok(n) => {
                self.end += n;
                if matches!(self.origin, Origin::Decoder(_)) {
                    self.context.decoded(n, &self.location)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(self.fail(error)),
        }
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failed = true;
        // A decoder may wrap what it got from beneath; nothing is damaged because we had to stop.
        if is_reported(&error) || self.context.proceed().is_err() {
            return reported();
        }
        match self.origin {
            Origin::File | Origin::Part => {
                self.context.interrupt(format!("failed to read {}: {error}", self.location));
            }
            Origin::Decoder(probe) if super::codec::is_memory_limit(&error) => {
                self.context.interrupt(format!(
                    "{} needs more memory to decompress than firedrill gives to {probe}: {error}",
                    self.location
                ));
            }
            Origin::Decoder(probe) => {
                let place = self.offset + (self.end - self.start) as u64;
                let what = if error.kind() == io::ErrorKind::UnexpectedEof { "truncated" } else { "damaged" };
                self.context.damage(
                    &format!("{probe}.{what}"),
                    &self.location,
                    "a stream that decompresses to its end",
                    format!("{what} after {place} decompressed bytes: {error}"),
                );
            }
        }
        reported()
    }
}

impl Read for Input<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let n = available.read(into)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.start == self.end && !self.ended {
            self.start = 0;
            self.end = 0;
            self.fill()?;
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        let n = n.min(self.end - self.start);
        self.start += n;
        self.offset += n as u64;
    }
}
