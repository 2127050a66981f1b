//! What must be true of all runs together.

use std::collections::BTreeSet;

use firedrill_core::clock::Clock as _;
use firedrill_core::pipeline::job::Outcome;
use firedrill_core::pipeline::spec::{JobKind, JobSpec};
use jiff::{SignedDuration, Timestamp};

use super::machine::{Outage, PARALLEL, Took};
use super::world::World;
use crate::place::snapshot_files;

/// A run that has to wait for others waits no longer.
pub(super) const LATE_MAX: SignedDuration = SignedDuration::from_hours(3);

/// Every planned run took place once, and in time; but those that nobody was there for are made up for by one.
/// Returns how many were planned.
pub(super) fn assert_every_run_happened(
    world: &World,
    took: &[Took],
    from: Timestamp,
    to: Timestamp,
    outage: Option<Outage>,
) -> usize {
    let zone = world.config.timezone.get();
    let mut all = 0;
    for spec in JobSpec::all(&world.config) {
        let Some(schedule) = &spec.schedule else { continue };
        let planned: BTreeSet<_> = schedule.occurrences(zone, from, to, 10_000).into_iter().collect();
        all += planned.len();
        let runs: Vec<_> = took.iter().filter(|one| one.job == spec.name).map(|one| &one.run).collect();
        let mut begun = BTreeSet::new();
        for run in runs.iter().filter(|run| run.number == 1) {
            let slot = run.slot.unwrap();
            assert!(begun.insert(slot), "{} ran twice for {slot}", spec.name);
            let late = run.started.duration_since(slot);
            assert!(late >= SignedDuration::ZERO && late <= LATE_MAX, "{}: {late:?} after {slot}", spec.name);
        }
        let good: Vec<_> = runs.iter().filter(|run| run.outcome == Outcome::Succeeded).collect();
        let bad = runs.iter().filter(|run| run.outcome == Outcome::Failed).count();
        assert_eq!(good.len() + bad, runs.len(), "{}", spec.name);
        let good: BTreeSet<_> = good.iter().map(|run| run.slot.unwrap()).collect();
        assert_eq!(good, begun, "{}: a run that failed was not made good", spec.name);
        let left_out: Vec<_> = planned.difference(&begun).collect();
        assert!(begun.is_subset(&planned), "{}: runs that nobody planned", spec.name);
        let in_outage = |slot: &Timestamp| outage.is_some_and(|(from, to)| *slot > from && *slot <= to);
        assert!(left_out.iter().all(|slot| in_outage(slot)), "{}: {left_out:?} did not run", spec.name);
        let missed = world.ledger().read(&spec.name).unwrap().missed;
        assert_eq!(missed, left_out.len() as u64, "{}: missed runs", spec.name);
        let newest_in_outage = planned.iter().rfind(|slot| in_outage(slot));
        assert!(
            newest_in_outage.is_none_or(|slot| begun.contains(slot)),
            "{}: nothing makes up for it",
            spec.name
        );
    }
    all
}

/// The copies that a job uses: which alone, and which beside others. Told apart from what the scheduler goes by.
fn uses<'w>(world: &'w World, kind: &'w JobKind) -> Vec<(&'w str, bool)> {
    match kind {
        JobKind::Backup { copy, .. } => vec![(copy, false)],
        JobKind::Retention(rules) => vec![(&rules.copy, true)],
        JobKind::Mirror(mirror) => vec![(&mirror.from, false), (&mirror.to, true)],
        JobKind::Check(check) => vec![(&check.copy, false)],
        JobKind::RestoreTest(test) if test.copies.is_empty() => {
            world.config.copies.iter().map(|copy| (copy.name.as_str(), false)).collect()
        }
        JobKind::RestoreTest(test) => test.copies.iter().map(|copy| (copy.as_str(), false)).collect(),
        JobKind::Statistics(_) => Vec::new(),
    }
}

/// Nobody who must be alone was in company; no job ran beside itself; and no more ran than may.
pub(super) fn assert_nobody_met(world: &World, took: &[Took]) -> usize {
    let specs = JobSpec::all(&world.config);
    let kind = |took: &Took| &specs.iter().find(|spec| spec.name == took.job).unwrap().kind;
    let mut side_by_side = 0;
    for (number, one) in took.iter().enumerate() {
        let beside = |other: &&Took| other.run.started < one.run.ended && one.run.started < other.run.ended;
        for other in took.iter().skip(number + 1).filter(beside) {
            side_by_side += 1;
            assert_ne!(one.job, other.job, "it ran beside itself: {one:?} {other:?}");
            for (copy, alone) in uses(world, kind(one)) {
                let met =
                    uses(world, kind(other)).iter().any(|(theirs, also)| *theirs == copy && (alone || *also));
                assert!(!met, "they met on {copy}: {one:?} {other:?}");
            }
        }
        let at_start = took
            .iter()
            .filter(|other| other.run.started <= one.run.started && one.run.started < other.run.ended);
        assert!(at_start.count() <= PARALLEL, "too many at {}", one.run.started);
    }
    side_by_side
}

/// What is in the copies is what should be, it is whole, and it restores.
pub(super) fn assert_copies_are_good(world: &World) {
    for copy in world.config.copies.iter().map(|copy| copy.name.as_str()) {
        if world.holds_objects(copy) {
            world.assert_objects_are_good(copy);
            continue;
        }
        let there = world.there.lock().unwrap()[copy].clone();
        let told = world.snapshots(copy);
        assert_eq!(snapshot_files(&world.repository(copy)), there, "{copy}");
        world.restics[copy].check(true);
        let locks = std::fs::read_dir(world.repository(copy).join("locks")).unwrap().count();
        assert_eq!(locks, 0, "{copy}");
        world.restore_latest(copy, world.clock.now());
        for id in there.iter().take(20) {
            world.restores(copy, id, &told[id]);
        }
    }
}
