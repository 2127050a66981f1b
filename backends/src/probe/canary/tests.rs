use firedrill_core::canary::{Canary, FILE, derive_key};
use firedrill_core::config::settings::Demand;
use firedrill_core::finding::{Class, RecoveryBasis};
use firedrill_core::ports::Probe;
use firedrill_core::secret::Secret;

use super::CanaryProbe;
use crate::probe::fleet::{Fleet, Tree, assert_finds, assert_found, assert_green, at, prose};

const PLACE: &str = "data/.firedrill-canary";

fn key() -> Secret {
    derive_key(&Secret::new("password"))
}

fn plant(tree: &mut Tree, folder: &str, target: &str, day: i64) {
    let line = Canary::sign(&key(), target, day as u64, at(day, 2.9)).unwrap().to_line();
    tree.write(&format!("{folder}/{FILE}"), line, at(day, 2.9));
}

/// Three nightly snapshots, each with its canary.
fn nights() -> (Fleet, Tree) {
    let mut fleet = Fleet::new("grafana");
    fleet.key = Some(key());
    let mut tree = Tree::default();
    tree.write("data/grafana.ini", prose(1, 300), at(1, 0.0));
    for day in 1..=3 {
        plant(&mut tree, "data", "grafana", day);
        fleet.backup(at(day, 3.0), &tree);
    }
    (fleet, tree)
}

#[test]
fn a_canary_that_moves_on_is_green_and_gives_the_recovery_point() {
    let (mut fleet, mut tree) = nights();
    let examination = fleet.examine(&CanaryProbe);
    assert_green(&examination);
    let point = examination.recovery_point.unwrap();
    assert_eq!((point.time, point.basis), (at(3, 2.9), RecoveryBasis::Canary));
    fleet.learn(&CanaryProbe, false);
    assert_green(&fleet.examine(&CanaryProbe));
    plant(&mut tree, "data", "grafana", 4);
    fleet.backup(at(4, 3.0), &tree);
    assert_green(&fleet.examine(&CanaryProbe));
}

#[test]
fn the_oldest_canary_counts() {
    let (mut fleet, mut tree) = nights();
    tree.write("media/film", prose(2, 300), at(1, 0.0));
    plant(&mut tree, "media", "grafana", 2);
    plant(&mut tree, "data", "grafana", 4);
    fleet.backup(at(4, 3.0), &tree).paths = vec!["/data".into(), "/media".into()];
    let examination = fleet.examine(&CanaryProbe);
    assert_green(&examination);
    assert_eq!(examination.recovery_point.unwrap().time, at(2, 2.9));
}

#[test]
fn the_same_canary_in_a_newer_snapshot_is_a_stall() {
    let (mut fleet, tree) = nights();
    let clean = fleet.examine(&CanaryProbe);
    fleet.backup(at(4, 3.0), &tree);
    assert_finds(&fleet.examine(&CanaryProbe), &["canary.stalled"]);
    // Also when no earlier snapshot can be read any more, by the baseline alone.
    fleet.snapshots.pop();
    fleet.learn(&CanaryProbe, false);
    assert_green(&clean);
    fleet.snapshots.clear();
    fleet.backup(at(4, 3.0), &tree);
    assert_finds(&fleet.examine(&CanaryProbe), &["canary.stalled"]);
    // Accepted, it stays quiet for this snapshot and speaks up for the next one.
    fleet.learn(&CanaryProbe, true);
    assert_green(&fleet.examine(&CanaryProbe));
    fleet.backup(at(5, 3.0), &tree);
    assert_finds(&fleet.examine(&CanaryProbe), &["canary.stalled"]);
}

#[test]
fn a_retagged_snapshot_of_the_same_moment_is_no_stall() {
    let (mut fleet, tree) = nights();
    fleet.learn(&CanaryProbe, false);
    fleet.backup(at(3, 3.0), &tree);
    assert_green(&fleet.examine(&CanaryProbe));
}

