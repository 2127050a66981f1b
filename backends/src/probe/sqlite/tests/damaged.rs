//! What must be flagged, with the code that says what it is.

use firedrill_core::finding::Class;
use firedrill_core::ports::Probe;

use super::fixtures::*;
use crate::probe::fixture::{Fixture, found, precede};
use crate::probe::sqlite::SqliteProbe;

#[test]
fn a_database_cut_in_half() {
    let mut files = closed(&format!("{SCHEMA} {}", rows("t", 2000)));
    files.db.truncate(files.db.len() / 2);
    assert_damaged(&files.examined(), "sqlite.truncated");
}

#[test]
fn a_header_and_nothing_else() {
    let whole = closed(SCHEMA);
    for length in [16, 50, 100, 4095] {
        let files = Files { db: whole.db[..length].to_vec(), ..Files::default() };
        let fixture = files.fixture();
        assert!(SqliteProbe.recognises(&fixture.subject()));
        assert_damaged(&examine(&fixture.subject()), "sqlite.truncated");
    }
}

#[test]
fn a_page_size_that_is_none() {
    let mut files = closed(SCHEMA);
    files.db[16..18].copy_from_slice(&[0x12, 0x34]);
    assert_damaged(&files.examined(), "sqlite.not_a_database");
}

#[test]
fn pages_of_two_moments() {
    let (folder, connection) = open(&format!("{SCHEMA} {}", rows("t", 2000)));
    let path = folder.path().join("app.db");
    let early = Files::of(&path);
    connection.execute_batch("DELETE FROM t WHERE id % 3 = 0; UPDATE t SET text = 'new' || text;").unwrap();
    connection.execute_batch(&rows("t", 4000)).unwrap();
    let mut torn = Files::of(&path);
    let half = early.db.len() / 2 / 4096 * 4096;
    torn.db[..half].copy_from_slice(&early.db[..half]);
    let examination = torn.examined();
    assert_damaged(&examination, "sqlite.integrity");
}

#[test]
fn one_page_of_noise_or_zeros() {
    let whole = closed(&format!("{SCHEMA} {}", rows("t", 1000)));
    for byte in [0, 0xa5] {
        let mut files = whole.clone();
        let at = 5 * 4096;
        files.db[at..at + 4096].fill(byte);
        assert_damaged(&files.examined(), "sqlite.integrity");
    }
}

