use std::process::Command;

use firedrill_core::finding::{Class, RecoveryBasis};
use tempfile::TempDir;

use super::super::fixture::{Restored, cut_everywhere, have, pipe, run};

/// A plain pg_dump of one table with this many rows, as pg_dump 15 writes it.
fn pg_dump(rows: usize) -> String {
    let data: String = (0..rows).map(|row| format!("{row}\tvalue of row {row}\n")).collect();
    format!(
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict tOkEn\n\n-- Dumped from database version 15.20\n\
         -- Dumped by pg_dump version 15.20\n\nSET statement_timeout = 0;\n\n--\n-- Name: notes; Type: TABLE\n--\n\n\
         CREATE TABLE public.notes (\n    id integer,\n    body text\n);\n\n\n--\n-- Data for Name: notes\n--\n\n\
         COPY public.notes (id, body) FROM stdin;\n{data}\\.\n\n\n--\n-- PostgreSQL database dump complete\n--\n\n\
         \\unrestrict tOkEn\n\n"
    )
}

#[test]
fn a_whole_dump_is_green_and_says_what_it_holds() {
    let report = Restored::of("app.sql", pg_dump(30).as_bytes()).examine();
    report.must_be_clean();
    assert!(report.notes().contains("1 tables, 30 rows"), "{}", report.notes());
    assert!(report.notes().contains("database version 15.20"), "{}", report.notes());
}

#[test]
fn a_cut_dump_is_never_green() {
    let dump = pg_dump(50);
    let needed = dump.find("\\unrestrict tOkEn").unwrap() + "\\unrestrict tOkEn".len();
    // Behind the closing token there are only empty lines.
    cut_everywhere("app.sql", dump.as_bytes(), 300, |length| length >= needed);
    // Dumps by tools from before August 2025 end with their marker.
    let old: String =
        dump.lines().filter(|line| !line.contains("restrict")).map(|l| format!("{l}\n")).collect();
    let marker = "-- PostgreSQL database dump complete";
    let needed = old.find(marker).unwrap() + marker.len();
    cut_everywhere("app.sql", old.as_bytes(), 200, |length| length >= needed);
}

#[test]
fn a_cut_dump_in_a_whole_gzip_is_found() {
    if !have(&["gzip", "zstd", "xz"]) {
        return;
    }
    let dump = pg_dump(50);
    for (tool, name) in [("gzip", "app.sql.gz"), ("zstd", "app.sql.zst"), ("xz", "app.xz")] {
        let whole = pipe(Command::new(tool).arg("-c"), dump.as_bytes());
        let report = Restored::of(name, &whole).examine();
        report.must_be_clean();
        assert!(report.notes().contains("holds an SQL dump"), "{}", report.notes());
        let cut = pipe(Command::new(tool).arg("-c"), &dump.as_bytes()[..dump.len() / 2]);
        let report = Restored::of(name, &cut).examine();
        assert_eq!(report.codes(), ["sql_dump.truncated"], "{report:#?}");
        assert_eq!(report.findings()[0].class, Class::Damage);
    }
}

#[test]
fn data_that_looks_like_sql_is_data() {
    let rows =
        "1\t-- PostgreSQL database dump complete\n--\n-- MySQL dump\nCOPY x FROM stdin;\n\\\\.\n \\.\n";
    let dump = pg_dump(0).replace("FROM stdin;\n", &format!("FROM stdin;\n{rows}"));
    let report = Restored::of("app.sql", dump.as_bytes()).examine();
    report.must_be_clean();
    assert!(report.notes().contains("6 rows"), "{}", report.notes());
}

#[test]
fn a_line_of_many_megabytes_is_one_row() {
    let dump = pg_dump(0).replace("FROM stdin;\n", &format!("FROM stdin;\n1\t{}\n", "x".repeat(5 << 20)));
    let report = Restored::of("app.sql", dump.as_bytes()).examine();
    assert!(report.must_be_clean().notes().contains("1 rows"), "{}", report.notes());
}

