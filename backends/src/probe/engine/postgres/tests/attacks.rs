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
