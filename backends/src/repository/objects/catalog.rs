//! From a listing to snapshots, and what is to be said about the rest.

use std::collections::BTreeMap;

use firedrill_core::config::ObjectPattern;
use firedrill_core::config::objects::{ObjectName, plain_components};
use firedrill_core::finding::Finding;
use firedrill_core::manifest::display_path;
use firedrill_core::snapshot::{Snapshot, SnapshotId};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::rhythm::Times;
use super::{Listing, Object, ObjectSettings, names};

/// Clocks may differ by so much.
const CLOCKS: SignedDuration = SignedDuration::from_mins(15);
/// The farthest that time zones are from UTC.
const ZONES: SignedDuration = SignedDuration::from_hours(14);
/// A dump that is stored so much later was copied, or uploaded once more.
const LATE: SignedDuration = SignedDuration::from_hours(24);
/// So many names are told of each kind.
const EXAMPLES: usize = 3;
/// A folder with at least so many dumps that fit no pattern is one that somebody forgot.
const FORGOTTEN_MIN: u64 = 2;

/// What a copy holds.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Oldest first.
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) findings: Vec<Finding>,
    pub(super) notes: Vec<String>,
    /// Keys of the newest objects of series where that lies in an archive.
    pub(super) archived: Vec<String>,
    pub(super) times: Times,
    /// Whether something that fits nothing may be a backup all the same.
    pub(super) doubtful: bool,
}

/// Names of one kind, counted.
#[derive(Default)]
struct Tally {
    count: u64,
    examples: Vec<String>,
}

impl Tally {
    fn add(&mut self, key: &str) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(display_path(key.as_bytes()));
        }
    }

    /// `objects that WHAT: 3 (a, b, c)`, or nothing.
    fn note(&self, what: &str) -> Option<String> {
        let more = if self.count > self.examples.len() as u64 { ", ..." } else { "" };
        (self.count > 0)
            .then(|| format!("objects that {what}: {} ({}{more})", self.count, self.examples.join(", ")))
    }
}

/// A file with a hash and a name is not longer.
pub(super) const SUM_MAX: u64 = 1 << 10;

/// What the objects turned out to be.
#[derive(Default)]
struct Sorting {
    strange: Tally,
    unfinished: Tally,
    hidden: Tally,
    left_out: Tally,
    unmatched: Tally,
    empty: Tally,
    early: Tally,
    late: Tally,
    future: Tally,
    archived: Tally,
    /// Something that fits no pattern has the name of a dump.
    doubtful: bool,
    /// Folders that patterns reach: dumps in them that fit and that do not.
    folders: BTreeMap<String, (u64, Tally)>,
}

/// What one object is.
enum Sorted {
    Dump(ObjectName),
    Other,
}

impl Catalog {
    pub(super) fn of(listing: Listing, settings: &ObjectSettings, now: Timestamp) -> Self {
        let mut catalog = Self::default();
        let mut sorting = Sorting::default();
        let mut newest: BTreeMap<String, (Timestamp, usize)> = BTreeMap::new();
        for (at, object) in listing.objects.iter().enumerate() {
            let Sorted::Dump(name) = sorting.sort(object, settings) else { continue };
            let time = sorting.time(object, &name, now);
            catalog.times.entry(name.series.clone()).or_default().push((time, object.modified));
            let slot = newest.entry(name.series.clone()).or_insert((time, at));
            if time > slot.0 {
                *slot = (time, at);
            }
            catalog.snapshots.push(snapshot(object, name, time));
        }
        catalog.snapshots.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        catalog.times.values_mut().for_each(|times| times.sort_unstable());
        let newest = newest.values().filter_map(|(_, at)| listing.objects.get(*at));
        catalog.archived = newest.filter(|o| o.archive.is_some()).map(|o| o.key.clone()).collect();
        catalog.findings = sorting.forgotten();
        // Without patterns nobody knows what else may be a backup.
        catalog.doubtful = sorting.doubtful || settings.patterns.is_empty() && sorting.unmatched.count > 0;
        catalog.notes = listing.notes;
        catalog.notes.extend(sorting.notes(settings.patterns.is_empty()));
        catalog
    }
}

