//! Trees, SQLite files and snapshots of etcd against their digests, and files of digests that are none.

use std::path::PathBuf;

use firedrill_core::finding::{Class, Examination};
use firedrill_core::ports::Probe as _;
use firedrill_core::secret::Secret;
use jiff::Timestamp;
use rusqlite::Connection;

use super::DigestsProbe;
use crate::digests::record::{self, Output};
use crate::probe::fixture::{Fixture, found};

const FILE: &str = ".firedrill-digests.json";

fn output(fixture: &Fixture, name: &str) -> Output {
    Output::new(&fixture.path(name)).unwrap()
}

fn examine(fixture: &Fixture) -> Examination {
    let subject = fixture.subject();
    assert!(DigestsProbe.recognises(&subject));
    DigestsProbe.examine(&subject)
}

#[track_caller]
fn must_be_green(examination: &Examination) {
    assert_eq!(found(examination), [], "{examination:#?}");
    assert_eq!(examination.interrupted, None);
    assert!(examination.checked > 1, "{examination:#?}");
}

fn tree() -> Fixture {
    use std::os::unix::ffi::OsStrExt as _;
    let fixture = Fixture::new();
    for (path, content) in
        [("app/a.txt", "a"), ("app/sub/b.txt", "b"), ("app/sub/c.txt", "c"), ("app/cache/x", "x")]
    {
        fixture.write(path, content);
    }
    std::fs::create_dir(fixture.path("app/empty")).unwrap();
    std::os::unix::fs::symlink("a.txt", fixture.path("app/link")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"app/\xff%41");
    std::fs::create_dir(fixture.root.join(odd)).unwrap();
    std::fs::write(fixture.root.join(odd).join("y"), "y").unwrap();
    let to = output(&fixture, &format!("app/{FILE}"));
    let digests =
        record::of_files(&[fixture.path("app")], &["cache".to_owned()], &to, Timestamp::UNIX_EPOCH).unwrap();
    to.write(&digests, None).unwrap();
    fixture
}

