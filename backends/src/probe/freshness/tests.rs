use firedrill_core::config::units::Span;
use firedrill_core::finding::{Class, Examination};
use firedrill_core::ports::Probe;
use jiff::{SignedDuration, Timestamp};

use super::FreshnessProbe;
use crate::probe::fleet::{Fleet, Tree, assert_finds, assert_found, assert_green, at, prose};

fn look(fleet: &Fleet) -> Examination {
    fleet.examine(&FreshnessProbe)
}

fn hours(n: u64) -> Option<Span> {
    Some(Span(std::time::Duration::from_secs(n * 3600)))
}

fn small(seed: u64, time: Timestamp) -> Tree {
    let mut tree = Tree::default();
    tree.write("data/notes/a.txt", prose(seed, 300), time);
    tree
}

/// Snapshots at these hours since the first of January.
fn series(hours: &[f64]) -> Fleet {
    let mut fleet = Fleet::new("app");
    for (n, hour) in hours.iter().enumerate() {
        fleet.backup(at(1, *hour), &small(n as u64, at(1, hour - 0.5)));
    }
    fleet
}

/// `nights` nights with a dump and a file, the dump written half an hour before.
fn dumps(nights: i64, dated: bool) -> (Fleet, Tree) {
    let mut fleet = Fleet::new("pg");
    let mut tree = Tree::default();
    for day in 1..=nights {
        write_dump(&mut tree, day, dated);
        fleet.backup(at(day, 3.0), &tree);
    }
    (fleet, tree)
}

fn write_dump(tree: &mut Tree, day: i64, dated: bool) {
    let path = if dated { format!("data/db-202601{day:02}.sql.gz") } else { "data/db.sql".to_owned() };
    tree.write(&path, prose(day as u64, 3000), at(day, 2.5));
    tree.write("data/version.txt", prose(1, 30), at(1, 0.0));
}

#[test]
fn a_steady_series_is_green_and_counts_what_it_looked_at() {
    for fleet in [series(&[0.0]), series(&[0.0, 24.0, 48.0, 72.0, 96.0]), series(&[0.0, 24.0, 24.0])] {
        let examination = look(&fleet);
        assert_green(&examination);
        assert_eq!(examination.checked, fleet.snapshots.len() as u64 + 1);
        assert_eq!(examination.recovery_point, None, "left to what reads data");
        assert!(examination.baseline.contains_key("newest"));
    }
}

#[test]
fn a_snapshot_of_the_future_is_found_also_when_it_is_not_selected() {
    let mut fleet = series(&[0.0, 24.0, 8760.0, 48.0]);
    fleet.at = Some(at(1, 49.0));
    let examination = look(&fleet);
    assert_finds(&examination, &["freshness.future_snapshot"]);
    assert_eq!(examination.findings[0].class, Class::Anomaly);
    assert_eq!(examination.findings[0].location, fleet.snapshots[2].0.id.0);
    // Clocks that differ by minutes are no fault.
    let mut fleet = series(&[0.0, 24.0]);
    fleet.at = Some(at(1, 23.8));
    assert_green(&look(&fleet));
}

#[test]
fn the_newest_data_is_held_against_the_expectation() {
    let mut fleet = series(&[0.0, 24.0]);
    fleet.drill.expectations.newest_data_max = hours(26);
    assert_green(&look(&fleet));
    let mut old = small(1, at(1, 0.0));
    // Neither a canary nor a time in the future makes data newer.
    old.write("data/.firedrill-canary", "{}", at(3, 2.9));
    old.write("data/odd.txt", "x", at(300, 0.0));
    fleet.backup(at(3, 3.0), &old);
    let examination = look(&fleet);
    assert_found(&examination, "freshness.newest_data", Class::Objective);
    assert!(examination.notes.iter().any(|n| n.contains("dated after the snapshot")));
    let mut fleet = Fleet::new("app");
    fleet.drill.expectations.newest_data_max = hours(26);
    let mut empty = Tree::default();
    empty.folder("data", at(1, 0.0));
    fleet.backup(at(1, 3.0), &empty);
    assert_finds(&look(&fleet), &["freshness.newest_data"]);
}

#[test]
fn a_missing_night_exceeds_the_objective() {
    let mut fleet = series(&[0.0, 24.0, 48.0, 72.0, 144.0, 168.0]);
    fleet.drill.objectives.rpo = hours(26);
    let examination = look(&fleet);
    assert_found(&examination, "freshness.gap", Class::Objective);
    assert!(examination.notes.iter().any(|n| n.contains("worst window of loss")));
    // Without an objective it is told.
    fleet.drill.objectives.rpo = None;
    assert_green(&look(&fleet));
}

