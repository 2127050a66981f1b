use super::*;
use crate::probe::fleet::assert_green;
use crate::probe::shape::ShapeProbe;
use firedrill_core::ports::Probe;
use firedrill_core::subject::Earlier;

#[test]
fn the_first_snapshot_says_that_there_is_nothing_to_compare_with() {
    let (fleet, tree) = nights(1);
    let examination = fleet.examine(&ShapeProbe);
    assert_green(&examination);
    assert_eq!(examination.checked, tree.0.len() as u64);
    assert!(examination.not_verified.iter().any(|n| n.contains("no baseline and no earlier snapshot")));
}

#[test]
fn what_it_was_compared_with_is_told() {
    let (mut fleet, mut tree) = nights(2);
    fleet.learn(&ShapeProbe, false);
    next(&mut fleet, &mut tree, |_, _| {});
    fleet.drill.probes.shape.history = 0;
    let examination = fleet.examine(&ShapeProbe);
    assert!(examination.notes.iter().any(|n| n.contains("baseline of run run-1")), "{:?}", examination.notes);
}

#[test]
fn an_earlier_snapshot_or_baseline_that_cannot_be_read_is_told() {
    let (mut fleet, _) = nights(3);
    fleet.learn(&ShapeProbe, false);
    let kept = fleet.baseline.as_mut().unwrap().probes.get_mut("shape").unwrap();
    kept.insert("files".into(), "many".into());
    let mut case = fleet.case();
    let mut history = (*case.subject.history).clone();
    let earlier = history.earlier[0].clone();
    history.earlier[0] = Earlier { manifest: Err("its tree is damaged".into()), ..earlier };
    history.baseline_note = Some("the file is damaged".into());
    case.subject.history = history.into();
    let examination = ShapeProbe.examine(&case.subject);
    assert_green(&examination);
    for told in ["tree is damaged", "the file is damaged", "baseline of run run-1"] {
        assert!(examination.not_verified.iter().any(|n| n.contains(told)), "{:?}", examination.not_verified);
    }
}

#[test]
fn a_stop_interrupts() {
    let (fleet, _) = nights(2);
    let case = fleet.case();
    case.subject.watch.stop();
    let examination = ShapeProbe.examine(&case.subject);
    assert!(examination.interrupted.is_some());
    assert!(examination.findings.is_empty());
}

#[test]
fn the_baseline_of_a_large_tree_stays_small() {
    let mut fleet = Fleet::new("large");
    let mut tree = Tree::default();
    let long = "a-rather-long-name-of-a-folder".repeat(3);
    for n in 0..500u64 {
        tree.write(&format!("data/{long}-{}/{long}-{n}/x{n}.e{}", n % 40, n % 90), prose(n, 20), at(1, 0.0));
        tree.write(&format!("data/{long}-{n}.db{}", n % 9), prose(n, 20), at(1, 0.0));
    }
    fleet.backup(at(1, 3.0), &tree);
    // The size is checked when it is learnt.
    fleet.learn(&ShapeProbe, false);
    fleet.backup(at(2, 3.0), &tree);
    fleet.drill.probes.shape.history = 0;
    assert_green(&fleet.examine(&ShapeProbe));
}

#[test]
fn hostile_names_and_missing_content_do_no_harm() {
    use firedrill_core::manifest::{Kind, Manifest, NewEntry};
    let (fleet, _) = nights(2);
    let mut case = fleet.case();
    let mut manifest = Manifest::default();
    let paths: [&[u8]; 8] = [
        b"",
        b"data",
        b"data//",
        b"data/\xff\xfe.\xff",
        b"/",
        b"data/../../x.txt",
        b"data/a\nb.txt",
        b"data",
    ];
    for path in paths {
        let mut entry = NewEntry::bare(path, Kind::File);
        entry.size = u64::MAX;
        manifest.push(entry, []);
    }
    case.subject.manifest = manifest.into();
    let examination = ShapeProbe.examine(&case.subject);
    assert_eq!(examination.checked, 8);
    assert!(!examination.findings.is_empty());
}
