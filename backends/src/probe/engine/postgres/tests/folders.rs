//! Data folders, copied in good and in bad ways.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use firedrill_core::cell::{Pipes, Program};
use firedrill_core::config::settings::{DatabaseExpectation, Query};

use super::source::Source;
use super::*;

const ROWS: &str = "CREATE TABLE t (id serial PRIMARY KEY, a text); \
    INSERT INTO t (a) SELECT repeat('row ', 20) || i FROM generate_series(1, 20000) i; CREATE ROLE reader";

/// A server with something in it, and its data folder on this machine.
fn source() -> (Source, PathBuf) {
    let source = Source::new(&[]);
    source.sql("postgres", "CREATE DATABASE shop");
    source.sql("shop", ROWS);
    source.sql("shop", "CHECKPOINT");
    let data = source.outside(".firedrill/postgres/PG_VERSION").parent().unwrap().to_owned();
    (source, data)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success() || from.join("postmaster.pid").exists());
}

fn examine_copy(data: &Path, change: impl FnOnce(&Path)) -> (Fixture, Subject, Examination) {
    let fixture = Fixture::new();
    let to = fixture.root.join("var/pgdata");
    copy(data, &to);
    change(&to);
    let mut subject = fixture.subject();
    subject.runtime = crate::runtime::from_config(&RuntimeConfig::default());
    // The clocks of this machine are ahead of the snapshot's.
    subject.snapshot.time = "2099-01-01T00:00:00Z".parse().unwrap();
    let query = Query { sql: "SELECT count(*) FROM t".into(), equals: "20000".into() };
    subject.drill.expectations.postgres = vec![DatabaseExpectation {
        file: Some("/var/pgdata".into()),
        database: Some("shop".into()),
        queries: vec![query],
        roles: vec!["reader".into()],
        ..DatabaseExpectation::default()
    }];
    let examination = examine(&subject);
    (fixture, subject, examination)
}

/// Stops the server, and lets its superuser have another name than ours.
fn stop(source: Source) {
    let cell = source.cell;
    let _entered = RUNTIME.enter();
    source.into_server().stop().unwrap();
    let stdin = Cursor::new(b"ALTER ROLE firedrill_engine RENAME TO owner;\n".to_vec());
    let pipes = Pipes { stdin: Some(Box::new(stdin)), stdout: None };
    assert!(
        cell.run(
            &Program::new("postgres", ["--single", "-D", "/cell/.firedrill/postgres", "postgres"]),
            pipes
        )
        .unwrap()
        .succeeded()
    );
}

/// The file of a relation, by its name.
fn file_of(source: &Source, relation: &str) -> String {
    let _entered = RUNTIME.enter();
    super::super::server::block_on(async {
        let mut client = source.connect("shop").await;
        let answer = client.ask(format!("SELECT pg_relation_filepath('{relation}')")).await.unwrap();
        answer.first().unwrap().to_owned()
    })
}

#[test]
fn stopped_and_running_servers() {
    if !present() {
        return;
    }
    let (source, data) = source();
    let (_fixture, _, live) = examine_copy(&data, |_| ());
    assert_eq!(wrong(&live), ["postgres.live_copy"], "{live:#?}");
    assert_eq!(live.interrupted, None);
    let (_fixture, _, without_log) =
        examine_copy(&data, |to| std::fs::remove_dir_all(to.join("pg_wal")).unwrap());
    assert_found(&without_log, "postgres.recovery");
    let (_fixture, _, empty_log) = examine_copy(&data, |to| {
        for entry in std::fs::read_dir(to.join("pg_wal")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::remove_file(path).unwrap();
            }
        }
    });
    assert_found(&empty_log, "postgres.recovery");

    let (table, index) = (file_of(&source, "t"), file_of(&source, "t_pkey"));
    stop(source);
    let (_fixture, mut subject, stopped) = examine_copy(&data, |to| {
        std::fs::write(
            to.join("postgresql.auto.conf"),
            "archive_command = 'x'\nnonsense.\nprimary_conninfo = 'host=y'\n",
        )
        .unwrap();
        std::fs::write(to.join("standby.signal"), "").unwrap();
        std::fs::write(to.join("postgresql.conf"), "shared_preload_libraries = 'nothing'\n").unwrap();
    });
    assert_green(&stopped);
    assert!(stopped.recovery_point.is_some(), "{stopped:#?}");
    println!("{:?}", stopped.engine.as_ref().unwrap().phases);
    // What was there is expected the next time.
    crate::probe::fixture::remember(&mut subject, &stopped);
    let known = serde_json::json!({"var/pgdata: shop": {"public.t": 50000, "public.gone": 10000}});
    let mut baseline = stopped.clone();
    baseline.baseline.insert("folders".into(), known);
    crate::probe::fixture::remember(&mut subject, &baseline);
    let fallen = examine(&subject);
    assert_eq!(wrong(&fallen), ["postgres.tables_vanished", "postgres.rows_fell"], "{fallen:#?}");

    let (_fixture, _, damaged) =
        examine_copy(&data, |to| overwrite(&to.join(&table), 8192 + 2000, &[0xff; 200]));
    assert!(
        !is_verified(&damaged) || damaged.not_verified.iter().any(|n| n.contains("checksums")),
        "{damaged:#?}"
    );
    let (_fixture, _, headless) = examine_copy(&data, |to| overwrite(&to.join(&table), 8192, &[0xff; 24]));
    assert!(!is_verified(&headless), "{headless:#?}");
    let (_fixture, _, index_lost) = examine_copy(&data, |to| overwrite(&to.join(&index), 8192, &[0; 8192]));
    assert_found(&index_lost, "postgres.index");
    let (_fixture, _, no_control) =
        examine_copy(&data, |to| overwrite(&to.join("global/pg_control"), 40, &[0xff; 8]));
    assert_found(&no_control, "postgres.control");
}

