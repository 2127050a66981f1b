//! What is expected of a database, and what an engine lacks.

use std::time::Duration;

use firedrill_core::canary::{Canary, derive_key};
use firedrill_core::config::settings::{DatabaseExpectation, NewestRow, Query};
use firedrill_core::config::units::Span;
use firedrill_core::finding::RecoveryBasis;
use firedrill_core::secret::Secret;

use super::source::SHARED;
use super::*;

const HEAD: &str = "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18\n\n";
const TAIL: &str = "\n--\n-- PostgreSQL database dump complete\n--\n";

fn dump(middle: &str) -> Vec<u8> {
    format!("{HEAD}{middle}{TAIL}").into_bytes()
}

fn expecting(content: &[u8], expectation: DatabaseExpectation) -> Examination {
    let (_fixture, mut subject) = subject(&[("backup/shop.sql", content)]);
    subject.drill.expectations.postgres = vec![expectation];
    examine(&subject)
}

#[test]
fn expectations_are_asked() {
    if !present() {
        return;
    }
    let database = SHARED.database(
        "CREATE TABLE orders (id serial PRIMARY KEY, at timestamptz); INSERT INTO orders (at) VALUES \
         ('2026-01-05 03:00:00+00'), ('2026-01-04 01:00:00+00'); CREATE TABLE \"Mixed\" (a int)",
    );
    let content = SHARED.dump(&database, &[]);
    let query = |sql: &str, equals: &str| Query { sql: sql.into(), equals: equals.into() };
    let newest = |hours: u64| {
        let max_age = Some(Span(Duration::from_secs(hours * 3600)));
        Some(NewestRow { sql: "SELECT max(at) FROM orders".into(), max_age })
    };
    let base =
        DatabaseExpectation { file: Some("/backup/shop.sql".into()), ..DatabaseExpectation::default() };
    let good = DatabaseExpectation {
        tables: vec!["orders".into(), "public.Mixed".into()],
        rows_min: [("orders".to_owned(), 2)].into(),
        queries: vec![query("SELECT count(*) FROM orders", "2"), query("SELECT NULL", "NULL")],
        newest: newest(2),
        ..base.clone()
    };
    let examination = expecting(&content, good);
    assert_green(&examination);
    let point = examination.recovery_point.unwrap();
    assert_eq!((point.time.to_string().as_str(), point.basis), ("2026-01-05T03:00:00Z", RecoveryBasis::Data));
    let other = DatabaseExpectation::default();
    let bad = [
        (DatabaseExpectation { tables: vec!["gone".into()], ..base.clone() }, "postgres.table_missing"),
        (
            DatabaseExpectation { rows_min: [("orders".to_owned(), 3)].into(), ..base.clone() },
            "postgres.rows",
        ),
        (DatabaseExpectation { queries: vec![query("SELECT 1", "2")], ..base.clone() }, "postgres.query"),
        (DatabaseExpectation { queries: vec![query("SELECT x", "2")], ..base.clone() }, "postgres.query"),
        (
            DatabaseExpectation { queries: vec![query("DELETE FROM orders", "")], ..base.clone() },
            "postgres.query",
        ),
        (DatabaseExpectation { newest: newest(0), ..base.clone() }, "postgres.newest"),
        (DatabaseExpectation { roles: vec!["app".into()], ..base.clone() }, "postgres.role_missing"),
        (DatabaseExpectation { file: Some("/backup/other.sql".into()), ..other.clone() }, "postgres.missing"),
        (DatabaseExpectation { database: Some("other".into()), ..other }, "postgres.missing"),
    ];
    let (_fixture, mut all) = subject(&[("backup/shop.sql", &content)]);
    all.drill.expectations.postgres = bad.iter().map(|(expectation, _)| expectation.clone()).collect();
    let examination = examine(&all);
    let (mut found, mut codes) = (wrong(&examination), bad.map(|(_, code)| code).to_vec());
    found.sort_unstable();
    codes.sort_unstable();
    assert_eq!(found, codes, "{examination:#?}");
    // The name of the file tells the database.
    let named = DatabaseExpectation {
        database: Some("shop".into()),
        tables: vec!["orders".into()],
        ..DatabaseExpectation::default()
    };
    assert_green(&expecting(&content, named));
    // No dump at all.
    let (_fixture, mut subject) = subject(&[("notes.txt", b"nothing")]);
    subject.drill.expectations.postgres = vec![base];
    assert_found(&examine(&subject), "postgres.missing");
}

