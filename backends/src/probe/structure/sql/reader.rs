//! Reads a dump line by line and keeps account of what is open.

use std::collections::BTreeMap;
use std::io;

use super::super::claim::names_a_schema;
use super::super::context::Context;
use super::super::history::Dump;
use super::super::input::Input;
use super::super::inspect::Item;
use super::super::sniff;
use super::lines::Line;
use super::tuples::Tuples;
use super::{Tool, header};

/// More tables than this are counted, but not remembered by name while reading.
const TABLES_KEPT: usize = 100_000;

/// What a dump has shown so far.
#[derive(Default)]
pub(super) struct Reader {
    /// Dumps whose end marker has not come yet.
    open: Vec<Tool>,
    seen: Vec<Tool>,
    /// A dump began while another of its kind was still open.
    cut_before: Option<Tool>,
    restricted: Option<Vec<u8>>,
    restrict_mismatch: bool,
    copying: Option<(String, u64)>,
    insert: Option<(String, Tuples)>,
    database: Option<String>,
    tables: BTreeMap<String, u64>,
    tables_total: u64,
    rows: u64,
    statements: u64,
    creates: u64,
    rolled_back: bool,
    corrupt: bool,
    message: Option<String>,
    facts: Vec<String>,
    started: Option<String>,
    after_blank: bool,
    after_dashes: bool,
    after_pragma: bool,
}

impl Reader {
    pub(super) fn read(&mut self, input: &mut Input<'_>) -> io::Result<()> {
        let mut line = Line::default();
        self.after_blank = true;
        loop {
            if self.copying.is_none() && self.insert.is_none() {
                self.begin_insert(input.peek(160)?);
            }
            let insert = &mut self.insert;
            let more = line.next(input, |piece| {
                if let Some((_, tuples)) = insert {
                    tuples.feed(piece);
                }
            })?;
            if !more {
                return Ok(());
            }
            self.line(&line);
        }
    }

    fn line(&mut self, line: &Line) {
        if self.copying.is_some() {
            self.copy_row(line);
        } else {
            self.end_marker(line);
            match self.insert.take() {
                Some((table, tuples)) => self.insert_line(line, table, tuples),
                None => self.statement(line),
            }
        }
        self.after_blank = line.head().is_empty();
        self.after_dashes = line.is(b"--");
        self.after_pragma = line.is(b"PRAGMA foreign_keys=OFF;");
    }

    fn copy_row(&mut self, line: &Line) {
        if line.is(b"\\.") {
            self.flush_copy();
        } else if self.after_dashes && header(line.head()).is_some() {
            // The data was cut, and another dump was appended: two rows do not look like that.
            self.flush_copy();
            self.statement(line);
        } else if let Some((_, rows)) = &mut self.copying {
            *rows += 1;
        }
    }

    fn flush_copy(&mut self) {
        if let Some((table, rows)) = self.copying.take() {
            self.count(&table, rows);
        }
    }

    fn insert_line(&mut self, line: &Line, table: String, tuples: Tuples) {
        // mysqldump escapes line ends inside strings, so a header line is never data there.
        let begun = header(line.head()).filter(|tool| *tool == Tool::Mysql || !tuples.in_string());
        if tuples.ended() || begun.is_some() {
            self.count(&table, tuples.rows());
        } else {
            self.insert = Some((table, tuples));
        }
        if let Some(tool) = begun {
            self.begin(tool, line.head());
        }
    }

    fn statement(&mut self, line: &Line) {
        let head = line.head();
        if let Some(tool) = header(head) {
            return self.begin(tool, head);
        }
        if head == b"BEGIN TRANSACTION;" && (self.after_pragma || self.seen.is_empty()) {
            return self.begin(Tool::Sqlite, head);
        }
        if head.starts_with(b"--") {
            return self.comment(head);
        }
        if self.seen.is_empty() && self.message.is_none() {
            self.message = sniff::error_text(head);
        }
        if let Some(token) = head.strip_prefix(b"\\restrict ") {
            self.restricted = Some(token.to_vec());
        } else if let Some(token) = head.strip_prefix(b"\\unrestrict ") {
            self.restrict_mismatch |= self.restricted.take().is_some_and(|begun| begun != token);
        } else if let Some(name) = head.strip_prefix(b"\\connect ").or_else(|| head.strip_prefix(b"USE ")) {
            self.database = Some(identifier(name));
        } else if self.after_blank && head.starts_with(b"COPY ") && line.ends_with(b" FROM stdin;") {
            self.statements += 1;
            let table = self.named(head.get(5..).unwrap_or_default());
            self.count(&table, 0);
            self.copying = Some((table, 0));
        } else if head.starts_with(b"CREATE ") {
            self.statements += 1;
            self.creates += 1;
            if let Some(name) = table_name(head) {
                let table = self.named(name);
                self.count(&table, 0);
            }
        } else if head.starts_with(b"/*!") && contains(head, b" CREATE ") {
            self.statements += 1;
            self.creates += 1;
        } else if head.starts_with(b"ROLLBACK;") {
            self.rolled_back = true;
        } else if head.starts_with(b"/****** CORRUPTION ERROR") {
            self.corrupt = true;
        }
    }

