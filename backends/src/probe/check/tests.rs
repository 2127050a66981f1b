//! Checks in real cells, on healthy and damaged data.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::config::trials::CheckConfig;
use firedrill_core::config::units::Span;
use firedrill_core::finding::{Class, Examination};

use super::CheckProbe;
use crate::probe::fleet::{Case, Fleet, Tree, assert_finds, assert_found, assert_green, at};
use crate::probe::made::containers;
use crate::runtime::process::ProcessRuntime;
use firedrill_core::ports::Probe as _;

/// Counts invoices, and tells of each that has no total.
const SCRIPT: &str = r#"
checked=0
for file in "$FIREDRILL_DATA"/data/invoices/*; do
  [ -f "$file" ] || continue
  checked=$((checked + 1))
  if ! grep -q '^total ' "$file"; then
    echo "{\"finding\": {\"code\": \"total\", \"location\": \"${file##*/}\", \"seen\": \"no total\"}}"
  fi
done
echo "{\"checked\": $checked, \"unit\": \"invoices\"}"
echo '{"newest": "2026-01-01T05:00:00Z"}'
echo "{\"baseline\": {\"invoices\": $checked}}"
"#;

fn fleet(invoices: &[(&str, &str)]) -> Fleet {
    let mut tree = Tree::default();
    tree.write("data/other", "x", at(1, 0.0));
    tree.folder("data/invoices", at(1, 0.0));
    for (name, content) in invoices {
        tree.write(&format!("data/invoices/{name}"), *content, at(1, 1.0));
    }
    let mut fleet = Fleet::new("shop");
    fleet.backup(at(2, 0.0), &tree);
    fleet
}

fn healthy() -> Fleet {
    fleet(&[("1", "total 5\n"), ("2", "total 7\n")])
}

fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("check.sh");
    std::fs::write(&path, text).unwrap();
    path
}

fn check(text: &str, folder: &Path) -> CheckConfig {
    CheckConfig {
        name: "invoices".into(),
        command: vec!["bash".into(), "check.sh".into()],
        files: vec![script(folder, text)],
        ..CheckConfig::default()
    }
}

fn case(fleet: &mut Fleet, checks: Vec<CheckConfig>) -> Case {
    fleet.drill.trials.checks = checks;
    let mut case = fleet.case();
    case.subject.runtime = Some(Arc::new(ProcessRuntime::new(&RuntimeConfig::default())));
    case
}

fn examine(fleet: &mut Fleet, checks: Vec<CheckConfig>) -> Examination {
    let case = case(fleet, checks);
    assert!(CheckProbe.recognises(&case.subject));
    let examination = CheckProbe.examine(&case.subject);
    assert_eq!(std::fs::read_dir(&case.subject.work).unwrap().count(), 0, "a cell was left behind");
    examination
}

/// What a check of this one line gives on healthy data.
fn line(line: &str) -> Examination {
    let place = tempfile::tempdir().unwrap();
    examine(&mut healthy(), vec![check(line, place.path())])
}

#[track_caller]
fn assert_interrupted(examination: &Examination, why: &str) {
    let reason = examination.interrupted.as_deref().unwrap_or_default();
    assert!(reason.contains(why), "{reason:?}");
    assert!(examination.findings.is_empty(), "{:#?}", examination.findings);
}

#[test]
fn healthy_data_is_green_and_damaged_data_is_not() {
    let place = tempfile::tempdir().unwrap();
    let checks = || vec![check(SCRIPT, place.path())];
    let good = examine(&mut healthy(), checks());
    assert_green(&good);
    assert_eq!((good.checked, good.unit.as_str()), (2, "invoices"));
    assert!(good.recovery_point.is_some() && good.baseline.contains_key("invoices"));
    assert!(good.notes.iter().any(|note| note.contains("check.sh, SHA-256 ")), "{:?}", good.notes);
    let facts = good.engine.unwrap();
    assert_eq!(facts.cells[0].software[0].kit, "bash");
    assert!(!facts.phases.contains_key(&firedrill_core::event::Phase::Start), "no recovery waits for it");

    let bad = examine(&mut fleet(&[("1", "total 5\n"), ("2", "to")]), checks());
    assert_finds(&bad, &["check.invoices.total"]);
    assert_eq!((bad.checked, bad.findings[0].location.as_str()), (2, "2"));
    let none = examine(&mut fleet(&[]), checks());
    assert_interrupted(&none, "examined nothing");
}

#[test]
fn a_check_in_a_container_says_the_same() {
    let Some(containers) = containers("bash", &["bash"]) else { return };
    let place = tempfile::tempdir().unwrap();
    let examine = |mut fleet: Fleet, text: &str| {
        let mut case = case(&mut fleet, vec![check(text, place.path())]);
        case.subject.runtime = Some(Arc::clone(&containers));
        let examination = CheckProbe.examine(&case.subject);
        assert_eq!(std::fs::read_dir(&case.subject.work).unwrap().count(), 0, "a cell was left behind");
        examination
    };
    let good = examine(healthy(), SCRIPT);
    assert_green(&good);
    assert_eq!((good.checked, good.engine.unwrap().cells[0].runtime.as_str()), (2, "container"));
    let bad = examine(fleet(&[("1", "total 5\n"), ("2", "to")]), SCRIPT);
    assert_finds(&bad, &["check.invoices.total"]);
    assert_interrupted(&examine(healthy(), "exit 0"), "did not say");
    assert_interrupted(&examine(healthy(), "echo '{\"checked\": 1}'; exit 2"), "exit code 2");
    assert_interrupted(&examine(healthy(), "kill -9 $$"), "exit code 137");
    let bad = examine(healthy(), "echo '{\"checked\": 1}'; echo 'the sum is wrong' >&2; exit 1");
    assert_found(&bad, "check.invoices.failed", Class::Damage);
}

