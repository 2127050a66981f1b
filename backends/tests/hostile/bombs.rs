//! Little that unpacks to much.

use std::io::{Read, Write as _};

use firedrill_core::verdict::Verdict;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::craft::{Craft, Sort, folder_of};
use crate::support::place::{Bounds, SMALL, story};

const MIB: u64 = 1 << 20;
const UNPACKING: Bounds = Bounds { memory: 450 << 20, watched: false, ..SMALL };

/// Compresses `parts`, which together may be larger than memory, and hashes them.
fn packed(parts: impl Iterator<Item = Vec<u8>>) -> (Vec<u8>, String, u64) {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    let (mut hash, mut size) = (Sha256::new(), 0);
    for part in parts {
        hash.update(&part);
        size += part.len() as u64;
        encoder.write_all(&part).expect("everything can be compressed");
    }
    (encoder.finish().expect("everything can be compressed"), hex::encode(hash.finalize()), size)
}

fn zeros(mib: usize) -> impl Iterator<Item = Vec<u8>> {
    std::iter::repeat_n(vec![0; 1 << 20], mib)
}

/// A file whose only chunk is the blob `id`.
fn file_of(craft: &Craft, name: &str, id: &str, size: u64) -> serde_json::Value {
    let mut node = craft.file_node(name, "");
    node["size"] = size.into();
    node["content"] = json!([id]);
    node
}

#[test]
fn blobs_that_unpack_to_more_than_they_say() {
    story(
        "bombs::blobs_that_unpack_to_more_than_they_say",
        UNPACKING,
        |_, craft| {
            let (bomb, id, _) = packed(zeros(2048));
            craft.claim(Sort::Data, &bomb, &id, Some(1000));
            let (tree, tree_id) = ("cd".repeat(32), "ef".repeat(32));
            craft.claim(Sort::Tree, &bomb, &tree, Some(7));
            craft.claim(Sort::Tree, b"\x28\xb5\x2f\xfd and then nonsense", &tree_id, Some(1000));
            let sibling = craft.file_node("sibling", "healthy");
            let file = file_of(craft, "bomb", &id, 1000);
            let root = craft.tree([file, folder_of("folder", &tree), folder_of("noise", &tree_id), sibling]);
            craft.snapshot(&root, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["bomb", "folder/", "noise/"]);
            told.assert_file("sibling", "healthy");
        },
    );
}

/// Six blobs of 900 MiB that are just what they say: no real one comes near.
#[test]
fn blobs_that_are_as_large_as_they_say() {
    story(
        "bombs::blobs_that_are_as_large_as_they_say",
        UNPACKING,
        |_, craft| {
            let (bomb, id, size) = packed(zeros(900));
            let mut nodes = vec![craft.file_node("sibling", "healthy")];
            for number in 0..6_u8 {
                let claimed = if number == 0 { id.clone() } else { hex::encode([number; 32]) };
                craft.claim(Sort::Data, &bomb, &claimed, Some(u32::try_from(size).expect("it fits")));
                nodes.push(file_of(craft, &format!("bomb {number}"), &claimed, size));
            }
            let root = craft.tree(nodes);
            craft.snapshot(&root, "hostile");
        },
        |_, told| {
            assert_ne!(told.only().verdict, Verdict::Verified);
            told.assert_names(["bomb 1", "bomb 5"]);
            told.assert_file("sibling", "healthy");
        },
    );
}

/// Bombs that are refused for what they claim, and bombs that are just small enough to be unpacked.
const SIZES: [usize; 2] = [900, 110];

fn tree_of(craft: &Craft, start: &str, middle: &[u8], times: usize, end: &str) -> String {
    let (start, end) = (start.as_bytes().to_vec(), end.as_bytes().to_vec());
    let parts = std::iter::once(start).chain(std::iter::repeat_n(middle.to_vec(), times)).chain([end]);
    let (bomb, id, size) = packed(parts);
    craft.claim(Sort::Tree, &bomb, &id, Some(u32::try_from(size).expect("it fits")));
    id
}

