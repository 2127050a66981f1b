//! Against the last verified drill and against earlier snapshots.

use firedrill_core::finding::{Class, Examination};
use firedrill_core::ports::Probe;

use super::fixtures::*;
use crate::probe::fixture::{Fixture, found, precede, remember};
use crate::probe::sqlite::SqliteProbe;

/// What is found in `now` when the last verified drill saw `before`.
fn since(before: &Files, now: &Files) -> Examination {
    let earlier = before.examined();
    assert_green(&earlier, 1);
    let fixture = now.fixture();
    let mut subject = fixture.subject();
    remember(&mut subject, &earlier);
    examine(&subject)
}

fn anomaly<'a>(code: &'a str, location: &'a str) -> [(&'a str, Class, &'a str); 1] {
    [(code, Class::Anomaly, location)]
}

#[test]
fn growth_and_small_losses_are_normal() {
    let before = closed(&format!("{SCHEMA} {} CREATE TABLE s (x);", rows("t", 100)));
    for now in [100, 101, 5000, 50] {
        let now = closed(&format!("{SCHEMA} {} CREATE TABLE s (x); CREATE TABLE n (x);", rows("t", now)));
        assert_green(&since(&before, &now), 1);
    }
    let few = closed(&format!("{SCHEMA} {}", rows("t", 19)));
    assert_green(&since(&few, &closed(SCHEMA)), 1);
}

#[test]
fn tables_that_lost_most_of_their_rows() {
    let before = closed(&format!("{SCHEMA} {}", rows("t", 100)));
    let now = closed(&format!("{SCHEMA} {}", rows("t", 49)));
    assert_eq!(found(&since(&before, &now)), anomaly("sqlite.rows_fell", "app/app.db: t"));
}

#[test]
fn tables_that_vanished() {
    let with = |more: &str| closed(&format!("{SCHEMA} {} {more}", rows("t", 100)));
    let users = "CREATE TABLE users (x); INSERT INTO users VALUES (1);";
    let vanished = anomaly("sqlite.table_vanished", "app/app.db: users");
    assert_eq!(found(&since(&with(users), &with(""))), vanished);
    // A new version of the application does not drop everything.
    let moved_on = closed("CREATE TABLE new (x);");
    assert_eq!(found(&since(&closed(&format!("{SCHEMA} {users}")), &moved_on)), vanished);
}

#[test]
fn tables_that_a_new_version_dropped_or_that_held_nothing() {
    let with = |more: &str| closed(&format!("{SCHEMA} {} {more}", rows("t", 100)));
    for (before, now) in [
        ("CREATE TABLE unused (x);", ""),
        ("CREATE TABLE sessions (x); INSERT INTO sessions VALUES (1);", ""),
        (
            "CREATE TABLE a (x); CREATE TABLE b (x); CREATE TABLE users (x); INSERT INTO users VALUES (1);",
            "CREATE TABLE a (x); CREATE TABLE b (x); CREATE TABLE accounts (x);",
        ),
    ] {
        assert_green(&since(&with(before), &with(now)), 1);
    }
}

#[test]
fn tables_whose_rows_come_and_go() {
    for table in ["Logs", "DownloadHistory", "user_session"] {
        let create = format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, text);");
        let before = closed(&format!("{SCHEMA} {create} {}", rows(table, 300)));
        assert_green(&since(&before, &closed(&format!("{SCHEMA} {create}"))), 1);
    }
}

#[test]
fn a_schema_version_that_went_backwards() {
    let before = closed(&format!("{SCHEMA} PRAGMA user_version=12;"));
    let now = closed(&format!("{SCHEMA} PRAGMA user_version=11;"));
    assert_eq!(found(&since(&before, &now)), anomaly("sqlite.version_backwards", DB));
    assert_green(&since(&now, &before), 1);

    let migrated = |count| {
        let values = (0..count).map(|n| format!("({n})")).collect::<Vec<_>>().join(",");
        closed(&format!("CREATE TABLE VersionInfo (Version); INSERT INTO VersionInfo VALUES {values};"))
    };
    let location = "app/app.db: VersionInfo";
    assert_eq!(found(&since(&migrated(30), &migrated(29))), anomaly("sqlite.version_backwards", location));
    assert_green(&since(&migrated(29), &migrated(30)), 1);
}

