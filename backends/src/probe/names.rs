//! What the names of files and folders say, as far as several probes go by it.

use firedrill_core::canary;
use firedrill_core::manifest::Entry;

use super::bases::Named;

/// Folders whose content comes and goes.
const VOLATILE_FOLDERS: &[&str] = &[
    "cache",
    "caches",
    ".cache",
    "cachedata",
    "tmp",
    "temp",
    ".tmp",
    "log",
    "logs",
    "lost+found",
    "__pycache__",
    "trash",
    ".trash",
    ".trash-1000",
    "$recycle.bin",
    "sessions",
    "crash",
    "crashes",
    "transcodes",
    "transcoding-temp",
    ".thumbnails",
    "run",
    "lock",
];
/// Ends of names of files that come and go: companions of databases, locks, logs, editors' left-overs.
const VOLATILE_ENDS: &[&str] = &[
    "-wal", "-shm", "-journal", ".tmp", ".temp", ".lock", ".lck", ".pid", ".swp", ".part", ".partial",
    ".sock", ".log", "~", ".new",
];
/// Names of dumps end like this, before an end of [`PACKED`].
const DUMP_ENDS: &[&str] = &[".sql", ".dump", ".pgdump", ".dmp", ".xb", ".xbstream", ".mysqldump"];
const DATABASE_ENDS: &[&str] = &[".db", ".db3", ".sqlite", ".sqlite3", ".mdb", ".rdb", ".kdbx", ".fdb"];
const PACKED: &[&str] = &[".gz", ".zst", ".xz", ".bz2", ".lz4", ".br", ".age", ".gpg", ".enc"];
/// In such folders, below what was backed up, SQL files are source text and not dumps.
const SOURCE_FOLDERS: &[&str] = &[
    "migrations",
    "migration",
    "migrate",
    "fixtures",
    "schema",
    "schemas",
    "seeds",
    "test",
    "tests",
    "src",
    "vendor",
    "extension",
    ".git",
    "lib",
    "share",
    "doc",
    "docs",
];

/// The last component of a path.
pub(crate) fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

/// The path without its last component; empty at the top.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').and_then(|at| path.get(..at)).unwrap_or_default()
}

/// The path without its last extension.
pub(crate) fn stem(path: &[u8]) -> &[u8] {
    let name = last(path);
    match name.iter().rposition(|b| *b == b'.') {
        Some(at) if at > 0 => path.get(..path.len() - name.len() + at).unwrap_or(path),
        _ => path,
    }
}

/// Whether this is a canary file.
pub(crate) fn is_canary(entry: &Entry) -> bool {
    entry.is_file() && entry.name() == canary::FILE.as_bytes()
}

/// Whether something at `path`, relative to what was backed up, comes and goes in healthy operation.
pub(crate) fn is_volatile(path: &[u8]) -> bool {
    let path = String::from_utf8_lossy(path).to_lowercase();
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", &path));
    folders.split('/').any(is_volatile_folder)
        || is_loose_object(folders, name)
        || VOLATILE_ENDS.iter().any(|end| name.ends_with(end))
        || is_rotated_log(name)
}

/// Also `icon_cache`, `GPUCache`, `Code Cache` and their like.
fn is_volatile_folder(name: &str) -> bool {
    VOLATILE_FOLDERS.contains(&name) || name.ends_with("cache") || name.ends_with("caches")
}

/// An object of a Git repository on its own, `objects/3f/..`: they are packed from time to time.
fn is_loose_object(folders: &str, name: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let folder = folders.rsplit_once("objects/").map(|(_, folder)| folder);
    folder.is_some_and(|f| f.len() == 2 && is_hex(f)) && matches!(name.len(), 38 | 62) && is_hex(name)
}

/// `app.log.1`, `app.log.2.gz`, `syslog.3`, `app.log-20260102`.
fn is_rotated_log(name: &str) -> bool {
    let bare = PACKED.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let stem = bare.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '.' || c == '_');
    stem.ends_with(".log") || (bare != stem && stem == "syslog")
}