    fn begin(&mut self, tool: Tool, head: &[u8]) {
        if self.open.contains(&tool) {
            self.cut_before.get_or_insert(tool);
        } else {
            self.open.push(tool);
        }
        if self.seen.len() < 1000 {
            self.seen.push(tool);
        }
        if tool == Tool::Mysql {
            self.fact(head);
        }
    }

    fn end_marker(&mut self, line: &Line) {
        let head = line.head();
        let ended = match head {
            b"-- PostgreSQL database dump complete" => Tool::PgDump,
            b"-- PostgreSQL database cluster dump complete" => Tool::PgDumpAll,
            b"COMMIT;" if self.open.contains(&Tool::Sqlite) => Tool::Sqlite,
            _ if head.starts_with(b"-- Dump completed") => Tool::Mysql,
            _ => return,
        };
        self.open.retain(|tool| *tool != ended);
        // An INSERT that seems to go on past the end was misread, for example for unusual quoting.
        if let Some((table, tuples)) = self.insert.take() {
            self.count(&table, tuples.rows());
        }
    }

    fn comment(&mut self, head: &[u8]) {
        for start in
            [&b"-- Dumped from database version "[..], b"-- Dumped by pg_dump version ", b"-- Server version"]
        {
            if head.starts_with(start) {
                self.fact(head);
            }
        }
        if let Some(time) = head.strip_prefix(b"-- Started on ") {
            self.started.get_or_insert_with(|| String::from_utf8_lossy(time).into_owned());
        }
        if head.starts_with(b"-- Completed on ") {
            self.fact(head);
        }
    }

    fn fact(&mut self, head: &[u8]) {
        let text: String = String::from_utf8_lossy(head)
            .trim_start_matches("-- ")
            .chars()
            .take(120)
            .flat_map(char::escape_default)
            .collect();
        if self.facts.len() < 6 && !self.facts.contains(&text) {
            self.facts.push(text);
        }
    }

    fn begin_insert(&mut self, lead: &[u8]) {
        let rest = [&b"INSERT INTO "[..], b"INSERT IGNORE INTO ", b"INSERT  IGNORE INTO ", b"REPLACE INTO "]
            .iter()
            .find_map(|start| lead.strip_prefix(*start));
        if let Some(rest) = rest {
            self.statements += 1;
            let backslash = self.seen.contains(&Tool::Mysql);
            self.insert = Some((self.named(rest), Tuples::new(backslash)));
        }
    }

    fn named(&self, name: &[u8]) -> String {
        let name = identifier(name);
        self.database.as_ref().map_or(name.clone(), |database| format!("{database}.{name}"))
    }

    fn count(&mut self, table: &str, rows: u64) {
        self.rows += rows;
        match self.tables.get_mut(table) {
            Some(count) => *count += rows,
            None => {
                self.tables_total += 1;
                if self.tables.len() < TABLES_KEPT {
                    self.tables.insert(table.to_owned(), rows);
                }
            }
        }
    }