impl Sorting {
    fn sort(&mut self, object: &Object, settings: &ObjectSettings) -> Sorted {
        let key = object.key.as_str();
        // Consoles make such an object for a folder.
        if object.size == 0 && key.ends_with('/') || is_sum(key, object.size) {
            return Sorted::Other;
        }
        let Some(parts) = plain_components(key) else {
            self.strange.add(key);
            return Sorted::Other;
        };
        let Some((name, folders)) = parts.split_last() else { return Sorted::Other };
        let read = if settings.patterns.is_empty() {
            if folders.contains(&".metadata") {
                // Restored beside the snapshot that it is about.
                return Sorted::Other;
            }
            if parts.iter().any(|part| part.starts_with('.')) {
                self.hidden.add(key);
                return Sorted::Other;
            }
            let whole = Some(name).filter(|name| !names::is_unfinished(name));
            whole.and_then(|_| names::read(settings.kind, &parts))
        } else {
            match fitting(&settings.patterns, &parts) {
                Some((pattern, _)) if pattern.leaves_out() => {
                    self.left_out.add(key);
                    return Sorted::Other;
                }
                // `*` at the end of a pattern means other endings than these.
                Some((pattern, _))
                    if names::is_unfinished(name) && !names::is_unfinished(pattern.as_str()) =>
                {
                    None
                }
                found => found.map(|(_, name)| name),
            }
        };
        let fits = read.is_some();
        if !fits && names::is_unfinished(name) {
            self.unfinished.add(key);
            return Sorted::Other;
        }
        self.in_folder(&settings.patterns, folders, name, key, fits);
        let Some(read) = read else {
            if !folders.contains(&".metadata") {
                self.unmatched.add(key);
                self.doubtful |= names::looks_like_dump(name);
            }
            return Sorted::Other;
        };
        if object.size == 0 {
            self.empty.add(key);
        }
        if object.archive.is_some() {
            self.archived.add(key);
        }
        Sorted::Dump(read)
    }

    /// Counts dumps in folders that patterns speak of.
    fn in_folder(&mut self, patterns: &[ObjectPattern], folders: &[&str], name: &str, key: &str, fits: bool) {
        let meant = patterns.iter().any(|p| !p.leaves_out() && p.reaches(folders) == Some(true));
        if !meant || !(fits || names::looks_like_dump(name)) {
            return;
        }
        let (fitting, others) = self.folders.entry(folders.join("/")).or_default();
        if fits { *fitting += 1 } else { others.add(key) }
    }

    /// The time of an object: that in its name, unless it was stored before, by less than time zones differ.
    /// Then the name is in local time, and the dump is not newer than it was stored.
    fn time(&mut self, object: &Object, name: &ObjectName, now: Timestamp) -> Timestamp {
        let Some(named) = name.time else { return object.modified };
        let ahead = named.duration_since(object.modified);
        if ahead > ZONES {
            let tally = if named.duration_since(now) > CLOCKS { &mut self.future } else { &mut self.early };
            tally.add(&object.key);
            return named;
        }
        if ahead > CLOCKS {
            self.early.add(&object.key);
            return object.modified;
        }
        if ahead < -LATE {
            self.late.add(&object.key);
        }
        named
    }

    /// Folders full of dumps that patterns reach and do not fit: nobody would ever test them.
    fn forgotten(&self) -> Vec<Finding> {
        let forgotten =
            self.folders.iter().filter(|(_, (fit, others))| *fit == 0 && others.count >= FORGOTTEN_MIN);
        let finding = |(folder, (_, others)): (&String, &(u64, Tally))| {
            Finding::anomaly(
                "objects.unmatched",
                display_path(folder.as_bytes()),
                "dumps whose names fit a pattern in `objects`, or one that starts with `!`",
                format!(
                    "{} that fit none, and are not drilled, like {}",
                    others.count,
                    others.examples.join(", ")
                ),
            )
        };
        forgotten.map(finding).collect()
    }

