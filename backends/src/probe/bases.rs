//! Where in a tree lies what was backed up, and which folders hold what programs bring along.
//!
//! Programs come with SQL scripts and broken archives of their own, in folders called `share`, `src` or
//! `tests`. The same words stand in the paths of good backups: `/srv/share/db`, `/opt/test`,
//! `/var/lib/backups`. Such a word therefore says something only *below* what was backed up, and below the
//! usual places of a machine. A folder called `node_modules` says it wherever it stands.

use std::collections::{HashMap, HashSet};

use firedrill_core::manifest::Manifest;
use firedrill_core::snapshot::is_more_paths;

/// Folders that nothing but programs and their tests have.
const PROGRAMS: &[&str] = &[
    "node_modules",
    "site-packages",
    "dist-packages",
    "__tests__",
    "__fixtures__",
    "testdata",
    // Debian's scripts that set up the databases of packages.
    "dbconfig-common",
];

/// Where the backed-up paths of one snapshot are in its tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bases {
    /// From the path in the tree to the paths on the machine, without slashes around them.
    places: HashMap<Vec<u8>, Vec<String>>,
}

impl Bases {
    /// The bases of a snapshot of `paths` that holds `manifest`.
    pub(crate) fn of(manifest: &Manifest, paths: &[String]) -> Self {
        // One pass, because not every probe has an index of the tree.
        let wanted: HashSet<&[u8]> = paths.iter().flat_map(|path| ends(trimmed(path).as_bytes())).collect();
        let entries = manifest.entries().iter().map(|entry| entry.path.as_slice());
        let found: HashSet<&[u8]> = entries.filter(|path| wanted.contains(path)).collect();
        Self::located(paths, |path| found.contains(path))
    }

    /// The bases of a snapshot of `paths`, in a tree that `has` some paths.
    pub(crate) fn located(paths: &[String], has: impl Fn(&[u8]) -> bool) -> Self {
        let mut places: HashMap<Vec<u8>, Vec<String>> = HashMap::new();
        for path in paths.iter().filter(|path| !is_more_paths(path)) {
            let origin = Some(trimmed(path)).filter(|path| *path != ".").unwrap_or_default();
            places.entry(locate(&has, path)).or_default().push(origin.to_owned());
        }
        Self { places }
    }

    /// Whether `path` is one of the bases.
    pub(crate) fn contains(&self, path: &[u8]) -> bool {
        self.places.contains_key(path)
    }

    /// The only base, if there is one only.
    pub(crate) fn only(&self) -> Option<&[u8]> {
        let mut places = self.places.keys();
        places.next().filter(|_| places.next().is_none()).map(Vec::as_slice)
    }

    /// `path` with its lead: what leads to the innermost base above it, and on to where the usual places
    /// of a machine end.
    pub(crate) fn name<'p>(&self, path: &'p [u8]) -> Named<'p> {
        let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        let mut above = slashes.filter_map(|at| Some((at + 1, self.places.get(path.get(..at)?)?)));
        let start = path.len() - path.rsplit(|b| *b == b'/').next().unwrap_or(path).len();
        let whole = || self.places.get(&[][..]).map(|origins| (0, origins));
        // What was backed up as a file of its own is led to by all of its folders.
        if self.places.contains_key(path) {
            return Named { path, lead: start };
        }
        let Some((lead, origins)) = above.next_back().or_else(whole) else { return Named::alone(path) };
        let below = path.get(lead..).unwrap_or_default();
        let further = origins.iter().map(|origin| {
            let origin = if origin.is_empty() { String::new() } else { format!("{origin}/") };
            let absolute = [origin.as_bytes(), below].concat();
            usual_place(&absolute).saturating_sub(origin.len())
        });
        Named { path, lead: lead + further.max().unwrap_or_default() }
    }
}

/// A path, and how much of it only leads to what was backed up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'p> {
    pub(crate) path: &'p [u8],
    /// A length in bytes.
    pub(crate) lead: usize,
}

impl<'p> Named<'p> {
    /// A path of which no base is known.
    pub(crate) fn alone(path: &'p [u8]) -> Self {
        Self { path, lead: usual_place(path) }
    }

    /// Whether it lies in a folder of a program: one that only programs have, or below its lead one of
    /// `words`.
    pub(crate) fn is_programs(self, words: &[&str]) -> bool {
        let mut begin = 0;
        folders(self.path).any(|folder| {
            let below = begin >= self.lead;
            begin += folder.len() + 1;
            is_among(folder, PROGRAMS) || (below && is_among(folder, words))
        })
    }
}

/// The folders above the last component.
pub(crate) fn folders(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default().split(|b| *b == b'/').filter(move |_| end > 0)
}

fn is_among(folder: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| folder.eq_ignore_ascii_case(word.as_bytes()))
}