#[test]
fn an_older_canary_than_before_goes_backwards() {
    let (mut fleet, mut tree) = nights();
    fleet.learn(&CanaryProbe, false);
    plant(&mut tree, "data", "grafana", 1);
    fleet.backup(at(4, 3.0), &tree);
    assert_finds(&fleet.examine(&CanaryProbe), &["canary.backwards"]);
}

#[test]
fn a_canary_of_another_target_is_found_in_the_root_and_expected_deeper() {
    let (mut fleet, mut tree) = nights();
    plant(&mut tree, "data/volumes/emby", "emby", 1);
    plant(&mut tree, "data", "grafana", 4);
    fleet.backup(at(4, 3.0), &tree);
    assert_green(&fleet.examine(&CanaryProbe));
    plant(&mut tree, "data", "staging", 5);
    fleet.backup(at(5, 3.0), &tree);
    assert_finds(&fleet.examine(&CanaryProbe), &["canary.target"]);
    // The name of the target in the config and a second tag are as good as the tag of the series.
    fleet.drill.target = Some("staging".into());
    assert_green(&fleet.examine(&CanaryProbe));
}

#[test]
fn forged_malformed_and_future_canaries_are_found() {
    let (mut fleet, mut tree) = nights();
    let good = tree.clone();
    let forged = Canary::sign(&Secret::new("guess"), "grafana", 4, at(4, 2.9)).unwrap();
    tree.write(PLACE, forged.to_line(), at(4, 2.9));
    fleet.backup(at(4, 3.0), &tree);
    let examination = fleet.examine(&CanaryProbe);
    assert_finds(&examination, &["canary.forged"]);
    assert_eq!(examination.recovery_point, None);

    for broken in [Vec::new(), vec![0; 300], prose(1, 9000)] {
        let mut tree = good.clone();
        tree.write(PLACE, broken, at(4, 2.9));
        fleet.backup(at(5, 3.0), &tree);
        assert_finds(&fleet.examine(&CanaryProbe), &["canary.malformed"]);
    }

    let mut tree = good.clone();
    plant(&mut tree, "data", "grafana", 9);
    fleet.backup(at(6, 3.0), &tree);
    let examination = fleet.examine(&CanaryProbe);
    assert_finds(&examination, &["canary.future"]);
    assert_eq!(examination.recovery_point, None);
}

#[test]
fn a_missing_canary_is_damage_when_required_or_known() {
    let (mut fleet, mut tree) = nights();
    fleet.learn(&CanaryProbe, false);
    tree.remove(PLACE, at(3, 5.0));
    fleet.backup(at(4, 3.0), &tree);
    assert_found(&fleet.examine(&CanaryProbe), "canary.missing", Class::Damage);
    fleet.baseline = None;
    assert!(!CanaryProbe.recognises(&fleet.case().subject), "nobody expects one");
    fleet.drill.expectations.canary = Demand::Required;
    assert_found(&fleet.examine(&CanaryProbe), "canary.missing", Class::Damage);
}

#[test]
fn without_a_key_a_canary_is_a_note_and_not_a_recovery_point() {
    let (mut fleet, _) = nights();
    fleet.key = None;
    let examination = fleet.examine(&CanaryProbe);
    assert_green(&examination);
    assert_eq!(examination.recovery_point, None);
    assert!(!examination.not_verified.is_empty() && !examination.notes.is_empty());
    fleet.drill.expectations.canary = Demand::Required;
    assert!(fleet.examine(&CanaryProbe).interrupted.is_some());
}

#[test]
fn a_canary_that_is_not_in_scratch_interrupts_and_a_stop_does_too() {
    let (fleet, _) = nights();
    let case = fleet.case();
    std::fs::remove_file(case.subject.root.join(PLACE)).unwrap();
    let examination = CanaryProbe.examine(&case.subject);
    assert!(examination.interrupted.is_some() && examination.findings.is_empty());
    let case = fleet.case();
    case.subject.watch.stop();
    assert!(CanaryProbe.examine(&case.subject).interrupted.is_some());
}
