//! What vanished or shrank: files and bytes at large, folders, kinds of files, databases and dumps.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::{Digest, Entry, Manifest};
use firedrill_core::subject::Subject;

use super::past::{Past, lost, replaced};
use super::view::{Amount, Summary, View, text};
use crate::probe::names;

/// Below this, a drop of bytes says nothing.
const BYTES_MIN: u64 = 64 << 10;
/// The share of all files or bytes that nobody clears away without being asked about it.
const MUCH: f64 = 0.25;
/// A smaller dump is not looked at for shrinking.
const DUMP_MIN: u64 = 512;
/// At most this many files of a vanished kind or folder are looked for elsewhere.
const SEARCHED_MAX: usize = 2000;

pub(super) fn examine(subject: &Subject, now: &View<'_>, past: &[Past<'_>], examination: &mut Examination) {
    let shrink = Shrink { subject, now, past, contents: OnceCell::new(), databases: OnceCell::new() };
    shrink.totals(examination);
    shrink.folders(examination);
    shrink.kinds(examination);
    shrink.notable(examination);
    shrink.dumps(examination);
}

struct Shrink<'s, 'a> {
    subject: &'s Subject,
    now: &'s View<'a>,
    past: &'s [Past<'a>],
    contents: OnceCell<HashSet<(u64, Digest)>>,
    databases: OnceCell<HashSet<String>>,
}

/// A folder that is gone or empty.
struct Vanished {
    amount: Amount,
    of_files: f64,
    of_bytes: f64,
    /// Somebody removed it, or what was in it.
    cleared: bool,
}

impl<'s, 'a> Shrink<'s, 'a> {
    fn totals(&self, examination: &mut Examination) {
        let settings = &self.subject.drill.probes.shape;
        let place = || self.subject.snapshot.paths.join(", ");
        let has = self.now.summary.total;
        let few = |had: u64, has: u64, ratio: f64| (has as f64) < had as f64 * (1.0 - ratio);

        let files = lost(self.past, |p| {
            let had = self.lasting(p).files;
            let fell = had >= 3 && few(had, has.files, settings.files_drop_max_ratio);
            (fell && !self.was_merged(p)).then_some(had)
        });
        if let Some((state, had)) = files {
            examination.find(Finding::anomaly(
                "shape.files",
                place(),
                format!("about {had} files, as in {}", state.label),
                format!("{} files", has.files),
            ));
        }
        let bytes = lost(self.past, |p| {
            let had = self.lasting(p).bytes;
            (had >= BYTES_MIN && few(had, has.bytes, settings.bytes_drop_max_ratio)).then_some(had)
        });
        if let Some((state, had)) = bytes {
            examination.find(Finding::anomaly(
                "shape.bytes",
                place(),
                format!("about {had} bytes, as in {}", state.label),
                format!("{} bytes", has.bytes),
            ));
        }
    }

    /// All files of `past` but those that neither were there before nor are there now: a queue that was
    /// full for a while and is worked off.
    fn lasting(&self, past: &Past<'a>) -> Amount {
        let (Some(tree), Some(before)) = (&past.tree, self.before(past)) else { return past.summary.total };
        let mut lasting = Amount::default();
        let known =
            |e: &&Entry| before.index.contains_key(e.path.as_slice()) || self.now.file(&e.path).is_some();
        tree.files().filter(known).for_each(|e| lasting.add(e.size));
        lasting
    }

    /// Whether files became fewer because their content was put together in fewer: of each sort of file that
    /// became rare, most bytes are still there.
    fn was_merged(&self, past: &Past<'a>) -> bool {
        let Some(tree) = &past.tree else { return false };
        let (had, has) = (by_form(tree), by_form(self.now));
        let of = |form| has.get(form).copied().unwrap_or_default();
        let rare = had.iter().filter(|(form, amount)| of(*form).files * 2 < amount.files);
        let (had, has) = rare.fold((0u64, 0u64), |(had, has), (form, amount)| {
            (had.saturating_add(amount.bytes), has.saturating_add(of(form).bytes))
        });
        had > 0 && has.saturating_mul(2) >= had
    }

