//! Counts files in a folder, without following links and without holding more than one way down.

use std::fs::{self, ReadDir};
use std::io;
use std::path::Path;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;

use super::Count;

/// Folders within folders.
const DEPTH_MAX: usize = 128;

/// Adds every regular file below `root`.
pub(super) fn count(root: &Path, count: &mut Count, watch: &Watch) -> Result<()> {
    let failed = |path: &Path, error: &io::Error| {
        Error::new(ErrorKind::Unavailable, format!("count what is in {}", path.display())).from_source(error)
    };
    let open = |path: &Path| fs::read_dir(path).map_err(|error| failed(path, &error));
    let mut way: Vec<ReadDir> = vec![open(root)?];
    while let Some(folder) = way.last_mut() {
        watch.check()?;
        let Some(entry) = folder.next() else {
            way.pop();
            continue;
        };
        let entry = entry.map_err(|error| failed(root, &error))?;
        let path = entry.path();
        // What vanishes meanwhile does not count.
        let meta = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta.map_err(|error| failed(&path, &error))?,
        };
        if meta.is_dir() {
            if way.len() >= DEPTH_MAX {
                return Err(failed(&path, &io::Error::other("folders lie too deep")));
            }
            match fs::read_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => way.push(opened.map_err(|error| failed(&path, &error))?),
            }
        } else if meta.is_file() {
            let below = path.strip_prefix(root).unwrap_or(&path);
            count.add(&below.to_string_lossy(), meta.len(), false);
        }
    }
    Ok(())
}
