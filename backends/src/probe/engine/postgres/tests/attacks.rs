//! Hostile dumps: nothing of ours is touched, and they are told.

use super::source::SHARED;
use super::*;

const HEAD: &str = "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18\n\n";
const TAIL: &str = "\n--\n-- PostgreSQL database dump complete\n--\n";
const TABLE: &str = "CREATE TABLE t (a int);\nCOPY t (a) FROM stdin;\n1\n2\n\\.\n";

fn dump(middle: &str) -> Examination {
    load("backup/evil.sql", format!("{HEAD}{TABLE}{middle}{TAIL}").as_bytes())
}

#[test]
fn no_command_of_psql_is_run() {
    if !present() {
        return;
    }
    assert_green(&dump(""));
    let decoy = tempfile::tempdir().unwrap();
    let decoy = decoy.path().join("decoy");
    let decoy = decoy.display();
    for command in [
        format!("\\! touch {decoy}"),
        format!("\\copy t to program 'touch {decoy}'"),
        format!("\\o |touch {decoy}"),
        "\\i /etc/passwd".to_owned(),
        "\\setenv PATH /evil".to_owned(),
        format!("SELECT 'touch {decoy}' \\g |sh"),
        "SELECT 1 \\gexec".to_owned(),
        format!("\\connect `touch {decoy}`"),
        "\\connect host=192.0.2.1".to_owned(),
        "\\connect - other".to_owned(),
        "\\connect postgresql://192.0.2.1/x".to_owned(),
        format!("\\restrict abc\n\\unrestrict abd\n\\! touch {decoy}"),
        format!("\\restrict abc\n\\unrestrict abc\n\\! touch {decoy}"),
        format!("\\unrestrict x\n\\! touch {decoy}"),
    ] {
        let examination = dump(&format!("{command}\n"));
        assert_found(&examination, "postgres.meta_command");
        assert!(!std::path::Path::new(&decoy.to_string()).exists(), "{command}");
    }
    let examination = dump("\\! id\n");
    assert!(examination.findings[0].seen.contains("line 12: `\\! id`"), "{:?}", examination.findings);
    // In strings, functions and data it is text.
    assert_green(&dump(
        "CREATE TABLE u (a text);\nINSERT INTO u VALUES ('\n\\! id\n');\nCOPY u FROM stdin;\n\\\\! id\n\\.\n\
         CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $x$ SELECT '\n\\! id\n' $x$;\nCOMMENT ON TABLE u IS E'\\'\\n\\! id';\n",
    ));
}

#[test]
fn what_reaches_outside_is_told_and_not_done() {
    if !present() {
        return;
    }
    let decoy = tempfile::tempdir().unwrap();
    let file = decoy.path().join("decoy");
    let shown = file.display();
    for sql in [
        format!("COPY t TO PROGRAM 'touch {shown}';"),
        format!("COPY t TO '{shown}';"),
        "COPY t FROM PROGRAM 'id';".to_owned(),
        // Where a comment ends decides what is a string.
        format!("COPY /* /* */ ' */ (SELECT 1) TO PROGRAM 'touch {shown}';"),
        format!("COPY (SELECT 1) --\r TO PROGRAM 'touch {shown}'\n;"),
        format!("SELECT lo_export(lo_from_bytea(0, 'x'), '{shown}');"),
        "SELECT pg_read_file('/etc/passwd');".to_owned(),
        format!("DO $$ BEGIN COPY t TO PROGRAM 'touch {shown}'; END $$;"),
        format!("ALTER SYSTEM SET archive_command = 'touch {shown}';"),
        "CREATE EXTENSION dblink; SELECT dblink_connect('host=192.0.2.1 connect_timeout=1');".to_owned(),
        "CREATE SUBSCRIPTION s CONNECTION 'host=192.0.2.1 connect_timeout=1' PUBLICATION p;".to_owned(),
    ] {
        let examination = dump(&format!("{sql}\n"));
        assert_found(&examination, "postgres.reaches_out");
        assert!(!file.exists(), "{sql}");
    }
    // Hidden in a function it is executed, and the cell keeps it in.
    for body in [
        format!("COPY t TO PROGRAM 'touch {shown}'"),
        format!("COPY t TO '{shown}'"),
        "PERFORM pg_read_file('/nowhere/at/all')".to_owned(),
        "PERFORM dblink_connect('host=192.0.2.1 connect_timeout=1')".to_owned(),
    ] {
        let examination = dump(&format!(
            "CREATE EXTENSION dblink;\nCREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS \
             $$ BEGIN {body}; RETURN 1; END $$;\nSELECT f();\n"
        ));
        assert_eq!(wrong(&examination), ["postgres.reaches_out"], "{body}: {examination:#?}");
        assert!(!file.exists(), "{body}");
    }
    // An error of the function itself is one of the dump.
    let examination = dump(
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'no file'; END $$;\nSELECT f();\n",
    );
    assert_eq!(wrong(&examination), ["postgres.load"], "{examination:#?}");
}

