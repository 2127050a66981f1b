//! JUnit XML for CI systems.
//!
//! One suite per copy with one case per drill, one case for the copy itself, and a suite `run` with the
//! negative control and the run as a whole. A failed drill is a `failure`, an inconclusive one an
//! `error`, and a missed objective a `failure` of type `objective`. What was not examined is never a
//! passed case; only a negative control that had nothing to work on, or is switched off, is `skipped`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::judge::{ControlState, CopyJudgement, DrillJudgement, Judgement};
use firedrill_core::ports::Sink;
use firedrill_core::snapshot::CopyName;
use firedrill_core::verdict::Verdict;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::story::{self, Standing, Trouble};
use crate::{file, text};

/// Entries in the text of one case; the JSON report has all of them.
const TROUBLES_MAX: usize = 50;

/// Writes JUnit XML to a file.
#[derive(Clone, Debug)]
pub struct Junit {
    path: PathBuf,
}

impl Junit {
    /// Writes to `path`.
    pub fn to_file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Sink for Junit {
    fn name(&self) -> String {
        format!("junit {}", self.path.display())
    }

    fn preflight(&mut self) -> Result<()> {
        file::check("the JUnit report", &self.path, file::Folder::Make)
    }

    fn finish(&mut self, judgement: &Judgement) -> Result<()> {
        file::write("the JUnit report", &self.path, render(judgement)?.as_bytes())
    }
}

/// The judgement as JUnit XML.
pub fn render(judgement: &Judgement) -> Result<String> {
    let mut report = Report::new("firedrill");
    if let Some(time) = judgement.seconds.and_then(duration) {
        report.set_time(time);
    }
    for name in copies(judgement) {
        report.add_test_suite(copy_suite(judgement, name));
    }
    report.add_test_suite(run_suite(judgement));
    report
        .to_string()
        .map_err(|e| Error::new(ErrorKind::Internal, "turn the judgement into JUnit XML").from_source(&e))
}

/// All copies: those of the plan in its order, then any that only drills name.
fn copies(judgement: &Judgement) -> Vec<&CopyName> {
    let mut seen = BTreeSet::new();
    let planned = judgement.copies.iter().map(|c| &c.name);
    planned.chain(judgement.drills.iter().map(|d| &d.copy)).filter(|name| seen.insert(*name)).collect()
}

fn copy_suite(judgement: &Judgement, name: &CopyName) -> TestSuite {
    let mut suite = TestSuite::new(text::clean(&name.0));
    if let Some(copy) = judgement.copies.iter().find(|c| &c.name == name) {
        suite.add_property(("location", text::clean(&copy.location).as_str()));
        suite.add_test_case(copy_case(copy));
    }
    let mut sum = 0.0;
    for drill in judgement.drills.iter().filter(|d| &d.copy == name) {
        sum += drill.rta.total_seconds.unwrap_or_default();
        suite.add_test_case(drill_case(drill));
    }
    if let Some(time) = duration(sum) {
        suite.set_time(time);
    }
    suite
}

fn copy_case(copy: &CopyJudgement) -> TestCase {
    let status = match copy.verdict {
        Verdict::Verified => TestCaseStatus::success(),
        Verdict::Failed => bad(NonSuccessKind::Failure, "failed", &story::copy_troubles(copy)),
        Verdict::Inconclusive => bad(NonSuccessKind::Error, "inconclusive", &story::copy_troubles(copy)),
    };
    case(format!("{}::repository", copy.name), &copy.name.0, status)
}

fn drill_case(drill: &DrillJudgement) -> TestCase {
    let troubles = story::troubles(drill);
    let status = match Standing::of(drill) {
        Standing::Verified => TestCaseStatus::success(),
        Standing::Failed => bad(NonSuccessKind::Failure, "failed", &troubles),
        Standing::ObjectiveMissed => bad(NonSuccessKind::Failure, "objective", &troubles),
        Standing::Inconclusive => bad(NonSuccessKind::Error, "inconclusive", &troubles),
    };
    let mut case = case(drill.name.to_string(), &drill.copy.0, status);
    if let Some(time) = drill.rta.total_seconds.and_then(duration) {
        case.set_time(time);
    }
    let checked: u64 = drill.examinations.iter().map(|e| e.checked).sum();
    case.set_assertions(usize::try_from(checked).unwrap_or(usize::MAX));
    case.add_property(("files", drill.files.to_string().as_str()));
    case.add_property(("bytes", drill.bytes.to_string().as_str()));
    if let Some(snapshot) = &drill.snapshot {
        case.add_property(("snapshot", text::clean(&snapshot.0).as_str()));
    }
    case
}

fn run_suite(judgement: &Judgement) -> TestSuite {
    let mut suite = TestSuite::new("run");
    let explain = |what: String| vec![Trouble { what, detail: None }];
    let told = story::control(judgement);
    let control = match judgement.control.state {
        ControlState::Caught => TestCaseStatus::success(),
        ControlState::Missed => {
            let mut troubles = explain(told);
            troubles.extend(judgement.control.missed.iter().map(|m| Trouble {
                what: format!("{}: {}", text::brief(&m.what, 300), text::brief(&m.location, 300)),
                detail: Some(format!("expected a finding {}, saw none", text::brief(&m.expected_code, 80))),
            }));
            bad(NonSuccessKind::Failure, "control", &troubles)
        }
        ControlState::NotRun => bad(NonSuccessKind::Error, "control", &explain(told)),
        ControlState::NotPlanned | ControlState::SwitchedOff => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(told);
            status
        }
    };
    suite.add_test_case(case("run::negative-control".to_owned(), "run", control));
    let reasons: Vec<_> =
        judgement.reasons.iter().map(|r| Trouble { what: text::brief(&r.text, 600), detail: None }).collect();
    let complete = match reasons.is_empty() {
        true => TestCaseStatus::success(),
        false => bad(NonSuccessKind::Error, "inconclusive", &reasons),
    };
    suite.add_test_case(case("run::complete".to_owned(), "run", complete));
    suite
}

