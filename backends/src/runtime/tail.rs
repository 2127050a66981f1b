//! The last bytes of what a program says.

/// The last bytes of a stream.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: std::collections::VecDeque<u8>,
    max: usize,
}

impl Tail {
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: std::collections::VecDeque::new(), max }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(self.max);
        self.bytes.drain(..excess);
    }

    pub(super) fn text(&self) -> String {
        let (one, other) = self.bytes.as_slices();
        String::from_utf8_lossy(&[one, other].concat()).into_owned()
    }
}