#[test]
fn an_index_that_lacks_rows() {
    let sql = format!(
        "{SCHEMA} {}
         CREATE TABLE keep AS SELECT * FROM sqlite_master WHERE name = 'i';
         PRAGMA writable_schema=ON; DELETE FROM sqlite_master WHERE name = 'i';",
        rows("t", 100)
    );
    let (folder, connection) = open(&sql);
    connection.close().unwrap();
    let path = folder.path().join("app.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(&rows("t", 10)).unwrap();
    let back = "PRAGMA writable_schema=ON; INSERT INTO sqlite_master SELECT * FROM keep;";
    connection.execute_batch(back).unwrap();
    connection.close().unwrap();
    let examination = Files::of(&path).examined();
    assert_damaged(&examination, "sqlite.integrity");
    let seen = &examination.findings[0].seen;
    assert!(seen.contains("missing from index i") || seen.contains("wrong # of entries"), "{seen}");
}

#[test]
fn a_schema_that_makes_no_sense() {
    let sql = format!(
        "{SCHEMA} PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = 'CREATE TABEL t' WHERE name = 't';"
    );
    assert_damaged(&closed(&sql).examined(), "sqlite.schema");
}

#[test]
fn a_format_from_the_future() {
    let mut files = closed(SCHEMA);
    files.db[44..48].copy_from_slice(&9_u32.to_be_bytes());
    assert_damaged(&files.examined(), "sqlite.open");
}

#[test]
fn a_log_of_another_moment() {
    let (folder, connection) = live();
    let path = folder.path().join("app.db");
    let early = Files::of(&path);
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    connection.close().unwrap();
    // Each connection moves the counter in the first page once.
    let reopened = || {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap();
        connection
    };
    reopened().execute_batch(&rows("t", 8000)).unwrap();
    let connection = reopened();
    connection.execute_batch(&rows("t", 200)).unwrap();
    let late = Files::of(&path);
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let latest = Files::of(&path);
    let wal = |examination: firedrill_core::finding::Examination| {
        assert_eq!(
            found(&examination),
            [("sqlite.wal", Class::Damage, "app/app.db-wal")],
            "{examination:#?}"
        );
        examination.findings[0].seen.clone()
    };

    let newer_db_older_log = Files { db: latest.db, wal: early.wal.clone(), ..Files::default() };
    assert!(wal(newer_db_older_log.examined()).contains("a log that ends at change"));
    let older_db_newer_log = Files { db: early.db.clone(), wal: late.wal.clone(), ..Files::default() };
    assert!(wal(older_db_newer_log.examined()).contains("a log that starts at change"));

    let mut other_pages = closed(&format!("PRAGMA page_size=8192; {SCHEMA}"));
    other_pages.wal = early.wal;
    assert!(wal(other_pages.examined()).contains("pages of 4096 bytes"));
}

#[test]
fn a_log_that_is_damaged_before_its_end() {
    let whole = live_files().without_shm();
    let frame = 24 + 4096;
    let wal = |examination: firedrill_core::finding::Examination, text: &str| {
        assert_eq!(
            found(&examination),
            [("sqlite.wal", Class::Damage, "app/app.db-wal")],
            "{examination:#?}"
        );
        assert!(examination.findings[0].seen.contains(text), "{examination:#?}");
    };
    for at in [32 + 2 * frame + 500, 32 + frame + 9, 32 + frame + 20, 32 + frame + 2] {
        let mut files = whole.clone();
        files.wal.as_mut().unwrap()[at] ^= 1;
        wal(files.examined(), "committed transactions behind it are lost");
    }
    let mut files = whole.clone();
    files.wal.as_mut().unwrap()[32 + frame..32 + 2 * frame].fill(0);
    wal(files.examined(), "frame 2 is damaged");
    for (at, text) in [(0, "does not start like"), (9, "page size"), (14, "checksum of its header")] {
        let mut files = whole.clone();
        files.wal.as_mut().unwrap()[at] ^= 0x40;
        wal(files.examined(), text);
    }
    let mut files = whole.clone();
    files.wal.as_mut().unwrap()[..32].fill(0);
    wal(files.examined(), "its header is zero");
}

#[test]
fn a_log_that_is_shorter_than_its_index_says() {
    let mut files = live_files();
    let wal = files.wal.as_mut().unwrap();
    wal.truncate(wal.len() / 2);
    let examination = files.examined();
    assert_eq!(found(&examination), [("sqlite.wal", Class::Damage, "app/app.db-wal")]);
    assert!(examination.findings[0].seen.contains("although the -shm knows of"));

    let examination = live_files().without_wal().examined();
    assert_damaged(&examination, "sqlite.wal_missing");
}

#[test]
fn an_empty_file_where_there_was_a_database() {
    let empty = Files::default();
    let with_log = Files { wal: live_files().wal, ..Files::default() };
    assert_damaged(&with_log.examined(), "sqlite.empty");

    let fixture = empty.fixture();
    let mut subject = fixture.subject();
    assert!(!SqliteProbe.recognises(&subject));
    precede(&mut subject, [closed(SCHEMA).fixture().manifest()]);
    assert!(SqliteProbe.recognises(&subject));
    assert_damaged(&examine(&subject), "sqlite.empty");

    let mut journal =
        vec![0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 7];
    journal.resize(512, 0);
    let with_journal = Files { journal: Some(journal), ..Files::default() };
    assert_damaged(&with_journal.examined(), "sqlite.empty");
}

#[test]
fn damage_of_one_database_does_not_hide_another() {
    let mut torn = closed(&format!("{SCHEMA} {}", rows("t", 1000)));
    let good = torn.clone();
    torn.db[5 * 4096..6 * 4096].fill(1);
    let fixture = Fixture::new();
    for n in 0..4 {
        fixture.write(&format!("{n}.db"), if n % 2 == 0 { &torn.db } else { &good.db });
    }
    let examination = examine(&fixture.subject());
    assert_eq!(examination.checked, 4);
    let damaged = |path| ("sqlite.integrity", Class::Damage, path);
    assert_eq!(found(&examination), [damaged("0.db"), damaged("2.db")]);
    assert_eq!(examination.baseline.keys().collect::<Vec<_>>(), ["1.db", "3.db"]);
}
