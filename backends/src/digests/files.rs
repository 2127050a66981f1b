//! Digests of trees of files: names and content, folder by folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use firedrill_core::digests::{Folder, ITEMS_MAX, Sum, is_name, matches, path_text};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

/// How much is read at a time.
const BUFFER: usize = 256 << 10;

/// Measures everything below `top`. Asks `proceed` again and again.
///
/// Left out: files of digests and canaries, which are written beside the data; what `excluded` fits, as a name or as
/// a path below the top; pipes, sockets and devices.
pub(crate) fn measure(
    top: &Dir,
    excluded: &[String],
    proceed: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<BTreeMap<String, Folder>> {
    let mut folders = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    let mut buffer = vec![0; BUFFER];
    while let Some(path) = left.pop() {
        let folder = below(top, &path)?;
        let mut sum = Sum::default();
        let mut bytes = 0_u64;
        for entry in folder.entries()? {
            proceed()?;
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            let inside = path.join(&name);
            if is_left_out(name.as_bytes(), inside.as_os_str().as_bytes(), excluded) {
                continue;
            }
            if kind.is_dir() {
                left.push(inside);
            } else if kind.is_symlink() {
                let target = folder.read_link_contents(&name)?;
                sum.add(&item(b'l', name.as_bytes(), target.as_os_str().as_bytes()));
            } else if kind.is_file() {
                let (hash, length) = content(&folder, &name, &mut buffer, proceed)?;
                bytes = bytes.saturating_add(length);
                sum.add(&item(b'f', name.as_bytes(), &hash));
            }
        }
        if folders.len() + left.len() > ITEMS_MAX {
            return Err(io::Error::other(format!("there are more than {ITEMS_MAX} folders")));
        }
        folders.insert(text(&path), finished(sum, bytes));
    }
    Ok(folders)
}

/// Measures a single file, `name` in `folder`.
pub(crate) fn measure_file(
    folder: &Dir,
    name: &OsStr,
    proceed: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<BTreeMap<String, Folder>> {
    let (hash, bytes) = content(folder, name, &mut vec![0; BUFFER], proceed)?;
    let mut sum = Sum::default();
    sum.add(&item(b'f', name.as_bytes(), &hash));
    Ok(BTreeMap::from([(text(Path::new("")), finished(sum, bytes))]))
}

/// Opens a folder below `top`, of which no part is a symbolic link.
pub(crate) fn below(top: &Dir, path: &Path) -> io::Result<Dir> {
    let mut folder = top.try_clone()?;
    for part in path.components() {
        let part: &Path = part.as_ref();
        if !folder.symlink_metadata(part)?.is_dir() {
            return Err(io::Error::other(format!("{} is no folder any more", path.display())));
        }
        folder = folder.open_dir(part)?;
    }
    Ok(folder)
}

fn content(
    folder: &Dir,
    name: &OsStr,
    buffer: &mut [u8],
    proceed: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<([u8; 32], u64)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let mut file = folder.open_with(name, &options)?;
    let mut hash = Sha256::new();
    let mut length = 0_u64;
    loop {
        proceed()?;
        let n = match file.read(buffer) {
            Ok(0) => return Ok((hash.finalize().into(), length)),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(buffer.get(..n).unwrap_or_default());
        length += n as u64;
    }
}

fn item(kind: u8, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut item = vec![kind];
    item.extend_from_slice(&(name.len() as u64).to_be_bytes());
    item.extend_from_slice(name);
    item.extend_from_slice(content);
    item
}

fn finished(sum: Sum, bytes: u64) -> Folder {
    Folder { entries: sum.items(), bytes, digest: sum.digest(["name", "content"]) }
}

fn is_left_out(name: &[u8], path: &[u8], excluded: &[String]) -> bool {
    is_name(name)
        || name == firedrill_core::canary::FILE.as_bytes()
        || excluded
            .iter()
            .any(|pattern| matches(pattern, &path_text(name)) || matches(pattern, &path_text(path)))
}

fn text(path: &Path) -> String {
    if path.as_os_str().is_empty() { ".".to_owned() } else { path_text(path.as_os_str().as_bytes()) }
}
