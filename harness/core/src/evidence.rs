//! The evidence of a run: an append-only JSON Lines file, opened before the first restore, each line
//! chained to the one before by hash.
//!
//! Format, version 1. One JSON object per line, each line ends in `\n`:
//!
//! ```text
//! {"evidence":1,"seq":0,"time":"2026-01-02T03:04:05Z","prev":"","event":{"type":"run_started",...}}
//! {"evidence":1,"seq":1,"time":"...","prev":"<SHA-256 of the line before, without its newline, hex>","event":{...}}
//! ```
//!
//! The chain shows accidental damage, reordering and edits; it is not signed, so whoever can write the
//! file can write a new chain. A file that is cut anywhere lacks `run_finished` and is never judged
//! verified. A last line that is cut in the middle is dropped and reported.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;

/// The version of the format.
pub const VERSION: u32 = 1;
/// The name of the evidence file in the folder of a run.
pub const FILE: &str = "evidence.jsonl";
/// A longer line is refused, by who writes as by who reads.
const LINE_MAX: u64 = if cfg!(test) { 1 << 20 } else { 64 << 20 };

/// One line of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Format version.
    pub evidence: u32,
    /// Line number, from 0.
    pub seq: u64,
    /// When it was written.
    pub time: Timestamp,
    /// SHA-256 of the line before, hexadecimal; empty in the first line.
    pub prev: String,
    /// What happened.
    pub event: Event,
}

/// Who listens while evidence is written.
pub type Listener = Box<dyn FnMut(&Record) + Send>;

struct Inner {
    file: File,
    next: u64,
    head: String,
    broken: Option<Error>,
    listener: Option<Listener>,
}

/// Writes evidence. Shared by all drills of a run.
pub struct Writer {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

impl Writer {
    /// Opens a new evidence file in `folder`; an existing one is never overwritten.
    pub fn create(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let path = folder.join(FILE);
        let file = std::fs::create_dir_all(folder)
            .and_then(|()| OpenOptions::new().append(true).create_new(true).open(&path))
            .map_err(|e| {
                Error::new(ErrorKind::Usage, format!("open the evidence file {}", path.display()))
                    .from_source(&e)
                    .advise("choose a writable folder with --state")
            })?;
        let inner = Inner { file, next: 0, head: String::new(), broken: None, listener: None };
        Ok(Self { path, clock, inner: Mutex::new(inner) })
    }

    /// Evidence that goes to `file`, for tests of what cannot be written.
    #[cfg(test)]
    pub(crate) fn to(file: File, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner { file, next: 0, head: String::new(), broken: None, listener: None };
        Self { path: PathBuf::new(), clock, inner: Mutex::new(inner) }
    }

    /// Calls `listener` with each record from now on.
    pub fn listen(&self, listener: Listener) {
        self.lock().listener = Some(listener);
    }

