//! Counts the rows of an `INSERT` statement that may span lines and hold anything in its strings.

/// The rows of one statement.
pub(super) struct Tuples {
    backslash: bool,
    quote: Option<u8>,
    escaped: bool,
    depth: u32,
    word: [u8; 6],
    values: bool,
    rows: u64,
    ended: bool,
}

impl Tuples {
    /// A statement that begins now; `backslash` when a backslash escapes inside strings (MySQL).
    pub(super) fn new(backslash: bool) -> Self {
        Self {
            backslash,
            quote: None,
            escaped: false,
            depth: 0,
            word: [0; 6],
            values: false,
            rows: 0,
            ended: false,
        }
    }

    /// Takes the next piece of the statement.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.ended {
                return;
            }
            self.step(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        if let Some(quote) = self.quote {
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' && self.backslash && quote != b'`' {
                self.escaped = true;
            } else if byte == quote {
                // A doubled quote closes and opens again, which comes to the same.
                self.quote = None;
            }
            return;
        }
        match byte {
            b'\'' | b'"' | b'`' => self.quote = Some(byte),
            b'(' => {
                if self.depth == 0 && self.values {
                    self.rows += 1;
                }
                self.depth += 1;
            }
            b')' => self.depth = self.depth.saturating_sub(1),
            b';' if self.depth == 0 => self.ended = true,
            _ if self.depth == 0 && !self.values => {
                self.word.rotate_left(1);
                self.word[5] = byte.to_ascii_uppercase();
                self.values = &self.word == b"VALUES";
            }
            _ => {}
        }
    }

    /// Whether the statement has ended.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the last byte was inside a string, where anything may be written.
    pub(super) fn in_string(&self) -> bool {
        self.quote.is_some()
    }

    /// How many rows there were so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::Tuples;

    fn rows(backslash: bool, text: &str) -> (u64, bool) {
        let mut tuples = Tuples::new(backslash);
        for byte in text.as_bytes() {
            tuples.feed(&[*byte]);
        }
        (tuples.rows(), tuples.ended())
    }

    #[test]
    fn rows_are_counted_whatever_strings_hold() {
        assert_eq!(rows(false, "INSERT INTO t VALUES(1,'a;(b','it''s');"), (1, true));
        assert_eq!(rows(true, r"INSERT INTO `t` VALUES (1,'a\'),(2'),(3,_binary 'x\\');"), (2, true));
        assert_eq!(rows(false, "INSERT INTO t (a, b) VALUES\n(1, now()),\n(2, f(3));"), (2, true));
        assert_eq!(rows(false, "INSERT INTO t VALUES (1, 'open"), (1, false));
    }
}
