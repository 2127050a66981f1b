//! Expectations.

use std::collections::BTreeMap;

use firedrill_core::config::settings::{Query, SqliteExpectation};
use firedrill_core::config::units::Span;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::ports::Probe;

use super::fixtures::*;
use crate::probe::fixture::{Fixture, found};
use crate::probe::sqlite::SqliteProbe;

fn expecting(expectation: SqliteExpectation) -> Examination {
    let fixture = closed(&format!("{SCHEMA} {} CREATE VIEW v AS SELECT * FROM t;", rows("t", 10))).fixture();
    let mut subject = fixture.subject();
    subject.drill.probes.sqlite.statement_timeout = Span(std::time::Duration::from_millis(500));
    subject.drill.expectations.sqlite = vec![expectation];
    examine(&subject)
}

fn at(path: &str) -> SqliteExpectation {
    SqliteExpectation { path: path.to_owned(), ..SqliteExpectation::default() }
}

fn asking(sql: &str, equals: &str) -> Examination {
    let query = Query { sql: sql.to_owned(), equals: equals.to_owned() };
    expecting(SqliteExpectation { queries: vec![query], ..at(DB) })
}

#[test]
fn what_is_expected_is_there() {
    let wanted = SqliteExpectation {
        tables: vec!["t".to_owned(), "T".to_owned(), "v".to_owned()],
        rows_min: BTreeMap::from([("t".to_owned(), 10)]),
        queries: vec![Query { sql: "SELECT count(*) FROM v;".to_owned(), equals: "10".to_owned() }],
        ..at("/app/app.db")
    };
    assert_green(&expecting(wanted), 1);
}

#[test]
fn an_expected_file_is_missing() {
    let examination = expecting(at("elsewhere.db"));
    assert_eq!(found(&examination), [("sqlite.missing", Class::Damage, "elsewhere.db")]);
    let mut subject = Fixture::new().subject();
    subject.drill.expectations.sqlite = vec![at("app.db")];
    assert!(SqliteProbe.recognises(&subject));
}

#[test]
fn an_expected_file_is_something_else() {
    for (content, code) in [("", "sqlite.empty"), ("PK\x03\x04", "sqlite.not_a_database")] {
        let fixture = Fixture::new();
        fixture.write("srv/app/data", content);
        let mut subject = fixture.subject();
        subject.drill.expectations.sqlite = vec![at("data")];
        assert_eq!(found(&examine(&subject)), [(code, Class::Damage, "srv/app/data")]);
    }
}

#[test]
fn tables_and_rows_are_missing() {
    let wanted = SqliteExpectation {
        tables: vec!["users".to_owned(), "t\"; DROP TABLE t; --".to_owned()],
        rows_min: BTreeMap::from([("t".to_owned(), 11), ("users".to_owned(), 1)]),
        ..at(DB)
    };
    assert_eq!(
        found(&expecting(wanted)),
        [
            ("sqlite.table_missing", Class::Damage, "app/app.db: users"),
            ("sqlite.table_missing", Class::Damage, "app/app.db: t\"; DROP TABLE t; --"),
            ("sqlite.rows", Class::Damage, "app/app.db: t"),
        ]
    );
}

#[test]
fn answers_are_compared_as_text() {
    for (sql, equals) in [
        ("SELECT 1", "1"),
        ("SELECT 1.5", "1.5"),
        ("SELECT NULL", "NULL"),
        ("SELECT x'6869'", "hi"),
        ("WITH a(x) AS (SELECT 'one') SELECT x FROM a", "one"),
    ] {
        assert_green(&asking(sql, equals), 1);
    }
    for (sql, equals) in [
        ("SELECT 1", "2"),
        ("SELECT id FROM t WHERE id < 0", "1"),
        ("SELECT nothing FROM t", "1"),
        ("SELECT count(*) FROM nowhere", "1"),
    ] {
        assert_eq!(found(&asking(sql, equals)), [("sqlite.query", Class::Damage, DB)], "{sql}");
    }
}

#[test]
fn only_a_single_select_is_asked() {
    for sql in [
        "DELETE FROM t",
        "INSERT INTO t VALUES (99, 'x') RETURNING id",
        "PRAGMA user_version",
        "PRAGMA journal_mode=DELETE",
        "ATTACH '/etc/passwd' AS p",
        "SELECT 1; SELECT 2",
        "SELECT load_extension('x')",
        "VACUUM INTO 'copy'",
        "SELECT * FROM pragma_database_list",
        "CREATE TEMP TABLE x (y)",
        "",
    ] {
        let examination = asking(sql, "1");
        assert_eq!(examination.findings, [], "{sql}");
        assert!(examination.interrupted.is_some(), "{sql}");
    }
}

#[test]
fn a_query_without_end_is_cut_off() {
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    let examination = asking(endless, "1");
    assert_eq!(examination.findings, []);
    assert!(examination.interrupted.unwrap().contains("statement took longer than 500ms"));
}
