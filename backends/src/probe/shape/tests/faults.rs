use super::*;
use crate::probe::fleet::{What, assert_finds, assert_found, assert_green, codes};
use crate::probe::shape::ShapeProbe;
use firedrill_core::config::units::Size;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::memory::SNAPSHOT_GONE;

/// The change is found with `code` by earlier snapshots alone and with a baseline; the latter also when
/// there are no earlier snapshots to read, unless `needs_tree`. Afterwards a person can accept it.
#[track_caller]
fn is_found(code: &str, needs_tree: bool, change: impl Fn(&mut Tree, Timestamp)) {
    let (mut fleet, mut tree) = nights(4);
    next(&mut fleet, &mut tree, &change);
    assert_found(&fleet.examine(&ShapeProbe), code, Class::Anomaly);

    let (mut fleet, mut tree) = nights(4);
    fleet.learn(&ShapeProbe, false);
    next(&mut fleet, &mut tree, &change);
    assert_found(&fleet.examine(&ShapeProbe), code, Class::Anomaly);
    if !needs_tree {
        let history = std::mem::take(&mut fleet.drill.probes.shape.history);
        assert_found(&fleet.examine(&ShapeProbe), code, Class::Anomaly);
        fleet.drill.probes.shape.history = history;
    }
    // Two bad nights in a row are not healthier than one.
    let bad = tree.clone();
    fleet.backup(at(6, 3.0), &bad);
    assert_found(&fleet.examine(&ShapeProbe), code, Class::Anomaly);
    // Accepted, it stays quiet from then on.
    fleet.learn(&ShapeProbe, true);
    assert_green(&fleet.examine(&ShapeProbe));
    fleet.backup(at(7, 3.0), &bad);
    assert_green(&fleet.examine(&ShapeProbe));
}

fn one(tree: &Tree) -> Examination {
    let mut fleet = Fleet::new("app");
    fleet.backup(at(1, 3.0), tree);
    fleet.examine(&ShapeProbe)
}

#[test]
fn nothing_but_folders_or_lost_and_found_or_a_canary_is_empty() {
    let mut tree = Tree::default();
    tree.folder("data", at(1, 0.0));
    assert_finds(&one(&tree), &["shape.empty"]);
    tree.write("data/lost+found/#123", "remains", at(1, 0.0));
    assert_finds(&one(&tree), &["shape.empty"]);
    tree.write("data/.firedrill-canary", "{}", at(1, 0.0));
    let examination = one(&tree);
    assert_found(&examination, "shape.empty", Class::Damage);
    assert!(examination.findings[0].seen.contains("lost+found"));
    // With a past, it is still one finding.
    let (mut fleet, _) = nights(3);
    fleet.backup(at(4, 3.0), &tree);
    assert_finds(&fleet.examine(&ShapeProbe), &["shape.empty"]);
}

#[test]
fn a_snapshot_without_any_entry_is_empty() {
    let mut fleet = Fleet::new("app");
    fleet.backup(at(1, 3.0), &Tree::default());
    let examination = fleet.examine(&ShapeProbe);
    assert_finds(&examination, &["shape.empty"]);
    assert_eq!(examination.checked, 0);
}

#[test]
fn files_without_content_are_found() {
    let mut tree = Tree::default();
    tree.write("data/a.txt", "", at(1, 0.0));
    tree.write("data/b.txt", "", at(1, 0.0));
    assert_finds(&one(&tree), &["shape.all_empty"]);
    is_found("shape.file_emptied", false, |tree, time| {
        tree.write("data/app.db", "", time);
    });
}

#[test]
fn mass_deletion() {
    is_found("shape.files", false, |tree, time| {
        tree.remove_where(time, |p| !p.ends_with("0.txt") && !p.ends_with("app.db"));
    });
    // Two of three files.
    let mut fleet = Fleet::new("app");
    let mut tree = Tree::default();
    for name in ["a", "b", "c"] {
        tree.write(&format!("data/{name}.txt"), prose(1, 50), at(1, 0.0));
    }
    fleet.backup(at(1, 3.0), &tree);
    tree.remove("data/a.txt", at(2, 0.0));
    fleet.backup(at(2, 3.0), &tree);
    assert_green(&fleet.examine(&ShapeProbe));
    fleet.snapshots.pop();
    tree.remove("data/b.txt", at(2, 0.0));
    fleet.backup(at(2, 3.0), &tree);
    assert_finds(&fleet.examine(&ShapeProbe), &["shape.files"]);
}