#[test]
fn canaries_in_a_table_are_authenticated() {
    if !present() {
        return;
    }
    let key = derive_key(&Secret::new("password"));
    let plant = |key: &Secret| {
        let canary = Canary::sign(key, "app", 7, "2026-01-05T02:00:00Z".parse().unwrap()).unwrap();
        dump(&format!(
            "CREATE TABLE firedrill_canary (token text);\nINSERT INTO firedrill_canary VALUES ('{}');\n",
            canary.to_line()
        ))
    };
    for (content, good) in [(plant(&key), true), (plant(&Secret::new("other")), false)] {
        let (_fixture, mut subject) = subject(&[("backup/shop.sql", &content)]);
        subject.canary_key = Some(key.clone());
        let examination = examine(&subject);
        if good {
            assert_green(&examination);
            assert_eq!(examination.recovery_point.unwrap().basis, RecoveryBasis::Canary);
        } else {
            assert_found(&examination, "postgres.canary");
        }
    }
}

#[test]
fn rows_and_sequences_are_compared() {
    if !present() {
        return;
    }
    let table = "CREATE TABLE t (id serial PRIMARY KEY, a int);\n";
    let good = format!(
        "{table}COPY t (id, a) FROM stdin;\n1\t1\n2\t2\n\\.\nSELECT pg_catalog.setval('t_id_seq', 2, true);\n"
    );
    assert_green(&load("b/a.sql", &dump(&good)));
    let unset = good.replace("SELECT pg_catalog.setval('t_id_seq', 2, true);\n", "");
    assert_eq!(wrong(&load("b/a.sql", &dump(&unset))), ["postgres.sequence"]);
    let swallowed = format!(
        "{table}CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;\n\
         CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();\nINSERT INTO t VALUES (1, 1);\n"
    );
    // The server says that it took none, so none is missing; there is nothing to compare.
    assert_green(&load("b/a.sql", &dump(&swallowed)));
    let lost = format!(
        "{good}CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM t; RETURN NEW; END $$;\n\
         CREATE TABLE u (a int);\nCREATE TRIGGER x BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION f();\nINSERT INTO u VALUES (1);\n"
    );
    assert_eq!(wrong(&load("b/a.sql", &dump(&lost))), ["postgres.rows"]);
}

