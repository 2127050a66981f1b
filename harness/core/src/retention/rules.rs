//! The rules: snapshots in, decisions out.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::{Age, Policy};
use crate::snapshot::{Snapshot, SnapshotId};

/// A snapshot that rules are applied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: SnapshotId,
    /// When it was made.
    pub time: Timestamp,
    /// The offset from UTC of the clock that it was made by.
    pub offset: Offset,
    /// The host that made it.
    pub host: String,
    /// The paths that were backed up.
    pub paths: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Candidate {
    /// A snapshot of which the offset is not known: its time is taken in `zone`.
    pub fn in_zone(snapshot: &Snapshot, zone: &TimeZone) -> Self {
        Self {
            id: snapshot.id.clone(),
            time: snapshot.time,
            offset: zone.to_offset(snapshot.time),
            host: snapshot.host.clone(),
            paths: snapshot.paths.clone(),
            tags: snapshot.tags.clone(),
        }
    }

    /// The wall clock when it was made.
    fn clock(&self) -> DateTime {
        self.offset.to_datetime(self.time)
    }

    /// Whether it has all tags of the list `a,b`; the empty tag stands for no tags at all.
    pub fn has_tags(&self, list: &str) -> bool {
        let mut wanted = list.split(',').map(str::trim);
        wanted.all(|tag| (tag.is_empty() && self.tags.is_empty()) || self.tags.iter().any(|own| own == tag))
    }
}

/// What tells series apart. Rules count within each series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The paths.
    pub paths: bool,
    /// The tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, tags: false }
    }
}

impl GroupBy {
    fn key<'c>(self, candidate: &'c Candidate) -> (&'c str, Vec<&'c str>, Vec<&'c str>) {
        let sorted = |texts: &'c [String], wanted: bool| {
            let mut texts: Vec<&str> =
                if wanted { texts.iter().map(String::as_str).collect() } else { Vec::new() };
            texts.sort_unstable();
            texts
        };
        let host = if self.host { candidate.host.as_str() } else { "" };
        (host, sorted(&candidate.paths, self.paths), sorted(&candidate.tags, self.tags))
    }
}

/// What becomes of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays.
    Keep {
        /// The rules that keep it, in restic's words.
        reasons: Vec<String>,
    },
    /// It goes.
    Remove,
}

/// A snapshot and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The snapshot.
    pub candidate: Candidate,
    /// The series that it was counted in.
    pub series: usize,
    /// What becomes of it.
    pub decision: Decision,
}

impl Decided {
    /// Whether it goes.
    pub fn is_removed(&self) -> bool {
        self.decision == Decision::Remove
    }
}

/// Applies `policy` to each series of `candidates`; the newest of each series comes first. `now` tells which
/// snapshots lie in the future, `zone` is where the rules are applied: a month back from a snapshot that was made
/// there is a month of the calendar there.
pub fn apply(
    candidates: &[Candidate],
    by: GroupBy,
    policy: &Policy,
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<Decided> {
    let mut series: BTreeMap<_, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        series.entry(by.key(candidate)).or_default().push(candidate);
    }
    let mut all = Vec::with_capacity(candidates.len());
    for (number, mut members) in series.into_values().enumerate() {
        members.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.id.cmp(&b.id)));
        all.extend(
            one_series(&members, policy, now, zone)
                .into_iter()
                .zip(members)
                .map(|(decision, member)| Decided { candidate: member.clone(), series: number, decision }),
        );
    }
    all
}

/// What puts snapshots of the same hour, day and so on into one box.
type Boxing = fn(DateTime, usize) -> i64;

const BOXES: [Boxing; 6] = [each, hour, day, week, month, year];