#[test]
fn most_bytes_gone() {
    is_found("shape.bytes", false, |tree, time| {
        for path in tree.files() {
            tree.write(&path, prose(3, 200), time);
        }
    });
}

#[test]
fn folders_that_vanished_or_are_empty() {
    is_found("shape.folder_gone", false, |tree, time| tree.remove("data/pictures", time));
    // One after the other is little, and together they are much.
    is_found("shape.folder_gone", false, |tree, time| {
        tree.remove("data/notes/year-2021", time);
        tree.remove("data/notes/year-2022", time);
    });
    // A nested mount that is not crossed: the folder stays.
    is_found("shape.folder_emptied", false, |tree, time| {
        tree.remove("data/pictures", time);
        tree.folder("data/pictures", time);
    });
}

#[test]
fn a_pattern_that_excludes_too_much() {
    is_found("shape.kind_gone", false, |tree, time| tree.remove_where(time, |p| p.ends_with(".jpg")));
    is_found("shape.database_gone", false, |tree, time| tree.remove_where(time, |p| p.ends_with(".db")));
    is_found("shape.database_gone", false, |tree, time| tree.remove("data/dumps/db.sql", time));
}

#[test]
fn the_last_of_two_databases_is_no_generation_of_the_other() {
    let (mut fleet, mut tree) = nights(1);
    tree.write("data/db1.sql", prose(1, 3000), at(1, 1.0));
    tree.write("data/db2.sql", prose(2, 3000), at(1, 1.0));
    fleet.backup(at(2, 3.0), &tree);
    tree.remove("data/db2.sql", at(3, 0.0));
    fleet.backup(at(3, 3.0), &tree);
    assert_finds(&fleet.examine(&ShapeProbe), &["shape.database_gone"]);
}

#[test]
fn what_the_backup_left_out_although_its_folder_did_not_change() {
    // A file that could not be read: gone without a trace.
    is_found("shape.left_out", true, |tree, _| tree.lose("data/settings/3.yml"));
    is_found("shape.left_out", true, |tree, _| tree.lose("data/notes/year-2023"));
}

#[test]
fn a_dump_below_a_folder_called_share_that_shrank_or_vanished() {
    for (base, dump) in [("srv/share/db", "srv/share/db/app.sql"), ("var", "var/lib/backups/app.sql")] {
        let mut fleet = Fleet::new("app");
        let mut tree = Tree::default();
        for n in 0..30 {
            tree.write(&format!("{base}/notes/{n}.txt"), prose(n, 9000), at(1, 0.0));
        }
        for (day, size) in [(1, 12_000), (2, 12_100), (3, 2000)] {
            tree.write(dump, prose(200 + day as u64, size), at(day, 2.5));
            fleet.backup(at(day, 3.0), &tree).paths = vec![format!("/{base}")];
        }
        assert_finds(&fleet.examine(&ShapeProbe), &["shape.dump_shrank"]);
        fleet.snapshots.pop();
        tree.remove(dump, at(3, 2.0));
        fleet.backup(at(3, 3.0), &tree).paths = vec![format!("/{base}")];
        assert_finds(&fleet.examine(&ShapeProbe), &["shape.database_gone"]);
    }
}

#[test]
fn a_dump_that_shrank() {
    is_found("shape.dump_shrank", false, |tree, time| {
        tree.write("data/dumps/db.sql", prose(1, 2000), time);
    });
}

