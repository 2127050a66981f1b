//! Mistakes in a config, shown where they are.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::secret::redact_urls;

/// More problems than this are counted, not kept.
const PROBLEMS_MAX: usize = 100;
/// Longer source lines are cut.
const LINE_MAX: usize = 160;

/// Whether a problem keeps the config from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not, but it is probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A place in the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) length: usize,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1, length: 0 };
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// How many characters it is long; 0 when that is not known.
    pub length: usize,
    /// The JSON pointer of the value.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
    /// Whether the value itself may be a secret, and is not shown.
    #[serde(skip)]
    pub(super) conceal: bool,
}

impl Problem {
    fn new(severity: Severity, place: Place, pointer: &str, message: String) -> Self {
        let Place { line, column, length } = place;
        let pointer = pointer.to_owned();
        Self { severity, line, column, length, pointer, message, suggestion: None, conceal: false }
    }

    pub(super) fn error(place: Place, pointer: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, place, pointer, message.into())
    }

    pub(super) fn warning(place: Place, pointer: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, place, pointer, message.into())
    }

    #[must_use]
    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

/// All mistakes in one text, in the order of the text. `Display` shows each with its line, without
/// secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    origin: String,
    list: Vec<Problem>,
    lines: Vec<String>,
    omitted: usize,
}

impl Problems {
    pub(super) fn new(origin: &str, text: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| {
            (a.line, a.column, a.severity, &a.message).cmp(&(b.line, b.column, b.severity, &b.message))
        });
        list.dedup();
        let omitted = list.len().saturating_sub(PROBLEMS_MAX);
        // Errors stay when there are too many problems.
        if omitted > 0 {
            list.sort_by_key(|p| p.severity);
            list.truncate(PROBLEMS_MAX);
            list.sort_by_key(|p| (p.line, p.column));
        }
        let all: Vec<&str> = text.lines().collect();
        let shown = |p: &Problem| {
            let line = p.line.checked_sub(1).and_then(|n| all.get(n)).copied().unwrap_or_default();
            let hidden = list.iter().filter(|h| h.conceal && h.line == p.line).map(|h| h.column).min();
            show(line, hidden)
        };
        let lines = list.iter().map(shown).collect();
        Self { origin: origin.to_owned(), list, lines, omitted }
    }

    /// The problems, in the order of the text.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Where the text came from, for example a file name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of them keeps the config from being used.
    pub fn any_error(&self) -> bool {
        self.list.iter().any(|p| p.severity == Severity::Error)
    }

    /// The usage error that these problems amount to; show the problems themselves first.
    pub fn as_error(&self) -> Error {
        Error::new(ErrorKind::Usage, format!("understand {}", self.origin)).because(self.summary())
    }

    /// For example `2 errors and 1 warning`.
    pub fn summary(&self) -> String {
        let errors = self.list.iter().filter(|p| p.severity == Severity::Error).count();
        let warnings = self.list.len() - errors;
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let mut parts = Vec::new();
        if errors > 0 {
            parts.push(plural(errors, "error"));
        }
        if warnings > 0 {
            parts.push(plural(warnings, "warning"));
        }
        if self.omitted > 0 {
            parts.push(format!("{} more that are not shown", self.omitted));
        }
        parts.join(" and ")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (problem, line) in self.list.iter().zip(&self.lines) {
            let number = problem.line.to_string();
            let margin = " ".repeat(number.len());
            writeln!(f, "{}: {}", problem.severity, problem.message)?;
            writeln!(f, "{margin}--> {}:{}:{}", self.origin, problem.line, problem.column)?;
            if problem.column <= LINE_MAX && !line.trim().is_empty() {
                let room = line.chars().count().saturating_sub(problem.column - 1);
                let carets = "^".repeat(problem.length.min(room).max(1));
                writeln!(f, "{margin} |")?;
                writeln!(f, "{number} | {line}")?;
                writeln!(f, "{margin} | {}{carets}", " ".repeat(problem.column.saturating_sub(1)))?;
            }
            if let Some(suggestion) = &problem.suggestion {
                writeln!(f, "{margin} = help: {suggestion}")?;
            }
            writeln!(f)?;
        }
        write!(f, "{}: {}", self.origin, self.summary())
    }
}

impl std::error::Error for Problems {}

/// A source line as it may be shown: no control characters, no secrets, not too long. From the column
/// `hidden` on nothing is shown.
fn show(line: &str, hidden: Option<usize>) -> String {
    let kept = hidden.map_or(usize::MAX, |column| column.saturating_sub(1));
    let mut clean: String = line.chars().take(kept).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if hidden.is_some() {
        clean.push_str("***");
    }
    let shown = mask(&redact_urls(&clean));
    match shown.char_indices().nth(LINE_MAX) {
        Some((end, _)) => format!("{}...", &shown[..end]),
        None => shown,
    }
}

/// Hides what stands behind keys that are called after secrets; the names of files, commands and
/// variables that hold a secret are not secret.
fn mask(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(colon) = rest.find(':') {
        let (key, tail) = rest.split_at(colon + 1);
        shown.push_str(key);
        rest = tail;
        if !names_a_secret(key) || !tail.starts_with(' ') {
            continue;
        }
        let end = tail.find([',', '}']).filter(|_| line.contains('{')).unwrap_or(tail.len());
        if !tail[..end].trim().is_empty() {
            shown.push_str(" ***");
            rest = &tail[end..];
        }
    }
    shown.push_str(rest);
    shown
}

/// Whether the text in front of a colon ends in a key that is called after a secret.
fn names_a_secret(before: &str) -> bool {
    let key: String = before
        .trim_end_matches(':')
        .trim_end()
        .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
        .find(|word| !word.is_empty())
        .unwrap_or_default()
        .to_lowercase()
        .replace('-', "_");
    let refers = ["_file", "_env", "_command"].iter().any(|end| key.ends_with(end));
    let secret = ["password", "passwd", "passphrase", "secret", "token"].iter().any(|w| key.contains(w));
    (secret || key == "key" || key.ends_with("_key")) && !refers
}

#[cfg(test)]
mod tests {
    use super::{Place, Problem, Problems, mask};

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(mask("    password: hunter2"), "    password: ***");
        assert_eq!(mask("{user: u, password: hunter2, x: y}"), "{user: u, password: ***, x: y}");
        assert_eq!(mask("  secret-access-key: 'a: b'"), "  secret-access-key: ***");
        assert_eq!(mask("  password_file: /run/secrets/restic"), "  password_file: /run/secrets/restic");
        assert_eq!(mask("schedule: \"20 * * * *\""), "schedule: \"20 * * * *\"");
    }

    #[test]
    fn a_problem_beyond_the_text_is_still_shown() {
        let problems = Problems::new(
            "x.yaml",
            "a: b",
            vec![Problem::error(Place { line: 9, column: 400, length: 3 }, "", "odd")],
        );
        assert_eq!(problems.to_string(), "error: odd\n --> x.yaml:9:400\n\nx.yaml: 1 error");
    }
}
