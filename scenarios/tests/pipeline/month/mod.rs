//! Weeks of five fleets on a simulated clock. A server looks when there is something to do, and is replaced every
//! day; jobs run in threads of their own as they would in processes, hold their locks until their simulated end,
//! and do real work in real repositories and buckets.
//!
//! | module | what it is |
//! |---|---|
//! | `world` | a fleet in a folder, and what there should be in its copies |
//! | `machine` | servers that come and go, and runs that outlive them |
//! | `work` | jobs on restic repositories, each held against real restic |
//! | `objects` | jobs on plain objects, each held against a walk over files and rules written once more |
//! | `velero` | somebody else who writes into a bucket |
//! | `proof` | what must be true of all runs together |
//!
//! | what | how it is proven |
//! |---|---|
//! | runs | each planned one took place once and in time, a failed one was made good, nobody met who must not |
//! | retention | of snapshots: `restic forget --dry-run`, a moment before; of objects: the rules once more |
//! | mirrors | of repositories: real restic lists them after every run, and checks all data on Sundays; of objects: byte for byte |
//! | restore tests | the newest of each series restores to what it was made of: by real restic, and from objects by firedrill |
//!
//! Left out is what firedrill does not run itself. Velero's backups are opaque files here, dropped by Velero's own
//! rules: their bucket is mirrored, counted, and the archives in it are read, but no backup is restored into a cluster.
//! Longhorn's volumes, snapshots of etcd that the cluster takes by its own schedule beside those that are jobs here,
//! and the lifecycle rules of buckets (colder tiers, old versions) do not occur. Nor do engines: a dump is what a
//! command writes. And restore tests run in this process, not as `firedrill restore-test`.

mod machine;
mod objects;
mod proof;
mod velero;
mod work;
mod world;

use std::collections::BTreeMap;
use std::time::Instant;

use firedrill_core::config::Config;
use firedrill_core::pipeline::job::Outcome;
use jiff::{SignedDuration, Timestamp};

use crate::fleet::{self, Site};
use machine::simulate;
use proof::{LATE_MAX, assert_copies_are_good, assert_every_run_happened, assert_nobody_met};
use world::World;

