//! Which dumps and data folders there are, which version they need, and who is expected in them.

use std::collections::BTreeSet;
use std::io::Read;

use firedrill_core::cell::{Kit, Version};
use firedrill_core::config::settings::DatabaseExpectation;
use firedrill_core::manifest::{Kind, display_path};
use firedrill_core::subject::Subject;

use super::archive;
use super::server::kit;
use super::wire::shown;
use crate::probe::engine::dumps::{Dump, DumpKind, Dumps};
use crate::probe::names::{last, parent};
use crate::probe::restored::Restored;

/// How much of a dump is searched for its version and encoding. In a dump of a cluster all roles come first.
const HEAD_MAX: u64 = 1 << 20;
/// More data folders than this in one snapshot are not started.
const FOLDERS_MAX: usize = 8;

/// A dump and what its beginning says.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) dump: Dump,
    /// The major version of the server that it comes from.
    pub(super) major: Option<u32>,
    /// The encoding of its text.
    pub(super) encoding: Option<String>,
    /// The database, where the dump names it.
    pub(super) database: Option<String>,
}

/// A data folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    /// Its path in the snapshot.
    pub(super) path: Vec<u8>,
    pub(super) location: String,
    /// The version in its PG_VERSION.
    pub(super) version: Result<Version, Unknown>,
}

impl Folder {
    /// The software that it needs: exactly its version. Before 10, the second number was part of that.
    pub(super) fn kit(&self) -> Kit {
        match self.version {
            Ok(version) if version.major < 10 => {
                Kit { at_least: Some(version), at_most: Some(version), ..kit(None, true) }
            }
            Ok(version) => kit(Some(version.major), true),
            Err(_) => kit(None, true),
        }
    }
}

/// Why nobody knows the version of a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// We could not read it.
    Unread(String),
    /// It names none. What it says instead.
    Nonsense(String),
}

/// What there is to load.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    /// Those of clusters come first: they may bring the roles that others need.
    pub(super) dumps: Vec<Candidate>,
    pub(super) folders: Vec<Folder>,
    pub(super) folders_omitted: usize,
    pub(super) older: u64,
    pub(super) unreadable: Vec<String>,
}

impl Roster {
    pub(super) fn of(subject: &Subject) -> Self {
        let kinds = [DumpKind::PostgresPlain, DumpKind::PostgresCluster, DumpKind::PostgresArchive];
        let found = Dumps::of(subject, &kinds);
        let mut roster =
            Self { older: found.older.values().sum(), unreadable: found.unreadable, ..Self::default() };
        roster.dumps = found.chosen.into_iter().map(|dump| Candidate::of(subject, dump)).collect();
        roster.dumps.sort_by_key(|candidate| candidate.dump.kind != DumpKind::PostgresCluster);
        roster.find_folders(subject);
        roster
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dumps.is_empty() && self.folders.is_empty() && self.unreadable.is_empty()
    }

    /// The software that each of them needs.
    pub(super) fn kits(&self) -> impl Iterator<Item = Kit> {
        let dumps = self.dumps.iter().map(|candidate| kit(candidate.major, false));
        dumps.chain(self.folders.iter().map(Folder::kit))
    }

    fn find_folders(&mut self, subject: &Subject) {
        let entries = subject.manifest.entries();
        let controls = entries.iter().filter(|e| e.is_file() && e.path.ends_with(b"global/pg_control"));
        let mut roots: Vec<&[u8]> = controls.map(|e| parent(parent(&e.path))).collect();
        roots.retain(|root| {
            let is = |name: &[u8], kind: &Kind| {
                let path = join(root, name);
                entries.iter().any(|e| e.path == path && &e.kind == kind)
            };
            is(b"PG_VERSION", &Kind::File) && is(b"base", &Kind::Directory)
        });
        self.folders_omitted = roots.len().saturating_sub(FOLDERS_MAX);
        let restored = Restored::open(&subject.root);
        for root in roots.into_iter().take(FOLDERS_MAX) {
            let read = |restored: &Restored| match restored.head(&join(root, b"PG_VERSION"), 32) {
                Ok(Some(text)) => data_version(&text),
                Ok(None) => Err(Unknown::Unread("it is not there as a regular file".to_owned())),
                Err(error) => Err(Unknown::Unread(error.to_string())),
            };
            let version = match &restored {
                Ok(restored) => read(restored),
                Err(error) => Err(Unknown::Unread(error.to_string())),
            };
            let location = if root.is_empty() { ".".to_owned() } else { display_path(root) };
            self.folders.push(Folder { path: root.to_vec(), location, version });
        }
    }
}