fn each(_: DateTime, number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn hour(clock: DateTime, number: usize) -> i64 {
    day(clock, number) * 100 + i64::from(clock.hour())
}

fn day(clock: DateTime, number: usize) -> i64 {
    month(clock, number) * 100 + i64::from(clock.day())
}

fn week(clock: DateTime, _: usize) -> i64 {
    let week = clock.date().iso_week_date();
    i64::from(week.year()) * 100 + i64::from(week.week())
}

fn month(clock: DateTime, number: usize) -> i64 {
    year(clock, number) * 100 + i64::from(clock.month())
}

fn year(clock: DateTime, _: usize) -> i64 {
    i64::from(clock.year())
}

/// A rule that keeps the newest snapshot of each box.
struct Newest {
    reason: String,
    into: Boxing,
    /// How many more boxes; `None` without limit.
    left: Option<u32>,
    /// Only snapshots later than this.
    after: Option<Timestamp>,
    last: Option<i64>,
}

impl Newest {
    /// Why this rule keeps the snapshot, if it does. The oldest snapshot is kept as long as the rule has not run
    /// out, so that a history that is shorter than the rule keeps its beginning.
    fn keeps(&mut self, candidate: &Candidate, number: usize, oldest: bool) -> Option<String> {
        if self.left == Some(0) || self.after.is_some_and(|after| candidate.time <= after) {
            return None;
        }
        let place = (self.into)(candidate.clock(), number);
        let same = self.last == Some(place);
        if same && !oldest {
            return None;
        }
        self.last = Some(place);
        self.left = self.left.map(|left| left - 1);
        Some(if same { format!("oldest {}", self.reason) } else { self.reason.clone() })
    }
}

fn one_series(members: &[&Candidate], policy: &Policy, now: Timestamp, zone: &TimeZone) -> Vec<Decision> {
    if policy.is_empty() {
        let reasons = vec!["policy is empty".to_owned()];
        return members.iter().map(|_| Decision::Keep { reasons: reasons.clone() }).collect();
    }
    // Snapshots of the future must not move the window that "within" looks at.
    let latest = members.iter().find(|member| member.time < now).copied();
    let within = policy.within.filter(|age| !age.is_zero()).map(|age| (age, back(latest, age, zone)));
    let mut rules = newest_rules(policy, latest, zone);
    let count = members.len();
    members
        .iter()
        .enumerate()
        .map(|(number, member)| {
            let tagged = policy.tags.iter().filter(|list| member.has_tags(list));
            let mut reasons: Vec<String> = tagged
                .map(|list| {
                    format!("has tags [{}]", list.split(',').map(str::trim).collect::<Vec<_>>().join(", "))
                })
                .collect();
            reasons.extend(
                within.filter(|(_, after)| member.time > *after).map(|(age, _)| format!("within {age}")),
            );
            reasons
                .extend(rules.iter_mut().filter_map(|rule| rule.keeps(member, number, number + 1 == count)));
            if reasons.is_empty() { Decision::Remove } else { Decision::Keep { reasons } }
        })
        .collect()
}

fn newest_rules(policy: &Policy, latest: Option<&Candidate>, zone: &TimeZone) -> Vec<Newest> {
    let counts = [policy.last, policy.hourly, policy.daily, policy.weekly, policy.monthly, policy.yearly];
    let ages = [
        policy.within_hourly,
        policy.within_daily,
        policy.within_weekly,
        policy.within_monthly,
        policy.within_yearly,
    ];
    let names = ["last", "hourly", "daily", "weekly", "monthly", "yearly"];
    let counted = counts
        .iter()
        .zip(BOXES)
        .zip(names)
        .filter(|((count, _), _)| count.is_some_and(|count| count > 0))
        .map(|((count, into), name)| Newest {
            reason: format!("{name} snapshot"),
            into,
            left: *count,
            after: None,
            last: None,
        });
    let aged =
        ages.iter().zip(BOXES.iter().skip(1)).zip(names.iter().skip(1)).filter_map(|((age, into), name)| {
            let age = age.filter(|age| !age.is_zero())?;
            Some(Newest {
                reason: format!("{name} within {age}"),
                into: *into,
                left: None,
                after: Some(back(latest, age, zone)),
                last: None,
            })
        });
    counted.chain(aged).collect()
}

/// The moment `age` before `latest`, counted as restic's calendar counts: a month before 31 March is "31 February",
/// which is 2 or 3 March. Without a latest snapshot, the beginning of time.
fn back(latest: Option<&Candidate>, age: Age, zone: &TimeZone) -> Timestamp {
    let Some(latest) = latest else { return Timestamp::MIN };
    // A clock at offset zero is written down as UTC, which has no summer.
    let local = latest.offset != Offset::UTC && zone.to_offset(latest.time) == latest.offset;
    let zone = if local { zone.clone() } else { TimeZone::fixed(latest.offset) };
    let moment = calendar_back(latest.clock(), age).and_then(|clock| on_the_clock(clock, &zone));
    let hours = SignedDuration::from_hours(i64::from(age.hours));
    moment.and_then(|moment| moment.checked_sub(hours).ok()).unwrap_or(Timestamp::MIN)
}

fn calendar_back(clock: DateTime, age: Age) -> Option<DateTime> {
    let months = (i32::from(clock.year()) - i32::from(age.years)) * 12 + i32::from(clock.month())
        - 1
        - i32::from(age.months);
    let year = i16::try_from(months.div_euclid(12)).ok()?;
    let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
    let days = i64::from(clock.day()) - 1 - i64::from(age.days);
    let date = Date::new(year, month, 1).ok()?.checked_add(days.days()).ok()?;
    Some(date.to_datetime(clock.time()))
}

/// The moment at which a clock in `zone` shows `clock`. What the clock shows twice, or never, is taken as Go's
/// library takes it.
fn on_the_clock(clock: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let shown = Offset::UTC.to_timestamp(clock).ok()?;
    let at = |offset: Offset| shown.checked_sub(SignedDuration::from_secs(i64::from(offset.seconds()))).ok();
    let guess = zone.to_offset(shown);
    let moment = at(guess)?;
    let there = zone.to_offset(moment);
    if there == guess { Some(moment) } else { at(there) }
}