#[test]
fn retention_that_thins_out_is_no_gap() {
    let keep_daily = [2.0, 26.0, 50.0, 74.0, 98.0, 109.0];
    let keep_last_two_and_daily = [2.0, 26.0, 50.0, 74.0, 98.0, 109.0, 110.0];
    let keep_hourly_and_daily: Vec<f64> =
        [2.0, 26.0, 50.0].into_iter().chain((0..24).map(|h| 74.0 + f64::from(h))).collect();
    let late_by_minutes = [0.0, 1.0, 2.0, 3.0, 4.05, 5.0];
    // Pinned before an upgrade, minutes apart.
    let pinned = [0.0, 0.1, 0.2, 0.3, 200.0, 201.0];
    for hours_of in
        [&keep_daily[..], &keep_last_two_and_daily, &keep_hourly_and_daily, &late_by_minutes, &pinned]
    {
        let mut fleet = series(hours_of);
        fleet.drill.objectives.rpo = hours(1);
        assert_green(&look(&fleet));
    }
}

#[test]
fn a_series_that_stopped_is_a_missed_objective() {
    let mut fleet = series(&[0.0, 24.0, 48.0, 72.0, 96.0]);
    fleet.at = Some(at(1, 96.0 + 71.0));
    assert_green(&look(&fleet));
    fleet.at = Some(at(1, 96.0 + 73.0));
    assert_found(&look(&fleet), "freshness.stopped", Class::Objective);
    // With an objective of its own the judge measures the recovery point, and this probe is silent.
    fleet.drill.objectives.rpo = hours(26);
    assert_green(&look(&fleet));
    // Too few to know a rhythm; minutes apart; an office that is closed at the weekend.
    let mut few = series(&[0.0, 24.0, 48.0]);
    few.at = Some(at(40, 0.0));
    assert_green(&look(&few));
    let mut office = series(&[0.0, 24.0, 48.0, 72.0, 144.0, 168.0, 192.0, 216.0, 240.0]);
    office.at = Some(at(1, 240.0 + 80.0));
    assert_green(&look(&office));
}

#[test]
fn an_older_snapshot_does_not_report_the_series_again() {
    let mut fleet = series(&[0.0, 24.0, 48.0, 72.0, 96.0]);
    fleet.at = Some(at(1, 500.0));
    let mut case = fleet.case();
    case.subject.snapshot = fleet.snapshots[1].0.clone();
    assert!(FreshnessProbe.examine(&case.subject).findings.is_empty());
}

#[test]
fn a_dead_dump_job_is_found_at_once() {
    for dated in [false, true] {
        let (mut fleet, tree) = dumps(4, dated);
        assert_green(&look(&fleet));
        fleet.backup(at(5, 3.0), &tree);
        assert_found(&look(&fleet), "freshness.stalled", Class::Anomaly);
        // Accepted, it stays quiet.
        fleet.learn(&FreshnessProbe, true);
        assert_green(&look(&fleet));
        fleet.backup(at(6, 3.0), &tree);
        assert_green(&look(&fleet));
        fleet.backup(at(26, 3.0), &tree);
        assert_green(&look(&fleet));
    }
}

#[test]
fn a_dump_that_is_long_dead_is_found_by_memory() {
    let (mut fleet, tree) = dumps(4, false);
    fleet.learn(&FreshnessProbe, false);
    for day in 5..=9 {
        fleet.backup(at(day, 3.0), &tree);
    }
    assert_found(&look(&fleet), "freshness.stalled", Class::Anomaly);
    // Also with no earlier snapshot to read.
    fleet.drill.probes.shape.history = 0;
    assert_found(&look(&fleet), "freshness.stalled", Class::Anomaly);
}

#[test]
fn dumps_that_are_well_stay_green() {
    // Dumps nightly, snapshots hourly.
    let mut fleet = Fleet::new("pg");
    let mut tree = Tree::default();
    for hour in 0..60 {
        if hour % 24 == 2 {
            write_dump(&mut tree, 1 + hour / 24, false);
        }
        fleet.backup(
            at(1, hour as f64 + 0.9),
            if tree.0.is_empty() {
                write_dump(&mut tree, 1, false);
                &tree
            } else {
                &tree
            },
        );
        assert_green(&look(&fleet));
        if hour % 7 == 0 {
            fleet.learn(&FreshnessProbe, false);
        }
    }
    // A snapshot by hand soon after the nightly one holds the same dump.
    let (mut fleet, tree) = dumps(4, false);
    fleet.backup(at(4, 9.0), &tree);
    assert_green(&look(&fleet));
    // The same data dumped anew has a new time.
    let (mut fleet, mut tree) = dumps(4, false);
    tree.item("data/db.sql").mtime = at(5, 2.5);
    fleet.backup(at(5, 3.0), &tree);
    assert_green(&look(&fleet));
    // Source text that looks like a dump by its name.
    let mut fleet = Fleet::new("code");
    let mut tree = Tree::default();
    for day in 1..=9i64 {
        if day <= 4 {
            tree.write("data/migrations/current.sql", prose(day as u64, 400), at(day, 1.0));
        }
        fleet.backup(at(day, 3.0), &tree);
        assert_green(&look(&fleet));
    }
}

