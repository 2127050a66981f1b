use std::io::{self, Read};

use super::super::whole::Whole;

/// Gives a few bytes at a time.
struct Drops<'a>(&'a [u8], usize);

impl Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.1.min(buffer.len()).min(self.0.len());
        let (now, later) = self.0.split_at(n);
        buffer[..n].copy_from_slice(now);
        self.0 = later;
        Ok(n)
    }
}

pub(super) fn judged(whole: Whole, bytes: &[u8], step: usize) -> Result<u64, String> {
    io::copy(&mut whole.over(Drops(bytes, step)), &mut io::sink()).map_err(|e| e.to_string())
}

/// A stream is taken as a whole, and at none of many places where it is cut.
pub(super) fn no_cut_passes(whole: Whole, bytes: &[u8]) {
    for step in [1, 7, 4096, usize::MAX] {
        assert_eq!(judged(whole, bytes, step), Ok(bytes.len() as u64), "in steps of {step}");
    }
    let step = (bytes.len() / 400).max(1);
    // The last bytes are where cuts are easiest to miss.
    let last = bytes.len().saturating_sub(300)..bytes.len();
    for cut in (0..bytes.len()).step_by(step).chain(last) {
        let error =
            judged(whole, &bytes[..cut], 65_536).expect_err(&format!("cut at {cut} of {}", bytes.len()));
        assert!(error.contains("cut short") || error.contains("nothing"), "cut at {cut}: {error}");
    }
}

#[test]
fn an_end_is_a_line() {
    let whole = Whole::ending("-- Dump completed");
    assert!(judged(whole, b"x\n-- Dump completed on 2026-01-01\n", 3).is_ok());
    for not in ["x\n", "insert '-- Dump completed'\n", "-- Dump comple"] {
        assert!(judged(whole, not.as_bytes(), 3).unwrap_err().contains("cut short"), "{not}");
    }
    // A line at the beginning of something long is not an end.
    let long = format!("-- Dump completed\n{}", "x\n".repeat(5_000));
    assert!(judged(whole, long.as_bytes(), 100).is_err());
}

#[test]
fn something_else_is_damaged() {
    for whole in [Whole::archive(), Whole::xbstream()] {
        assert!(judged(whole, b"Defaulted container \"db\"\nPGDMP and more than that", 9).is_err());
        assert_eq!(judged(whole, b"", 9).unwrap_err(), "it produced nothing");
    }
    // Of what is newer than this firedrill nothing can be said.
    assert!(judged(Whole::archive(), b"PGDMP\x01\x63\x00 whatever", 4).is_ok());
}
