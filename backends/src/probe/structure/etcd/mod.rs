//! etcd snapshots: a bbolt database with its SHA-256 appended.
//!
//! *Verified*: the hash; both meta pages as far as they are needed; the page tree of every bucket, with
//! bounds, order and no page used twice; that etcd's buckets are there. The newest revision and the
//! number of keys are remembered, and must not fall.
//!
//! *Not verified*: the content of values; that the snapshot comes from a member that had caught up; the
//! server token and certificates that a restore needs besides.

pub(crate) mod bolt;
mod count;

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::Format;
use super::claim::Claim;
use super::context::{Context, reported};
use super::history::Revision;
use super::input::Input;
use super::inspect::Item;
use crate::probe::bases::Named;
use bolt::{Bolt, Flaw, walk};
use count::Found;

pub(super) use bolt::is_bolt;

/// Largest snapshot that is unpacked to disk to be examined; etcd itself advises at most 8 GiB.
const UNPACKED_MAX: u64 = 16 << 30;

/// Whether the bbolt database in `file` is etcd's, by its name or by its buckets. Other programs keep
/// bbolt databases too, and theirs have neither hash nor these buckets.
pub(super) fn is_etcd(name: Named<'_>, file: &File) -> io::Result<bool> {
    if claims_etcd(name) || name.path == b"member/snap/db" || name.path.ends_with(b"/member/snap/db") {
        return Ok(true);
    }
    let length = file.metadata()?.len();
    match Bolt::open(file, length) {
        Ok(bolt) => bolt.is_etcd(),
        Err(Flaw::Io(error)) => Err(error),
        Err(Flaw::Wrong(_)) => Ok(false),
    }
}

fn claims_etcd(name: Named<'_>) -> bool {
    Claim::of(name).is_some_and(|claim| claim.layers.contains(&Format::EtcdSnapshot))
}

/// Checks the snapshot in `file`.
pub(super) fn check(context: &Context<'_>, item: &Item, file: &File) -> io::Result<()> {
    let trouble = |error: io::Error| {
        if super::context::is_reported(&error) {
            return error;
        }
        context.interrupt(format!("failed to read {}: {error}", item.location));
        reported()
    };
    if !is_etcd(item.named(), file).map_err(trouble)? {
        return Ok(());
    }
    examine(context, item, file).map_err(trouble)
}

/// Checks a snapshot that comes out of another layer. Its pages are read in any order, so it is
/// unpacked into the working folder first.
pub(super) fn check_stream(context: &Context<'_>, item: &Item, input: &mut Input<'_>) -> io::Result<()> {
    let folder: PathBuf = context.work.join(format!("structure-{}", context.format.name()));
    let trouble = |error: io::Error| {
        if super::context::is_reported(&error) {
            return error;
        }
        context.interrupt(format!("failed to unpack {} to scratch: {error}", item.location));
        reported()
    };
    std::fs::create_dir_all(&folder).map_err(trouble)?;
    let path = folder.join("snapshot.db");
    let outcome = unpack(context, item, input, &path).map_err(trouble);
    let outcome = outcome.and_then(|file| check(context, item, &file));
    // What stays behind goes with the lease.
    let _removed = std::fs::remove_file(&path).and_then(|()| std::fs::remove_dir(&folder));
    outcome
}

fn unpack(
    context: &Context<'_>,
    item: &Item,
    input: &mut Input<'_>,
    path: &std::path::Path,
) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut written = 0_u64;
    loop {
        let n = input.read_full(&mut buffer)?;
        if n == 0 {
            break;
        }
        written += n as u64;
        if written > UNPACKED_MAX {
            context.interrupt(format!("{} is larger than {UNPACKED_MAX} bytes when unpacked", item.location));
            return Err(reported());
        }
        file.write_all(buffer.get(..n).unwrap_or_default())?;
    }
    file.rewind()?;
    Ok(file)
}

