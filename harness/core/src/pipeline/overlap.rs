//! Jobs that the plan lets meet though they must not run at the same time.
//!
//! At run time they never meet: one waits for the other. A plan in which that happens is still worth a word, because
//! the one that waits is late, or is left out.

use std::time::Duration;

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};

use super::spec::{JobName, JobSpec};
use crate::config::units::Span;

/// So long a job is taken to run when its config names no deadline.
const ASSUMED: Duration = Duration::from_secs(10 * 60);
/// So many days are looked at: every weekday and every day of a month.
const DAYS: i64 = 35;
/// At most so many runs of one job are looked at.
const RUNS_MAX: usize = 20_000;

/// Two jobs that meet.
#[derive(Clone, Debug, PartialEq)]
pub struct Meeting {
    /// The one that runs.
    pub first: JobName,
    /// The one that is started meanwhile.
    pub second: JobName,
    /// The copy for which they must not.
    pub copy: String,
    /// When the first one is started, by the clock of the schedule.
    pub first_at: String,
    /// When the second one is.
    pub second_at: String,
    /// How long the first one may run.
    pub lasts: Span,
    /// Whether that is its deadline, or a guess for want of one.
    pub lasts_for_sure: bool,
    /// In how many of the days that were looked at (35).
    pub times: usize,
}

/// Every pair of jobs that must not meet and does by plan.
pub fn meetings(jobs: &[JobSpec]) -> Vec<Meeting> {
    let runs: Vec<(&JobSpec, Vec<Timestamp>)> = jobs.iter().map(|job| (job, starts(job))).collect();
    let mut all = Vec::new();
    for (first, starts) in &runs {
        for (second, others) in &runs {
            if first.name == second.name {
                continue;
            }
            let Some(copy) = first.conflicts(second).next() else { continue };
            all.extend(meeting(first, starts, second, others, copy));
        }
    }
    all
}

fn starts(job: &JobSpec) -> Vec<Timestamp> {
    let Some(schedule) = &job.schedule else { return Vec::new() };
    let zone = job.zone.get();
    // A Monday in winter; which one makes no difference.
    let Ok(from) = date(2027, 1, 4).to_zoned(zone.clone()) else { return Vec::new() };
    let Ok(to) = from.timestamp().checked_add(SignedDuration::from_hours(24 * DAYS)) else {
        return Vec::new();
    };
    schedule.occurrences(zone, from.timestamp(), to, RUNS_MAX)
}

/// Whether `second` is started while `first` may run. Two that start at the same moment are told once.
fn meeting(
    first: &JobSpec,
    starts: &[Timestamp],
    second: &JobSpec,
    others: &[Timestamp],
    copy: &str,
) -> Option<Meeting> {
    let lasts = first.rules.deadline.map_or(ASSUMED, |span| span.0);
    let length = SignedDuration::try_from(lasts).ok()?;
    let mut times = 0;
    let mut example = None;
    for start in starts {
        let end = start.checked_add(length).ok()?;
        let from = others.partition_point(|other| other < start);
        let Some(met) = others.get(from).filter(|other| **other < end) else { continue };
        if met == start && first.name > second.name {
            continue;
        }
        times += 1;
        example.get_or_insert((*start, *met));
    }
    let (first_at, second_at) = example?;
    let told =
        |at: Timestamp, zone: &jiff::tz::TimeZone| at.to_zoned(zone.clone()).strftime("%a %H:%M").to_string();
    Some(Meeting {
        first: first.name.clone(),
        second: second.name.clone(),
        copy: copy.to_owned(),
        first_at: told(first_at, first.zone.get()),
        second_at: told(second_at, second.zone.get()),
        lasts: Span(lasts),
        lasts_for_sure: first.rules.deadline.is_some(),
        times,
    })
}
