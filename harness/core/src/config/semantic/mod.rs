//! What a schema cannot say: whether names are unique, whether they refer to something, whether
//! promises can be kept. Works on the untyped document, so that it finds its mistakes beside those of
//! the shape. Wrong types are passed over: the schema reports them.

mod copies;
mod databases;
mod groups;
pub(super) mod jobs;
mod rest;
mod targets;
mod trials;

use std::collections::BTreeMap;

use serde_json::Value;

use super::explain::label;
use super::problem::{Place, Problem};
use super::units::Span;
use super::yaml::{Document, join};

pub(super) fn check(document: &Document, problems: &mut Vec<Problem>) {
    let mut check = Check { document, problems };
    copies::check(&mut check);
    targets::check(&mut check);
    trials::check(&mut check);
    groups::check(&mut check);
    jobs::check(&mut check);
    rest::check(&mut check);
    check.durations("", &document.value);
}

/// The document and the problems found so far.
struct Check<'d, 'p> {
    document: &'d Document,
    problems: &'p mut Vec<Problem>,
}

impl<'d> Check<'d, '_> {
    fn get(&self, pointer: &str) -> Option<&'d Value> {
        self.document.value.pointer(pointer)
    }

    fn text(&self, pointer: &str) -> Option<&'d str> {
        self.get(pointer).and_then(Value::as_str)
    }

    fn has(&self, pointer: &str) -> bool {
        self.get(pointer).is_some_and(|v| !v.is_null())
    }

    /// The pointers of the items of a list.
    fn items(&self, pointer: &str) -> Vec<String> {
        let count = self.get(pointer).and_then(Value::as_array).map_or(0, Vec::len);
        (0..count).map(|i| join(pointer, &i.to_string())).collect()
    }

    /// A text, or the texts of a list.
    fn texts(&self, pointer: &str) -> Vec<(String, &'d str)> {
        match self.get(pointer) {
            Some(Value::String(text)) => vec![(pointer.to_owned(), text)],
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .filter_map(|(i, item)| Some((join(pointer, &i.to_string()), item.as_str()?)))
                .collect(),
            _ => Vec::new(),
        }
    }

    fn value_place(&self, pointer: &str) -> Place {
        self.document.place(pointer).value
    }

    fn line(&self, pointer: &str) -> usize {
        self.value_place(pointer).line
    }

    fn error(&mut self, pointer: &str, message: impl Into<String>, suggestion: impl Into<String>) {
        let place = self.value_place(pointer);
        self.problems.push(Problem::error(place, pointer, message).suggest(suggestion));
    }

    fn error_at_key(&mut self, pointer: &str, message: impl Into<String>, suggestion: impl Into<String>) {
        let place = self.document.key_place(pointer);
        self.problems.push(Problem::error(place, pointer, message).suggest(suggestion));
    }

    /// A mistake of a whole mapping, shown at its start.
    fn error_at_start(&mut self, pointer: &str, message: impl Into<String>, suggestion: impl Into<String>) {
        let place = Place { length: 1, ..self.value_place(pointer) };
        self.problems.push(Problem::error(place, pointer, message).suggest(suggestion));
    }

    fn warning(&mut self, pointer: &str, message: impl Into<String>, suggestion: impl Into<String>) {
        let place = self.value_place(pointer);
        self.problems.push(Problem::warning(place, pointer, message).suggest(suggestion));
    }

    /// Reports items of the list `pointer` that have the name of an earlier one.
    fn unique_names(&mut self, pointer: &str, what: &str) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for item in self.items(pointer) {
            let at = join(&item, "name");
            let Some(name) = self.text(&at) else { continue };
            let line = self.line(&at);
            if let Some(first) = seen.get(name) {
                self.error(
                    &at,
                    format!("two {what} are called `{name}`; the first is in line {first}"),
                    "give each a name of its own",
                );
            } else {
                seen.insert(name, line);
            }
        }
    }

    /// Durations that are valid and probably not meant.
    fn durations(&mut self, pointer: &str, value: &Value) {
        const KEYS: [&str; 12] = [
            "rpo",
            "rto",
            "timeout",
            "newest_data_max",
            "gap_window",
            "statement_timeout",
            "start_limit",
            "max_skew",
            "deadline",
            "within",
            "detection",
            "repeat",
        ];
        match value {
            Value::Object(map) => {
                for (key, item) in map {
                    let at = join(pointer, key);
                    if let Value::String(text) = item
                        && (KEYS.contains(&key.as_str()) || key == "future_max")
                        && let Ok(span) = text.parse::<Span>()
                    {
                        self.duration(&at, key, text, span);
                    }
                    self.durations(&at, item);
                }
            }
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.durations(&join(pointer, &i.to_string()), item);
                }
            }
            _ => {}
        }
    }

    fn duration(&mut self, at: &str, key: &str, text: &str, span: Span) {
        if span.0.is_zero() && key != "future_max" {
            self.error(at, format!("{} is no time at all", label(at)), "write a duration, or remove the key");
        }
        let months = text.split(|c: char| c.is_ascii_digit() || c.is_whitespace()).any(|unit| unit == "M");
        if months {
            self.warning(
                at,
                format!("`{text}` is in months: `M` is a month, `m` is a minute"),
                format!("write `{}` for minutes, or `months` for months", text.replace('M', "m")),
            );
        }
    }
}
