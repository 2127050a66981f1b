use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::fixture::{Restored, Seeded};

/// Beginnings that lead into each parser, with a name for those that need one.
const BEGINNINGS: [(&str, &[u8]); 14] = [
    ("a.sql.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
    ("a.sql.zst", b"\x28\xb5\x2f\xfd"),
    ("a.sql.xz", b"\xfd7zXZ\0\0\x04"),
    ("a.zip", b"PK\x03\x04"),
    ("b.zip", b"PK\x05\x06"),
    ("a.dump", b"PGDMP\x01\x0e\0\x04\x08\x01"),
    ("b.dump", b"PGDMP\x01\x10\0\x08\x08\x01\x03"),
    ("toc.dat", b"PGDMP\x01\x0e\0\x04\x08\x03"),
    ("a.xb", b"XBSTCK01\0P\x01\0\0\0a"),
    ("b.xb", b"XBSTCK01\0R\x01\0\0\0a"),
    ("a.sql", b"-- PostgreSQL database dump\n\nCOPY a FROM stdin;\n"),
    ("b.sql", b"-- MySQL dump 10\nINSERT INTO a VALUES ('"),
    ("c.sql", b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n"),
    ("etcd-snapshot-1700000000", b"\0\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\xed\xda\x0c\xed\x02\0\0\0\0\x10\0\0"),
];

#[test]
fn random_bytes_end_every_parser_quickly_and_never_green() {
    let mut seeded = Seeded(99);
    let begin = Instant::now();
    for round in 0..60 {
        for (name, beginning) in BEGINNINGS {
            let length = seeded.below(3000);
            let content = [beginning, &seeded.bytes(length)].concat();
            let report = Restored::of(name, &content).examine();
            assert!(!report.looks_green(), "round {round}, {name}: {report:#?}");
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(120));
}

#[test]
fn a_tar_that_claims_more_than_it_has_is_cut_and_not_believed() {
    let mut block = [0_u8; 512];
    block[..9].copy_from_slice(b"large.bin");
    // 2^56 bytes in the binary form of a size, and an extended header of as many.
    block[124] = 0x80;
    block[128] = 1;
    for kind in [b'0', b'x', b'L'] {
        block[156] = kind;
        block[257..263].copy_from_slice(b"ustar\0");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let report = Restored::of("a.tar", &[&block[..], b"and so on"].concat()).examine();
        report.must_find("tar.truncated");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_beginnings_never_panic(
        which in 0..BEGINNINGS.len(),
        body in proptest::collection::vec(any::<u8>(), 0..800),
        place in 0..40_usize,
        value in any::<u8>(),
    ) {
        let (name, beginning) = BEGINNINGS[which];
        let mut content = [beginning, &body].concat();
        if let Some(byte) = content.get_mut(place) {
            *byte = value;
        }
        let _any_report_will_do = Restored::of(name, &content).examine();
    }
}
