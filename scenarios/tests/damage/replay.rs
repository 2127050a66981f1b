//! Runs that are over: judged again, reported again, cut, forged, accepted, remembered.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use firedrill_core::finding::Class;
use firedrill_core::memory::Baseline;
use firedrill_core::secret::Secret;
use firedrill_core::verdict::Verdict;
use firedrill_scenarios::damage;
use firedrill_scenarios::fleet::{Job, TestRepository, copy_repository};

use crate::anatomy::Anatomy;
use crate::fixture::{Fixture, PASSWORD};
use crate::place::{self, Answer, Place};

const ALPHA: &str = "primary::alpha::latest";

fn judge(place: &Place, run: &Path) -> Answer {
    place.firedrill().unwrap().args(["judge", "--json"]).arg(run).ends().unwrap()
}

/// A place with one run: verified, failed or inconclusive.
fn ran(fixture: &Fixture, how: &str) -> (Place, Answer) {
    let place = Place::with(&fixture.rustic()).unwrap();
    let mut run = place.drill().unwrap();
    match how {
        "failed" => {
            let operator = damage::named("data-bit").unwrap();
            let _guard = operator.apply_to(&place.repository(), PASSWORD, 1, "alpha").unwrap();
        }
        "inconclusive" => run = run.args(["--scratch-limit", "1KiB"]),
        _ => {}
    }
    let answer = run.ends().unwrap();
    (place, answer)
}

#[test]
fn an_old_run_is_judged_as_it_was() {
    let fixture = Fixture::shared().unwrap();
    for (how, code) in [("verified", 0), ("failed", 1), ("inconclusive", 2)] {
        let (place, first) = ran(&fixture, how);
        let first = first.expect(code).unwrap();
        let run = first.run.clone().unwrap();
        for path in [run.clone(), run.join("evidence.jsonl")] {
            let again = judge(&place, &path).expect(code).unwrap();
            assert_eq!(again.judgement, first.judgement, "{how}");
            assert_eq!(again.stdout, first.stdout, "{how}");
        }
        // The report is made from nothing but the evidence.
        let html = fs::read(run.join("report.html")).unwrap();
        fs::remove_file(run.join("report.html")).unwrap();
        fs::create_dir(place.out()).unwrap();
        let [json, junit, metrics] = ["r.json", "r.xml", "r.prom"].map(|name| place.out().join(name));
        let report = place.firedrill().unwrap().arg("report").arg(&run);
        let report = report.arg("--json-file").arg(&json).arg("--junit").arg(&junit);
        report.arg("--prometheus-file").arg(&metrics).ends().unwrap().expect(code).unwrap();
        assert!(html == fs::read(run.join("report.html")).unwrap(), "{how}: another report");
        let written: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(&first.stdout).unwrap());
        assert!(fs::read_to_string(junit).unwrap().contains("primary::alpha::latest"));
        assert!(fs::read_to_string(metrics).unwrap().contains("firedrill_"));
    }
}

/// Evidence that was cut or changed is never better than inconclusive.
#[test]
fn evidence_that_is_not_whole() {
    let fixture = Fixture::shared().unwrap();
    for how in ["verified", "failed"] {
        let (_place, answer) = ran(&fixture, how);
        let whole = fs::read(answer.run.unwrap().join("evidence.jsonl")).unwrap();
        let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
        let mut cases: Vec<(String, Vec<u8>)> = vec![("empty".into(), Vec::new())];
        for end in &ends[..ends.len() - 1] {
            cases.push((format!("cut after {end}"), whole[..*end].to_vec()));
        }
        for share in 1..12 {
            let at = whole.len() * share / 12;
            cases.push((format!("cut at {at}"), whole[..at].to_vec()));
            let mut changed = whole.clone();
            changed[at] ^= 1;
            cases.push((format!("changed at {at}"), changed));
        }
        cases.push(("without its last byte".into(), whole[..whole.len() - 1].to_vec()));
        cases.push(("with a line too many".into(), [&whole[..], b"{}\n"].concat()));
        cases.push(("without a line".into(), [&whole[..ends[2]], &whole[ends[3]..]].concat()));
        cases.push(("with a line twice".into(), [&whole[..ends[3]], &whole[ends[2]..]].concat()));
        cases.push(("garbage".into(), vec![0xff; 1000]));
        let cases: Vec<_> = cases.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        place::all(&cases, |(name, content)| {
            let place = Place::new()?;
            fs::write(place.path("evidence.jsonl"), content)?;
            let run = place.firedrill()?.args(["judge", "--json"]).arg(place.path(""));
            let answer = run.ends()?;
            let allowed: &[i32] = if how == "failed" { &[1, 2] } else { &[2] };
            ensure!(allowed.contains(&answer.code), "{name} is judged {}", answer.told());
            if let Some(judgement) = &answer.judgement {
                ensure!(!judgement.reasons.is_empty(), "{name}: nothing is said");
            } else {
                ensure!(answer.stderr.contains("does not start with the plan"), "{}", answer.stderr);
            }
            Ok(())
        });
    }
}

