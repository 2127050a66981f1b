//! What firedrill writes besides restic repositories: dumps as plain objects, mirrors in buckets, and what is counted
//! there; in folders and behind an S3 server.
#![expect(clippy::unwrap_used, reason = "this is all test")]

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use firedrill_backends::job::{Ends, MirrorJob, ObjectPlace};
use firedrill_backends::mirror::{MirrorRequest, Mirrored, Side, lag, mirror_identical, mirror_objects};
use firedrill_backends::repository::location::{Access, Environment, Location};
use firedrill_backends::repository::objects::{
    ObjectRetention, ObjectSettings, Objects, Uploads, forget_objects,
};
use firedrill_backends::statistics::{Planned, statistics};
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::config::BackupKind;
use firedrill_core::config::jobs::{MirrorConfig, MirrorMode, StatisticsConfig};
use firedrill_core::error::ErrorKind;
use firedrill_core::pipeline::job::{Job as _, JobOrder, Outcome};
use firedrill_core::pipeline::spec::JobName;
use firedrill_core::plan::DrillName;
use firedrill_core::ports::{Lease, Order, Repository as _, Restored};
use firedrill_core::progress::Progress;
use firedrill_core::retention::{Guard, Policy};
use firedrill_core::secret::Secret;
use firedrill_core::snapshot::Snapshot;
use firedrill_core::watch::Watch;
use firedrill_scenarios::s3_server::S3Server;
use jiff::Timestamp;
use jiff::tz::TimeZone;

const KEY: &str = "firedrill";
const SECRET: &str = "firedrill-secret";
const DUMP: &str = "dumps/wiki/prod-20260211-154344.sql.gz";
const PATTERN: &str = "dumps/{name}/{namespace}-{time:%Y%m%d-%H%M%S}.sql.gz";

/// A server with one bucket, a folder for work, and places of both kinds.
struct Fixture {
    server: S3Server,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["s3", "work", "local"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let server = S3Server::start(&folder.path().join("s3"), KEY, SECRET).unwrap();
        server.create_bucket("bucket").unwrap();
        Self { server, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn work(&self) -> PathBuf {
        self.path("work")
    }

    fn side(&self, address: &str) -> Side {
        let env = Environment::default()
            .with("AWS_ACCESS_KEY_ID", KEY)
            .with("AWS_SECRET_ACCESS_KEY", SECRET)
            .with("AWS_EC2_METADATA_DISABLED", "true");
        Side {
            location: Location::parse(address).unwrap(),
            access: Access { retries: 1, ..Access::from_environment(env) },
            password: None,
        }
    }

    fn bucket(&self, prefix: &str) -> Side {
        self.side(&format!("s3:{}/bucket/{prefix}", self.server.endpoint()))
    }

    fn local(&self, name: &str) -> Side {
        self.side(self.path(name).to_str().unwrap())
    }

    /// Both kinds of places, with the folder in which their objects can be looked at.
    fn both(&self) -> [(Side, PathBuf); 2] {
        [(self.local("local"), self.path("local")), (self.bucket("home"), self.path("s3/bucket/home"))]
    }
}

fn uploads(side: &Side) -> Uploads {
    Uploads::open(&side.location, &side.access).unwrap()
}

fn watch() -> Watch {
    Watch::unlimited().within(Some(Duration::from_secs(120)))
}

fn settings() -> ObjectSettings {
    ObjectSettings {
        kind: BackupKind::ObjectDump,
        patterns: vec![PATTERN.parse().unwrap()],
        schedules: Vec::new(),
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(step).flatten().take(length).collect()
}

fn gunzip(path: &Path) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut plain).unwrap();
    plain
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(below(&path)) } else { files.push(path) }
    }
    files
}

/// Names of objects below `folder`, without what a server or we keep beside them.
fn names(folder: &Path) -> Vec<String> {
    let named = |path: PathBuf| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    let mut all: Vec<_> =
        below(folder).into_iter().map(named).filter(|name| !name.ends_with(".sha256")).collect();
    all.sort();
    all
}

/// Gives some bytes, and then fails.
struct Failing(Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        match self.0.read(piece)? {
            0 => Err(io::Error::other("pg_dump ended with 1")),
            read => Ok(read),
        }
    }
}

