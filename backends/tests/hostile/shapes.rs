//! Trees that are too deep, too wide, or name each other too often.

use std::os::unix::ffi::OsStrExt as _;

use firedrill_core::verdict::Verdict;
use serde_json::Value;

use crate::support::craft::{Craft, Sort, folder_of, node};
use crate::support::place::{Bounds, SMALL, story};

const MANY_FILES: Bounds = Bounds { memory: 400 << 20, watched: false, in_memory: true };
const UNFOLDING: Bounds = Bounds { memory: 400 << 20, watched: false, ..SMALL };

/// Trees that each name the next one `width` times.
fn unfolding(craft: &Craft, levels: usize, width: usize, name: impl Fn(usize) -> String) -> String {
    let file = craft.file_node("file", "the end");
    let mut tree = craft.tree([file]);
    for _ in 0..levels {
        let folders: Vec<Value> = (0..width).map(|number| folder_of(&name(number), &tree)).collect();
        tree = craft.tree(folders);
    }
    tree
}

#[test]
fn twelve_trees_that_unfold_to_a_million_millions() {
    story(
        "shapes::twelve_trees_that_unfold_to_a_million_millions",
        UNFOLDING,
        |_, craft| {
            let tree = unfolding(craft, 12, 10, |number| format!("{number}"));
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            assert_ne!(told.only().verdict, Verdict::Verified);
            assert!(told.reasons().iter().any(|r| r.contains("entries")), "{:#?}", told.reasons());
        },
    );
}

#[test]
fn trees_that_unfold_to_long_paths() {
    story(
        "shapes::trees_that_unfold_to_long_paths",
        UNFOLDING,
        |_, craft| {
            // Two names per level: the paths grow while the entries stay few.
            let tree = unfolding(craft, 125, 2, |number| format!("{number:0>250}"));
            craft.snapshot(&tree, "hostile");
        },
        |_, told| assert_ne!(told.only().verdict, Verdict::Verified),
    );
}

/// What a snapshot may name more than once: an empty folder is the same tree wherever it lies.
#[test]
fn the_same_empty_folder_ten_thousand_times() {
    story(
        "shapes::the_same_empty_folder_ten_thousand_times",
        Bounds { watched: false, in_memory: true, ..SMALL },
        |_, craft| {
            let empty = craft.tree([]);
            let mut folders: Vec<Value> =
                (0..10_000).map(|number| folder_of(&format!("folder {number}"), &empty)).collect();
            folders.push(craft.file_node("file", "content"));
            let tree = craft.tree(folders);
            craft.snapshot(&tree, "healthy");
        },
        |_, told| {
            told.assert_verdict(Verdict::Verified);
            assert_eq!(told.restored().len(), 10_001);
        },
    );
}

#[test]
fn five_thousand_folders_in_each_other() {
    story(
        "shapes::five_thousand_folders_in_each_other",
        Bounds { memory: 400 << 20, watched: false, ..SMALL },
        |_, craft| {
            let bottom = craft.file_node("bottom.db", [b"SQLite format 3\0".as_slice(), &[0; 84]].concat());
            let mut tree = craft.tree([bottom]);
            for _ in 0..5000 {
                tree = craft.tree([folder_of("d", &tree)]);
            }
            let sibling = craft.file_node("sibling", "healthy");
            let tree = craft.tree([folder_of("deep", &tree), sibling]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_file("sibling", "healthy");
            let tree = told.only().examinations.iter().find(|e| e.probe == "tree").expect("it ran");
            assert_eq!(tree.checked, 5003, "{tree:#?}");
            assert_eq!(tree.interrupted, None);
        },
    );
}

#[test]
fn paths_longer_than_any() {
    story(
        "shapes::paths_longer_than_any",
        Bounds { memory: 200 << 20, watched: false, ..SMALL },
        |_, craft| {
            let bottom = craft.file_node("bottom", "bottom");
            let mut tree = craft.tree([bottom]);
            for _ in 0..400 {
                tree = craft.tree([folder_of(&"d".repeat(255), &tree)]);
            }
            let sibling = craft.file_node("sibling", "healthy");
            let tree = craft.tree([folder_of("deep", &tree), sibling]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["a path of more than"]);
            told.assert_file("sibling", "healthy");
        },
    );
}

#[test]
fn two_hundred_thousand_entries_in_a_folder() {
    story(
        "shapes::two_hundred_thousand_entries_in_a_folder",
        MANY_FILES,
        |_, craft| {
            // Links are the cheapest entries to make and to remove.
            let mut json = String::with_capacity(40 << 20);
            json.push_str(r#"{"nodes":["#);
            for number in 0..200_000 {
                if number > 0 {
                    json.push(',');
                }
                json.push_str(&format!(
                    r#"{{"name":"entry {number}","type":"symlink","linktarget":"{number}"}}"#
                ));
            }
            json.push_str("]}");
            let wide = craft.blob(Sort::Tree, json.as_bytes());
            let sibling = craft.file_node("sibling", "healthy");
            let tree = craft.tree([sibling, folder_of("wide", &wide)]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_file("sibling", "healthy");
            let tree = told.only().examinations.iter().find(|e| e.probe == "tree").expect("it ran");
            assert_eq!(tree.checked, 200_002, "{tree:#?}");
        },
    );
}

#[test]
fn names_as_long_as_can_be_and_one_byte_longer() {
    story(
        "shapes::names_as_long_as_can_be_and_one_byte_longer",
        SMALL,
        |_, craft| {
            let (fits, too_long) = ("f".repeat(255), "l".repeat(256));
            let inside = craft.file_node("inside", "lost with its folder");
            let tree = craft.tree([
                craft.file_node("a sibling", "healthy"),
                craft.file_node(&fits, "fits"),
                craft.file_node(&too_long, "does not fit"),
                craft.folder_node(&"m".repeat(256), [inside]),
                node(&"n".repeat(300), "fifo", 0o644),
                // 255 letters, and more bytes than that.
                craft.file_node(&"ä".repeat(255), "does not fit either"),
                craft.file_node("z sibling", "healthy, too"),
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            // Another file system has room for such names: the backup may be fine.
            told.assert_verdict(Verdict::Inconclusive);
            told.assert_file("a sibling", "healthy");
            told.assert_file("z sibling", "healthy, too");
            told.assert_file(&"f".repeat(255), "fits");
            let longest = told.restored().iter().map(|name| std::ffi::OsStr::from_bytes(name).len()).max();
            assert_eq!(longest, Some(255));
            let said = told.reasons().join("\n");
            assert!(said.contains(&"l".repeat(256)) || said.contains("name too long"), "{said}");
        },
    );
}
