//! When jobs are started.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{jobs, target};
use crate::pipeline::job::{Facts, JobReport, Outcome};
use crate::pipeline::scheduler::{Decision, Scheduler, Why};
use crate::pipeline::spec::JobName;
use crate::pipeline::state::{Attempt, JobState, Retrying};

fn at(text: &str) -> Timestamp {
    format!("2026-02-{text}Z").parse().unwrap()
}

fn name(text: &str) -> JobName {
    JobName(text.to_owned())
}

/// One job of which the start at `handled` was the last one.
fn known(job: &str, handled: &str) -> (JobName, JobState) {
    let mut state = JobState::new(name(job));
    state.handled = Some(at(handled));
    (name(job), state)
}

fn decide(scheduler: &Scheduler, now: &str, states: &[(JobName, JobState)], running: &[&str]) -> Vec<String> {
    let states: BTreeMap<_, _> = states.iter().cloned().collect();
    let running: BTreeSet<_> = running.iter().map(|job| name(job)).collect();
    let told = |decision: Decision| match decision {
        Decision::Start { job, slot, number, missed } => {
            format!("start {job} {} #{number} +{missed}", slot.strftime("%d %H:%M"))
        }
        Decision::Drop { job, slot, count, why } => {
            format!("drop {job} {} x{count} {why:?}", slot.strftime("%d %H:%M"))
        }
        Decision::Enrol { job } => format!("enrol {job}"),
        Decision::SetBack { job, .. } => format!("back {job}"),
    };
    scheduler.decide(at(now), &states, &running).into_iter().map(told).collect()
}

fn hourly(rules: &str) -> Scheduler {
    Scheduler::new(jobs(&format!("targets:\n{}", target("shop", "20 * * * *", rules))), 4)
}

#[test]
fn a_planned_start_comes_once() {
    let scheduler = hourly("");
    let states = [known("shop", "01T09:20:00")];
    assert!(decide(&scheduler, "01T10:19:59", &states, &[]).is_empty());
    assert_eq!(decide(&scheduler, "01T10:20:00", &states, &[]), ["start shop 01 10:20 #1 +0"]);
    // It is handled from its beginning on, so that it is not started twice, whatever becomes of it.
    let states = [known("shop", "01T10:20:00")];
    assert!(decide(&scheduler, "01T10:20:05", &states, &[]).is_empty());
    assert!(decide(&scheduler, "01T10:20:05", &states, &["shop"]).is_empty());
}

#[test]
fn a_new_job_does_not_make_up_for_its_past() {
    let states = [(name("shop"), JobState::new(name("shop")))];
    assert_eq!(decide(&hourly(""), "01T10:20:00", &states, &[]), ["enrol shop"]);
    assert!(decide(&hourly(""), "01T10:20:00", &[], &[]).is_empty(), "nobody knows when it ran");
}

#[test]
fn missed_starts_are_made_up_for_once_or_not_at_all() {
    let states = [known("shop", "01T09:20:00")];
    assert_eq!(decide(&hourly(""), "03T10:00:00", &states, &[]), ["start shop 03 09:20 #1 +47"]);
    let skip = hourly("missed: skip, deadline: 5m");
    assert_eq!(decide(&skip, "03T10:00:00", &states, &[]), ["drop shop 03 09:20 x48 Missed"]);
    assert_eq!(
        decide(&skip, "01T10:20:30", &states, &[]),
        ["start shop 01 10:20 #1 +0"],
        "late is not missed"
    );
}

#[test]
fn a_clock_that_was_set_back_does_not_silence_a_job() {
    let states = [known("shop", "20T09:20:00")];
    assert_eq!(decide(&hourly(""), "01T10:20:00", &states, &[]), ["back shop"]);
    // A little is what time servers do.
    let states = [known("shop", "01T10:20:00")];
    assert!(decide(&hourly(""), "01T10:18:00", &states, &[]).is_empty());
}

#[test]
fn a_job_that_still_runs_is_not_started_again() {
    let scheduler = hourly("");
    let states = [known("shop", "01T09:20:00")];
    assert!(
        decide(&scheduler, "01T10:30:00", &states, &["shop"]).is_empty(),
        "the newest start waits for it"
    );
    assert_eq!(decide(&scheduler, "01T12:30:00", &states, &["shop"]), ["drop shop 01 11:20 x2 StillRunning"]);
    assert_eq!(Why::StillRunning.words(), "the run before was still going on");
}

#[test]
fn a_failed_run_is_tried_again_until_the_next_one_comes() {
    let scheduler = hourly("");
    let (job, mut state) = known("shop", "01T10:20:00");
    state.retry = Some(Retrying { slot: at("01T10:20:00"), number: 2, not_before: at("01T10:25:00") });
    let states = [(job, state)];
    assert!(decide(&scheduler, "01T10:24:59", &states, &[]).is_empty());
    assert_eq!(decide(&scheduler, "01T10:25:00", &states, &[]), ["start shop 01 10:20 #2 +0"]);
    assert_eq!(decide(&scheduler, "01T11:20:00", &states, &[]), ["start shop 01 11:20 #1 +0"]);
    let wake = |now: &str| scheduler.wake(at(now), &states.iter().cloned().collect());
    assert_eq!(wake("01T10:24:50"), at("01T10:25:00"));
    assert_eq!(wake("01T10:20:00"), at("01T10:20:30"), "clocks change");
}

