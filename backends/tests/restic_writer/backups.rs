//! Snapshots of folders and streams.

use std::fs;
use std::path::Path;

use firedrill_backends::repository::restic::write::{
    BackupRequest, BackupSummary, Compression, LeftOut, Outcome, ParentChoice, Source,
};

use crate::support::awkward::{self, Bytes};
use crate::support::compare::{Allow, assert_same_tree, differences};
use crate::support::firedrill::restore_with_firedrill;
use crate::support::rest_server::{RestServer, Setup};
use crate::support::restic::{Access, Repository, Restic};
use crate::support::tools::Workplace;
use crate::writing::{back_up, check, id, init, json, open, repository, watch};

/// restic and firedrill both bring back what `source` is, but for sockets, which restic does not save.
fn assert_restores(place: &Workplace, repository: &Repository, id: &str, source: &Path) {
    let below = source.strip_prefix("/").expect("an absolute path");
    let by_restic = place.folder(&format!("by-restic-{}", &id[..8]));
    repository.restore(id, &by_restic);
    let told = differences(source, &by_restic.join(below), Allow::Nothing);
    let told: Vec<_> = told.iter().filter(|line| !line.ends_with("is missing (socket)")).collect();
    assert!(told.is_empty(), "{told:#?}");
    let by_firedrill = place.folder(&format!("by-firedrill-{}", &id[..8]));
    restore_with_firedrill(&repository.access, id, &by_firedrill).expect_clean();
    assert_same_tree(&by_restic, &by_firedrill, Allow::WhatScratchWithholds);
}

/// The numbers of `restic backup --json`.
fn numbers(summary: &BackupSummary) -> Vec<(&'static str, u64)> {
    let counts = &summary.counts;
    vec![
        ("files_new", counts.files_new),
        ("files_changed", counts.files_changed),
        ("files_unmodified", counts.files_unmodified),
        ("dirs_new", counts.dirs_new),
        ("dirs_changed", counts.dirs_changed),
        ("dirs_unmodified", counts.dirs_unmodified),
        ("total_files_processed", counts.files()),
        ("total_bytes_processed", counts.bytes),
        ("data_blobs", summary.data_blobs),
        ("tree_blobs", summary.tree_blobs),
        ("data_added", summary.data_added),
    ]
}

/// The same numbers by restic, which backs `source` up itself.
fn numbers_by_restic(repository: &Repository, source: &Path) -> (serde_json::Value, String) {
    let mut command = repository.command(["backup", "--json"]);
    let output = crate::support::tools::run(command.arg(source));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary: serde_json::Value =
        serde_json::from_str(text.lines().last().unwrap_or_default()).expect("JSON");
    let id = summary["snapshot_id"].as_str().expect("a snapshot").to_owned();
    (summary, id)
}

fn tree_of(repository: &Repository, id: &str) -> String {
    let snapshot = json(repository, &["cat", "snapshot", id]);
    snapshot["tree"].as_str().expect("a tree").to_owned()
}

#[test]
fn an_awkward_tree_in_repositories_of_every_restic() {
    for (generation, format) in [("0.14", "1"), ("0.18", "2"), ("0.19", "2")] {
        let place = Workplace::new();
        let source = place.folder("source");
        awkward::build(&source);
        let Some(repository) = repository(&place, generation, format) else { continue };
        let first = back_up(&open(&repository.access), &source, &BackupRequest::default());
        assert!(first.is_complete(), "{:#?}", first.unread);
        check(&repository);
        assert_restores(&place, &repository, &id(&first), &source);
    }
}