#[test]
fn a_lost_copy_end_another_token_and_a_stray_message_are_found() {
    let dump = pg_dump(5);
    let report = Restored::of("app.sql", dump.replace("\n\\.\n", "\n").as_bytes()).examine();
    assert!(!report.looks_green(), "{report:#?}");
    let report = Restored::of("app.sql", dump.replace("\\unrestrict tOkEn", "\\unrestrict other").as_bytes())
        .examine();
    report.must_find("sql_dump.restrict");
    let report =
        Restored::of("app.sql", format!("pg_dump: warning: circular keys\n{dump}").as_bytes()).examine();
    report.must_find("sql_dump.message");
}

#[test]
fn a_cut_dump_with_another_one_behind_it_is_found() {
    let (first, second) = (pg_dump(9), pg_dump(4));
    Restored::of("all.sql", (first.clone() + &second).as_bytes()).examine().must_be_clean();
    for cut in [first.len() / 2, first.find("CREATE").unwrap(), first.len() - 60] {
        let report = Restored::of("all.sql", format!("{}\n{second}", &first[..cut]).as_bytes()).examine();
        assert!(!report.looks_green(), "cut at {cut}: {report:#?}");
    }
}

#[test]
fn an_empty_dump_and_a_schema_without_data_are_told_apart() {
    let empty =
        "--\n-- PostgreSQL database dump\n--\n\nSET a = 1;\n\n--\n-- PostgreSQL database dump complete\n--\n";
    let report = Restored::of("app.sql", empty.as_bytes()).examine();
    report.must_find("sql_dump.empty");
    assert_eq!(report.findings()[0].class, Class::Damage);
    let schema = empty.replace("SET a = 1;", "CREATE TABLE a (b int);");
    let report = Restored::of("app.sql", schema.as_bytes()).examine();
    report.must_find("sql_dump.no_rows");
    assert_eq!(report.findings()[0].class, Class::Anomaly);
    Restored::of("db/schema.sql", schema.as_bytes()).examine().must_be_clean();
    let functions = empty.replace("SET a = 1;", "CREATE FUNCTION f() RETURNS int AS 'x';");
    Restored::of("app.sql", functions.as_bytes()).examine().must_find("sql_dump.no_tables");
}

#[test]
fn what_was_there_last_time_is_expected_again() {
    let dump = |name: &str, rows| Restored::of(name, pg_dump(rows).as_bytes());
    let before = dump("app-2026-02-11.sql", 100).examine();
    dump("app-2026-02-12.sql", 60).examine_after(&before).must_be_clean();
    dump("app-2026-02-12.sql", 49).examine_after(&before).must_find("structure.rows_fell");
    let other = pg_dump(100).replace("public.notes", "public.other");
    let report = Restored::of("app-2026-02-12.sql", other.as_bytes()).examine_after(&before);
    report.must_find("structure.tables_vanished");
    assert_eq!(report.findings()[0].class, Class::Anomaly);
    // Of several dumps in one tree, the newest counts.
    let restored = dump("app-2026-02-10.sql", 10).with("app-2026-02-13.sql", pg_dump(120).as_bytes());
    restored.examine_after(&before).must_be_clean();
}

#[test]
fn a_start_time_in_utc_is_the_recovery_point_of_a_single_dump() {
    let dump = pg_dump(3).replace("SET statement", "-- Started on 2026-02-11 15:43:44 UTC\n\nSET statement");
    let report = Restored::of("app.sql", dump.as_bytes()).examine();
    let point = report.must_be_clean().0[0].recovery_point.clone().unwrap();
    assert_eq!((point.time.to_string().as_str(), point.basis), ("2026-02-11T15:43:44Z", RecoveryBasis::Data));
    let two = Restored::of("a.sql", dump.as_bytes()).with("b.sql", dump.as_bytes()).examine();
    assert!(two.must_be_clean().0[0].recovery_point.is_none());
}