#[test]
fn a_stream_is_stored_whole_and_packed_as_its_name_says() {
    let fixture = Fixture::new();
    let content = noise(700_000);
    for (side, folder) in fixture.both() {
        let stored = uploads(&side).store(DUMP, &mut content.as_slice(), &fixture.work(), &watch()).unwrap();
        assert_eq!(gunzip(&folder.join(DUMP)), content);
        assert_eq!(stored.bytes, fs::metadata(folder.join(DUMP)).unwrap().len());
        assert_eq!(names(&folder), [DUMP]);
        let plain = uploads(&side).store("plain.dump", &mut &b"abc"[..], &fixture.work(), &watch()).unwrap();
        assert_eq!(plain.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        uploads(&side).store("x.tar.zst", &mut content.as_slice(), &fixture.work(), &watch()).unwrap();
        let packed = fs::read(folder.join("x.tar.zst")).unwrap();
        assert_eq!(packed.get(..4).unwrap(), [0x28, 0xb5, 0x2f, 0xfd]);
    }
    assert!(below(&fixture.work()).is_empty(), "nothing stays in the folder of the run");
}

/// Many a command compresses what it writes; nobody would look for a second shell around it.
#[test]
fn what_is_packed_already_is_stored_as_it_is() {
    let fixture = Fixture::new();
    let content = noise(70_000);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(&content).unwrap();
    let gz = gz.finish().unwrap();
    let zst = [&[0x28, 0xb5, 0x2f, 0xfd][..], &content].concat();
    for (side, folder) in fixture.both() {
        for (key, packed) in [(DUMP, &gz), ("x.tar.zst", &zst)] {
            uploads(&side).store(key, &mut packed.as_slice(), &fixture.work(), &watch()).unwrap();
            assert!(fs::read(folder.join(key)).unwrap() == *packed, "{key}");
        }
        // One kind within the other is content like any other.
        uploads(&side).store("y.sql.gz", &mut zst.as_slice(), &fixture.work(), &watch()).unwrap();
        assert!(gunzip(&folder.join("y.sql.gz")) == zst);
    }
}

#[test]
fn a_stream_that_fails_stores_nothing() {
    let fixture = Fixture::new();
    for (side, folder) in fixture.both() {
        let mut failing = Failing(Cursor::new(noise(300_000)));
        let error = uploads(&side).store(DUMP, &mut failing, &fixture.work(), &watch()).unwrap_err();
        assert!(error.chain().contains("pg_dump ended with 1"), "{}", error.chain());
        let empty = uploads(&side).store(DUMP, &mut io::empty(), &fixture.work(), &watch()).unwrap_err();
        assert!(empty.chain().contains("empty"), "{}", empty.chain());
        let stopped = watch();
        stopped.stop();
        let told = uploads(&side).store(DUMP, &mut &b"x"[..], &fixture.work(), &stopped).unwrap_err();
        assert_eq!(told.kind, ErrorKind::Cancelled);
        assert!(below(&folder).is_empty(), "{:?}", below(&folder));
    }
    assert!(below(&fixture.work()).is_empty());
}

#[test]
fn an_object_is_never_written_over_and_no_name_leads_elsewhere() {
    let fixture = Fixture::new();
    for (side, folder) in fixture.both() {
        let store = |key: &str, content: &str| {
            uploads(&side).store(key, &mut content.as_bytes(), &fixture.work(), &watch())
        };
        store("a.dump", "first").unwrap();
        assert!(store("a.dump", "other").is_err());
        assert_eq!(fs::read(folder.join("a.dump")).unwrap(), b"first");
        for key in ["../out.dump", "/abs.dump", "a//b.dump", "", "a/../b.dump", "new\nline"] {
            assert_eq!(store(key, "x").unwrap_err().kind, ErrorKind::Usage, "{key:?}");
        }
        uploads(&side).remove("a.dump").unwrap();
        uploads(&side).remove("a.dump").unwrap();
        assert!(names(&folder).is_empty());
    }
    // What came through although its answer did not is there already.
    let bucket = fixture.bucket("again");
    for _ in 0..2 {
        uploads(&bucket).store("a.dump", &mut &b"same"[..], &fixture.work(), &watch()).unwrap();
    }
    let place = fixture.path("local");
    std::os::unix::fs::symlink(fixture.path("work"), place.join("link")).unwrap();
    let local = fixture.local("local");
    assert!(uploads(&local).store("link/x.dump", &mut &b"x"[..], &fixture.work(), &watch()).is_err());
    assert!(below(&fixture.work()).is_empty());
}

#[test]
fn a_large_file_goes_in_parts_and_leaves_none_when_it_is_stopped() {
    let fixture = Fixture::new();
    let content = noise(41 << 20);
    let file = fixture.path("dump");
    fs::write(&file, &content).unwrap();
    let bucket = fixture.bucket("home");
    let uploads = uploads(&bucket).with_part_size(5 << 20);

    let stopped = watch();
    let (server_root, stopper) = (fixture.path("s3"), stopped.clone());
    let watcher = std::thread::spawn(move || {
        while parts(&server_root) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        stopper.stop();
    });
    let error = uploads.store_file("big.dump", &file, &stopped).unwrap_err();
    watcher.join().unwrap();
    assert_eq!(error.kind, ErrorKind::Cancelled, "{}", error.chain());
    assert!(!fixture.path("s3/bucket/home/big.dump").exists(), "half an object is none");
    assert_eq!((parts(&fixture.path("s3")), fixture.server.uploads("bucket").unwrap()), (0, vec![]));

    uploads.store_file("big.dump", &file, &watch()).unwrap();
    assert!(fs::read(fixture.path("s3/bucket/home/big.dump")).unwrap() == content);
    assert_eq!((parts(&fixture.path("s3")), fixture.server.uploads("bucket").unwrap()), (0, vec![]));
}

/// Parts that lie on the server.
fn parts(root: &Path) -> usize {
    let all = fs::read_dir(root).unwrap().flatten();
    all.filter(|entry| entry.file_name().to_string_lossy().contains(".part-")).count()
}

#[test]
fn what_dead_runs_left_in_a_folder_is_swept() {
    let fixture = Fixture::new();
    let folder = fixture.path("local/deep/er");
    fs::create_dir_all(&folder).unwrap();
    let names = [
        ".wiki.dump.4711-3.part",
        ".wiki.dump.sha256.4711-4.part",
        ".blog.dump.4711-3.part",
        "wiki.dump",
        ".other.part",
        ".a.b-3.part",
        "dump.4711-3.part",
    ];
    for name in names {
        fs::write(folder.join(name), "x").unwrap();
    }
    let sweep = |time: &str| {
        let before: Timestamp = time.parse().unwrap();
        let ours = |key: &str| key == "deep/er/wiki.dump";
        let mut swept = uploads(&fixture.local("local")).sweep(&ours, before, &watch()).unwrap();
        swept.sort();
        swept
    };
    assert!(sweep("2020-01-01T00:00:00Z").is_empty(), "what is young may still be written");
    assert_eq!(sweep("2100-01-01T00:00:00Z"), ["deep/er/wiki.dump", "deep/er/wiki.dump.sha256"]);
    assert_eq!(below(&folder).len(), names.len() - 2);
}

fn snapshots(side: &Side) -> (Objects, Vec<Snapshot>) {
    let clock = Arc::new(SystemClock);
    let objects = Objects::open(side.location.clone(), &side.access, settings(), clock).unwrap();
    let inventory = objects.snapshots(&watch()).unwrap();
    (objects, inventory.snapshots)
}

fn restore(objects: &Objects, snapshot: &Snapshot) -> Restored {
    let place = tempfile::tempdir().unwrap();
    let (data, work) = (place.path().join("data"), place.path().join("work"));
    fs::create_dir_all(&data).unwrap();
    fs::create_dir_all(&work).unwrap();
    let lease = Lease::new("lease".to_owned(), data, work, |_| Ok(None));
    let drill = DrillName("a::b::latest".to_owned());
    let progress = Arc::new(Progress::default());
    let order = Order {
        drill: &drill,
        snapshot,
        lease: &lease,
        bytes_max: None,
        progress,
        watch: Watch::unlimited(),
    };
    objects.restore(&[order]).remove(0).unwrap()
}

#[test]
fn what_was_stored_is_held_against_its_hash_when_it_is_restored() {
    let fixture = Fixture::new();
    for (side, folder) in fixture.both() {
        uploads(&side).store(DUMP, &mut noise(50_000).as_slice(), &fixture.work(), &watch()).unwrap();
        let (objects, listed) = snapshots(&side);
        assert_eq!(listed.len(), 1, "the file with the hash is no dump");
        assert!(restore(&objects, &listed[0]).findings.is_empty());
        let path = folder.join(DUMP);
        let mut content = fs::read(&path).unwrap();
        content[20_000] ^= 1;
        fs::write(&path, content).unwrap();
        let findings = restore(&objects, &listed[0]).findings;
        assert!(findings.iter().any(|f| f.code == "objects.checksum"), "{findings:?}");
    }
}

fn stored(fixture: &Fixture, side: &Side, days: std::ops::Range<i8>) {
    for day in days {
        let time: Timestamp = format!("2026-02-{day:02}T03:00:00Z").parse().unwrap();
        let pattern: firedrill_core::config::ObjectPattern = PATTERN.parse().unwrap();
        let key = pattern.write("wiki", "prod", time).unwrap();
        let content = noise(10_000 + usize::from(day.unsigned_abs()));
        uploads(side).store(&key, &mut content.as_slice(), &fixture.work(), &watch()).unwrap();
    }
}

fn mirrored(fixture: &Fixture, from: &Side, to: &Side, delete: bool) -> Mirrored {
    let request = MirrorRequest { delete, ..MirrorRequest::default() };
    let at = (fixture.work(), SystemClock.now());
    mirror_objects(from, to, &settings(), &request, (&at.0, at.1), &Progress::default(), &watch())
}

#[test]
fn objects_are_mirrored_and_a_broken_source_breaks_no_copy() {
    let fixture = Fixture::new();
    let (local, bucket, back) = (fixture.local("local"), fixture.bucket("mirror"), fixture.local("back"));
    stored(&fixture, &local, 1..5);
    fs::write(fixture.path("local/dumps/wiki/half.part"), "x").unwrap();
    fs::create_dir(fixture.path("back")).unwrap();
    for (from, to) in [(&local, &bucket), (&bucket, &back)] {
        let done = mirrored(&fixture, from, to, true);
        assert_eq!(
            (done.error.clone(), done.facts.files_copied, done.facts.lag_seconds),
            (None, 4, Some(0.0)),
            "{done:?}"
        );
        assert_eq!(mirrored(&fixture, from, to, true).facts.files_copied, 0, "nothing is copied twice");
    }
    let copies = names(&fixture.path("back"));
    assert_eq!(copies.len(), 4);
    for name in &copies {
        assert!(
            fs::read(fixture.path("back").join(name)).unwrap()
                == fs::read(fixture.path("local").join(name)).unwrap()
        );
    }

    // What goes from the source goes from the copy, and what is damaged does not get there.
    stored(&fixture, &local, 5..7);
    let oldest = fixture.path("local").join(&copies[0]);
    fs::remove_file(&oldest).unwrap();
    let newest = fixture.path("local/dumps/wiki/prod-20260206-030000.sql.gz");
    let mut content = fs::read(&newest).unwrap();
    content[5_000] ^= 1;
    fs::write(&newest, &content).unwrap();
    let done = mirrored(&fixture, &local, &bucket, true);
    let told = done.error.clone().unwrap().chain();
    assert!(
        told.contains("damaged") && done.facts.files_copied == 1 && done.facts.files_deleted == 0,
        "{done:?}"
    );
    assert_eq!(done.facts.files_missing, 1);
    assert!(done.facts.lag_seconds.is_some_and(|lag| lag > 0.0));
    content[5_000] ^= 1;
    fs::write(&newest, &content).unwrap();
    let done = mirrored(&fixture, &local, &bucket, true);
    assert_eq!((done.error.clone(), done.facts.files_deleted), (None, 1), "{done:?}");
    assert_eq!(names(&fixture.path("s3/bucket/mirror")).len(), 5);

    // A dump of a certain moment does not change.
    fs::write(&newest, "something else").unwrap();
    fs::remove_file(newest.with_extension("gz.sha256")).unwrap();
    let done = mirrored(&fixture, &local, &bucket, true);
    assert!(done.error.unwrap().chain().contains("another one than before"));

    fs::remove_dir_all(fixture.path("local/dumps")).unwrap();
    let done = mirrored(&fixture, &local, &bucket, true);
    assert!(done.error.unwrap().chain().contains("no objects at all"));
    stored(&fixture, &local, 1..2);
    let done = mirrored(&fixture, &local, &bucket, true);
    assert!(done.error.unwrap().chain().contains("nothing was removed"));
    assert!(names(&fixture.path("s3/bucket/mirror")).len() >= 5);
}

#[test]
fn how_much_a_source_may_lose_is_said_by_the_config() {
    let fixture = Fixture::new();
    let (local, bucket) = (fixture.local("local"), fixture.bucket("mirror"));
    let place = |side: &Side| ObjectPlace {
        name: "a".to_owned(),
        location: side.location.clone(),
        access: side.access.clone(),
    };
    let mirror = |config: serde_json::Value| {
        let config: MirrorConfig = serde_json::from_value(config).unwrap();
        let job = MirrorJob { config, ends: Ends::Objects(place(&local), place(&bucket), settings()) };
        let name = JobName("mirror".to_owned());
        let work = fixture.work();
        let order = JobOrder {
            job: &name,
            slot: None,
            started: SystemClock.now(),
            work: &work,
            watch: watch(),
            progress: Arc::default(),
        };
        let report = job.run(&order);
        (report.outcome, names(&fixture.path("s3/bucket/mirror")).len())
    };
    stored(&fixture, &local, 1..6);
    assert_eq!(mirror(serde_json::json!({"delete": true})), (Outcome::Succeeded, 5));
    for path in below(&fixture.path("local")) {
        if (2..5).any(|day| path.to_string_lossy().contains(&format!("2026020{day}"))) {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(names(&fixture.path("local")).len(), 2);
    assert_eq!(mirror(serde_json::json!({"delete": true})), (Outcome::Failed, 5), "two of five is too few");
    assert_eq!(mirror(serde_json::json!({"delete": true, "keep_ratio_min": 0.41})), (Outcome::Failed, 5));
    assert_eq!(mirror(serde_json::json!({"delete": false, "keep_ratio_min": 0.4})), (Outcome::Succeeded, 5));
    assert_eq!(mirror(serde_json::json!({"delete": true, "keep_ratio_min": 0.4})), (Outcome::Succeeded, 2));
}

#[test]
fn old_objects_go_by_rules_and_the_last_good_one_stays() {
    let fixture = Fixture::new();
    let now: Timestamp = "2026-02-20T00:00:00Z".parse().unwrap();
    for (side, folder) in fixture.both() {
        stored(&fixture, &side, 1..7);
        uploads(&side).store("dumps/README", &mut &b"x"[..], &fixture.work(), &watch()).unwrap();
        let (_, listed) = snapshots(&side);
        let policy = Policy { last: Some(2), ..Policy::default() };
        let forget = |guard: Guard, dry_run: bool| {
            let settings = settings();
            let zone = TimeZone::UTC;
            let request = ObjectRetention {
                settings: &settings,
                policy: &policy,
                guard: &guard,
                zone: &zone,
                now,
                dry_run,
            };
            forget_objects(&side.location, &side.access, &request, &watch())
        };
        let verified = listed[1].id.clone();
        let spared =
            forget(Guard { never_drop: [verified.clone()].into(), ..Guard::default() }, true).unwrap();
        let goes: Vec<_> = spared.decided.iter().filter(|one| one.is_removed()).collect();
        assert_eq!(goes.len(), 3);
        assert!(goes.iter().all(|one| one.candidate.id != verified));
        let refused = forget(Guard { max_share: Some(0.5), ..Guard::default() }, false).unwrap_err();
        assert!(refused.chain().contains("at once"), "{}", refused.chain());
        assert!(forget(Guard::default(), true).unwrap().removed.is_empty());
        assert_eq!(names(&folder).len(), 7);
        let gone = forget(Guard::default(), false).unwrap();
        assert_eq!(gone.removed.len(), 4);
        assert!(gone.bytes_freed > 40_000 && gone.bytes > 20_000, "{gone:?}");
        let left = [
            "dumps/README",
            "dumps/wiki/prod-20260205-030000.sql.gz",
            "dumps/wiki/prod-20260206-030000.sql.gz",
        ];
        assert_eq!(names(&folder), left);
        assert!(forget(Guard::default(), false).unwrap().removed.is_empty());
    }
}

#[test]
fn a_bucket_is_counted_and_asked() {
    let fixture = Fixture::new();
    stored(&fixture, &fixture.bucket(""), 1..4);
    let bucket = fixture.bucket("etcd");
    uploads(&bucket).store("a.db", &mut &b"12345"[..], &fixture.work(), &watch()).unwrap();
    let config = StatisticsConfig { limit: Some("1GiB".parse().unwrap()), ..StatisticsConfig::default() };
    let planned = [Planned { runs_per_month: 30.0, objects_moved: 2 }];
    let facts = statistics(&bucket.location, &bucket.access, &config, &planned, &watch()).unwrap();
    let told: Vec<_> =
        facts.prefixes.iter().map(|one| (one.prefix.as_str(), one.objects, one.archived)).collect();
    assert_eq!(told, [("dumps", 3, 0), ("etcd", 1, 0), ("", 0, 0)]);
    assert_eq!(facts.prefixes[1].bytes, 5);
    assert_eq!((facts.limit, facts.requests_per_month), (Some(1 << 30), Some(30 * 13)));
    // This server does not know the questions.
    assert_eq!(facts.settings.len(), 3);
    assert!(facts.settings.values().all(|said| said.starts_with("not known: ")), "{:?}", facts.settings);
}

#[test]
fn a_repository_is_mirrored_into_a_bucket_and_back() {
    if !firedrill_testing::have(&["restic"]) {
        return;
    }
    let fixture = Fixture::new();
    let restic = |address: &str, arguments: &[&str]| {
        let output = Command::new("restic")
            .args(["--no-cache", "-r", address])
            .args(arguments)
            .envs([("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("RESTIC_PASSWORD", "p")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    fs::write(fixture.path("work/file"), noise(300_000)).unwrap();
    let place = fixture.path("source");
    let source = place.to_str().unwrap();
    restic(source, &["init"]);
    restic(source, &["backup", fixture.work().to_str().unwrap()]);
    let with_password = |side: Side| Side { password: Some(Secret::new("p")), ..side };
    let from = with_password(fixture.local("source"));
    let bucket = with_password(fixture.bucket("mirror"));
    let back = with_password(fixture.local("back"));
    for (from, to) in [(&from, &bucket), (&bucket, &back)] {
        let request = MirrorRequest { delete: true, ..MirrorRequest::between(from, to) };
        let done = mirror_identical(from, to, &request, &Progress::default(), &watch());
        assert!(done.error.is_none(), "{}", done.error.unwrap().chain());
    }
    let address = format!("s3:{}/bucket/mirror", fixture.server.endpoint());
    restic(&address, &["check", "--read-data", "--no-lock"]);
    restic(back.location.to_string().as_str(), &["check", "--read-data"]);
    fs::write(fixture.path("work/file"), noise(400_000)).unwrap();
    restic(source, &["backup", fixture.work().to_str().unwrap()]);
    let now = "2100-01-01T00:00:00Z".parse().unwrap();
    let behind = lag(&from, &bucket, MirrorMode::Identical, now, &watch()).unwrap();
    assert!(behind.files_missing >= 3 && behind.lag_seconds.is_some_and(|lag| lag > 1e9), "{behind:?}");
    // Seen from the bucket, whose files have times as well.
    let keyless = Side { password: None, ..bucket.clone() };
    restic(&address, &["backup", "--no-lock", fixture.path("work/file").to_str().unwrap()]);
    let behind = lag(&keyless, &back, MirrorMode::Identical, now, &watch()).unwrap();
    assert!(behind.lag_seconds.is_some_and(|lag| lag > 1e9), "{behind:?}");
}