#[test]
fn a_backed_up_path_that_is_gone() {
    let mut fleet = Fleet::new("app");
    let mut tree = volume();
    tree.write("srv/extra.txt", prose(1, 500), at(1, 0.0));
    let both = vec!["/data".to_owned(), "/srv".to_owned()];
    for day in 1..=3 {
        fleet.backup(at(day, 3.0), &tree).paths = both.clone();
    }
    fleet.learn(&ShapeProbe, false);
    tree.lose("srv");
    // The job no longer names it.
    fleet.backup(at(4, 3.0), &tree);
    assert_found(&fleet.examine(&ShapeProbe), "shape.path_gone", Class::Anomaly);
    fleet.baseline = None;
    assert_found(&fleet.examine(&ShapeProbe), "shape.path_gone", Class::Anomaly);
    // The job names it, and the tree does not hold it.
    fleet.snapshots.pop();
    fleet.backup(at(4, 3.0), &tree).paths = vec!["/data".into(), "/data/srv".into()];
    assert_found(&fleet.examine(&ShapeProbe), "shape.path_missing", Class::Damage);
}

#[test]
fn a_backed_up_path_that_became_a_link() {
    let mut fleet = Fleet::new("app");
    let mut tree = volume();
    tree.write("srv/extra.txt", prose(1, 500), at(1, 0.0));
    let both = vec!["/data".to_owned(), "/srv".to_owned()];
    for day in 1..=3 {
        fleet.backup(at(day, 3.0), &tree).paths = both.clone();
    }
    tree.lose("srv");
    tree.link("srv", "/mnt/new", at(4, 0.0));
    fleet.backup(at(4, 3.0), &tree).paths = both.clone();
    assert_found(&fleet.examine(&ShapeProbe), "shape.path_symlink", Class::Damage);
    // And when it is all there is, the backup is empty.
    let mut link = Tree::default();
    link.link("data", "/mnt/data", at(4, 0.0));
    assert_finds(&one(&link), &["shape.empty"]);
}

#[test]
fn expectations() {
    let (mut fleet, mut tree) = nights(2);
    let expectations = &mut fleet.drill.expectations;
    expectations.files_min = Some(50);
    expectations.bytes_min = Some(Size(10_000));
    expectations.paths = vec!["/data/app.db".into(), "notes".into(), "notes/year-2020/".into()];
    assert_green(&fleet.examine(&ShapeProbe));
    let expectations = &mut fleet.drill.expectations;
    expectations.files_min = Some(5000);
    expectations.bytes_min = Some(Size(10_000_000));
    expectations.paths.extend(["nothing/here".into(), "linked".into()]);
    tree.link("data/linked", "elsewhere", at(2, 0.0));
    fleet.backup(at(3, 3.0), &tree);
    let examination = fleet.examine(&ShapeProbe);
    assert_finds(&examination, &["shape.bytes_min", "shape.files_min", "shape.path_missing"]);
    assert!(examination.findings.iter().all(|f| f.class == Class::Damage));
    assert_eq!(examination.findings.iter().filter(|f| f.code == "shape.path_missing").count(), 2);
}

/// A volume whose entries have owners, modes, attributes and hard links of their own.
fn with_metadata() -> (Fleet, Tree) {
    let mut fleet = Fleet::new("app");
    let mut tree = volume();
    for (n, item) in tree.0.values_mut().enumerate() {
        item.owner = if n % 3 == 0 { (33, 33) } else { (1000, 1000) };
        if matches!(item.what, What::File(_)) {
            item.mode = if n % 3 == 0 { 0o600 } else { 0o640 };
        }
        if n % 9 == 0 {
            item.attributes = vec![("user.label".into(), b"x".to_vec())];
        }
    }
    for n in 0..4 {
        tree.item(&format!("data/pictures/p{n}.jpg")).link_group = 1 + n / 2;
    }
    for day in 1..=3 {
        fleet.backup(at(day, 3.0), &tree);
    }
    (fleet, tree)
}

