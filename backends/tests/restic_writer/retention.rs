//! Rules against those of restic, on random snapshots.
//!
//! One repository holds many series; for each of many rules, restic and firedrill decide on all of them, as on a
//! machine in one of several time zones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use firedrill_backends::repository::restic::write::{BackupRequest, ForgetRequest, Source};
use firedrill_core::retention::{Decision, GroupBy, Guard, Policy};
use firedrill_core::snapshot::SnapshotId;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::craft::{Craft, PASSWORD};
use crate::support::awkward::Bytes;
use crate::support::restic::{Access, Repository, Restic};
use crate::support::tools::{Workplace, run};
use crate::writing::{open, repository, watch};

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"];
const SERIES: usize = 40;

struct Chance(Bytes);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        u64::from_le_bytes(self.0.take(8).try_into().expect("eight")) % end
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).expect("it is small")]
    }
}

/// Snapshots of many hosts: some minutes apart, some years; around changes of the clock; a few in the future.
fn fill(root: &std::path::Path, chance: &mut Chance) {
    let craft = Craft::new(root);
    let tree = craft.tree([]);
    let now: Timestamp = jiff_now();
    for series in 0..SERIES {
        let zone = TimeZone::get(chance.of::<&str>(&ZONES)).expect("a zone");
        let spread = *chance.of(&[3_600, 86_400, 86_400 * 9, 86_400 * 70, 86_400 * 1500]);
        let start = match chance.below(3) {
            0 => now,
            1 => "2025-03-31T01:30:00Z".parse().expect("a time"),
            _ => "2024-02-29T23:59:59Z".parse().expect("a time"),
        };
        for _ in 0..chance.below(16) + 1 {
            let back = i64::try_from(chance.below(spread)).expect("it is small");
            let time = start - SignedDuration::from_secs(back);
            let time =
                if chance.below(60) == 0 { now + SignedDuration::from_secs(back + 9_000) } else { time };
            let offset = zone.to_offset(time);
            let text = match offset.is_zero() {
                true => time.to_string(),
                false => time.display_with_offset(offset).to_string(),
            };
            let tags: Vec<&str> = ["a", "b", "c"].into_iter().filter(|_| chance.below(4) == 0).collect();
            let snapshot = json!({
                "time": text, "tree": tree, "paths": [format!("/{}", chance.below(2))],
                "hostname": format!("host {series}"), "username": "u", "tags": tags,
            });
            craft.snapshot_text(&snapshot.to_string());
        }
    }
    craft.finish();
}

#[expect(clippy::disallowed_methods, reason = "restic asks the clock of the machine, too")]
fn jiff_now() -> Timestamp {
    Timestamp::now()
}

/// Random rules, as restic's flags and as a policy.
fn rules(chance: &mut Chance) -> (Vec<String>, Policy) {
    let mut rules = serde_json::Map::new();
    for name in ["last", "hourly", "daily", "weekly", "monthly", "yearly"] {
        if chance.below(4) == 0 {
            rules.insert(name.to_owned(), (chance.below(6) + 1).into());
        }
    }
    for name in
        ["within", "within_hourly", "within_daily", "within_weekly", "within_monthly", "within_yearly"]
    {
        if chance.below(6) == 0 {
            let units = [("y", 2), ("m", 14), ("d", 40), ("h", 50)];
            let mut age: String = units
                .iter()
                .filter(|_| chance.below(2) == 0)
                .map(|(unit, _)| (unit, 0))
                .map(|(unit, _)| format!("1{unit}"))
                .collect();
            if chance.below(2) == 0 {
                let (unit, most) = chance.of(&units);
                age = format!("{}{unit}", chance.below(*most) + 1);
            }
            if !age.is_empty() {
                rules.insert(name.to_owned(), age.into());
            }
        }
    }
    let mut flags: Vec<String> = rules
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("--keep-{}={value}", name.replace('_', "-"))
        })
        .collect();
    if flags.is_empty() || (chance.below(5) == 0 && !rules.contains_key("last")) {
        let tags = (*chance.of(&["a", "b,c", "c"])).to_owned();
        flags.push(format!("--keep-tag={tags}"));
        rules.insert("tags".to_owned(), vec![tags].into());
        // restic 0.19 refuses rules that leave nothing of a series.
        flags.push("--keep-last=1".to_owned());
        rules.insert("last".to_owned(), 1.into());
    }
    let policy = serde_json::from_value(Value::Object(rules)).expect("a policy");
    (flags, policy)
}