    /// Files what is wrong, and remembers what is there.
    pub(super) fn report(self, context: &Context<'_>, item: &Item, bytes: u64) {
        let at = &item.location;
        let tool = self.tool();
        if self.report_cut(context, at, bytes) {
            return;
        }
        if self.restricted.is_some() || self.restrict_mismatch {
            let seen = if self.restrict_mismatch { "another token" } else { "none" };
            context.damage(
                "sql_dump.restrict",
                at,
                "an \\unrestrict for each \\restrict, with its token",
                seen,
            );
        }
        if let Some(message) = &self.message {
            context.anomaly(
                "sql_dump.message",
                at,
                "SQL alone",
                format!("a message of a tool in front: {message}"),
            );
        }
        if self.rolled_back || self.corrupt {
            context.damage(
                "sql_dump.errors",
                at,
                "a dump without errors",
                "a dump that says itself that it is incomplete",
            );
        }
        self.report_content(context, item, tool);
        let facts =
            if self.facts.is_empty() { String::new() } else { format!(" ({})", self.facts.join("; ")) };
        context.note(format!(
            "{at}: {} dump, complete, {} tables, {} rows{facts}",
            tool.title(),
            self.tables_total,
            self.rows
        ));
        if let Some(started) = &self.started {
            context.note(format!("{at}: dump started on {started}"));
            context.facts().saw_time(started);
        }
        let complete = self.tables_total == self.tables.len() as u64;
        context.facts().saw_dump(Dump {
            path: item.name.clone(),
            tables: self.tables,
            rows: self.rows,
            complete,
        });
    }

    fn tool(&self) -> Tool {
        self.seen.iter().copied().max_by_key(|tool| *tool == Tool::PgDumpAll).unwrap_or(Tool::PgDump)
    }

    fn report_cut(&self, context: &Context<'_>, at: &str, bytes: u64) -> bool {
        let place = match (&self.copying, &self.insert) {
            (Some((table, rows)), _) => format!("inside the data of {table}, after {rows} rows"),
            (None, Some((table, _))) => format!("inside an INSERT into {table}"),
            (None, None) => format!("after {} tables and {} rows", self.tables_total, self.rows),
        };
        let (tool, seen) = if let Some(tool) = self.cut_before {
            (tool, "another dump begins before it".to_owned())
        } else if let Some(tool) = self.open.first() {
            (*tool, format!("the file ends at byte {bytes}, {place}"))
        } else if self.seen.is_empty() {
            (Tool::Sqlite, format!("the file ends at byte {bytes}, before the first statement"))
        } else if self.copying.is_some() {
            context.damage("sql_dump.copy", at, "a \\. line behind the data of each table", place);
            return true;
        } else {
            return false;
        };
        if !(tool == Tool::Sqlite && self.rolled_back) {
            let expected = format!("the end marker of {}: {:?}", tool.title(), tool.end_marker());
            context.damage("sql_dump.truncated", at, expected, seen);
            return true;
        }
        false
    }

    fn report_content(&self, context: &Context<'_>, item: &Item, tool: Tool) {
        let at = &item.location;
        // Globals alone (roles, tablespaces) are a dump of their own kind.
        let globals_only = tool == Tool::PgDumpAll && !self.seen.contains(&Tool::PgDump);
        if self.statements == 0 {
            context.damage("sql_dump.empty", at, "a dump of something", "no CREATE, COPY or INSERT at all");
        } else if self.tables_total == 0 && !globals_only {
            context.anomaly(
                "sql_dump.no_tables",
                at,
                "tables",
                format!("{} CREATE statements, but no table: is this the right database?", self.creates),
            );
        } else if self.rows == 0 && self.tables_total > 0 && !names_a_schema(&item.name) {
            context.anomaly(
                "sql_dump.no_rows",
                at,
                "data",
                format!("{} tables without a single row: schema only?", self.tables_total),
            );
        }
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// The name in `CREATE [..] TABLE [IF NOT EXISTS] name (`.
fn table_name(head: &[u8]) -> Option<&[u8]> {
    const STARTS: [&[u8]; 6] = [
        b"CREATE TABLE IF NOT EXISTS ",
        b"CREATE TABLE ",
        b"CREATE UNLOGGED TABLE ",
        b"CREATE TEMPORARY TABLE ",
        b"CREATE FOREIGN TABLE ",
        b"CREATE VIRTUAL TABLE ",
    ];
    STARTS.iter().find_map(|start| head.strip_prefix(*start))
}

/// An SQL name with its qualifiers, up to the first blank or bracket outside quotes. Quotes are dropped.
fn identifier(text: &[u8]) -> String {
    let mut name = Vec::new();
    let mut quote = None;
    for &byte in text.iter().take(200) {
        match (quote, byte) {
            (None, b'"' | b'`' | b'\'') => quote = Some(byte),
            (Some(open), _) if byte == open => quote = None,
            (None, b' ' | b'(' | b';' | b'\n' | b'\t' | b'\r') => break,
            _ => name.push(byte),
        }
    }
    String::from_utf8_lossy(&name).chars().flat_map(char::escape_default).collect()
}
