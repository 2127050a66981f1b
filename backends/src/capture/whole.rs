//! Whether a stream has the beginning and the end that its format promises.
//!
//! Exit codes are not enough: a connection that breaks in between (`kubectl exec`, `ssh` with a shell pipe behind it)
//! can end a dump early and with 0.

use std::collections::VecDeque;
use std::io::{self, Read};

/// So much of the end of a stream is looked at.
const END: usize = 2048;
/// So much of its beginning.
const BEGINNING: usize = 64;

/// What a stream must have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Whole {
    /// At least this many bytes.
    least: u64,
    /// How it begins.
    begins: Option<&'static [u8]>,
    /// What is near its end.
    ends: Option<&'static str>,
}

impl Whole {
    /// Any stream of at least so many bytes.
    pub(super) fn at_least(least: u64) -> Self {
        Self { least, ..Self::default() }
    }

    /// One that begins with these bytes.
    pub(super) fn beginning(begins: &'static [u8]) -> Self {
        Self { least: 1, begins: Some(begins), ends: None }
    }

    /// One that says this near its end.
    pub(super) fn ending(ends: &'static str) -> Self {
        Self { least: 1, begins: None, ends: Some(ends) }
    }

    /// Watches a stream.
    pub(super) fn over<R: Read>(self, stream: R) -> Watched<R> {
        Watched { stream, whole: self, bytes: 0, beginning: Vec::new(), end: VecDeque::new() }
    }
}

/// A stream that ends with an error unless it is whole.
pub(super) struct Watched<R> {
    stream: R,
    whole: Whole,
    bytes: u64,
    beginning: Vec<u8>,
    end: VecDeque<u8>,
}

impl<R> Watched<R> {
    fn judge(&self) -> Result<(), String> {
        if self.bytes < self.whole.least {
            return Err(match self.bytes {
                0 => "it produced nothing".to_owned(),
                bytes => format!("it produced {bytes} bytes, and at least {} are expected", self.whole.least),
            });
        }
        if let Some(begins) = self.whole.begins
            && !self.beginning.starts_with(begins)
        {
            return Err(format!(
                "what it produced does not begin with `{}`",
                String::from_utf8_lossy(begins)
            ));
        }
        if let Some(ends) = self.whole.ends {
            let end: Vec<u8> = self.end.iter().copied().collect();
            if !String::from_utf8_lossy(&end).contains(ends) {
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
        if self.beginning.len() < BEGINNING {
            let missing = BEGINNING - self.beginning.len();
            self.beginning.extend(piece.iter().take(missing));
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
