//! Whether a stream is whole, by what its format promises.
//!
//! Exit codes are not enough: a connection that breaks in between (`kubectl exec`, `ssh` with a shell pipe behind it)
//! can end a dump early and with 0. SQL says on its last lines that it is complete. Archives and xbstreams have no
//! such line; they are followed from part to part, without keeping any of it.

mod archive;
mod xbstream;

use std::collections::VecDeque;
use std::io::{self, Read};

/// So much of the end of a stream is looked at.
const END: usize = 2048;

/// Follows a stream that comes in pieces.
trait Follow: Send {
    /// The next piece; why it cannot be what it should be.
    fn take(&mut self, piece: &[u8]) -> Result<(), String>;
    /// The stream is over: why it cannot be over here.
    fn end(&mut self) -> Result<(), String>;
}

/// What a stream must be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Any,
    Archive,
    Xbstream,
}

/// What a stream must have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    /// At least this many bytes.
    least: u64,
    kind: Kind,
    /// What a line near its end begins with.
    ends: Option<&'static str>,
}

impl Whole {
    /// Any stream of at least so many bytes.
    pub(super) fn at_least(least: u64) -> Self {
        Self { least, kind: Kind::Any, ends: None }
    }

    /// An archive of pg_dump in its custom format.
    pub(super) fn archive() -> Self {
        Self { kind: Kind::Archive, ..Self::at_least(1) }
    }

    /// What mariadb-backup writes.
    pub(super) fn xbstream() -> Self {
        Self { kind: Kind::Xbstream, ..Self::at_least(1) }
    }

    /// One with a line near its end that begins with this.
    pub(super) fn ending(ends: &'static str) -> Self {
        Self { ends: Some(ends), ..Self::at_least(1) }
    }

    /// Watches a stream.
    pub(super) fn over<R: Read>(self, stream: R) -> Watched<R> {
        let follow: Option<Box<dyn Follow>> = match self.kind {
            Kind::Any => None,
            Kind::Archive => Some(Box::new(archive::Archive::default())),
            Kind::Xbstream => Some(Box::new(xbstream::Xbstream::default())),
        };
        Watched { stream, whole: self, follow, bytes: 0, end: VecDeque::new() }
    }
}

/// A stream that ends with an error unless it is whole.
pub(super) struct Watched<R> {
    stream: R,
    whole: Whole,
    follow: Option<Box<dyn Follow>>,
    bytes: u64,
    end: VecDeque<u8>,
}

impl<R> Watched<R> {
    fn judge(&mut self) -> Result<(), String> {
        if self.bytes < self.whole.least {
            return Err(match self.bytes {
                0 => "it produced nothing".to_owned(),
                bytes => format!("it produced {bytes} bytes, and at least {} are expected", self.whole.least),
            });
        }
        if let Some(follow) = &mut self.follow {
            follow.end().map_err(|why| format!("what it produced was cut short: {why}"))?;
        }
        if let Some(ends) = self.whole.ends {
            let end: Vec<u8> = self.end.iter().copied().collect();
            if !String::from_utf8_lossy(&end).lines().any(|line| line.starts_with(ends)) {
                return Err(format!("what it produced does not end with `{ends}`: it was cut short"));
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = self.stream.read(buffer)?;
        if n == 0 {
            return self.judge().map(|()| 0).map_err(io::Error::other);
        }
        let piece = buffer.get(..n).unwrap_or_default();
        self.bytes = self.bytes.saturating_add(n as u64);
        if let Some(follow) = &mut self.follow {
            follow
                .take(piece)
                .map_err(|why| io::Error::other(format!("what it produced is damaged: {why}")))?;
        }
        if self.whole.ends.is_some() {
            let last = piece.get(piece.len().saturating_sub(END)..).unwrap_or(piece);
            self.end.extend(last);
            let more = self.end.len().saturating_sub(END);
            self.end.drain(..more);
        }
        Ok(n)
    }
}

/// Fills `buffer` up to `wanted` from the front of `piece`; whether it is full.
fn fill(buffer: &mut Vec<u8>, wanted: usize, piece: &mut &[u8]) -> bool {
    let n = wanted.saturating_sub(buffer.len()).min(piece.len());
    let (taken, rest) = piece.split_at(n);
    buffer.extend_from_slice(taken);
    *piece = rest;
    buffer.len() >= wanted
}

/// Drops up to `left` bytes from the front of `piece`; how many are still to be dropped.
fn skip(left: u64, piece: &mut &[u8]) -> u64 {
    let n = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
    *piece = piece.get(n..).unwrap_or_default();
    left - n as u64
}
