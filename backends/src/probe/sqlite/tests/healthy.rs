//! What must stay green.

use firedrill_core::config::units::Size;
use firedrill_core::manifest::{Kind, NewEntry};
use firedrill_core::ports::Probe;

use super::fixtures::*;
use crate::probe::fixture::Fixture;
use crate::probe::sqlite::SqliteProbe;

#[test]
fn a_closed_database() {
    let files = closed(&format!("{SCHEMA} {} PRAGMA user_version=7;", rows("t", 300)));
    let fixture = files.fixture();
    let subject = fixture.subject();
    assert!(SqliteProbe.recognises(&subject));
    let examination = examine(&subject);
    assert_green(&examination, 1);
    assert_eq!(remembered_rows(&examination, "t"), 300);
    assert_eq!(examination.baseline[DB]["user_version"], 7);
}

#[test]
fn a_live_database_with_its_log() {
    let files = live_files();
    for files in [files.clone(), files.without_shm()] {
        let examination = files.examined();
        assert_green(&examination, 1);
        assert_eq!(remembered_rows(&examination, "t"), 6000);
        assert!(!examination.not_verified.iter().any(|n| n.contains("without a -wal")));
    }
}

#[test]
fn a_live_database_without_its_log_is_only_mentioned() {
    let examination = live_files().without_wal().without_shm().examined();
    assert_green(&examination, 1);
    assert_eq!(remembered_rows(&examination, "t"), 5000);
    assert!(examination.not_verified.iter().any(|n| n.contains("without a -wal")), "{examination:?}");
}

#[test]
fn an_index_of_long_ago_says_nothing() {
    // Its pages are mapped, so that its time can stand still, and a backup goes on with an old copy of it.
    let files = live_files().without_wal();
    let fixture = files.fixture();
    let file = std::fs::File::options().write(true).open(fixture.path(&format!("{DB}-shm"))).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
    assert!(examine(&fixture.subject()).findings.is_empty());
}

#[test]
fn half_a_log_is_an_uncommitted_tail() {
    let (folder, connection) = live();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    connection.execute_batch(&rows("t", 1000)).unwrap();
    let mut files = Files::of(&folder.path().join("app.db")).without_shm();
    let wal = files.wal.as_mut().unwrap();
    wal.truncate(wal.len() / 2);
    let examination = files.examined();
    assert_green(&examination, 1);
    assert_eq!(remembered_rows(&examination, "t"), 6000);
    assert!(examination.notes.iter().any(|n| n.contains("not committed")), "{examination:?}");
}

#[test]
fn a_log_that_was_started_anew_has_left_overs_behind_its_end() {
    let (folder, connection) = live();
    connection.execute_batch("PRAGMA wal_checkpoint(RESTART)").unwrap();
    connection.execute_batch(&rows("t", 1)).unwrap();
    let examination = Files::of(&folder.path().join("app.db")).examined();
    assert_green(&examination, 1);
    assert_eq!(remembered_rows(&examination, "t"), 6001);
}

#[test]
fn an_empty_log_beside_a_database() {
    let (folder, connection) = live();
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let files = Files::of(&folder.path().join("app.db"));
    assert_eq!(files.wal.as_deref(), Some([].as_slice()));
    let examination = files.examined();
    assert_green(&examination, 1);
    assert!(!examination.not_verified.iter().any(|n| n.contains("without a -wal")));
}

#[test]
fn a_writer_that_was_killed() {
    let log = "PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, text);
        INSERT INTO t VALUES (1, 'kept'); BEGIN; INSERT INTO t VALUES (2, 'lost');";
    let Some(files) = killed(log) else { return };
    let examination = files.examined();
    assert_green(&examination, 1);
    assert_eq!(remembered_rows(&examination, "t"), 1);

    let journal = format!(
        "PRAGMA cache_size=2; {SCHEMA} {} BEGIN; {} UPDATE t SET text = text || 'x';",
        rows("t", 500),
        rows("t", 5000)
    );
    let Some(files) = killed(&journal) else { return };
    assert!(files.journal.is_some(), "the journal is hot");
    let examination = files.examined();
    assert_green(&examination, 1);
    assert_eq!(remembered_rows(&examination, "t"), 500);
    assert!(examination.notes.iter().any(|n| n.contains("rolled back")));
}

#[test]
fn journals_of_other_modes_that_lie_around() {
    for mode in ["PERSIST", "TRUNCATE"] {
        let (folder, connection) = open(&format!("PRAGMA journal_mode={mode}; {SCHEMA} {}", rows("t", 50)));
        let files = Files::of(&folder.path().join("app.db"));
        assert!(files.journal.is_some());
        assert_green(&files.examined(), 1);
        connection.close().unwrap();
    }
}

#[test]
fn all_page_sizes_and_a_file_that_grows_in_steps() {
    for size in [512, 1024, 4096, 65_536] {
        let mut files = closed(&format!("PRAGMA page_size={size}; {SCHEMA} {}", rows("t", 10)));
        assert_green(&files.examined(), 1);
        files.db.extend(std::iter::repeat_n(0, 3 * size));
        assert_green(&files.examined(), 1);
    }
}