fn examine(context: &Context<'_>, item: &Item, file: &File) -> io::Result<()> {
    let at = &item.location;
    let length = file.metadata()?.len();
    if Claim::of(item.named()).is_some_and(|claim| claim.partial) {
        context.damage("etcd_snapshot.partial", at, "a snapshot that was saved to its end", "a .part file");
    }
    let hashed = length % 512 == 32;
    let content = if hashed { length.saturating_sub(32) } else { length };
    if hashed {
        let stored = trailer(file, content)?;
        if stored != digest(&|| context.proceed(), file, content)? {
            context.damage(
                "etcd_snapshot.hash",
                at,
                "content that fits the appended SHA-256",
                "other content",
            );
        }
    } else {
        report_no_hash(context, item, length);
    }
    let bolt = match Bolt::open(file, content) {
        Ok(bolt) => bolt,
        Err(Flaw::Io(error)) => return Err(error),
        Err(Flaw::Wrong(seen)) => {
            context.damage("etcd_snapshot.meta", at, "a valid meta page", seen);
            return Ok(());
        }
    };
    if bolt.bytes() > content {
        context.damage(
            "etcd_snapshot.truncated",
            at,
            format!("the {} bytes that its pages take", bolt.bytes()),
            format!("{content} bytes"),
        );
        return Ok(());
    }
    let mut found = Found::new();
    match walk(&bolt, &|| context.proceed(), &mut found) {
        Ok(()) => report_found(context, at, &found.finish()),
        Err(Flaw::Io(error)) => return Err(error),
        Err(Flaw::Wrong(seen)) => {
            context.damage("etcd_snapshot.page", at, "a page tree that can be walked", seen);
        }
    }
    Ok(())
}

fn report_no_hash(context: &Context<'_>, item: &Item, length: u64) {
    let at = &item.location;
    let expected = "a snapshot with its SHA-256 appended";
    if !length.is_multiple_of(512) {
        context.damage(
            "etcd_snapshot.truncated",
            at,
            expected,
            format!("{length} bytes, which is neither a snapshot nor a database file"),
        );
        return;
    }
    let seen = "a database file without one: copied from a member, not saved as a snapshot; nothing proves \
                that it is whole, and a restore refuses it";
    if claims_etcd(item.named()) {
        context.damage("etcd_snapshot.no_hash", at, expected, seen);
    } else {
        context.anomaly("etcd_snapshot.no_hash", at, expected, seen);
    }
}

fn report_found(context: &Context<'_>, at: &str, found: &Found) {
    if !found.has_key_bucket {
        context.damage("etcd_snapshot.buckets", at, "the buckets of etcd", "no bucket called key");
        return;
    }
    if found.revisions == 0 {
        context.anomaly("etcd_snapshot.empty", at, "keys", "a key bucket without a single revision");
    }
    if found.alarms > 0 {
        context.note(format!("{at}: {} alarms were raised when it was saved", found.alarms));
    }
    let keys = found.keys.map_or_else(|| "too many to count".to_owned(), |keys| keys.to_string());
    context.note(format!(
        "{at}: etcd snapshot at revision {}, {} revisions kept, keys: {keys}",
        found.newest, found.revisions
    ));
    context.facts().saw_revision(Revision { revision: found.newest, keys: found.keys });
}

/// The SHA-256 at the end of a snapshot whose content ends `at`.
pub(crate) fn trailer(file: &File, at: u64) -> io::Result<[u8; 32]> {
    let mut stored = [0; 32];
    file.read_exact_at(&mut stored, at)?;
    Ok(stored)
}

/// The SHA-256 of the first `length` bytes.
pub(crate) fn digest(proceed: &dyn Fn() -> io::Result<()>, file: &File, length: u64) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    while at < length {
        proceed()?;
        let room = buffer.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..room).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        hash.update(&*piece);
        at += room as u64;
    }
    Ok(hash.finalize().into())
}
