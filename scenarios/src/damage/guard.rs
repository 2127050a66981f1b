//! Damage that is in place, and the way back.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::Strike;

/// Keeps what was there before. Dropping it leaves the damage in place: copies are thrown away.
#[derive(Debug)]
#[must_use = "a guard that is dropped cannot heal"]
pub struct Guard {
    operator: &'static str,
    root: PathBuf,
    before: Vec<(PathBuf, Option<Vec<u8>>)>,
    hits: BTreeSet<String>,
}

impl Guard {
    /// The name of the operator.
    pub fn operator(&self) -> &'static str {
        self.operator
    }

    /// The files that are damaged, missing or new, relative to the repository.
    pub fn touched(&self) -> impl Iterator<Item = &Path> {
        self.before.iter().map(|(path, _)| path.as_path())
    }

    /// The tags whose newest snapshot does not come back as it was. Empty for damage that a restore of
    /// the newest snapshots does not meet.
    pub fn hits(&self) -> &BTreeSet<String> {
        &self.hits
    }

    /// Puts back what was there, and proves it.
    pub fn heal(self) -> Result<()> {
        for (path, content) in &self.before {
            put(&self.root.join(path), content.as_deref())?;
        }
        for (path, content) in &self.before {
            ensure!(get(&self.root.join(path))? == *content, "{} did not heal", path.display());
        }
        Ok(())
    }

    /// Does what `strike` plans, and proves that every file it names has changed.
    pub(super) fn strike(operator: &'static str, root: &Path, strike: Strike) -> Result<Self> {
        ensure!(!strike.changes.is_empty(), "{operator} planned to change nothing");
        let mut guard = Self { operator, root: root.to_owned(), before: Vec::new(), hits: strike.hits };
        for (path, _) in &strike.changes {
            guard.before.push((path.clone(), get(&root.join(path))?));
        }
        for (path, content) in &strike.changes {
            put(&root.join(path), content.as_deref())?;
        }
        for ((path, content), (_, before)) in strike.changes.iter().zip(&guard.before) {
            let now = get(&root.join(path))?;
            ensure!(now == *content && now != *before, "{operator} had no effect on {}", path.display());
        }
        Ok(guard)
    }
}

pub(super) fn get(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Replaces the whole file: restic's files are read-only, and a copy made of hard links must not carry
/// the damage over to its original.
fn put(path: &Path, content: Option<&[u8]>) -> Result<()> {
    let Some(content) = content else {
        return std::fs::remove_file(path).with_context(|| format!("remove {}", path.display()));
    };
    let folder = path.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, content)?;
    file.persist(path).with_context(|| format!("write {}", path.display()))?;
    Ok(())
}