#[test]
fn a_database_with_nothing_in_it() {
    assert_green(&closed("PRAGMA user_version=1;").examined(), 1);
}

#[test]
fn what_only_the_application_has_is_not_verified() {
    let sql = format!(
        "{SCHEMA} {} CREATE VIRTUAL TABLE good USING fts5(x); INSERT INTO good VALUES ('word');
         CREATE TABLE c (id INTEGER PRIMARY KEY, x TEXT); CREATE INDEX ci ON c (x);
         INSERT INTO c VALUES (1, 'a');
         PRAGMA writable_schema=ON;
         UPDATE sqlite_master SET sql = 'CREATE TABLE c (id INTEGER PRIMARY KEY, x TEXT COLLATE icu_de)'
           WHERE name = 'c';
         INSERT INTO sqlite_master VALUES
           ('table', 'foreign_module', 'foreign_module', 0,
            'CREATE VIRTUAL TABLE foreign_module USING spellfix1'),
           ('table', 'foreign_words', 'foreign_words', 0,
            'CREATE VIRTUAL TABLE foreign_words USING fts4(x, tokenize=mozporter)');",
        rows("t", 100)
    );
    let examination = closed(&sql).examined();
    assert_green(&examination, 1);
    assert_eq!(remembered_rows(&examination, "t"), 100);
    assert!(examination.not_verified.iter().any(|n| n.contains("icu_de")), "{examination:#?}");
}

#[test]
fn an_index_of_a_foreign_table_does_not_hide_damage_of_another() {
    let sql = format!(
        "{SCHEMA} {} CREATE TABLE c (id INTEGER PRIMARY KEY, x TEXT); CREATE INDEX ci ON c (x);
         PRAGMA writable_schema=ON;
         UPDATE sqlite_master SET sql = 'CREATE TABLE c (id INTEGER PRIMARY KEY, x TEXT COLLATE icu_de)'
           WHERE name = 'c';",
        rows("t", 500)
    );
    let mut files = closed(&sql);
    let middle = files.db.len() / 2;
    files.db[middle..middle + 4096].fill(0x55);
    assert_damaged(&files.examined(), "sqlite.integrity");
}

#[test]
fn constraints_and_references_that_the_application_broke_are_notes() {
    let sql = "PRAGMA foreign_keys=OFF; CREATE TABLE p (id INTEGER PRIMARY KEY);
        CREATE TABLE c (p INTEGER REFERENCES p (id), n INTEGER); INSERT INTO c VALUES (9, NULL);
        PRAGMA writable_schema=ON;
        UPDATE sqlite_master SET sql = replace(sql, 'n INTEGER', 'n INTEGER NOT NULL') WHERE name = 'c';";
    let examination = closed(sql).examined();
    assert_green(&examination, 1);
    let notes = examination.notes.join("\n");
    assert!(notes.contains("1 references to rows that are not there"), "{notes}");
    assert!(notes.contains("1 values against a constraint"), "{notes}");
}

#[test]
fn large_databases_get_the_quick_check() {
    let fixture = closed(SCHEMA).fixture();
    let mut subject = fixture.subject();
    subject.drill.probes.sqlite.integrity_check_max = Size(1);
    let examination = examine(&subject);
    assert_green(&examination, 1);
    assert!(examination.not_verified.iter().any(|n| n.contains("integrity_check_max")));
}

#[test]
fn files_that_only_sound_like_databases() {
    let fixture = Fixture::new();
    fixture.write("new.db", "");
    fixture.write("new.sqlite3-journal", "");
    fixture.write("pictures/Thumbs.db", [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]);
    fixture.write("notes.txt", "SQLite format 3 is a file format");
    let mut manifest = fixture.manifest();
    let mut unread = NewEntry::bare("unread.db", Kind::File);
    unread.read_error = Some("permission denied".to_owned());
    manifest.push(unread, []);
    let subject = fixture.subject_of(manifest);
    assert!(!SqliteProbe.recognises(&subject));
    let examination = examine(&subject);
    assert_green(&examination, 0);
    assert_eq!(
        examination.notes,
        ["named like databases and empty: new.db", "named like databases and not SQLite: pictures/Thumbs.db"]
    );
}

#[test]
fn a_database_that_is_just_being_made() {
    let fixture = Fixture::new();
    fixture.write("new.db", "");
    let mut journal = vec![0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    journal.extend([0; 504]);
    fixture.write("new.db-journal", journal);
    assert_green(&examine(&fixture.subject()), 0);
}

#[test]
fn many_databases_under_odd_names() {
    let files = closed(&format!("{SCHEMA} {}", rows("t", 5)));
    let fixture = Fixture::new();
    for name in ["a", "b?mode=ro#x", "dir/percent%20", "dir/päth 'quoted' \"\n.db", "my-journal"] {
        fixture.write(name, &files.db);
    }
    fixture.write(&format!("{}x", "deep/".repeat(300)), &files.db);
    assert_green(&examine(&fixture.subject()), 6);
}