/// The extension in lower case, where it says what kind of content a file holds.
pub(crate) fn kind(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let (stem, extension) = name.rsplit_once('.')?;
    let says_something = !stem.is_empty()
        && (1..=10).contains(&extension.len())
        && extension.bytes().all(|b| b.is_ascii_alphanumeric())
        && !extension.bytes().all(|b| b.is_ascii_digit());
    says_something.then(|| extension.to_ascii_lowercase())
}

/// Whether the path is that of a dump of a database.
pub(crate) fn is_dump(path: Named<'_>) -> bool {
    names_a_dump(last(path.path)) && !path.is_programs(SOURCE_FOLDERS)
}

fn names_a_dump(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_lowercase();
    let bare = PACKED.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    DUMP_ENDS.iter().any(|end| bare.ends_with(end))
        || name.contains("etcd-snapshot")
        || is_on_demand(name.as_bytes())
        || (name.contains("snapshot") && bare.ends_with(".db"))
        || (name.contains("dump") && (bare.len() < name.len() || bare.ends_with(".tar")))
}

/// Whether the last component of a path is `on-demand-NODE-1770825600`, with or without `.zip`: a snapshot of etcd
/// that k3s took because a person asked for it.
pub(crate) fn is_on_demand(path: &[u8]) -> bool {
    let name = last(path).to_ascii_lowercase();
    let bare = name.strip_suffix(b".zip").unwrap_or(&name);
    let Some(rest) = bare.strip_prefix(b"on-demand-") else { return false };
    let Some(dash) = rest.iter().rposition(|byte| *byte == b'-') else { return false };
    let (node, seconds) = (rest.get(..dash).unwrap_or_default(), rest.get(dash + 1..).unwrap_or_default());
    !node.is_empty() && seconds.len() == 10 && seconds.iter().all(u8::is_ascii_digit)
}

/// Whether the path is that of a database file or of a dump.
pub(crate) fn is_database(path: Named<'_>) -> bool {
    let name = String::from_utf8_lossy(last(path.path)).to_lowercase();
    let throw_away = name.contains("cache") || name.contains("thumb") || name.contains("tmp");
    is_dump(path) || !throw_away && DATABASE_ENDS.iter().any(|end| name.ends_with(end))
}

/// `path` without what changes from one generation of a file or folder to the next: numbers, dates,
/// versions, hashes and other ids. Two names with the same loose form are generations of one thing.
pub(crate) fn loose(path: &str) -> String {
    let mut form = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        if !first.is_ascii_alphanumeric() {
            form.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        if let Some(after) = strip_uuid(rest) {
            form.push('*');
            rest = after;
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if is_id(word) {
            form.push('*')
        } else {
            push_without_digits(&mut form, word)
        }
        rest = after;
    }
    form
}

fn strip_uuid(text: &str) -> Option<&str> {
    let (head, after) = text.split_at_checked(36)?;
    let fits = head.bytes().enumerate().all(|(at, b)| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    });
    fits.then_some(after)
}

fn is_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hexadecimal = word.bytes().all(|b| b.is_ascii_hexdigit());
    word.len() >= 8 && digits > 0 && digits < word.len() && (hexadecimal || word.len() >= 16)
}

fn push_without_digits(form: &mut String, word: &str) {
    let mut in_number = false;
    for c in word.chars() {
        if !c.is_ascii_digit() {
            form.push(c);
        } else if !in_number {
            form.push('#');
        }
        in_number = c.is_ascii_digit();
    }
}

