//! Dumps that are missing between others. Dumps are made by the clock, and the names tell when: with a
//! schedule each run must have left one; without one, a series that was always regular must stay so.
//!
//! Only the newest intervals are judged: retention thins out older ones just as an outage would.

use std::collections::BTreeMap;

use firedrill_core::config::{Cron, units::Span};
use firedrill_core::finding::Finding;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// So many of the newest intervals are judged.
const JUDGED: usize = 3;
/// So many other intervals show a rhythm, and at most so many are looked at.
const OTHERS_MIN: usize = 6;
const OTHERS_MAX: usize = 14;
/// Shorter intervals are those of people.
const INTERVAL_MIN: SignedDuration = SignedDuration::from_mins(30);
/// Clocks differ a little.
const EARLY: SignedDuration = SignedDuration::from_mins(10);
/// A run that has not left a dump yet may still be at it for so long.
const LATE_MAX: SignedDuration = SignedDuration::from_hours(6);
/// More moments are not named.
const NAMED_MAX: usize = 3;

/// When each dump of a series was made and stored, oldest first.
pub(super) type Times = BTreeMap<String, Vec<(Timestamp, Timestamp)>>;

/// What is missing.
pub(super) fn gaps(times: &Times, schedules: &[(String, Cron, TimeZone)], now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (series, times) in times {
        let mut of_series = schedules.iter().filter(|(name, ..)| name == series);
        let missing = match of_series.next() {
            Some((_, cron, zone)) => by_schedule(times, cron, zone, now),
            None => by_habit(times),
        };
        findings.extend(
            missing.map(|(expected, seen)| Finding::objective("objects.gap", series.clone(), expected, seen)),
        );
    }
    findings
}

fn by_schedule(
    times: &[(Timestamp, Timestamp)],
    cron: &Cron,
    zone: &TimeZone,
    now: Timestamp,
) -> Option<(String, String)> {
    let usual = SignedDuration::try_from(cron.longest_gap()?.0).ok()?;
    let patience = (usual / 4).clamp(SignedDuration::from_mins(15), LATE_MAX);
    let first = times.iter().rev().nth(JUDGED).or(times.first())?.0;
    let runs = cron.occurrences(zone, first, now, 200);
    let ends = runs.iter().skip(1).copied().map(Some).chain([None]);
    let missed: Vec<Timestamp> = runs
        .iter()
        .copied()
        .zip(ends)
        .filter(|(run, end)| {
            let start = run.saturating_sub(EARLY).unwrap_or(*run);
            let within = |time: Timestamp| time >= start && end.is_none_or(|end| time < end);
            // Names may be in another zone than somebody said; what was stored then was made then.
            let left_one = times.iter().rev().any(|(made, stored)| within(*made) || within(*stored));
            let may_come = end.is_none() && now.duration_since(*run) < patience;
            !left_one && !may_come
        })
        .map(|(run, _)| run)
        .collect();
    let mut named: Vec<String> = missed.iter().take(NAMED_MAX).map(|run| format!("{run:.0}")).collect();
    if missed.len() > NAMED_MAX {
        named.push(format!("{} more", missed.len() - NAMED_MAX));
    }
    (!missed.is_empty())
        .then(|| (format!("a dump of each run of `{cron}`"), format!("none of {}", named.join(", "))))
}

fn by_habit(times: &[(Timestamp, Timestamp)]) -> Option<(String, String)> {
    let mut made: Vec<Timestamp> = times.iter().rev().map(|(made, _)| *made).collect();
    made.dedup();
    let pairs: Vec<(Timestamp, Timestamp)> =
        made.windows(2).filter_map(|w| Some((*w.get(1)?, *w.first()?))).take(JUDGED + OTHERS_MAX).collect();
    let interval = |(old, new): &(Timestamp, Timestamp)| new.duration_since(*old);
    pairs.iter().enumerate().take(JUDGED).find_map(|(at, pair)| {
        let mut others: Vec<_> = pairs
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(_, pair)| interval(pair))
            .collect();
        others.sort_unstable();
        let usual = others.get(others.len() / 2).copied().filter(|usual| *usual >= INTERVAL_MIN)?;
        let regular = |i: &SignedDuration| (*i - usual).abs() <= usual / 7;
        let gap = interval(pair);
        let is_gap = others.len() >= OTHERS_MIN && others.iter().all(regular) && gap >= usual * 9 / 5;
        is_gap.then(|| {
            (
                format!("a dump about every {}, as before and after", span(usual)),
                format!("none for {}, from {:.0} to {:.0}", span(gap), pair.0, pair.1),
            )
        })
    })
}