#[test]
fn a_repository_of_our_own() {
    let Some(restic) = Restic::need("0.18") else { return };
    let place = Workplace::new();
    let source = place.folder("source");
    fs::write(source.join("file"), Bytes(3).take(5_000_000)).expect("write");
    let access = Access::to(place.path("repository").display().to_string());
    let writer = init(&access);
    let request = BackupRequest {
        tags: vec!["a".to_owned(), "b".to_owned()],
        host: Some("elsewhere".to_owned()),
        time: Some("2026-02-03T04:05:06.789Z".parse().expect("a time")),
        zone: jiff::tz::TimeZone::get("America/New_York").expect("a zone"),
        compression: Compression::Max,
        ..BackupRequest::default()
    };
    let made = back_up(&writer, &source, &request);
    let repository = Repository { restic, access };
    check(&repository);
    assert_restores(&place, &repository, &id(&made), &source);
    let snapshot = json(&repository, &["cat", "snapshot", &id(&made)]);
    assert_eq!(snapshot["time"], "2026-02-02T23:05:06.789-05:00");
    assert_eq!(snapshot["hostname"], "elsewhere");
    assert_eq!(snapshot["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(snapshot["paths"], serde_json::json!([source.display().to_string()]));
    // There is one already, and something that is none is not written over.
    let (location, way, password) = crate::writing::way(&repository.access);
    let again = firedrill_backends::repository::restic::write::Writer::init(
        &location,
        &way,
        &password,
        crate::writing::impatient(),
        &watch(),
    );
    assert!(again.err().is_some_and(|e| e.chain().contains("there is one already")));
}

/// Tells a story again until nobody else has touched a folder that leads to `source` meanwhile: these are part of a
/// snapshot, and other tests work beside this one.
fn quietly<T>(source: &Path, mut story: impl FnMut() -> T) -> T {
    use std::os::unix::fs::MetadataExt as _;
    let stamps = || -> Vec<_> {
        let stamp = |folder: &Path| {
            let meta = fs::metadata(folder).expect("a folder");
            (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
        };
        source.ancestors().map(stamp).collect()
    };
    for _ in 0..50 {
        let before = stamps();
        let told = story();
        if stamps() == before {
            return told;
        }
    }
    panic!("the folders that lead to {} never come to rest", source.display());
}

/// In one repository restic begins and firedrill goes on, in another it is the other way round. Both count the
/// same, store the same, and take over each other's unchanged files.
#[test]
fn each_builds_on_the_other() {
    for generation in ["0.18", "0.19"] {
        let place = Workplace::new();
        let source = place.folder("source");
        awkward::build(&source);
        let Some(repository) = repository(&place, generation, "2") else { continue };
        let writer = open(&repository.access);
        let (first, same) = quietly(&source, || {
            let (_, first) = numbers_by_restic(&repository, &source);
            (first, back_up(&writer, &source, &BackupRequest::default()))
        });
        assert_eq!(same.parent.as_ref().map(|id| id.0.as_str()), Some(first.as_str()));
        assert_eq!(same.data_blobs, 0, "all content was there");
        assert_eq!((same.counts.files_new, same.counts.files_changed), (0, 0), "{:?}", same.counts);
        assert_eq!(tree_of(&repository, &id(&same)), tree_of(&repository, &first), "restic {generation}");

        awkward::age(&source);
        let aged = back_up(&writer, &source, &BackupRequest::default());
        assert!(aged.counts.files_new == 1 && aged.counts.files_changed >= 1, "{:?}", aged.counts);
        let (by_restic, last) = numbers_by_restic(&repository, &source);
        assert_eq!(by_restic["files_new"], 0, "{by_restic}");
        assert_eq!(by_restic["files_changed"], 0, "{by_restic}");
        assert_eq!(by_restic["data_blobs"], 0, "{by_restic}");
        let snapshot = json(&repository, &["cat", "snapshot", &last]);
        assert_eq!(snapshot["parent"], id(&aged));
        check(&repository);
        assert_restores(&place, &repository, &last, &source);
    }
}

#[test]
fn the_numbers_are_those_of_restic() {
    let place = Workplace::new();
    let source = place.folder("source");
    awkward::build(&source);
    let Some(theirs) = repository(&place, "0.19", "2") else { return };
    let access = Access::to(place.path("ours").display().to_string());
    let ours = Repository { restic: theirs.restic.clone(), access };
    ours.run(["init"]);
    let writer = open(&ours.access);
    for _ in 0..3 {
        let made = back_up(&writer, &source, &BackupRequest::default());
        let (by_restic, _) = numbers_by_restic(&theirs, &source);
        for (name, number) in numbers(&made) {
            // The cuts differ with the polynomial, and with them the number of chunks.
            if !["data_blobs", "data_added"].contains(&name) {
                assert_eq!(by_restic[name], number, "{name}: {by_restic} {made:#?}");
            }
        }
        awkward::age(&source);
        fs::write(source.join("contents/one byte"), b"1").expect("write");
    }
}

#[test]
fn streams_stand_beside_files() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let dump = Bytes(5).take(9_000_000);
    let folder = place.folder("beside");
    fs::write(folder.join("config"), b"x = 1").expect("write");
    let sources = || {
        let content = dump.clone();
        vec![
            Source::stream("/dumps/app.sql", move || Ok(std::io::Cursor::new(content))),
            Source::bytes("/dumps/digests.json", b"{}".to_vec()),
            Source::Path { path: folder.clone(), as_path: Some("/dumps/config".into()) },
        ]
    };
    let writer = open(&repository.access);
    let made = writer.backup(sources(), &BackupRequest::default(), &watch()).expect("a backup");
    check(&repository);
    let into = place.folder("restored");
    repository.restore(&id(&made), &into);
    assert!(fs::read(into.join("dumps/app.sql")).expect("the dump") == dump);
    assert_eq!(fs::read(into.join("dumps/digests.json")).expect("the digests"), b"{}");
    assert_eq!(fs::read(into.join("dumps/config/config")).expect("the file"), b"x = 1");
    let ours = place.folder("by-firedrill");
    restore_with_firedrill(&repository.access, &id(&made), &ours).expect_clean();
    assert_same_tree(&into, &ours, Allow::Nothing);
    let again = writer.backup(sources(), &BackupRequest::default(), &watch()).expect("a backup");
    assert_eq!((again.parent.as_ref(), again.data_blobs), (made.snapshot(), 0));
    assert_eq!((again.counts.files_new, again.counts.files_unmodified), (0, 1), "{:?}", again.counts);
}

#[test]
fn nothing_new_makes_no_snapshot_where_none_is_wanted() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let source = place.folder("source");
    fs::write(source.join("file"), b"content").expect("write");
    let writer = open(&repository.access);
    let request = BackupRequest { skip_if_unchanged: true, ..BackupRequest::default() };
    assert!(back_up(&writer, &source, &request).snapshot().is_some());
    let again = quietly(&source, || {
        back_up(&writer, &source, &request);
        back_up(&writer, &source, &request).outcome
    });
    assert_eq!(again, Outcome::Unchanged);
    let before = repository.snapshots().len();
    fs::write(source.join("file"), b"other content").expect("write");
    assert!(back_up(&writer, &source, &request).snapshot().is_some());
    assert_eq!(repository.snapshots().len(), before + 1);
    let request = BackupRequest { parent: ParentChoice::None, ..BackupRequest::default() };
    let whole = back_up(&writer, &source, &request);
    assert!(whole.parent.is_none() && whole.counts.files_new == 1 && whole.data_blobs == 0, "{whole:#?}");
}

#[test]
fn patterns_leave_out_what_restic_leaves_out() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let source = place.folder("source");
    for path in [
        "a.tmp",
        "keep/a.tmp",
        "keep/b.txt",
        "lost+found/x",
        "cache/one/two",
        "tagged/CACHEDIR.TAG",
        "tagged/x",
        "marked/.nobackup",
        "marked/y",
        "deep/1/2/3/z",
        "deep/1/2/3/keep.log",
        "deep/a.log",
        "[x]/1",
        "exact/file",
    ] {
        let path = source.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
        fs::write(&path, b"Signature: 8a477f597d28d172789f06886806bc55\n").expect("write");
    }
    let list = place.path("patterns");
    fs::write(&list, "# a remark\n\n  cache/*/two  \n*.log\n!keep.log\n").expect("write");
    let exact = source.join("exact/file").display().to_string();
    let patterns = ["*.tmp", "lost+found", "deep/**/z", r"\[x\]", &exact];
    let by_restic = || {
        let mut command =
            repository.command(["backup", "--json", "--exclude-caches", "--exclude-if-present", ".nobackup"]);
        for pattern in patterns {
            command.args(["--exclude", pattern]);
        }
        let output = crate::support::tools::run(command.arg("--exclude-file").arg(&list).arg(&source));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str::<serde_json::Value>(text.lines().last().unwrap_or_default()).expect("JSON")
    };
    let request = BackupRequest {
        left_out: vec![LeftOut {
            excludes: patterns.map(str::to_owned).to_vec(),
            exclude_files: vec![list.clone()],
            exclude_caches: true,
            exclude_if_present: vec![".nobackup".to_owned()],
            ..LeftOut::default()
        }],
        parent: ParentChoice::None,
        ..BackupRequest::default()
    };
    let writer = open(&repository.access);
    let (theirs, made) = quietly(&source, || (by_restic(), back_up(&writer, &source, &request)));
    assert_eq!(
        tree_of(&repository, &id(&made)),
        tree_of(&repository, theirs["snapshot_id"].as_str().expect("id"))
    );
    assert!(made.counts.files_new >= 3, "{:?}", made.counts);
}

