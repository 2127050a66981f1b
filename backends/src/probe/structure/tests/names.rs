use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use firedrill_core::finding::Class;

use super::super::fixture::{Restored, Seeded, examine, have, pipe};

#[test]
fn an_ordinary_tree_concerns_nobody() {
    let restored = Restored::new()
        .with("photo.jpg", &Seeded(1).bytes(9000))
        .with("readme.md", b"To restore:\n\n    -- PostgreSQL database dump\n")
        .with("empty.gz", b"")
        .with("empty.zip", b"")
        .with("app/node_modules/x/empty.sql", b"")
        .with("app/migrations/0002_down.sql", b"-- nothing to undo\n")
        .with("app/setup.sql", b"-- makes the tables\nCREATE TABLE a (b int);\n")
        .with("heap.dump", b"JAVA PROFILE 1.0.2\0\0\0\0\x08\0\0\0")
        .with("placeholder.gz", b"see the other server\n")
        .with("cache/catalog.xb", b"XMLb\x08\0\0\0\0another program's index")
        .with("movie.part", &Seeded(2).bytes(5000));
    assert_eq!(restored.examine().0.len(), 0);
}

#[test]
fn a_dump_of_zero_bytes_is_damage() {
    for name in [
        "a.sql",
        "a.sql.gz",
        "a.dump",
        "a.xb",
        "a.sql.zst",
        "b/all.tar.gz",
        "x.tgz",
        "etcd-snapshot-n1-1700000000",
    ] {
        let report = Restored::of(name, b"").examine();
        assert!(report.codes().iter().any(|code| code.ends_with(".empty")), "{name}: {report:#?}");
        assert!(report.findings().iter().all(|finding| finding.class == Class::Damage));
    }
}

#[test]
fn the_message_of_a_failed_tool_is_no_dump() {
    let message = b"pg_dump: error: aborting because of server version mismatch\n\
                    pg_dump: detail: server version: 17.2; pg_dump version: 16.1\n";
    for name in ["app.sql", "app.dump"] {
        let report = Restored::of(name, message).examine();
        assert!(report.codes()[0].ends_with(".error_text"), "{report:#?}");
    }
    if have(&["gzip"]) {
        let report = Restored::of("app.sql.gz", &pipe(Command::new("gzip").arg("-c"), message)).examine();
        report.must_find("sql_dump.error_text");
    }
    Restored::of("app.sql", b"Access to this page is denied.\n").examine().must_find("sql_dump.no_statement");
}

#[test]
fn content_encrypted_to_an_unknown_key_is_an_anomaly() {
    let salted = [b"Salted__".to_vec(), Seeded(3).bytes(4000)].concat();
    for (name, content) in [
        ("app.sql.gz", salted.clone()),
        ("app.sql", Seeded(4).bytes(300)),
        ("app.dump", Seeded(5).bytes(9000)),
        ("app.tar.gz", salted),
        ("app.xb", Seeded(6).bytes(2000)),
    ] {
        let report = Restored::of(name, &content).examine();
        report.must_find("structure.unrecognised");
        assert_eq!(report.findings()[0].class, Class::Anomaly);
    }
    // A name that says so is another matter.
    assert_eq!(Restored::of("app.sql.gz.gpg", &Seeded(7).bytes(4000)).examine().0.len(), 0);
}

#[test]
fn a_name_that_is_wrong_about_the_format_is_told() {
    let dump = b"--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE a (b int);\n\nCOPY a (b) FROM stdin;\n1\n\\.\n\n\
                 --\n-- PostgreSQL database dump complete\n--\n";
    Restored::of("app.dump", dump).examine().must_be_clean();
    Restored::of("app.sql.gz", dump).examine().must_find("gzip.format");
    Restored::of("app.xb", b"not an xbstream\n").examine().must_find("xbstream.format");
}

#[test]
fn links_and_pipes_are_never_opened() {
    let restored = Restored::of("real.sql", b"SELECT 1;\n");
    let outside = tempfile::TempDir::new().unwrap();
    std::fs::write(outside.path().join("secret.sql"), b"").unwrap();
    symlink(outside.path().join("secret.sql"), restored.data().join("link.sql")).unwrap();
    symlink(outside.path(), restored.data().join("folder")).unwrap();
    if have(&["mkfifo"]) {
        assert!(Command::new("mkfifo").arg(restored.data().join("pipe.sql")).status().unwrap().success());
    }
    let mut subject = restored.subject();
    let mut manifest = (*subject.manifest).clone();
    manifest.push(
        firedrill_core::manifest::NewEntry::bare(*b"folder/secret.sql", firedrill_core::manifest::Kind::File),
        [],
    );
    manifest.push(
        firedrill_core::manifest::NewEntry::bare(*b"gone.sql", firedrill_core::manifest::Kind::File),
        [],
    );
    subject.manifest = std::sync::Arc::new(manifest);
    assert_eq!(examine(&subject).0.len(), 0);
}

#[test]
fn a_stopped_watch_interrupts_and_never_blames_the_backup() {
    let restored = Restored::of("a.sql", b"");
    let subject = restored.subject();
    subject.watch.stop();
    let report = examine(&subject);
    assert!(report.findings().is_empty() && report.interrupted().is_some(), "{report:#?}");
    let mut subject = restored.subject();
    subject.watch = subject.watch.within(Some(Duration::ZERO));
    let report = examine(&subject);
    assert!(report.findings().is_empty() && report.interrupted().is_some(), "{report:#?}");
    assert_eq!(report.0.iter().map(|examination| examination.checked).sum::<u64>(), 0);
}