fn span(duration: SignedDuration) -> Span {
    Span(std::time::Duration::from_secs(duration.as_secs().unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dumps at 03:00 of these days of February, stored a minute later.
    fn series(days: &[i64]) -> Times {
        let start: Timestamp = "2026-02-01T03:00:12Z".parse().unwrap();
        let at = |day: &i64| start + SignedDuration::from_hours(24 * (day - 1));
        let times = days.iter().map(|day| (at(day), at(day) + SignedDuration::from_mins(1))).collect();
        Times::from([("wiki".to_owned(), times)])
    }

    fn told(days: &[i64], schedule: Option<&str>, now: &str) -> Vec<String> {
        let schedules: Vec<_> = schedule
            .map(|cron| ("wiki".to_owned(), cron.parse().unwrap(), TimeZone::UTC))
            .into_iter()
            .collect();
        let findings = gaps(&series(days), &schedules, now.parse().unwrap());
        findings.into_iter().map(|f| format!("{}: {}", f.location, f.seen)).collect()
    }

    const DAILY: Option<&str> = Some("0 3 * * *");

    #[test]
    fn a_run_without_a_dump_is_named() {
        assert_eq!(
            told(&[7, 8, 9, 11], DAILY, "2026-02-11T12:00:00Z"),
            ["wiki: none of 2026-02-10T03:00:00Z"]
        );
        assert_eq!(
            told(&[7, 8, 9, 10], DAILY, "2026-02-11T12:00:00Z"),
            ["wiki: none of 2026-02-11T03:00:00Z"]
        );
        assert_eq!(
            told(&[1], DAILY, "2026-02-06T12:00:00Z"),
            ["wiki: none of 2026-02-02T03:00:00Z, 2026-02-03T03:00:00Z, 2026-02-04T03:00:00Z, 2 more"]
        );
    }

    #[test]
    fn what_is_whole_or_may_still_come_or_was_thinned_out_is_well() {
        for (days, now) in [
            (&[7, 8, 9, 10, 11][..], "2026-02-11T12:00:00Z"),
            (&[8, 9, 10], "2026-02-11T03:20:00Z"),
            (&[8, 9, 10], "2026-02-11T02:59:00Z"),
            (&[1, 5, 8, 9, 10, 11], "2026-02-11T12:00:00Z"),
            (&[11], "2026-02-11T12:00:00Z"),
            (&[], "2026-02-11T12:00:00Z"),
        ] {
            assert_eq!(told(days, DAILY, now), [""; 0], "{days:?} {now}");
        }
        // Written at noon by the names, at three by the schedule: the names are in another zone.
        assert_eq!(told(&[7, 8, 9, 10, 11], Some("0 12 * * *"), "2026-02-11T12:10:00Z"), [""; 0]);
    }

    #[test]
    fn a_regular_series_stays_regular() {
        let now = "2026-02-20T12:00:00Z";
        let gap = told(&[1, 2, 3, 4, 5, 6, 7, 8, 10], None, now);
        assert_eq!(gap, ["wiki: none for 2days, from 2026-02-08T03:00:12Z to 2026-02-10T03:00:12Z"]);
        for days in [
            &[1, 2, 3, 4, 5, 6, 7, 8, 9][..],
            &[1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 14],
            &[1, 2, 4],
            &[1, 8, 15, 16, 17, 18, 19, 20],
            // The gap is old.
            &[1, 3, 4, 5, 6, 7, 8, 9, 10],
        ] {
            assert_eq!(told(days, None, now), [""; 0], "{days:?}");
        }
    }
}