#[test]
fn an_older_state_that_came_back_is_found() {
    let mut fleet = Fleet::new("app");
    let mut tree = small(1, at(1, 1.0));
    fleet.backup(at(1, 3.0), &tree);
    let old = tree.clone();
    tree.write("data/notes/a.txt", prose(2, 300), at(2, 1.0));
    fleet.backup(at(2, 3.0), &tree);
    fleet.backup(at(3, 3.0), &old);
    assert_finds(&look(&fleet), &["freshness.went_back"]);
    // Also when only the canary is new.
    fleet.snapshots.pop();
    let mut with_canary = old.clone();
    with_canary.write("data/.firedrill-canary", "{1}", at(1, 1.0));
    with_canary.item("data").mtime = at(1, 1.0);
    fleet.snapshots[0].1 = with_canary.clone();
    with_canary.item("data/.firedrill-canary").mtime = at(3, 1.0);
    fleet.backup(at(3, 3.0), &with_canary);
    assert_finds(&look(&fleet), &["freshness.went_back"]);
}

#[test]
fn a_file_that_was_made_and_removed_is_not_going_back() {
    let mut fleet = Fleet::new("app");
    let mut tree = small(1, at(1, 1.0));
    fleet.backup(at(1, 3.0), &tree);
    tree.write("data/notes/b.txt", prose(2, 300), at(2, 1.0));
    fleet.backup(at(2, 3.0), &tree);
    fleet.learn(&FreshnessProbe, false);
    tree.remove("data/notes/b.txt", at(3, 1.0));
    fleet.backup(at(3, 3.0), &tree);
    let examination = look(&fleet);
    assert_green(&examination);
    fleet.baseline.as_mut().unwrap().snapshot_time = at(2, 3.0);
    assert!(
        examination.notes.iter().any(|n| n.contains("in the last drill it was")),
        "{:?}",
        examination.notes
    );
}

#[test]
fn an_empty_night_that_healed_is_not_going_back() {
    let mut fleet = Fleet::new("app");
    let tree = small(1, at(1, 1.0));
    fleet.backup(at(1, 3.0), &tree);
    let mut empty = Tree::default();
    empty.folder("data", at(2, 0.0));
    fleet.backup(at(2, 3.0), &empty);
    fleet.backup(at(3, 3.0), &tree);
    assert_green(&look(&fleet));
}

#[test]
fn a_stop_interrupts_and_odd_times_do_no_harm() {
    let fleet = series(&[0.0, 24.0]);
    let case = fleet.case();
    case.subject.watch.stop();
    assert!(FreshnessProbe.examine(&case.subject).interrupted.is_some());

    let mut fleet = series(&[0.0, 1.0, 2.0, 3.0, 4.0]);
    fleet.snapshots[0].0.time = Timestamp::MIN;
    fleet.snapshots[4].0.time = Timestamp::MAX;
    fleet.snapshots[3].1.item("data/notes/a.txt").mtime = Timestamp::MIN;
    fleet.at = Some(at(1, 5.0) + SignedDuration::from_secs(1));
    fleet.drill.probes.freshness.gap_window = Span(std::time::Duration::MAX);
    fleet.drill.probes.freshness.future_max = Span(std::time::Duration::ZERO);
    fleet.drill.objectives.rpo = Some(Span(std::time::Duration::MAX));
    assert_finds(&look(&fleet), &["freshness.future_snapshot"]);
}

#[test]
fn folders_that_lead_to_a_dump_do_not_hide_that_it_stands_still() {
    let stands_still = |base: &str, path: &str| {
        let mut fleet = Fleet::new("pg");
        let mut tree = Tree::default();
        for day in 1..=9i64 {
            if day <= 4 {
                tree.write(path, prose(day as u64, 3000), at(day, 2.5));
            }
            tree.write(&format!("{base}/notes.txt"), prose(day as u64, 300), at(day, 2.6));
            fleet.backup(at(day, 3.0), &tree).paths = vec![format!("/{base}")];
            if day == 4 {
                assert_green(&look(&fleet));
                fleet.learn(&FreshnessProbe, false);
            }
        }
        look(&fleet).findings.iter().any(|finding| finding.code == "freshness.stalled")
    };
    for (base, path) in [
        ("srv/share/db", "srv/share/db/app.sql"),
        ("opt/test/lib", "opt/test/lib/nightly/app.sql.gz"),
        ("var", "var/lib/backups/app.sql"),
        ("home", "home/somebody/src/app.dump"),
    ] {
        assert!(stands_still(base, path), "{path}");
    }
    for (base, path) in [
        ("srv/app", "srv/app/migrations/current.sql"),
        ("srv/app", "srv/app/lib/setup.sql"),
        ("srv/node_modules", "srv/node_modules/x/setup.sql"),
    ] {
        assert!(!stands_still(base, path), "{path}");
    }
}