#[test]
fn references_that_broke_since() {
    let with = |orphans: u32| {
        let values = (0..=orphans).map(|n| format!("({})", n + 1)).collect::<Vec<_>>().join(",");
        closed(&format!(
            "PRAGMA foreign_keys=OFF; CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1);
             CREATE TABLE c (p INTEGER REFERENCES p (id)); INSERT INTO c VALUES {values};"
        ))
    };
    assert_eq!(found(&since(&with(0), &with(1))), anomaly("sqlite.foreign_keys", DB));
    assert_eq!(found(&since(&with(5), &with(11))), anomaly("sqlite.foreign_keys", DB));
    for (before, now) in [(0, 0), (5, 5), (5, 8), (5, 0)] {
        assert_green(&since(&with(before), &with(now)), 1);
    }
}

#[test]
fn a_log_that_was_left_out() {
    let whole = live_files();
    let without = whole.clone().without_wal().without_shm();
    assert_eq!(found(&since(&whole, &without)), anomaly("sqlite.wal_missing", DB));

    // Earlier snapshots alone can tell as well, if the database is the very same.
    let fixture = without.fixture();
    let mut subject = fixture.subject();
    let earlier = || whole.fixture().manifest();
    precede(&mut subject, [earlier()]);
    assert_green(&examine(&subject), 1);
    precede(&mut subject, [earlier(), earlier()]);
    assert_eq!(found(&examine(&subject)), anomaly("sqlite.wal_missing", DB));
}

#[test]
fn a_clean_shutdown_is_no_missing_log() {
    let (folder, connection) = live();
    let path = folder.path().join("app.db");
    let before = Files::of(&path);
    connection.close().unwrap();
    let now = Files::of(&path);
    assert!(now.wal.is_none(), "SQLite removed its log");
    assert_green(&since(&before, &now), 1);
    let fixture = now.fixture();
    let mut subject = fixture.subject();
    precede(&mut subject, [before.fixture().manifest(), before.fixture().manifest()]);
    assert_green(&examine(&subject), 1);
}

#[test]
fn a_file_that_was_a_database() {
    let earlier = closed(SCHEMA).examined();
    let fixture = Fixture::new();
    fixture.write(DB, "this is not the file you are looking for");
    let mut subject = fixture.subject();
    assert!(!SqliteProbe.recognises(&subject));
    remember(&mut subject, &earlier);
    assert!(SqliteProbe.recognises(&subject));
    assert_damaged(&examine(&subject), "sqlite.not_a_database");

    fixture.write(DB, "");
    let mut subject = fixture.subject();
    remember(&mut subject, &earlier);
    assert_damaged(&examine(&subject), "sqlite.empty");
}

#[test]
fn what_is_remembered_is_bounded() {
    let tables: String = (0..250).map(|n| format!("CREATE TABLE t{n:03} (x);")).collect();
    let examination = closed(&tables).examined();
    assert_green(&examination, 1);
    assert_eq!(examination.baseline[DB]["tables"].as_object().unwrap().len(), 200);
    assert!(examination.notes.iter().any(|n| n.contains("50 tables are not remembered")));
    // Nothing is called gone merely because it was not remembered.
    assert_green(&since(&closed(&tables), &closed(&tables)), 1);

    let files = closed("CREATE TABLE t (x);");
    let fixture = Fixture::new();
    for n in 0..205 {
        fixture.write(&format!("{n:03}.db"), &files.db);
    }
    let examination = examine(&fixture.subject());
    assert_green(&examination, 205);
    assert_eq!(examination.baseline.len(), 200);
    assert!(examination.notes.iter().any(|n| n.starts_with("5 databases are not remembered")));
}
