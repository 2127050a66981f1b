//! What a check says: lines of JSON on its standard output, and its exit code.

use firedrill_core::cell::Ended;
use firedrill_core::finding::{Class, Finding};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// At most this many lines are taken.
const LINES_MAX: usize = 10_000;
/// At most this much of a text in JSON is shown in a message.
const SHOWN_MAX: usize = 200;
/// Exit codes of a check that has looked at everything.
const GOOD: i32 = 0;
const BAD: i32 = 1;

/// Everything that one check said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    /// How much it checked; `None` when it did not say so.
    pub(super) checked: Option<u64>,
    pub(super) unit: Option<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) notes: Vec<String>,
    pub(super) not_verified: Vec<String>,
    /// The time of the newest data that it saw.
    pub(super) newest: Option<Timestamp>,
    /// What it wants to be told in the next drill.
    pub(super) baseline: Option<Value>,
    /// Why this proves nothing, if so.
    pub(super) broken: Option<String>,
}

/// One line. Exactly one of the keys is the subject; a key that nobody knows is a mistake of the check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    checked: Option<u64>,
    unit: Option<String>,
    finding: Option<SaidFinding>,
    note: Option<String>,
    not_verified: Option<String>,
    newest: Option<String>,
    baseline: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidFinding {
    code: String,
    #[serde(default = "damage")]
    class: Class,
    #[serde(default)]
    location: Option<String>,
    #[serde(default)]
    expected: Option<String>,
    seen: String,
}

fn damage() -> Class {
    Class::Damage
}