#[test]
fn what_is_no_run() {
    let place = Place::new().unwrap();
    fs::create_dir_all(place.path("folder/evidence.jsonl")).unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    let help = "the one that holds evidence.jsonl";
    for command in ["judge", "report"] {
        for (path, code, text) in
            [("missing", 64, help), ("empty", 64, help), ("folder", 2, "evidence.jsonl")]
        {
            let run = place.firedrill().unwrap().arg(command).arg(place.path(path));
            run.ends().unwrap().expect(code).unwrap().says(&[text]).unwrap();
        }
        place.firedrill().unwrap().arg(command).ends().unwrap().expect(64).unwrap();
    }
}

fn accept(place: &Place, run: &Path, drill: &str, reason: &str) -> Answer {
    let command = place.firedrill().unwrap().arg("accept").arg(run).args([drill, "--reason", reason]);
    command.ends().unwrap()
}

fn baselines(place: &Place) -> Vec<Baseline> {
    let list = place.firedrill().unwrap().args(["baselines", "--json", "--state"]).arg(place.state());
    serde_json::from_str(&list.ends().unwrap().expect(0).unwrap().stdout).unwrap()
}

#[test]
fn a_change_that_was_meant_is_accepted() {
    let fixture = Fixture::shared().unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    let first = place.drill().unwrap().ends().unwrap().expect(0).unwrap();
    assert_eq!(baselines(&place).len(), 3);

    shrink(&fixture, &place);
    let shrunken = place.drill().unwrap().ends().unwrap().expect(1).unwrap();
    shrunken.verified("beta").unwrap();
    shrunken.verified("twins").unwrap();
    let drill = shrunken.drill("alpha").unwrap();
    assert_eq!(drill.verdict, Verdict::Failed);
    assert!(drill.findings.iter().all(|f| f.class == Class::Anomaly && f.code.starts_with("shape.")));
    let run = shrunken.run.clone().unwrap();
    // Nobody said yet that it was meant.
    place.drill().unwrap().ends().unwrap().expect(1).unwrap();

    accept(&place, &run, ALPHA, "  ").expect(64).unwrap().says(&["say why"]).unwrap();
    accept(&place, &run, "primary::nothing::latest", "x").expect(64).unwrap().says(&[ALPHA]).unwrap();
    accept(&place, &run, "primary::beta::latest", "x").expect(64).unwrap().says(&["verified"]).unwrap();
    accept(&place, &first.run.unwrap(), ALPHA, "x").expect(64).unwrap().says(&["verified"]).unwrap();
    accept(&place, &run, ALPHA, "the old files moved").expect(0).unwrap();
    let known = baselines(&place);
    let alpha = known.iter().find(|b| b.series.to_string() == "alpha").unwrap();
    assert_eq!(alpha.accepted.as_ref().unwrap().reason, "the old files moved");

    place.drill().unwrap().ends().unwrap().expect(0).unwrap();
    // What was accepted is not "anything goes": an empty backup is no backup.
    fs::remove_dir_all(place.path("source")).unwrap();
    fs::create_dir_all(place.path("source/backup/alpha")).unwrap();
    back_up(&place, "alpha");
    let empty = place.drill().unwrap().ends().unwrap().expect(1).unwrap();
    assert!(empty.drill("alpha").unwrap().findings.iter().any(|f| f.code == "shape.empty"));
    let refused = accept(&place, &empty.run.unwrap(), ALPHA, "it may be empty").expect(64).unwrap();
    refused.says(&["damage cannot be accepted"]).unwrap();
}

/// Backs up a new state of alpha, in which most is gone.
fn shrink(fixture: &Fixture, place: &Place) {
    copy_repository(&fixture.source("alpha"), &place.path("source")).unwrap();
    fs::remove_dir_all(place.path("source/backup/alpha/noise")).unwrap();
    fs::remove_dir_all(place.path("source/backup/alpha/deep")).unwrap();
    back_up(place, "alpha");
}

fn back_up(place: &Place, tag: &str) {
    use firedrill_core::clock::{Clock as _, SystemClock};
    let repository = TestRepository::open(&place.repository(), &Secret::new(PASSWORD)).unwrap();
    let paths = [format!("/backup/{tag}")];
    let job = Job {
        root: &place.path("source"),
        paths: &[paths[0].as_str()],
        excludes: &[],
        tags: &[tag],
        host: tag,
        time: SystemClock.now(),
    };
    repository.snapshot(&job).unwrap();
}

