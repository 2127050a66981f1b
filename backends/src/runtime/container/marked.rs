//! Finds the end mark in a stream.

/// Passes on what comes before a mark, however the stream is cut into pieces.
pub(super) struct UntilMark {
    mark: Vec<u8>,
    /// The end of what came so far, which may be the beginning of the mark.
    held: Vec<u8>,
    found: bool,
}

impl UntilMark {
    pub(super) fn new(mark: &[u8]) -> Self {
        Self { mark: mark.to_vec(), held: Vec::new(), found: false }
    }

    /// Whether the mark has come. What comes after it is nobody's.
    pub(super) fn found(&self) -> bool {
        self.found
    }

    /// Takes the next piece, and passes on what is surely not part of the mark.
    pub(super) fn push(&mut self, piece: &[u8], mut pass: impl FnMut(&[u8])) {
        if self.found {
            return;
        }
        let joined;
        let piece = if self.held.is_empty() {
            piece
        } else {
            joined = [std::mem::take(&mut self.held).as_slice(), piece].concat();
            joined.as_slice()
        };
        let end = match memchr::memmem::find(piece, &self.mark) {
            Some(at) => {
                self.found = true;
                at
            }
            None => piece.len() - self.begun(piece),
        };
        let (before, rest) = piece.split_at(end);
        if !self.found {
            self.held = rest.to_vec();
        }
        if !before.is_empty() {
            pass(before);
        }
    }

    /// How many bytes at the end of `piece` may be the beginning of the mark.
    fn begun(&self, piece: &[u8]) -> usize {
        let longest = piece.len().min(self.mark.len().saturating_sub(1));
        (1..=longest)
            .rev()
            .find(|n| self.mark.get(..*n).is_some_and(|begin| piece.ends_with(begin)))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut marked = UntilMark::new(b"--end--");
        let mut all = Vec::new();
        for piece in pieces {
            marked.push(piece, |bytes| all.extend_from_slice(bytes));
        }
        (all, marked.found())
    }

    #[test]
    fn a_mark_is_found_wherever_the_stream_is_cut() {
        for text in ["", "x", "-", "--end-", "--end---", "some ----end-- text", "--en--en"] {
            let whole = [text.as_bytes(), b"--end--", b"rest"].concat();
            let expected = whole.windows(7).position(|w| w == b"--end--").unwrap();
            for one in 0..=whole.len() {
                for two in one..=whole.len() {
                    let pieces = [&whole[..one], &whole[one..two], &whole[two..]];
                    assert_eq!(passed(&pieces), (whole[..expected].to_vec(), true), "{text} {one} {two}");
                }
            }
        }
    }

    #[test]
    fn without_a_mark_there_is_no_end() {
        assert_eq!(passed(&[b"all of it", b" --end-"]), (b"all of it ".to_vec(), false));
        assert_eq!(passed(&[b"-x--", b"-y"]), (b"-x---y".to_vec(), false));
    }
}
