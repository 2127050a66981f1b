//! When something runs: cron expressions and time zones.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{Date, DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::units::Span;

/// Days that are looked at to find the longest gap, unless the schedule is rarer than that.
const DAYS_MAX: i64 = 400;
/// At most so many moments of a schedule are looked at.
const OCCURRENCES_MAX: usize = 10_000;
/// At most so many changes of a clock are gone through to find one moment.
const CHANGES_MAX: usize = 64;
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A cron expression of five fields: minute, hour, day of month, month, day of week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    gap: Option<Span>,
}

impl Cron {
    /// The longest time between two runs, by the wall clock (a change to or from summer time is not
    /// counted: it would add an hour to each promise). `None` when it runs only once.
    pub fn longest_gap(&self) -> Option<Span> {
        self.gap
    }

    /// When it runs next after `after`, by the wall clock of `zone`.
    ///
    /// What runs in every hour (`*` in the field of the hour) goes on through a change of the clock: an hour that comes
    /// twice has its runs twice, one that is left out has none. What runs at an hour of the day runs once a day: at
    /// the first of two such moments, or an hour later when there is none. Vixie cron does the same.
    pub fn next(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        self.next_of(&parser().parse(&self.text).ok()?, zone, after)
    }

    fn next_of(&self, cron: &croner::Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        match self.every_hour() {
            true => next_elapsed(cron, zone, after),
            false => next_by_day(cron, zone, after),
        }
    }

    /// When it runs after `from` and until `to`, by the wall clock of `zone`; the newest `max` of these moments,
    /// oldest first. Of the moments of a very frequent schedule no more than a number are looked at.
    pub fn occurrences(&self, zone: &TimeZone, from: Timestamp, to: Timestamp, max: usize) -> Vec<Timestamp> {
        let Ok(cron) = parser().parse(&self.text) else { return Vec::new() };
        let mut found = std::collections::VecDeque::new();
        let mut at = from;
        for _ in 0..OCCURRENCES_MAX {
            let Some(moment) = self.next_of(&cron, zone, at).filter(|moment| *moment <= to) else { break };
            found.push_back(moment);
            if found.len() > max {
                found.pop_front();
            }
            at = moment;
        }
        found.into()
    }

    fn every_hour(&self) -> bool {
        match self.text.split_whitespace().nth(1) {
            Some(hour) => hour.starts_with('*'),
            None => self.text.eq_ignore_ascii_case("@hourly"),
        }
    }

    /// The expression as typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let fields = trimmed.split_whitespace().count();
        if fields != 5 && !trimmed.starts_with('@') {
            return Err(format!(
                "it has {fields} field{}, and five are needed: minute, hour, day of month, month, day of week",
                if fields == 1 { "" } else { "s" }
            ));
        }
        let parser = parser();
        let cron = parser.parse(trimmed).map_err(|_| culprit(&parser, trimmed))?;
        let start = date(2027, 1, 1).at(0, 0, 0, 0);
        let Ok(first) = cron.find_next_occurrence(&start, true) else {
            return Err("no such moment ever comes".to_owned());
        };
        let every_day = fields == 5 && trimmed.split_whitespace().skip(2).all(|field| field == "*");
        Ok(Self { text: trimmed.to_owned(), gap: longest_gap(&cron, first, every_day) })
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
}

/// The next moment after `after` at which the wall clock, as it goes, shows a time that fits.
fn next_elapsed(cron: &croner::Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let (mut from, mut inclusive) = (after, false);
    for _ in 0..CHANGES_MAX {
        let offset = zone.to_offset(from);
        let fits = cron.find_next_occurrence(&offset.to_datetime(from), inclusive).ok()?;
        let moment = offset.to_timestamp(fits).ok()?;
        match zone.following(from).next().map(|change| change.timestamp()).filter(|at| *at <= moment) {
            None => return Some(moment),
            // The clock is changed before that comes.
            Some(change) => (from, inclusive) = (change, true),
        }
    }
    None
}

