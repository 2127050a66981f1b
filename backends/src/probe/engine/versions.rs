//! Backups of other versions than this machine's, made and loaded in the images of `ci/images`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{LazyLock, OnceLock};

use firedrill_core::config::runtime::{ContainerRuntimeConfig, Pull, RuntimeConfig, RuntimeKind};
use firedrill_core::finding::{Class, Examination};
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

use super::etcd::EtcdProbe;
use super::mariadb::MariadbProbe;
use super::postgres::PostgresProbe;
use crate::probe::fixture::Fixture;

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());

const POSTGRES: &str = "set -euo pipefail
initdb -D /tmp/data -U postgres -A trust -N >/dev/null
pg_ctl -D /tmp/data -w -o \"-c listen_addresses='' -c unix_socket_directories=/tmp\" -l /tmp/log start >/dev/null
psql -h /tmp -U postgres -q -c \"CREATE TABLE t (id serial PRIMARY KEY, a text);
  INSERT INTO t (a) SELECT 'row ' || i FROM generate_series(1, 500) i; CREATE ROLE app; GRANT SELECT ON t TO app\"
pg_dump -h /tmp -U postgres postgres >/out/plain.sql
pg_dump -h /tmp -U postgres -Fc postgres >/out/custom.dump
pg_dumpall -h /tmp -U postgres >/out/all.sql
pg_ctl -D /tmp/data -m immediate stop >/dev/null";
const MARIADB: &str = "set -euo pipefail
mariadb-install-db --no-defaults --datadir=/tmp/data --auth-root-authentication-method=normal --skip-test-db >/dev/null
mariadbd --no-defaults --datadir=/tmp/data --socket=/tmp/s --skip-networking >/tmp/log 2>&1 &
for _ in {1..150}; do mariadb-admin --no-defaults --socket=/tmp/s --silent ping 2>/dev/null && break; sleep 0.2; done
mariadb --no-defaults --socket=/tmp/s -u root -e \"CREATE DATABASE shop; CREATE TABLE shop.t (a int PRIMARY KEY, b text);
  INSERT INTO shop.t VALUES (1, 'one'), (2, 'two')\"
mariadb-dump --no-defaults --socket=/tmp/s -u root --databases shop >/out/shop.sql
mariadb-backup --no-defaults --backup --stream=xbstream --socket=/tmp/s -u root --datadir=/tmp/data --target-dir=/tmp/x >/out/shop.xb 2>/tmp/log2";
const ETCD: &str = "set -euo pipefail
etcd --data-dir /tmp/data --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \\
  --listen-peer-urls http://127.0.0.1:2380 >/tmp/log 2>&1 &
for _ in {1..50}; do etcdctl endpoint health >/dev/null 2>&1 && break; sleep 0.2; done
for n in {1..40}; do etcdctl put /app/$n value >/dev/null; done
etcdctl snapshot save /tmp/snapshot.db >/dev/null 2>&1
cat /tmp/snapshot.db >/out/snapshot.db";

