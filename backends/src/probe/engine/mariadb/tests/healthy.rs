//! Backups that are in order stay green.

use std::io::Write as _;

use firedrill_core::config::settings::{DatabaseExpectation, NewestRow, Query};
use firedrill_core::event::Phase;
use firedrill_core::finding::{Class, RecoveryBasis};

use super::made::{ENCRYPTED, Files, MADE};
use super::*;

pub(super) fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn put(fixture: &Fixture, folder: &str, files: &Files) {
    for (name, content) in files {
        fixture.write(&format!("{folder}/{name}"), content);
    }
}

#[test]
fn a_dump_of_one_database_is_loaded_and_asked() {
    if !have() {
        return;
    }
    let examination = examine("var/shop.sql", &MADE.one);
    must_be_clean(&examination);
    let notes = examination.notes.join("\n");
    assert!(notes.contains("1 databases, 8 tables with 4309 rows"), "{notes}");
    // `ghost` owns a view, and is not in the dump.
    assert_eq!(codes(&examination), ["mariadb.account"], "{examination:#?}");
    assert!(examination.findings[0].expected.contains("ghost@%"));
    let engine = examination.engine.unwrap();
    assert_eq!(engine.cells.len(), 1);
    for phase in [Phase::Start, Phase::Load, Phase::Answer, Phase::Verify] {
        assert!(engine.phases[&phase] > 0.0, "{phase:?}");
    }
}

#[test]
fn dumps_of_every_shape_are_green() {
    if !have() {
        return;
    }
    let zst = zstd::encode_all(MADE.databases.as_slice(), 1).unwrap();
    for (name, content) in [
        ("hex.sql", MADE.hex.clone()),
        ("databases.sql.zst", zst),
        ("all.sql.gz", gz(&MADE.all)),
        ("users.sql", MADE.users.clone()),
    ] {
        let examination = examine(name, content);
        must_be_clean(&examination);
        let accounts = name.starts_with("all") || name.starts_with("users");
        assert_eq!(examination.findings.is_empty(), accounts, "{name}: {examination:#?}");
    }
}

#[test]
fn what_a_person_expects_is_asked() {
    if !have() {
        return;
    }
    let fixture = Fixture::new();
    fixture.write("srv/app/all.sql", &MADE.all);
    let mut subject = subject(&fixture);
    subject.drill.expectations.mariadb = vec![
        DatabaseExpectation {
            file: Some("all.sql".into()),
            database: Some("shop".into()),
            tables: vec!["orders".into(), "we.ird`x.t.a`b".into()],
            rows_min: [("orders".to_owned(), 4000)].into(),
            queries: vec![Query {
                sql: "SELECT x FROM aria_table WHERE id=2;".into(),
                equals: "b\nc\td\\".into(),
            }],
            newest: Some(NewestRow { sql: "SELECT max(created_at) FROM orders".into(), max_age: None }),
            roles: vec!["app".into(), "ghost@%".into(), "reader".into()],
        },
        DatabaseExpectation { database: Some("we.ird`x".into()), ..Default::default() },
    ];
    let examination = examine_subject(&subject);
    must_be_clean(&examination);
    assert_eq!(codes(&examination), Vec::<&str>::new());
    let point = examination.recovery_point.unwrap();
    assert_eq!(
        (point.basis, point.time.to_string()),
        (RecoveryBasis::Data, "2026-01-05T02:00:00Z".to_owned())
    );
}

#[test]
fn what_a_person_expects_and_is_not_there_is_told() {
    if !have() {
        return;
    }
    let fixture = Fixture::new();
    fixture.write("srv/app/shop.sql", &MADE.one);
    let mut subject = subject(&fixture);
    let shop = DatabaseExpectation { database: Some("shop".into()), ..Default::default() };
    subject.drill.expectations.mariadb = vec![
        DatabaseExpectation { file: Some("other.sql".into()), ..Default::default() },
        DatabaseExpectation { database: Some("crm".into()), ..Default::default() },
        DatabaseExpectation { tables: vec!["invoices".into()], ..shop.clone() },
        DatabaseExpectation { rows_min: [("orders".to_owned(), 4001)].into(), ..shop.clone() },
        DatabaseExpectation {
            queries: vec![
                Query { sql: "SELECT count(*) FROM child".into(), equals: "2".into() },
                Query { sql: "SELECT nonsense".into(), equals: "2".into() },
                Query { sql: "DELETE FROM child".into(), equals: "".into() },
            ],
            ..shop.clone()
        },
        DatabaseExpectation { roles: vec!["app".into()], ..shop.clone() },
        DatabaseExpectation {
            newest: Some(NewestRow {
                sql: "SELECT max(created_at) FROM orders".into(),
                max_age: Some(firedrill_core::config::units::Span(std::time::Duration::from_secs(60))),
            }),
            ..shop
        },
    ];
    let examination = examine_subject(&subject);
    assert_eq!(examination.interrupted, None);
    let mut seen = codes(&examination);
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            "mariadb.account",
            "mariadb.account_missing",
            "mariadb.missing",
            "mariadb.missing",
            "mariadb.newest",
            "mariadb.query",
            "mariadb.query",
            "mariadb.query",
            "mariadb.rows",
            "mariadb.table_missing",
        ],
        "{examination:#?}"
    );
}