#[test]
fn mysql_dumps_are_followed_through_their_strings() {
    let dump = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB\n--\n\
                -- Server version\t10.11.6-MariaDB\n\nCREATE TABLE `t` (\n  `a` text\n);\n\
                INSERT INTO `t` VALUES\n(1,'it\\'s; \\\\'),\n(2,'-- MySQL dump');\n\n\
                -- Dump completed on 2026-02-11  3:00:01\n";
    let report = Restored::of("app.sql", dump.as_bytes()).examine();
    assert!(report.must_be_clean().notes().contains("1 tables, 2 rows"), "{}", report.notes());
    let needed = dump.find("-- Dump completed").unwrap() + "-- Dump completed".len();
    // The date behind the marker can be left out by an option, so its loss cannot be told.
    cut_everywhere("app.sql", dump.as_bytes(), 200, |length| length >= needed);
    let report = Restored::of("app.sql", format!("{}{dump}", &dump[..dump.len() / 2]).as_bytes()).examine();
    report.must_find("sql_dump.truncated");
}

#[test]
fn sqlite_dumps_end_with_their_transaction() {
    if !have(&["sqlite3"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("a.db");
    let script = "CREATE TABLE a(b, c); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<40)
                  INSERT INTO a SELECT i, 'it''s (line' || char(10) || 'COMMIT' || char(10) || i || ');' FROM n;";
    run(Command::new("sqlite3").arg(&database).arg(script));
    let dump = run(Command::new("sqlite3").arg(&database).arg(".dump"));
    let report = Restored::of("a.sql", &dump).examine();
    assert!(report.must_be_clean().notes().contains("1 tables, 40 rows"), "{}", report.notes());
    // Only the last line end can go missing without harm; at nothing but its first bytes, the name tells.
    cut_everywhere("a.sql", &dump, 200, |length| length + 1 >= dump.len());
    let rolled_back = String::from_utf8(dump).unwrap().replace("COMMIT;\n", "ROLLBACK; -- due to errors\n");
    Restored::of("a.sql", rolled_back.as_bytes()).examine().must_find("sql_dump.errors");
}

#[test]
fn what_a_new_version_of_the_application_does_to_its_tables() {
    let dump = |tables: &[(&str, usize)]| {
        let all: String = tables
            .iter()
            .map(|(table, rows)| {
                let data: String = (0..*rows).map(|row| format!("{row}\n")).collect();
                format!("CREATE TABLE public.{table} (\n    id int\n);\n\nCOPY public.{table} (id) FROM stdin;\n{data}\\.\n\n")
            })
            .collect();
        let text = format!(
            "--\n-- PostgreSQL database dump\n--\n\n{all}--\n-- PostgreSQL database dump complete\n--\n"
        );
        Restored::of("app.sql", text.as_bytes())
    };
    let before =
        dump(&[("a", 100), ("b", 20), ("c", 9), ("schema_migrations", 30), ("sessions", 400)]).examine();
    before.must_be_clean();
    let now = |tables: &[(&str, usize)]| dump(tables).examine_after(&before);
    // Sessions end, and a migration drops a table.
    now(&[("a", 101), ("b", 20), ("c", 9), ("schema_migrations", 30), ("sessions", 0)]).must_be_clean();
    now(&[("a", 101), ("b", 20), ("d", 0), ("schema_migrations", 31), ("sessions", 9)]).must_be_clean();
    // Without a migration it is a loss; so is more than one drops; an older schema came back.
    now(&[("a", 101), ("b", 20), ("schema_migrations", 30)]).must_find("structure.tables_vanished");
    now(&[("b", 20), ("c", 9), ("d", 0), ("schema_migrations", 31)]).must_find("structure.tables_vanished");
    now(&[("a", 90), ("b", 20), ("c", 9), ("schema_migrations", 28)])
        .must_find("structure.version_backwards");
}
