//! One manifest, indexed and summed up.

use std::collections::{BTreeMap, HashMap};

use firedrill_core::manifest::{Entry, Manifest};
use firedrill_core::subject::Subject;
use serde::{Deserialize, Serialize};

use crate::probe::bases::{self, Bases};
use crate::probe::names;

/// More databases of one kind than this are a collection, and each is an ordinary file.
const DATABASES_MAX: usize = 20;
/// A file of at least this share of all bytes is notable.
const NOTABLE_SHARE: f64 = 0.05;

/// Files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Amount {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What lies in and below one folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Folder {
    /// 0 for what was backed up, 1 for a folder in it, 2 for one below that.
    pub(super) depth: u8,
    pub(super) amount: Amount,
}

/// Counts of the files that matter: neither ignored nor of those that come and go.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Summary {
    pub(super) total: Amount,
    /// By extension.
    pub(super) kinds: BTreeMap<String, Amount>,
    /// By path, down to the second level.
    pub(super) folders: BTreeMap<String, Folder>,
    /// Sizes of databases, dumps and files that make up much of everything, by path.
    pub(super) notable: BTreeMap<String, u64>,
    /// Sizes of the newest dumps, by loose path.
    pub(super) dumps: BTreeMap<String, u64>,
}

/// One manifest.
pub(super) struct View<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) index: HashMap<&'a [u8], &'a Entry>,
    pub(super) summary: Summary,
    bases: Bases,
    ignored: Vec<Vec<u8>>,
    files: Vec<&'a Entry>,
}

impl<'a> View<'a> {
    /// The view of `manifest`, of a snapshot of `paths`.
    pub(super) fn of(manifest: &'a Manifest, paths: &[String], subject: &Subject) -> Self {
        let index: HashMap<_, _> = manifest.entries().iter().map(|e| (e.path.as_slice(), e)).collect();
        let bases = Bases::located(paths, |path| index.contains_key(path));
        let ignored = subject
            .drill
            .probes
            .shape
            .ignore
            .iter()
            .flat_map(|path| meant(&index, subject, path))
            .filter(|path| !path.is_empty())
            .collect();
        let summary = Summary::default();
        let mut view = Self { manifest, index, summary, bases, ignored, files: Vec::new() };
        view.files = manifest.files().filter(|e| view.matters(e)).collect();
        view.summary = view.sum_up();
        view
    }

    /// The path relative to what was backed up, with the length of what comes before it. A backed-up
    /// file is relative to its folder.
    pub(super) fn relative<'p>(&self, path: &'p [u8]) -> (usize, &'p [u8]) {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends {
            if path.get(..end).is_some_and(|above| self.bases.contains(above)) {
                return (end + 1, path.get(end + 1..).unwrap_or_default());
            }
        }
        if self.bases.contains(path) {
            let name = names::last(path);
            return (path.len() - name.len(), name);
        }
        (0, path)
    }

    /// The one file that was backed up, if that is all; what is known about it may lie beside.
    pub(super) fn only_file(&self) -> Option<&'a Entry> {
        self.file(self.bases.only()?).filter(|_| self.summary.total.files <= 2)
    }

    /// Whether `path` is one of the backed-up paths or lies in one.
    pub(super) fn is_inside(&self, path: &[u8]) -> bool {
        self.bases.contains(path) || self.bases.contains(&[]) || self.relative(path).0 > 0
    }

    /// Whether a change of this entry means anything.
    pub(super) fn matters(&self, entry: &Entry) -> bool {
        !names::is_canary(entry) && !self.is_ignored(&entry.path) && {
            let (_, relative) = self.relative(&entry.path);
            !names::is_volatile(relative)
        }
    }

    /// Whether the config says that this path means nothing.
    pub(super) fn is_ignored(&self, path: &[u8]) -> bool {
        self.ignored.iter().any(|ignored| {
            path.strip_prefix(ignored.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        })
    }

    /// Regular files that matter.
    pub(super) fn files(&self) -> impl Iterator<Item = &'a Entry> {
        self.files.iter().copied()
    }

    /// Whether `path` is that of a dump.
    pub(super) fn is_dump(&self, path: &[u8]) -> bool {
        names::is_dump(self.bases.name(path))
    }

    /// Whether `path` is that of a database file or of a dump.
    pub(super) fn is_database(&self, path: &[u8]) -> bool {
        names::is_database(self.bases.name(path))
    }

    /// The regular file at `path`.
    pub(super) fn file(&self, path: &[u8]) -> Option<&'a Entry> {
        self.index.get(path).copied().filter(|e| e.is_file())
    }

    fn sum_up(&self) -> Summary {
        let mut sum = Summary::default();
        let mut databases: BTreeMap<String, Vec<&Entry>> = BTreeMap::new();
        let mut newest: BTreeMap<String, &Entry> = BTreeMap::new();
        for entry in self.files() {
            sum.total.add(entry.size);
            let kind = names::kind(entry.name());
            if self.is_database(&entry.path) {
                databases.entry(kind.clone().unwrap_or_default()).or_default().push(entry);
            }
            if self.is_dump(&entry.path) {
                let newest = newest.entry(names::loose(&text(&entry.path))).or_insert(entry);
                if entry.mtime > newest.mtime {
                    *newest = entry;
                }
            }
            if let Some(kind) = kind {
                sum.kinds.entry(kind).or_default().add(entry.size);
            }
            self.add_to_folders(&mut sum, entry);
        }
        let large = (sum.total.bytes as f64 * NOTABLE_SHARE).max(1.0);
        let large = self.files().filter(|e| e.size as f64 >= large);
        let databases = databases.into_values().filter(|d| d.len() <= DATABASES_MAX).flatten();
        sum.notable = large.chain(databases).map(|e| (text(&e.path), e.size)).collect();
        sum.dumps = newest.into_iter().map(|(form, e)| (form, e.size)).collect();
        sum
    }

    fn add_to_folders(&self, sum: &mut Summary, entry: &Entry) {
        let (start, relative) = self.relative(&entry.path);
        let below = relative.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| start + at);
        for (end, depth) in std::iter::once(start.saturating_sub(1)).chain(below).zip(0u8..3) {
            let path = entry.path.get(..end).unwrap_or_default();
            let folder = sum.folders.entry(text(path)).or_default();
            folder.depth = depth;
            folder.amount.add(entry.size);
        }
    }
}

/// `path` as text; names that are not UTF-8 may fall together, which only makes comparisons coarser.
pub(super) fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The entry paths that `path` from a config may mean.
pub(super) fn meant(index: &HashMap<&[u8], &Entry>, subject: &Subject, path: &str) -> Vec<Vec<u8>> {
    let mut all = subject.meant_by(path);
    let trimmed = path.trim_matches('/');
    for base in subject.snapshot.known_paths() {
        let located = bases::locate(&|path: &[u8]| index.contains_key(path), base);
        let bare = base.trim_matches('/');
        let below = if path.starts_with('/') {
            trimmed.strip_prefix(bare).filter(|rest| rest.is_empty() || rest.starts_with('/'))
        } else {
            Some(trimmed)
        };
        if let Some(below) = below {
            let mut whole = located;
            let below = below.trim_start_matches('/');
            if !whole.is_empty() && !below.is_empty() {
                whole.push(b'/');
            }
            whole.extend_from_slice(below.as_bytes());
            all.push(whole);
        }
    }
    all.sort();
    all.dedup();
    all
}

/// Where each backed-up path is in the tree.
pub(super) fn located(view: &View<'_>, path: &str) -> Vec<u8> {
    bases::locate(&|path: &[u8]| view.index.contains_key(path), path)
}