/// Whether a name holds a date or another long number, as generations of dumps do.
pub(crate) fn is_dated(path: &str) -> bool {
    path.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_of_a_file_have_one_loose_form() {
        for (one, other) in [
            ("d/db-20260102.sql.gz", "d/db-20260103.sql.gz"),
            ("lib/app-4.1.2.jar", "lib/app-4.1.13.jar"),
            ("prom/01JABCDEF0123456789ABCDEFG/index", "prom/01JXYZ9876543210QWERTYUIOP/index"),
            ("pvc-550e8400-e29b-41d4-a716-446655440000_a", "pvc-0bcd9f10-abcd-4123-8888-ffffffffffff_a"),
            ("static/main.3fa9c1d2.js", "static/main.90bb0c1d.js"),
        ] {
            assert_eq!(loose(one), loose(other));
        }
        assert_ne!(loose("users.sql"), loose("orders.sql"));
        assert_ne!(loose("a/db.sql"), loose("b/db.sql"));
    }

    #[test]
    fn what_comes_and_goes_is_known_by_name() {
        for path in [
            "grafana.db-wal",
            "a/cache/x.bin",
            "Logs/a.txt",
            "app.log",
            "app.log.1",
            "app.log.2.gz",
            "x.pid",
            "syslog.3",
            "app.log-20260102",
            ".Trash/x",
            "data/icon_cache/a.png",
            "Default/Code Cache/js/0",
            "app.git/objects/3f/0123456789abcdef0123456789abcdef012345",
        ] {
            assert!(is_volatile(path.as_bytes()), "{path}");
        }
        for path in [
            "grafana.db",
            "catalog/x",
            "blog.txt",
            "login",
            "data/logs.db",
            "photo.jpg",
            "file1",
            "objects/3f/a",
        ] {
            assert!(!is_volatile(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn dumps_and_databases_are_known_by_name() {
        let is_dump = |path: &str| is_dump(Named::alone(path.as_bytes()));
        for path in [
            "dump.sql",
            "a/db.sql.gz",
            "mariadb.xb",
            "etcd-snapshot-n1-1700000000",
            "pg.dump",
            "dump.tar",
            "var/lib/backups/db.sql",
            "srv/share/db/db.sql.gz",
            "opt/test/db.dump",
            "home/somebody/src/db.sql",
        ] {
            assert!(is_dump(path), "{path}");
        }
        for path in [
            "migrations/1.sql",
            "srv/app/migrations/1.sql",
            "usr/share/postgresql/15/extension/x--1.0.sql",
            "srv/node_modules/x/dump.sql",
            "app.db",
            "a.tar",
            "notes.txt",
        ] {
            assert!(!is_dump(path), "{path}");
        }
        let is_database = |path: &str| is_database(Named::alone(path.as_bytes()));
        assert!(is_database("sonarr.db") && !is_database("Thumbs.db") && !is_database("cache.db"));
        assert!(is_database("var/lib/x/db.sql") && !is_database("srv/app/src/db.sql"));
    }

    #[test]
    fn snapshots_that_a_person_asked_for_are_known_by_name() {
        for path in [
            "on-demand-server-0-1770825600",
            "on-demand-node-1770825600.zip",
            "var/lib/rancher/k3s/server/db/snapshots/On-Demand-N1-1770825600.ZIP",
        ] {
            assert!(is_on_demand(path.as_bytes()), "{path}");
            assert!(is_dump(Named::alone(path.as_bytes())), "{path}");
        }
        for path in [
            "on-demand-1770825600",
            "on-demand--1770825600",
            "on-demand-node-17708256",
            "on-demand-node-1770825600.tar",
            "on-demand-node-1770825600/readme",
            "video-on-demand-node-1770825600.zip",
            "on-demand-report.zip",
        ] {
            assert!(!is_on_demand(path.as_bytes()), "{path}");
        }
        assert!(!is_on_demand(b"on-demand-\xff"));
    }

    #[test]
    fn a_kind_is_an_extension_that_says_something() {
        assert_eq!(kind(b"a.JPG"), Some("jpg".to_owned()));
        for name in [&b"a"[..], b".bashrc", b"a.1", b"a.", b"a.b c", b"\xff.jpg"] {
            assert_eq!(kind(name), None);
        }
    }
}
