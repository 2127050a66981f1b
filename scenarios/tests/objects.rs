//! Dump files as plain objects, in folders and behind an S3 server: the fifteen databases of a fleet, and
//! what can be wrong with them.
#![expect(clippy::unwrap_used, reason = "this is all test")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use firedrill_backends::repository::location::{Access, Environment, Location};
use firedrill_backends::repository::objects::{ObjectSettings, Objects};
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::config::BackupKind;
use firedrill_core::error::{ErrorKind, Result};
use firedrill_core::plan::DrillName;
use firedrill_core::ports::{Inventory, Lease, Order, Repository as _, Restored};
use firedrill_core::progress::Progress;
use firedrill_core::snapshot::{Snapshot, SnapshotId};
use firedrill_core::watch::Watch;
use firedrill_scenarios::s3_server::S3Server;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use rustic_core::{FileType, Id};
use serde_json::Value;

#[path = "support/binary.rs"]
mod binary;

const KEY: &str = "firedrill";
const SECRET: &str = "firedrill-secret";
/// Databases of the main bucket: what they are stored under, and their namespace.
const DATABASES: [(&str, &str); 14] = [
    ("cardboard", "cardboard"),
    ("ham", "ham"),
    ("trade-bot", "trade-bot"),
    ("aja-recipes", "aja-recipes"),
    ("dnd", "dnd"),
    ("wiki", "wiki"),
    ("jellyfin", "media"),
    ("digital-signage", "digital-signage"),
    ("openclaw-ops", "openclaw-ops"),
    ("openclaw-personal", "openclaw-personal"),
    ("media-profiler", "media-profiler"),
    ("media-controller", "media"),
    ("authentik", "authentik"),
    ("polymarket-lab", "polymarket-lab"),
];
const PATTERN: &str = "postgres-backups/{name}/{namespace}-{time:%Y%m%d-%H%M%S}.sql.gz";

/// A dump as pg_dump writes it, compressed.
fn dump(day: i64) -> Vec<u8> {
    let mut sql = String::from(
        "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18\n-- Dumped by pg_dump version \
         15.18\n\nSET statement_timeout = 0;\nSET client_encoding = 'UTF8';\n\nCREATE TABLE public.entries (\n    id \
         integer NOT NULL,\n    note text\n);\n\nCOPY public.entries (id, note) FROM stdin;\n",
    );
    for row in 0..400 + day {
        sql.push_str(&format!("{row}\tnote {} of the day {day}\n", row * 7919 % 1009));
    }
    sql.push_str("\\.\n\n\n--\n-- PostgreSQL database dump complete\n--\n\n");
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(sql.as_bytes()).unwrap();
    gz.finish().unwrap()
}

/// The time of the dump that was made so many days ago.
fn made(days_ago: i64) -> Timestamp {
    SystemClock.now() - SignedDuration::from_hours(24 * days_ago + 1)
}

fn name(namespace: &str, days_ago: i64) -> String {
    format!("{namespace}-{}.sql.gz", made(days_ago).strftime("%Y%m%d-%H%M%S"))
}

fn put(path: &Path, content: &[u8], time: Timestamp) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(time.into()).unwrap();
}

/// Dumps of these days of one database.
fn put_dumps(folder: &Path, namespace: &str, days_ago: impl Iterator<Item = i64>) {
    for days_ago in days_ago {
        let stored = made(days_ago) + SignedDuration::from_secs(20);
        put(&folder.join(name(namespace, days_ago)), &dump(30 - days_ago), stored);
    }
}