/// What a script in an image writes to `/out`. `None`: the image is not here, which is told.
fn made(image: &str, script: &str) -> Option<tempfile::TempDir> {
    let there = Command::new("docker").args(["image", "inspect", image]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        firedrill_testing::skip(&format!("there is no image {image}; `ci/images/build` makes it"));
        return None;
    }
    let out = tempfile::tempdir().unwrap();
    std::fs::set_permissions(out.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let volume = format!("{}:/out", out.path().display());
    let fixed = ["run", "--rm", "--network", "none", "--user", "65532:65532", "--tmpfs", "/tmp", "-v"];
    let output =
        Command::new("docker").args(fixed).args([&volume, image, "bash", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(out)
}

/// A snapshot with some files, and containers to load them in.
fn subject(files: &[(&str, &Path)], engine: &str, image: &str) -> (Fixture, Subject) {
    let fixture = Fixture::new();
    for (name, file) in files {
        fixture.write(name, std::fs::read(file).unwrap());
    }
    let mut subject = fixture.subject();
    let images = [(engine.to_owned(), image.to_owned())].into();
    subject.runtime = crate::runtime::from_config(&RuntimeConfig {
        kind: RuntimeKind::Container,
        container: ContainerRuntimeConfig { pull: Pull::Never, images },
        ..RuntimeConfig::default()
    });
    // Fixtures are made now, whatever the time of the fixture's snapshot.
    subject.at = "2026-06-01T00:00:00Z".parse().unwrap();
    (fixture, subject)
}

fn examine(probe: &dyn Probe, subject: &Subject) -> Examination {
    let _entered = RUNTIME.enter();
    assert!(probe.recognises(subject));
    probe.examine(subject)
}

#[track_caller]
fn assert_green(examination: &Examination) {
    assert!(examination.findings.iter().all(|f| f.class == Class::Gap), "{:#?}", examination.findings);
    assert_eq!(examination.interrupted, None, "{:#?}", examination.notes);
    assert!(examination.checked > 0);
}

/// The software is missing, and nothing else is said to be wrong.
#[track_caller]
fn assert_needs(examination: &Examination, what: &str) {
    assert!(examination.findings.is_empty(), "{:#?}", examination.findings);
    assert!(examination.interrupted.as_ref().is_some_and(|why| why.contains(what)), "{examination:#?}");
    assert_eq!(examination.checked, 0);
}

fn postgres_17() -> Option<&'static Path> {
    static MADE: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    MADE.get_or_init(|| made("firedrill-test/postgres:17", POSTGRES)).as_ref().map(tempfile::TempDir::path)
}

const DUMPS: [&str; 3] = ["plain.sql", "custom.dump", "all.sql"];

#[test]
fn dumps_of_postgres_17_load_into_it() {
    let Some(made) = postgres_17() else { return };
    assert!(std::fs::read_to_string(made.join("plain.sql")).unwrap().contains("\\restrict"));
    for name in DUMPS {
        let (_fixture, subject) =
            subject(&[(name, &made.join(name))], "postgres", "firedrill-test/postgres:{major}");
        let examination = examine(&PostgresProbe, &subject);
        assert_green(&examination);
        let cell = &examination.engine.unwrap().cells[0];
        assert_eq!(cell.of("postgres").and_then(|s| s.version).map(|v| v.major), Some(17), "{name}");
        let told = examination.notes.iter().any(|note| note.contains("1 tables, 500 rows"));
        assert!(told, "{name}: {:?}", examination.notes);
    }
}

#[test]
fn dumps_of_postgres_17_are_not_called_damaged_where_15_is_there() {
    let Some(made) = postgres_17() else { return };
    for name in DUMPS {
        let (_fixture, mut subject) =
            subject(&[(name, &made.join(name))], "postgres", "firedrill-test/postgres:15");
        // Nobody demands an engine: the probe for the form of dumps says that none has loaded it.
        assert!(!PostgresProbe.recognises(&subject));
        subject.drill.expectations.load = true;
        assert_needs(&examine(&PostgresProbe, &subject), "postgres 17.0 or newer");
    }
    // Beside one that can be loaded, it is named.
    let old = "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.2\n\nCREATE TABLE t (a int);\n\
               \n--\n-- PostgreSQL database dump complete\n--\n";
    let (fixture, mut subject) =
        subject(&[("new.sql", &made.join("plain.sql"))], "postgres", "firedrill-test/postgres:15");
    fixture.write("old.sql", old);
    subject.manifest = std::sync::Arc::new(fixture.manifest());
    let examination = examine(&PostgresProbe, &subject);
    assert_green(&examination);
    let named = |text: &String| text.contains("new.sql") && text.contains("postgres 17.0 or newer");
    assert!(examination.not_verified.iter().any(named), "{:?}", examination.not_verified);
}

#[test]
fn backups_of_mariadb_11_load_into_it_and_into_nothing_older() {
    let Some(made) = made("firedrill-test/mariadb:11.8", MARIADB) else { return };
    for name in ["shop.sql", "shop.xb"] {
        let file = made.path().join(name);
        let (_fixture, new) = subject(&[(name, &file)], "mariadb", "firedrill-test/mariadb:11.8");
        assert_green(&examine(&MariadbProbe, &new));
        let (_fixture, mut old) = subject(&[(name, &file)], "mariadb", "firedrill-test/mariadb:10.11");
        old.drill.expectations.load = true;
        assert_needs(&examine(&MariadbProbe, &old), "mariadb 11.8");
    }
}

#[test]
fn snapshots_of_etcd_3_5_are_restored_by_it() {
    let Some(made) = made("firedrill-test/etcd:3.5", ETCD) else { return };
    let file = made.path().join("snapshot.db");
    let (_fixture, subject) = subject(&[("etcd-snapshot.db", &file)], "etcd", "firedrill-test/etcd:3.5");
    let examination = examine(&EtcdProbe, &subject);
    assert_green(&examination);
    assert!(examination.notes.iter().any(|note| note.contains("40 keys")), "{:?}", examination.notes);
    let cell = &examination.engine.unwrap().cells[0];
    assert_eq!(cell.of("etcd").and_then(|s| s.version).map(|v| (v.major, v.minor)), Some((3, 5)));
}