/// The version in a PG_VERSION: `15`, or `9.6` before there was a 10.
fn data_version(text: &[u8]) -> Result<Version, Unknown> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let version = match text.split_once('.') {
        Some((major, minor)) => number(major).zip(number(minor)),
        None => number(text).map(|major| (major, 0)),
    };
    let version = version.filter(|(major, _)| *major > 0);
    version.map(|(major, minor)| Version::new(major, minor)).ok_or_else(|| Unknown::Nonsense(shown(text, 40)))
}

/// `name` in `folder`.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

impl Candidate {
    pub(super) fn of(subject: &Subject, dump: Dump) -> Self {
        let mut head = Vec::new();
        // Cut or damaged: loading it will tell. What was read until then is there all the same.
        let _read = dump.read(subject).and_then(|reader| reader.take(HEAD_MAX).read_to_end(&mut head));
        if dump.kind == DumpKind::PostgresArchive {
            let (server, database) = archive::origin(&head);
            return Self {
                dump,
                major: server.as_deref().and_then(major),
                encoding: archive::encoding(&head),
                database,
            };
        }
        let text = String::from_utf8_lossy(&head);
        let value = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let encoding = value("SET client_encoding = '").and_then(|rest| rest.split('\'').next());
        let created = value("CREATE DATABASE ").and_then(|rest| rest.split(' ').next());
        Self {
            major: value("-- Dumped from database version ").and_then(major),
            encoding: encoding.map(str::to_owned),
            database: created.map(|name| name.trim_matches('"').to_owned()),
            dump,
        }
    }

    /// Whether what is expected of a database is expected of this dump's.
    pub(super) fn is_meant(
        &self,
        subject: &Subject,
        expectation: &DatabaseExpectation,
        database: &str,
    ) -> bool {
        let by_file = expectation.file.as_ref().map(|file| subject.meant_by(file).contains(&self.dump.path));
        let by_name = expectation.database.as_ref().map(|name| match (&self.database, self.dump.kind) {
            (_, DumpKind::PostgresCluster) => name == database,
            (Some(own), _) => own == name,
            // A plain dump does not say what it is of, but its name may.
            (None, _) => by_file == Some(true) || words(&self.dump.location).contains(&name.to_lowercase()),
        });
        // In a cluster there is no only one, unless all others are the server's own.
        by_file.unwrap_or(true) && by_name.unwrap_or(true)
    }
}

/// Words of a path, and what they make when they are put together again.
fn words(location: &str) -> BTreeSet<String> {
    let location = location.to_lowercase();
    let mut words = BTreeSet::new();
    for part in location.split('/') {
        words.insert(part.to_owned());
        let pieces: Vec<_> = part.split(['.', '-']).collect();
        for end in 1..=pieces.len().min(8) {
            if let Some(start) = pieces.get(..end) {
                words.insert(start.join("-"));
                words.insert(start.join("."));
            }
        }
        words.extend(part.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
        words.extend(part.split(|c: char| !c.is_alphanumeric()).map(str::to_owned));
    }
    let name = String::from_utf8_lossy(last(location.as_bytes())).into_owned();
    words.insert(name);
    words
}

/// The major version in `15.18 (Debian 15.18-0+deb12u1)`, `9.6.24` or `17beta1`.
pub(super) fn major(version: &str) -> Option<u32> {
    let digits: String = version.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_needs_exactly_its_version() {
        let folder = |text: &str| Folder {
            path: Vec::new(),
            location: ".".to_owned(),
            version: data_version(text.as_bytes()),
        };
        for (text, fits, others) in [
            ("15\n", Version::new(15, 18), [Version::new(14, 9), Version::new(16, 0)]),
            ("9.6\n", Version::new(9, 6), [Version::new(9, 5), Version::new(15, 18)]),
        ] {
            let kit = folder(text).kit();
            assert!(kit.accepts(fits), "{text}");
            assert!(others.iter().all(|version| !kit.accepts(*version)), "{text}");
        }
        for text in ["", "\0\0", "fifteen", "-1", "+15", "0", "9.", "9.6.1", "99999999999"] {
            assert!(matches!(folder(text).version, Err(Unknown::Nonsense(_))), "{text}");
        }
    }

    #[test]
    fn a_database_may_be_named_by_the_path_of_its_dump() {
        for (path, name) in [
            ("postgres-backups/open-webui/ns-20260211-154344.sql.gz", "open-webui"),
            ("backup/cardboard-20260211.sql.gz", "cardboard"),
            ("backup/pg_shop.sql", "shop"),
            ("backup/pg_shop.sql", "pg_shop"),
            ("backup/media-controller-20260211.dump", "media-controller"),
        ] {
            assert!(words(path).contains(name), "{path} {:?}", words(path));
        }
        assert!(!words("backup/cardboard.sql").contains("card"));
        assert_eq!(major("15.18 (Debian)"), Some(15));
        assert_eq!(major("beta"), None);
    }
}