#[test]
fn metadata_that_a_staging_copy_lost() {
    let (mut fleet, mut tree) = with_metadata();
    assert_green(&fleet.examine(&ShapeProbe));
    for item in tree.0.values_mut() {
        item.owner = (0, 0);
        item.attributes.clear();
        item.link_group = 0;
        item.mode = if matches!(item.what, What::File(_)) { 0o644 } else { 0o755 };
    }
    fleet.backup(at(4, 3.0), &tree);
    let all = ["shape.attributes_lost", "shape.hardlinks_lost", "shape.modes_lost", "shape.owners_lost"];
    assert_finds(&fleet.examine(&ShapeProbe), &all);
    fleet.backup(at(5, 3.0), &tree);
    assert_finds(&fleet.examine(&ShapeProbe), &all);

    // Only those that differed before are flattened: a third of them.
    let (mut fleet, mut tree) = with_metadata();
    tree.0.values_mut().for_each(|item| item.owner = (1000, 1000));
    fleet.backup(at(4, 3.0), &tree);
    assert_finds(&fleet.examine(&ShapeProbe), &["shape.owners_lost"]);
}

#[test]
fn another_host() {
    let (mut fleet, mut tree) = nights(4);
    next(&mut fleet, &mut tree, |_, _| {});
    fleet.snapshots.last_mut().unwrap().0.host = "staging".into();
    assert_finds(&fleet.examine(&ShapeProbe), &["shape.host"]);
    let newest = fleet.snapshots.pop().unwrap();
    fleet.learn(&ShapeProbe, false);
    fleet.snapshots.clear();
    fleet.snapshots.push(newest);
    assert_found(&fleet.examine(&ShapeProbe), "shape.host", Class::Anomaly);
    fleet.learn(&ShapeProbe, true);
    assert_green(&fleet.examine(&ShapeProbe));

    // Another service is no new generation of this one.
    let (mut fleet, mut tree) = nights(4);
    fleet.snapshots.iter_mut().for_each(|(snapshot, _)| snapshot.host = "app-6d4cf56db6-x2kqp".into());
    next(&mut fleet, &mut tree, |_, _| {});
    for host in ["app-staging-7f9d5b8c44-b8zt4", "staging", "app", "3f2a9b7c1d0e"] {
        fleet.snapshots.last_mut().unwrap().0.host = host.into();
        assert_finds(&fleet.examine(&ShapeProbe), &["shape.host"]);
    }

    let (mut fleet, _) = nights(2);
    fleet.drill.hosts = vec!["node".into(), "node2".into()];
    assert_green(&fleet.examine(&ShapeProbe));
    fleet.drill.hosts = vec!["other".into()];
    assert_finds(&fleet.examine(&ShapeProbe), &["shape.host"]);
}

#[test]
fn the_newest_known_snapshot_is_gone() {
    let (mut fleet, _) = nights(4);
    fleet.learn(&ShapeProbe, false);
    let gone = fleet.snapshots.pop().unwrap();
    let examination = fleet.examine(&ShapeProbe);
    assert_finds(&examination, &[SNAPSHOT_GONE]);
    assert_eq!(examination.findings[0].location, gone.0.id.0);
    // Retention that removes an older one is not that.
    fleet.snapshots.push(gone);
    fleet.snapshots.remove(0);
    assert_green(&fleet.examine(&ShapeProbe));
    // Nor is a changed tag, which gives the same snapshot a new id.
    fleet.snapshots.last_mut().unwrap().0.id.0.replace_range(0..4, "ffff");
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn a_long_history_is_gone() {
    let (mut fleet, mut tree) = nights(9);
    fleet.learn(&ShapeProbe, false);
    next(&mut fleet, &mut tree, |_, _| {});
    fleet.snapshots.drain(..9);
    assert_eq!(codes(&fleet.examine(&ShapeProbe)), ["shape.history_gone"]);

    // keep-last 1 on a short series.
    let (mut fleet, _) = nights(4);
    fleet.learn(&ShapeProbe, false);
    fleet.snapshots.drain(..3);
    assert_eq!(codes(&fleet.examine(&ShapeProbe)), ["shape.history_gone"]);
}

#[test]
fn what_the_config_ignores_is_ignored() {
    for ignore in ["pictures", "/data/pictures/"] {
        let (mut fleet, mut tree) = nights(3);
        fleet.drill.probes.shape.ignore = vec![ignore.into()];
        next(&mut fleet, &mut tree, |tree, time| tree.remove("data/pictures", time));
        assert_green(&fleet.examine(&ShapeProbe));
    }
}
