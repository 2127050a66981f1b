//! A real application: the name server PowerDNS on its SQLite database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::config::trials::AppConfig;
use firedrill_core::config::units::Span;
use firedrill_core::finding::Class;

use super::tests::examine_with;
use crate::probe::fleet::{Fleet, Tree, assert_found, assert_green, at};
use crate::runtime::process::ProcessRuntime;

const SCHEMA: &str = "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql";

/// Whether this machine lacks it.
fn skipped() -> bool {
    let there = Path::new("/usr/sbin/pdns_server").exists() && Path::new(SCHEMA).exists();
    if !there {
        use std::io::Write as _;
        let why = "SKIPPED: pdns-server and pdns-backend-sqlite3 are not installed";
        writeln!(std::io::stderr(), "{why}").unwrap();
        assert!(std::env::var_os("FIREDRILL_TEST_NO_SKIP").is_none(), "{why}");
    }
    !there
}

fn database(zones: &[&str]) -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(&std::fs::read_to_string(SCHEMA).unwrap()).unwrap();
    for zone in zones {
        db.execute("INSERT INTO domains (name, type) VALUES (?1, 'NATIVE')", [zone]).unwrap();
    }
    drop(db);
    std::fs::read(path).unwrap()
}

fn app() -> AppConfig {
    let settings = "launch=gsqlite3\ngsqlite3-database=/cell/pdns.sqlite3\nlocal-address=127.0.0.1\nlocal-port=5300\n\
        webserver=yes\nwebserver-address=127.0.0.1\nwebserver-port=8081\napi=yes\napi-key=drill\n";
    serde_json::from_value(serde_json::json!({
        "command": ["pdns_server", "--config-dir=/cell", "--daemon=no", "--guardian=no", "--socket-dir=/cell"],
        "kit": "powerdns",
        "data": {"powerdns/pdns.sqlite3": "/cell/pdns.sqlite3"},
        "files": {"pdns.conf": settings},
        "port": 8081,
        "http": [{
            "path": "/api/v1/servers/localhost/zones",
            "headers": {"X-API-Key": "drill"},
            "json": {"": {"min": 2}, "/0/kind": "Native"},
        }, {
            "path": "/api/v1/servers/localhost/zones/example.org.",
            "headers": {"X-API-Key": "drill"},
            "json": {"/name": "example.org."},
        }, {"path": "/api/v1/servers", "status": 401}],
    }))
    .unwrap()
}

fn examine(database: Vec<u8>, app: AppConfig) -> firedrill_core::finding::Examination {
    let mut tree = Tree::default();
    tree.write("data/powerdns/pdns.sqlite3", database, at(1, 0.0));
    let mut fleet = Fleet::new("dns");
    fleet.backup(at(2, 0.0), &tree);
    examine_with(fleet, app, Some(Arc::new(ProcessRuntime::new(&RuntimeConfig::default()))))
}

#[test]
fn powerdns_answers_from_a_restored_database() {
    if skipped() {
        return;
    }
    let good = examine(database(&["example.org", "example.net"]), app());
    assert_green(&good);
    assert_eq!(good.checked, 3);
}

#[test]
fn powerdns_does_not_answer_well_from_a_damaged_one() {
    if skipped() {
        return;
    }
    let whole = database(&["example.org", "example.net"]);
    let mut impatient = app();
    impatient.start_limit = Span(Duration::from_secs(3));
    // Nothing, half of it, noise, and a database in which the zones are lost.
    let half = whole[..whole.len() / 2].to_vec();
    for damaged in [Vec::new(), half, vec![7; 8192], database(&["example.org"])] {
        let bad = examine(damaged, impatient.clone());
        assert_eq!(bad.interrupted, None);
        let code = bad.findings.first().map(|finding| finding.code.clone()).unwrap_or_default();
        assert!(["app.start", "app.answer"].contains(&code.as_str()), "{:#?}", bad);
        assert_found(&bad, &code, Class::Damage);
    }
}