/// The next moment after `after` that a day of the calendar has once.
fn next_by_day(cron: &croner::Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut at = zone.to_datetime(after);
    for _ in 0..OCCURRENCES_MAX {
        let fits = cron.find_next_occurrence(&at, false).ok()?;
        let moment = fits.to_zoned(zone.clone()).ok()?.timestamp();
        if moment > after {
            return Some(moment);
        }
        at = fits;
    }
    None
}

/// Which field of a refused expression is wrong.
fn culprit(parser: &CronParser, text: &str) -> String {
    const FIELDS: [&str; 5] = [
        "a minute (0 to 59)",
        "an hour (0 to 23)",
        "a day of the month (1 to 31)",
        "a month (1 to 12, JAN to DEC)",
        "a day of the week (0 to 7, SUN to SAT)",
    ];
    if text.starts_with('@') {
        return "the words are @hourly, @daily, @weekly, @monthly and @yearly".to_owned();
    }
    for (i, (field, meaning)) in text.split_whitespace().zip(FIELDS).enumerate() {
        let mut alone = ["*"; 5];
        if let Some(place) = alone.get_mut(i) {
            *place = field;
        }
        if parser.parse(&alone.join(" ")).is_err() {
            return format!("`{field}` is not {meaning}");
        }
    }
    "it is not one that cron knows".to_owned()
}

/// The hours and minutes are the same on each day that matches, so that one day and the distances of
/// matching days tell everything.
fn longest_gap(cron: &croner::Cron, first: DateTime, every_day: bool) -> Option<Span> {
    let mut longest = SignedDuration::ZERO;
    let mut last = first;
    while let Ok(next) = cron.find_next_occurrence(&last, false) {
        if next.date() != first.date() {
            break;
        }
        longest = longest.max(next.duration_since(last));
        last = next;
    }
    let days = if every_day { Some(1) } else { longest_distance(cron, first.date()) };
    if let Some(days) = days.and_then(|days| i32::try_from(days).ok()) {
        longest = longest.max(DAY * days - last.duration_since(first));
    }
    Duration::try_from(longest).ok().filter(|gap| !gap.is_zero()).map(Span)
}

/// The most days between two matching days.
fn longest_distance(cron: &croner::Cron, first: Date) -> Option<i64> {
    let mut longest = None;
    let mut day = first;
    while day.duration_since(first).as_hours() <= DAYS_MAX * 24 {
        let Ok(next) = cron.find_next_occurrence(&day.at(23, 59, 59, 0), false) else { break };
        longest = longest.max(Some(next.date().duration_since(day).as_hours() / 24));
        day = next.date();
    }
    longest
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Cron {
    fn schema_name() -> Cow<'static, str> {
        "Cron".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "cron",
            "description": "A cron expression of five fields, in quotes: minute, hour, day of month, month, day of week.",
            "examples": ["20 * * * *", "10 0-1,4-23 * * *", "0 4 * * SUN"]
        })
    }
}

/// A time zone of the IANA database, for example `Europe/Zurich`; default `UTC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timezone(TimeZone, String);

impl Timezone {
    /// The time zone.
    pub fn get(&self) -> &TimeZone {
        &self.0
    }
}

impl Default for Timezone {
    fn default() -> Self {
        Self(TimeZone::UTC, "UTC".to_owned())
    }
}

impl FromStr for Timezone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        TimeZone::get(text)
            .map(|zone| Self(zone, text.to_owned()))
            .map_err(|_| format!("`{text}` is not a known time zone"))
    }
}

