//! A dump that was cut anywhere is never verified.

use std::io::Cursor;

use proptest::prelude::*;

use super::super::split::{End, Piece, Splitter};
use super::source::SHARED;
use super::*;

/// The pieces of a text.
fn split(text: &[u8]) -> Vec<Piece> {
    let mut splitter = Splitter::new(Cursor::new(text));
    let mut pieces = Vec::new();
    loop {
        let piece = splitter.next().unwrap();
        let last = matches!(piece, Piece::End(_));
        pieces.push(piece);
        if last {
            return pieces;
        }
    }
}

fn statements(text: &str) -> Vec<String> {
    let text_of = |piece| match piece {
        Piece::Statement { text, .. } => Some(String::from_utf8(text).unwrap()),
        _ => None,
    };
    split(text.as_bytes()).into_iter().filter_map(text_of).collect()
}

#[test]
fn statements_end_where_psql_ends_them() {
    for (text, expected) in [
        ("SELECT 1; SELECT 2;", &["SELECT 1", "SELECT 2"][..]),
        ("SELECT 'a;''b'; x;", &["SELECT 'a;''b'", "x"]),
        ("SELECT E'a\\';b'; x;", &["SELECT E'a\\';b'", "x"]),
        ("SELECT 'a\\'; x;", &["SELECT 'a\\'", "x"]),
        (
            "SET standard_conforming_strings = off; SELECT 'a\\';'; x;",
            &["SET standard_conforming_strings = off", "SELECT 'a\\';'", "x"],
        ),
        ("SELECT $a$;$$;'$a$; x;", &["SELECT $a$;$$;'$a$", "x"]),
        ("SELECT a$b$c; x;", &["SELECT a$b$c", "x"]),
        ("SELECT $1; x;", &["SELECT $1", "x"]),
        ("SELECT \"a;\"\"b\"; x;", &["SELECT \"a;\"\"b\"", "x"]),
        ("/* a; /* b; */ c; */ SELECT 1; -- x;\nSELECT /* ; */ 2;", &["SELECT 1", "SELECT /* ; */ 2"]),
        (
            "CREATE RULE r AS ON DELETE TO t DO (SELECT 1; SELECT 2); x;",
            &["CREATE RULE r AS ON DELETE TO t DO (SELECT 1; SELECT 2)", "x"],
        ),
        (
            "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END; x;",
            &[
                "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END",
                "x",
            ],
        ),
        ("BEGIN; COMMIT; END; x;", &["BEGIN", "COMMIT", "END", "x"]),
        ("-- a\rSELECT 1; SELECT 2 --\r; x;", &["SELECT 1", "SELECT 2 --\r", "x"]),
        (";;\u{feff}; x;", &["\u{feff}", "x"]),
    ] {
        assert_eq!(statements(text), expected, "{text}");
    }
}

#[test]
fn data_ends_at_its_mark_and_nowhere_else() {
    let text = "COPY t FROM stdin;\n1\n\\\\.\n\\.x\n \\.\n\\.\nSELECT 1;\nCOPY \"a\" FROM STDIN WITH (FORMAT text);\r\n2\r\n\\.\r\nx;";
    let pieces = split(text.as_bytes());
    let data: Vec<_> = pieces
        .iter()
        .filter_map(|p| if let Piece::Data(d) = p { Some(d.as_slice()) } else { None })
        .collect();
    assert_eq!(data.concat(), b"1\n\\\\.\n\\.x\n \\.\n2\r\n");
    assert_eq!(pieces.iter().filter(|p| **p == Piece::DataEnd).count(), 2);
    assert!(matches!(pieces.last(), Some(Piece::End(End::Whole))), "{pieces:?}");
    // Larger than any buffer, with one very long line.
    let long = format!("COPY t FROM stdin;\n{}\n{}\\.\nx;", "y".repeat(2_000_000), "1\n".repeat(500_000));
    let pieces = split(long.as_bytes());
    let bytes: usize = pieces.iter().map(|p| if let Piece::Data(d) = p { d.len() } else { 0 }).sum();
    assert_eq!(bytes, 2_000_001 + 1_000_000);
    assert!(
        matches!(&pieces[pieces.len() - 2], Piece::Statement { line: 500_004, text, .. } if text == b"x")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_cut_into_something(text in proptest::collection::vec(
        proptest::sample::select(b"'\"$a\\;.-*/(\n \xc3\x95COPYFROMstdin".to_vec()), 0..300)) {
        split(&text);
    }
}

#[test]
fn a_plain_dump_that_is_cut_does_not_end_well() {
    if !present() {
        return;
    }
    let database = SHARED.database(healthy::EVERYTHING);
    for arguments in [&["--no-blobs"][..], &["--no-blobs", "--inserts"]] {
        let dump = SHARED.dump(&database, arguments);
        assert!(matches!(split(&dump).last(), Some(Piece::End(End::Whole))));
        let end = dump.trim_ascii_end().len();
        let cuts = (0..1000).map(|n| n * end / 1000).chain(end - 200..end);
        for cut in cuts {
            let pieces = split(&dump[..cut]);
            let whole = matches!(pieces.last(), Some(Piece::End(End::Whole)));
            // What is cut before its header has no statement, or ends in the token of \unrestrict.
            let statements = pieces.iter().any(|p| matches!(p, Piece::Statement { .. }));
            let token = pieces
                .iter()
                .any(|p| matches!(p, Piece::Meta { text, .. } if text.starts_with(b"\\unrestrict")));
            assert!(!whole || !statements || token, "cut at {cut} of {end}: {:?}", pieces.last());
        }
    }
}

#[test]
fn a_cut_dump_is_never_verified() {
    if !present() {
        return;
    }
    let database = SHARED.database(healthy::EVERYTHING);
    let plain = SHARED.dump(&database, &[]);
    let gz = healthy::gz(&plain);
    let custom = SHARED.dump(&database, &["-Fc"]);
    let tar = SHARED.dump(&database, &["-Ft"]);
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let end = plain.trim_ascii_end().len();
    for cut in [end - 1, end - 30, end - 75, end - 110, end / 2, end / 3, 900] {
        files.push((format!("plain{cut}.sql"), plain[..cut].to_vec()));
        files.push((format!("closed{cut}.sql.gz"), healthy::gz(&plain[..cut])));
    }
    for n in 1..6 {
        files.push((format!("gz{n}.sql.gz"), gz[..gz.len() * n / 6].to_vec()));
        files.push((format!("custom{n}.dump"), custom[..custom.len() * n / 6].to_vec()));
        files.push((format!("tar{n}.tar"), tar[..tar.len() * n / 6].to_vec()));
    }
    files.push(("gz-trailer.sql.gz".to_owned(), gz[..gz.len() - 4].to_vec()));
    files.push(("custom-last.dump".to_owned(), custom[..custom.len() - 1].to_vec()));
    for (path, content) in files {
        let (_fixture, subject) = subject(&[(&path, &content)]);
        let _entered = RUNTIME.enter();
        if PostgresProbe.recognises(&subject) {
            let examination = PostgresProbe.examine(&subject);
            assert!(!is_verified(&examination), "{path}: {examination:#?}");
            println!("{path}: {:?}", examination.findings.iter().map(|f| &f.seen).collect::<Vec<_>>());
        }
    }
}