#[test]
fn physical_backups_are_prepared_started_and_read() {
    if !have() {
        return;
    }
    let examination = examine("backup/mariadb.xb", &MADE.stream);
    must_be_clean(&examination);
    assert_eq!(codes(&examination), Vec::<&str>::new());
    let notes = examination.notes.join("\n");
    assert!(notes.contains("2 databases, 9 tables with 4310 rows"), "{notes}");
    assert!(notes.contains("binary log at"), "{notes}");
    assert!(!examination.baseline.is_empty());

    let fixture = Fixture::new();
    put(&fixture, "backup/target", &MADE.folder);
    fixture.write("backup/mariadb.xb.gz", gz(&MADE.stream));
    let examination = examine_subject(&subject(&fixture));
    must_be_clean(&examination);
    assert_eq!(examination.engine.unwrap().cells.len(), 2);
}

/// A chunk of a stream that is no payload.
fn chunk(kind: u8, path: &str) -> Vec<u8> {
    let length = u32::try_from(path.len()).unwrap().to_le_bytes();
    [&b"XBSTCK01"[..], &[0, kind], &length, path.as_bytes()].concat()
}

#[test]
fn a_stream_that_is_not_plain_is_unpacked_by_its_own_tool() {
    if !have() {
        return;
    }
    let plain = |stream: &[u8]| {
        let fixture = Fixture::new();
        let (_, metadata) = crate::probe::structure::read_stream(&subject(&fixture), "x", stream);
        metadata.unwrap().plain
    };
    assert!(plain(&MADE.stream));
    // A file comes, and is taken back.
    let seek = [chunk(b'S', "gone"), 0_u64.to_le_bytes().to_vec()].concat();
    let taken_back = [chunk(b'E', "gone"), chunk(b'D', "gone")].concat();
    for more in [&taken_back, &chunk(b'E', "backup-my.cnf"), &chunk(b'E', "./odd"), &seek] {
        assert!(!plain(&[&MADE.stream[..], more].concat()), "{more:?}");
    }
    let examination = examine("backup/mariadb.xb", [&MADE.stream[..], &taken_back].concat());
    must_be_clean(&examination);
    assert_eq!(codes(&examination), Vec::<&str>::new());
}

#[test]
fn an_incremental_backup_is_applied_to_the_one_it_builds_on() {
    if !have() {
        return;
    }
    let fixture = Fixture::new();
    put(&fixture, "backup/full", &MADE.folder);
    put(&fixture, "backup/more", &MADE.increment);
    let examination = examine_subject(&subject(&fixture));
    must_be_clean(&examination);
    let notes = examination.notes.join("\n");
    assert!(notes.contains("9 tables with 4311 rows"), "{notes}");
    assert!(notes.contains("1 incremental backups were applied"), "{notes}");
}

#[test]
fn data_folders_recover_and_a_live_copy_is_told() {
    if !have() {
        return;
    }
    let fixture = Fixture::new();
    put(&fixture, "lib/mysql", &MADE.stopped);
    let examination = examine_subject(&subject(&fixture));
    must_be_clean(&examination);
    assert!(examination.findings.is_empty(), "{examination:#?}");

    let fixture = Fixture::new();
    put(&fixture, "lib/mysql", &MADE.live);
    let examination = examine_subject(&subject(&fixture));
    let live = examination.findings.iter().find(|f| f.code == "mariadb.live_copy");
    assert_eq!(live.map(|f| f.class), Some(Class::Anomaly), "{examination:#?}");
}

#[test]
fn a_question_that_takes_too_long_is_no_damage() {
    if !have() {
        return;
    }
    let late = "SET STATEMENT max_statement_time=0.2 FOR SELECT SLEEP(20)";
    let newest = Some(NewestRow { sql: late.into(), max_age: None });
    for wish in [
        DatabaseExpectation {
            queries: vec![Query { sql: late.into(), equals: "0".into() }],
            ..Default::default()
        },
        DatabaseExpectation { newest, ..Default::default() },
    ] {
        let fixture = Fixture::new();
        fixture.write("srv/app/shop.sql", &MADE.databases);
        let mut subject = subject(&fixture);
        subject.drill.expectations.mariadb =
            vec![DatabaseExpectation { database: Some("shop".into()), ..wish }];
        let examination = examine_subject(&subject);
        assert!(examination.findings.iter().all(|f| f.class == Class::Gap), "{examination:#?}");
        assert!(examination.interrupted.as_ref().is_some_and(|why| why.contains("1969")), "{examination:#?}");
    }
}

