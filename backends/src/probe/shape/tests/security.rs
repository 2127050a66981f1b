use super::*;
use crate::probe::fleet::{What, assert_found, codes};
use crate::probe::shape::ShapeProbe;
use firedrill_core::finding::Class;

/// Encrypts in place: name, size and time stay.
fn encrypt(tree: &mut Tree, path: &str) {
    let item = tree.item(path);
    let What::File(content) = &item.what else { unreachable!() };
    item.what = What::File(noise(content.len() as u64 + path.len() as u64, content.len()));
}

#[test]
fn a_changed_bit_behind_an_unchanged_time_is_found() {
    let (mut fleet, mut tree) = nights(3);
    next(&mut fleet, &mut tree, |tree, _| {
        let item = tree.item("data/pictures/p1.jpg");
        let What::File(content) = &mut item.what else { unreachable!() };
        content[1000] ^= 4;
    });
    let examination = fleet.examine(&ShapeProbe);
    assert_eq!(codes(&examination), ["shape.changed_silently"]);
    assert_eq!(examination.findings[0].location, "data/pictures/p1.jpg");
    // The next night the wrong content is the old one; the night before that still knows better.
    next(&mut fleet, &mut tree, |_, _| {});
    assert_eq!(codes(&fleet.examine(&ShapeProbe)), ["shape.changed_silently"]);
    fleet.drill.probes.shape.ignore = vec!["pictures".into()];
    assert_eq!(codes(&fleet.examine(&ShapeProbe)), [""; 0]);
}

#[test]
fn many_silent_changes_are_few_findings() {
    let (mut fleet, mut tree) = nights(3);
    next(&mut fleet, &mut tree, |tree, _| {
        for n in 1..36 {
            encrypt(tree, &format!("data/notes/year-{}/note-{n}.txt", 2020 + n % 4));
        }
    });
    let examination = fleet.examine(&ShapeProbe);
    assert_found(&examination, "shape.encrypted", Class::Anomaly);
    assert_eq!(examination.findings.iter().filter(|f| f.code == "shape.changed_silently").count(), 4);
}

#[test]
fn renamed_and_encrypted_files_are_found() {
    for replace in [false, true] {
        let (mut fleet, mut tree) = nights(3);
        fleet.learn(&ShapeProbe, false);
        next(&mut fleet, &mut tree, |tree, time| {
            for (n, path) in tree.files().into_iter().enumerate() {
                let stem = if replace { path.rsplit_once('.').unwrap().0 } else { path.as_str() };
                let new = format!("{stem}.locked");
                tree.write(&new, noise(n as u64, 1500), time);
                tree.remove(&path, time);
            }
        });
        assert_found(&fleet.examine(&ShapeProbe), "shape.renamed", Class::Anomaly);
        fleet.baseline = None;
        assert_found(&fleet.examine(&ShapeProbe), "shape.renamed", Class::Anomaly);
    }
}

#[test]
fn encryption_in_place_is_found_by_the_baseline_alone() {
    let (mut fleet, mut tree) = nights(3);
    fleet.learn(&ShapeProbe, false);
    next(&mut fleet, &mut tree, |tree, time| {
        for path in tree.files() {
            encrypt(tree, &path);
            tree.item(&path).mtime = time;
        }
    });
    fleet.drill.probes.shape.history = 0;
    let examination = fleet.examine(&ShapeProbe);
    assert_found(&examination, "shape.encrypted", Class::Anomaly);
    assert_found(&examination, "shape.magic", Class::Anomaly);
    fleet.drill.probes.shape.history = 3;
    fleet.baseline = None;
    let examination = fleet.examine(&ShapeProbe);
    assert_found(&examination, "shape.encrypted", Class::Anomaly);
    assert_found(&examination, "shape.magic", Class::Anomaly);
}

#[test]
fn encryption_that_has_just_begun_is_found() {
    let (mut fleet, mut tree) = nights(3);
    fleet.learn(&ShapeProbe, false);
    next(&mut fleet, &mut tree, |tree, time| {
        for n in 1..5 {
            let path = format!("data/notes/year-{}/note-{n}.txt", 2020 + n % 4);
            encrypt(tree, &path);
            tree.item(&path).mtime = time;
        }
    });
    let examination = fleet.examine(&ShapeProbe);
    assert_eq!(codes(&examination), ["shape.encrypted"], "{:#?}", examination.findings);
}

#[test]
fn ordinary_packing_and_renaming_is_not_encryption() {
    let (mut fleet, mut tree) = nights(3);
    next(&mut fleet, &mut tree, |tree, time| {
        for path in tree.files().into_iter().filter(|p| p.ends_with(".txt")) {
            let packed = [&b"\x1f\x8b\x08"[..], &noise(path.len() as u64, 800)].concat();
            tree.write(&format!("{path}.gz"), packed, time);
            tree.remove(&path, time);
        }
    });
    let examination = fleet.examine(&ShapeProbe);
    assert!(
        !codes(&examination).iter().any(|c| ["shape.renamed", "shape.encrypted", "shape.magic"].contains(c))
    );
}
