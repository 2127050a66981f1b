//! Sizes, ids, owners, modes and times that lie.

use std::os::unix::fs::MetadataExt as _;

use firedrill_core::verdict::Verdict;
use serde_json::{Value, json};

use crate::support::craft::{Sort, folder_of, with};
use crate::support::place::{SMALL, story};

#[test]
fn sizes_that_lie() {
    story(
        "numbers::sizes_that_lie",
        SMALL,
        |_, craft| {
            let small = craft.file_node("small", "5 byte");
            let tree = craft.tree([
                craft.file_node("healthy", "healthy"),
                with(small.clone(), "size", 1_u64 << 62),
                with(with(small.clone(), "name", "largest"), "size", u64::MAX),
                with(with(small.clone(), "name", "sparse.img"), "size", 1_u64 << 40),
                with(with(small.clone(), "name", "shorter"), "size", 2),
                with(with(small.clone(), "name", "zero"), "size", 0),
                with(with(craft.file_node("empty", ""), "size", u64::MAX), "content", json!([])),
                craft.file_node("z healthy", "healthy, too"),
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["small", "largest", "sparse.img", "shorter", "zero", "empty"]);
            told.assert_file("healthy", "healthy");
            told.assert_file("z healthy", "healthy, too");
            for name in ["small", "largest", "sparse.img", "shorter", "zero", "empty"] {
                let length = told.root().join(name).symlink_metadata().map_or(0, |meta| meta.len());
                assert!(length < 1 << 20, "{name} was made with {length} bytes");
            }
        },
    );
}

#[test]
fn content_that_does_not_exist() {
    story(
        "numbers::content_that_does_not_exist",
        SMALL,
        |_, craft| {
            let nowhere = "00".repeat(32);
            let (first, last) = (craft.data("first part, "), craft.data("last part"));
            let mut holed = craft.file_node("holed", "");
            holed["size"] = 100.into();
            holed["content"] = json!([first, nowhere, last]);
            let whole = craft.file_node("whole", "whole");
            let gone = with(with(whole.clone(), "name", "gone"), "content", json!([nowhere]));
            let tree = craft.tree([
                holed,
                gone,
                folder_of("no tree", &"11".repeat(32)),
                with(folder_of("no subtree", ""), "subtree", Value::Null),
                whole,
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["holed", "gone", "no tree", "no subtree", "in no index"]);
            told.assert_file("whole", "whole");
        },
    );
}

/// Blobs that are indexed under the id of something else.
#[test]
fn content_that_is_other_content() {
    story(
        "numbers::content_that_is_other_content",
        SMALL,
        |_, craft| {
            let claimed = "ab".repeat(32);
            let packed = zstd::encode_all(&b"planted"[..], 3).expect("compressed");
            craft.claim(Sort::Data, &packed, &claimed, Some(7));
            craft.claim(Sort::Tree, br#"{"nodes":[]}"#, &"cd".repeat(32), None);
            let mut file = craft.file_node("file", "");
            file["size"] = 7.into();
            file["content"] = json!([claimed]);
            let tree = craft.tree([file, folder_of("folder", &"cd".repeat(32))]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["file", "folder", "SHA-256"]);
        },
    );
}

#[test]
fn metadata_out_of_every_range() {
    story(
        "numbers::metadata_out_of_every_range",
        SMALL,
        |_, craft| {
            let plain = craft.file_node("plain", "content");
            let named =
                |name: &str, field: &str, value: Value| with(with(plain.clone(), "name", name), field, value);
            let tree = craft.tree([
                named("year 10000", "mtime", json!("10000-01-01T00:00:00Z")),
                named("year 9999", "mtime", json!("9999-12-30T23:59:59.999999999Z")),
                named("year 0", "mtime", json!("0001-01-01T00:00:00Z")),
                named("year -9999", "mtime", json!("-009999-01-02T03:04:05Z")),
                named("before 1970", "mtime", json!("1969-12-31T23:59:59.5Z")),
                named("no time", "mtime", json!("yesterday")),
                named("mode", "mode", json!(u32::MAX)),
                named("no mode", "mode", json!(0)),
                named("links", "links", json!(u64::MAX)),
                named("inode", "inode", json!(u64::MAX)),
                plain.clone(),
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            // No time that a file system can keep is no damage; nothing here loses content.
            assert_ne!(told.only().verdict, Verdict::Failed, "{:#?}", told.only());
            for name in ["plain", "year 10000", "year 0", "year -9999", "no time", "links"] {
                told.assert_file(name, "content");
            }
            let mode = told.root().join("mode").symlink_metadata().expect("it is there").mode();
            assert_eq!(mode & 0o6000, 0, "setuid or setgid was set on a file");
        },
    );
}

#[test]
fn numbers_that_are_none() {
    story(
        "numbers::numbers_that_are_none",
        SMALL,
        |_, craft| {
            let plain = craft.file_node("plain", "content");
            let wrong = [
                ("mode", json!(-1)),
                ("mode", json!(1_u64 << 40)),
                ("size", json!(-5)),
                ("size", json!(1.5)),
                ("size", json!("7")),
                ("size", json!(1e300)),
                ("uid", json!(-1)),
                ("uid", json!(1_u64 << 33)),
                ("gid", json!("root")),
                ("inode", json!(-1)),
                ("links", json!([])),
                ("content", json!("not a list")),
                ("content", json!([7])),
                ("content", json!(["short"])),
                ("content", json!([null])),
                ("mtime", json!(7)),
            ];
            let mut nodes = vec![plain.clone()];
            for (number, (field, value)) in wrong.into_iter().enumerate() {
                nodes.push(with(with(plain.clone(), "name", format!("wrong {number:02}")), field, value));
            }
            nodes.push(with(plain, "name", "z plain"));
            let tree = craft.tree(nodes);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            let names: Vec<_> = (0..16).map(|number| format!("wrong {number:02}")).collect();
            told.assert_names(names.iter().map(String::as_str));
            told.assert_file("plain", "content");
            told.assert_file("z plain", "content");
        },
    );
}

/// The largest number means "leave it" to the kernel: an entry that belongs to nobody must not look as if
/// its owner had been restored.
#[test]
fn owners_that_nobody_can_be() {
    story(
        "numbers::owners_that_nobody_can_be",
        SMALL,
        |_, craft| {
            let file = craft.file_node("file", "content");
            let tree = craft.tree([
                with(with(file.clone(), "name", "nobody"), "uid", u32::MAX),
                with(with(file, "name", "no group"), "gid", u32::MAX),
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            assert_ne!(told.only().verdict, Verdict::Verified, "{:#?}", told.only());
            told.assert_file("nobody", "content");
            told.assert_file("no group", "content");
        },
    );
}
