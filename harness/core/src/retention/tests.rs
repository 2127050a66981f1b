//! The rules, by examples and by what must always hold. They are held against restic itself beside the adapter
//! that writes.

use std::collections::BTreeSet;

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{Candidate, Decided, Decision, GroupBy, Guard, Policy, Refusal, apply};
use crate::snapshot::SnapshotId;

const NOW: &str = "2026-03-31T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn candidate(id: usize, time: Timestamp, offset: i8) -> Candidate {
    Candidate {
        id: SnapshotId(format!("{id:064}")),
        time,
        offset: Offset::constant(offset),
        host: "host".to_owned(),
        paths: vec!["/srv".to_owned()],
        tags: Vec::new(),
    }
}

fn at(times: &[&str]) -> Vec<Candidate> {
    times.iter().enumerate().map(|(id, time)| candidate(id, time.parse().unwrap(), 0)).collect()
}

fn kept(candidates: &[Candidate], policy: &Policy) -> Vec<String> {
    let decided = apply(candidates, GroupBy::default(), policy, now(), &TimeZone::UTC);
    let kept = decided.iter().filter(|one| !one.is_removed());
    kept.map(|one| one.candidate.time.to_string()).collect()
}

#[test]
fn a_day_is_the_day_of_who_made_it() {
    // 23:30 and 00:30 in New York are the same day in UTC.
    let late: Timestamp = "2026-03-02T04:30:00Z".parse().unwrap();
    let early = late + SignedDuration::from_hours(1);
    let policy = Policy { daily: Some(5), ..Policy::default() };
    let there: Vec<_> = [late, early].iter().enumerate().map(|(id, time)| candidate(id, *time, -5)).collect();
    assert_eq!(kept(&there, &policy).len(), 2);
    let here = at(&["2026-03-01T04:30:00Z", "2026-03-02T04:30:00Z", "2026-03-02T05:30:00Z"]);
    assert_eq!(kept(&here, &policy), ["2026-03-02T05:30:00Z", "2026-03-01T04:30:00Z"]);
}

#[test]
fn a_month_back_is_one_of_the_calendar() {
    let all = at(&["2026-03-31T00:00:00Z", "2026-03-03T00:00:01Z", "2026-03-03T00:00:00Z"]);
    let policy = Policy { within: Some("1m".parse().unwrap()), ..Policy::default() };
    // 31 February is 3 March.
    assert_eq!(kept(&all, &policy), ["2026-03-31T00:00:00Z", "2026-03-03T00:00:01Z"]);
}

#[test]
fn the_future_does_not_move_the_window() {
    let all = at(&["2030-01-01T00:00:00Z", "2026-03-30T00:00:00Z", "2026-03-29T12:00:00Z"]);
    let policy = Policy { within: Some("1d".parse().unwrap()), ..Policy::default() };
    assert_eq!(kept(&all, &policy).len(), 3);
}

#[test]
fn tags_need_all_of_a_list() {
    let mut all = at(&["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"]);
    all[0].tags = vec!["a".to_owned(), "b".to_owned()];
    all[1].tags = vec!["a".to_owned()];
    let policy = |list: &str| Policy { tags: vec![list.to_owned()], ..Policy::default() };
    assert_eq!(kept(&all, &policy("a,b")), ["2026-03-01T00:00:00Z"]);
    assert_eq!(kept(&all, &policy("")), ["2026-03-03T00:00:00Z"]);
}

