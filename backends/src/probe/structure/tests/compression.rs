use std::process::Command;

use super::super::fixture::{Restored, Seeded, cut_everywhere, flip_everywhere, have, pipe};

/// Text that no format claims, so that only the compression is judged.
fn text() -> Vec<u8> {
    let mut seeded = Seeded(5);
    (0..400).flat_map(|n| format!("line {n} {:x}\n", seeded.next()).into_bytes()).collect()
}

fn compressed(tool: &str) -> Option<Vec<u8>> {
    have(&[tool]).then(|| pipe(Command::new(tool).arg("-c"), &text()))
}

#[test]
fn whole_streams_are_green_whatever_they_hold() {
    for (tool, name) in [("gzip", "a.log.gz"), ("zstd", "a.log.zst"), ("xz", "a.log.xz")] {
        let Some(content) = compressed(tool) else { continue };
        Restored::of(name, &content).examine().must_be_clean();
        // Several members one after the other are one stream.
        Restored::of(name, &[content.clone(), content].concat()).examine().must_be_clean();
    }
}

#[test]
fn a_cut_stream_is_never_green() {
    for (tool, name) in [("gzip", "a.log.gz"), ("zstd", "a.log.zst"), ("xz", "a.log.xz")] {
        let Some(content) = compressed(tool) else { continue };
        // Nothing at all is left of a file whose name claims no dump: that may be normal.
        cut_everywhere(name, &content, 200, |length| length == 0);
        cut_everywhere(&name.replace("log", "sql"), &content, 40, |_| false);
    }
}

#[test]
fn a_flipped_bit_is_found() {
    for (tool, name, header) in [("gzip", "a.sql.gz", 10), ("zstd", "a.sql.zst", 0), ("xz", "a.sql.xz", 0)] {
        let Some(mut content) = compressed(tool) else { continue };
        if tool == "gzip" {
            // The first ten bytes of gzip hold time and system, which no checksum covers.
            assert_eq!(content[..3], [0x1f, 0x8b, 8]);
            content = pipe(Command::new("gzip").args(["-n", "-c"]), &text());
        }
        flip_everywhere(name, &content, 150, header..content.len());
    }
}

#[test]
fn damage_is_told_from_truncation() {
    let Some(content) = compressed("gzip") else { return };
    let cut = Restored::of("a.sql.gz", &content[..content.len() - 20]).examine();
    cut.must_find("gzip.truncated");
    let mut flipped = content.clone();
    let checksum = flipped.len() - 6;
    flipped[checksum] ^= 1;
    Restored::of("a.sql.gz", &flipped).examine().must_find("gzip.damaged");
    // The length of the content is in the trailer too.
    let mut wrong_length = content;
    let length = wrong_length.len() - 2;
    wrong_length[length] ^= 1;
    Restored::of("a.sql.gz", &wrong_length).examine().must_find("gzip.damaged");
}

#[test]
fn padding_is_no_garbage_and_garbage_is_no_padding() {
    let Some(content) = compressed("gzip") else { return };
    Restored::of("a.log.gz", &[content.clone(), vec![0; 700]].concat()).examine().must_be_clean();
    let report =
        Restored::of("a.log.gz", &[&content[..], b"tail of an older, longer file"].concat()).examine();
    report.must_find("gzip.trailing");
}

#[test]
fn a_gzip_of_nothing_is_no_dump() {
    if !have(&["gzip", "zstd", "xz"]) {
        return;
    }
    for (tool, ending) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz")] {
        let nothing = pipe(Command::new(tool).arg("-c"), b"");
        let report = Restored::of(&format!("app.sql.{ending}"), &nothing).examine();
        report.must_find(&format!("{tool}.empty"));
        // A rotated log may well be empty.
        Restored::of(&format!("app.log.{ending}"), &nothing).examine().must_be_clean();
    }
}

#[test]
fn streams_that_need_more_memory_than_we_give_are_not_called_damaged() {
    if !have(&["zstd"]) {
        return;
    }
    // `--long=31` asks the decoder for a window of 2 GiB; only the header has to say so.
    let huge_window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    let report = Restored::of("a.sql.zst", &huge_window).examine();
    assert!(report.findings().is_empty(), "{report:#?}");
    assert!(report.interrupted().is_some_and(|reason| reason.contains("memory")), "{report:#?}");
}

#[test]
fn a_decompression_bomb_is_given_up_and_not_called_damaged() {
    if !have(&["zstd"]) {
        return;
    }
    // Tests run with a bound of 64 MiB.
    let bomb = pipe(Command::new("zstd").args(["-q", "-c"]), &vec![0; 80 << 20]);
    let report = Restored::of("a.log.zst", &bomb).examine();
    assert!(report.findings().is_empty(), "{report:#?}");
    assert!(report.interrupted().is_some_and(|reason| reason.contains("grows beyond")), "{report:#?}");
    assert_eq!(report.0[0].checked, 0);
}

#[test]
fn broken_archives_among_the_test_data_of_a_program_are_noted() {
    let Some(content) = compressed("gzip") else { return };
    let cut = &content[..content.len() / 2];
    let report = Restored::of("app/node_modules/gz/tests/bad.gz", cut).examine();
    assert!(report.must_be_clean().notes().contains("among test data"), "{report:#?}");
    Restored::of("lib/python3.11/test/bad.gz", cut).examine().must_be_clean();
    Restored::of("backups/test/bad.gz", cut).examine().must_find("gzip.truncated");
}