    fn folders(&self, examination: &mut Examination) {
        let mut vanished: Vec<(&str, &Past<'a>, Vanished)> = Vec::new();
        let gone = |path: &&String| self.now.summary.folders.get(*path).is_none_or(|f| f.amount.files == 0);
        for (number, path) in self.keys(|s| s.folders.keys()).into_iter().filter(gone).enumerate() {
            let above = names::parent(path.as_bytes());
            let within = vanished.iter().any(|(reported, ..)| {
                let reported = reported.as_bytes();
                reported == above || reported == names::parent(above)
            });
            if self.now.is_ignored(path.as_bytes()) || within {
                continue;
            }
            if number >= SEARCHED_MAX {
                examination.not_verified.push(format!("folders that vanished, beyond {SEARCHED_MAX}"));
                break;
            }
            if let Some((state, had)) = lost(self.past, |p| self.vanished_folder(p, path)) {
                vanished.push((path, state, had));
            }
        }
        // Somebody who clears away a little knows what it was.
        let cleared = || vanished.iter().map(|(.., v)| v).filter(|v| v.cleared);
        let much = cleared().map(|v| v.of_files).sum::<f64>() >= MUCH
            || cleared().map(|v| v.of_bytes).sum::<f64>() >= MUCH;
        for (path, state, had) in vanished {
            if had.cleared && !much {
                let Amount { files, bytes } = had.amount;
                examination.notes.push(format!(
                    "{path}: {files} files with {bytes} bytes were removed since {}",
                    state.label
                ));
                continue;
            }
            let there = self.now.index.contains_key(path.as_bytes());
            examination.find(Finding::anomaly(
                if there { "shape.folder_emptied" } else { "shape.folder_gone" },
                path,
                format!("{} files with {} bytes, as in {}", had.amount.files, had.amount.bytes, state.label),
                if there { "no file that matters" } else { "no such folder" },
            ));
        }
    }

    fn vanished_folder(&self, past: &Past<'a>, path: &str) -> Option<Vanished> {
        let folder = past.summary.folders.get(path)?;
        let (had, whole) = (folder.amount, past.summary.total);
        if had.files == 0 {
            return None;
        }
        let of_bytes = Past::share(had.bytes, whole.bytes);
        let of_files = Past::share(had.files, whole.files);
        let weighty = whole.bytes >= BYTES_MIN && (of_bytes >= 0.25 || (of_bytes >= 0.05 && had.files >= 2));
        let matters = match folder.depth {
            0 => true,
            1 => had.files >= 3,
            _ => had.files >= 3 && (of_files >= 0.02 || of_bytes >= 0.02),
        };
        let below = format!("{path}/");
        let is_below = |e: &&Entry| e.path.starts_with(below.as_bytes());
        if !matters && !weighty || folder.depth > 0 && self.was_passing(past, is_below) {
            return None;
        }
        // A new generation of the folder, or its content under another name.
        let is_old = |other: &str| past.summary.folders.contains_key(other);
        let successors = self.now.summary.folders.iter().filter(|(_, f)| f.amount.files * 2 >= had.files);
        if replaced(path, successors.map(|(p, _)| p), is_old) {
            return None;
        }
        let moved = match &past.tree {
            Some(tree) => self.mostly_moved(tree.manifest, tree.files().filter(is_below), 0.8),
            // Without digests: as much as before is there, so it lies elsewhere.
            None => {
                let has = self.now.summary.total;
                has.files as f64 >= whole.files as f64 * 0.95 && has.bytes as f64 >= whole.bytes as f64 * 0.95
            }
        };
        let cleared = folder.depth > 0 && self.was_cleared(past, path.as_bytes());
        let of_bytes = if whole.bytes >= BYTES_MIN { of_bytes } else { 0.0 };
        (!moved).then_some(Vanished { amount: had, of_files, of_bytes, cleared })
    }

    /// Whether somebody removed `path`, or what was in it, since that state: the folder that changed by it
    /// says so. A backup that leaves something out, or a file system that is not mounted, changes no folder.
    /// A folder that changes all the time says nothing.
    fn was_cleared(&self, past: &Past<'a>, path: &[u8]) -> bool {
        let is_fresh_volume = [path, b"/lost+found"].concat();
        if self.now.index.contains_key(is_fresh_volume.as_slice()) {
            return false;
        }
        let mut place = path;
        while !self.now.index.contains_key(place) {
            if place.is_empty() {
                return false;
            }
            place = names::parent(place);
        }
        let time = |view: &View<'a>| view.index.get(place)?.mtime;
        let changed = time(self.now).is_some_and(|changed| changed > past.time);
        let before = past.tree.as_ref().zip(self.before(past));
        let is_busy = before.is_some_and(|(then, before)| time(then) != time(before));
        changed && !is_busy
    }

    /// The tree of the newest state before `past`, if that could be read.
    fn before(&self, past: &Past<'a>) -> Option<&View<'a>> {
        self.past.iter().filter(|p| p.time < past.time).find_map(|p| p.tree.as_ref())
    }

    /// Whether none of these files of `past` is in the state before it: what lies there never stays long.
    fn was_passing(&self, past: &Past<'a>, which: impl Fn(&&Entry) -> bool) -> bool {
        let (Some(tree), Some(before)) = (&past.tree, self.before(past)) else { return false };
        let mut files = tree.files().filter(which).peekable();
        files.peek().is_some() && files.all(|e| before.file(&e.path).is_none())
    }

    fn kinds(&self, examination: &mut Examination) {
        for kind in self.keys(|s| s.kinds.keys()) {
            let Some((state, had)) = lost(self.past, |p| self.vanished_kind(p, kind)) else { continue };
            examination.find(Finding::anomaly(
                "shape.kind_gone",
                format!("*.{kind}"),
                format!("{} files with {} bytes, as in {}", had.files, had.bytes, state.label),
                "none, while other kinds stayed",
            ));
        }
    }

    fn vanished_kind(&self, past: &Past<'a>, kind: &str) -> Option<Amount> {
        let had = *past.summary.kinds.get(kind)?;
        if had.files == 0 || self.now.summary.kinds.contains_key(kind) || self.is_one_dump(past) {
            return None;
        }
        let whole = past.summary.total;
        let (of_files, of_bytes) = (Past::share(had.files, whole.files), Past::share(had.bytes, whole.bytes));
        let many = had.files >= 50
            || (had.files >= 5 && (of_files >= 0.01 || of_bytes >= 0.01))
            || (had.files >= 3 && of_files >= 0.1);
        let large = had.bytes >= BYTES_MIN && of_bytes >= 0.05;
        let is_kind = |e: &&Entry| names::kind(e.name()).as_deref() == Some(kind);
        let cleared = past.tree.as_ref().is_some_and(|tree| {
            tree.files().filter(is_kind).all(|e| self.was_cleared(past, names::parent(&e.path)))
        });
        let much = of_files >= MUCH || whole.bytes >= BYTES_MIN && of_bytes >= MUCH;
        if !many && !large || cleared && !much || self.was_passing(past, is_kind) {
            return None;
        }
        let elsewhere = match &past.tree {
            Some(tree) => {
                // A new file of the same name with another extension: converted, not lost. Content that was
                // made unreadable on the way is what `disguise` looks for.
                let stems = &past.fresh(self.now).stems;
                let converted = |e: &Entry| stems.contains(names::stem(&e.path));
                let files: Vec<_> = tree.files().filter(is_kind).take(SEARCHED_MAX).collect();
                let found = files.iter().filter(|e| converted(e) || self.is_moved(tree.manifest, e)).count();
                found * 2 >= files.len()
            }
            None => self.now.summary.total.files.saturating_add(had.files / 2) > whole.files,
        };
        (!elsewhere).then_some(had)
    }

    /// Whether each state is one dump: the new one takes the place of the old one, whatever they are called.
    /// Snapshots of etcd bear the name of the node that took them, for example.
    fn is_one_dump(&self, past: &Past<'a>) -> bool {
        let is_dump = |entry: &Entry| entry.size > 0 && self.now.is_dump(&entry.path);
        let was_one = match &past.tree {
            Some(tree) => tree.only_file().is_some_and(|e| e.size > 0 && tree.is_dump(&e.path)),
            None => past.summary.total.files <= 2 && past.summary.dumps.len() == 1,
        };
        // Plain objects are named by no program; there the place says that it is a dump.
        let by_place = self.subject.snapshot.program.is_empty();
        was_one && self.now.only_file().is_some_and(|e| is_dump(e) || by_place && e.size > 0)
    }

    /// Databases and dumps that vanished, and whatever made up much of everything and is empty now.
    fn notable(&self, examination: &mut Examination) {
        for path in self.keys(|s| s.notable.keys()) {
            let now = self.now.file(path.as_bytes());
            if self.now.is_ignored(path.as_bytes()) || now.is_some_and(|e| e.size > 0) {
                continue;
            }
            let gone = lost(self.past, |p| {
                let size = *p.summary.notable.get(path).filter(|size| **size > 0)?;
                let matters = now.is_some() || self.vanished_database(p, path);
                matters.then_some(size)
            });
            let Some((state, size)) = gone else { continue };
            let expected = format!("a file of {size} bytes, as in {}", state.label);
            examination.find(match now {
                Some(_) => Finding::anomaly("shape.file_emptied", path.clone(), expected, "an empty file"),
                None => Finding::anomaly("shape.database_gone", path.clone(), expected, "no such file"),
            });
        }
    }

    fn vanished_database(&self, past: &Past<'a>, path: &str) -> bool {
        let there = past.tree.as_ref().unwrap_or(self.now);
        if !there.is_database(path.as_bytes()) || self.is_one_dump(past) {
            return false;
        }
        let form = names::loose(path);
        // Retention of dated dumps removes old ones; what counts is that the series goes on.
        let databases = self.databases.get_or_init(|| {
            let databases = self.now.files().filter(|e| self.now.is_database(&e.path));
            databases.map(|e| names::loose(&text(&e.path))).collect()
        });
        if names::is_dated(path) && databases.contains(&form) {
            return false;
        }
        match &past.tree {
            Some(tree) => match tree.file(path.as_bytes()) {
                Some(entry) => {
                    let next_generation = past.fresh(self.now).forms.contains(&form);
                    !next_generation && !self.is_moved(tree.manifest, entry)
                }
                None => true,
            },
            None => {
                let is_old = |other: &str| past.summary.notable.contains_key(other);
                !replaced(path, self.now.summary.notable.keys(), is_old)
            }
        }
    }

    fn dumps(&self, examination: &mut Examination) {
        let ratio = self.subject.drill.probes.shape.bytes_drop_max_ratio;
        for form in self.keys(|s| s.dumps.keys()) {
            let Some(has) = self.now.summary.dumps.get(form).copied().filter(|size| *size > 0) else {
                continue;
            };
            let shrank = lost(self.past, |p| {
                let had = *p.summary.dumps.get(form)?;
                (had >= DUMP_MIN && (has as f64) < had as f64 * (1.0 - ratio)).then_some(had)
            });
            if let Some((state, had)) = shrank {
                examination.find(Finding::anomaly(
                    "shape.dump_shrank",
                    form.clone(),
                    format!("a dump of about {had} bytes, as in {}", state.label),
                    format!("{has} bytes"),
                ));
            }
        }
    }

    fn keys<'k, I: Iterator<Item = &'k String>>(
        &'k self,
        of: impl Fn(&'k Summary) -> I,
    ) -> BTreeSet<&'k String> {
        self.past.iter().flat_map(|p| of(&p.summary)).collect()
    }

    fn mostly_moved<'e>(
        &self,
        theirs: &Manifest,
        files: impl Iterator<Item = &'e Entry>,
        share: f64,
    ) -> bool {
        let files: Vec<_> = files.take(SEARCHED_MAX).collect();
        let moved = files.iter().filter(|e| self.is_moved(theirs, e)).count();
        moved as f64 >= files.len() as f64 * share
    }

    /// Whether the content of an old file is there under any name.
    fn is_moved(&self, theirs: &Manifest, entry: &Entry) -> bool {
        let contents = self.contents.get_or_init(|| {
            self.now.manifest.files().filter_map(|e| Some((e.size, first(self.now.manifest, e)?))).collect()
        });
        first(theirs, entry).is_some_and(|digest| contents.contains(&(entry.size, digest)))
    }
}

/// Files that are generations of one another, together.
fn by_form(view: &View<'_>) -> BTreeMap<String, Amount> {
    let mut forms: BTreeMap<String, Amount> = BTreeMap::new();
    for entry in view.files() {
        forms.entry(names::loose(&text(&entry.path))).or_default().add(entry.size);
    }
    forms
}

fn first(manifest: &Manifest, entry: &Entry) -> Option<Digest> {
    manifest.chunks(entry).first().map(|chunk| chunk.digest)
}