#[test]
fn a_file_that_changes_between_two_rounds_is_read_again() {
    let restored = Restored::of("a.sql", b"SELECT 1;\n");
    let subject = restored.subject();
    let probes = super::super::all();
    let recognised = |_: ()| probes.iter().filter(|probe| probe.recognises(&subject)).count();
    assert_eq!(recognised(()), 0);
    restored.put("a.sql", b"");
    assert_eq!(recognised(()), 1);
}

#[test]
fn a_file_that_cannot_be_opened_interrupts() {
    let restored = Restored::of("a.sql", b"");
    let mut subject = restored.subject();
    let mut manifest = (*subject.manifest).clone();
    // No file system takes such a name, for whoever runs the test.
    let name = [vec![b'x'; 300], b".sql.gz".to_vec()].concat();
    manifest.push(firedrill_core::manifest::NewEntry::bare(name, firedrill_core::manifest::Kind::File), []);
    subject.manifest = std::sync::Arc::new(manifest);
    let report = examine(&subject);
    assert_eq!(report.codes(), ["sql_dump.empty"]);
    assert!(report.0.iter().all(|examination| examination.interrupted.is_some()), "{report:#?}");
    assert!(report.0.iter().any(|examination| examination.probe == "gzip"));
}

/// Looks for false alarms in a folder of this machine, named by `FIREDRILL_TEST_TREE`.
#[test]
#[ignore = "needs a folder to examine"]
fn a_tree_of_this_machine_raises_no_alarm() {
    let tree = std::env::var_os("FIREDRILL_TEST_TREE").expect("FIREDRILL_TEST_TREE names a folder");
    let restored = Restored::new();
    let mut subject = restored.subject();
    subject.root = tree.into();
    subject.snapshot.paths = vec![subject.root.display().to_string()];
    subject.manifest = std::sync::Arc::new(super::super::fixture::manifest_of(&subject.root));
    let report = examine(&subject);
    let findings: Vec<_> = report.findings();
    let checked: Vec<_> = report.0.iter().map(|e| (&e.probe, e.checked, &e.interrupted)).collect();
    assert!(findings.is_empty(), "{checked:?} {findings:#?}");
    eprintln!("{checked:?}");
}

/// A pg_dump of one table that has lost its end.
const CUT: &[u8] =
    b"--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE a (b int);\n\nCOPY a (b) FROM stdin;\n1\n";

/// What is found of `content` at `path`, in a snapshot of `base`.
fn in_a_backup_of(base: &str, path: &str, content: &[u8]) -> Vec<String> {
    let restored = Restored::of(path, content);
    let mut subject = restored.subject();
    subject.snapshot.paths = vec![base.to_owned()];
    examine(&subject).codes().into_iter().map(str::to_owned).collect()
}

#[test]
fn folders_that_lead_to_a_backup_hide_nothing() {
    for (base, path) in [
        ("/srv/share/db", "srv/share/db/app.sql"),
        ("/opt/tests/db", "opt/tests/db/app.sql"),
        ("/users/somebody/src/app/migrations", "users/somebody/src/app/migrations/app.sql"),
        ("/srv/share/app.sql", "srv/share/app.sql"),
        ("/", "usr/share/db/app.sql"),
        ("/srv", "srv/share/app.sql"),
        ("/home", "home/somebody/src/app.sql"),
    ] {
        assert_eq!(in_a_backup_of(base, path, b""), ["sql_dump.empty"], "{path}");
        assert_eq!(in_a_backup_of(base, path, CUT), ["sql_dump.truncated"], "{path}");
    }
}

#[test]
fn what_programs_bring_along_is_left_alone() {
    for (base, path) in [
        ("/usr/share/postgresql", "usr/share/postgresql/15/extension/hstore--1.0--1.1.sql"),
        ("/", "usr/share/postgresql/15/extension/hstore--1.0--1.1.sql"),
        ("/srv/app", "srv/app/shop/migrations/0002_down.sql"),
        ("/srv", "srv/app/src/shop/empty.sql"),
        ("/srv/node_modules/x", "srv/node_modules/x/empty.sql"),
        ("/usr/lib", "usr/lib/python3/dist-packages/x/empty.sql"),
    ] {
        for content in [&b""[..], b"-- nothing to undo\n"] {
            assert!(in_a_backup_of(base, path, content).is_empty(), "{path}");
        }
        // Whatever begins like a dump is examined as one.
        assert_eq!(in_a_backup_of(base, path, CUT), ["sql_dump.truncated"], "{path}");
    }
}

#[test]
fn a_cut_archive_in_a_folder_of_tests_is_found_when_a_dump_is_in_it() {
    if !have(&["gzip"]) {
        return;
    }
    let noise = Seeded(8).bytes(9000).iter().map(|b| format!("{b}\n")).collect::<String>();
    let gzip = |content: &[u8]| {
        let mut packed = pipe(Command::new("gzip").arg("-c"), content);
        packed.truncate(packed.len() / 2);
        packed
    };
    let dump = gzip(&[CUT, noise.as_bytes()].concat());
    let text = gzip(noise.as_bytes());
    let path = "srv/app/tests/bad.gz";
    assert_eq!(in_a_backup_of("/srv/app", path, &dump), ["gzip.truncated"]);
    assert!(in_a_backup_of("/srv/app", path, &text).is_empty());
    assert_eq!(in_a_backup_of("/srv/app/tests", path, &text), ["gzip.truncated"]);
    let python = "usr/lib/python3.11/test/bad.gz";
    assert!(in_a_backup_of("/usr/lib/python3.11/test", python, &text).is_empty());
}