/// Trees of very many nodes that are all alike.
#[test]
fn trees_that_unpack_to_millions_of_nodes() {
    story(
        "bombs::trees_that_unpack_to_millions_of_nodes",
        UNPACKING,
        |_, craft| {
            let node = br#"{"name":"x","type":"file"},"#.repeat(38_000);
            let mut nodes = vec![craft.file_node("sibling", "healthy")];
            for size in SIZES {
                let last = r#"{"name":"y","type":"file"}]}"#;
                let id = tree_of(craft, r#"{"nodes":["#, &node, size, last);
                nodes.push(folder_of(&format!("bomb of {size}"), &id));
            }
            let root = craft.tree(nodes);
            craft.snapshot(&root, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["bomb of 900/", "bomb of 110/"]);
            told.assert_file("sibling", "healthy");
        },
    );
}

/// One node with very many chunks.
#[test]
fn nodes_that_unpack_to_many_chunks() {
    story(
        "bombs::nodes_that_unpack_to_many_chunks",
        UNPACKING,
        |_, craft| {
            let chunk = craft.data("chunk");
            let ids = format!("\"{chunk}\",").repeat(15_000).into_bytes();
            let mut nodes = vec![craft.file_node("sibling", "healthy")];
            for size in SIZES {
                let start = r#"{"nodes":[{"name":"chunks","type":"file","content":["#;
                let id = tree_of(craft, start, &ids, size, &format!("\"{chunk}\"]}}]}}"));
                nodes.push(folder_of(&format!("bomb of {size}"), &id));
            }
            let root = craft.tree(nodes);
            craft.snapshot(&root, "hostile");
        },
        |_, told| assert_ne!(told.only().verdict, Verdict::Verified),
    );
}

/// One node with a very long name.
#[test]
fn nodes_that_unpack_to_a_long_name() {
    story(
        "bombs::nodes_that_unpack_to_a_long_name",
        UNPACKING,
        |_, craft| {
            let mut nodes = vec![craft.file_node("sibling", "healthy")];
            for size in SIZES {
                let start = r#"{"nodes":[{"type":"file","name":""#;
                let id = tree_of(craft, start, &vec![b'n'; 1 << 20], size, r#""}]}"#);
                nodes.push(folder_of(&format!("bomb of {size}"), &id));
            }
            let root = craft.tree(nodes);
            craft.snapshot(&root, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["bomb of 900/", "bomb of 110/n"]);
            told.assert_file("sibling", "healthy");
        },
    );
}

#[test]
fn indexes_and_snapshots_that_unpack_to_much() {
    story(
        "bombs::indexes_and_snapshots_that_unpack_to_much",
        UNPACKING,
        |_, craft| {
            let file = craft.file_node("file", "content");
            let tree = craft.tree([file]);
            craft.snapshot(&tree, "hostile");
            // White space is fine in JSON, and so are many packs without blobs.
            let (spaces, _, _) = packed(std::iter::repeat_n(vec![b' '; 1 << 20], 4000));
            for number in 0..6 {
                // Each differs in a skippable frame, so that each is a file of its own.
                let frame = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, number];
                let plain = [&[2], frame.as_slice(), &spaces].concat();
                craft.index(&plain);
            }
            let pack = format!(r#"{{"id":"{}","blobs":[]}},"#, "ab".repeat(32)).repeat(10_000).into_bytes();
            let (packs, _, _) = packed(
                std::iter::once(br#"{"packs":["#.to_vec())
                    .chain(std::iter::repeat_n(pack, 800))
                    .chain([br#"{"id":"00","blobs":[]}]}"#.to_vec()]),
            );
            craft.index(&[&[2], packs.as_slice()].concat());
            for number in 0..6 {
                let plain = [&[2], [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, number].as_slice(), &spaces].concat();
                craft.snapshot_bytes(&plain);
            }
        },
        |_, told| {
            told.assert_verdict(Verdict::Verified);
            assert_eq!(told.judgement.verdict, Verdict::Failed);
            told.assert_names(["index/", "snapshots/"]);
        },
    );
}

/// Files inside of a restore are unpacked by probes.
#[test]
fn restored_files_that_unpack_to_much() {
    story(
        "bombs::restored_files_that_unpack_to_much",
        UNPACKING,
        |_, craft| {
            let mut gzip =
                flate2::read::GzEncoder::new(std::io::repeat(0).take(512 * MIB), flate2::Compression::fast());
            let mut bomb = Vec::new();
            gzip.read_to_end(&mut bomb).expect("everything can be compressed");
            let (zst, _, _) = packed(zeros(512));
            let root = [craft.file_node("dump.sql.gz", &bomb), craft.file_node("dump.tar.zst", &zst)];
            let root = craft.tree(root);
            craft.snapshot(&root, "hostile");
        },
        |_, told| assert!(told.only().kept.is_some()),
    );
}
