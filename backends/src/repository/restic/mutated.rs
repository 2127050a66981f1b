//! Valid files of a repository, changed at random and read again: whatever they have become, reading them
//! ends, and never in a panic. A case that fails is repeated by its number.

use rustic_core::repofile::{ConfigFile, IndexFile, SnapshotFile};

use super::catalog::{self, Index};
use super::crypto::{decompress, unpack};
use super::key;
use super::listing::each_node;

const CASES: u64 = 20_000;

const TREE: &str = r#"{"nodes":[{"name":"file \"a\\x41\u00e4\"","type":"file","mode":420,"mtime":"2026-03-01T12:00:00.123456789+01:00","atime":"2026-03-01T12:00:00Z","ctime":"2026-03-01T12:00:00Z","uid":1000,"gid":1000,"user":"u","group":"g","inode":77,"device_id":1,"size":7,"links":2,"content":["00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"],"extended_attributes":[{"name":"user.x","value":"YWJj"}],"generic_attributes":{"x":[1,2.5e3]}},{"name":"d","type":"dir","mode":2147484141,"mtime":"2026-03-01T12:00:00Z","subtree":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","error":"no"},{"name":"l","type":"symlink","mode":134218239,"linktarget":"../x","linktarget_raw":"Li4veA=="},{"name":"c","type":"chardev","device":259}]}"#;
const INDEX: &str = r#"{"supersedes":["00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"],"packs":[{"id":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","blobs":[{"id":"ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","type":"data","offset":0,"length":40,"uncompressed_length":8},{"id":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","type":"tree","offset":40,"length":4294967295}],"time":"2026-03-01T12:00:00Z","size":7}],"packs_to_delete":[{"id":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","blobs":[]}]}"#;
const SNAPSHOT: &str = r#"{"time":"2026-03-01T12:00:00.123456789+01:00","parent":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","tree":"ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","paths":["/srv","/home"],"hostname":"h","username":"u","uid":1000,"gid":1000,"excludes":["*.tmp"],"tags":["a","b"],"original":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","program_version":"restic 0.19.1","summary":{"backup_start":"2026-03-01T12:00:00Z","backup_end":"2026-03-01T12:00:09Z","files_new":1,"files_changed":2,"files_unmodified":3,"dirs_new":1,"dirs_changed":0,"dirs_unmodified":9,"data_blobs":4,"tree_blobs":2,"data_added":100,"data_added_packed":50,"total_files_processed":6,"total_bytes_processed":700}}"#;
const CONFIG: &str = r#"{"version":2,"id":"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff","chunker_polynomial":"25b468838dcb75","compression":3,"treepack_size":7}"#;
const KEY: &str = r#"{"created":"2026-03-01T12:00:00Z","username":"u","hostname":"h","kdf":"scrypt","N":32768,"r":8,"p":1,"salt":"YWJj","data":"YWJj"}"#;

/// What a value may become.
const VALUES: [&str; 26] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "-0.0",
    "1.5",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"..\"",
    "\"9999-12-31T23:59:59.999999999Z\"",
    "\"-009999-01-01T00:00:00Z\"",
    "\"2026-02-30T25:61:61Z\"",
    "\"0001-01-01T00:00:00+23:59\"",
    "\"\\\\x\"",
    "\"\\\\U00110000\"",
    "[]",
    "{}",
    "[[[[[[[[]]]]]]]]",
    "[null]",
    "\"=\"",
    "\"ff\"",
];

/// Numbers that are the same on every run (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end.max(1) as u64).unwrap()
    }

    /// `text` with one to three changes.
    fn mutated(&mut self, text: &[u8]) -> Vec<u8> {
        let mut bytes = text.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.splice(at..at, [self.below(256) as u8]).for_each(drop),
                2 => {
                    let end = (at + self.below(40)).min(bytes.len());
                    bytes.drain(at..end);
                }
                3 => {
                    let end = (at + self.below(80)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copy).for_each(drop);
                }
                4 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
                _ => self.replace_a_value(&mut bytes, at),
            }
        }
        bytes
    }

    /// Replaces the first value that starts behind `at`.
    fn replace_a_value(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(colon) = bytes[at..].iter().position(|b| *b == b':') else { return };
        let start = at + colon + 1;
        let end = bytes[start..].iter().position(|b| b",]}".contains(b)).map_or(bytes.len(), |n| start + n);
        let value = VALUES[self.below(VALUES.len())];
        bytes.splice(start..end, value.bytes()).for_each(drop);
    }
}

/// Reads `bytes` as everything that they might be. Counts what could be read as that.
fn read(kind: usize, bytes: &[u8]) -> bool {
    match kind {
        0 => {
            let mut nodes = 0;
            let ended = each_node(bytes, |node| {
                nodes += 1;
                let Ok(node) = node else { return Ok(()) };
                let _ = (node.file_name(), node.kind(), node.permissions(), node.attributes());
                let _ = (node.inode(), node.content().count(), node.subtree(), node.written_name().len());
                if nodes > 1000 { Err("too many") } else { Ok(()) }
            });
            ended.is_ok()
        }
        1 => serde_json::from_slice::<IndexFile>(bytes).is_ok_and(|file| {
            let mut index = Index::default();
            for pack in file.packs.iter().chain(&file.packs_to_delete) {
                let _ = catalog::expected_size(pack);
                index.add(pack, Some(7));
            }
            true
        }),
        2 => serde_json::from_slice::<SnapshotFile>(bytes).is_ok_and(|file| {
            let (snapshot, _) = catalog::snapshot(&"ab".repeat(32).parse().unwrap(), &file);
            // What was read is written into evidence, and read again from there.
            let text = serde_json::to_string(&snapshot).unwrap();
            serde_json::from_str::<firedrill_core::snapshot::Snapshot>(&text).unwrap() == snapshot
        }),
        3 => serde_json::from_slice::<ConfigFile>(bytes).is_ok(),
        _ => key::parse(bytes).is_ok(),
    }
}

#[test]
fn mutated_files_are_read_without_panic() {
    let originals = [TREE, INDEX, SNAPSHOT, CONFIG, KEY];
    let mut readable = [0; 5];
    for (kind, original) in originals.iter().enumerate() {
        assert!(read(kind, original.as_bytes()), "the original {kind} cannot be read");
    }
    for case in 0..CASES {
        let mut chance = Chance(case);
        let kind = chance.below(originals.len());
        let bytes = chance.mutated(originals[kind].as_bytes());
        let text = String::from_utf8_lossy(&bytes);
        let outcome = std::panic::catch_unwind(|| read(kind, &bytes));
        let ok = outcome.unwrap_or_else(|_| panic!("case {case}: {text}"));
        readable[kind] += u32::from(ok);
    }
    // If nothing were readable any more, the changes would be too wild to test anything behind the parser.
    assert!(readable.iter().all(|count| *count > 100), "{readable:?}");
}

#[test]
fn mutated_compressed_data_is_read_without_panic() {
    let packed = zstd::encode_all(INDEX.as_bytes(), 3).unwrap();
    let mut readable = 0;
    for case in 0..CASES / 4 {
        let bytes = Chance(case).mutated(&packed);
        readable += u32::from(decompress(&bytes, 1 << 20).is_ok());
        let marked = [&[2], bytes.as_slice()].concat();
        let _ = unpack(marked, 1 << 20).is_ok_and(|json| read(1, &json));
    }
    assert!(readable > 0);
}