#[test]
fn jobs_that_must_not_meet_wait_in_their_order() {
    let text = format!(
        "targets:\n{}{}{}jobs:\n  - {{name: retention, schedule: \"5 3 * * *\", rules: {{overlap: wait}}, retention: {{copy: local, keep: {{daily: 7}}}}}}\n",
        target("a", "4 * * * *", ""),
        target("b", "6 * * * *", ""),
        target("c", "6 * * * *", "overlap: skip"),
    );
    let scheduler = Scheduler::new(jobs(&text), 4);
    let states = [
        known("a", "01T03:04:00"),
        known("b", "01T02:06:00"),
        known("c", "01T02:06:00"),
        known("retention", "01T00:00:00"),
    ];
    // `a` runs, so retention waits; `b` and `c` come after it and do not overtake.
    assert!(decide(&scheduler, "01T03:06:00", &states, &["a"]).is_empty());
    // With `a` gone retention goes first; `b` waits for it, `c` is left out.
    assert_eq!(
        decide(&scheduler, "01T03:06:00", &states, &[]),
        ["start retention 01 03:05 #1 +0", "drop c 01 03:06 x1 Overlap"]
    );
    let mut states = states;
    states[3] = known("retention", "01T03:05:00");
    assert_eq!(decide(&scheduler, "01T03:06:00", &states, &["retention"]), ["drop c 01 03:06 x1 Overlap"]);
    assert_eq!(
        decide(&scheduler, "01T03:07:00", &states, &[]),
        ["start b 01 03:06 #1 +0", "start c 01 03:06 #1 +0"]
    );
}

#[test]
fn no_more_run_at_a_time_than_may() {
    let text: String = ["a", "b", "c"].iter().map(|job| target(job, "0 * * * *", "")).collect();
    let scheduler = Scheduler::new(jobs(&format!("targets:\n{text}")), 2);
    let states: Vec<_> = ["a", "b", "c"].iter().map(|job| known(job, "01T09:00:00")).collect();
    assert_eq!(decide(&scheduler, "01T10:00:00", &states, &[]).len(), 2);
    assert!(decide(&scheduler, "01T10:00:00", &states, &["a", "b"]).is_empty());
}

#[test]
fn jitter_is_within_its_bounds_and_always_the_same() {
    let scheduler = hourly("jitter: 10m");
    let (spec, mut offsets) = (&scheduler.jobs()[0], BTreeSet::new());
    for hour in 0..24 {
        let (_, state) = known("shop", &format!("01T{hour:02}:20:00"));
        let planned = state.handled.unwrap().checked_add(SignedDuration::from_hours(1)).unwrap();
        let start = scheduler.next_start(spec, &state).unwrap();
        let offset = start.duration_since(planned);
        assert!(offset >= SignedDuration::ZERO && offset <= SignedDuration::from_mins(10), "{offset:?}");
        assert_eq!(scheduler.next_start(spec, &state), Some(start));
        offsets.insert(offset.as_secs());
        let states = [(name("shop"), state)];
        let before = start.checked_sub(SignedDuration::from_millis(1)).unwrap();
        let after =
            |now: Timestamp| scheduler.decide(now, &states.iter().cloned().collect(), &BTreeSet::new());
        assert!(after(before).is_empty() && after(start).len() == 1);
    }
    assert!(offsets.len() > 12, "hardly by chance: {offsets:?}");
}

/// A month of an hourly job with runs of any length, a scheduler that is away at times, and a clock that is changed:
/// no start twice, none lost without a word.
#[test]
fn every_planned_start_of_a_month_is_accounted_for() {
    let text =
        format!("timezone: Europe/Zurich\ntargets:\n{}", target("shop", "20 * * * *", "retry: {times: 0}"));
    let scheduler = Scheduler::new(jobs(&text), 4);
    let mut now: Timestamp = "2026-10-10T00:00:00Z".parse().unwrap();
    let end: Timestamp = "2026-11-10T00:00:00Z".parse().unwrap();
    let mut state = JobState::new(name("shop"));
    state.handled = Some(now);
    let (mut started, mut accounted) = (BTreeSet::new(), 0_u64);
    let mut ends_at: Option<Timestamp> = None;
    let mut step = 0_i64;
    while now < end {
        step += 1;
        if ends_at.is_some_and(|at| at <= now) {
            state.end(JobReport::succeeded(Facts::None), now, None).unwrap();
            ends_at = None;
        }
        let running = ends_at.iter().map(|_| name("shop")).collect();
        let states = BTreeMap::from([(name("shop"), state.clone())]);
        for decision in scheduler.decide(now, &states, &running) {
            match decision {
                Decision::Start { slot, number, missed, .. } => {
                    assert!(started.insert(slot), "{slot} was started twice");
                    accounted += 1 + missed;
                    state.begin(Attempt { slot: Some(slot), number, started: now, process: 1 });
                    // From a minute to three hours.
                    ends_at = now.checked_add(SignedDuration::from_mins(1 + (step * 37) % 180)).ok();
                }
                Decision::Drop { slot, count, .. } => {
                    accounted += count;
                    state.handled = state.handled.max(Some(slot));
                }
                other => panic!("{other:?}"),
            }
        }
        // Now and then nobody is there for up to a day.
        let away = if step % 211 == 0 { (step * 53) % 1440 } else { 1 };
        now = now.checked_add(SignedDuration::from_mins(away)).unwrap();
    }
    let zone = jiff::tz::TimeZone::get("Europe/Zurich").unwrap();
    let from: Timestamp = "2026-10-10T00:00:00Z".parse().unwrap();
    let planned = scheduler.jobs()[0].schedule.as_ref().unwrap().occurrences(
        &zone,
        from,
        state.handled.unwrap(),
        10_000,
    );
    assert_eq!(accounted, planned.len() as u64);
    assert!(started.len() > 100, "{}", started.len());
    assert!(started.iter().all(|slot| planned.contains(slot)));
    assert_eq!(state.last().unwrap().outcome, Outcome::Succeeded);
}
