//! Names that leave their folder, names that are given twice, links that are written through.

use std::collections::BTreeSet;

use firedrill_core::verdict::Verdict;
use serde_json::Value;

use crate::support::craft::{Craft, folder_of, link, with};
use crate::support::drill::names;
use crate::support::place::{SMALL, story};

/// Names as they stand in a tree (quoted as Go does), none of which may become a file.
const IMPOSSIBLE: [&str; 16] = [
    "..",
    ".",
    "",
    "a/b",
    "../planted",
    "/etc/planted",
    "a\0b",
    r"\x2e\x2e",
    r"\x2e",
    r"\u002e\u002e",
    r"\056\056",
    r"..\x2fplanted",
    r"\x2fetc\x2fplanted",
    r"a\x00b",
    r"unknown \q",
    r"unfinished \x2",
];

fn healthy(craft: &Craft) -> [Value; 2] {
    let inside = craft.file_node("inside.txt", "inside");
    [craft.file_node("a healthy file", "healthy"), craft.folder_node("z healthy", [inside])]
}

fn set(names: &[&str]) -> BTreeSet<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// The part of an impossible name that people are shown: controls are escaped.
fn shown(name: &str) -> String {
    let shown = format!("{name:?}");
    shown.trim_matches('"').to_owned()
}

#[test]
fn files_whose_names_leave_their_folder() {
    story(
        "names::files_whose_names_leave_their_folder",
        SMALL,
        |_, craft| {
            let [file, folder] = healthy(craft);
            let mut nodes = vec![file];
            nodes.extend(IMPOSSIBLE.map(|name| craft.file_node(name, "planted")));
            nodes.push(folder);
            let tree = craft.tree(nodes);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(IMPOSSIBLE.map(shown).iter().map(String::as_str));
            assert_eq!(told.restored(), set(&["a healthy file", "z healthy"]));
            told.assert_file("a healthy file", "healthy");
            told.assert_file("z healthy/inside.txt", "inside");
            assert_eq!(names(&told.root().join("z healthy")), set(&["inside.txt"]));
        },
    );
}

#[test]
fn folders_and_links_whose_names_leave_their_folder() {
    story(
        "names::folders_and_links_whose_names_leave_their_folder",
        SMALL,
        |place, craft| {
            let planted = craft.file_node("planted", "planted");
            let below = craft.tree([planted]);
            let [file, folder] = healthy(craft);
            let mut nodes = vec![file];
            nodes.extend(IMPOSSIBLE.map(|name| folder_of(name, &below)));
            nodes.extend(IMPOSSIBLE.map(|name| link(name, &place.victims("secret"))));
            nodes.push(folder);
            let deeper = craft.folder_node("sub", nodes.clone());
            nodes.push(deeper);
            let tree = craft.tree(nodes);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            assert_eq!(told.restored(), set(&["a healthy file", "sub", "z healthy"]));
            assert_eq!(names(&told.root().join("sub")), set(&["a healthy file", "z healthy"]));
            told.assert_names(["sub/.."]);
        },
    );
}

#[test]
fn a_link_and_then_a_folder_of_its_name() {
    story(
        "names::a_link_and_then_a_folder_of_its_name",
        SMALL,
        |place, craft| {
            let inside = [craft.file_node("secret", "overwritten"), craft.file_node("planted", "planted")];
            let deeper = craft.folder_node("deeper", inside.clone());
            let below = craft.tree(inside.into_iter().chain([deeper]));
            let victim = place.victim().display().to_string();
            let [file, folder] = healthy(craft);
            let tree = craft.tree([
                file,
                link("d", &victim),
                folder_of("d", &below),
                folder_of("e", &below),
                link("e", &victim),
                link("f", &place.victims("secret")),
                craft.file_node("f", "overwritten"),
                craft.file_node("g", "kept"),
                link("g", &place.victims("secret")),
                folder,
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["d", "e", "f", "g"]);
            let expected = set(&["a healthy file", "d", "e", "f", "g", "z healthy"]);
            assert_eq!(told.restored(), expected);
            told.assert_file("a healthy file", "healthy");
            told.assert_file("z healthy/inside.txt", "inside");
            // What was listed first stays, whole.
            told.assert_file("e/deeper/planted", "planted");
            told.assert_file("g", "kept");
            for link in ["d", "f"] {
                let meta = told.root().join(link).symlink_metadata().expect("it is there");
                assert!(meta.is_symlink(), "{link}");
            }
        },
    );
}

#[test]
fn names_that_are_given_twice() {
    story(
        "names::names_that_are_given_twice",
        SMALL,
        |_, craft| {
            let [file, folder] = healthy(craft);
            let inside = craft.file_node("inside", "first");
            let other = craft.file_node("inside", "second");
            let tree = craft.tree([
                file,
                craft.file_node("twice", "first"),
                craft.file_node("twice", "second"),
                // The same name, spelt in two ways.
                craft.file_node("spelt", "first"),
                craft.file_node(r"\x73pelt", "second"),
                craft.folder_node("folder", [inside.clone()]),
                craft.folder_node("folder", [other]),
                craft.file_node("mixed", "a file"),
                craft.folder_node("mixed", [inside]),
                folder,
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["twice", "spelt", "folder", "mixed"]);
            told.assert_file("twice", "first");
            told.assert_file("spelt", "first");
            told.assert_file("mixed", "a file");
            told.assert_file("folder/inside", "first");
            told.assert_file("z healthy/inside.txt", "inside");
        },
    );
}

/// A name that is given twice must not take the other names of its inode with it.
#[test]
fn a_name_given_twice_that_has_other_names() {
    story(
        "names::a_name_given_twice_that_has_other_names",
        SMALL,
        |_, craft| {
            let linked = |node| with(with(with(node, "links", 2), "inode", 77), "device_id", 1);
            let tree = craft.tree([
                craft.file_node("a", "another"),
                linked(craft.file_node("a", "linked")),
                linked(craft.file_node("b", "linked")),
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_file("a", "another");
            told.assert_file("b", "linked");
        },
    );
}
