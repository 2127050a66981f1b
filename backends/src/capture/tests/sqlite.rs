use std::path::Path;
use std::time::Duration;

use firedrill_core::config::jobs::{CaptureConfig, SqliteCapture};
use rusqlite::{Connection, OpenFlags};

use super::Place;
use crate::digests::tests::server::Writer;

fn sqlite(path: &Path) -> CaptureConfig {
    let sqlite = SqliteCapture { path: path.display().to_string(), stored_as: None };
    CaptureConfig { sqlite: Some(sqlite), ..CaptureConfig::default() }
}

/// A database in which money is moved and never made; a log of numbers that has no gap.
fn bank(path: &Path, mode: &str) -> Connection {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(60)).unwrap();
    db.execute_batch(&format!(
        "PRAGMA journal_mode = {mode}; PRAGMA synchronous = OFF;
         CREATE TABLE accounts(id INTEGER PRIMARY KEY, money INTEGER, pad BLOB);
         CREATE TABLE log(n INTEGER PRIMARY KEY);
         WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < 1000)
         INSERT INTO accounts SELECT id, 100, randomblob(400) FROM ids;"
    ))
    .unwrap();
    db
}

#[test]
fn a_copy_is_never_torn() {
    for mode in ["WAL", "DELETE", "TRUNCATE"] {
        let place = Place::new();
        let path = place.path().join("bank.db");
        let db = bank(&path, mode);
        let mut n = 0;
        let writer = Writer::start(move || {
            n += 1;
            db.execute_batch(&format!(
                "BEGIN IMMEDIATE; INSERT INTO log VALUES ({n});
                 UPDATE accounts SET money = money - 1, pad = randomblob(400) WHERE id = 1 + {n} % 500;
                 UPDATE accounts SET money = money + 1, pad = randomblob(400) WHERE id = 501 + {n} * 7 % 500; COMMIT;"
            ))
            .unwrap();
            std::thread::sleep(Duration::from_micros(200));
        });
        let mut before = 0;
        for round in 0..8 {
            let captured = place.capture(sqlite(&path)).unwrap();
            let [copy] = captured.made.as_slice() else { panic!("{:?}", captured.made) };
            assert_eq!((copy.path.as_str(), copy.dump), (path.to_str().unwrap(), true));
            let copied = Connection::open_with_flags(&copy.file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
            let ask = |sql: &str| copied.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            let sound: String = copied.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(sound, "ok", "{mode}, round {round}");
            let (count, last) = (ask("SELECT count(*) FROM log"), ask("SELECT coalesce(max(n), 0) FROM log"));
            assert_eq!(count, last, "{mode}: a transaction is missing in the middle");
            assert_eq!(
                ask("SELECT sum(money) FROM accounts"),
                100_000,
                "{mode}: a transaction is there by half"
            );
            assert!(last >= before, "{mode}: older than the copy before");
            before = last;
            drop(copied);
            std::fs::remove_file(&copy.file).unwrap();
        }
        assert!(writer.end() > 0, "{mode}: nobody wrote meanwhile");
    }
}

#[test]
fn what_is_no_database_is_no_backup() {
    let place = Place::new();
    let (empty, text, none) =
        (place.path().join("empty"), place.path().join("text"), place.path().join("no"));
    std::fs::write(&empty, "").unwrap();
    std::fs::write(
        &text,
        "this is no database, but long enough for somebody to believe that it is one".repeat(99),
    )
    .unwrap();
    for (path, told) in [(&empty, "empty"), (&text, "not a database"), (&none, "No such file")] {
        let error = place.capture(sqlite(path)).map(drop).unwrap_err().chain();
        assert!(error.contains(told), "{error}");
    }
    let damaged = place.path().join("damaged.db");
    drop(bank(&damaged, "DELETE"));
    let mut bytes = std::fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 5000].fill(0xa5);
    std::fs::write(&damaged, bytes).unwrap();
    let error = place.capture(sqlite(&damaged)).map(drop).unwrap_err().chain();
    assert!(error.contains("repair it"), "{error}");
}

#[test]
fn a_locked_database_is_waited_for_as_long_as_there_is_time() {
    let mut place = Place::new();
    let path = place.path().join("bank.db");
    let db = bank(&path, "DELETE");
    db.execute_batch("BEGIN EXCLUSIVE").unwrap();
    place.watch = firedrill_core::watch::Watch::unlimited().within(Some(Duration::from_secs(2)));
    let error = place.capture(sqlite(&path)).map(drop).unwrap_err();
    assert_eq!(error.kind, firedrill_core::error::ErrorKind::Timeout, "{}", error.chain());
    place.watch = firedrill_core::watch::Watch::unlimited().within(Some(super::LONG));
    db.execute_batch("COMMIT").unwrap();
    std::fs::remove_file(place.path().join("sqlite-0")).ok();
    place.capture(sqlite(&path)).unwrap();
}