#[test]
fn policies_are_written_as_people_write_them() {
    let policy: Policy = serde_json::from_str(r#"{"last":3,"within_daily":"1m","tags":["keep"]}"#).unwrap();
    assert_eq!(policy.within_daily.unwrap().months, 1);
    assert!(!policy.is_empty() && Policy { last: Some(0), ..Policy::default() }.is_empty());
    assert!(serde_json::from_str::<Policy>(r#"{"within":"1 month"}"#).is_err());
}

#[test]
fn the_guard_refuses() {
    let all = at(&["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"]);
    let policy = Policy { last: Some(1), ..Policy::default() };
    let decided = apply(&all, GroupBy::default(), &policy, now(), &TimeZone::UTC);
    assert_eq!(Guard::default().check(&decided, now()), Ok(()));
    let never_drop: BTreeSet<_> = [all[1].id.clone()].into();
    let refused = Guard { never_drop, ..Guard::default() }.check(&decided, now());
    assert_eq!(refused, Err(Refusal::NeverDrop(all[1].id.clone())));
    let refused = Guard { max_share: Some(0.5), ..Guard::default() }.check(&decided, now());
    assert_eq!(refused, Err(Refusal::TooMany { removed: 2, all: 3 }));
    let nothing_left: Vec<_> =
        decided.iter().map(|one| Decided { decision: Decision::Remove, ..one.clone() }).collect();
    assert!(matches!(Guard::default().check(&nothing_left, now()), Err(Refusal::Emptied { count: 3, .. })));
    let early = "2026-03-01T00:00:00Z".parse().unwrap();
    assert!(matches!(Guard::default().check(&decided, early), Err(Refusal::Future { .. })));
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let count = || proptest::option::of(0_u32..5);
    let age = || proptest::option::of((0_u16..3, 0_u16..20, 0_u32..60, 0_u32..60));
    (count(), count(), count(), count(), age(), age()).prop_map(
        |(last, hourly, weekly, yearly, within, monthly)| {
            let age = |(years, months, days, hours)| super::Age { years, months, days, hours };
            let (within, within_monthly) = (within.map(age), monthly.map(age));
            Policy { last, hourly, weekly, yearly, within, within_monthly, ..Policy::default() }
        },
    )
}

fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (any::<i64>(), -12_i8..13, 0_u8..3);
    proptest::collection::vec(one, 0..30).prop_map(|all| {
        let of = |(id, (time, offset, host)): (usize, (i64, i8, u8))| {
            // All moments that there are, and mostly those of some years.
            let seconds = if id == 0 { time % 200_000_000_000 } else { 1_700_000_000 + time % 90_000_000 };
            let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MIN);
            Candidate { host: format!("host {host}"), ..candidate(id, time, offset) }
        };
        all.into_iter().enumerate().map(of).collect()
    })
}

proptest! {
    #[test]
    fn every_snapshot_is_decided_once(all in any_candidates(), policy in any_policy()) {
        let decided = apply(&all, GroupBy::default(), &policy, now(), &TimeZone::UTC);
        let ids: BTreeSet<_> = decided.iter().map(|one| &one.candidate.id).collect();
        prop_assert_eq!(ids.len(), all.len());
        prop_assert_eq!(decided.len(), all.len());
        if policy.is_empty() {
            prop_assert!(decided.iter().all(|one| !one.is_removed()));
        }
    }

    #[test]
    fn the_newest_so_many_stay(all in any_candidates(), last in 1_u32..5) {
        let policy = Policy { last: Some(last), ..Policy::default() };
        let decided = apply(&all, GroupBy::default(), &policy, now(), &TimeZone::UTC);
        for series in decided.chunk_by(|a, b| a.series == b.series) {
            let kept = series.iter().filter(|one| !one.is_removed()).count();
            prop_assert_eq!(kept, series.len().min(last as usize));
            prop_assert!(series.iter().take(kept).all(|one| !one.is_removed()));
        }
    }

    #[test]
    fn the_order_does_not_matter(all in any_candidates(), policy in any_policy()) {
        let decided = apply(&all, GroupBy::default(), &policy, now(), &TimeZone::UTC);
        let turned: Vec<_> = all.into_iter().rev().collect();
        prop_assert_eq!(decided, apply(&turned, GroupBy::default(), &policy, now(), &TimeZone::UTC));
    }
}