#[test]
fn a_check_sees_its_data_and_its_variables_and_nothing_of_ours() {
    let place = tempfile::tempdir().unwrap();
    let mut own = check(
        "[ \"$FIREDRILL_TAG $FIREDRILL_COPY $FIREDRILL_HOST $OWN\" = 'shop primary node a b' ] || exit 3\n\
         [ \"$FIREDRILL_SNAPSHOT_TIME\" = 2026-01-02T00:00:00Z ] && [ -n \"$FIREDRILL_AT$FIREDRILL_SEED\" ] || exit 4\n\
         [ ! -e \"$FIREDRILL_DATA/data/other\" ] && [ -f \"$FIREDRILL_DATA/data/invoices/1\" ] || exit 5\n\
         env | grep -q CARGO && exit 6\n\
         echo changed >\"$FIREDRILL_DATA/data/invoices/1\" || exit 7\n\
         echo '{\"checked\": 1}'",
        place.path(),
    );
    own.data = vec!["/data/invoices".into(), "/data/invoices/1".into()];
    own.environment.insert("OWN".into(), "a b".into());
    let mut fleet = healthy();
    let case = case(&mut fleet, vec![own]);
    assert_green(&CheckProbe.examine(&case.subject));
    let kept = std::fs::read_to_string(case.subject.root.join("data/invoices/1")).unwrap();
    assert_eq!(kept, "total 5\n", "the restored file itself stays as it is");
}

#[test]
fn data_that_is_not_in_the_snapshot_is_missed() {
    let place = tempfile::tempdir().unwrap();
    let gone = CheckConfig { data: vec!["letters".into()], ..check("echo '{\"checked\": 1}'", place.path()) };
    let examination = examine(&mut healthy(), vec![gone]);
    assert_found(&examination, "check.invoices.data", Class::Damage);
    assert_eq!(examination.checked, 0);
}

#[test]
fn a_check_that_does_not_keep_the_contract_proves_nothing() {
    assert_interrupted(&line("echo fine"), "line 1");
    assert_interrupted(&line("echo '{\"checked\": 0}'"), "examined nothing");
    assert_interrupted(&line("echo '{\"checked\": 1}'; exit 2"), "exit code 2");
    assert_interrupted(&line("kill -9 $$"), "signal 9");
    assert_interrupted(&line("exit 0"), "did not say");
    assert_interrupted(&line("no-such-command"), "exit code 127");
    assert_interrupted(&line("yes '{\"note\": \"x\"}' | head -c 9000000"), "more than");
    let bad = line("echo '{\"checked\": 1}'; echo 'the sum is wrong' >&2; exit 1");
    assert_found(&bad, "check.invoices.failed", Class::Damage);
    assert_eq!(bad.findings[0].seen, "the sum is wrong");
}

#[test]
fn what_keeps_a_check_from_running_is_told() {
    let place = tempfile::tempdir().unwrap();
    let good = || check("echo '{\"checked\": 1}'", place.path());
    let slow =
        CheckConfig { timeout: Some(Span(Duration::from_millis(300))), ..check("sleep 60", place.path()) };
    assert!(examine(&mut healthy(), vec![slow]).interrupted.is_some());
    let absent = CheckConfig { command: vec!["no-such-interpreter".into()], ..good() };
    assert_interrupted(&examine(&mut healthy(), vec![good(), absent]), "no-such-interpreter");
    let lost = CheckConfig { files: vec![place.path().join("gone.sh")], ..good() };
    assert_interrupted(&examine(&mut healthy(), vec![lost]), "gone.sh");
    let mut fleet = healthy();
    let mut case = case(&mut fleet, vec![good()]);
    case.subject.runtime = None;
    assert_interrupted(&CheckProbe.examine(&case.subject), "runtime: off");
}

#[test]
fn what_a_check_leaves_behind_is_told_to_it_in_the_next_drill() {
    let place = tempfile::tempdir().unwrap();
    let shrinks = "before=$(tr -dc 0-9 <\"${FIREDRILL_BASELINE:-/dev/null}\"); now=2\n\
         [ \"${before:-0}\" = 0 ] || now=$((before - 1))\n\
         echo \"{\\\"checked\\\": $now}\"; echo \"{\\\"baseline\\\": {\\\"n\\\": $now}}\"";
    let mut fleet = healthy();
    fleet.drill.trials.checks = vec![check(shrinks, place.path())];
    let first = examine(&mut fleet, vec![check(shrinks, place.path())]);
    assert_eq!(first.checked, 2);
    fleet.baseline = Some(firedrill_core::memory::Baseline {
        repository: "r".into(),
        copy: fleet.drill.copy.clone(),
        series: fleet.drill.series.clone(),
        run: "run-1".into(),
        snapshot: fleet.snapshots[0].0.id.clone(),
        snapshot_time: at(1, 0.0),
        host: "node".into(),
        accepted: None,
        probes: [("check".to_owned(), first.baseline.clone())].into(),
    });
    assert_eq!(examine(&mut fleet, vec![check(shrinks, place.path())]).checked, 1);
}
