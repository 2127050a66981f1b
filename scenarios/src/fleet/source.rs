//! A folder that is backed up as if it were the root of a file system.

use std::path::{Path, PathBuf};

use rustic_core::{
    Excludes, LocalSource, LocalSourceFilterOptions, LocalSourceSaveOptions, ReadSource, ReadSourceEntry,
    RusticResult,
};

/// Walks `root` and shows `root/backup/x` as `/backup/x`. Unlike the `as_path` of rustic it keeps several
/// paths per snapshot, and the metadata of the folders above them, as a pod with mounted volumes has it.
pub(super) struct RootedSource {
    inner: LocalSource,
    root: PathBuf,
}

impl RootedSource {
    /// A source at `root` without what has a name in `excludes`.
    pub(super) fn new(root: &Path, excludes: &[&str]) -> RusticResult<Self> {
        let globs: Vec<String> = excludes.iter().map(|name| format!("!{name}")).collect();
        let inner = LocalSource::new(
            LocalSourceSaveOptions::default(),
            &Excludes::default().globs(globs),
            &LocalSourceFilterOptions::default(),
            &[root],
        )?;
        Ok(Self { inner, root: root.to_owned() })
    }
}

impl ReadSource for RootedSource {
    type Open = <LocalSource as ReadSource>::Open;
    type Iter = Rooted<<LocalSource as ReadSource>::Iter>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Self::Iter {
        Rooted { inner: self.inner.entries(), root: self.root.clone() }
    }
}

/// The entries of a [`RootedSource`].
pub(super) struct Rooted<I> {
    inner: I,
    root: PathBuf,
}

impl<O, I: Iterator<Item = RusticResult<ReadSourceEntry<O>>>> Iterator for Rooted<I> {
    type Item = RusticResult<ReadSourceEntry<O>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut item = self.inner.next()?;
        if let Ok(entry) = &mut item
            && let Ok(below) = entry.path.strip_prefix(&self.root)
        {
            entry.path = Path::new("/").join(below);
        }
        Some(item)
    }
}
