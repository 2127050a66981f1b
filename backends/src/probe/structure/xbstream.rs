//! Streams of mariadb-backup and xtrabackup.
//!
//! *Verified*: every chunk has its magic, and every payload its CRC and the offset that continues its
//! file; every file has its end chunk; the files that are written last or that a restore cannot do
//! without are there; the checkpoints are those of a full backup whose redo log reaches far enough; no
//! path leads out of the folder that the stream is unpacked to.
//!
//! *Not verified*: that the backup can be prepared, and the pages inside its files. Streams have no end
//! marker of their own: `mbstream -x` takes a stream that was cut between two chunks for whole.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead as _};

use crc32fast::Hasher;
use firedrill_core::manifest::display_path;

use super::context::Context;
use super::history::Dump;
use super::input::Input;
use super::inspect::Item;

const MAGIC: &[u8; 8] = b"XBSTCK01";
const IGNORABLE: u8 = 0x01;

/// Longer paths are refused by mbstream too.
const PATH_MAX: u32 = 4096;

/// Files that are followed at a time.
const FILES_MAX: usize = 1_000_000;

/// A stream with more open files at a time is not plain.
const OPEN_MAX: usize = 64;

/// How much of a metadata file is kept.
const META_MAX: usize = 64 * 1024;

/// What must be in a stream, under any of its names.
const MANDATORY: [(&str, &[&str]); 4] = [
    ("the server's settings", &["backup-my.cnf"]),
    ("the checkpoints", &["mariadb_backup_checkpoints", "xtrabackup_checkpoints"]),
    ("the backup information", &["mariadb_backup_info", "xtrabackup_info"]),
    ("the redo log", &["ib_logfile0", "xtrabackup_logfile"]),
];

/// What a stream says about itself: the content of its metadata files, empty where one is missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) settings: Vec<u8>,
    pub(crate) checkpoints: Vec<u8>,
    pub(crate) information: Vec<u8>,
    /// Whether a path leads out of the folder that the stream is unpacked to.
    pub(crate) climbs: bool,
    /// Whether files are compressed one by one.
    pub(crate) compressed: bool,
    /// Whether it is nothing but new files, each written from its beginning to its end, few of them at a time.
    pub(crate) plain: bool,
}

/// Checks the stream in `input`.
pub(super) fn check(context: &Context<'_>, item: &Item, input: &mut Input<'_>) -> io::Result<()> {
    read(context, item, input).map(drop)
}

/// Checks the stream in `input`, and gives its metadata when it could be followed to its end.
pub(super) fn read(
    context: &Context<'_>,
    item: &Item,
    input: &mut Input<'_>,
) -> io::Result<Option<Metadata>> {
    let mut stream = Stream {
        context,
        at: &item.location,
        files: HashMap::new(),
        open: 0,
        chunks: 0,
        plain: true,
        mangled: false,
    };
    loop {
        let begin = input.offset();
        match stream.chunk(input) {
            Ok(true) => stream.chunks += 1,
            Ok(false) => break,
            Err(Flaw::Stop(error)) => return Err(error),
            Err(Flaw::Cut(place)) => {
                context.damage(
                    "xbstream.truncated",
                    &item.location,
                    "whole chunks",
                    format!("it ends at byte {}, {place}, after {} chunks", input.offset(), stream.chunks),
                );
                return Ok(None);
            }
            Err(Flaw::Wrong(seen)) => {
                context.damage(
                    "xbstream.damaged",
                    &item.location,
                    "chunks that can be read",
                    format!("{seen} at byte {begin}"),
                );
                return Ok(None);
            }
            Err(Flaw::Beyond(what)) => {
                context.interrupt(format!("{}: {what}", item.location));
                return Ok(None);
            }
        }
    }
    let metadata = stream.metadata();
    stream.finish(item);
    Ok(Some(metadata))
}

enum Flaw {
    Stop(io::Error),
    Cut(&'static str),
    Wrong(String),
    Beyond(&'static str),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Stop(error)
    }
}

/// A file in the stream.
#[derive(Default)]
struct Part {
    offset: u64,
    length: u64,
    ended: bool,
    content: Vec<u8>,
}

struct Stream<'a> {
    context: &'a Context<'a>,
    at: &'a str,
    files: HashMap<Vec<u8>, Part>,
    /// Files that have begun and not ended.
    open: usize,
    chunks: u64,
    plain: bool,
    /// A checksum did not fit: what follows from content is not worth saying.
    mangled: bool,
}