#[test]
fn checksums_show_a_flipped_bit() {
    if !present() {
        return;
    }
    let (source, data) = source();
    let table = file_of(&source, "t");
    let cell = source.cell;
    stop(source);
    {
        let _entered = RUNTIME.enter();
        let enable =
            Program::new("pg_checksums", ["--enable", "--no-sync", "-D", "/cell/.firedrill/postgres"]);
        assert!(cell.run(&enable, Pipes::default()).unwrap().succeeded());
    }
    let (_fixture, mut subject, whole) = examine_copy(&data, |_| ());
    assert_green(&whole);
    let absent = sabotage::examine_with(&mut subject, "pg_checksums", || sabotage::exit(127, "not found"));
    assert_green(&absent);
    assert!(absent.not_verified.iter().any(|text| text.contains("no pg_checksums")), "{absent:#?}");
    for program in ["pg_checksums", "pg_controldata"] {
        for end in sabotage::OURS {
            let examination = sabotage::examine_with(&mut subject, program, end);
            assert_eq!(wrong(&examination), [""; 0], "{program} {:?} {examination:#?}", end());
            assert!(examination.interrupted.is_some(), "{program} {:?}", end());
        }
    }
    let (_fixture, _, flipped) =
        examine_copy(&data, |to| overwrite(&to.join(&table), 3 * 8192 + 7000, &[0x55]));
    assert_found(&flipped, "postgres.checksums");
}

#[test]
fn a_data_folder_that_no_engine_is_for_is_not_called_damaged() {
    if !present() {
        return;
    }
    let folder = |version: &str| {
        let (_fixture, mut subject) = subject(&[
            ("var/pgdata/PG_VERSION", version.as_bytes()),
            ("var/pgdata/global/pg_control", &[7; 8192]),
            ("var/pgdata/base/1/PG_VERSION", version.as_bytes()),
        ]);
        subject.drill.expectations.load = true;
        examine(&subject)
    };
    let old = folder("9.6\n");
    assert_eq!(wrong(&old), [""; 0], "{old:#?}");
    assert!(old.interrupted.as_ref().is_some_and(|why| why.contains("9.6")), "{old:#?}");
    let nonsense = folder("\0\0\0");
    assert_eq!(wrong(&nonsense), ["postgres.recovery"], "{nonsense:#?}");
    assert!(nonsense.findings[0].location.ends_with("PG_VERSION"), "{nonsense:#?}");
}

#[test]
fn text_in_the_order_of_another_collation_is_left_open() {
    if !present() {
        return;
    }
    let (source, data) = source();
    let names = "CREATE TABLE names (a text COLLATE \"C\"); INSERT INTO names VALUES ('B'), ('a'), ('C'), ('d'); \
        CREATE INDEX names_a ON names (a)";
    source.sql("shop", names);
    // As after a move to a machine whose ICU sorts in another way.
    source.sql(
        "shop",
        "UPDATE pg_index SET indcollation = (SELECT oid::text FROM pg_collation WHERE collname = 'en-x-icu')::oidvector \
         WHERE indexrelid = 'names_a'::regclass",
    );
    source.sql("shop", "UPDATE pg_collation SET collversion = '1.0' WHERE collname = 'en-x-icu'");
    source.sql("shop", "CHECKPOINT");
    let moved = examine_copy(&data, |_| ()).2;
    assert_eq!(wrong(&moved), ["postgres.live_copy"], "{moved:#?}");
    let open = moved.not_verified.iter().find(|text| text.contains("public.names_a"));
    assert!(open.is_some_and(|text| text.contains("collation")), "{:#?}", moved.not_verified);
    source.sql(
        "shop",
        "UPDATE pg_collation SET collversion = pg_collation_actual_version(oid) WHERE collname = 'en-x-icu'",
    );
    source.sql("shop", "CHECKPOINT");
    let same = examine_copy(&data, |_| ()).2;
    assert_found(&same, "postgres.index");
}

#[test]
fn a_check_that_takes_too_long_leaves_the_server_alone() {
    use super::super::{amcheck, examine::Asked};
    use crate::probe::engine::session::Session;
    if !present() {
        return;
    }
    let (source, _) = source();
    let (_fixture, subject) = subject(&[]);
    let session = Session::new(&subject, "postgres", "databases");
    let asked = Asked { server: source.server(), database: "shop", location: "shop", filled: None };
    let _entered = RUNTIME.enter();
    let checked = amcheck::check(&session, &asked, None).unwrap();
    assert_eq!(checked, amcheck::Checked::default());
    let late = amcheck::check(&session, &asked, Some(std::time::Duration::from_millis(1)));
    assert!(late.as_ref().is_err_and(|why| why.contains("longer")), "{late:?}");
    source.sql("shop", "SELECT 1");
    assert_eq!(amcheck::check(&session, &asked, None), Ok(checked));
}

fn overwrite(path: &Path, at: usize, with: &[u8]) {
    let mut content = std::fs::read(path).unwrap();
    content[at..at + with.len()].copy_from_slice(with);
    std::fs::write(path, content).unwrap();
}
