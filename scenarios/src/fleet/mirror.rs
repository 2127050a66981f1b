//! Copies a repository, byte by byte, in an order in which the copy is usable at any moment.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, anyhow};
use rustic_core::{FileType, Id, ReadBackend, WriteBackend};

/// A snapshot is copied after everything that it needs. Locks are not copied: they belong to the
/// processes that use the original.
const ORDER: [FileType; 5] =
    [FileType::Pack, FileType::Index, FileType::Key, FileType::Config, FileType::Snapshot];

/// Files that are under way at a time.
const JOBS: usize = 4;

/// What a mirror run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Files that were copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there already.
    pub present: u64,
}

/// Copies to `to` what `from` holds and `to` does not. Never removes anything, like `rclone copy`, but
/// unlike it in a safe order: packs, indexes, keys and config, snapshots.
pub fn mirror(from: &dyn ReadBackend, to: &dyn WriteBackend) -> Result<Mirrored> {
    let mut done = Mirrored::default();
    for kind in ORDER {
        let mut missing = from.list_with_size(kind).with_context(|| format!("list {kind} files"))?;
        let present = to.list_with_size(kind).with_context(|| format!("list {kind} files of the mirror"))?;
        let before = missing.len();
        let present: std::collections::HashSet<(Id, u32)> = present.into_iter().collect();
        missing.retain(|file| !present.contains(file));
        copy_all(from, to, kind, &missing)?;
        done.present += (before - missing.len()) as u64;
        done.files += missing.len() as u64;
        done.bytes += missing.iter().map(|(_, size)| u64::from(*size)).sum::<u64>();
    }
    Ok(done)
}

fn copy_all(
    from: &dyn ReadBackend,
    to: &dyn WriteBackend,
    kind: FileType,
    files: &[(Id, u32)],
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some((id, _)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let content = from.read_full(kind, id).with_context(|| format!("read {kind} {id}"))?;
            to.write_bytes(kind, id, false, content.into()).with_context(|| format!("write {kind} {id}"))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..JOBS.min(files.len())).map(|_| scope.spawn(work)).collect();
        // All of them are waited for, whatever the first one says.
        let mut outcome = Ok(());
        for worker in workers {
            let ended = worker.join().unwrap_or_else(|_| Err(anyhow!("a copying thread panicked")));
            outcome = outcome.and(ended);
        }
        outcome
    })
}
