//! The fleet is the same for the same seed, moves on every day, and can be read by the original restic.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use firedrill_core::secret::Secret;
use jiff::Timestamp;
use md5::{Digest as _, Md5};

use super::{Fleet, Scale, TARGETS, Target, TestRepository, mirror};

const SEED: u64 = 7;

fn start() -> Timestamp {
    "2026-03-02T01:00:00Z".parse().unwrap()
}

fn password() -> Secret {
    Secret::new("correct horse")
}

fn small(root: &Path) -> Fleet {
    Fleet::create(root, Scale::Small, SEED, start(), &password()).unwrap()
}

/// What is below `root`: kind, mode, size, time and content of each entry.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let salted = path.to_str().is_some_and(|p| p.ends_with("-wal") || p.ends_with("-shm"));
            let content = if meta.is_file() && !salted {
                hex::encode(Md5::digest(std::fs::read(&path).unwrap()))
            } else if meta.is_symlink() {
                format!("{:?}", std::fs::read_link(&path).unwrap())
            } else {
                String::new()
            };
            let size = if meta.is_dir() { 0 } else { meta.size() };
            let line = format!("{:o} {size} {}.{} {content}", meta.mode(), meta.mtime(), meta.mtime_nsec());
            if meta.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path.strip_prefix(root).unwrap().to_owned(), line);
        }
    }
    found
}

fn restic(repository: &Path, args: &[&str]) -> Option<String> {
    let run = Command::new("restic")
        .arg("--no-cache")
        .arg("--repo")
        .arg(repository)
        .args(args)
        .env("RESTIC_PASSWORD", password().reveal())
        .output();
    match run {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "restic {args:?}: {text}{complaint}");
            Some(text)
        }
        Err(error) => skip("restic", &error),
    }
}

fn skip<T>(tool: &str, error: &std::io::Error) -> Option<T> {
    firedrill_testing::skip(&format!("{tool} cannot be run: {error}"));
    None
}

#[test]
fn the_same_seed_gives_the_same_fleet_day_by_day() {
    let work = tempfile::tempdir().unwrap();
    let (mut one, mut two) = (small(&work.path().join("one")), small(&work.path().join("two")));
    for _ in 0..3 {
        let (left, right) = (listing(&work.path().join("one")), listing(&work.path().join("two")));
        assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
        for (path, line) in &left {
            assert_eq!(Some(line), right.get(path), "{}", path.display());
        }
        one.next_day().unwrap();
        two.next_day().unwrap();
    }
    let other =
        Fleet::create(&work.path().join("other"), Scale::Small, SEED + 1, start(), &password()).unwrap();
    assert_eq!(other.day(), 0);
    assert_ne!(listing(&work.path().join("other")), listing(&work.path().join("one")));
}

#[test]
fn a_small_fleet_is_small_and_every_target_moves_on_within_its_clock() {
    let work = tempfile::tempdir().unwrap();
    let mut fleet = small(work.path());
    let before = listing(work.path());
    let bytes: u64 = before.keys().map(|p| work.path().join(p).symlink_metadata().unwrap().size()).sum();
    assert!((200..900).contains(&before.len()), "{} entries", before.len());
    assert!((1 << 20..6 << 20).contains(&bytes), "{bytes} bytes");

    fleet.next_day().unwrap();
    let after = listing(work.path());
    for target in TARGETS {
        let changed = |(path, line): (&PathBuf, &String)| {
            path.starts_with(target.tag) && before.get(path) != Some(line)
        };
        assert!(after.iter().any(changed), "{} stood still", target.tag);
    }
    let last = fleet.time_of(Target::tagged("downloader").unwrap()).unwrap().as_second();
    for path in after.keys() {
        let time = work.path().join(path).symlink_metadata().unwrap().mtime();
        assert!(time <= last, "{} is newer than the simulated clock", path.display());
    }
}