fn case(name: String, class: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(text::clean(&name), status);
    case.set_classname(text::clean(class));
    case
}

fn bad(kind: NonSuccessKind, ty: &str, troubles: &[Trouble]) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(ty);
    let first = troubles.first().map_or("no reason was recorded", |t| t.what.as_str());
    status.set_message(match troubles.len() {
        0 | 1 => first.to_owned(),
        n => format!("{first} (and {} more)", n - 1),
    });
    let mut lines = Vec::new();
    for trouble in troubles.iter().take(TROUBLES_MAX) {
        lines.push(trouble.what.clone());
        lines.extend(trouble.detail.iter().map(|d| format!("    {d}")));
    }
    if troubles.len() > TROUBLES_MAX {
        lines.push(format!("and {} more", troubles.len() - TROUBLES_MAX));
    }
    status.set_description(lines.join("\n"));
    status
}

/// Seconds as a duration, unless they are none (negative, not a number, out of range).
fn duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use firedrill_core::verdict::Exit;

    use super::*;
    use crate::fixture;

    fn read(judgement: &Judgement) -> Report {
        let xml = render(judgement).unwrap();
        Report::deserialize_from_str(&xml).unwrap_or_else(|e| panic!("{e}: {xml}"))
    }

    fn green(report: &Report) -> usize {
        report.tests - report.failures - report.errors - report.skipped
    }

    #[test]
    fn every_fixture_is_xml_and_only_what_is_verified_is_green() {
        for (name, judgement) in fixture::all() {
            let report = read(&judgement);
            let good_drills =
                judgement.drills.iter().filter(|d| Standing::of(d) == Standing::Verified).count();
            let good_copies = judgement.copies.iter().filter(|c| c.verdict == Verdict::Verified).count();
            let good_control = usize::from(judgement.control.state == ControlState::Caught);
            let complete = usize::from(judgement.reasons.is_empty() && !judgement.drills.is_empty());
            assert_eq!(green(&report), good_drills + good_copies + good_control + complete, "{name}");
            assert_eq!(report.tests, judgement.drills.len() + judgement.copies.len() + 2, "{name}");
            let all_well = report.failures + report.errors == 0;
            assert_eq!(all_well, judgement.exit == Exit::Verified, "{name}");
        }
    }

    #[test]
    fn failed_inconclusive_and_missed_objectives_are_told_apart() {
        let xml = render(&fixture::two_copies()).unwrap();
        assert!(xml.contains(r#"<testsuite name="mirror""#), "{xml}");
        assert!(xml.contains(r#"type="failed""#));
        assert!(xml.contains(r#"type="inconclusive""#));
        assert!(xml.contains(r#"type="objective""#));
        assert!(xml.contains(r#"name="primary::mariadb::latest" classname="primary""#), "{xml}");
        assert!(xml.contains("expected 79,691,776 bytes, saw 78,331,904 bytes"));
        assert!(xml.contains(r#"time="22.6"#), "{xml}");
    }

    #[test]
    fn a_missed_control_is_a_failure() {
        let xml = render(&fixture::control_missed()).unwrap();
        assert!(xml.contains("a file was cut in half: data/log.0"), "{xml}");
        assert!(xml.contains("2 of 4 deliberate damages found"), "{xml}");
    }

    #[test]
    fn a_control_that_is_switched_off_is_skipped_and_says_so() {
        let judgement = fixture::control_off();
        assert_eq!(read(&judgement).skipped, 1);
        assert!(render(&judgement).unwrap().contains("switched off in the config"));
    }

    #[test]
    fn an_empty_run_is_not_green() {
        let report = read(&fixture::copy_unreadable());
        assert_eq!(green(&report), 0);
        let nothing = fixture::nothing_selected();
        // The copy could be read, and that is all.
        assert_eq!(green(&read(&nothing)), 1);
        assert!(render(&nothing).unwrap().contains("nothing was drilled"));
    }

    #[test]
    fn hostile_names_neither_break_the_xml_nor_vanish() {
        let judgement = fixture::hostile();
        let xml = render(&judgement).unwrap();
        assert!(xml.contains(r"\u{1b}]0;owned\u{7}"), "{xml}");
        assert!(xml.contains("&lt;script&gt;"));
        assert!(!xml.chars().any(|c| c.is_control() && c != '\n'), "{xml:?}");
        read(&judgement);
    }

    #[test]
    fn no_secret_is_written() {
        for (name, judgement) in fixture::all() {
            assert!(!fixture::leaks(&render(&judgement).unwrap()), "{name}");
        }
    }

    #[test]
    fn impossible_durations_are_left_out() {
        let mut judgement = fixture::all_verified();
        judgement.seconds = Some(f64::INFINITY);
        judgement.drills[0].rta.total_seconds = Some(-1.0);
        judgement.drills[1].rta.total_seconds = Some(f64::NAN);
        read(&judgement);
    }
}
