//! Plain SQL dumps by pg_dump, pg_dumpall, mysqldump, mariadb-dump and `sqlite3 .dump`.
//!
//! A dump that was cut anywhere restores without an error, so its end marker is the only witness.
//!
//! *Verified*: every dump in the file (a file may hold several, and pg_dumpall nests them) has its end
//! marker; every `\restrict` has its `\unrestrict` with the same token; every `COPY` block ends with
//! `\.`; the tool left no message in front; there is something in it, and it is not schema alone. Tables
//! and rows are remembered, and compared with the last baseline.
//!
//! *Not verified*: that the statements are valid, that roles and extensions exist where the dump is
//! loaded; dumps that were written without comments, which have neither header nor end marker.

mod lines;
mod reader;
mod tuples;

use std::io;

use super::context::Context;
use super::input::Input;
use super::inspect::Item;
use super::sniff;
use reader::Reader;

/// The tool that wrote a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tool {
    PgDump,
    PgDumpAll,
    Mysql,
    Sqlite,
}

impl Tool {
    fn title(self) -> &'static str {
        match self {
            Self::PgDump => "pg_dump",
            Self::PgDumpAll => "pg_dumpall",
            Self::Mysql => "mysqldump",
            Self::Sqlite => "sqlite3 .dump",
        }
    }

    fn end_marker(self) -> &'static str {
        match self {
            Self::PgDump => "-- PostgreSQL database dump complete",
            Self::PgDumpAll => "-- PostgreSQL database cluster dump complete",
            Self::Mysql => "-- Dump completed",
            Self::Sqlite => "COMMIT;",
        }
    }
}

/// How many lines may stand before the header of a dump.
const PREAMBLE_MAX: usize = 40;

/// Whether `head` is the beginning of a dump that will show its own completeness.
pub(super) fn is_dump(head: &[u8], whole: bool) -> bool {
    const SQLITE: &[u8] = b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n";
    if head.starts_with(SQLITE) || (whole && head.len() > 8 && SQLITE.starts_with(head)) {
        return true;
    }
    for line in head.split(|byte| *byte == b'\n').take(PREAMBLE_MAX) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if header(line).is_some() {
            return true;
        }
        if !is_preamble(line) {
            return false;
        }
    }
    false
}

/// The tool that wrote the dump that `head` is the beginning of.
pub(super) fn tool(head: &[u8]) -> Option<Tool> {
    let lines = head.split(|byte| *byte == b'\n').take(PREAMBLE_MAX);
    lines.filter_map(|line| header(line.strip_suffix(b"\r").unwrap_or(line))).next()
}

/// The tool whose dumps begin with this line.
fn header(line: &[u8]) -> Option<Tool> {
    match line {
        b"-- PostgreSQL database dump" => Some(Tool::PgDump),
        b"-- PostgreSQL database cluster dump" => Some(Tool::PgDumpAll),
        _ if [&b"-- MySQL dump "[..], b"-- MariaDB dump ", b"-- mysqldump"]
            .iter()
            .any(|start| line.starts_with(start)) =>
        {
            Some(Tool::Mysql)
        }
        _ => None,
    }
}

/// Lines that may stand before a header: comments, settings, and what a tool said on its error output.
/// Prose is not among them, so that a text about dumps is not taken for one.
fn is_preamble(line: &[u8]) -> bool {
    const STARTS: [&[u8]; 8] = [
        b"--",
        b"/*",
        b"\\restrict ",
        b"SET ",
        b"USE ",
        b"CREATE DATABASE ",
        b"DROP DATABASE ",
        b"\xef\xbb\xbf",
    ];
    line.is_empty() || STARTS.iter().any(|start| line.starts_with(start)) || sniff::error_text(line).is_some()
}

/// Whether a text has any line that begins like an SQL statement.
pub(super) fn has_keyword(head: &[u8]) -> bool {
    const KEYWORDS: [&[u8]; 22] = [
        b"create ",
        b"insert ",
        b"copy ",
        b"set ",
        b"begin",
        b"alter ",
        b"update ",
        b"select ",
        b"drop ",
        b"grant ",
        b"revoke ",
        b"delete ",
        b"pragma ",
        b"use ",
        b"with ",
        b"truncate ",
        b"replace ",
        b"start ",
        b"do ",
        b"call ",
        b"delimiter ",
        b"comment ",
    ];
    head.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii_start().to_ascii_lowercase();
        KEYWORDS.iter().any(|keyword| line.starts_with(keyword))
            || line.starts_with(b"/*!")
            || line.starts_with(b"\\echo")
    })
}

/// Checks the dump in `input`.
pub(super) fn check(context: &Context<'_>, item: &Item, input: &mut Input<'_>) -> io::Result<()> {
    let mut reader = Reader::default();
    reader.read(input)?;
    reader.report(context, item, input.offset());
    Ok(())
}

/// Counts the rows in the data of one table as pg_dump archives keep it, and says whether the data was
/// closed by a `\.` line. Reads to the end.
pub(super) fn count_rows(input: &mut Input<'_>, copy: bool) -> io::Result<(u64, bool)> {
    let mut line = lines::Line::default();
    let (mut rows, mut closed) = (0, false);
    while line.next(input, |_| {})? {
        if !copy {
            rows += u64::from(line.head().starts_with(b"INSERT INTO "));
        } else if line.is(b"\\.") {
            closed = true;
        } else if !closed {
            rows += 1;
        }
    }
    Ok((rows, closed))
}
