//! Databases made by real SQLite.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use firedrill_core::finding::{Class, Examination};
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;
use rusqlite::Connection;

use crate::probe::fixture::{Fixture, found};
use crate::probe::sqlite::SqliteProbe;

pub(super) const DB: &str = "app/app.db";

/// The bytes of a database and what lay beside it at one moment.
#[derive(Clone, Default)]
pub(super) struct Files {
    pub(super) db: Vec<u8>,
    pub(super) wal: Option<Vec<u8>>,
    pub(super) shm: Option<Vec<u8>>,
    pub(super) journal: Option<Vec<u8>>,
}

impl Files {
    /// What a backup program would read right now.
    pub(super) fn of(path: &Path) -> Self {
        let beside = |suffix: &str| fs::read(format!("{}{suffix}", path.display())).ok();
        Self {
            db: fs::read(path).unwrap(),
            wal: beside("-wal"),
            shm: beside("-shm"),
            journal: beside("-journal"),
        }
    }

    /// Restores them.
    pub(super) fn fixture(&self) -> Fixture {
        let fixture = Fixture::new();
        fixture.write(DB, &self.db);
        for (suffix, content) in [("-wal", &self.wal), ("-shm", &self.shm), ("-journal", &self.journal)] {
            if let Some(content) = content {
                fixture.write(&format!("{DB}{suffix}"), content);
            }
        }
        fixture
    }

    /// Restores and examines them.
    pub(super) fn examined(&self) -> Examination {
        examine(&self.fixture().subject())
    }

    pub(super) fn without_shm(mut self) -> Self {
        self.shm = None;
        self
    }

    pub(super) fn without_wal(mut self) -> Self {
        self.wal = None;
        self
    }
}

/// Examines, and makes sure that looking changed nothing and left nothing behind.
pub(super) fn examine(subject: &Subject) -> Examination {
    let before = crate::probe::fixture::manifest_of(&subject.root);
    let examination = SqliteProbe.examine(subject);
    let after = crate::probe::fixture::manifest_of(&subject.root);
    assert_eq!(before.entries(), after.entries(), "the restored files are left alone");
    assert_eq!(fs::read_dir(&subject.work).unwrap().count(), 0, "work is left empty");
    examination
}

/// A fresh folder with a database made by `sql`, still open.
pub(super) fn open(sql: &str) -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let connection = Connection::open(folder.path().join("app.db")).unwrap();
    connection.execute_batch(sql).unwrap();
    (folder, connection)
}

/// A database made by `sql` and closed.
pub(super) fn closed(sql: &str) -> Files {
    let (folder, connection) = open(sql);
    connection.close().unwrap();
    Files::of(&folder.path().join("app.db"))
}

/// SQL that adds `rows` rows to table `t`.
pub(super) fn rows(table: &str, rows: u32) -> String {
    format!(
        "INSERT INTO {table} SELECT NULL, 'row ' || value || hex(randomblob(40)) FROM
         (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT {rows})
          SELECT value FROM n);"
    )
}

pub(super) const SCHEMA: &str =
    "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT NOT NULL); CREATE INDEX i ON t (text);";

/// A live database in write-ahead mode: 5000 rows in the file and 1000 more that are only in the log.
pub(super) fn live() -> (tempfile::TempDir, Connection) {
    let (folder, connection) = open(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; {SCHEMA} {}
         PRAGMA wal_checkpoint(TRUNCATE);",
        rows("t", 5000)
    ));
    for _ in 0..10 {
        connection.execute_batch(&rows("t", 100)).unwrap();
    }
    (folder, connection)
}

/// What a backup program reads of it.
pub(super) fn live_files() -> Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let (folder, _connection) = live();
        Files::of(&folder.path().join("app.db"))
    });
    files.clone()
}

/// A process of the real command line tool that is killed once it has said `ready`.
pub(super) fn killed(script: &str) -> Option<Files> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let started = Command::new("sqlite3").arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = started else {
        firedrill_testing::skip("sqlite3 is missing");
        return None;
    };
    let stdin = child.stdin.as_mut().unwrap();
    writeln!(stdin, "{script}\n.print ready").unwrap();
    stdin.flush().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"), "the script ran");
    child.kill().unwrap();
    child.wait().unwrap();
    Some(Files::of(&path))
}

pub(super) fn assert_green(examination: &Examination, databases: u64) {
    assert_eq!(examination.findings, []);
    assert_eq!(examination.interrupted, None);
    assert_eq!(examination.checked, databases);
}

pub(super) fn assert_damaged(examination: &Examination, code: &str) {
    assert_eq!(found(examination), [(code, Class::Damage, DB)], "{examination:#?}");
    assert_eq!(examination.interrupted, None);
    assert_eq!(examination.checked, 1);
}

/// Rows of a table as they are remembered for the next drill.
pub(super) fn remembered_rows(examination: &Examination, table: &str) -> u64 {
    examination.baseline[DB]["tables"][table].as_u64().unwrap()
}