struct Story {
    fleet: fn(&Site<'_>) -> Config,
    from: &'static str,
    days: i64,
    outage: Option<(&'static str, &'static str)>,
}

/// What became of a story.
struct Told {
    /// How often each job was to run.
    runs: BTreeMap<String, usize>,
    /// Snapshots and objects that rules dropped.
    dropped: usize,
    /// How often real restic opened a mirror, and how often it checked all of it.
    opened: usize,
    checked: usize,
    /// Files that a mirror removed because its source had.
    unmirrored: u64,
    restored: usize,
    counted: usize,
}

impl Told {
    fn of(&self, job: &str) -> usize {
        self.runs.get(job).copied().unwrap_or_default()
    }
}

impl Story {
    fn tell(&self, seed: u64) -> Option<Told> {
        let began = Instant::now();
        let world = World::new(seed, self.from, self.fleet)?;
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let outage = self.outage.map(|(from, to)| (at(from), at(to)));
        let from = at(self.from);
        let to = from + SignedDuration::from_hours(24 * self.days);
        let took = simulate(&world, self.days, outage);
        // What was planned shortly before the end may still have had to wait.
        let settled = to - LATE_MAX;
        let in_time: Vec<_> = took.iter().filter(|one| one.run.slot.unwrap() <= settled).cloned().collect();
        let planned = assert_every_run_happened(&world, &in_time, from, settled, outage);
        let side_by_side = assert_nobody_met(&world, &took);
        assert_copies_are_good(&world);
        let failed = took.iter().filter(|one| one.run.outcome == Outcome::Failed).count();
        let mut runs = BTreeMap::new();
        for one in took.iter().filter(|one| one.run.number == 1) {
            *runs.entry(one.job.0.clone()).or_default() += 1;
        }
        let tally = world.tally.lock().unwrap();
        eprintln!(
            "seed {seed}: {} days in {:?}: {planned} planned until shortly before the end, {} runs, {failed} failed and made good, {side_by_side} side by side, {tally:?}",
            self.days,
            began.elapsed(),
            took.len()
        );
        eprintln!("{runs:?}");
        // Otherwise this proves less than it says.
        assert!(failed > 0 && tally.restarts >= usize::try_from(self.days - 1).unwrap() * 24 / 28);
        assert!(tally.restored > 0);
        Some(Told {
            runs,
            dropped: tally.dropped,
            opened: tally.opened,
            checked: tally.checked,
            unmirrored: tally.unmirrored,
            restored: tally.restored,
            counted: tally.counted,
        })
    }
}

/// The clock goes forward: the backup of half past two has no such moment on one of these days.
const SPRING: Story =
    Story { fleet: fleet::single_node, from: "2026-03-21T12:00:00Z", days: 9, outage: None };

#[test]
fn nine_days_of_a_single_node() {
    let Some(told) = SPRING.tell(1) else { return };
    assert_eq!((told.of("volumes"), told.of("host")), (9, 9));
    assert_eq!((told.of("check"), told.of("restore-test"), told.counted), (1, 2, 9));
    assert!(told.dropped > 0);
}

#[test]
#[ignore = "takes minutes"]
fn soak_a_month_of_a_single_node() {
    let Some(told) = (Story { from: "2026-03-10T12:00:00Z", days: 31, ..SPRING }).tell(1) else { return };
    assert_eq!((told.of("volumes"), told.of("host")), (31, 31));
    assert_eq!((told.of("retention-volumes"), told.of("retention-host")), (31, 31));
    assert_eq!((told.of("check"), told.of("restore-test"), told.of("statistics")), (4, 4, 31));
    assert!(told.dropped > 20 && told.counted > 25, "{} {}", told.dropped, told.counted);
}

/// The clock goes back: one night has an hour twice. Nobody serves for some hours of the first day.
const AUTUMN: Story = Story {
    fleet: fleet::hourly,
    from: "2026-10-23T22:00:00Z",
    days: 2,
    outage: Some(("2026-10-24T09:05:00Z", "2026-10-24T11:35:00Z")),
};

#[test]
fn two_days_of_an_hourly_fleet() {
    let Some(told) = AUTUMN.tell(1) else { return };
    // 48 hours, less what the outage left out; the full hours at both ends do not count.
    assert_eq!((told.of("grafana"), told.of("paperless")), (46, 46));
    assert_eq!((told.of("retention"), told.of("offsite"), told.of("restore-test")), (2, 2, 1));
    assert_eq!((told.opened, told.checked), (2, 1));
    assert!(told.dropped > 0);
}

#[test]
#[ignore = "takes half an hour or more"]
fn soak_a_month_of_an_hourly_fleet() {
    let story = Story { from: "2026-09-30T22:00:00Z", days: 31, outage: None, ..AUTUMN };
    let Some(told) = story.tell(2) else { return };
    assert_eq!((told.of("grafana"), told.of("emby"), told.of("paperless")), (744, 744, 743));
    assert_eq!((told.of("retention"), told.of("offsite"), told.of("restore-test")), (31, 31, 4));
    assert!(told.opened == 31 && told.checked == 4 && told.dropped > 3000, "{}", told.dropped);
}

/// Begins on a Sunday before anything is planned. Objects are dated by their store as well, which has no simulated clock: these weeks are long
/// past, as a time that is still to come would be doubted.
const SUMMER: Story =
    Story { fleet: fleet::many_databases, from: "2025-06-01T00:50:00Z", days: 9, outage: None };

/// Runs and restores of the fleet with many databases: each ran every day, and each is restored every Sunday.
fn many_databases(days: usize, seed: u64) -> Option<Told> {
    let told = Story { days: i64::try_from(days).unwrap(), ..SUMMER }.tell(seed)?;
    for (name, ..) in fleet::DATABASES {
        assert_eq!(told.of(name), days, "{name}");
    }
    assert_eq!((told.of("open-webui"), told.of("control-plane")), (days, days));
    assert_eq!(told.of("etcd-six-hourly"), days * 4);
    let sundays = days.div_ceil(7);
    assert_eq!((told.of("restore-test"), told.restored), (sundays, sundays * 17));
    assert!(told.counted > days / 2, "{}", told.counted);
    // Seven days stay of 16 series, and five snapshots of one.
    let most = (days - 7) * 16 + days * 4 - 5;
    assert!(told.dropped <= most && told.dropped + 18 >= most, "{} of {most}", told.dropped);
    Some(told)
}

#[test]
fn nine_days_of_many_databases() {
    many_databases(9, 1);
}

#[test]
#[ignore = "takes minutes"]
fn soak_a_month_of_many_databases() {
    many_databases(31, 2);
}

/// Runs of the fleet whose backups Velero makes.
fn velero(days: usize, seed: u64) {
    let story = Story { fleet: fleet::velero, days: i64::try_from(days).unwrap(), ..SUMMER };
    let Some(told) = story.tell(seed) else { return };
    assert_eq!((told.of("mirror"), told.of("statistics")), (days, days));
    assert_eq!(told.of("restore-test"), days.div_ceil(7));
    assert_eq!(told.counted, days);
    // Of each backup that expired, daily after a week and weekly after thirty days: three files and its data.
    let expired = days as u64 - 7 + (days as u64 - 1) / 30;
    assert!(told.unmirrored >= 4 * expired - 4 && told.unmirrored <= 4 * expired, "{}", told.unmirrored);
}

#[test]
fn nine_days_of_a_bucket_that_velero_fills() {
    velero(9, 4);
}

#[test]
#[ignore = "takes minutes"]
fn soak_a_month_of_a_bucket_that_velero_fills() {
    velero(31, 2);
}

/// Runs of the fleet with one control plane.
fn control_plane(days: usize, seed: u64) {
    let story = Story { fleet: fleet::control_plane, days: i64::try_from(days).unwrap(), ..SUMMER };
    let Some(told) = story.tell(seed) else { return };
    for job in ["etcd", "pki", "retention-etcd", "retention-pki", "offsite-etcd"] {
        assert_eq!(told.of(job), days, "{job}");
    }
    let sundays = days.div_ceil(7);
    for job in ["offsite-pki", "retention-vault", "check", "restore-test"] {
        assert_eq!(told.of(job), sundays, "{job}");
    }
    assert_eq!((told.opened, told.checked), (sundays, sundays));
    // Seven of each stay here, and what is dropped here goes off-site, too; there fourteen of the encrypted ones stay.
    let vault = (7 * sundays - 6).saturating_sub(14);
    assert_eq!((told.dropped, told.unmirrored), (2 * (days - 7) + vault, days as u64 - 7));
}

#[test]
fn nine_days_of_a_control_plane() {
    control_plane(9, 1);
}

#[test]
#[ignore = "takes minutes"]
fn soak_a_month_of_a_control_plane() {
    control_plane(31, 2);
}
