//! Files and folders on disk, which others may replace at any moment.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// What the tag of a cache folder begins with.
const CACHE_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// The names in a folder, sorted as trees are.
pub(super) fn names(disk: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut names = fs::read_dir(disk)?
        .map(|entry| entry.map(|entry| entry.file_name().into_vec()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Opens a regular file that was one when it was looked at, and returns its size.
pub(super) fn open(disk: &Path, looked: &Metadata) -> io::Result<(File, u64)> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file =
        OpenOptions::new().read(true).custom_flags(i32::try_from(flags).unwrap_or_default()).open(disk)?;
    let meta = file.metadata()?;
    if !meta.is_file() || (meta.dev(), meta.ino()) != (looked.dev(), looked.ino()) {
        return Err(io::Error::other("it was replaced meanwhile"));
    }
    let size = meta.len();
    Ok((file, size))
}

/// Whether this is the tag that calls its folder a cache.
pub(super) fn is_cache_tag(path: &Path) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    let mut start = Vec::new();
    meta.is_file()
        && open(path, &meta)
            .and_then(|(file, _)| file.take(CACHE_TAG.len() as u64).read_to_end(&mut start))
            .is_ok()
        && start == CACHE_TAG
}