#[test]
fn much_data_takes_nothing_away() {
    if !present() {
        return;
    }
    // Enough for the server to be asked to begin such a table anew.
    let rows = |from: u32, to: u32| {
        let rows: String = (from..to).map(|row| format!("{row}\tsome text that takes room\n")).collect();
        format!("(a, b) FROM stdin;\n{rows}\\.\n")
    };
    let trigger = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'emptied'; END $$;\n\
         CREATE TRIGGER x BEFORE TRUNCATE ON v EXECUTE FUNCTION f();\n";
    let middle = [
        "CREATE TABLE t (a int, b text);\nCREATE TABLE u (a int PRIMARY KEY, b text);\n",
        "CREATE TABLE v (a int, b text);\nCREATE TABLE w (a int REFERENCES u, b text);\n",
        "CREATE TABLE p (a int, b text) PARTITION BY RANGE (a);\n",
        "CREATE TABLE q PARTITION OF p DEFAULT;\n",
        trigger,
        "INSERT INTO t VALUES (-1, 'first');\n",
        &format!("COPY t {}COPY u {}", rows(0, 5000), rows(0, 5000)),
        // The second part must not take the first away, nor must what refers to a table.
        &format!("COPY u {}COPY w {}", rows(5000, 9000), rows(0, 9000)),
        &format!("COPY v {}COPY p {}", rows(0, 5000), rows(0, 5000)),
        &format!("CREATE TABLE y (a int, b text);\nBEGIN;\nCOPY y {}COMMIT;\n", rows(0, 5000)),
        &format!("CREATE TABLE z (a int, b text);\nCOPY z {}", rows(0, 5000)),
    ]
    .concat();
    let table = |name: &str, rows| (name.to_owned(), rows);
    let rows_min =
        [("t", 5001), ("u", 9000), ("v", 5000), ("w", 9000), ("q", 5000), ("y", 5000), ("z", 5000)];
    let rows_min = rows_min.map(|(name, rows)| table(name, rows)).into_iter().collect();
    let examination =
        expecting(&dump(&middle), DatabaseExpectation { rows_min, ..DatabaseExpectation::default() });
    assert_green(&examination);
    // What is wrong at the end of much data is told as ever.
    let broken =
        format!("CREATE TABLE z (a int, b text);\nCOPY z {}", rows(0, 5000)).replace("4999\t", "x\t");
    let examination = load("b/a.sql", &dump(&broken));
    assert_eq!(wrong(&examination), ["postgres.load"]);
    assert!(examination.findings[0].seen.contains("line 5000"), "{:?}", examination.findings);
}

#[test]
fn what_is_wrong_in_a_dump_is_told_with_its_line() {
    if !present() {
        return;
    }
    for (middle, code, seen) in [
        ("CREATE TABLE t (a int);\nCREATE TABLE t (a int);\n", "postgres.load", "42P07"),
        ("CREATE TABLE t (a int);\nCOPY t FROM stdin;\n1\nx\n\\.\n", "postgres.load", "COPY t, line 2"),
        (
            "CREATE TABLE t (a int PRIMARY KEY);\nINSERT INTO t VALUES (1);\nINSERT INTO t VALUES (1);\n",
            "postgres.load",
            "23505",
        ),
        (
            "CREATE TABLE t (a int);\nINSERT INTO t VALUES (1), (1);\nCREATE INDEX i ON t (a);\n\
             ALTER TABLE t ADD CONSTRAINT p PRIMARY KEY (a);\nALTER TABLE t ADD CONSTRAINT u UNIQUE (a);\n",
            "postgres.load",
            "23505",
        ),
        ("CREATE TABEL t (a int);\n", "postgres.load", "42601"),
        ("CREATE TABLE t (a int);\nINSERT INTO t VALUES ('\0');\n", "postgres.load", "NUL"),
        (
            "CREATE TABLE t (a int);\nALTER TABLE t ADD FOREIGN KEY (a) REFERENCES gone(a);\n",
            "postgres.load",
            "42P01",
        ),
    ] {
        let examination = load("b/a.sql", &dump(middle));
        assert_eq!(wrong(&examination), [code], "{middle} {examination:#?}");
        let finding = &examination.findings[0];
        assert!(finding.seen.contains(seen), "{finding:?}");
        assert!(finding.expected.contains("on line"), "{finding:?}");
    }
}