fn firedrill(work: &Path, arguments: &[&str]) -> (Output, Value) {
    let json = work.join("judgement.json");
    let _ = fs::remove_file(&json);
    let output = Command::new(binary::binary().unwrap())
        .arg("restore-test")
        .args(arguments)
        .args(["--state", work.join("state").to_str().unwrap(), "--accept-recorded-owners"])
        .args(["--json-file", json.to_str().unwrap()])
        .args(["--scratch", work.join("scratch").to_str().unwrap()])
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("SECOND_KEY", KEY)
        .env("SECOND_SECRET", SECRET)
        .env_remove("RESTIC_PASSWORD")
        .output()
        .unwrap();
    let judgement = fs::read(&json).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
    (output, judgement)
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `tag verdict` of each drill, sorted.
fn verdicts(judgement: &Value) -> Vec<String> {
    let drills = judgement["drills"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all: Vec<_> =
        drills.iter().map(|d| format!("{} {}", text(&d["series"]["tag"]), text(&d["verdict"]))).collect();
    all.sort();
    all
}

fn all_verified(names: impl Iterator<Item = impl AsRef<str>>) -> Vec<String> {
    let mut all: Vec<_> = names.map(|name| format!("{} verified", name.as_ref())).collect();
    all.sort();
    all
}

#[test]
fn fifteen_databases_in_two_buckets_are_drilled() {
    let work = tempfile::tempdir().unwrap();
    let root = work.path().join("s3");
    fs::create_dir(&root).unwrap();
    let server = S3Server::start(&root, KEY, SECRET).unwrap();
    let bucket = server.create_bucket("backups").unwrap();
    for (name, namespace) in DATABASES {
        put_dumps(&bucket.join("postgres-backups").join(name), namespace, 0..5);
    }
    put(&bucket.join("longhorn-backups/volume.cfg"), b"of somebody else", made(0));
    let second = server.create_bucket("zolty").unwrap();
    put_dumps(&second.join("openclaw-memory"), "open-webui", 0..5);

    let mut config = format!(
        "version: 1\ncopies:\n  - name: dumps\n    kind: object_dump\n    repository: s3:{0}/backups\n    objects: \
         \"{PATTERN}\"\n  - name: memory\n    kind: object_dump\n    repository: s3:{0}/zolty/openclaw-memory\n    objects: \
         \"{{namespace}}-{{time:%Y%m%d-%H%M%S}}.sql.gz\"\n    options: {{access_key_id_env: SECOND_KEY, \
         secret_access_key_env: SECOND_SECRET}}\ntargets:\n",
        server.endpoint()
    );
    for (name, namespace) in DATABASES {
        config.push_str(&format!(
            "  - {{name: {name}, kind: object_dump, copies: [dumps], host: {namespace}, objectives: {{rpo: 26h}}}}\n"
        ));
    }
    config.push_str("  - {name: openclaw-memory-db, tag: open-webui, kind: object_dump, copies: [memory]}\n");
    let file = work.path().join("firedrill.yaml");
    fs::write(&file, config).unwrap();

    let expected = all_verified(DATABASES.iter().map(|(name, _)| *name).chain(["open-webui"]));
    let arguments = ["--config", file.to_str().unwrap()];
    // The second run compares with what the first one proved, and finds a dump of today.
    for run in 0..2 {
        let (output, judgement) = firedrill(work.path(), &arguments);
        assert_eq!(output.status.code(), Some(0), "run {run}: {}", told(&output));
        assert_eq!(verdicts(&judgement), expected);
        let newer = made(0) + SignedDuration::from_mins(30);
        let newest = format!("postgres-backups/wiki/wiki-{}.sql.gz", newer.strftime("%Y%m%d-%H%M%S"));
        put(&bucket.join(newest), &dump(31), newer);
    }
}

#[test]
fn a_folder_needs_no_config_and_says_what_it_left_out() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("dumps");
    for (name, namespace) in DATABASES {
        put_dumps(&folder.join(name), namespace, 0..4);
    }
    put(&folder.join("wiki/README.md"), b"restore with psql", made(0));
    put(&folder.join("wiki/wiki-20990101-000000.sql.gz.part"), b"half", made(0));
    std::os::unix::fs::symlink("ham", folder.join("latest")).unwrap();
    let place = folder.to_str().unwrap();

    let (output, judgement) = firedrill(work.path(), &["--repository", place, "--kind", "object-dump"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let series = |(name, namespace): &(&str, &str)| match name == namespace {
        true => (*name).to_owned(),
        false => format!("{name}/{namespace}"),
    };
    assert_eq!(verdicts(&judgement), all_verified(DATABASES.iter().map(series)));
    let notes = judgement["copies"][0]["facts"]["notes"].to_string();
    for note in ["README.md", ".sql.gz.part", "1 symbolic links"] {
        assert!(notes.contains(note), "{note} in {notes}");
    }

    let (output, _) = firedrill(work.path(), &["--repository", place]);
    assert!(!output.status.success());
    assert!(told(&output).contains("--kind object-dump"), "{}", told(&output));

    let objects = ["--kind", "object-dump", "--objects", "{name}/nothing-{unix}.sql"];
    let (output, _) = firedrill(work.path(), &[&["--repository", place], &objects[..]].concat());
    assert!(told(&output).contains("correct the patterns"), "{}", told(&output));
    assert_eq!(output.status.code(), Some(64), "{}", told(&output));
}

#[test]
fn damaged_dumps_fail_and_the_others_stay_green() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("dumps");
    for database in ["empty", "cut", "flipped", "error-text", "well"] {
        put_dumps(&folder.join(database), database, 1..5);
    }
    let good = dump(30);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    for (database, content) in [
        ("empty", &b""[..]),
        ("cut", &good[..good.len() / 2]),
        ("flipped", &flipped),
        ("error-text", b"pg_dump: error: connection to server failed\n"),
        ("well", &good),
    ] {
        put(&folder.join(database).join(name(database, 0)), content, made(0));
    }
    let place = folder.to_str().unwrap();
    let (output, judgement) = firedrill(work.path(), &["--repository", place, "--kind", "object-dump"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let expected = ["cut failed", "empty failed", "error-text failed", "flipped failed", "well verified"];
    assert_eq!(verdicts(&judgement), expected, "{}", told(&output));
}

#[test]
fn a_hole_in_a_series_is_a_missed_objective() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("dumps");
    put_dumps(&folder.join("whole"), "whole", 0..10);
    put_dumps(&folder.join("hole"), "hole", (0..10).filter(|day| *day != 2));
    let place = folder.to_str().unwrap();
    let (output, judgement) = firedrill(work.path(), &["--repository", place, "--kind", "object-dump"]);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    let findings = judgement["copies"][0]["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((&findings[0]["code"], &findings[0]["location"]), (&"objects.gap".into(), &"hole".into()));
    assert!(told(&output).contains("missed an objective"), "{}", told(&output));
}

#[test]
fn a_run_of_the_schedule_that_left_no_dump_is_a_missed_objective() {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("dumps");
    put_dumps(&folder.join("whole"), "whole", 0..4);
    put_dumps(&folder.join("hole"), "hole", (0..4).filter(|day| *day != 1));
    let when = made(0).strftime("%M %H * * *");
    let target = |name: &str| format!("  - {{name: {name}, kind: object_dump, schedule: \"{when}\"}}\n");
    let config = format!(
        "version: 1\ncopies: [{{name: dumps, kind: object_dump, repository: {}}}]\ntargets:\n{}{}",
        folder.display(),
        target("whole"),
        target("hole")
    );
    let file = work.path().join("firedrill.yaml");
    fs::write(&file, config).unwrap();
    let (output, judgement) = firedrill(work.path(), &["--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    let findings = judgement["copies"][0]["findings"].as_array().unwrap();
    let told: Vec<_> = findings.iter().map(|f| (f["code"].as_str(), f["location"].as_str())).collect();
    assert_eq!(told, [(Some("objects.gap"), Some("hole"))]);
}

fn access() -> Access {
    let env = Environment::default()
        .with("AWS_ACCESS_KEY_ID", KEY)
        .with("AWS_SECRET_ACCESS_KEY", SECRET)
        .with("AWS_EC2_METADATA_DISABLED", "true");
    Access { retries: 0, ..Access::from_environment(env) }
}

fn objects(address: &str, kind: BackupKind, patterns: &[&str]) -> Objects {
    let patterns = patterns.iter().map(|p| p.parse().unwrap()).collect();
    let settings = ObjectSettings { kind, patterns, schedules: Vec::new() };
    Objects::open(Location::parse(address).unwrap(), &access(), settings, Arc::new(SystemClock)).unwrap()
}

fn inventory(objects: &Objects) -> Inventory {
    objects.snapshots(&Watch::unlimited()).unwrap()
}

/// Restores `snapshot` into `lease`, a folder that is made.
fn restore(objects: &Objects, snapshot: &Snapshot, lease: &Path, bytes_max: Option<u64>) -> Result<Restored> {
    let (data, work) = (lease.join("data"), lease.join("work"));
    fs::create_dir_all(&data).unwrap();
    fs::create_dir_all(&work).unwrap();
    let lease = Lease::new("lease".to_owned(), data, work, |_| Ok(None));
    let drill = DrillName("a::b::latest".to_owned());
    let progress = Arc::new(Progress::default());
    let order =
        Order { drill: &drill, snapshot, lease: &lease, bytes_max, progress, watch: Watch::unlimited() };
    objects.restore(&[order]).remove(0)
}

fn snapshot(key: &str) -> Snapshot {
    Snapshot {
        id: SnapshotId("0".repeat(64)),
        time: made(0),
        host: String::new(),
        tags: vec!["a".to_owned()],
        paths: vec![key.to_owned()],
        tree: String::new(),
        program: String::new(),
        files: None,
        bytes: None,
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn no_key_leaves_the_lease() {
    let work = tempfile::tempdir().unwrap();
    let place = work.path().join("place");
    put(&place.join("a.sql"), b"-- a", made(0));
    put(&work.path().join("secret"), b"outside", made(0));
    std::os::unix::fs::symlink("../secret", place.join("link.sql")).unwrap();
    std::os::unix::fs::symlink("..", place.join("out")).unwrap();
    let objects = objects(place.to_str().unwrap(), BackupKind::ObjectDump, &[]);
    assert_eq!(inventory(&objects).snapshots.len(), 1);
    let long = "n".repeat(300);
    for key in
        ["../secret", "x/../../secret", "link.sql", "out/secret", "/etc/hostname", "", "a\0b", &long, "."]
    {
        let result = restore(&objects, &snapshot(key), &work.path().join("lease"), None);
        assert!(result.is_err(), "{key:?}");
    }
    assert!(files_below(&work.path().join("lease")).is_empty());
    let too_much = restore(&objects, &snapshot("a.sql"), &work.path().join("lease"), Some(2)).unwrap_err();
    assert_eq!(too_much.kind, ErrorKind::Scratch);
}

#[test]
fn what_k3s_knows_of_a_snapshot_is_restored_beside_it() {
    let work = tempfile::tempdir().unwrap();
    let place = work.path().join("snapshots");
    let seconds = made(0).as_second();
    for file in ["etcd-snapshot-node-a", "on-demand-node-b"] {
        put(&place.join(format!("etcd/{file}-{seconds}")), b"bolt", made(0));
        put(&place.join(format!("etcd/.metadata/{file}-{seconds}")), b"{}", made(0));
    }
    let objects = objects(place.to_str().unwrap(), BackupKind::Etcd, &[]);
    // The `.metadata` itself is neither a snapshot nor worth a word.
    let held = inventory(&objects);
    assert_eq!((held.snapshots.len(), held.facts.notes.len()), (2, 0), "{:?}", held.facts.notes);
    assert!(held.snapshots.iter().all(|s| s.tags == ["etcd"]));
    let lease = work.path().join("lease");
    let restored = restore(&objects, &held.snapshots[0], &lease, None).unwrap();
    let path = &held.snapshots[0].paths[0];
    assert_eq!(fs::read(lease.join("data").join(path)).unwrap(), b"bolt");
    let companion = path.replace("etcd/", "etcd/.metadata/");
    assert_eq!(fs::read(lease.join("data").join(companion)).unwrap(), b"{}");
    assert_eq!((restored.files, restored.bytes, restored.manifest.entries().len()), (2, 6, 4));
}

#[test]
fn content_is_held_against_the_checksum_of_the_server() {
    let work = tempfile::tempdir().unwrap();
    let server = S3Server::start(work.path(), KEY, SECRET).unwrap();
    let bucket = server.create_bucket("bucket").unwrap();
    let address = format!("s3:{}/bucket", server.endpoint());
    // An upload through the server, which keeps its MD5.
    let writer = Location::parse(&address).unwrap().open_writable(&access()).unwrap();
    writer.write_bytes(FileType::Config, &Id::default(), false, vec![7_u8; 100_000].into()).unwrap();
    let objects = objects(&address, BackupKind::ObjectDump, &["config"]);
    let held = inventory(&objects);
    assert_eq!(held.snapshots[0].tags, ["config"]);
    let restored = restore(&objects, &held.snapshots[0], &work.path().join("lease"), None).unwrap();
    assert!(restored.findings.is_empty() && restored.bytes == 100_000, "{:?}", restored.findings);

    let mut content = fs::read(bucket.join("config")).unwrap();
    content[50_000] ^= 1;
    fs::write(bucket.join("config"), content).unwrap();
    let damaged = restore(&objects, &held.snapshots[0], &work.path().join("again"), None).unwrap();
    let codes: Vec<_> = damaged.findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["objects.checksum"]);

    fs::write(bucket.join("config"), b"shorter").unwrap();
    let replaced = restore(&objects, &held.snapshots[0], &work.path().join("third"), None);
    assert!(replaced.unwrap_err().chain().contains("listed any more"));
    fs::remove_file(bucket.join("config")).unwrap();
    let gone = restore(&objects, &held.snapshots[0], &work.path().join("fourth"), None).unwrap_err();
    assert!(gone.chain().contains("not there any more"), "{}", gone.chain());
}

/// A bucket with one object in the archive, as Amazon would show it; `restore` is what its HEAD says of a thaw.
fn archive_server(restore: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { continue };
            let mut request = [0; 8192];
            let Ok(length) = socket.read(&mut request) else { continue };
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let listing = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a/a-20260101-000000.sql.gz\
                           </Key><LastModified>2026-01-01T00:00:10.000Z</LastModified><ETag>\"x\"</ETag><Size>5</Size>\
                           <StorageClass>DEEP_ARCHIVE</StorageClass></Contents></ListBucketResult>";
            let cold =
                "<Error><Code>InvalidObjectState</Code><Message>The operation is not valid</Message></Error>";
            let (status, header, body) = if request.starts_with("HEAD") {
                ("200 OK", restore, "")
            } else if request.contains("list-type") {
                ("200 OK", "", listing)
            } else {
                ("403 Forbidden", "", cold)
            };
            let length = if request.starts_with("HEAD") { 5 } else { body.len() };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"x\"\r\n{header}Connection: close\r\n\r\n{body}"
            );
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    format!("s3:http://{address}/bucket")
}

#[test]
fn an_archived_object_is_told_and_proves_nothing() {
    let work = tempfile::tempdir().unwrap();
    let cold = objects(&archive_server(""), BackupKind::ObjectDump, &[]);
    let held = inventory(&cold);
    let told: Vec<_> = held.findings.iter().map(|f| format!("{} {}", f.code, f.location)).collect();
    assert_eq!(told, ["objects.archived a/a-20260101-000000.sql.gz"]);
    assert!(held.findings[0].seen.contains("thawed"), "{}", held.findings[0].seen);
    let error = restore(&cold, &held.snapshots[0], &work.path().join("lease"), None).unwrap_err();
    assert!(error.chain().contains("thaw the object first"), "{}", error.chain());

    let warm = archive_server(
        "x-amz-restore: ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2029 00:00:00 GMT\"\r\n",
    );
    assert!(inventory(&objects(&warm, BackupKind::ObjectDump, &[])).findings.is_empty());
    let thawing = archive_server("x-amz-restore: ongoing-request=\"true\"\r\n");
    let findings = inventory(&objects(&thawing, BackupKind::ObjectDump, &[])).findings;
    assert!(findings[0].seen.contains("being thawed"));
}

/// Answers every request for an object of a thousand bytes with ten of them.
fn cutting_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { continue };
            let mut request = [0; 8192];
            let Ok(length) = socket.read(&mut request) else { continue };
            let head = request[..length].starts_with(b"HEAD");
            let (status, range) = match head {
                true => ("200 OK", ""),
                false => ("206 Partial Content", "Content-Range: bytes 0-999/1000\r\n"),
            };
            let body = if head { "" } else { "0123456789" };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: 1000\r\nETag: \"x\"\r\n{range}Connection: close\r\n\r\n{body}"
            );
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    format!("s3:http://{address}/bucket")
}

#[test]
fn a_download_that_is_cut_short_is_no_damage() {
    let work = tempfile::tempdir().unwrap();
    let objects = objects(&cutting_server(), BackupKind::ObjectDump, &[]);
    let error = restore(&objects, &snapshot("a.sql"), &work.path().join("lease"), None).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{}", error.chain());
}
