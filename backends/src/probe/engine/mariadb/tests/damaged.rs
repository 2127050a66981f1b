//! Damaged backups are never green.

use super::healthy::{gz, put};
use super::made::MADE;
use super::*;

/// Cuts that a good generator would choose: everywhere, and close to the end.
fn cuts(length: usize) -> Vec<usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap()
    };
    let mut cuts: Vec<_> = (0..6).map(|_| next() % length).filter(|cut| *cut > 400).collect();
    cuts.extend([length - 60, length - 300]);
    cuts
}

#[test]
fn a_cut_dump_is_never_verified() {
    if !have() {
        return;
    }
    for cut in cuts(MADE.one.len()) {
        must_not_be_clean(&examine("shop.sql", &MADE.one[..cut]));
    }
    let packed = gz(&MADE.one);
    must_not_be_clean(&examine("shop.sql.gz", &packed[..packed.len() / 2]));
    must_not_be_clean(&examine("shop.sql.gz", gz(&MADE.one[..MADE.one.len() / 2])));
}

#[test]
fn a_cut_stream_is_never_verified() {
    if !have() {
        return;
    }
    for cut in cuts(MADE.stream.len()) {
        must_not_be_clean(&examine("mariadb.xb", &MADE.stream[..cut]));
    }
    let packed = gz(&MADE.stream);
    must_not_be_clean(&examine("mariadb.xb.gz", &packed[..packed.len() - 9]));
}

fn replaced(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = text.windows(from.len()).position(|window| window == from.as_bytes()).expect(from);
    [&text[..at], to.as_bytes(), &text[at + from.len()..]].concat()
}

#[test]
fn a_statement_that_fails_is_told_with_its_line() {
    if !have() {
        return;
    }
    let broken = replaced(&MADE.one, "CREATE TABLE `child`", "CREATE TABEL `child`");
    let examination = examine("shop.sql", broken);
    assert_eq!(codes(&examination), ["mariadb.load"], "{examination:#?}");
    assert!(examination.findings[0].seen.contains("1064"), "{examination:#?}");
    assert!(examination.findings[0].seen.contains("at line"), "{examination:#?}");
    // A dump whose rows are refused: the key is there twice.
    let twice =
        replaced(&MADE.one, "INSERT INTO `child` VALUES\n(1,1);", "INSERT INTO `child` VALUES\n(1,1),(1,1);");
    assert_eq!(codes(&examine("shop.sql", twice)), ["mariadb.load"]);
}

#[test]
fn rows_that_are_lost_on_the_way_are_told() {
    if !have() {
        return;
    }
    let end = "/*!40000 ALTER TABLE `parts` ENABLE KEYS */;";
    let text = replaced(&MADE.one, end, &format!("{end}\nALTER TABLE `parts` TRUNCATE PARTITION p1;"));
    let examination = examine("shop.sql", text);
    assert!(codes(&examination).contains(&"mariadb.rows"), "{examination:#?}");
    let rows = examination.findings.iter().find(|f| f.code == "mariadb.rows").unwrap();
    assert_eq!((rows.expected.as_str(), rows.seen.as_str()), ("the 300 rows of the dump", "99 rows"));
}

#[test]
fn a_flipped_page_in_a_table_is_found() {
    if !have() {
        return;
    }
    // After an orderly end: before it, the redo log writes whole pages anew, and heals what is damaged in the file.
    let mut folder = MADE.stopped.clone();
    let (_, content) = folder.iter_mut().find(|(name, _)| name == "shop/orders.ibd").unwrap();
    let row = content.windows(12).position(|window| window == b"w2000 w2000 ").unwrap();
    content[row] ^= 0x01;
    let fixture = Fixture::new();
    put(&fixture, "lib/mysql", &folder);
    let examination = examine_subject(&subject(&fixture));
    assert_eq!(codes(&examination), ["mariadb.table"], "{examination:#?}");
    assert_eq!(examination.findings[0].location, "lib/mysql: shop.orders");
}

#[test]
fn a_flipped_page_in_a_stream_is_found() {
    if !have() {
        return;
    }
    // The chunks are written anew with fitting checksums, as by a tool that read a damaged file.
    let place = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for (name, content) in &MADE.prepared {
        let path = place.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut content = content.clone();
        if name == "shop/orders.ibd" {
            let row = content.windows(12).position(|window| window == b"w2000 w2000 ").unwrap();
            content[row + 3] ^= 0x80;
        }
        std::fs::write(path, content).unwrap();
        names.push(name.clone());
    }
    let made = std::process::Command::new("mbstream")
        .arg("-c")
        .args(names)
        .current_dir(place.path())
        .output()
        .unwrap();
    assert!(made.status.success());
    let examination = examine("mariadb.xb", made.stdout);
    assert_eq!(codes(&examination), ["mariadb.table"], "{examination:#?}");
}

#[test]
fn a_table_file_that_is_missing_is_found() {
    if !have() {
        return;
    }
    for (lost, code) in [
        ("shop/orders.ibd", "mariadb.table"),
        ("shop/aria_table.MAD", "mariadb.table"),
        ("shop/myisam_table.MYI", "mariadb.table"),
        ("shop/child.frm", "mariadb.orphan"),
    ] {
        let mut folder = MADE.folder.clone();
        folder.retain(|(name, _)| name != lost);
        assert!(folder.len() < MADE.folder.len());
        let fixture = Fixture::new();
        put(&fixture, "backup", &folder);
        let examination = examine_subject(&subject(&fixture));
        assert_eq!(codes(&examination), [code], "{lost}: {examination:#?}");
    }
}

#[test]
fn an_incremental_backup_alone_is_no_backup() {
    if !have() {
        return;
    }
    let fixture = Fixture::new();
    put(&fixture, "backup", &MADE.increment);
    assert_eq!(codes(&examine_subject(&subject(&fixture))), ["mariadb.incremental"]);
}

#[test]
fn rows_that_fell_since_the_last_drill_are_told() {
    if !have() {
        return;
    }
    let fixture = Fixture::new();
    put(&fixture, "lib/mysql", &MADE.stopped);
    let mut subject = subject(&fixture);
    let mut before = examine_subject(&subject);
    let text = serde_json::to_string(&before.baseline).unwrap();
    assert!(text.contains("\"shop.orders\":4000"), "{text}");
    let text = text.replace("\"shop.orders\":4000", "\"shop.orders\":9000");
    let text = text.replace("\"shop.parts\":300", "\"shop.parts\":300,\"shop.gone\":5000");
    before.baseline = serde_json::from_str(&text).unwrap();
    crate::probe::fixture::remember(&mut subject, &before);
    let mut seen = examine_subject(&subject);
    seen.findings.sort_by(|a, b| a.code.cmp(&b.code));
    assert_eq!(codes(&seen), ["mariadb.rows_fell", "mariadb.table_vanished"], "{seen:#?}");
}