#[test]
fn what_could_not_be_read_is_not_missing() {
    let expecting = |change: &dyn Fn(&mut Subject)| {
        let fixture = Fixture::new();
        fixture.write("srv/app/shop.sql", "-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for x\n");
        let mut subject = subject(&fixture);
        subject.drill.expectations.mariadb =
            vec![DatabaseExpectation { database: Some("shop".into()), ..Default::default() }];
        change(&mut subject);
        MariadbProbe.examine(&subject)
    };
    // Nobody has looked at any file.
    let stopped = expecting(&|subject| subject.watch.stop());
    assert_eq!(codes(&stopped), [""; 0], "{stopped:#?}");
    assert!(stopped.interrupted.is_some());
    // The part of the snapshot that may hold it could not be listed.
    let incomplete = expecting(&|subject| {
        let mut manifest = firedrill_core::manifest::Manifest::default();
        manifest.mark_incomplete();
        subject.manifest = Arc::new(manifest);
    });
    assert_eq!(codes(&incomplete), [""; 0], "{incomplete:#?}");
    assert!(incomplete.interrupted.is_some());
    let empty = expecting(&|subject| subject.manifest = Arc::default());
    assert_eq!(codes(&empty), ["mariadb.missing"], "{empty:#?}");
}

#[test]
fn canaries_in_rows_tell_how_far_the_data_goes() {
    use firedrill_core::canary::{Canary, derive_key};
    use firedrill_core::secret::Secret;
    if !have() {
        return;
    }
    let key = derive_key(&Secret::new("correct horse"));
    let dump = |signer: &Secret| {
        let rows = (1..=3).map(|number| {
            let time = format!("2026-01-05T0{number}:00:00Z").parse().unwrap();
            let line = Canary::sign(signer, "app", number, time).unwrap().to_line();
            format!("({number},'{}')", line.trim().replace('"', "\\\""))
        });
        let rows = rows.collect::<Vec<_>>().join(",");
        format!(
            "-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for x\n-- Host: localhost    Database: shop\n\
             -- Server version\t10.11.19-MariaDB\nCREATE TABLE firedrill_canary (id int, line text);\n\
             INSERT INTO `firedrill_canary` VALUES {rows};\n-- Dump completed\n"
        )
    };
    let examine_with = |text: String| {
        let fixture = Fixture::new();
        fixture.write("shop.sql", text);
        let mut subject = subject(&fixture);
        subject.canary_key = Some(key.clone());
        examine_subject(&subject)
    };
    let examination = examine_with(dump(&key));
    must_be_clean(&examination);
    let point = examination.recovery_point.unwrap();
    assert_eq!(
        (point.basis, point.time.to_string()),
        (RecoveryBasis::Canary, "2026-01-05T03:00:00Z".to_owned())
    );
    let forged = examine_with(dump(&derive_key(&Secret::new("another"))));
    assert_eq!(codes(&forged), ["mariadb.canary_forged"], "{forged:#?}");
}

#[test]
fn without_an_engine_nothing_is_recognised_unless_it_is_demanded() {
    if !have() {
        return;
    }
    let old = String::from_utf8_lossy(&MADE.users).replace("10.11.", "99.1.");
    let fixture = Fixture::new();
    fixture.write("users.sql", &old);
    let mut subject = subject(&fixture);
    assert!(!MariadbProbe.recognises(&subject), "a server that is too old would be asked");
    subject.drill.expectations.load = true;
    let examination = examine_subject(&subject);
    assert!(examination.interrupted.unwrap().contains("99.1"));
    subject.drill.expectations.load = false;
    subject.runtime = None;
    assert!(!MariadbProbe.recognises(&subject));
    fixture.write("users.sql", &MADE.users);
    subject.drill.expectations.load = true;
    assert!(MariadbProbe.examine(&subject).interrupted.unwrap().contains("runtime: off"));

    let mysql = "-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)\n-- Server version\t8.0.36\n\
                 CREATE TABLE t (a int) COLLATE=utf8mb4_no_such_ci;\n-- Dump completed\n";
    let fixture = Fixture::new();
    fixture.write("mysql.sql", mysql);
    let mut subject = super::subject(&fixture);
    assert!(!MariadbProbe.recognises(&subject));
    subject.drill.expectations.load = true;
    let examination = examine_subject(&subject);
    assert!(examination.findings.is_empty(), "{examination:#?}");
    assert!(examination.interrupted.unwrap().contains("only a MySQL can tell"));

    let fixture = Fixture::new();
    let stream = MADE.stream.windows(8).rposition(|window| window == b"10.11.19").unwrap();
    let mut other = MADE.stream.clone();
    other[stream..stream + 8].copy_from_slice(b"10.04.19");
    fixture.write("a.xb", other);
    let stream_of_another_series = super::subject(&fixture);
    assert!(!MariadbProbe.recognises(&stream_of_another_series));
}

#[test]
fn encrypted_tables_ask_for_their_key() {
    if !have() {
        return;
    }
    let Some(folder) = &*ENCRYPTED else { return };
    let fixture = Fixture::new();
    put(&fixture, "backup", folder);
    let examination = examine_subject(&subject(&fixture));
    assert!(examination.findings.is_empty(), "{examination:#?}");
    let why = examination.interrupted.unwrap();
    assert!(why.contains("encrypted") && why.contains("key"), "{why}");
}
