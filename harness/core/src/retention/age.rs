//! Calendar spans: a month is not a number of hours.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of the calendar, such as `1y5m7d2h`, `30d` or `12h`: years, months, days and hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Age {
    /// Years.
    pub years: u16,
    /// Months; not minutes.
    pub months: u16,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl Age {
    /// Whether it is no span at all.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let failed = |why: &str| {
            format!("`{text}` is not a span of the calendar: {why}; write it like 30d, 12h or 1y5m7d2h")
        };
        let mut age = Self::default();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(failed("it is empty"));
        }
        while let Some(at) = rest.find(|c: char| !c.is_ascii_digit()) {
            let (number, unit) = rest.split_at(at);
            let number: u32 = number.parse().map_err(|_| failed("a number is missing or too large"))?;
            let small = || u16::try_from(number).map_err(|_| failed("a number is too large"));
            let mut units = unit.chars();
            match units.next() {
                Some('y') => age.years = small()?,
                Some('m') => age.months = small()?,
                Some('d') => age.days = number,
                Some('h') => age.hours = number,
                _ => return Err(failed("the units are y, m (months), d and h")),
            }
            rest = units.as_str();
        }
        if rest.is_empty() { Ok(age) } else { Err(failed("the last number has no unit")) }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0h");
        }
        let parts = [
            (u32::from(self.years), 'y'),
            (u32::from(self.months), 'm'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ];
        parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Age {
    fn schema_name() -> Cow<'static, str> {
        "Age".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A span of the calendar: years, months, days and hours, such as 30d, 12h or 1y5m7d2h.",
            "pattern": r"^\s*([0-9]+[ymdh])+\s*$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Age;

    #[test]
    fn people_write_units() {
        let age: Age = "1y5m7d2h".parse().unwrap();
        assert_eq!(age, Age { years: 1, months: 5, days: 7, hours: 2 });
        assert_eq!(age.to_string(), "1y5m7d2h");
        assert_eq!(" 30d ".parse(), Ok(Age { days: 30, ..Age::default() }));
        assert!("0d".parse::<Age>().unwrap().is_zero());
    }

    #[test]
    fn what_restic_would_not_take_is_refused() {
        for text in ["", "7", "7w", "d", "7d3", "-1d", "7days", "99999999999d", "70000y"] {
            assert!(text.parse::<Age>().is_err(), "{text}");
        }
    }
}