/// How much of an absolute path, without the slash in front, is a place where machines keep all kinds of
/// things: `var/lib/`, `usr/local/share/`, `home/somebody/src/`. Whatever stands at the top says nothing.
fn usual_place(path: &[u8]) -> usize {
    let all: Vec<&[u8]> = folders(path).collect();
    let is = |at: usize, words: &[&str]| all.get(at).is_some_and(|folder| is_among(folder, words));
    // On Windows the drive comes first.
    let top = usize::from(all.first().is_some_and(|folder| folder.len() == 1));
    let mut count = top + 1;
    if is(top, &["var", "usr", "opt", "srv", "mnt", "media", "data", "export", "root"]) {
        count = top + 2;
    } else if is(top, &["home", "users"]) {
        count = top + 3;
    }
    // Nobody keeps all kinds of things in these, however near the top they stand.
    const NEVER: &[&str] = &["migrations", "migration", "migrate", "fixtures", "tests", "seeds"];
    count = (0..count).find(|at| is(*at, NEVER)).unwrap_or(count);
    // `usr/local/share` and `home/somebody/.local/share`.
    if count > 0 && is(count - 1, &["local", ".local"]) {
        count += 1;
    }
    // What is below a volume of Docker is the data of a container, whatever the volume is called.
    for (at, _) in all.iter().enumerate().filter(|(_, folder)| **folder == b"_data") {
        if at >= 2 && is(at - 2, &["volumes"]) {
            count = count.max(at + 1);
        }
    }
    all.iter().take(count).map(|folder| folder.len() + 1).sum()
}

fn trimmed(path: &str) -> &str {
    path.trim_matches('/')
}

/// `path` and what is left of it without its first folders.
fn ends(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let later = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1);
    std::iter::once(0).chain(later).filter_map(|start| path.get(start..))
}

/// Where the backed-up `path` is in a tree, or would be. Absolute paths are stored as they are, relative
/// ones without the folders above them, and `.` as its content.
pub(crate) fn locate(has: &impl Fn(&[u8]) -> bool, path: &str) -> Vec<u8> {
    let path = trimmed(path).as_bytes();
    if path.is_empty() || path == b"." {
        return Vec::new();
    }
    if let Some(end) = ends(path).find(|end| has(end)) {
        return end.to_vec();
    }
    let first = path.split(|b| *b == b'/').next().unwrap_or_default();
    // Something else of the same absolute tree is there, so this path would be there in full.
    if has(first) { path.to_vec() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of `path` below its lead, in a snapshot of `base` that is stored as it is.
    fn below(base: &str, path: &str) -> String {
        let stored = trimmed(base).to_owned();
        let bases = Bases::located(&[base.to_owned()], |other| other == stored.as_bytes());
        let named = bases.name(path.as_bytes());
        path[named.lead..].to_owned()
    }

    #[test]
    fn what_leads_to_the_backup_is_left_out() {
        for (base, path, rest) in [
            ("/srv/share/db", "srv/share/db/app.sql", "app.sql"),
            ("/srv/share/db", "srv/share/db/src/app.sql", "src/app.sql"),
            ("/opt/test/x", "opt/test/x/tests/a.sql", "tests/a.sql"),
            ("/srv/share/app.sql", "srv/share/app.sql", "app.sql"),
            ("/", "var/lib/mysql/app.sql", "mysql/app.sql"),
            ("/", "usr/local/share/x/share/a.sql", "x/share/a.sql"),
            ("/", "home/somebody/src/app/src/a.sql", "app/src/a.sql"),
            ("/", "home/somebody/.local/share/a.sql", "a.sql"),
            ("/", "Share/Backups/a.sql", "Backups/a.sql"),
            ("/var", "var/lib/app/share/a.sql", "app/share/a.sql"),
            ("/var", "var/lib/docker/volumes/src/_data/share/a.sql", "share/a.sql"),
            ("C:\\", "C/Users/somebody/src/a.sql", "a.sql"),
            ("/", "migrations/a.sql", "migrations/a.sql"),
            ("/data", "data/fixtures/a.sql", "fixtures/a.sql"),
        ] {
            assert_eq!(below(base, path), rest, "{path} in a backup of {base}");
        }
    }

    #[test]
    fn a_relative_backup_is_known_by_where_it_was_made() {
        // `restic backup .` in /srv: the tree begins below it.
        let bases = Bases::located(&["/srv".to_owned()], |_| false);
        assert_eq!(bases.name(b"share/db/app.sql").lead, "share/".len());
        let bases = Bases::located(&["/srv/app".to_owned()], |_| false);
        assert_eq!(bases.name(b"share/db/app.sql").lead, 0);
        // `restic backup share` in /srv.
        let bases = Bases::located(&["/srv/share".to_owned()], |path| path == b"share");
        assert_eq!(bases.name(b"share/db/app.sql").lead, "share/".len());
    }

    #[test]
    fn the_innermost_of_several_bases_counts() {
        let paths = ["/srv".to_owned(), "/srv/app/src/dumps".to_owned()];
        let bases = Bases::located(&paths, |path| path == b"srv" || path == b"srv/app/src/dumps");
        assert!(!bases.name(b"srv/app/src/dumps/a.sql").is_programs(&["src"]));
        assert!(bases.name(b"srv/app/src/other/a.sql").is_programs(&["src"]));
    }

    #[test]
    fn some_folders_are_only_programs() {
        let paths = ["/srv/node_modules/x".to_owned()];
        let bases = Bases::located(&paths, |path| path == b"srv/node_modules/x");
        assert!(bases.name(b"srv/node_modules/x/a.sql").is_programs(&[]));
        // The name of the file itself is no folder.
        assert!(!Named::alone(b"srv/app/node_modules").is_programs(&[]));
        assert!(!Named::alone(b"testdata").is_programs(&["testdata"]));
    }
}