/// Understands how the check `name` ended and what it said.
pub(super) fn understand(name: &str, ended: &Ended) -> Said {
    let mut said = Said::default();
    if ended.stdout_cut {
        said.broken("it said more than is taken");
    }
    for (number, line) in ended.stdout.split(|b| *b == b'\n').enumerate() {
        if number >= LINES_MAX {
            said.broken(format!("it said more than {LINES_MAX} lines"));
            break;
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        // Of an output that was cut the last line is no whole one.
        if let Err(why) = said.take(name, line) {
            said.broken(format!("line {} of its output: {why}: {}", number + 1, shown(line)));
        }
    }
    match ended.code {
        Some(GOOD) => {}
        Some(BAD) if said.checked.is_some() && said.findings.is_empty() => {
            let last = ended.stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
            let seen = last.unwrap_or("exit code 1");
            said.findings.push(Finding::damage(
                &format!("check.{name}.failed"),
                name,
                format!("that the check `{name}` passes"),
                seen,
            ));
        }
        Some(BAD) if said.checked.is_some() => {}
        _ => said.broken(format!("it ended with {}", ended.describe())),
    }
    if said.checked.is_none() {
        said.broken("it did not say how much it checked (`{\"checked\": 12}`)");
    }
    said
}

impl Said {
    /// The first reason is the most telling one.
    fn broken(&mut self, why: impl Into<String>) {
        self.broken.get_or_insert_with(|| why.into());
    }

    fn take(&mut self, name: &str, line: &[u8]) -> Result<(), String> {
        let line: Line = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        if line.unit.is_some() && line.checked.is_none() {
            return Err("`unit` belongs to `checked`".to_owned());
        }
        if let Some(checked) = line.checked {
            let sum = self.checked.unwrap_or(0).saturating_add(checked);
            self.checked = Some(sum);
            self.unit = line.unit.or(self.unit.take());
        }
        if let Some(finding) = line.finding {
            self.findings.push(finding.understood(name)?);
        }
        if let Some(newest) = line.newest {
            let time: Timestamp = newest.parse().map_err(|e| format!("`newest` is no time: {e}"))?;
            self.newest = self.newest.max(Some(time));
        }
        self.notes.extend(line.note);
        self.not_verified.extend(line.not_verified);
        self.baseline = line.baseline.or(self.baseline.take());
        Ok(())
    }
}

impl SaidFinding {
    fn understood(self, name: &str) -> Result<Finding, String> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c);
        if self.code.is_empty() || self.code.len() > 64 || !self.code.bytes().all(plain) {
            return Err("`code` must be lower-case letters, digits, `.`, `_` and `-`".to_owned());
        }
        let code = format!("check.{name}.{}", self.code);
        let location = self.location.unwrap_or_else(|| name.to_owned());
        let expected = self.expected.unwrap_or_else(|| "no such finding".to_owned());
        Ok(match self.class {
            Class::Damage => Finding::damage(&code, location, expected, self.seen),
            Class::Anomaly => Finding::anomaly(&code, location, expected, self.seen),
            Class::Gap => Finding::gap(&code, location, expected, self.seen),
            Class::Objective => Finding::objective(&code, location, expected, self.seen),
        })
    }
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    format!("`{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: Option<i32>, stdout: &str, stderr: &str) -> Ended {
        Ended { code, stdout: stdout.into(), stderr: stderr.into(), ..Ended::default() }
    }

    #[test]
    fn what_was_examined_counts() {
        let said = understand(
            "books",
            &ended(
                Some(0),
                "{\"checked\": 2, \"unit\": \"books\"}\n\n{\"checked\": 3}\n{\"note\": \"n\"}\n\
                 {\"newest\": \"2026-01-01T00:00:00Z\"}\n{\"baseline\": {\"books\": 5}}\n",
                "",
            ),
        );
        assert_eq!((said.checked, said.unit.as_deref(), said.broken), (Some(5), Some("books"), None));
        assert_eq!(said.notes, ["n"]);
        assert!(said.newest.is_some() && said.baseline.is_some() && said.findings.is_empty());
    }

    #[test]
    fn a_bad_end_without_a_finding_is_one() {
        let said = understand("books", &ended(Some(1), "{\"checked\": 1}", "first\nbook 7 is torn\n"));
        assert_eq!(said.findings[0].code, "check.books.failed");
        assert_eq!((said.findings[0].seen.as_str(), &said.broken), ("book 7 is torn", &None));
        let finding = "{\"checked\": 1}\n{\"finding\": {\"code\": \"torn\", \"seen\": \"book 7\"}}";
        for code in [0, 1] {
            let said = understand("books", &ended(Some(code), finding, "x"));
            let codes: Vec<_> = said.findings.iter().map(|f| f.code.as_str()).collect();
            assert_eq!((codes, said.broken), (vec!["check.books.torn"], None));
        }
    }

    #[test]
    fn what_does_not_keep_the_contract_proves_nothing() {
        let good = "{\"checked\": 1}";
        for (ended, why) in [
            (ended(Some(0), "", ""), "did not say"),
            // How an interpreter ends that stumbles over the script.
            (ended(Some(1), "", "NameError: x"), "exit code 1"),
            (ended(Some(2), good, "usage"), "exit code 2: usage"),
            (ended(None, good, ""), "no exit code"),
            (ended(Some(0), "checked 12", ""), "line 1"),
            (ended(Some(0), "{\"checked\": 1}\n{\"chekced\": 1}", ""), "line 2"),
            (ended(Some(0), "{\"checked\": -1}", ""), "line 1"),
            (ended(Some(0), "{\"checked\": 1}\n{\"newest\": \"yesterday\"}", ""), "newest"),
            (
                ended(Some(0), "{\"checked\": 1}\n{\"finding\": {\"code\": \"A b\", \"seen\": \"\"}}", ""),
                "code",
            ),
            (Ended { stdout_cut: true, ..ended(Some(0), good, "") }, "more than"),
            (ended(Some(0), &"{\"note\": \"\"}\n".repeat(LINES_MAX + 1), ""), "lines"),
        ] {
            let broken = understand("books", &ended).broken.unwrap_or_default();
            assert!(broken.contains(why), "{ended:?}: {broken}");
        }
    }

    #[test]
    fn a_finding_stays_when_the_rest_is_broken() {
        let text = "{\"finding\": {\"code\": \"torn\", \"class\": \"anomaly\", \"seen\": \"x\"}}\nTraceback";
        let said = understand("books", &ended(Some(1), text, ""));
        assert!(said.broken.is_some() && said.findings[0].class == Class::Anomaly);
    }
}
