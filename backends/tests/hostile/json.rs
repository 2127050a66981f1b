//! Trees, snapshots and indexes that are not what they should be.

use firedrill_core::verdict::Verdict;
use serde_json::{Value, json};

use crate::support::craft::{Sort, folder_of, snapshot, with};
use crate::support::place::{Bounds, SMALL, story};

#[test]
fn trees_that_are_no_trees() {
    story(
        "json::trees_that_are_no_trees",
        SMALL,
        |_, craft| {
            let healthy = craft.file_node("inside", "inside");
            let cut = json!({ "nodes": [healthy] }).to_string();
            let texts: [(&str, &[u8]); 12] = [
                ("empty", b""),
                ("zeros", &[0; 100]),
                ("noise", b"\x93\xfe\x00\x12not json"),
                ("number", b"7"),
                ("list", b"[]"),
                ("text", b"\"nodes\""),
                ("cut", &cut.as_bytes()[..cut.len() - 2]),
                ("nested", &[b'['; 100_000]),
                ("nodes is a number", br#"{"nodes":7}"#),
                ("nodes twice", br#"{"nodes":[],"nodes":[{"name":"x","type":"file"}]}"#),
                ("more", br#"{"nodes":[]} {"nodes":[]}"#),
                ("not utf-8", b"{\"nodes\":[{\"name\":\"\xff\xfe\",\"type\":\"file\"}]}"),
            ];
            let mut nodes = vec![craft.file_node("a healthy file", "healthy")];
            for (name, text) in texts {
                let id = craft.blob(Sort::Tree, text);
                nodes.push(folder_of(name, &id));
            }
            nodes.push(craft.file_node("z healthy file", "healthy"));
            let tree = craft.tree(nodes);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names([
                "empty/",
                "zeros/",
                "noise/",
                "number/",
                "list/",
                "text/",
                "cut/",
                "nested/",
                "nodes is a number/",
                "nodes twice/",
                "more/",
                "not utf-8/",
            ]);
            told.assert_file("a healthy file", "healthy");
            told.assert_file("z healthy file", "healthy");
        },
    );
}

#[test]
fn nodes_that_are_no_nodes() {
    story(
        "json::nodes_that_are_no_nodes",
        SMALL,
        |_, craft| {
            let empty = craft.blob(Sort::Tree, br#"{"nodes":null}"#);
            let without = craft.blob(Sort::Tree, b"{}");
            let plain = craft.file_node("plain", "content");
            let tree = craft.tree([
                plain.clone(),
                Value::Null,
                json!([]),
                json!({}),
                json!("node"),
                with(with(plain.clone(), "name", "unknown fields"), "future", json!({ "deep": [[[1]]] })),
                with(with(plain.clone(), "name", "no ids"), "subtree", "zz"),
                with(plain.clone(), "name", 7),
                with(plain.clone(), "name", Value::Null),
                folder_of("null", &empty),
                folder_of("without", &without),
                with(plain, "name", "z plain"),
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["no ids"]);
            for name in ["plain", "z plain", "unknown fields"] {
                told.assert_file(name, "content");
            }
            assert!(told.root().join("null").is_dir() && told.root().join("without").is_dir());
        },
    );
}

/// Fifty megabytes that look like a tree until they do not.
#[test]
fn much_garbage() {
    story(
        "json::much_garbage",
        Bounds { memory: 300 << 20, watched: false, ..SMALL },
        |_, craft| {
            let mut state = 7_u64;
            let mut garbage = br#"{"nodes":["#.to_vec();
            while garbage.len() < 50 << 20 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                garbage.extend(state.to_le_bytes());
            }
            let garbage = craft.blob(Sort::Tree, &garbage);
            // And as many well-formed nodes that mean nothing.
            let nodes = format!(r#"{{"nodes":[{}7]}}"#, "{},".repeat((50 << 20) / 3));
            let nodes = craft.blob(Sort::Tree, nodes.as_bytes());
            let sibling = craft.file_node("sibling", "healthy");
            let tree = craft.tree([folder_of("garbage", &garbage), folder_of("nodes", &nodes), sibling]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            assert_ne!(told.only().verdict, Verdict::Verified);
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["garbage/", "nodes/", "more than"]);
            told.assert_file("sibling", "healthy");
        },
    );
}

#[test]
fn snapshots_that_are_no_snapshots() {
    story(
        "json::snapshots_that_are_no_snapshots",
        SMALL,
        |_, craft| {
            let file = craft.file_node("file", "content");
            let tree = craft.tree([file]);
            craft.snapshot(&tree, "healthy");
            let good = snapshot(&tree, "hostile");
            for (field, value) in [
                ("time", json!("yesterday")),
                ("time", json!("10000-01-01T00:00:00Z")),
                ("time", Value::Null),
                ("tree", json!("zz")),
                ("tree", Value::Null),
                ("paths", json!(7)),
                ("tags", json!({})),
                ("hostname", json!([])),
                ("uid", json!(-1)),
                ("summary", json!("none")),
                ("summary", json!({ "total_files_processed": -1 })),
            ] {
                craft.snapshot_text(&with(good.clone(), field, value).to_string());
            }
            for text in ["", "{", "[]", "7", "{}", "\u{2}", "\u{2}not zstd", "{\"time\":"] {
                craft.snapshot_text(text);
            }
            craft.snapshot_text(&"[".repeat(100_000));
        },
        |_, told| {
            assert_eq!(told.judgement.verdict, Verdict::Failed);
            told.assert_verdict(Verdict::Verified);
            told.assert_file("file", "content");
            assert!(told.findings().filter(|f| f.code == "repository.snapshot").count() >= 18);
        },
    );
}

/// Names that end up in folders, reports and messages must not lead anywhere, nor break them.
#[test]
fn snapshots_with_odd_names() {
    story(
        "json::snapshots_with_odd_names",
        SMALL,
        |_, craft| {
            let file = craft.file_node("file", "content");
            let tree = craft.tree([file]);
            for tag in
                ["../../../etc/cron.d/x", "/etc", "a\nb", "a\u{1b}[31m", "a::b", "", "\u{202e}txt", "a\0b"]
            {
                craft.snapshot(&tree, tag);
            }
            let mut odd = snapshot(&tree, "host");
            odd["hostname"] = "../../host\n".into();
            odd["paths"] = json!(["", "../..", "/a\0b", "\n"]);
            craft.snapshot_text(&odd.to_string());
        },
        |_, told| {
            assert!(told.judgement.drills.len() >= 8, "{:#?}", told.judgement.drills);
            for drill in &told.judgement.drills {
                let kept = drill.kept.as_deref().unwrap_or_else(|| panic!("{drill:#?}"));
                assert!(std::path::Path::new(kept).join("file").is_file(), "{drill:#?}");
            }
        },
    );
}

#[test]
fn snapshots_that_claim_too_much() {
    story(
        "json::snapshots_that_claim_too_much",
        Bounds { memory: 200 << 20, watched: false, ..SMALL },
        |_, craft| {
            let file = craft.file_node("file", "content");
            let tree = craft.tree([file]);
            let mut much = snapshot(&tree, "much");
            much["summary"] = json!({
                "total_files_processed": u64::MAX, "total_bytes_processed": u64::MAX, "files_new": u64::MAX,
                "files_changed": u64::MAX, "files_unmodified": u64::MAX, "dirs_new": u64::MAX,
                "dirs_changed": u64::MAX, "dirs_unmodified": u64::MAX, "data_blobs": u64::MAX,
                "tree_blobs": u64::MAX, "data_added": u64::MAX, "data_added_packed": u64::MAX,
                "backup_start": "1900-01-01T00:00:00Z", "backup_end": "2900-01-01T00:00:00Z",
            });
            craft.snapshot_text(&much.to_string());
            // A list of files that was given to the backup program ends up in the snapshot, too.
            let paths: Vec<String> = (0..50_000).map(|n| format!("/srv/files/some/where/file {n}")).collect();
            craft.snapshot_text(&with(snapshot(&tree, "paths"), "paths", paths.clone()).to_string());
            let untagged = with(snapshot(&tree, ""), "tags", json!([]));
            craft.snapshot_text(&with(untagged, "paths", paths).to_string());
        },
        |_, told| {
            // Nothing of this is wrong.
            assert_eq!(told.findings().count(), 0, "{:#?}", told.judgement);
            assert_eq!(told.judgement.drills.len(), 3);
            let longest = told.judgement.drills.iter().map(|drill| drill.name.0.len()).max();
            assert!(longest < Some(20_000), "{longest:?}");
            for drill in &told.judgement.drills {
                assert!(drill.kept.is_some(), "{drill:#?}");
            }
        },
    );
}

/// Every tag makes a drill, and every drill carries what its snapshot says of itself.
#[test]
fn snapshots_that_say_too_much() {
    story(
        "json::snapshots_that_say_too_much",
        Bounds { memory: 200 << 20, watched: false, ..SMALL },
        |_, craft| {
            let file = craft.file_node("file", "content");
            let tree = craft.tree([file]);
            let paths: Vec<String> = (0..50_000).map(|n| format!("/srv/files/some/where/file {n}")).collect();
            let tags: Vec<String> = (0..3000).map(|n| format!("tag {n}")).collect();
            let flood = with(with(snapshot(&tree, ""), "paths", paths), "tags", tags);
            craft.snapshot_text(&flood.to_string());
            craft.snapshot_text(&with(snapshot(&tree, "host"), "hostname", "h".repeat(10 << 20)).to_string());
            craft.snapshot_text(&with(snapshot(&tree, "time"), "time", "t".repeat(10 << 20)).to_string());
            craft.snapshot(&tree, &"x".repeat(5 << 20));
            let path = format!("/{}", "p".repeat(5 << 20));
            craft.snapshot_text(&with(snapshot(&tree, "path"), "paths", json!([path])).to_string());
        },
        |_, told| {
            assert_eq!(told.judgement.verdict, Verdict::Failed);
            assert_eq!(told.judgement.drills.len(), 103);
            told.assert_names([
                "3000 tags, of which 100 are drilled",
                "a host name of 10485760 bytes",
                "a tag of 5242880 bytes",
                "a path of 5242881 bytes",
            ]);
            let excess = told.findings().filter(|f| f.code == "repository.snapshot_excess").count();
            assert_eq!(excess, 4);
            assert!(told.findings().all(|f| f.seen.len() < 5000), "a finding is as long as a snapshot");
            for drill in &told.judgement.drills {
                assert!(drill.kept.is_some() && drill.name.0.len() < 2000, "{drill:#?}");
            }
        },
    );
}

#[test]
fn indexes_that_lie() {
    story(
        "json::indexes_that_lie",
        SMALL,
        |_, craft| {
            let file = craft.file_node("file", "content");
            let tree = craft.tree([file]);
            craft.snapshot(&tree, "hostile");
            let id = "ab".repeat(32);
            let place = |offset: u32, length: u32, size: Option<u32>| {
                let mut blob = json!({ "id": id, "type": "data", "offset": offset, "length": length });
                if let Some(size) = size {
                    blob["uncompressed_length"] = size.into();
                }
                json!({ "packs": [{ "id": "cd".repeat(32), "blobs": [blob] }] }).to_string()
            };
            for text in [
                place(u32::MAX, u32::MAX, Some(u32::MAX)),
                place(0, 0, None),
                place(0, 31, Some(1)),
                place(0, 40, Some(0)),
                json!({ "packs": [{ "id": "../../etc/passwd", "blobs": [] }] }).to_string(),
                json!({ "packs": null }).to_string(),
                json!({ "packs": [], "supersedes": ["zz"] }).to_string(),
                "{}".to_owned(),
                "7".to_owned(),
                String::new(),
                "[".repeat(100_000),
            ] {
                craft.index(text.as_bytes());
            }
        },
        |_, told| {
            // The blobs of the one good index are all there; the copy as a whole is not what it should be.
            told.assert_verdict(Verdict::Verified);
            told.assert_file("file", "content");
            assert_eq!(told.judgement.verdict, Verdict::Failed);
            assert!(told.findings().any(|f| f.code == "repository.index"), "{:#?}", told.judgement);
            assert!(told.findings().any(|f| f.code == "repository.pack_missing"), "{:#?}", told.judgement);
        },
    );
}