impl Stream<'_> {
    /// Reads one chunk; false at the end of the stream.
    fn chunk(&mut self, input: &mut Input<'_>) -> Result<bool, Flaw> {
        const HEADER: &str = "inside the header of a chunk";
        let mut magic = [0; 8];
        match input.read_full(&mut magic)? {
            0 => return Ok(false),
            8 => {}
            _ => return Err(Flaw::Cut(HEADER)),
        }
        if &magic != MAGIC {
            return Err(Flaw::Wrong("something else than the beginning of a chunk".to_owned()));
        }
        let [flags, kind] = input.array()?.ok_or(Flaw::Cut(HEADER))?;
        let path = path(input)?;
        self.plain &= matches!(kind, b'P' | b'E') && is_plain(&path);
        match kind {
            b'P' => self.payload(input, path)?,
            b'E' => self.end(path)?,
            b'S' => self.seek(input, path)?,
            b'D' => {
                self.files.remove(&path);
            }
            b'R' => {
                let target = self::path(input)?;
                self.look_at(&target);
                let part = self.files.remove(&path).unwrap_or_default();
                self.files.insert(target, part);
            }
            _ if flags & IGNORABLE != 0 => {
                return Err(Flaw::Beyond("an ignorable chunk of unknown type, whose length is unknown too"));
            }
            other => return Err(Flaw::Wrong(format!("a chunk of unknown type {other:#04x}"))),
        }
        Ok(true)
    }

    fn file(&mut self, path: Vec<u8>) -> Result<&mut Part, Flaw> {
        if !self.files.contains_key(&path) {
            if self.files.len() >= FILES_MAX {
                return Err(Flaw::Beyond("more files than firedrill follows"));
            }
            self.look_at(&path);
            self.open += 1;
            self.plain &= self.open <= OPEN_MAX;
        }
        Ok(self.files.entry(path).or_default())
    }

    fn end(&mut self, path: Vec<u8>) -> Result<(), Flaw> {
        let again = std::mem::replace(&mut self.file(path)?.ended, true);
        self.plain &= !again;
        self.open = self.open.saturating_sub(1);
        Ok(())
    }

    /// Unpacking must not write outside the folder that was meant.
    fn look_at(&self, path: &[u8]) {
        if climbs(path) {
            self.context.anomaly(
                "xbstream.path",
                self.at,
                "paths below the folder that the stream is unpacked to",
                display_path(path),
            );
        }
    }

    fn payload(&mut self, input: &mut Input<'_>, path: Vec<u8>) -> Result<(), Flaw> {
        const HEADER: &str = "inside the header of a chunk";
        let length = u64::from_le_bytes(input.array()?.ok_or(Flaw::Cut(HEADER))?);
        let offset = u64::from_le_bytes(input.array()?.ok_or(Flaw::Cut(HEADER))?);
        let checksum = u32::from_le_bytes(input.array()?.ok_or(Flaw::Cut(HEADER))?);
        let keep = is_metadata(&path);
        let shown = display_path(&path);
        let at = self.at;
        let context = self.context;
        let part = self.file(path)?;
        if part.offset != offset {
            return Err(Flaw::Wrong(format!(
                "a piece of {shown} for offset {offset} where {} comes next",
                part.offset
            )));
        }
        // A file that is written again begins with another payload and ends once more.
        let again = std::mem::replace(&mut part.ended, false);
        let mut hasher = Hasher::new();
        let mut left = length;
        while left > 0 {
            let piece = input.fill_buf()?;
            if piece.is_empty() {
                return Err(Flaw::Cut("inside a payload"));
            }
            let n = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let piece = piece.get(..n).unwrap_or_default();
            hasher.update(piece);
            if keep {
                let room = META_MAX.saturating_sub(part.content.len()).min(n);
                part.content.extend_from_slice(piece.get(..room).unwrap_or_default());
            }
            input.consume(n);
            left -= n as u64;
        }
        part.offset = part.offset.saturating_add(length);
        part.length = part.length.max(part.offset);
        self.plain &= !again;
        if hasher.finalize() != checksum {
            self.mangled = true;
            context.damage(
                "xbstream.checksum",
                format!("{at}: {shown}").as_str(),
                "a payload that fits its checksum",
                format!("another content in {length} bytes at offset {offset}"),
            );
        }
        Ok(())
    }

    fn seek(&mut self, input: &mut Input<'_>, path: Vec<u8>) -> Result<(), Flaw> {
        // MariaDB's seek has an offset and nothing else; xtrabackup uses the same letter for sparse data.
        let next = input.peek(16)?;
        let is_seek = next.len() == 8 || next.get(8..).is_some_and(|magic| magic.starts_with(MAGIC));
        if !is_seek && next.len() == 16 {
            return Err(Flaw::Beyond("sparse chunks, which this version cannot follow"));
        }
        let offset = u64::from_le_bytes(input.array()?.ok_or(Flaw::Cut("inside the header of a chunk"))?);
        self.file(path)?.offset = offset;
        Ok(())
    }

    fn metadata(&self) -> Metadata {
        let content = |number: usize| {
            let names = MANDATORY.get(number).map_or(&[][..], |(_, names)| names);
            names.iter().find_map(|name| self.files.get(name.as_bytes())).map(|part| part.content.clone())
        };
        let compressed =
            |path: &Vec<u8>| [&b".qp"[..], b".zst", b".lz4"].iter().any(|end| path.ends_with(end));
        Metadata {
            settings: content(0).unwrap_or_default(),
            checkpoints: content(1).unwrap_or_default(),
            information: content(2).unwrap_or_default(),
            climbs: self.files.keys().any(|path| climbs(path)),
            plain: self.plain && !self.mangled,
            compressed: self.files.keys().any(compressed),
        }
    }

    fn finish(self, item: &Item) {
        let open: Vec<String> = {
            let mut open: Vec<_> = self
                .files
                .iter()
                .filter(|(_, part)| !part.ended)
                .map(|(path, _)| display_path(path))
                .collect();
            open.sort();
            open
        };
        if let Some(first) = open.first() {
            self.context.damage(
                "xbstream.open",
                self.at,
                "an end chunk for every file",
                format!("{} files are not brought to their end, {first} among them", open.len()),
            );
        }
        for (what, names) in MANDATORY {
            if self.named(names).is_none() {
                self.context.damage(
                    "xbstream.missing",
                    self.at,
                    format!("{what}: {}", names.join(" or ")),
                    format!("no such file among {}", self.files.len()),
                );
            }
        }
        if !self.mangled {
            self.checkpoints();
            self.information();
        }
        let tables: BTreeMap<String, u64> = self
            .files
            .keys()
            .filter(|path| path.ends_with(b".ibd"))
            .map(|path| (display_path(path), 0))
            .collect();
        self.context.note(format!(
            "{}: xbstream, {} files in {} chunks, {} InnoDB tables",
            self.at,
            self.files.len(),
            self.chunks,
            tables.len()
        ));
        let dump = Dump { path: item.name.clone(), tables, rows: 0, complete: true };
        self.context.facts().saw_dump(dump);
    }

    fn named(&self, names: &[&str]) -> Option<&Part> {
        // Compressed streams add an ending to each name.
        let endings = ["", ".qp", ".zst", ".lz4"];
        names.iter().find_map(|name| {
            endings.iter().find_map(|ending| self.files.get(format!("{name}{ending}").as_bytes()))
        })
    }

    fn checkpoints(&self) {
        let names = MANDATORY[1].1;
        let Some(part) = names.iter().find_map(|name| self.files.get(name.as_bytes())) else { return };
        let values = settings(&part.content);
        let kind = values.get("backup_type").map_or("", String::as_str);
        if kind == "incremental" && self.context.several_streams {
            self.context.leave_out(
                "whether the base of incremental backups is there: the probe `mariadb` applies them",
            );
        } else if !matches!(kind, "full-backuped" | "full-prepared" | "log-applied") {
            self.context.anomaly(
                "xbstream.backup_type",
                self.at,
                "a full backup, which can be restored alone",
                if kind.is_empty() { "no backup type".to_owned() } else { kind.chars().take(60).collect() },
            );
        }
        let lsn = |key: &str| values.get(key).and_then(|value| value.parse::<u64>().ok());
        match (lsn("to_lsn"), lsn("last_lsn")) {
            (Some(to), Some(last)) if last >= to => {}
            (to, last) => self.context.damage(
                "xbstream.redo",
                self.at,
                "a redo log that was read up to the checkpoint or beyond it (last_lsn >= to_lsn)",
                format!("to_lsn {}, last_lsn {}", shown(to), shown(last)),
            ),
        }
    }

    fn information(&self) {
        let names = MANDATORY[2].1;
        let Some(part) = names.iter().find_map(|name| self.files.get(name.as_bytes())) else { return };
        let values = settings(&part.content);
        // Never `tool_command`: it can hold a password.
        let known: Vec<String> = ["tool_version", "server_version", "start_time", "end_time"]
            .iter()
            .filter_map(|key| values.get(*key).map(|value| format!("{key} {}", value.escape_default())))
            .collect();
        if !known.is_empty() {
            self.context.note(format!("{}: {}", self.at, known.join(", ")));
        }
        if values.get("partial").is_some_and(|value| value == "Y") {
            self.context.note(format!("{}: a partial backup, made of chosen tables", self.at));
        }
    }
}

fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |number| number.to_string())
}

fn path(input: &mut Input<'_>) -> Result<Vec<u8>, Flaw> {
    const HEADER: &str = "inside the header of a chunk";
    let length = u32::from_le_bytes(input.array()?.ok_or(Flaw::Cut(HEADER))?);
    if length == 0 || length > PATH_MAX {
        return Err(Flaw::Wrong(format!("a path of {length} bytes")));
    }
    let mut path = vec![0; usize::try_from(length).unwrap_or(0)];
    if input.read_full(&mut path)? < path.len() {
        return Err(Flaw::Cut(HEADER));
    }
    Ok(path)
}

/// Whether `path` leads out of the folder that a stream is unpacked to.
fn climbs(path: &[u8]) -> bool {
    path.starts_with(b"/") || path.split(|byte| *byte == b'/').any(|part| part == b"..")
}

/// Whether `path` can mean one file only, below a folder.
fn is_plain(path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok()
        && !path.contains(&0)
        && path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

fn is_metadata(path: &[u8]) -> bool {
    MANDATORY.iter().take(3).flat_map(|(_, names)| *names).any(|name| path == name.as_bytes())
}

/// `key = value` lines.
fn settings(content: &[u8]) -> BTreeMap<String, String> {
    String::from_utf8_lossy(content)
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().chars().take(200).collect()))
        .collect()
}