impl fmt::Display for Timezone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl Serialize for Timezone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timezone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Timezone {
    fn schema_name() -> Cow<'static, str> {
        "Timezone".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "timezone",
            "description": "A time zone of the IANA database.",
            "examples": ["UTC", "Europe/Zurich", "America/New_York"]
        })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_newest_moments_of_a_schedule_are_told() {
        let told = |cron: &str, zone: &str, from: &str, to: &str| {
            let zone = jiff::tz::TimeZone::get(zone).unwrap();
            let cron: Cron = cron.parse().unwrap();
            let moments = cron.occurrences(&zone, from.parse().unwrap(), to.parse().unwrap(), 2);
            moments.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let days = ("2026-02-01T00:00:00Z", "2026-02-04T03:00:00Z");
        assert_eq!(told("0 3 * * *", "UTC", days.0, days.1), "2026-02-03T03:00:00Z 2026-02-04T03:00:00Z");
        assert_eq!(
            told("0 3 * * *", "Europe/Zurich", days.0, days.1),
            "2026-02-03T02:00:00Z 2026-02-04T02:00:00Z"
        );
        assert_eq!(told("0 3 * * SUN", "UTC", days.0, days.1), "2026-02-01T03:00:00Z");
        assert_eq!(told("0 3 * * *", "UTC", days.1, days.0), "");
    }

    use super::{Cron, Timezone};

    fn hours(cron: &str) -> f64 {
        cron.parse::<Cron>().unwrap().longest_gap().unwrap().seconds() / 3600.0
    }

    #[test]
    fn the_longest_gap_is_what_an_rpo_has_to_bear() {
        assert_eq!(hours("20 * * * *"), 1.0);
        assert_eq!(hours("10 0-1,4-23 * * *"), 3.0);
        assert_eq!(hours("0 4 * * SUN"), 168.0);
        assert_eq!(hours("0 4 1 * *"), 31.0 * 24.0);
        assert_eq!(hours("* 9-16 * * MON-FRI"), 64.0 + 1.0 / 60.0);
        assert_eq!(hours("* * * * MON-FRI"), 48.0 + 1.0 / 60.0);
        assert_eq!(hours("0 4 29 2 *"), 4.0 * 365.25 * 24.0);
        assert_eq!(hours("0 3 * * *"), 24.0);
        assert_eq!(hours("0 */6 * * *"), 6.0);
        for (words, fields) in [("@hourly", 1.0), ("@daily", 24.0), ("@weekly", 168.0)] {
            assert_eq!(hours(words), fields);
        }
    }

    #[test]
    fn a_change_of_the_clock_neither_doubles_nor_loses_a_run() {
        let told = |cron: &str, from: &str, to: &str| {
            let zone = jiff::tz::TimeZone::get("Europe/Zurich").unwrap();
            let cron: Cron = cron.parse().unwrap();
            let moments = cron.occurrences(&zone, from.parse().unwrap(), to.parse().unwrap(), 100);
            moments.iter().map(|at| at.to_string()[11..16].to_owned()).collect::<Vec<_>>().join(" ")
        };
        // To summer time: 01:00 UTC, when it is 02:00 and becomes 03:00.
        let spring = ("2026-03-28T23:00:00Z", "2026-03-29T04:00:00Z");
        assert_eq!(told("20 * * * *", spring.0, spring.1), "23:20 00:20 01:20 02:20 03:20");
        assert_eq!(told("30 2 * * *", spring.0, spring.1), "01:30", "an hour later by the clock: 03:30");
        assert_eq!(told("30 2,3 * * *", spring.0, spring.1), "01:30");
        assert_eq!(told("0 */2 * * *", spring.0, spring.1), "02:00 04:00", "at 04:00; there is no 02:00");
        // And back: 01:00 UTC, when it is 03:00 and becomes 02:00 for the second time.
        let autumn = ("2026-10-24T22:30:00Z", "2026-10-25T04:00:00Z");
        assert_eq!(told("20 * * * *", autumn.0, autumn.1), "23:20 00:20 01:20 02:20 03:20");
        assert_eq!(told("30 2 * * *", autumn.0, autumn.1), "00:30");
        assert_eq!(told("30 2,3 * * *", autumn.0, autumn.1), "00:30 02:30");
    }

    #[test]
    fn what_is_not_cron_is_refused_with_the_reason() {
        for (text, reason) in [
            ("20 * * *", "it has 4 fields"),
            ("0 20 * * * *", "it has 6 fields"),
            ("61 * * * *", "`61` is not a minute"),
            ("0 4 * * SUNDAY-MOON", "`SUNDAY-MOON` is not a day of the week"),
            ("@fortnightly", "the words are @hourly"),
            ("0 0 30 2 *", "no such moment ever comes"),
            ("", "it has 0 fields"),
        ] {
            let error = text.parse::<Cron>().unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn time_zones_are_those_of_the_database() {
        assert!("Europe/Zurich".parse::<Timezone>().is_ok());
        assert!("Europe/Zurick".parse::<Timezone>().is_err());
    }
}