/// By id, why restic keeps a snapshot; nothing where it removes it.
fn by_restic(
    repository: &Repository,
    flags: &[String],
    by: &str,
    zone: &str,
) -> BTreeMap<String, Option<Vec<String>>> {
    let mut command = repository.command(["forget", "--dry-run", "--json", "--no-lock", "--group-by", by]);
    command.env("TZ", zone).args(flags);
    let output = run(&mut command);
    let groups: Value = serde_json::from_slice(&output.stdout).expect("restic prints JSON");
    let mut decided = BTreeMap::new();
    for group in groups.as_array().expect("groups") {
        for reason in group["reasons"].as_array().into_iter().flatten() {
            let id = reason["snapshot"]["id"].as_str().or(reason["snapshot"]["short_id"].as_str());
            let matches = serde_json::from_value(reason["matches"].clone()).expect("reasons");
            decided.insert(id.unwrap_or_default().to_owned(), Some(matches));
        }
        for keep in group["keep"].as_array().into_iter().flatten() {
            let id = keep["id"].as_str().expect("an id").to_owned();
            let short = decided.remove(&id[..8]).unwrap_or_default();
            decided.entry(id).or_insert(short);
        }
        for gone in group["remove"].as_array().into_iter().flatten() {
            decided.insert(gone["id"].as_str().expect("an id").to_owned(), None);
        }
    }
    decided
}

#[test]
fn every_decision_is_that_of_restic() {
    for (generation, seed, rounds) in [("0.18", 1_u64, 40), ("0.19", 2, 60)] {
        let Some(restic) = Restic::need(generation) else { continue };
        let place = Workplace::new();
        let mut chance = Chance(Bytes(seed));
        let root = place.path("repository");
        fill(&root, &mut chance);
        let access = Access { password: PASSWORD.to_owned(), ..Access::to(root.display().to_string()) };
        let repository = Repository { restic, access };
        let writer = open(&repository.access);
        let (mut kept, mut removed) = (0, 0);
        for _ in 0..rounds {
            let (flags, policy) = rules(&mut chance);
            let (by, group) = *chance.of(&[
                ("host,paths", GroupBy::default()),
                ("host", GroupBy { host: true, paths: false, tags: false }),
                ("paths,tags", GroupBy { host: false, paths: true, tags: true }),
                ("", GroupBy { host: false, paths: false, tags: false }),
            ]);
            let zone = *chance.of(&ZONES);
            let theirs = by_restic(&repository, &flags, by, zone);
            let request = ForgetRequest {
                policy,
                by: group,
                zone: TimeZone::get(zone).expect("a zone"),
                guard: Guard { allow_future: true, allow_empty: true, ..Guard::default() },
                dry_run: true,
                ..ForgetRequest::default()
            };
            let ours = writer.forget(&request, None, &watch()).unwrap_or_else(|e| panic!("{}", e.chain()));
            assert_eq!(ours.decided.len(), theirs.len());
            for one in &ours.decided {
                let mine = match &one.decision {
                    Decision::Keep { reasons } => Some(reasons),
                    Decision::Remove => None,
                };
                let told = format!("{flags:?} by {by:?} in {zone}, seed {seed}: {:?}", one.candidate);
                assert_eq!(mine, theirs[&one.candidate.id.0].as_ref(), "{told}");
                if mine.is_some() { kept += 1 } else { removed += 1 }
            }
        }
        // If nearly all were kept or removed, the rules would have been tested little.
        assert!(kept > 2_000 && removed > 2_000, "{kept} kept, {removed} removed");
    }
}

