use super::*;
use crate::probe::fleet::{assert_finds, assert_green};
use crate::probe::shape::ShapeProbe;

/// The change is green with earlier snapshots alone, with the baseline alone, and with both.
#[track_caller]
fn stays_green(change: impl Fn(&mut Tree, Timestamp)) {
    let (mut fleet, mut tree) = nights(4);
    next(&mut fleet, &mut tree, &change);
    assert_green(&fleet.examine(&ShapeProbe));

    let (mut fleet, mut tree) = nights(4);
    fleet.learn(&ShapeProbe, false);
    next(&mut fleet, &mut tree, &change);
    assert_green(&fleet.examine(&ShapeProbe));
    fleet.drill.probes.shape.history = 0;
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn ordinary_days() {
    stays_green(|_, _| {});
    let (mut fleet, mut tree) = nights(1);
    assert_green(&fleet.examine(&ShapeProbe));
    for _ in 0..10 {
        next(&mut fleet, &mut tree, |_, _| {});
        fleet.learn(&ShapeProbe, false);
    }
}

#[test]
fn an_unchanged_volume() {
    let (mut fleet, tree) = nights(3);
    for day in 4..8 {
        fleet.backup(at(day, 3.0), &tree);
        fleet.learn(&ShapeProbe, false);
    }
}

#[test]
fn log_rotation() {
    stays_green(|tree, time| {
        for n in (0..8).rev() {
            let from = tree.item(&format!("data/logs/app.log.{n}")).clone();
            tree.0.insert(format!("data/logs/app.log.{}", n + 1), from);
        }
        tree.write("data/logs/app.log", "", time);
    });
    stays_green(|tree, time| tree.remove_where(time, |p| p.starts_with("data/logs/app.log.")));
}

#[test]
fn cache_churn() {
    stays_green(|tree, time| tree.remove_where(time, |p| p.starts_with("data/cache/")));
    stays_green(|tree, time| {
        tree.remove("data/cache", time);
        for n in 0..100 {
            tree.write(&format!("data/cache/{n}/x.bin"), noise(n, 900), time);
        }
    });
}

#[test]
fn a_single_deleted_file() {
    for path in ["data/notes/year-2021/note-1.txt", "data/pictures/p3.jpg", "data/settings/2.yml"] {
        stays_green(|tree, time| tree.remove(path, time));
    }
}

/// Snapshots of etcd as plain objects: each is one file, named after the node that took it.
fn snapshots_of_etcd(names: &[&str]) -> Fleet {
    let mut fleet = Fleet::new("etcd-snapshot");
    for (day, name) in (1..).zip(names) {
        let mut tree = Tree::default();
        let path = format!("etcd/{name}");
        tree.write(&path, noise(day as u64, 200_000), at(day, 2.0));
        let snapshot = fleet.backup(at(day, 2.0), &tree);
        snapshot.paths = vec![path];
        snapshot.program = String::new();
    }
    fleet
}

#[test]
fn a_dump_takes_the_place_of_one_with_another_name() {
    let names = [
        "etcd-snapshot-alpha-1770825600",
        "etcd-snapshot-beta-1770912000",
        "on-demand-alpha-1770998400",
        "etcd-snapshot-alpha-1771084800.zip",
        "pre-upgrade-beta-1771171200",
    ];
    for count in 2..=names.len() {
        let mut fleet = snapshots_of_etcd(&names[..count]);
        assert_green(&fleet.examine(&ShapeProbe));
        // The same against what an earlier drill has left.
        let newest = fleet.snapshots.pop();
        fleet.learn(&ShapeProbe, false);
        fleet.snapshots.extend(newest);
        assert_green(&fleet.examine(&ShapeProbe));
        fleet.drill.probes.shape.history = 0;
        assert_green(&fleet.examine(&ShapeProbe));
    }
}

#[test]
fn a_folder_that_somebody_removed() {
    stays_green(|tree, time| tree.remove("data/notes/year-2022", time));
    // Whether the last files of a kind were removed shows only against their folders.
    let (mut fleet, mut tree) = nights(4);
    fleet.learn(&ShapeProbe, false);
    next(&mut fleet, &mut tree, |tree, time| tree.remove("data/settings", time));
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn a_spool_that_fills_and_drains() {
    let (mut fleet, mut tree) = nights(3);
    for day in 4..12i64 {
        next(&mut fleet, &mut tree, |tree, time| {
            tree.remove_where(time, |p| p.starts_with("data/incoming/"));
            if day % 3 > 0 {
                for n in 0..30u64 {
                    tree.write(
                        &format!("data/incoming/{day}-{n}.eml"),
                        prose(day as u64 * 50 + n, 9000),
                        time,
                    );
                }
            }
        });
        assert_green(&fleet.examine(&ShapeProbe));
        fleet.learn(&ShapeProbe, false);
    }
}

#[test]
fn content_that_is_put_together_in_fewer_files() {
    let block = |tree: &mut Tree, seed: u64, length: usize, time| {
        let name = format!("data/tsdb/01j{}", hex::encode(noise(seed, 12)));
        tree.write(&format!("{name}/chunks/000001"), noise(seed, length), time);
        tree.write(&format!("{name}/meta.json"), prose(seed, 200), time);
        tree.write(&format!("{name}/index"), prose(seed, 900), time);
        tree.write(&format!("{name}/tombstones"), "nothing..", time);
    };
    let mut fleet = Fleet::new("tsdb");
    let mut tree = Tree::default();
    (0..20).for_each(|n| block(&mut tree, n, 9000, at(1, 0.0)));
    fleet.backup(at(1, 3.0), &tree);
    fleet.learn(&ShapeProbe, false);
    tree.remove("data/tsdb", at(2, 0.0));
    (0..2).for_each(|n| block(&mut tree, 100 + n, 80_000, at(2, 0.0)));
    fleet.backup(at(2, 3.0), &tree);
    assert_green(&fleet.examine(&ShapeProbe));
    // Without most of the content it is a loss.
    tree.remove_where(at(2, 3.5), |p| p.ends_with("000001"));
    fleet.backup(at(2, 4.0), &tree);
    assert_finds(&fleet.examine(&ShapeProbe), &["shape.bytes", "shape.files"]);
}

#[test]
fn encrypted_files_that_stay_when_others_go() {
    let (mut fleet, mut tree) = nights(1);
    for n in 0..9u64 {
        tree.write(&format!("data/vault/{n}"), noise(n, 2000), at(1, 1.0));
    }
    fleet.backup(at(2, 3.0), &tree);
    fleet.learn(&ShapeProbe, false);
    tree.remove("data/notes", at(3, 0.0));
    fleet.backup(at(3, 3.0), &tree);
    let examination = fleet.examine(&ShapeProbe);
    assert!(!examination.findings.is_empty());
    assert!(examination.findings.iter().all(|f| f.code != "shape.encrypted"), "{examination:?}");
}

#[test]
fn growth_and_a_moved_folder() {
    stays_green(|tree, time| {
        for n in 0..300 {
            tree.write(&format!("data/notes/import/n{n}.txt"), prose(n, 500), time);
        }
    });
    stays_green(|tree, time| {
        let moved: Vec<_> = tree
            .0
            .iter()
            .filter(|(p, _)| p.starts_with("data/pictures/"))
            .map(|(p, i)| (p.clone(), i.clone()))
            .collect();
        tree.remove("data/pictures", time);
        tree.folder("data/photos", time);
        for (path, item) in moved {
            tree.0.insert(path.replace("pictures", "photos"), item);
        }
    });
}

#[test]
fn companions_of_databases_come_and_go() {
    stays_green(|tree, time| {
        tree.remove("data/app.db-wal", time);
        tree.remove("data/app.db-shm", time);
    });
    // In a tree of little else too, and with the time of a mapped file standing still.
    let mut fleet = Fleet::new("small");
    let mut tree = Tree::default();
    tree.write("data/app.db", prose(1, 9000), at(1, 0.0));
    tree.write("data/app.db-wal", noise(1, 4000), at(1, 0.0));
    tree.write("data/app.db-shm", noise(2, 4000), at(1, 0.0));
    fleet.backup(at(1, 3.0), &tree);
    tree.item("data/app.db-shm").what = crate::probe::fleet::What::File(noise(3, 4000));
    fleet.backup(at(2, 3.0), &tree);
    assert_green(&fleet.examine(&ShapeProbe));
    tree.remove("data/app.db-wal", at(3, 0.0));
    tree.remove("data/app.db-shm", at(3, 0.0));
    fleet.backup(at(3, 3.0), &tree);
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn an_application_update_replaces_many_files() {
    let release = |tree: &mut Tree, version: u64, time: Timestamp| {
        tree.remove("data/program", time);
        for n in 0..60u64 {
            let name = hex::encode(noise(version * 100 + n, 4));
            tree.write(
                &format!("data/program/app-{version}.2/chunk.{name}7a.js"),
                prose(version * 100 + n, 800),
                time,
            );
            tree.write(
                &format!("data/program/lib-{version}.{n}.jar"),
                [&b"PK\x03\x04"[..], &noise(n, 500)].concat(),
                time,
            );
        }
    };
    let (mut fleet, mut tree) = nights(3);
    next(&mut fleet, &mut tree, |tree, time| release(tree, 4, time));
    next(&mut fleet, &mut tree, |tree, time| release(tree, 5, time));
    assert_green(&fleet.examine(&ShapeProbe));
    fleet.learn(&ShapeProbe, false);
    next(&mut fleet, &mut tree, |tree, time| release(tree, 6, time));
    assert_green(&fleet.examine(&ShapeProbe));
    fleet.drill.probes.shape.history = 0;
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn files_of_a_package_with_constant_times_change_unseen() {
    let (mut fleet, mut tree) = nights(2);
    tree.write("data/lib/x.so", b"\x7fELF1".repeat(90), Timestamp::from_second(1).unwrap());
    fleet.backup(at(3, 3.0), &tree);
    tree.write("data/lib/x.so", b"\x7fELF2".repeat(90), Timestamp::from_second(1).unwrap());
    fleet.backup(at(4, 3.0), &tree);
    assert_green(&fleet.examine(&ShapeProbe));
    // The constant of npm is later than most.
    let npm = Timestamp::from_second(499_162_500).unwrap();
    tree.write("data/lib/package.json", "{\"version\": \"1.0.0\"}", npm);
    fleet.backup(at(5, 3.0), &tree);
    tree.write("data/lib/package.json", "{\"version\": \"1.0.1\"}", npm);
    fleet.backup(at(6, 3.0), &tree);
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn a_temporary_file_of_one_night_is_no_loss() {
    let (mut fleet, mut tree) = nights(4);
    next(&mut fleet, &mut tree, |tree, time| {
        tree.write("data/export.bin", noise(9, 900_000), time);
        for n in 0..400 {
            tree.write(&format!("data/work/{n}.dat"), prose(n, 100), time);
        }
    });
    next(&mut fleet, &mut tree, |tree, time| {
        tree.remove("data/export.bin", time);
        tree.remove("data/work", time);
    });
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn retention_and_dated_dumps() {
    let (mut fleet, mut tree) = nights(2);
    let dump = |tree: &mut Tree, day: i64| {
        tree.write(
            &format!("data/dumps/all-202601{day:02}.sql.gz"),
            [&b"\x1f\x8b"[..], &noise(day as u64, 5000)].concat(),
            at(day, 2.0),
        );
    };
    for day in 1..=5 {
        dump(&mut tree, day);
    }
    for day in 6..=9 {
        next(&mut fleet, &mut tree, |tree, time| {
            dump(tree, day);
            tree.remove(&format!("data/dumps/all-202601{:02}.sql.gz", day - 5), time);
        });
        fleet.learn(&ShapeProbe, false);
    }
    // keep-last 3 removes most snapshots of a series of six or more, once.
    let (mut fleet, mut tree) = nights(8);
    fleet.learn(&ShapeProbe, false);
    next(&mut fleet, &mut tree, |_, _| {});
    fleet.snapshots.drain(..6);
    assert_eq!(fleet.snapshots.len(), 3);
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn pods_with_random_names_and_two_hosts_in_turn() {
    let (mut fleet, _) = nights(5);
    for (n, (snapshot, _)) in fleet.snapshots.iter_mut().enumerate() {
        snapshot.host = format!("backup-{n}x9f");
    }
    assert_green(&fleet.examine(&ShapeProbe));
    let newest = fleet.snapshots.pop().unwrap();
    fleet.learn(&ShapeProbe, false);
    fleet.snapshots.push(newest);
    assert_green(&fleet.examine(&ShapeProbe));

    // Rolled out anew after a week, or put into a new container.
    for (before, after) in [
        ("app-6d4cf56db6-x2kqp", "app-7f9d5b8c44-b8zt4"),
        ("backup-29384400-vw5hx", "backup-29394480-2fk9d"),
        ("daemon-x2kqp", "daemon-b8zt4"),
        ("3f2a9b7c1d0e", "0c1e5a77b2f9"),
    ] {
        let (mut fleet, mut tree) = nights(5);
        fleet.snapshots.iter_mut().for_each(|(snapshot, _)| snapshot.host = before.into());
        fleet.learn(&ShapeProbe, false);
        next(&mut fleet, &mut tree, |_, _| {});
        fleet.snapshots.last_mut().unwrap().0.host = after.into();
        assert_green(&fleet.examine(&ShapeProbe));
        fleet.baseline = None;
        assert_green(&fleet.examine(&ShapeProbe));
    }

    // A laptop and a desktop under one tag, with different content.
    let mut fleet = Fleet::new("home");
    let mut other = Tree::default();
    for n in 0..4 {
        other.write(&format!("data/other/{n}.md"), prose(n, 300), at(1, 0.0));
    }
    let mut own = volume();
    for day in 1..=5 {
        live(&mut own, day);
        fleet.backup(at(day, 1.0), &own).host = "desktop".into();
        fleet.backup(at(day, 2.0), &other).host = "laptop".into();
    }
    assert_green(&fleet.examine(&ShapeProbe));
    fleet.learn(&ShapeProbe, false);
    fleet.backup(at(6, 1.0), &own).host = "desktop".into();
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn two_jobs_with_different_paths_under_one_tag() {
    let mut fleet = Fleet::new("server");
    let mut data = volume();
    let mut etc = Tree::default();
    for n in 0..9 {
        etc.write(&format!("etc/app{n}/main.conf"), prose(n, 300), at(1, 0.0));
    }
    for day in 1..=4 {
        live(&mut data, day);
        fleet.backup(at(day, 1.0), &data);
        fleet.backup(at(day, 2.0), &etc).paths = vec!["/etc".into()];
    }
    assert_green(&fleet.examine(&ShapeProbe));
    fleet.learn(&ShapeProbe, false);
    live(&mut data, 5);
    fleet.backup(at(5, 1.0), &data);
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn a_tree_that_is_random_by_nature() {
    // A repository of another backup program, and notes that somebody keeps encrypted: all random.
    let mut fleet = Fleet::new("vault");
    let mut tree = Tree::default();
    for n in 0..30u64 {
        tree.write(&format!("data/store/{n}"), noise(n, 5000), at(1, 0.0));
        tree.write(&format!("data/notes/n{n}.txt"), noise(100 + n, 900), at(1, 0.0));
        tree.write(&format!("data/pictures/p{n}.jpg"), noise(200 + n, 900), at(1, 0.0));
    }
    for day in 1..=4i64 {
        for n in 0..5u64 {
            tree.write(
                &format!("data/notes/n{n}.txt"),
                noise(day as u64 * 50 + n, 900 + n as usize),
                at(day, 1.0),
            );
            tree.write(
                &format!("data/pictures/p{n}.jpg"),
                noise(day as u64 * 60 + n, 900 + n as usize),
                at(day, 1.0),
            );
        }
        tree.write(&format!("data/store/new{day}"), noise(day as u64 * 70, 5000), at(day, 1.0));
        fleet.backup(at(day, 3.0), &tree);
        assert_green(&fleet.examine(&ShapeProbe));
    }
    fleet.learn(&ShapeProbe, false);
}

#[test]
fn metadata_work_on_a_few_files() {
    stays_green(|tree, _| {
        for n in 0..5 {
            let item = tree.item(&format!("data/settings/{n}.yml"));
            item.mode = 0o600;
            item.owner = (33, 33);
        }
    });
}

#[test]
fn a_fault_that_healed() {
    // Last night's copy had lost everything; tonight all is as it was before.
    let (mut fleet, tree) = nights(4);
    let good = tree.clone();
    let mut bad = Tree::default();
    bad.folder("data", at(5, 0.0));
    fleet.backup(at(5, 3.0), &bad);
    fleet.backup(at(6, 3.0), &good);
    assert_green(&fleet.examine(&ShapeProbe));
    let mut flattened = tree.clone();
    flattened.0.values_mut().for_each(|item| item.owner = (0, 0));
    fleet.backup(at(7, 3.0), &flattened);
    fleet.backup(at(8, 3.0), &good);
    fleet.drill.probes.shape.history = 4;
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn relative_paths_and_the_current_folder() {
    for (backed_up, prefix) in [("/srv/app", "app"), ("/srv/app", "")] {
        let mut fleet = Fleet::new("app");
        fleet.drill.expectations.paths = vec!["/srv/app/app.db".into(), "notes".into()];
        let mut tree = volume();
        for day in 1..=3 {
            live(&mut tree, day);
            let mut stored = Tree::default();
            for (path, item) in &tree.0 {
                let below = path.strip_prefix("data").unwrap();
                let path = format!("{prefix}{below}");
                let path = path.trim_start_matches('/');
                if !path.is_empty() {
                    stored.0.insert(path.to_owned(), item.clone());
                }
            }
            fleet.backup(at(day, 3.0), &stored).paths = vec![backed_up.into()];
        }
        assert_green(&fleet.examine(&ShapeProbe));
    }
}

#[test]
fn a_dump_from_standard_input_and_a_dated_backup_path() {
    let mut fleet = Fleet::new("pg");
    for day in 1..=4i64 {
        let mut tree = Tree::default();
        tree.write("dump.sql", prose(day as u64, 9000), at(day, 2.0));
        fleet.backup(at(day, 3.0), &tree).paths = vec!["/dump.sql".into()];
        assert_green(&fleet.examine(&ShapeProbe));
    }
    let mut fleet = Fleet::new("pg");
    for day in 1..=4i64 {
        let mut tree = Tree::default();
        let path = format!("out/2026-01-{day:02}");
        for n in 0..5 {
            tree.write(&format!("{path}/t{n}.sql"), prose(day as u64, 9000), at(day, 2.0));
        }
        fleet.backup(at(day, 3.0), &tree).paths = vec![format!("/{path}")];
        fleet.learn(&ShapeProbe, false);
    }
}

#[test]
fn a_file_system_that_makes_up_the_times_of_folders() {
    let (mut fleet, mut tree) = nights(3);
    let constant = at(1, 0.0);
    let made_up = |tree: &Tree| {
        let mut tree = tree.clone();
        for item in tree.0.values_mut().filter(|i| matches!(i.what, crate::probe::fleet::What::Folder)) {
            item.mtime = constant;
        }
        tree
    };
    for (_, tree) in &mut fleet.snapshots {
        *tree = made_up(tree);
    }
    next(&mut fleet, &mut tree, |tree, time| tree.remove("data/settings/1.yml", time));
    let newest = &mut fleet.snapshots.last_mut().unwrap().1;
    *newest = made_up(newest);
    let examination = fleet.examine(&ShapeProbe);
    assert_green(&examination);
    assert!(examination.not_verified.iter().any(|n| n.contains("left out")));
}

#[test]
fn a_service_that_moves_between_hosts_is_still_compared() {
    let (mut fleet, mut tree) = nights(6);
    fleet.drill.hosts = vec!["node".into(), "other".into()];
    for (n, (snapshot, _)) in fleet.snapshots.iter_mut().enumerate() {
        snapshot.host = if n % 2 == 0 { "node".into() } else { "other".into() };
    }
    assert_green(&fleet.examine(&ShapeProbe));
    fleet.drill.probes.shape.history = 1;
    next(&mut fleet, &mut tree, |tree, time| tree.remove_where(time, |p| p.starts_with("data/notes/")));
    let examination = fleet.examine(&ShapeProbe);
    assert!(examination.findings.iter().any(|f| f.code == "shape.files"), "{:#?}", examination.findings);
}

#[test]
fn a_path_that_may_be_among_those_that_are_not_kept_is_not_gone() {
    let mut fleet = Fleet::new("app");
    let mut tree = volume();
    tree.write("srv/extra.txt", prose(1, 500), at(1, 0.0));
    let data = || "/data".to_owned();
    fleet.backup(at(1, 3.0), &tree).paths = vec![data(), "/srv".to_owned()];
    for (day, more) in [(2, 900), (3, 901), (4, 902)] {
        let more = firedrill_core::snapshot::more_paths(more, &format!("{more:08x}"));
        fleet.backup(at(day, 3.0), &tree).paths = vec![data(), more];
        assert_green(&fleet.examine(&ShapeProbe));
        fleet.learn(&ShapeProbe, false);
    }
    // All paths are known again, and what stood for the others is no path that could be gone.
    fleet.backup(at(5, 3.0), &tree).paths = vec![data(), "/srv".to_owned()];
    assert_green(&fleet.examine(&ShapeProbe));
}