#[test]
fn through_a_rest_server() {
    for setup in [Setup::default(), Setup { passwords: true, private: true, tls: true, ..Setup::default() }] {
        let Some(restic) = Restic::need("0.19") else { return };
        let place = Workplace::new();
        let source = place.folder("source");
        awkward::build(&source);
        let Some(server) = RestServer::start(&place, setup) else { return };
        let access = Access { authority: server.authority.clone(), ..Access::to(server.url("fleet")) };
        let writer = init(&access);
        let repository = Repository { restic, access };
        let first = back_up(&writer, &source, &BackupRequest::default());
        awkward::age(&source);
        let second = back_up(&writer, &source, &BackupRequest::default());
        assert_eq!(second.parent.as_ref(), first.snapshot());
        check(&repository);
        assert_restores(&place, &repository, &id(&second), &source);
        assert!(writer.lock_exclusive(&watch()).is_ok(), "a backup left its lock");
    }
}

/// As deep as a path can be, and deeper.
#[test]
fn folders_in_folders_in_folders() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let source = place.folder("source");
    let levels = (4000 - source.as_os_str().len()) / 2;
    fs::create_dir_all(source.join(vec!["d"; levels].join("/"))).expect("mkdir");
    let made = back_up(&open(&repository.access), &source, &BackupRequest::default());
    assert!(made.is_complete() && made.counts.dirs_new as usize > levels, "{:?}", made.unread);
    check(&repository);
    // One that nobody can name any more is told.
    let deep = place.folder("deep");
    fs::create_dir_all(deep.join(vec!["7".repeat(200); 3].join("/"))).expect("mkdir");
    fs::rename(&deep, source.join(vec!["d"; levels].join("/")).join("e")).expect("rename");
    let made = back_up(&open(&repository.access), &source, &BackupRequest::default());
    assert!(made.outcome == Outcome::Withheld && made.unread.len() == 1, "{:#?}", made.unread);
    // Nor could the standard library remove it.
    let removed = std::process::Command::new("rm").arg("-rf").arg(&source).status();
    assert!(removed.is_ok_and(|status| status.success()));
}

#[test]
fn one_file_system() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if !mounts.contains(" /dev/shm ") {
        return crate::support::tools::skip("nothing is mounted on /dev/shm");
    }
    fs::write("/dev/shm/firedrill-test-of-one-file-system", b"x").expect("write");
    let left_out = vec![LeftOut { one_file_system: true, ..LeftOut::default() }];
    let request = BackupRequest { left_out, strict: false, ..BackupRequest::default() };
    let made = back_up(&open(&repository.access), Path::new("/dev"), &request);
    fs::remove_file("/dev/shm/firedrill-test-of-one-file-system").expect("remove");
    assert!(made.mounts_left_out.iter().any(|path| path == Path::new("/dev/shm")), "{made:#?}");
    let listed = repository.run(["ls", &id(&made)]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.lines().any(|line| line == "/dev/shm") && !listed.contains("/dev/shm/"), "{listed}");
    assert!(listed.lines().any(|line| line == "/dev/null"), "{listed}");
}