/// Backups of a simulated week and what is left of them.
#[test]
fn a_week_of_backups() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let writer = open(&repository.access);
    let first: Timestamp = "2026-03-02T20:00:00Z".parse().expect("a time");
    let mut ids = Vec::new();
    for day in 0..7 {
        let request = BackupRequest {
            time: Some(first + SignedDuration::from_hours(24 * day)),
            tags: vec!["db".to_owned()],
            ..BackupRequest::default()
        };
        let dump = vec![Source::bytes("/db.sql", format!("day {day}").into_bytes())];
        let made = writer.backup(dump, &request, &watch()).expect("a backup");
        ids.push(made.snapshot().expect("a snapshot").clone());
    }
    let request = |last, guard| ForgetRequest {
        policy: Policy { last: Some(last), ..Policy::default() },
        guard,
        ..ForgetRequest::default()
    };
    let refused = |guard| {
        let error = writer.forget(&request(2, guard), None, &watch()).expect_err("the guard refuses");
        assert_eq!(repository.snapshots().len(), 7);
        error.chain()
    };
    // What was verified last stays, whatever the rules say; the others would go.
    let never_drop: BTreeSet<SnapshotId> = [ids[3].clone()].into();
    let dry = ForgetRequest { dry_run: true, ..request(2, Guard { never_drop, ..Guard::default() }) };
    let spared = writer.forget(&dry, None, &watch()).expect("the others may go");
    let kept: BTreeSet<_> =
        spared.decided.iter().filter(|one| !one.is_removed()).map(|one| one.candidate.id.clone()).collect();
    assert_eq!(kept, [ids[3].clone(), ids[5].clone(), ids[6].clone()].into());
    assert!(refused(Guard { max_share: Some(0.5), ..Guard::default() }).contains("5 of 7"));

    let everything = writer.forget(&ForgetRequest::default(), None, &watch()).expect("no rule, no removal");
    assert!(everything.removed.is_empty() && everything.decided.len() == 7);
    let done = writer.forget(&request(2, Guard::default()), None, &watch()).expect("it is done");
    assert_eq!(done.removed.iter().collect::<BTreeSet<_>>(), ids[..5].iter().collect());
    let left: BTreeSet<String> = repository.snapshots().into_iter().map(|s| s.id).collect();
    assert_eq!(left, ids[5..].iter().map(|id| id.0.clone()).collect());

    // A clock that ran ahead must not push out what is real.
    let request_of_2099 = BackupRequest {
        time: Some("2099-01-01T00:00:00Z".parse().expect("a time")),
        tags: vec!["db".to_owned()],
        ..BackupRequest::default()
    };
    let dump = vec![Source::bytes("/db.sql", b"x".to_vec())];
    writer.backup(dump, &request_of_2099, &watch()).expect("a backup");
    let error = writer.forget(&request(1, Guard::default()), None, &watch()).expect_err("the guard refuses");
    assert!(error.chain().contains("has not come yet"), "{}", error.chain());
}

#[test]
fn rules_need_to_see_every_snapshot() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let writer = open(&repository.access);
    let source = place.folder("source");
    fs::write(source.join("file"), b"x").expect("write");
    repository.backup(&source, &[], &[]);
    let id = repository.backup(&source, &[], &[]);
    let file = std::path::Path::new(&repository.access.url).join("snapshots").join(id);
    fs::remove_file(&file).expect("remove");
    fs::write(&file, b"damaged").expect("write");
    let policy = Policy { last: Some(1), ..Policy::default() };
    let error = writer.forget(&ForgetRequest { policy, ..ForgetRequest::default() }, None, &watch());
    assert!(error.is_err_and(|e| e.chain().contains("snapshots/")));
}
