//! What a probe might follow, open or wait for.

use firedrill_core::verdict::Verdict;
use serde_json::Value;

use crate::support::craft::{Craft, link, node, with};
use crate::support::place::{Place, SMALL, story};

/// Names that some probe takes an interest in.
const INTERESTING: [&str; 22] = [
    "database.db",
    "database.sqlite3",
    "database.db-wal",
    "database.db-shm",
    "database.db-journal",
    "dump.sql",
    "dump.sql.gz",
    "dump.sql.zst",
    "dump.sql.xz",
    "dump.sql.bz2",
    "globals.sql",
    "dump.pgdump",
    "backup.tar",
    "backup.tar.gz",
    "backup.zip",
    "backup.xb",
    "backup.mbstream",
    "etcd-snapshot.db",
    "toc.dat",
    ".firedrill-canary",
    "firedrill-canary.json",
    "lost+found",
];

fn database(place: &Place) -> Vec<u8> {
    let path = place.repository().join("made of this");
    let connection = rusqlite::Connection::open(&path).expect("a database");
    connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1);").expect("SQL");
    drop(connection);
    let content = std::fs::read(&path).expect("a file");
    std::fs::remove_file(path).expect("a file");
    content
}

fn drill(name: &str, bait: impl Fn(&str) -> Value, victim: bool) {
    story(
        name,
        SMALL,
        |place, craft| {
            let mut nodes: Vec<Value> = INTERESTING
                .iter()
                .map(|name| if victim { link(name, &place.victims("database.db")) } else { bait(name) })
                .collect();
            nodes.push(craft.file_node("healthy.db", database(place)));
            let tree = craft.tree(nodes);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            for reason in told.reasons() {
                assert!(!reason.contains("interrupted"), "{reason}");
            }
            assert!(told.root().join("healthy.db").is_file());
            assert_eq!(told.restored().len(), INTERESTING.len() + 1);
        },
    );
}

/// A database that is a link to one outside of the lease must never be opened.
#[test]
fn links_to_the_databases_of_this_machine() {
    drill("bait::links_to_the_databases_of_this_machine", |_| Value::Null, true);
}

#[test]
fn links_to_devices_that_never_end() {
    drill("bait::links_to_devices_that_never_end", |name| link(name, "/dev/zero"), false);
}

#[test]
fn pipes_that_nobody_writes_to() {
    drill("bait::pipes_that_nobody_writes_to", |name| node(name, "fifo", 0o644), false);
}

/// A good database beside links and pipes that bear the names of its log and its journal.
#[test]
fn a_database_whose_companions_are_bait() {
    fn companions(place: &Place, craft: &Craft, name: &str, bait: impl Fn(&str) -> Value) -> Vec<Value> {
        let database = craft.file_node(name, database(place));
        let others = ["-wal", "-journal", "-shm"].map(|suffix| bait(&format!("{name}{suffix}")));
        std::iter::once(database).chain(others).collect()
    }
    story(
        "bait::a_database_whose_companions_are_bait",
        SMALL,
        |place, craft| {
            let secret = place.victims("database.db");
            let mut nodes = companions(place, craft, "links.db", |name| link(name, &secret));
            nodes.extend(companions(place, craft, "pipes.db", |name| node(name, "fifo", 0o644)));
            nodes.extend(companions(place, craft, "folders.db", |name| {
                with(node(name, "dir", (1 << 31) | 0o755), "subtree", Value::Null)
            }));
            let tree = craft.tree(nodes);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| {
            // The folders have no tree.
            told.assert_verdict(Verdict::Failed);
            let sqlite = told.only().examinations.iter().find(|e| e.probe == "sqlite").expect("it ran");
            assert_eq!((sqlite.checked, &sqlite.interrupted), (3, &None), "{sqlite:#?}");
        },
    );
}

/// A folder of a dump that is a link to a folder outside.
#[test]
fn dumps_in_folders_that_are_links() {
    story(
        "bait::dumps_in_folders_that_are_links",
        SMALL,
        |place, craft| {
            let toc = craft.file_node("toc.dat", "PGDMP\x01\x0e\x00\x04\x08\x03");
            let data = link("3000.dat.gz", &place.victims("secret"));
            let folder = craft.folder_node("dump", [toc, data]);
            let outside = link("linked", &place.victim().display().to_string());
            let tree = craft.tree([folder, outside]);
            craft.snapshot(&tree, "hostile");
        },
        |_, told| assert!(told.only().kept.is_some()),
    );
}
