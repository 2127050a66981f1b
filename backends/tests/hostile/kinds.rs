//! Devices, pipes, privileges, attributes, hard links.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use firedrill_core::verdict::Verdict;
use serde_json::{Value, json};

use crate::support::craft::{folder_of, link, node, with, with_attribute};
use crate::support::drill::names;
use crate::support::is_root;
use crate::support::place::{SMALL, story};

const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const STICKY: u32 = 1 << 20;

#[test]
fn devices_sockets_and_pipes() {
    story(
        "kinds::devices_sockets_and_pipes",
        SMALL,
        |_, craft| {
            // 1:1 is the memory of the machine, 8:0 its first disk.
            let tree = craft.tree([
                craft.file_node("healthy", "healthy"),
                with(node("mem", "chardev", 0o666), "device", 257),
                with(node("disk", "dev", 0o666), "device", 2048),
                with(node("overflow", "dev", 0o666), "device", u64::MAX),
                node("socket", "socket", 0o777),
                node("pipe", "fifo", 0o666),
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Verified);
            let expected = ["healthy", "pipe"].map(|name| name.as_bytes().to_vec());
            assert_eq!(told.restored(), BTreeSet::from(expected));
            let pipe = told.root().join("pipe").symlink_metadata().expect("it is there");
            assert!(pipe.file_type().is_fifo());
            let said = told.only().withheld.join("; ");
            assert!(said.contains("3 device nodes") && said.contains("1 sockets"), "{said}");
        },
    );
}

#[test]
fn kinds_that_nobody_knows() {
    story(
        "kinds::kinds_that_nobody_knows",
        SMALL,
        |_, craft| {
            let unknown = ["", "irregular", "FILE", "door", "whiteout", "../file", "file\0"];
            let mut nodes = vec![craft.file_node("a healthy file", "healthy")];
            for (number, kind) in unknown.into_iter().enumerate() {
                nodes.push(node(&format!("unknown {number}"), kind, 0o644));
            }
            let missing = json!({ "name": "no type at all" });
            nodes.extend([missing, with(node("number", "file", 0o644), "type", 7)]);
            nodes.push(craft.file_node("z healthy file", "healthy"));
            let tree = craft.tree(nodes);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            let unknown: Vec<_> = (0..7).map(|number| format!("unknown {number}")).collect();
            told.assert_names(unknown.iter().map(String::as_str).chain(["no type at all", "number"]));
            assert_eq!(told.restored().len(), 2);
            told.assert_file("z healthy file", "healthy");
        },
    );
}

#[test]
fn privileges() {
    story(
        "kinds::privileges",
        SMALL,
        |_, craft| {
            let program = craft.file_node("program", "#!/bin/sh\n");
            let root = |node| with(with(node, "uid", 0), "gid", 0);
            let mode = |name: &str, bits: u32| with(with(root(program.clone()), "name", name), "mode", bits);
            // cap_setuid=ep
            let capability = [1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let nodes = [
                mode("setuid", SETUID | 0o4755),
                mode("setgid", SETGID | 0o2755),
                mode("both", SETUID | SETGID | STICKY | 0o777),
                with_attribute(mode("capable", 0o755), "security.capability", &capability),
            ];
            let tree = craft.tree(nodes);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            let expected = if is_root() { Verdict::Verified } else { Verdict::Inconclusive };
            told.assert_verdict(expected);
            for name in ["setuid", "setgid", "both", "capable"] {
                let path = told.root().join(name);
                let mode = path.symlink_metadata().expect("it is there").mode();
                assert_eq!(mode & 0o6000, 0, "{name} has mode {mode:o}");
                assert!(attributes(&path).is_empty(), "{name}: {:?}", attributes(&path));
            }
            let said = told.only().withheld.join("; ");
            assert!(
                said.contains("3 setuid or setgid bits") && said.contains("1 file capabilities"),
                "{said}"
            );
        },
    );
}

fn attributes(path: &Path) -> Vec<String> {
    let mut buffer = [0; 4096];
    let length = rustix::fs::llistxattr(path, buffer.as_mut_slice()).unwrap_or(0);
    let list = &buffer[..length];
    list.split(|b| *b == 0)
        .filter(|n| !n.is_empty())
        .map(|n| String::from_utf8_lossy(n).into_owned())
        .collect()
}

#[test]
fn attributes_of_every_odd_sort() {
    story(
        "kinds::attributes_of_every_odd_sort",
        SMALL,
        |place, craft| {
            let file = craft.file_node("file", "content");
            let named = |name: &str| with(file.clone(), "name", name);
            let odd = [
                "",
                "user.",
                "user",
                "nonsense",
                "nonsense.name",
                "trusted.overlay.opaque",
                "security.ima",
                "security.evm",
                "security.selinux",
                "system.posix_acl_access",
                "system.nfs4_acl",
                "user.a\0b",
                "../user.x",
                "user.\u{e4}\n",
                "btrfs.compression",
            ];
            let mut nodes = vec![craft.file_node("a healthy file", "healthy")];
            for (number, name) in odd.into_iter().enumerate() {
                nodes.push(with_attribute(named(&format!("odd {number:02}")), name, b"\xff\0value"));
            }
            nodes.push(with_attribute(named("long name"), &format!("user.{}", "n".repeat(300)), b"v"));
            nodes.push(with_attribute(named("large value"), "user.large", &vec![7; 60_000]));
            nodes.push(with_attribute(named("too large"), "user.large", &vec![7; 70_000]));
            nodes.push((0..200).fold(named("many"), |node, number| {
                with_attribute(node, &format!("user.n{number}"), &[7; 100])
            }));
            // Attributes of links are set on the link, not on what it points to.
            nodes.push(with_attribute(link("link", &place.victims("secret")), "trusted.x", b"v"));
            nodes.push(with_attribute(link("user link", &place.victims("secret")), "user.x", b"v"));
            nodes.push(with_attribute(node("pipe", "fifo", 0o644), "trusted.x", b"v"));
            nodes.push(craft.file_node("z healthy file", "healthy"));
            let tree = craft.tree(nodes);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            // What cannot be set here might be set elsewhere: our trouble, and never a success.
            assert_ne!(told.only().verdict, Verdict::Verified);
            assert!(told.only().errors.is_empty(), "{:#?}", told.only().errors);
            told.assert_file("a healthy file", "healthy");
            told.assert_file("z healthy file", "healthy");
            assert_eq!(told.restored().len(), 24);
        },
    );
}

#[test]
fn attributes_that_are_not_base64() {
    story(
        "kinds::attributes_that_are_not_base64",
        SMALL,
        |_, craft| {
            let file = craft.file_node("file", "content");
            let raw = |name: &str, value: Value| {
                let attribute = json!([{ "name": "user.x", "value": value }]);
                with(with(file.clone(), "name", name), "extended_attributes", attribute)
            };
            let tree = craft.tree([
                raw("not base64", json!("@@@")),
                raw("not padded", json!("YWJj=")),
                raw("a number", json!(7)),
                raw("nothing", Value::Null),
                with(
                    with(file.clone(), "name", "no name"),
                    "extended_attributes",
                    json!([{ "value": "YQ==" }]),
                ),
                with(link("link", "x"), "linktarget_raw", "@@@"),
                file.clone(),
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            told.assert_verdict(Verdict::Failed);
            told.assert_names(["not base64", "not padded", "a number", "no name", "link"]);
            told.assert_file("file", "content");
            told.assert_file("nothing", "content");
        },
    );
}

/// One inode has one content. Whoever claims the inode of another file with content of his own gets a
/// file of his own, and neither content is lost.
#[test]
fn files_that_claim_the_inode_of_another() {
    story(
        "kinds::files_that_claim_the_inode_of_another",
        SMALL,
        |place, craft| {
            let linked = |node| with(with(with(node, "links", 3), "inode", 77), "device_id", 1);
            let tree = craft.tree([
                linked(craft.file_node("a", "the first content")),
                linked(craft.file_node("b", "the first content")),
                linked(craft.file_node("c", "other content of another length")),
                linked(with(craft.file_node("d", "the first content"), "mode", 0o600)),
                linked(craft.file_node("e", "")),
                // A link or a folder that claims to be that inode, too.
                linked(link("l", &place.victims("secret"))),
                linked(craft.folder_node("m", [])),
            ]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            assert_ne!(told.only().verdict, Verdict::Failed, "{:#?}", told.only());
            told.assert_file("a", "the first content");
            told.assert_file("b", "the first content");
            told.assert_file("c", "other content of another length");
            told.assert_file("d", "the first content");
            told.assert_file("e", "");
            let inode = |name: &str| told.root().join(name).symlink_metadata().expect("it is there").ino();
            assert_eq!(inode("a"), inode("b"));
            assert_ne!(inode("a"), inode("c"));
        },
    );
}

#[test]
fn links_to_everywhere() {
    story(
        "kinds::links_to_everywhere",
        SMALL,
        |place, craft| {
            let victim = place.victim().display().to_string();
            let targets =
                ["/", "..", "../../..", "/proc/self/mem", "/dev/zero", "self", ".", &victim, "\u{e4}\n"];
            let mut nodes: Vec<_> = targets
                .into_iter()
                .enumerate()
                .map(|(number, target)| link(&format!("link {number}"), target))
                .collect();
            nodes.push(link("self", "self"));
            nodes.push(link("longest", &"x/".repeat(2000)));
            nodes.push(link("too long", &"x".repeat(5000)));
            nodes.push(link("empty", ""));
            nodes.push(with(link("raw", ""), "linktarget_raw", "AP//"));
            let inside = link("out", &victim);
            nodes.push(craft.folder_node("folder", [inside]));
            nodes.push(with(link("folder too", &victim), "subtree", "11".repeat(32)));
            nodes.push(with(folder_of("file too", &"11".repeat(32)), "linktarget", victim));
            nodes.push(craft.file_node("z healthy", "healthy"));
            let tree = craft.tree(nodes);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            assert_ne!(told.only().verdict, Verdict::Verified, "{:#?}", told.only());
            told.assert_names(["too long", "empty", "raw", "file too"]);
            told.assert_file("z healthy", "healthy");
            assert_eq!(names(&told.root().join("folder")).len(), 1);
            assert!(told.root().join("link 7").symlink_metadata().expect("it is there").is_symlink());
        },
    );
}
