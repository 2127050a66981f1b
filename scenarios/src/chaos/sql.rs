//! SQL dumps that a fault changes, packed or not.

use std::io::{Read as _, Write as _};

use anyhow::Result;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::staged::{Staged, StagedFile, Time};
use super::victim::nothing;

/// Dumps of more text are left alone.
const TEXT_MAX: u64 = 512 << 20;

/// The text of a dump.
pub(super) struct Sql {
    pub(super) text: Vec<u8>,
    packed: bool,
}

impl Sql {
    pub(super) fn read(staged: &Staged, file: &StagedFile) -> Result<Self> {
        let content = staged.read(file)?;
        if !content.starts_with(&[0x1f, 0x8b]) {
            return Ok(Self { text: content, packed: false });
        }
        let mut text = Vec::new();
        MultiGzDecoder::new(content.as_slice()).take(TEXT_MAX + 1).read_to_end(&mut text)?;
        match text.len() as u64 > TEXT_MAX {
            true => Err(nothing(format!("{} is large", staged.name(&file.path)))),
            false => Ok(Self { text, packed: true }),
        }
    }

    /// Writes it as it was read: packed or not.
    pub(super) fn write(&self, staged: &Staged, file: &StagedFile) -> Result<()> {
        if !self.packed {
            return staged.write(&file.path, &self.text, Time::Now);
        }
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&self.text)?;
        staged.write(&file.path, &packed.finish()?, Time::Now)
    }

    /// Whether `pg_dump` made it.
    pub(super) fn is_postgres(&self) -> bool {
        let head = self.text.get(..1000).unwrap_or(&self.text);
        String::from_utf8_lossy(head).contains("-- PostgreSQL database dump")
    }

    /// Removes what fills tables; returns how many lines that were.
    pub(super) fn drop_rows(&mut self) -> usize {
        let (mut kept, mut dropped, mut copying) = (Vec::with_capacity(self.text.len()), 0, false);
        for line in self.text.split_inclusive(|byte| *byte == b'\n') {
            let ends = line.starts_with(b"\\.");
            let begins = line.starts_with(b"COPY ") && line.trim_ascii_end().ends_with(b"FROM stdin;");
            if copying || begins || line.starts_with(b"INSERT INTO ") {
                dropped += 1;
                copying = (copying || begins) && !ends;
            } else {
                kept.extend_from_slice(line);
            }
        }
        self.text = kept;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_fills_tables() {
        let text = b"CREATE TABLE a (x int);\nCOPY a (x) FROM stdin;\n1\n2\n\\.\nINSERT INTO b VALUES (1);\nSELECT 1;\n";
        let mut sql = Sql { text: text.to_vec(), packed: false };
        assert_eq!(sql.drop_rows(), 5);
        assert_eq!(sql.text, b"CREATE TABLE a (x int);\nSELECT 1;\n");
    }
}
