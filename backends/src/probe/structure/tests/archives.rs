use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::super::fixture::{
    Restored, Seeded, cut_everywhere, flip_everywhere, have, mutate_everywhere, pipe, run,
};

/// A folder with a few files, one of them a long name, one a sparse file, one empty.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("a.txt"), "hello\n".repeat(300)).unwrap();
    std::fs::write(at(&"n".repeat(180)), Seeded(1).bytes(2000)).unwrap();
    std::fs::write(at("empty"), "").unwrap();
    let sparse = std::fs::File::create(at("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::symlink("a.txt", at("link")).unwrap();
    std::fs::hard_link(at("a.txt"), at("hard")).unwrap();
    folder
}

fn tar(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    run(Command::new("tar").args(arguments).args(["-C"]).arg(folder).args(["-cf", "-", "."]))
}

#[test]
fn every_dialect_of_tar_is_green() {
    if !have(&["tar"]) {
        return;
    }
    let folder = folder();
    for dialect in ["--format=gnu", "--format=posix", "--format=oldgnu", "--sparse"] {
        Restored::of("a.tar", &tar(folder.path(), &[dialect])).examine().must_be_clean();
    }
    std::fs::remove_file(folder.path().join("n".repeat(180))).unwrap();
    for dialect in ["--format=ustar", "--format=v7"] {
        Restored::of("a.tar", &tar(folder.path(), &[dialect])).examine().must_be_clean();
    }
    let report = Restored::of("a.tar", &tar(TempDir::new().unwrap().path(), &["-T", "/dev/null"])).examine();
    assert!(report.findings().is_empty() || report.has("tar.empty"), "{report:#?}");
}

#[test]
fn a_cut_tar_is_never_green() {
    if !have(&["tar", "gzip"]) {
        return;
    }
    let folder = folder();
    std::fs::remove_file(folder.path().join("sparse")).unwrap();
    let content = tar(folder.path(), &["--format=gnu", "-b", "1"]);
    // Behind the first zero block all members are whole: GNU tar only warns of a lone zero block.
    let end = content.len() - 1024;
    assert!(content[end..].iter().all(|byte| *byte == 0));
    cut_everywhere("a.tar", &content, 200, |length| length == 0 || length >= end + 512);
    let compressed = pipe(Command::new("gzip").arg("-c"), &content[..end]);
    Restored::of("a.tgz", &compressed).examine().must_find("tar.truncated");
}

#[test]
fn a_flipped_bit_in_a_tar_header_is_found() {
    if !have(&["tar"]) {
        return;
    }
    let content = tar(folder().path(), &["--format=gnu"]);
    flip_everywhere("a.tar", &content, 100, 0..512);
}

#[test]
fn an_empty_backup_archive_and_garbage_behind_one_are_told() {
    if !have(&["tar", "gzip"]) {
        return;
    }
    let empty = pipe(Command::new("gzip").arg("-c"), &[0; 10240]);
    Restored::of("all.tar.gz", &empty).examine().must_find("tar.empty");
    let one = tar(folder().path(), &[]);
    let two = [one.clone(), one].concat();
    Restored::of("a.tar", &two).examine().must_find("tar.trailing");
}

#[test]
fn dumps_inside_archives_are_checked() {
    if !have(&["tar", "gzip"]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let cut =
        b"--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE a (b int);\n\nCOPY a (b) FROM stdin;\n1\n";
    std::fs::write(folder.path().join("app.sql.gz"), pipe(Command::new("gzip").arg("-c"), cut)).unwrap();
    std::fs::write(folder.path().join("z.txt"), "later").unwrap();
    let content = pipe(Command::new("gzip").arg("-c"), &tar(folder.path(), &[]));
    let report = Restored::of("all.tar.gz", &content).examine();
    report.must_find("sql_dump.truncated");
    assert_eq!(report.findings().len(), 1, "{report:#?}");
    assert!(report.findings()[0].location.contains("all.tar.gz!/./app.sql.gz"), "{report:#?}");
}

fn zip() -> Option<Vec<u8>> {
    if !have(&["zip"]) {
        return None;
    }
    let folder = folder();
    let path = folder.path().join("out.zip");
    run(Command::new("zip").current_dir(folder.path()).args(["-q", "-r", "out.zip", ".", "-x", "sparse"]));
    Some(std::fs::read(path).unwrap())
}

#[test]
fn a_whole_zip_is_green_and_a_cut_one_is_not() {
    let Some(content) = zip() else { return };
    Restored::of("a.zip", &content).examine().must_be_clean();
    cut_everywhere("a.zip", &content, 200, |length| length == 0);
    mutate_everywhere("a.zip", &content, 300);
}

#[test]
fn a_flipped_bit_in_zipped_content_is_found() {
    let Some(content) = zip() else { return };
    let begin = content.windows(4).position(|w| w == Seeded(1).bytes(4)).unwrap();
    // The long-named file is random and therefore stored as it is.
    flip_everywhere("a.zip", &content, 100, begin..begin + 2000);
}

#[test]
fn an_encrypted_zip_is_left_out_and_not_blamed() {
    if !have(&["zip"]) {
        return;
    }
    let folder = folder();
    run(Command::new("zip").current_dir(folder.path()).args(["-q", "-P", "x", "out.zip", "a.txt"]));
    let content = std::fs::read(folder.path().join("out.zip")).unwrap();
    let report = Restored::of("a.zip", &content).examine();
    report.must_be_clean();
    assert!(report.0[0].not_verified.iter().any(|text| text.contains("encrypted")), "{report:#?}");
}