#[test]
fn rows_of_a_live_database_are_in_its_wal_only() {
    let work = tempfile::tempdir().unwrap();
    let mut fleet = small(&work.path().join("fleet"));
    fleet.next_day().unwrap();
    for name in ["sonarr", "radarr", "lidarr", "trailarr"] {
        let source = fleet.folder("downloader").join(format!("backup/downloader/{name}/{name}.db"));
        let count = |with_wal: bool| -> i64 {
            let copy = work.path().join(format!("{name}-{with_wal}.db"));
            std::fs::copy(&source, &copy).unwrap();
            if with_wal {
                std::fs::copy(source.with_extension("db-wal"), copy.with_extension("db-wal")).unwrap();
            }
            let db = rusqlite::Connection::open(&copy).unwrap();
            let healthy: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(healthy, "ok");
            db.query_row(r#"SELECT count(*) FROM "History""#, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(count(true) - count(false), 10, "{name}");
    }
}

#[test]
fn paperless_documents_match_the_checksums_in_the_database() {
    let work = tempfile::tempdir().unwrap();
    let mut fleet = small(work.path());
    fleet.next_day().unwrap();
    let pod = fleet.folder("paperless").join("backup");
    let db = rusqlite::Connection::open(pod.join("paperless-data/db.sqlite3")).unwrap();
    let mut query =
        db.prepare("SELECT filename, checksum, archive_checksum FROM documents_document").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let mut checked = 0;
    for row in rows {
        let (name, original, archive): (String, String, String) = row.unwrap();
        for (folder, sum) in [("originals", original), ("archive", archive)] {
            let file = pod.join("paperless-media/documents").join(folder).join(&name);
            assert_eq!(hex::encode(Md5::digest(std::fs::read(file).unwrap())), sum);
            checked += 1;
        }
    }
    assert!(checked > 20);
}

#[test]
fn restic_reads_what_was_backed_up_of_either_format_and_of_a_mirror() {
    for version in [1, 2] {
        let work = tempfile::tempdir().unwrap();
        let mut fleet = small(&work.path().join("fleet"));
        let repository =
            TestRepository::init_with_version(&work.path().join("repository"), &password(), version).unwrap();
        fleet.back_up_all(&repository).unwrap();
        fleet.next_day().unwrap();
        fleet.back_up_all(&repository).unwrap();

        let copy = TestRepository::init(&work.path().join("other"), &password()).unwrap();
        std::fs::remove_dir_all(copy.path()).unwrap();
        std::fs::create_dir(copy.path()).unwrap();
        let (from, to) = (repository.backend().unwrap(), copy.backend().unwrap());
        let mirrored = mirror(&from, &*to).unwrap();
        assert!(mirrored.files > 40 && mirrored.present == 0, "{mirrored:?}");
        assert_eq!(mirror(&from, &*to).unwrap().files, 0);

        for path in [repository.path(), copy.path()] {
            let Some(_) = restic(path, &["check", "--read-data"]) else { return };
            let list = restic(path, &["snapshots", "--json"]).unwrap();
            let list: serde_json::Value = serde_json::from_str(&list).unwrap();
            assert_eq!(list.as_array().map(Vec::len), Some(2 * TARGETS.len()));
        }
        let target = work.path().join("restored");
        restic(
            repository.path(),
            &["restore", "latest", "--tag", "emby", "--target", target.to_str().unwrap()],
        );
        assert_same(&fleet.folder("emby"), &target);
        restic(
            repository.path(),
            &["restore", "latest", "--tag", "paperless", "--target", target.to_str().unwrap()],
        );
        assert!(target.join("backup/paperless-export/.firedrill-canary").is_file());
        let listed = restic(repository.path(), &["ls", "latest", "--tag", "grafana"]).unwrap();
        assert!(listed.contains("/backup/grafana/grafana.db") && !listed.contains("lost+found"));
    }
}

/// Every entry of `left` is in `right`, with its content, mode and time.
fn assert_same(left: &Path, right: &Path) {
    let (mut left, right) = (listing(left), listing(right));
    // restic before 0.17 does not know of link targets that are not UTF-8.
    left.retain(|path, _| !path.ends_with("metadata/people/raw"));
    for (path, line) in &left {
        assert_eq!(right.get(path), Some(line), "{}", path.display());
    }
}

#[test]
fn a_cut_dump_and_lost_files_are_what_they_say() {
    let work = tempfile::tempdir().unwrap();
    let mut fleet = small(work.path());
    let dump = fleet.folder("postgres").join("backup/postgres/cardboard.sql");
    let whole = std::fs::read_to_string(&dump).unwrap();
    assert!(whole.contains("-- PostgreSQL database dump complete"));
    fleet.cut_dump().unwrap();
    let cut = std::fs::read_to_string(&dump).unwrap();
    assert!(whole.starts_with(&cut) && cut.len() * 2 > whole.len() && !cut.contains("dump complete"));

    let before = listing(&fleet.folder("nextpvr")).len();
    let lost = fleet.lose_files("nextpvr").unwrap();
    let after = listing(&fleet.folder("nextpvr"));
    assert_eq!(before - after.len(), lost);
    assert!(lost > 30 && after.keys().any(|path| path.ends_with(".firedrill-canary")));
}