/// A function of this name that swallows what becomes of `body`.
fn swallowing(name: &str, returns: &str, body: &str, result: &str) -> String {
    format!(
        "CREATE FUNCTION {name} RETURNS {returns} IMMUTABLE SECURITY DEFINER LANGUAGE plpgsql AS $f$ BEGIN \
         BEGIN {body}; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN {result}; END $f$;\n"
    )
}

#[test]
fn an_attempt_that_swallows_its_error_is_told() {
    if !present() {
        return;
    }
    let f = |body: &str| swallowing("f()", "int", body, "1");
    let program = "COPY t TO PROGRAM 'false'";
    let quiet = "SET client_min_messages = warning;\nSET log_parser_stats = off;\n";
    for (what, sql) in [
        ("a program", format!("{}SELECT f();", f(program))),
        ("after the dump asked for silence", format!("{}{quiet}SELECT f();", f(program))),
        ("a file", format!("{}SELECT f();", f("COPY t TO '/cell/x'"))),
        ("a file that is read", format!("{}SELECT f();", f("PERFORM pg_read_file('/etc/hostname')"))),
        ("a server", format!("CREATE EXTENSION dblink;\n{}SELECT f();", f("PERFORM dblink_connect('host=192.0.2.1 connect_timeout=1')"))),
        ("put together", format!("{}SELECT f();", f("EXECUTE 'COP' || 'Y t TO PROGRAM ''false'''"))),
        ("DO", "DO $d$ BEGIN EXECUTE 'COP' || 'Y t TO PROGRAM ''false'''; EXCEPTION WHEN OTHERS THEN NULL; END $d$;".to_owned()),
        (
            "a trigger",
            format!("{}CREATE TABLE u (a int);\nCREATE TRIGGER x BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION g();\nCOPY u (a) FROM stdin;\n1\n2\n\\.\n", swallowing("g()", "trigger", program, "NEW")),
        ),
        (
            "an event trigger",
            "CREATE FUNCTION g() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN COPY t TO PROGRAM 'false'; EXCEPTION WHEN OTHERS THEN NULL; END $$;\n\
             CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION g();\nCREATE TABLE u (a int);".to_owned(),
        ),
        ("a view", format!("{}CREATE VIEW v AS SELECT f();\nCREATE TABLE u AS SELECT * FROM v;", f(program))),
        ("a materialized view", format!("{}CREATE MATERIALIZED VIEW v AS SELECT f() WITH NO DATA;\nREFRESH MATERIALIZED VIEW v;", f(program))),
        ("a default", format!("{}CREATE TABLE u (a int, b int DEFAULT f());\nCOPY u (a) FROM stdin;\n1\n\\.\n", f(program))),
        ("a generated column", format!("{}CREATE TABLE u (a int, b int GENERATED ALWAYS AS (f()) STORED);\nINSERT INTO u (a) VALUES (1);", f(program))),
        ("an index", format!("{}CREATE INDEX i ON t ((a + h(a)));", swallowing("h(int)", "int", program, "1"))),
        ("a check", "CREATE TABLE u (a int, CHECK (pg_read_file('/etc/hostname') IS NOT NULL));\nINSERT INTO u VALUES (1);".to_owned()),
        ("SQL that is inlined", "CREATE FUNCTION s() RETURNS text LANGUAGE sql AS $$ SELECT pg_read_file('/etc/hostname') $$;\nSELECT s();".to_owned()),
        ("a view in a function", format!("CREATE VIEW v AS SELECT pg_read_file('/etc/hostname') AS a;\n{}SELECT f();", f("PERFORM a FROM public.v"))),
        ("a table from a query", "CREATE TABLE u AS SELECT pg_read_file('/etc/hostname');".to_owned()),
    ] {
        let examination = dump(&format!("{sql}\n"));
        assert_eq!(wrong(&examination).first(), Some(&"postgres.reaches_out"), "{what}: {examination:#?}");
        assert!(!wrong(&examination).contains(&"postgres.load"), "{what}: {examination:#?}");
    }
}

