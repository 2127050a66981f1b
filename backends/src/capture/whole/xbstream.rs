//! Streams of mariadb-backup: chunks, each with the name of its file; a file has an end, the stream has none.
//!
//! A stream that is cut between two chunks looks whole to mbstream. The last files that mariadb-backup writes are
//! those about the backup itself, so they have to be there, and every file that was begun has to be ended.

use std::collections::HashMap;

use super::{Follow, fill, skip};

const MAGIC: &[u8] = b"XBSTCK01";
/// Magic, flags, kind, and the length of the path.
const HEAD: usize = 14;
/// Length, offset and checksum of a payload.
const PAYLOAD: usize = 20;
/// Longer paths are refused by mbstream too.
const PATH_MAX: usize = 4096;
/// Files that are followed.
const FILES_MAX: usize = 1_000_000;
/// What a restore cannot do without, by any of its names; compressed files have another ending.
const NEEDED: [&[&str]; 3] = [
    &["backup-my.cnf"],
    &["mariadb_backup_checkpoints", "xtrabackup_checkpoints"],
    &["mariadb_backup_info", "xtrabackup_info"],
];

/// What comes next.
#[derive(Default)]
enum Next {
    #[default]
    Head,
    Path {
        kind: u8,
        length: usize,
    },
    /// The length of the new name of a file, and that name.
    Renamed {
        from: Vec<u8>,
        length: Option<usize>,
    },
    Payload,
    Seek,
    Skip(u64),
    /// Something that is not known here: nothing can be said about the rest.
    Lost,
}

/// Follows a stream.
#[derive(Default)]
pub(super) struct Xbstream {
    next: Next,
    buffer: Vec<u8>,
    /// Whether each file was ended.
    files: HashMap<Vec<u8>, bool>,
}

impl Xbstream {
    /// How many bytes are needed for the next step.
    fn wanted(&self) -> usize {
        match &self.next {
            Next::Head => HEAD,
            Next::Path { length, .. } => *length,
            Next::Renamed { length, .. } => length.unwrap_or(4),
            Next::Payload => PAYLOAD,
            // Behind an offset the next chunk follows. xtrabackup uses the same letter for something else.
            Next::Seek => 8 + MAGIC.len(),
            Next::Skip(_) | Next::Lost => 0,
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let bytes = std::mem::take(&mut self.buffer);
        self.next = match std::mem::take(&mut self.next) {
            Next::Head => head(&bytes)?,
            Next::Path { kind, .. } => self.file(kind, bytes)?,
            Next::Renamed { from, length: None } => {
                Next::Renamed { from, length: Some(path_length(number(&bytes))?) }
            }
            Next::Renamed { from, length: Some(_) } => {
                let ended = self.files.remove(&from).unwrap_or_default();
                self.files.insert(bytes, ended);
                Next::Head
            }
            Next::Payload => Next::Skip(number(bytes.get(..8).unwrap_or_default())),
            Next::Seek => match bytes.get(8..) {
                Some(next) if next == MAGIC => {
                    self.buffer = next.to_vec();
                    Next::Head
                }
                _ => Next::Lost,
            },
            other @ (Next::Skip(_) | Next::Lost) => other,
        };
        Ok(())
    }

    fn file(&mut self, kind: u8, path: Vec<u8>) -> Result<Next, String> {
        if self.files.len() >= FILES_MAX {
            return Ok(Next::Lost);
        }
        Ok(match kind {
            b'P' => {
                self.files.insert(path, false);
                Next::Payload
            }
            b'E' => {
                self.files.insert(path, true);
                Next::Head
            }
            b'D' => {
                self.files.remove(&path);
                Next::Head
            }
            b'R' => Next::Renamed { from: path, length: None },
            b'S' => {
                self.files.insert(path, false);
                Next::Seek
            }
            _ => Next::Lost,
        })
    }

    fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| {
            ["", ".qp", ".zst", ".lz4"]
                .iter()
                .any(|ending| self.files.contains_key(format!("{name}{ending}").as_bytes()))
        })
    }
}

impl Follow for Xbstream {
    fn take(&mut self, mut piece: &[u8]) -> Result<(), String> {
        while !piece.is_empty() {
            match self.next {
                Next::Lost => return Ok(()),
                Next::Skip(left) => {
                    self.next = match skip(left, &mut piece) {
                        0 => Next::Head,
                        left => Next::Skip(left),
                    };
                }
                _ => {
                    let wanted = self.wanted();
                    if fill(&mut self.buffer, wanted, &mut piece) {
                        self.step()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let between = match self.next {
            Next::Lost => return Ok(()),
            Next::Head => self.buffer.is_empty(),
            Next::Skip(left) => left == 0,
            Next::Seek => self.buffer.len() == 8,
            _ => false,
        };
        if !between {
            return Err("it ends inside of a chunk".to_owned());
        }
        if let Some((path, _)) = self.files.iter().find(|(_, ended)| !**ended) {
            return Err(format!("the file {} has no end", String::from_utf8_lossy(path).escape_debug()));
        }
        match NEEDED.iter().find(|names| !self.has(names)) {
            Some(names) => Err(format!("it has no {}", names.join(" or "))),
            None => Ok(()),
        }
    }
}

fn head(bytes: &[u8]) -> Result<Next, String> {
    if !bytes.starts_with(MAGIC) {
        return Err("no chunk begins where one should".to_owned());
    }
    let kind = bytes.get(9).copied().unwrap_or_default();
    let length = path_length(number(bytes.get(10..).unwrap_or_default()))?;
    Ok(Next::Path { kind, length })
}

fn path_length(length: u64) -> Result<usize, String> {
    usize::try_from(length)
        .ok()
        .filter(|length| (1..=PATH_MAX).contains(length))
        .ok_or_else(|| format!("a path of {length} bytes"))
}

/// A number, least significant byte first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}