#[test]
fn trees_are_equal_until_they_are_changed() {
    must_be_green(&examine(&tree()));
    type Change<'a> = &'a dyn Fn(&Fixture);
    let cases: [(&str, Change<'_>, &[&str]); 9] = [
        ("content", &|f| drop(f.write("app/sub/b.txt", "B")), &["app/sub"]),
        ("missing file", &|f| std::fs::remove_file(f.path("app/a.txt")).unwrap(), &["app"]),
        ("extra file", &|f| drop(f.write("app/empty/n", "")), &["app/empty"]),
        (
            "renamed",
            &|f| std::fs::rename(f.path("app/sub/c.txt"), f.path("app/sub/d.txt")).unwrap(),
            &["app/sub"],
        ),
        ("missing folder", &|f| std::fs::remove_dir(f.path("app/empty")).unwrap(), &["app/empty"]),
        ("extra folder", &|f| std::fs::create_dir(f.path("app/new")).unwrap(), &["app/new"]),
        (
            "swapped",
            &|f| {
                f.write("app/sub/b.txt", "c");
                f.write("app/sub/c.txt", "b");
            },
            &["app/sub"],
        ),
        (
            "a link that points elsewhere",
            &|f| {
                std::fs::remove_file(f.root.join("app/link")).unwrap();
                std::os::unix::fs::symlink("/etc/hostname", f.root.join("app/link")).unwrap();
            },
            &["app"],
        ),
        (
            "a folder that became a link",
            &|f| {
                std::fs::remove_dir_all(f.path("app/sub")).unwrap();
                std::os::unix::fs::symlink("/etc", f.root.join("app/sub")).unwrap();
            },
            &["app", "app/sub"],
        ),
    ];
    for (what, change, places) in cases {
        let fixture = tree();
        change(&fixture);
        let examination = examine(&fixture);
        let expected: Vec<_> = places.iter().map(|place| ("digests.files", Class::Damage, *place)).collect();
        assert_eq!(found(&examination), expected, "{what}");
    }
    let harmless = tree();
    harmless.write("app/cache/z", "z");
    harmless.write("app/.firedrill-canary", "c");
    must_be_green(&examine(&harmless));
}

#[test]
fn single_files_and_what_was_not_backed_up() {
    let fixture = Fixture::new();
    fixture.write("d/dump.bin", "content");
    let to = output(&fixture, &format!("d/{FILE}"));
    let elsewhere = tempfile::tempdir().unwrap();
    let paths = [fixture.path("d/dump.bin"), elsewhere.path().to_owned()];
    let digests = record::of_files(&paths, &[], &to, Timestamp::UNIX_EPOCH).unwrap();
    to.write(&digests, None).unwrap();
    let examination = examine(&fixture);
    must_be_green(&examination);
    assert!(
        examination.not_verified.iter().any(|text| text.contains("was not backed up")),
        "{examination:#?}"
    );
    fixture.write("d/dump.bin", "Content");
    assert_eq!(found(&examine(&fixture)), [("digests.files", Class::Damage, "d/dump.bin")]);
    std::fs::remove_file(fixture.path("d/dump.bin")).unwrap();
    assert_eq!(found(&examine(&fixture)), [("digests.files", Class::Damage, "d/dump.bin")]);
}

fn sqlite(sql: &str) -> Examination {
    let fixture = Fixture::new();
    let path: PathBuf = fixture.path("data/app.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "create table t(id integer primary key, v, g as (id + 1)); insert into t(v) values ('a'), (1), (1.0), (null), (x'00');
             create table u(a, b, primary key (a)) without rowid; insert into u values (1, 'x'), (2, 'y');
             create table w(a, b, primary key (a)) without rowid; insert into w values (1, 'x'), (2, 'z');
             create virtual table f using fts5(text); insert into f values ('hello'); create view v as select 1; analyze",
        )
        .unwrap();
    let to = output(&fixture, &format!("data/{FILE}"));
    let digests = record::of_sqlite(std::slice::from_ref(&path), &to, Timestamp::UNIX_EPOCH).unwrap();
    assert!(digests.sqlite["app.db"].tables.contains_key("f_content"));
    to.write(&digests, None).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    examine(&fixture)
}

#[test]
fn sqlite_files_are_equal_until_they_are_changed() {
    for harmless in
        ["", "vacuum", "create index i on t(v)", "drop view v", "pragma journal_mode = wal; analyze"]
    {
        must_be_green(&sqlite(harmless));
    }
    for (sql, places) in [
        ("update t set v = 'b' where id = 1", &["t"][..]),
        ("update t set v = '1' where id = 2", &["t"]),
        ("update t set v = 1 where id = 3", &["t"]),
        ("delete from u where a = 2", &["u"]),
        ("create table x(a)", &["x"]),
        ("drop table u", &["u"]),
        ("alter table u rename to q; alter table w rename to u; alter table q rename to w", &["u", "w"]),
        ("alter table u rename column b to c", &["u"]),
    ] {
        let examination = sqlite(sql);
        let places: Vec<_> = places.iter().map(|table| format!("data/app.db: {table}")).collect();
        let expected: Vec<_> =
            places.iter().map(|place| ("digests.table", Class::Damage, place.as_str())).collect();
        assert_eq!(found(&examination), expected, "{sql}");
    }
}

#[test]
fn files_of_digests_have_to_be_whole_and_authentic() {
    let key = Secret::new("key");
    let fixture = tree();
    let path = format!("app/{FILE}");
    let signed = || {
        let to = output(&fixture, &path);
        let digests =
            record::of_files(&[fixture.path("app")], &["cache".to_owned()], &to, Timestamp::UNIX_EPOCH)
                .unwrap();
        to.write(&digests, Some(&key)).unwrap();
        std::fs::read_to_string(to.path()).unwrap()
    };
    let text = signed();
    let examine_with = |key: Option<&Secret>| {
        let mut subject = fixture.subject();
        subject.canary_key = key.cloned();
        DigestsProbe.examine(&subject)
    };
    let authentic = examine_with(Some(&key));
    must_be_green(&authentic);
    assert!(authentic.not_verified.is_empty(), "{authentic:#?}");
    let unknown = examine_with(None);
    must_be_green(&unknown);
    assert!(unknown.not_verified[0].contains("no key is known"));
    assert_eq!(
        found(&examine_with(Some(&Secret::new("other")))),
        [("digests.forged", Class::Damage, path.as_str())]
    );
    fixture.write(&path, text.replace("\"bytes\": 1", "\"bytes\": 2"));
    assert_eq!(found(&examine_with(Some(&key))), [("digests.forged", Class::Damage, path.as_str())]);
    for broken in ["", "{}", &text[..text.len() - 9], &text.replace("digests\":1", "digests\":7")] {
        fixture.write(&path, broken);
        let examination = examine_with(Some(&key));
        assert_eq!(found(&examination), [("digests.malformed", Class::Damage, path.as_str())], "{broken}");
    }
}

#[test]
fn databases_without_an_engine_are_told() {
    let fixture = Fixture::new();
    let text = r#"{"firedrill_digests":1,"content":{"time":"2026-01-02T03:04:05Z","postgres":{"shop":{"server":"15","exact":true}}}}"#;
    fixture.write(&format!("b/{FILE}"), text);
    let examination = examine(&fixture);
    assert_eq!(found(&examination), []);
    assert!(
        examination.not_verified.iter().any(|text| text.contains("the database shop")),
        "{examination:#?}"
    );
}
