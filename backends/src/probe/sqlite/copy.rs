//! A private copy: opening a database may change it, and a log of another moment destroys it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use firedrill_core::manifest::Entry;
use firedrill_core::subject::Subject;

use super::files::Files;
use super::header::JOURNAL_MAGIC;
use super::survey::Database;

/// Bytes that are copied before the watch is asked again.
const SLICE: u64 = 64 << 20;

/// A copy of a database with its log and its journal, removed when dropped.
pub(super) struct Copy {
    folder: PathBuf,
    path: PathBuf,
}

impl Copy {
    pub(super) fn of(database: &Database<'_>, files: &mut Files, subject: &Subject) -> io::Result<Self> {
        let folder = subject.work.join("sqlite");
        fs::create_dir_all(&folder)?;
        let copy = Self { path: folder.join("db"), folder };
        let missing = || io::Error::other("it vanished while it was examined");
        copied(files.file(&database.entry.path)?.ok_or_else(missing)?, &copy.path, subject)?;
        let beside = |suffix: &str| copy.folder.join(format!("db{suffix}"));
        if let Some(wal) = open(database.wal, files)? {
            copied(wal, &beside("-wal"), subject)?;
        }
        if let Some(journal) = open(database.journal, files)? {
            let path = beside("-journal");
            let file = copied(journal, &path, subject)?;
            if !disarm(&file, subject)? {
                fs::remove_file(&path)?;
            }
        }
        Ok(copy)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Whatever is left goes with the lease.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn open(entry: Option<&Entry>, files: &mut Files) -> io::Result<Option<File>> {
    entry.map_or(Ok(None), |entry| files.file(&entry.path))
}

fn copied(mut from: File, path: &Path, subject: &Subject) -> io::Result<File> {
    let mut to = File::options().read(true).write(true).create_new(true).open(path)?;
    loop {
        subject.watch.check().map_err(|error| io::Error::other(error.chain()))?;
        // The kernel copies, or shares blocks where the file system can.
        if io::copy(&mut (&mut from).take(SLICE), &mut to)? == 0 {
            return Ok(to);
        }
    }
}

/// A journal of a transaction over several databases ends with the name of a file which SQLite looks for,
/// and may delete, wherever it is on this machine. The name is cut off. Says whether the journal still
/// counts: it does not if the snapshot lacks that file, since then the transaction was committed.
fn disarm(mut journal: &File, subject: &Subject) -> io::Result<bool> {
    let mut length = journal.metadata()?.len();
    let mut named = None;
    while length >= 16 {
        let mut end = [0; 16];
        journal.seek(SeekFrom::Start(length - 16))?;
        journal.read_exact(&mut end)?;
        if !end.ends_with(&JOURNAL_MAGIC) || length < 28 {
            break;
        }
        if named.is_none() {
            named = super_journal(journal, length, &end)?;
        }
        length -= 8;
        journal.set_len(length)?;
    }
    let Some(named) = named else { return Ok(true) };
    let inside = named.strip_prefix(b"/").unwrap_or(&named);
    Ok(subject.manifest.entries().iter().any(|entry| entry.path == inside))
}

fn super_journal(mut journal: &File, length: u64, end: &[u8; 16]) -> io::Result<Option<Vec<u8>>> {
    let name = super::header::be32(end, 0);
    let start = length.checked_sub(16 + u64::from(name));
    let Some(start) = start.filter(|_| (1..=4096).contains(&name)) else { return Ok(None) };
    let mut bytes = vec![0; name as usize];
    journal.seek(SeekFrom::Start(start))?;
    journal.read_exact(&mut bytes)?;
    let sum = bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_add((i32::from(*byte as i8)) as u32));
    Ok((sum == super::header::be32(end, 4)).then_some(bytes))
}