#[test]
fn what_the_engine_lacks_is_no_damage() {
    if !present() {
        return;
    }
    // An extension.
    let examination = load("b/a.sql", &dump("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;\n"));
    assert_eq!(wrong(&examination), [""; 0]);
    assert_eq!(examination.findings[0].code, "postgres.extension");
    assert!(examination.interrupted.is_some_and(|why| why.contains("vector")));
    // A library.
    let c = "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '$libdir/nothing', 'f';\n";
    assert!(load("b/a.sql", &dump(c)).interrupted.is_some());
    // The schema.
    assert!(load("b/a.sql", &dump("SET x.y = 1;\nCOPY t (a) FROM stdin;\n1\n\\.\n")).interrupted.is_some());
    // A version that is not there.
    let newer = format!("{HEAD}{TAIL}").replace("15.18", "99.1");
    let (_fixture, mut subject) = subject(&[("b/a.sql", newer.as_bytes())]);
    assert!(!PostgresProbe.recognises(&subject));
    subject.drill.expectations.load = true;
    assert!(examine(&subject).interrupted.is_some_and(|why| why.contains("99")));

    // Roles, tablespaces, locales, settings: supplied, and told.
    let examination = load(
        "b/a.sql",
        &dump(
            "SET transaction_timeout = 0;\nSET default_tablespace = fast;\nCREATE TABLE t (a text COLLATE \"xx_XX.utf8\");\n\
             SET default_tablespace = '';\nALTER TABLE t OWNER TO \"Shop Owner\";\nGRANT SELECT ON t TO reader;\n\
             CREATE COLLATION far (provider = libc, locale = 'yy_YY.utf8');\nCREATE SCHEMA public;\n\
             BEGIN;\nCREATE TABLE u (a int);\nALTER TABLE u OWNER TO third;\nCOPY u FROM stdin;\n1\n\\.\nCOMMIT;\n\
             CREATE MATERIALIZED VIEW m AS SELECT 1 AS one WITH NO DATA;\nALTER MATERIALIZED VIEW m OWNER TO postgres;\n\
             REFRESH MATERIALIZED VIEW m;\n",
        ),
    );
    assert_green(&examination);
    let gaps: Vec<_> = examination.findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(
        gaps,
        ["postgres.tablespace", "postgres.role", "postgres.role", "postgres.role"],
        "{examination:#?}"
    );
    assert_eq!(
        examination.not_verified.iter().filter(|text| text.contains("locale")).count(),
        2,
        "{examination:#?}"
    );
}

#[test]
fn errors_of_the_machine_are_no_damage() {
    if !present() {
        return;
    }
    let raises = |code: &str| {
        format!(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'could not read file' USING ERRCODE = '{code}'; END $$;\n\
             CREATE TABLE t (a int);\nCREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();\n"
        )
    };
    for code in ["53100", "53200", "57014", "58030", "55P03"] {
        for rows in ["INSERT INTO t VALUES (1);\n", "COPY t (a) FROM stdin;\n1\n2\n\\.\n"] {
            let examination = load("b/a.sql", &dump(&(raises(code) + rows)));
            assert_eq!(wrong(&examination), [""; 0], "{code} {rows}");
            assert!(
                examination.interrupted.as_ref().is_some_and(|why| why.contains(code)),
                "{examination:#?}"
            );
        }
    }
    // Our limit for a question of a person.
    let late = "CREATE TABLE t (a int);\nCREATE FUNCTION late() RETURNS int LANGUAGE plpgsql AS \
        $$ BEGIN RAISE 'canceling statement' USING ERRCODE = '57014'; END $$;\n\
        CREATE VIEW v AS SELECT late();\n";
    let newest = Some(NewestRow { sql: "SELECT late()".into(), max_age: None });
    for expectation in [
        DatabaseExpectation {
            queries: vec![Query { sql: "SELECT late()".into(), equals: "1".into() }],
            ..DatabaseExpectation::default()
        },
        DatabaseExpectation { rows_min: [("v".to_owned(), 1)].into(), ..DatabaseExpectation::default() },
        DatabaseExpectation { newest, ..DatabaseExpectation::default() },
    ] {
        let examination = expecting(&dump(late), expectation);
        assert_eq!(wrong(&examination), [""; 0], "{examination:#?}");
        assert!(
            examination.interrupted.as_ref().is_some_and(|why| why.contains("57014")),
            "{examination:#?}"
        );
    }
}

