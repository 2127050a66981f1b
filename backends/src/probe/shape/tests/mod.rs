//! Small fleets, one change each: faults that have to be found, and healthy days that must stay green.

mod faults;
mod healthy;
mod limits;
mod security;

use jiff::Timestamp;

use crate::probe::fleet::{Fleet, Tree, at, noise, prose};

/// An application's volume: notes, pictures, a database, a dump, logs and a cache.
pub(super) fn volume() -> Tree {
    let start = at(1, 0.0);
    let mut tree = Tree::default();
    for n in 0..40u64 {
        tree.write(&format!("data/notes/year-{}/note-{n}.txt", 2020 + n % 4), prose(n, 900), start);
    }
    for n in 0..12u64 {
        let picture = [&b"\xff\xd8\xff\xe0"[..], &noise(n, 3000)].concat();
        tree.write(&format!("data/pictures/p{n}.jpg"), picture, start);
    }
    for n in 0..6u64 {
        tree.write(&format!("data/settings/{n}.yml"), prose(100 + n, 300), start);
    }
    tree.write("data/app.db", [&b"SQLite format 3\0"[..], &vec![0; 20_000]].concat(), start);
    tree.write("data/app.db-wal", noise(1, 8000), start);
    tree.write("data/app.db-shm", vec![0; 8000], start);
    tree.write("data/dumps/db.sql", prose(200, 12_000), start);
    for n in 0..9u64 {
        tree.write(&format!("data/cache/c{n}.bin"), noise(500 + n, 4000), start);
        tree.write(&format!("data/logs/app.log.{n}"), prose(600 + n, 2000), start);
    }
    tree
}

/// What a healthy day does: a note is edited, one is added, database, dump, log and cache move on.
pub(super) fn live(tree: &mut Tree, day: i64) -> Timestamp {
    let time = at(day, 2.5);
    let seed = day as u64 * 1000;
    tree.write("data/notes/year-2020/note-0.txt", prose(seed, 880), time);
    tree.write(&format!("data/notes/year-2020/new-{day}.txt"), prose(seed + 1, 700), time);
    let content = [&b"SQLite format 3\0"[..], &vec![day as u8; 20_000]].concat();
    tree.write("data/app.db", content, time);
    tree.write("data/dumps/db.sql", prose(seed + 2, 12_000 + day as usize), time);
    tree.write(&format!("data/cache/d{day}.bin"), noise(seed + 3, 4000), time);
    tree.write("data/logs/app.log", prose(seed + 4, 1500), time);
    time
}

/// `days` healthy nights, with the tree as it was in the last one.
pub(super) fn nights(days: i64) -> (Fleet, Tree) {
    let mut fleet = Fleet::new("app");
    let mut tree = volume();
    for day in 1..=days {
        live(&mut tree, day);
        fleet.backup(at(day, 3.0), &tree);
    }
    (fleet, tree)
}

/// One more night after `change`.
pub(super) fn next(fleet: &mut Fleet, tree: &mut Tree, change: impl FnOnce(&mut Tree, Timestamp)) {
    let day = fleet.snapshots.len() as i64 + 1;
    let time = live(tree, day);
    change(tree, time);
    fleet.backup(at(day, 3.0), tree);
}