#[test]
fn a_function_that_silences_the_reports_is_noticed_and_heard_again() {
    if !present() {
        return;
    }
    let silencing = "CREATE FUNCTION q() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM set_config('client_min_messages', 'error', false); RETURN 1; END $$;\nSELECT q();\n";
    let examination = dump(silencing);
    assert_green(&examination);
    assert!(examination.not_verified.iter().any(|what| what.contains("silenced")), "{examination:#?}");
    let attempt = swallowing("f()", "int", "COPY t TO PROGRAM 'false'", "1");
    assert_eq!(wrong(&dump(&format!("{silencing}{attempt}SELECT f();\n"))), ["postgres.reaches_out"]);
}

#[test]
fn what_applications_define_is_no_attempt() {
    if !present() {
        return;
    }
    let database = SHARED.database(
        "CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw;
         CREATE TABLE t (a int PRIMARY KEY, b text); CREATE TABLE audit (at timestamptz, what text);
         CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             INSERT INTO audit VALUES (now(), TG_OP || ' copy to program'); RETURN NEW; END $$;
         CREATE TRIGGER a AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION audit();
         CREATE FUNCTION remote(q text) RETURNS SETOF text LANGUAGE sql AS
             $$ SELECT a FROM dblink('host=192.0.2.1 connect_timeout=1', q) AS r(a text) $$;
         CREATE FUNCTION export() RETURNS void LANGUAGE plpgsql AS $$ BEGIN COPY t TO '/srv/export.csv'; END $$;
         CREATE VIEW there AS SELECT * FROM dblink('host=192.0.2.1 connect_timeout=1', 'select 1') AS r(a int);
         CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '192.0.2.1', dbname 'x');
         CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (user 'x', password 'y');
         CREATE FOREIGN TABLE far (a int) SERVER s;
         CREATE MATERIALIZED VIEW m AS SELECT a + 1 AS b FROM t;
         CREATE FUNCTION logged() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF tg_tag = 'DROP DATABASE' THEN PERFORM dblink_exec('host=192.0.2.1', 'x'); END IF; END $$;
         INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 100) i;
         CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION logged();",
    );
    for arguments in [&[][..], &["--inserts"], &["-Fc"]] {
        let examination = load("backup/shop.dump", &SHARED.dump(&database, arguments));
        assert_green(&examination);
        let note = examination.notes.iter().find(|note| note.contains("would reach out when used")).cloned();
        let note = note.unwrap_or_default();
        for name in ["function remote", "function export", "view there", "function logged"] {
            assert!(note.contains(name), "{name}: {note}");
        }
    }
    // A trigger that runs while rows come in, and does not reach out.
    assert_green(&dump(
        "CREATE EXTENSION dblink;\nCREATE TABLE u (a int);\n\
         CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.a > 100 THEN \
         PERFORM dblink_exec('host=192.0.2.1', 'x'); END IF; RETURN NEW; END $$;\n\
         CREATE TRIGGER x BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION g();\nCOPY u (a) FROM stdin;\n1\n2\n\\.\n",
    ));
}

#[test]
fn our_own_questions_set_nothing_off() {
    if !present() {
        return;
    }
    // Anything that an event trigger could do when we look around would fail here.
    let database = SHARED.database(
        "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1);
         CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
         CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION f();",
    );
    assert_green(&load("backup/shop.sql", &SHARED.dump(&database, &[])));
}

#[test]
fn floods_do_not_stop_us() {
    if !present() {
        return;
    }
    // Notices for each row while the data still comes.
    let mut rows = String::new();
    for row in 0..20_000 {
        rows.push_str(&format!("{row}\n"));
    }
    let examination = dump(&format!(
        "SET client_min_messages = notice;\n\
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', repeat('x', 500); RETURN NEW; END $$;\n\
         CREATE TABLE u (a int);\nCREATE TRIGGER n BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION f();\n\
         COPY u (a) FROM stdin;\n{rows}\\.\n"
    ));
    assert_green(&examination);
}