#[test]
fn what_could_not_be_read_is_not_missing() {
    let expectation = DatabaseExpectation {
        database: Some("shop".into()),
        roles: vec!["app".into()],
        ..DatabaseExpectation::default()
    };
    let expecting = |change: &dyn Fn(&mut Subject)| {
        let (_fixture, mut subject) = subject(&[("b/shop.sql", &dump("CREATE TABLE t (a int);\n"))]);
        subject.drill.expectations.postgres = vec![expectation.clone()];
        change(&mut subject);
        examine(&subject)
    };
    // Nobody has looked at any file.
    let stopped = expecting(&|subject| subject.watch.stop());
    assert_eq!(wrong(&stopped), [""; 0], "{stopped:#?}");
    assert!(stopped.interrupted.is_some());
    // The part of the snapshot that may hold it could not be listed.
    let incomplete = expecting(&|subject| {
        let mut manifest = firedrill_core::manifest::Manifest::default();
        manifest.mark_incomplete();
        subject.manifest = std::sync::Arc::new(manifest);
    });
    assert_eq!(wrong(&incomplete), [""; 0], "{incomplete:#?}");
    assert!(incomplete.interrupted.is_some());
    let empty = expecting(&|subject| subject.manifest = Default::default());
    assert_eq!(wrong(&empty), ["postgres.missing", "postgres.role_missing"], "{empty:#?}");
}

#[test]
fn many_missing_roles_are_still_no_damage() {
    if !present() {
        return;
    }
    let grants: String = (0..150).map(|n| format!("GRANT SELECT ON t TO role_{n};\n")).collect();
    let examination = load("b/a.sql", &dump(&format!("CREATE TABLE t (a int);\n{grants}")));
    assert_green(&examination);
    assert_eq!((examination.findings.len(), examination.findings_omitted), (20, 0));
    assert!(
        examination.notes.iter().any(|note| note.starts_with("130 more roles")),
        "{:#?}",
        examination.notes
    );
}

#[test]
fn what_is_told_of_a_row_is_where_it_is() {
    if !present() {
        return;
    }
    for middle in [
        "CREATE TABLE users (a int, b text);\nCOPY users FROM stdin;\n1\ta\nsecret\tsecret\n\\.\n",
        "CREATE TABLE users (a int, b text);\nCOPY users FROM stdin;\n1\ta\n2\tsecret\tsecret\n\\.\n",
        "CREATE TABLE users (b text PRIMARY KEY);\nCOPY users FROM stdin;\nsecret\nsecret\n\\.\n",
        "CREATE TABLE users (b text);\nINSERT INTO users VALUES ('secret'), ('secret', 1);\n",
    ] {
        let examination = load("b/a.sql", &dump(middle));
        assert_eq!(wrong(&examination), ["postgres.load"], "{examination:#?}");
        let all = format!("{examination:?}");
        assert!(!all.contains("secret"), "{all}");
        assert!(!middle.contains("COPY") || all.contains("COPY users, line 2"), "{all}");
    }
}

#[test]
fn a_partition_on_another_server_is_left_out() {
    if !present() {
        return;
    }
    let middle = "CREATE EXTENSION postgres_fdw;\nCREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1');\n\
        CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (user 'x', password 'y');\n\
        CREATE TABLE p (a int) PARTITION BY LIST (a);\nCREATE TABLE near PARTITION OF p FOR VALUES IN (1);\n\
        CREATE FOREIGN TABLE far PARTITION OF p FOR VALUES IN (2) SERVER s;\nINSERT INTO near VALUES (1);\n";
    let examination = load("b/a.sql", &dump(middle));
    assert_green(&examination);
    assert!(examination.not_verified.iter().any(|text| text.contains("another server")), "{examination:#?}");
}

#[test]
fn a_view_over_another_server_is_left_out() {
    if !present() {
        return;
    }
    let middle = "CREATE EXTENSION postgres_fdw;\nCREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1');\n\
        CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (user 'x', password 'y');\n\
        CREATE FOREIGN TABLE far (a int) SERVER s;\nCREATE MATERIALIZED VIEW m AS SELECT a FROM far WITH NO DATA;\n\
        REFRESH MATERIALIZED VIEW m;\nCREATE TABLE t (a int);\n";
    let examination = load("b/a.sql", &dump(middle));
    assert_green(&examination);
    assert!(examination.not_verified.iter().any(|text| text.contains("another server")), "{examination:#?}");
}
