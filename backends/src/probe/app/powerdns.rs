//! A real application: the name server PowerDNS on its SQLite database.

use std::sync::Arc;
use std::time::Duration;

use firedrill_core::cell::Runtime;
use firedrill_core::config::trials::AppConfig;
use firedrill_core::config::units::Span;
use firedrill_core::finding::{Class, Examination};

use super::tests::examine_with;
use crate::probe::fleet::{Fleet, Tree, assert_found, assert_green, at};
use crate::probe::made::{runtimes, say};

const SCHEMA: &str = "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql";

/// The schema, as it comes with the program.
fn schema(runtime: &dyn Runtime) -> String {
    String::from_utf8(say(runtime, "powerdns", &["pdns_server"], &format!("cat {SCHEMA}"))).unwrap()
}

fn database(schema: &str, zones: &[&str]) -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(schema).unwrap();
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

fn examine(runtime: &Arc<dyn Runtime>, database: Vec<u8>, app: AppConfig) -> Examination {
    let mut tree = Tree::default();
    tree.write("data/powerdns/pdns.sqlite3", database, at(1, 0.0));
    let mut fleet = Fleet::new("dns");
    fleet.backup(at(2, 0.0), &tree);
    examine_with(fleet, app, Some(Arc::clone(runtime)))
}

#[test]
fn powerdns_answers_from_a_restored_database_and_not_well_from_a_damaged_one() {
    for runtime in runtimes("powerdns", &["pdns_server"]) {
        let schema = schema(runtime.as_ref());
        let whole = database(&schema, &["example.org", "example.net"]);
        let good = examine(&runtime, whole.clone(), app());
        assert_green(&good);
        assert_eq!(good.checked, 3);
        let mut impatient = app();
        impatient.start_limit = Span(Duration::from_secs(3));
        // Nothing, half of it, noise, and a database in which the zones are lost.
        let half = whole[..whole.len() / 2].to_vec();
        for damaged in [Vec::new(), half, vec![7; 8192], database(&schema, &["example.org"])] {
            let bad = examine(&runtime, damaged, impatient.clone());
            assert_eq!(bad.interrupted, None);
            let code = bad.findings.first().map(|finding| finding.code.clone()).unwrap_or_default();
            assert!(["app.start", "app.answer"].contains(&code.as_str()), "{:#?}", bad);
            assert_found(&bad, &code, Class::Damage);
        }
    }
}