#[test]
fn damage_is_not_accepted() {
    let fixture = Fixture::shared().unwrap();
    for how in ["failed", "inconclusive"] {
        let (place, answer) = ran(&fixture, how);
        let refused = accept(&place, &answer.run.unwrap(), ALPHA, "never mind").expect(64).unwrap();
        let why = if how == "failed" { "damage cannot be accepted" } else { "run it again" };
        refused.says(&[why]).unwrap();
        let learnt: Vec<_> = baselines(&place).iter().map(|b| b.series.to_string()).collect();
        assert_eq!(learnt, if how == "failed" { vec!["beta", "twins"] } else { vec![] });
    }
}

#[test]
fn a_deleted_snapshot_is_accepted() {
    let fixture = Fixture::shared().unwrap();
    let anatomy = Anatomy::of(&fixture.rustic()).unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    place.drill().unwrap().ends().unwrap().expect(0).unwrap();
    let newest = anatomy.snapshot("alpha", 0).unwrap();
    fs::remove_file(place.repository().join("snapshots").join(newest)).unwrap();
    let run = place.drill().unwrap().ends().unwrap().expect(1).unwrap().run.unwrap();
    accept(&place, &run, ALPHA, "it was a mistake").expect(0).unwrap();
    let answer = place.drill().unwrap().ends().unwrap().expect(0).unwrap();
    assert_eq!(
        answer.verified("alpha").unwrap().snapshot.as_ref().unwrap().0,
        anatomy.snapshot("alpha", 1).unwrap()
    );
}

#[test]
fn baselines_are_listed_and_dropped() {
    let fixture = Fixture::shared().unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    let command = |words: &[&str]| {
        let run = place.firedrill().unwrap().arg("baselines").arg("--state").arg(place.state());
        run.args(words).ends().unwrap()
    };
    let none = command(&[]).expect(0).unwrap();
    assert_eq!(none.stdout, "0 baselines\n");
    let answer = place.drill().unwrap().ends().unwrap().expect(0).unwrap();
    let list = command(&[]).expect(0).unwrap();
    assert!(
        list.stdout.ends_with("3 baselines\n") && list.stdout.contains("primary::alpha"),
        "{}",
        list.stdout
    );
    let snapshot = answer.drill("alpha").unwrap().snapshot.as_ref().unwrap();
    assert!(list.stdout.contains(snapshot.short()), "{}", list.stdout);

    command(&["--drop-copy", "primary", "--tag", "alpha"]).expect(0).unwrap();
    assert_eq!(baselines(&place).len(), 2);
    for nothing in [&["--drop-copy", "primary", "--tag", "alpha"][..], &["--drop-copy", "mirror"]] {
        command(nothing).expect(64).unwrap();
    }
    command(&["--tag", "alpha"]).expect(64).unwrap();
    command(&["--drop-copy", "primary"]).expect(0).unwrap();
    assert_eq!(baselines(&place).len(), 0);
}

/// A memory that cannot be read is said to be so, and is no reason to call anything verified by it.
#[test]
fn a_damaged_memory() {
    let fixture = Fixture::shared().unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    place.drill().unwrap().ends().unwrap().expect(0).unwrap();
    for path in crate::vault::files(&place.state().join("memory")).unwrap() {
        if path.extension().is_some_and(|e| e == "json") {
            let mut content = fs::read(&path).unwrap();
            let at = content.len() / 2;
            content[at] ^= 1;
            fs::write(&path, content).unwrap();
        }
    }
    let answer = place.drill().unwrap().ends().unwrap();
    let answer = answer.says(&["not a sound baseline", "remove the file"]).unwrap();
    let shape = answer.drill("alpha").unwrap().examinations.iter().find(|e| e.probe == "shape").unwrap();
    assert!(shape.not_verified.iter().any(|what| what.contains("not a sound baseline")), "{shape:?}");
    let list = place.firedrill().unwrap().args(["baselines", "--state"]).arg(place.state()).ends().unwrap();
    list.says(&["not a sound baseline"]).unwrap();
}

/// Another repository under the same address: all of it is intact, and all that was proven is gone.
#[test]
fn a_repository_that_was_made_anew() {
    let fixture = Fixture::shared().unwrap();
    let place = Place::with(&fixture.rustic()).unwrap();
    place.drill().unwrap().ends().unwrap().expect(0).unwrap();
    fs::remove_dir_all(place.repository()).unwrap();
    TestRepository::init(&place.repository(), &Secret::new(PASSWORD)).unwrap();
    copy_repository(&fixture.source("alpha"), &place.path("source")).unwrap();
    back_up(&place, "alpha");
    let answer = place.drill().unwrap().ends().unwrap().expect(1).unwrap();
    let codes: Vec<_> = answer.copy().unwrap().findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["repository.identity"]);
    let drop = place.firedrill().unwrap().args(["baselines", "--drop-copy", "primary", "--state"]);
    drop.arg(place.state()).ends().unwrap().expect(0).unwrap();
    place.drill().unwrap().ends().unwrap().expect(0).unwrap();
}