    /// Appends one event and hands it to the operating system before it returns. After a failure
    /// nothing more is written: evidence with a hole would prove nothing.
    pub fn write(&self, event: Event) -> Result<()> {
        let mut inner = self.lock();
        if let Some(error) = &inner.broken {
            return Err(error.clone());
        }
        let record = Record {
            evidence: VERSION,
            seq: inner.next,
            time: self.clock.now(),
            prev: inner.head.clone(),
            event,
        };
        let line = serde_json::to_vec(&record).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            if line.len() as u64 > LINE_MAX {
                let length = line.len();
                return Err(std::io::Error::new(
                    std::io::ErrorKind::FileTooLarge,
                    format!("one event has {length} bytes, and no line may have more than {LINE_MAX}"),
                ));
            }
            inner.file.write_all(&line)?;
            Ok(line)
        });
        match line {
            Ok(line) => {
                inner.next += 1;
                inner.head = hash(&line[..line.len() - 1]);
                if let Some(listener) = inner.listener.as_mut()
                    && catch_unwind(AssertUnwindSafe(|| listener(&record))).is_err()
                {
                    // Whoever shows a run must not end it.
                    tracing::error!("what listens to the run panicked; it is told nothing more");
                    inner.listener = None;
                }
                Ok(())
            }
            Err(e) => {
                let error =
                    Error::new(ErrorKind::Scratch, format!("write evidence to {}", self.path.display()))
                        .from_source(&e)
                        .advise(if e.kind() == std::io::ErrorKind::FileTooLarge {
                            "the run cannot prove anything without it; name what to restore with --tag or in \
                             a config, so that it is less at a time"
                        } else {
                            "the run cannot prove anything without it; free some space"
                        });
                inner.broken = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Makes the file durable.
    pub fn sync(&self) -> Result<()> {
        self.lock().file.sync_all().map_err(|e| {
            Error::new(ErrorKind::Scratch, format!("make {} durable", self.path.display())).from_source(&e)
        })
    }

    /// The time of what would be written now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evidence that was read back.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The records up to the first damage.
    pub records: Vec<Record>,
    /// SHA-256 of the last good line.
    pub head: String,
    /// What is wrong with the file, if anything; the judge calls a damaged file inconclusive at best.
    pub damage: Option<String>,
}

/// Reads the evidence file `path`, or the one in the folder `path`. Damage is not an error: what comes
/// before it is returned, and [`Evidence::damage`] says what follows.
pub fn read(path: &Path) -> Result<Evidence> {
    let file_path = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
    let file = File::open(&file_path).map_err(|e| {
        Error::new(ErrorKind::Usage, format!("open the evidence file {}", file_path.display()))
            .from_source(&e)
            .advise("give the folder of a run, the one that holds evidence.jsonl")
    })?;
    parse(BufReader::new(file)).map_err(|e| {
        Error::new(ErrorKind::Unavailable, format!("read the evidence file {}", file_path.display()))
            .from_source(&e)
    })
}

/// Reads evidence from `input`.
pub fn parse(mut input: impl BufRead) -> std::io::Result<Evidence> {
    let mut evidence = Evidence::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(evidence);
        }
        let number = evidence.records.len() + 1;
        if line.pop() != Some(b'\n') {
            evidence.damage = Some(format!("line {number} is cut short"));
            return Ok(evidence);
        }
        match accept(&line, &evidence) {
            Ok(record) => evidence.records.push(record),
            Err(why) => {
                evidence.damage = Some(format!("line {number} {why}"));
                return Ok(evidence);
            }
        }
        evidence.head = hash(&line);
    }
}

fn accept(line: &[u8], so_far: &Evidence) -> Result<Record, String> {
    let record: Record =
        serde_json::from_slice(line).map_err(|e| format!("is not a record of evidence: {e}"))?;
    if record.evidence != VERSION {
        return Err(format!("has format version {}, this firedrill reads {VERSION}", record.evidence));
    }
    if record.seq != so_far.records.len() as u64 {
        return Err(format!("has number {} where {} belongs", record.seq, so_far.records.len()));
    }
    if record.prev != so_far.head {
        return Err("does not continue the chain of hashes".to_owned());
    }
    Ok(record)
}

fn hash(line: &[u8]) -> String {
    hex::encode(Sha256::digest(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SimulatedClock, SystemClock};

    #[test]
    fn a_line_that_could_not_be_read_again_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::create(folder.path(), Arc::new(SystemClock)).unwrap();
        let event = |length| Event::Interrupted { reason: "x".repeat(length) };
        writer.write(event(1 << 19)).unwrap();
        let error = writer.write(event(1 << 20)).unwrap_err();
        assert!(error.chain().contains("one event has 1048"), "{}", error.chain());
        assert!(!error.chain().contains("space"), "{}", error.chain());
        // There is a hole now, so nothing more is written, and what is there can be read.
        assert!(writer.write(event(1)).is_err());
        let evidence = read(folder.path()).unwrap();
        assert_eq!((evidence.records.len(), evidence.damage), (1, None));
    }

    #[test]
    fn the_longest_line_that_is_written_is_read() {
        let file = |length: usize| {
            let folder = tempfile::tempdir().unwrap();
            let writer =
                Writer::create(folder.path(), Arc::new(SimulatedClock::starting_at(Timestamp::UNIX_EPOCH)))
                    .unwrap();
            let written = writer.write(Event::Interrupted { reason: "x".repeat(length) });
            let size = std::fs::metadata(folder.path().join(FILE)).unwrap().len();
            (written, size, read(folder.path()).unwrap())
        };
        let frame = file(0).1;
        let longest = usize::try_from(LINE_MAX - frame).unwrap();
        let (written, size, evidence) = file(longest);
        written.unwrap();
        assert_eq!((size, evidence.records.len(), evidence.damage), (LINE_MAX, 1, None));
        let (written, size, _) = file(longest + 1);
        assert!(written.is_err() && size == 0);
    }
}
