//! Whole backups, read back by restic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use firedrill_core::canary::Canary;
use firedrill_core::config::jobs::{
    BackupConfig, CaptureConfig, FilesCapture, RetentionConfig, SqliteCapture,
};
use firedrill_core::config::{OneOrMany, TargetConfig};
use firedrill_core::pipeline::job::{Facts, Job, JobOrder, JobReport, Outcome};
use firedrill_core::pipeline::spec::JobName;
use firedrill_core::progress::Progress;
use firedrill_core::secret::Secret;
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::Connection;

use super::{LONG, command};
use crate::job::{BackupJob, Place, RetentionJob};
use crate::repository::access::Environment;
use crate::repository::location::{Access, Location};
use crate::repository::password::PasswordSource;

const PASSWORD: &str = "a password";

struct Fleet {
    folder: tempfile::TempDir,
    place: Place,
}

impl Fleet {
    fn new() -> Option<Self> {
        if !firedrill_testing::have(&["restic"]) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        let place = Place {
            name: "primary".to_owned(),
            location: Location::parse(folder.path().join("repository").to_str().unwrap()).unwrap(),
            access: Access::from_environment(Environment::default()),
            password: PasswordSource::File(password),
            make: true,
        };
        fs::create_dir(folder.path().join("data")).unwrap();
        Some(Self { folder, place })
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    fn job(&self, capture: Vec<CaptureConfig>) -> BackupJob {
        BackupJob {
            target: TargetConfig {
                name: "shop".to_owned(),
                tag: Some("shop".to_owned()),
                host: Some(OneOrMany(vec!["shop-host".to_owned()])),
                ..TargetConfig::default()
            },
            backup: BackupConfig { capture, ..BackupConfig::default() },
            place: self.place.clone(),
            environment: Environment::default(),
            canary_key: None,
            zone: TimeZone::UTC,
        }
    }

    fn run(&self, job: &dyn Job, started: &str, limit: Duration) -> JobReport {
        let work = tempfile::tempdir_in(self.folder.path()).unwrap();
        job.run(&JobOrder {
            job: &JobName("shop".to_owned()),
            slot: None,
            started: started.parse().unwrap(),
            work: work.path(),
            watch: Watch::unlimited().within(Some(limit)),
            progress: Arc::new(Progress::default()),
        })
    }

    fn restic(&self, arguments: &[&str]) -> Output {
        let mut restic = Command::new("restic");
        restic.args(["--no-cache", "--quiet", "-r"]).arg(self.folder.path().join("repository"));
        restic.arg("--password-file").arg(self.folder.path().join("password")).args(arguments);
        restic.output().unwrap()
    }

    /// A file of the latest snapshot.
    fn dump(&self, path: &Path) -> Option<Vec<u8>> {
        let dumped = self.restic(&["dump", "latest", path.to_str().unwrap()]);
        dumped.status.success().then_some(dumped.stdout)
    }

    fn snapshots(&self) -> usize {
        let list = self.restic(&["snapshots", "--json"]).stdout;
        serde_json::from_slice::<serde_json::Value>(&list).unwrap().as_array().map_or(0, Vec::len)
    }
}

fn files(config: FilesCapture) -> CaptureConfig {
    CaptureConfig { files: Some(config), ..CaptureConfig::default() }
}

fn whole(path: &Path) -> FilesCapture {
    FilesCapture { paths: vec![path.display().to_string()], ..FilesCapture::default() }
}

#[test]
fn everything_is_in_one_snapshot_or_nothing_is() {
    let Some(fleet) = Fleet::new() else { return };
    let data = fleet.data("shop");
    fs::create_dir_all(data.join("logs")).unwrap();
    fs::write(data.join("notes.txt"), "notes").unwrap();
    fs::write(data.join("logs/x.log"), "log").unwrap();
    let database = data.join("shop.db");
    let db = Connection::open(&database).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(a); INSERT INTO t VALUES (42);").unwrap();
    let sqlite = SqliteCapture { path: database.display().to_string(), stored_as: None };
    let captures = |last: CaptureConfig| {
        vec![
            // Patterns are about these files, and not about what is made for the snapshot.
            files(FilesCapture {
                exclude: ["*.db", "*.log", "/backup", ".firedrill-canary"].map(str::to_owned).to_vec(),
                ..whole(&data)
            }),
            CaptureConfig { sqlite: Some(sqlite.clone()), ..CaptureConfig::default() },
            last,
        ]
    };
    // A command that fails at its end keeps everything else from looking like a backup.
    let report = fleet.run(
        &fleet.job(captures(command(&["sh", "-c", "echo half; exit 1"]))),
        "2026-02-01T10:00:00Z",
        LONG,
    );
    assert_eq!(report.outcome, Outcome::Failed, "{report:#?}");
    assert!(report.error.unwrap().chain().contains("/backup/x: sh ended with exit code 1"));
    assert_eq!(fleet.snapshots(), 0);
    let report = fleet.run(
        &fleet.job(captures(command(&["sh", "-c", "echo half; sleep 600"]))),
        "2026-02-01T10:10:00Z",
        Duration::from_secs(20),
    );
    assert_eq!(report.outcome, Outcome::TimedOut, "{report:#?}");
    assert_eq!(fleet.snapshots(), 0);

    let report = fleet.run(&fleet.job(captures(command(&["echo", "whole"]))), "2026-02-01T11:00:00Z", LONG);
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    let Facts::Backup(facts) = &report.facts else { panic!("{report:#?}") };
    assert!(facts.made.is_some() && facts.unread == 0 && facts.dump_bytes > 4096, "{facts:?}");
    assert_eq!(fleet.dump(Path::new("/backup/x")).unwrap(), b"whole\n");
    assert_eq!(fleet.dump(&data.join("notes.txt")).unwrap(), b"notes");
    assert_eq!(fleet.dump(&data.join("logs/x.log")), None, "it is left out");
    // The copy of the database stands where the database is, and its live log is not beside it.
    let copy = fleet.data("copy.db");
    fs::write(&copy, fleet.dump(&database).unwrap()).unwrap();
    let read: i64 = Connection::open(&copy).unwrap().query_row("SELECT a FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(read, 42);
    for ending in ["-wal", "-shm"] {
        assert!(fs::metadata(format!("{}{ending}", database.display())).is_ok());
        assert_eq!(fleet.dump(Path::new(&format!("{}{ending}", database.display()))), None);
    }
    let key = firedrill_core::canary::derive_key(&Secret::new(PASSWORD));
    for folder in [data.as_path(), Path::new("/backup")] {
        let canary = Canary::parse(&fleet.dump(&folder.join(".firedrill-canary")).unwrap()).unwrap();
        assert!(canary.verify(&key) && canary.target() == "shop");
        assert_eq!(canary.time(), "2026-02-01T11:00:00Z".parse::<Timestamp>().unwrap());
    }
    let check = fleet.restic(&["check", "--read-data"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));

    // A source with a canary of its own keeps it, and nothing in it is touched.
    let own = Canary::sign(&key, "shop", 7, "2026-02-01T00:00:00Z".parse().unwrap()).unwrap().to_line();
    assert!(!data.join(".firedrill-canary").exists());
    fs::write(data.join(".firedrill-canary"), &own).unwrap();
    let report = fleet.run(&fleet.job(vec![files(whole(&data))]), "2026-02-01T12:00:00Z", LONG);
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    assert_eq!(fleet.dump(&data.join(".firedrill-canary")).unwrap(), own.as_bytes());
    assert!(fleet.dump(&database).is_some() && fleet.dump(&data.join("shop.db-wal")).is_some());

    // Rules are applied, and the repository is checked afterwards.
    let mut retention = RetentionJob {
        place: fleet.place.clone(),
        rules: RetentionConfig {
            copy: "primary".to_owned(),
            keep: firedrill_core::retention::Policy { last: Some(1), ..Default::default() },
            drop_max_ratio: 1.0,
            keep_verified: true,
            prune: true,
            check: true,
            detection: None,
        },
        verified: std::collections::BTreeMap::new(),
        detection: None,
        zone: TimeZone::UTC,
        only_hosts: Vec::new(),
        dry_run: false,
    };
    let report = fleet.run(&retention, "2026-02-01T13:00:00Z", LONG);
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    let pack = fs::read_dir(fleet.folder.path().join("repository/data"))
        .unwrap()
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .next()
        .unwrap();
    fs::remove_file(pack.unwrap().path()).unwrap();
    retention.rules.prune = false;
    let report = fleet.run(&retention, "2026-02-01T14:00:00Z", LONG);
    assert_eq!(report.outcome, Outcome::Failed, "a repository without one of its packs is found sound");
}

#[test]
fn what_may_be_unreadable_is_told_and_no_reason_to_refuse() {
    let Some(fleet) = Fleet::new() else { return };
    fs::write(fleet.data("x"), "x").unwrap();
    // Even root cannot read the memory of a process from its beginning.
    let memory = "/proc/self/mem";
    let mut config = whole(&fleet.data(""));
    config.paths.push(memory.to_owned());
    let report = fleet.run(&fleet.job(vec![files(config.clone())]), "2026-02-01T10:00:00Z", LONG);
    assert_eq!(report.outcome, Outcome::Failed, "{report:#?}");
    assert!(report.error.unwrap().chain().contains(memory));
    config.unreadable = vec!["/proc/*/mem".to_owned()];
    let report = fleet.run(&fleet.job(vec![files(config)]), "2026-02-01T11:00:00Z", LONG);
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    assert!(report.notes.iter().any(|note| note.contains("as allowed") && note.contains(memory)));
    assert!(matches!(report.facts, Facts::Backup(facts) if facts.unread == 1));
    // What is made for a folder that is not in the backup has no place.
    let copy = SqliteCapture {
        path: fleet.data("db").display().to_string(),
        stored_as: Some(fleet.data("not-there/db").display().to_string()),
    };
    Connection::open(fleet.data("db")).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
    let captures =
        vec![files(whole(&fleet.data(""))), CaptureConfig { sqlite: Some(copy), ..CaptureConfig::default() }];
    let report = fleet.run(&fleet.job(captures), "2026-02-01T12:00:00Z", LONG);
    assert!(report.error.unwrap().chain().contains("its folder is left out"), "{:?}", report.notes);
}

#[test]
fn what_one_capture_leaves_out_is_no_matter_of_another() {
    let Some(fleet) = Fleet::new() else { return };
    let put = |name: &str| {
        let path = fleet.data(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
    };
    let tag = "Signature: 8a477f597d28d172789f06886806bc55";
    for name in [
        "one/x.log",
        "one/x.tmp",
        "two/x.log",
        "two/x.tmp",
        "two/cache/x",
        "one/cache/x",
        "one/inner/x.log",
        "one/inner/x.tmp",
        "one/gone/x.txt",
        "one/gone/deep/kept/x.log",
        "one/gone/deep/x.txt",
        "one/cached/x",
        "one/cached/kept/x.log",
        "both/x.log",
        "both/x.tmp",
        "both/x.bak",
    ] {
        put(name);
    }
    for name in ["one/cache", "two/cache", "one/cached"] {
        fs::write(fleet.data(name).join("CACHEDIR.TAG"), tag).unwrap();
    }
    let capture = |name: &str, exclude: &[&str], exclude_caches: bool| {
        let exclude = exclude.iter().map(|text| (*text).to_owned()).collect();
        files(FilesCapture { exclude, exclude_caches, ..whole(&fleet.data(name)) })
    };
    let captures = vec![
        capture("one", &["*.log", "gone"], true),
        capture("two", &["*.tmp"], false),
        // In another one, in what that leaves out, and in what it takes for a cache.
        capture("one/inner", &["*.tmp"], false),
        capture("one/gone/deep/kept", &[], false),
        capture("one/cached/kept", &[], false),
        // The same one twice.
        capture("both", &["*.log", "*.bak"], false),
        capture("both", &["*.tmp", "*.bak"], false),
    ];
    let report = fleet.run(&fleet.job(captures), "2026-02-01T10:00:00Z", LONG);
    assert_eq!(report.outcome, Outcome::Succeeded, "{report:#?}");
    let listed = fleet.restic(&["ls", "latest", "--json"]);
    let root = format!("{}/", fleet.data("").display().to_string().trim_end_matches('/'));
    let mut saved: Vec<String> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|node| node["type"] == "file")
        .filter_map(|node| Some(node["path"].as_str()?.strip_prefix(&root)?.to_owned()))
        .filter(|path| !path.ends_with(".firedrill-canary"))
        .collect();
    saved.sort();
    let expected = [
        "both/x.log",
        "both/x.tmp",
        "one/cache/CACHEDIR.TAG",
        "one/cached/CACHEDIR.TAG",
        "one/cached/kept/x.log",
        "one/gone/deep/kept/x.log",
        "one/inner/x.log",
        "one/x.tmp",
        "two/cache/CACHEDIR.TAG",
        "two/cache/x",
        "two/x.log",
    ];
    assert_eq!(saved, expected);
    let check = fleet.restic(&["check", "--read-data"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn what_one_capture_allows_to_be_unreadable_is_no_matter_of_another() {
    let Some(fleet) = Fleet::new() else { return };
    fs::write(fleet.data("x"), "x").unwrap();
    let forgiving = || files(FilesCapture { unreadable: vec!["*".to_owned()], ..whole(&fleet.data("")) });
    let memory = files(whole(Path::new("/proc/self/mem")));
    for other in [memory, command(&["sh", "-c", "echo half; exit 1"])] {
        let report = fleet.run(&fleet.job(vec![forgiving(), other]), "2026-02-01T10:00:00Z", LONG);
        assert_eq!(report.outcome, Outcome::Failed, "{report:#?}");
    }
    // What lies in another one, and is not there, or behind a link of that one.
    std::os::unix::fs::symlink("/usr", fleet.data("link")).unwrap();
    for missing in ["gone", "link/share"] {
        let report = fleet.run(
            &fleet.job(vec![forgiving(), files(whole(&fleet.data(missing)))]),
            "2026-02-01T10:00:00Z",
            LONG,
        );
        assert!(report.error.unwrap().chain().contains("it is not there"), "{missing}: {:?}", report.notes);
    }
    assert_eq!(fleet.snapshots(), 0);
}