    fn notes(&self, builtin: bool) -> Vec<String> {
        let unmatched = if builtin { "do not look like backups" } else { "fit no pattern" };
        [
            self.unmatched.note(unmatched),
            self.left_out.note("are left out on purpose"),
            self.hidden.note("are hidden, and were left out"),
            self.unfinished.note("are not finished by their names"),
            self.strange.note("have names that no file can have"),
            self.empty.note("are empty"),
            self.archived.note("lie in an archive tier, and cannot be read before they are thawed"),
            self.early.note("were stored before the time in their names: is that a local time? Say which: {time:...@ZONE}"),
            self.future.note("have a time in their names that is still to come"),
            self.late.note("were stored long after the time in their names: copied, or uploaded again"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Whether this is the hash of an object that lies beside it.
pub(super) fn is_sum(key: &str, size: u64) -> bool {
    key.ends_with(".sha256") && size <= SUM_MAX
}

/// Whether an object of this name would be a backup.
pub(super) fn is_named(key: &str, settings: &ObjectSettings) -> bool {
    let Some(parts) = plain_components(key) else { return false };
    match settings.patterns.as_slice() {
        [] => names::read(settings.kind, &parts).is_some(),
        patterns => fitting(patterns, &parts).is_some_and(|(pattern, _)| !pattern.leaves_out()),
    }
}

/// The first pattern that fits.
fn fitting<'p>(patterns: &'p [ObjectPattern], key: &[&str]) -> Option<(&'p ObjectPattern, ObjectName)> {
    // What is left out on purpose is left out wherever it stands in the list.
    let (out, wanted): (Vec<_>, Vec<_>) = patterns.iter().partition(|p| p.leaves_out());
    out.into_iter().chain(wanted).find_map(|pattern| Some((pattern, pattern.read(key)?)))
}

fn snapshot(object: &Object, name: ObjectName, time: Timestamp) -> Snapshot {
    let state = match object.etag.as_str() {
        "" => object.modified.to_string(),
        etag => etag.to_owned(),
    };
    let id = Sha256::digest(format!("{}\0{state}\0{}", object.key, object.size));
    let id = hex::encode(id);
    Snapshot {
        id: SnapshotId(id.clone()),
        time,
        host: name.namespace,
        tags: vec![name.series],
        paths: vec![object.key.clone()],
        tree: id,
        program: String::new(),
        files: Some(1),
        bytes: Some(object.size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, modified: &str, size: u64) -> Object {
        Object {
            key: key.to_owned(),
            size,
            modified: modified.parse().unwrap(),
            etag: String::new(),
            archive: None,
        }
    }

    fn catalog(patterns: &[&str], objects: Vec<Object>) -> Catalog {
        let patterns = patterns.iter().map(|p| p.parse().unwrap()).collect();
        let settings = ObjectSettings { patterns, ..ObjectSettings::default() };
        let listing = Listing { objects, notes: Vec::new() };
        Catalog::of(listing, &settings, "2026-02-11T12:00:00Z".parse().unwrap())
    }

    const STORED: &str = "2026-02-11T03:00:30Z";
    const DUMPS: &str = "{name}/{namespace}-{time:%Y%m%d-%H%M%S}.sql.gz";

    #[test]
    fn an_object_is_a_snapshot() {
        let catalog = catalog(&[DUMPS], vec![object("jellyfin/media-20260211-030000.sql.gz", STORED, 9)]);
        let snapshot = &catalog.snapshots[0];
        assert_eq!(
            (snapshot.tags.as_slice(), snapshot.host.as_str()),
            (&["jellyfin".to_owned()][..], "media")
        );
        assert_eq!(snapshot.time.to_string(), "2026-02-11T03:00:00Z");
        assert_eq!(snapshot.paths, ["jellyfin/media-20260211-030000.sql.gz"]);
        assert_eq!((snapshot.bytes, snapshot.id.0.len()), (Some(9), 64));
        assert!(catalog.notes.is_empty() && catalog.findings.is_empty(), "{:?}", catalog.notes);
    }

    #[test]
    fn nothing_is_passed_over_in_silence() {
        let catalog = catalog(
            &[DUMPS, "!old/*"],
            vec![
                object("wiki/wiki-20260211-030000.sql.gz", STORED, 9),
                object("wiki/wiki-20260210-030000.sql.gz", "2026-02-10T03:00:30Z", 0),
                object("wiki/wiki-20260211-040000.sql.gz.part", STORED, 9),
                object("wiki/", STORED, 0),
                object("wiki/notes.txt", STORED, 9),
                object("old/x.sql.gz", STORED, 9),
                object("a/../../etc/passwd", STORED, 9),
            ],
        );
        assert_eq!(catalog.snapshots.len(), 2);
        assert_eq!(
            catalog.notes,
            [
                "objects that fit no pattern: 1 (wiki/notes.txt)",
                "objects that are left out on purpose: 1 (old/x.sql.gz)",
                "objects that are not finished by their names: 1 (wiki/wiki-20260211-040000.sql.gz.part)",
                "objects that have names that no file can have: 1 (a/../../etc/passwd)",
                "objects that are empty: 1 (wiki/wiki-20260210-030000.sql.gz)",
            ]
        );
        assert!(catalog.findings.is_empty(), "{:?}", catalog.findings);
    }

    #[test]
    fn a_star_does_not_mean_unfinished() {
        let objects =
            || vec![object("a-20260211.sql.part", STORED, 9), object("a-20260211.sql.gz", STORED, 9)];
        assert_eq!(catalog(&["{name}-{time:%Y%m%d}.sql*"], objects()).snapshots.len(), 1);
        assert_eq!(catalog(&["{name}-{time:%Y%m%d}.sql.part"], objects()).snapshots.len(), 1);
    }

    #[test]
    fn only_what_may_be_a_backup_is_doubtful() {
        let doubtful =
            |patterns: &[&str], key: &str| catalog(patterns, vec![object(key, STORED, 9)]).doubtful;
        assert!(doubtful(&[DUMPS], "wiki_20260211.sql.gz") && !doubtful(&[DUMPS], "README.md"));
        assert!(doubtful(&[], "README.md"));
    }

    #[test]
    fn a_folder_that_the_pattern_forgot_is_a_finding() {
        let forgotten = |names: &[&str]| {
            let mut objects = vec![object("wiki/wiki-20260211-030000.sql.gz", STORED, 9)];
            objects.extend(names.iter().map(|name| object(name, STORED, 9)));
            catalog(&[DUMPS], objects).findings
        };
        let found = forgotten(&["dnd/dnd_2026-02-10.sql.gz", "dnd/dnd_2026-02-11.sql.gz"]);
        assert_eq!((found.len(), found[0].location.as_str()), (1, "dnd"));
        // One by hand, no dumps at all, or somewhere else.
        assert!(forgotten(&["dnd/by-hand.sql.gz"]).is_empty());
        assert!(forgotten(&["wiki/by-hand.sql.gz", "wiki/another.sql.gz"]).is_empty());
        assert!(
            forgotten(&["dnd/a.txt", "dnd/b.txt", "x/y/a.sql", "x/y/b.sql", "a.sql", "b.sql"]).is_empty()
        );
    }

    #[test]
    fn names_in_local_time_make_no_dump_of_the_future() {
        let at = |name: &str, stored: &str| {
            let catalog = catalog(&[], vec![object(name, stored, 9)]);
            (catalog.snapshots[0].time.to_string(), catalog.notes.join("; "))
        };
        let (time, note) = at("a-20260211-130000.sql", "2026-02-11T11:00:05Z");
        assert!(time == "2026-02-11T11:00:05Z" && note.contains("local time"), "{time} {note}");
        let (time, note) = at("a-20260201-130000.sql", "2026-02-11T11:00:05Z");
        assert!(time == "2026-02-01T13:00:00Z" && note.contains("uploaded again"), "{time} {note}");
        let (time, note) = at("a-20270201-130000.sql", "2026-02-11T11:00:05Z");
        assert!(time == "2027-02-01T13:00:00Z" && note.contains("still to come"), "{time} {note}");
    }
}
