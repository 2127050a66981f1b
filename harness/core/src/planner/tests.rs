use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{CopyView, Filter, Pick, Request, plan};
use crate::config::{self, Config};
use crate::error::ErrorKind;
use crate::event::Event;
use crate::evidence::{Evidence, Record};
use crate::judge::judge;
use crate::plan::{Limits, Plan, Selection};
use crate::ports::Inventory;
use crate::seed;
use crate::snapshot::{CopyName, Series, Snapshot, SnapshotId};
use crate::verdict::Verdict;

fn now() -> Timestamp {
    "2026-01-10T12:00:00Z".parse().unwrap()
}

fn hours_ago(hours: i64) -> Timestamp {
    now() - SignedDuration::from_hours(hours)
}

/// A snapshot of `tag` by a host of the same name.
fn snapshot(id: &str, tags: &[&str], hours: i64) -> Snapshot {
    Snapshot {
        id: SnapshotId(format!("{id:0<64}")),
        time: hours_ago(hours),
        host: tags.first().unwrap_or(&"node01").to_string(),
        tags: tags.iter().map(|t| t.to_string()).collect(),
        paths: vec![format!("/backup/{}", tags.first().unwrap_or(&"etc"))],
        tree: "t".repeat(64),
        program: String::new(),
        files: Some(3),
        bytes: Some(1000),
    }
}

fn inventory(snapshots: Vec<Snapshot>) -> Inventory {
    Inventory { snapshots, ..Inventory::default() }
}

fn fleet() -> Inventory {
    inventory(vec![
        snapshot("aaaa1", &["grafana"], 3),
        snapshot("aaaa2", &["grafana"], 1),
        snapshot("bbbb1", &["mariadb", "nightly"], 9),
        snapshot("cccc1", &[], 5),
    ])
}

fn view<'a>(name: &str, inventory: Option<&'a Inventory>) -> CopyView<'a> {
    CopyView { name: CopyName(name.to_owned()), location: format!("/srv/{name}"), inventory }
}

fn request() -> Request {
    Request {
        seed: 7,
        at: now(),
        filter: Filter::default(),
        limits: Limits { jobs: 2, ..Limits::default() },
        proven: Vec::new(),
        control: false,
    }
}

fn with(filter: Filter) -> Request {
    Request { filter, ..request() }
}

fn tags(tags: &[&str]) -> Filter {
    Filter { tags: tags.iter().map(|t| t.to_string()).collect(), ..Filter::default() }
}

fn config(targets: &str) -> Config {
    let text = format!(
        "version: 1\ncopies:\n  - {{name: primary, repository: /srv/a}}\n  - {{name: mirror, repository: /srv/b, role: mirror}}\n  - {{name: velero, kind: velero, repository: s3 bucket}}\ntargets: [{targets}]\n"
    );
    config::load(&text, "test").unwrap_or_else(|p| panic!("{p}")).config
}

/// `name = what` for each drill, `what` being the first digits of the id, `missing` or `unknown`.
fn told(plan: &Plan) -> Vec<String> {
    plan.drills
        .iter()
        .map(|d| {
            let what = match &d.selection {
                Selection::Snapshot(s) => s.id.0[..5].to_owned(),
                Selection::Missing => "missing".to_owned(),
                Selection::Unknown => "unknown".to_owned(),
            };
            format!("{} = {what}", d.name)
        })
        .collect()
}

fn bare(request: &Request, inventory: &Inventory) -> Vec<String> {
    told(&plan(None, &[view("primary", Some(inventory))], request).unwrap())
}

#[test]
fn without_a_config_every_series_of_every_copy_is_drilled() {
    let fleet = fleet();
    let mirror = inventory(vec![snapshot("aaaa1", &["grafana"], 3)]);
    let copies = [view("primary", Some(&fleet)), view("mirror", Some(&mirror)), view("lost", None)];
    let plan = plan(None, &copies, &request()).unwrap();
    assert_eq!(
        told(&plan),
        [
            "primary::grafana::latest = aaaa2",
            "primary::mariadb::latest = bbbb1",
            "primary::nightly::latest = bbbb1",
            "primary::node01:/backup/etc::latest = cccc1",
            "mirror::grafana::latest = aaaa1",
        ]
    );
    assert_eq!(plan.copies.len(), 3, "a copy that could not be read stays visible");
    assert_eq!(plan.drills[0].required, ["tree", "shape", "freshness"]);
    assert_eq!(plan.drills[0].seed, seed::child(7, "primary::grafana::latest"));
}

#[test]
fn with_a_config_targets_come_first_and_nothing_is_left_out() {
    let config = config(
        "{name: db, tag: mariadb, objectives: {rpo: 3h}, paths: [/backup/mariadb], expect: {canary: required, paths: [/x]}, probes: {freshness: {future_max: 1h}}}, {name: emby, tag: emby}, {name: velero-daily, kind: velero}",
    );
    let fleet = fleet();
    let plan = plan(Some(&config), &[view("primary", Some(&fleet))], &request()).unwrap();
    assert_eq!(
        told(&plan),
        [
            "primary::db::latest = bbbb1",
            "primary::emby::latest = missing",
            "primary::grafana::latest = aaaa2",
            "primary::nightly::latest = bbbb1",
            "primary::node01:/backup/etc::latest = cccc1",
            "mirror::db::latest = unknown",
            "mirror::emby::latest = unknown",
            "velero::velero-daily::latest = unknown",
        ]
    );
    let drill = &plan.drills[0];
    assert_eq!(drill.target.as_deref(), Some("db"));
    assert_eq!(drill.series, Series::Tag("mariadb".to_owned()));
    assert_eq!(drill.required, ["tree", "shape", "freshness", "canary"]);
    assert_eq!(drill.expectations.paths, ["/x", "/backup/mariadb"]);
    assert_eq!(drill.objectives.rpo.unwrap().to_string(), "3h");
    assert_eq!(drill.probes.freshness.future_max.to_string(), "1h");
    assert!(config.copies[2].refusal().unwrap().chain().contains("cannot drill velero backups yet"));
    assert!(config.copies[0].refusal().is_none());
}

#[test]
fn what_was_promised_about_a_copy_beats_what_was_promised_about_its_targets() {
    let mut config = config("{name: grafana, tag: grafana, objectives: {rpo: 2h, rto: 30m}}");
    config.copies[1].objectives.rpo = Some("25h".parse().unwrap());
    let plan = plan(Some(&config), &[], &request()).unwrap();
    let told = |copy: &str| {
        let drill = plan.drills.iter().find(|d| d.copy.0 == copy).unwrap();
        (drill.objectives.rpo.unwrap().to_string(), drill.objectives.rto.unwrap().to_string())
    };
    assert_eq!(told("primary"), ("2h".to_owned(), "30m".to_owned()));
    assert_eq!(told("mirror"), ("1day 1h".to_owned(), "30m".to_owned()));
}

/// Records whose chain is of no interest.
fn evidence(events: Vec<Event>) -> Evidence {
    let record =
        |(seq, event)| Record { evidence: 1, seq: seq as u64, time: now(), prev: String::new(), event };
    Evidence { records: events.into_iter().enumerate().map(record).collect(), ..Evidence::default() }
}

#[test]
fn what_this_version_cannot_drill_is_inconclusive_and_says_why() {
    let config = config("{name: velero-daily, kind: velero}");
    let request = with(Filter { targets: vec!["velero-daily".to_owned()], ..Filter::default() });
    let plan = plan(Some(&config), &[], &request).unwrap();
    assert_eq!(told(&plan), ["velero::velero-daily::latest = unknown"]);
    let judgement = judge(&evidence(vec![
        Event::RunStarted {
            run: "r".to_owned(),
            version: "v".to_owned(),
            command: "c".to_owned(),
            plan: Box::new(plan),
        },
        Event::CopyError { copy: CopyName("velero".to_owned()), error: config.copies[2].refusal().unwrap() },
        Event::RunFinished { seconds: 1.0 },
    ]))
    .unwrap();
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert_eq!(judgement.drills[0].verdict, Verdict::Inconclusive);
    insta::assert_snapshot!(judgement.drills[0].reasons[0].text, @"the copy velero could not be read: failed to drill the copy velero: this version cannot drill velero backups yet (it stays inconclusive until a later version can)");
}

#[test]
fn a_target_takes_only_snapshots_of_its_hosts() {
    let mut foreign = snapshot("aaaa3", &["grafana"], 0);
    foreign.host = "elsewhere".to_owned();
    let mut held = fleet();
    held.snapshots.push(foreign.clone());
    let copies = [view("primary", Some(&held))];
    let one = config("{name: grafana, tag: grafana, host: grafana}");
    let first = |config: &Config| told(&plan(Some(config), &copies, &request()).unwrap())[0].clone();
    assert_eq!(first(&one), "primary::grafana::latest = aaaa2");
    assert_eq!(
        first(&config("{name: grafana, tag: grafana, host: [grafana, elsewhere]}")),
        "primary::grafana::latest = aaaa3"
    );
    assert_eq!(
        first(&config("{name: grafana, tag: grafana, host: nobody}")),
        "primary::grafana::latest = missing"
    );
    let two = config("{name: a, tag: grafana, host: grafana}, {name: b, tag: grafana, host: elsewhere}");
    let two = told(&plan(Some(&two), &copies, &request()).unwrap());
    assert_eq!(two[..2], ["primary::a::latest = aaaa2", "primary::b::latest = aaaa3"]);
}

#[test]
fn an_untagged_target_is_known_by_host_and_paths() {
    let fleet = fleet();
    let config = config("{name: host, host: node01, paths: [/backup/etc/], copies: [primary]}");
    let plan = plan(Some(&config), &[view("primary", Some(&fleet))], &request()).unwrap();
    assert_eq!(told(&plan)[0], "primary::host::latest = cccc1");
    assert_eq!(plan.drills.iter().filter(|d| d.selection.snapshot().is_some()).count(), 4);
}

#[test]
fn a_snapshot_from_the_future_does_not_shadow_the_latest() {
    let held = inventory(vec![
        snapshot("aaaa1", &["grafana"], 1),
        snapshot("aaaa9", &["grafana"], -24),
        snapshot("bbbb8", &["emby"], -24),
        snapshot("bbbb9", &["emby"], -48),
    ]);
    assert_eq!(
        bare(&request(), &held),
        [
            // Only future-dated ones: the nearest is drilled, and the freshness probe will say so.
            "primary::emby::latest = bbbb8",
            "primary::grafana::latest = aaaa1",
        ]
    );
    let mut slightly = snapshot("aaaa5", &["grafana"], 0);
    slightly.time = now() + SignedDuration::from_mins(10);
    let held = inventory(vec![snapshot("aaaa1", &["grafana"], 1), slightly]);
    assert_eq!(bare(&request(), &held), ["primary::grafana::latest = aaaa5"], "within the tolerance");
}

#[test]
fn equal_times_are_told_apart_by_id() {
    let forth = inventory(vec![snapshot("aaaa1", &["x"], 1), snapshot("aaaa2", &["x"], 1)]);
    let back = inventory(vec![snapshot("aaaa2", &["x"], 1), snapshot("aaaa1", &["x"], 1)]);
    assert_eq!(bare(&request(), &forth), ["primary::x::latest = aaaa2"]);
    assert_eq!(bare(&request(), &back), ["primary::x::latest = aaaa2"]);
}

#[test]
fn a_moment_in_the_past_is_what_ages_are_measured_against() {
    let past = with(Filter { pick: Pick::At(hours_ago(2)), ..Filter::default() });
    let fleet = fleet();
    let plan = plan(None, &[view("primary", Some(&fleet))], &past).unwrap();
    assert_eq!(told(&plan)[0], "primary::grafana::latest = aaaa1");
    assert_eq!(plan.at, hours_ago(2));
    let before = with(Filter { pick: Pick::At(hours_ago(100)), ..Filter::default() });
    assert!(bare(&before, &fleet).is_empty(), "there was no series yet");
}

#[test]
fn filters_leave_out_what_does_not_match() {
    let fleet = fleet();
    assert_eq!(bare(&with(tags(&["grafana"])), &fleet), ["primary::grafana::latest = aaaa2"]);
    let host = with(Filter { hosts: vec!["mariadb".to_owned()], ..Filter::default() });
    assert_eq!(bare(&host, &fleet), ["primary::mariadb::latest = bbbb1", "primary::nightly::latest = bbbb1"]);
    let config =
        config("{name: db, tag: mariadb}, {name: g, tag: grafana, host: grafana}, {name: e, kind: velero}");
    let copies = [view("primary", Some(&fleet)), view("mirror", None)];
    let told = |filter| told(&plan(Some(&config), &copies, &with(filter)).unwrap());
    let target = Filter { targets: vec!["db".to_owned()], ..Filter::default() };
    assert_eq!(told(target), ["primary::db::latest = bbbb1", "mirror::db::latest = unknown"]);
    let copy = Filter { copies: vec!["mirror".to_owned()], ..Filter::default() };
    assert_eq!(told(copy), ["mirror::db::latest = unknown", "mirror::g::latest = unknown"]);
    let host = Filter { hosts: vec!["grafana".to_owned()], ..Filter::default() };
    assert_eq!(
        told(host),
        [
            "primary::g::latest = aaaa2",
            "mirror::db::latest = unknown",
            "mirror::g::latest = unknown",
            "velero::e::latest = unknown",
        ]
    );
    assert_eq!(told(tags(&["nightly"])), ["primary::nightly::latest = bbbb1"]);
}

#[test]
fn a_tag_that_was_asked_for_and_is_nowhere_is_missing() {
    let fleet = fleet();
    let copies = [view("primary", Some(&fleet)), view("lost", None)];
    let plan = plan(None, &copies, &with(tags(&["grafana", "granfana"]))).unwrap();
    assert_eq!(told(&plan), ["primary::grafana::latest = aaaa2", "primary::granfana::latest = missing"]);
}

#[test]
fn snapshots_are_selected_by_id() {
    let fleet = fleet();
    let ids = |ids: &[&str]| {
        with(Filter { snapshots: ids.iter().map(|i| i.to_string()).collect(), ..Filter::default() })
    };
    assert_eq!(
        bare(&ids(&["AAAA1", "bbbb"]), &fleet),
        [
            "primary::grafana::aaaa1000 = aaaa1",
            "primary::mariadb::bbbb1000 = bbbb1",
            "primary::nightly::bbbb1000 = bbbb1",
        ]
    );
    let error = |wanted: &str, copies: &[CopyView<'_>]| {
        let error = plan(None, copies, &ids(&[wanted])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        error.chain()
    };
    let copies = [view("primary", Some(&fleet))];
    insta::assert_snapshot!(error("aaaa", &copies), @"failed to select the snapshot aaaa: 2 snapshots have ids that begin like this (give more digits of one of: aaaa1000 (grafana, grafana, 2026-01-10T09:00:00Z); aaaa2000 (grafana, grafana, 2026-01-10T11:00:00Z))");
    insta::assert_snapshot!(error("dddd", &copies), @"failed to select the snapshot dddd: no copy holds a snapshot with this id (the newest are: aaaa2000 (grafana, grafana, 2026-01-10T11:00:00Z); aaaa1000 (grafana, grafana, 2026-01-10T09:00:00Z); cccc1000 (untagged, node01, 2026-01-10T07:00:00Z); bbbb1000 (mariadb nightly, mariadb, 2026-01-10T03:00:00Z))");
    insta::assert_snapshot!(error("aaa", &copies), @"failed to select the snapshot aaa: this is not the id of a snapshot (give at least 4 hexadecimal digits of its id)");
    insta::assert_snapshot!(error("latest", &copies), @"failed to select the snapshot latest: this is not the id of a snapshot (the latest snapshots are drilled when none is named)");
    let partly = [view("primary", Some(&fleet)), view("lost", None)];
    let plan = plan(None, &partly, &ids(&["dddd"])).unwrap();
    assert!(plan.drills.is_empty() && plan.copies.len() == 2, "it may be in the copy that was not read");
}

#[test]
fn a_selected_snapshot_keeps_the_promises_of_its_target() {
    let fleet = fleet();
    let config = config("{name: g, tag: grafana, objectives: {rto: 1h}}");
    let request = with(Filter { snapshots: vec!["aaaa1".to_owned()], ..Filter::default() });
    let plan = plan(Some(&config), &[view("primary", Some(&fleet))], &request).unwrap();
    assert_eq!(told(&plan), ["primary::g::aaaa1000 = aaaa1"]);
    assert!(plan.drills[0].objectives.rto.is_some());
}

#[test]
fn all_snapshots_are_all_snapshots() {
    let mut held = fleet();
    held.snapshots.push(snapshot("aaaa200000", &["x"], 2));
    let mut twin = snapshot("bbbb1", &["nightly"], 1);
    twin.id.0 = format!("bbbb10000{:f<55}", "");
    held.snapshots.push(twin);
    let all = with(Filter { all_snapshots: true, ..Filter::default() });
    assert_eq!(
        bare(&all, &held),
        [
            "primary::grafana::aaaa1000 = aaaa1",
            "primary::grafana::aaaa2000 = aaaa2",
            "primary::mariadb::bbbb1000 = bbbb1",
            "primary::nightly::bbbb10000000 = bbbb1",
            "primary::nightly::bbbb10000fff = bbbb1",
            "primary::node01:/backup/etc::cccc1000 = cccc1",
        ],
        "the duplicate id counts once"
    );
    let config = config("{name: g, tag: grafana}, {name: emby, tag: emby, copies: [primary]}");
    let plan = plan(Some(&config), &[view("primary", Some(&held))], &all).unwrap();
    assert_eq!(
        told(&plan)[..3],
        ["primary::g::aaaa1000 = aaaa1", "primary::g::aaaa2000 = aaaa2", "primary::emby::latest = missing",]
    );
    assert!(told(&plan).contains(&"mirror::g::latest = unknown".to_owned()));
}

#[test]
fn names_that_do_not_exist_are_mistakes_of_usage() {
    let fleet = fleet();
    let copies = [view("primary", Some(&fleet))];
    let error = |config: Option<&Config>, filter| plan(config, &copies, &with(filter)).unwrap_err().chain();
    let copy = Filter { copies: vec!["primry".to_owned()], ..Filter::default() };
    insta::assert_snapshot!(error(None, copy), @"failed to select the copy primry: there is no copy of that name (did you mean primary?)");
    let target = Filter { targets: vec!["x".to_owned()], ..Filter::default() };
    insta::assert_snapshot!(error(None, target.clone()), @"failed to select the target x: targets are in a config, and there is none (give a config, or select by tag)");
    insta::assert_snapshot!(error(Some(&config("{name: grafana, tag: a}, {name: emby, tag: b}")), target), @"failed to select the target x: there is no target of that name (there are: grafana, emby)");
    let twice = [view("a", None), view("a", None)];
    insta::assert_snapshot!(plan(None, &twice, &request()).unwrap_err().chain(), @"failed to plan the run: two copies are called a");
}

#[test]
fn the_negative_control_takes_the_smallest_snapshot_with_content() {
    let sized = |id: &str, tag: &str, bytes: Option<u64>| Snapshot { bytes, ..snapshot(id, &[tag], 1) };
    let held = inventory(vec![
        sized("aaaa1", "empty", Some(0)),
        sized("bbbb1", "small", Some(10)),
        sized("cccc1", "large", Some(99)),
        sized("dddd1", "old", None),
    ]);
    let request = Request { control: true, ..request() };
    let control = plan(None, &[view("primary", Some(&held))], &request).unwrap().control.unwrap();
    assert_eq!(control.of.0, "primary::small::latest");
    assert_eq!(control.drill.name.0, "control::small::latest");
    assert_eq!(control.drill.copy.0, "primary");
    assert_eq!(control.drill.objectives, config::settings::Objectives::default());
    let unsized_only = inventory(vec![sized("dddd1", "old", None)]);
    assert!(plan(None, &[view("a", Some(&unsized_only))], &request).unwrap().control.is_some());
    let impossible = plan(None, &[view("a", Some(&inventory(Vec::new())))], &request).unwrap();
    assert!(impossible.control.is_none() && !impossible.control_off);
    let off = plan(None, &[view("a", Some(&held))], &Request { control: false, ..request }).unwrap();
    assert!(off.control.is_none() && off.control_off);
}

#[test]
fn a_target_named_like_the_series_of_another_is_told_apart() {
    let held = inventory(vec![snapshot("aaaa1", &["foo"], 1), snapshot("bbbb1", &["bar"], 1)]);
    let config = config("{name: foo, tag: bar, copies: [primary]}");
    let plan = plan(Some(&config), &[view("primary", Some(&held))], &request()).unwrap();
    let names = told(&plan);
    assert!(names[0].starts_with("primary::foo~") && names[0].ends_with("= bbbb1"), "{names:?}");
    assert_eq!(names[1], "primary::foo::latest = aaaa1", "what was there keeps its name");
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let tag = prop_oneof!["[ab]", "a::b|a:b|h:/p|", Just("h:/p,/q".to_owned())];
    let host = prop_oneof![Just("h".to_owned()), Just("node".to_owned())];
    let paths = prop::collection::vec(
        prop_oneof![Just("/p".to_owned()), Just("/q".to_owned()), Just("/p,/q".to_owned())],
        1..3,
    );
    ("[0-3a]{12}", -100..100i64, host, prop::collection::vec(tag, 0..4), paths, prop::option::of(0..5u64))
        .prop_map(|(id, hours, host, tags, paths, bytes)| Snapshot {
            id: SnapshotId(format!("{id:0<64}")),
            time: hours_ago(hours),
            host,
            tags,
            paths,
            tree: String::new(),
            program: String::new(),
            files: None,
            bytes,
        })
}

fn any_inventory() -> impl Strategy<Value = Inventory> {
    prop::collection::vec(any_snapshot(), 0..12).prop_map(inventory)
}

fn series_of(inventory: &Inventory) -> BTreeSet<Series> {
    inventory.snapshots.iter().flat_map(Series::all_of).collect()
}

proptest! {
    #[test]
    fn plans_are_reproducible_complete_and_named_once(
        first in any_inventory(), second in prop::option::of(any_inventory()), seed: u64,
        configured: bool, all: bool,
    ) {
        let config = config("{name: a, tag: b}, {name: x, host: h, paths: [/q, /p]}, {name: y, tag: nowhere, host: [h, i]}, {name: e, kind: velero}");
        let config = configured.then_some(&config);
        let copies = [view("primary", Some(&first)), view("mirror", second.as_ref())];
        let filter = Filter { all_snapshots: all, ..Filter::default() };
        let request = Request { seed, control: true, filter, ..request() };
        let made = plan(config, &copies, &request).unwrap();
        let again = plan(config, &copies, &request).unwrap();
        prop_assert_eq!(serde_json::to_string(&made).unwrap(), serde_json::to_string(&again).unwrap());

        let names: BTreeSet<_> = made.drills.iter().chain(made.control.iter().map(|c| &c.drill)).map(|d| &d.name).collect();
        prop_assert_eq!(names.len(), made.drills.len() + usize::from(made.control.is_some()));

        for copy in &copies {
            let Some(held) = copy.inventory else { continue };
            let drilled: BTreeSet<_> = made.drills.iter().filter(|d| d.copy == copy.name && d.selection.snapshot().is_some()).map(|d| d.series.clone()).collect();
            if all {
                let planned: BTreeSet<_> = made.drills.iter().filter(|d| d.copy == copy.name).filter_map(|d| Some((&d.series, &d.selection.snapshot()?.id))).collect();
                for snapshot in &held.snapshots {
                    for series in Series::all_of(snapshot) {
                        let twin = held.snapshots.iter().find(|s| s.id == snapshot.id);
                        prop_assert!(planned.contains(&(&series, &snapshot.id)) || twin != Some(snapshot));
                    }
                }
            }
            for series in series_of(held) {
                prop_assert!(drilled.contains(&series), "{:?} is not covered", series);
            }
        }
        for drill in &made.drills {
            prop_assert_eq!(drill.seed, seed::child(seed, &drill.name.0));
            if let Some(snapshot) = drill.selection.snapshot() {
                prop_assert!(drill.series.holds(snapshot));
            }
        }
        prop_assert_eq!(made.control.is_some(), made.drills.iter().any(|d| d.selection.snapshot().is_some_and(|s| s.bytes != Some(0))));
    }

    #[test]
    fn a_new_target_does_not_disturb_the_others(held in any_inventory(), seed: u64) {
        let few = config("{name: a, tag: b}, {name: x, host: h, paths: [/q, /p]}");
        let more = config("{name: new, tag: a}, {name: a, tag: b}, {name: x, host: h, paths: [/q, /p]}, {name: y, tag: nowhere}");
        let copies = [view("primary", Some(&held))];
        let request = Request { seed, ..request() };
        let seeds = |config: &Config| -> BTreeSet<_> {
            let plan = plan(Some(config), &copies, &request).unwrap();
            // The tag `a` has a target now, and with it another name.
            let kept = plan.drills.into_iter().filter(|d| d.series != Series::Tag("a".to_owned()) && d.series != Series::Tag("nowhere".to_owned()));
            kept.map(|d| (d.name, d.seed)).collect()
        };
        prop_assert_eq!(seeds(&few), seeds(&more));
    }

    #[test]
    fn the_latest_is_never_older_than_another_that_existed(held in any_inventory()) {
        let made = plan(None, &[view("primary", Some(&held))], &request()).unwrap();
        for drill in &made.drills {
            let Some(chosen) = drill.selection.snapshot() else { continue };
            for other in held.snapshots.iter().filter(|s| drill.series.holds(s) && s.time <= now()) {
                prop_assert!(chosen.time >= other.time);
            }
        }
    }
}

fn grouped(keys: &str) -> Config {
    let text = format!(
        "version: 1\ncopies: [{{name: primary, repository: /srv/a}}]\ntargets: [{{name: db, tag: grafana}}, {{name: media, tag: mariadb}}, {{name: gone, tag: gone}}]\ngroups: [{{name: shop, {keys}}}]\n"
    );
    config::load(&text, "test").unwrap_or_else(|p| panic!("{p}")).config
}

/// The parts of the group's drill, and its time.
fn parts(keys: &str, fleet: &Inventory, request: &Request) -> Option<(Vec<String>, Option<Timestamp>)> {
    let plan = plan(Some(&grouped(keys)), &[view("primary", Some(fleet))], request).unwrap();
    let drill = plan.drills.iter().find(|d| !d.parts.is_empty())?;
    let told = |s: &Selection| s.snapshot().map_or("none".to_owned(), |s| s.id.0[..5].to_owned());
    let parts = drill.parts.iter().map(|p| format!("{} {}", p.target, told(&p.selection))).collect();
    Some((parts, drill.selection.snapshot().map(|s| s.time)))
}

#[test]
fn a_group_takes_snapshots_that_are_near_each_other() {
    let fleet = inventory(vec![
        snapshot("aaaa1", &["grafana"], 26),
        snapshot("aaaa2", &["grafana"], 2),
        snapshot("bbbb1", &["mariadb"], 25),
    ]);
    let told = |keys: &str, request: &Request| parts(keys, &fleet, request).unwrap();
    let newest = (vec!["db aaaa2".to_owned(), "media bbbb1".to_owned()], Some(hours_ago(25)));
    assert_eq!(told("targets: [db, media]", &request()), newest, "the newest of each, as old as the oldest");
    let near = (vec!["db aaaa1".to_owned(), "media bbbb1".to_owned()], Some(hours_ago(26)));
    assert_eq!(told("targets: [db, media], max_skew: 1h", &request()), near);
    assert_eq!(told("targets: [db, media], max_skew: 5m", &request()), newest, "none is near enough");
    let then = with(Filter { pick: Pick::At(hours_ago(26)), ..Filter::default() });
    let at = told("targets: [db, media]", &then);
    assert_eq!(at.0, ["db aaaa1", "media none"], "what came later did not exist");
    let (parts, time) = told("targets: [gone, db], max_skew: 1h", &request());
    assert_eq!((parts, time), (vec!["gone none".to_owned(), "db aaaa2".to_owned()], Some(hours_ago(2))));
}

#[test]
fn a_group_is_one_drill_beside_those_of_its_targets() {
    let fleet = fleet();
    let config = grouped("targets: [db, media], objectives: {rpo: 2h}, checks: [{name: a, command: [bash]}]");
    let all = plan(Some(&config), &[view("primary", Some(&fleet))], &request()).unwrap();
    let drill = all.drills.iter().find(|d| !d.parts.is_empty()).unwrap();
    assert_eq!(drill.name.0, "primary::group:shop::latest");
    assert_eq!(drill.required, ["tree", "group", "check"]);
    let whole = drill.selection.snapshot().unwrap();
    assert_eq!(whole.paths, ["/db/backup/grafana", "/media/backup/mariadb"]);
    assert_eq!((whole.bytes, whole.host.as_str()), (Some(2000), "grafana+mariadb"));
    assert!(told(&all).iter().any(|d| d.starts_with("primary::db::latest")), "and each target alone");
    let only =
        |filter: Filter| told(&plan(Some(&config), &[view("primary", Some(&fleet))], &with(filter)).unwrap());
    let named = only(Filter { targets: vec!["shop".into()], ..Filter::default() });
    assert_eq!(named.len(), 1, "{named:?}");
    for other in [tags(&["grafana"]), Filter { targets: vec!["db".into()], ..Filter::default() }] {
        assert!(!only(other).iter().any(|name| name.contains("group:")));
    }
    let unread = plan(Some(&config), &[view("primary", None)], &request()).unwrap();
    assert!(unread.drills.iter().all(|d| d.selection == Selection::Unknown), "nobody knows");
    let empty = inventory(vec![]);
    let empty = plan(Some(&config), &[view("primary", Some(&empty))], &request()).unwrap();
    assert!(empty.drills.iter().all(|d| d.selection == Selection::Missing), "all parts are missing");
    let control =
        plan(Some(&config), &[view("primary", Some(&fleet))], &Request { control: true, ..request() });
    assert!(control.unwrap().control.is_some_and(|c| c.drill.parts.is_empty()));
    let alone = Filter { targets: vec!["shop".into()], ..Filter::default() };
    let alone = Request { control: true, ..with(alone) };
    let alone = plan(Some(&config), &[view("primary", Some(&fleet))], &alone).unwrap().control.unwrap();
    assert_eq!(alone.of.0, "primary::group:shop::latest", "one of its parts stands for it");
    assert!(alone.drill.parts.is_empty() && alone.drill.selection.snapshot().unwrap().bytes == Some(1000));
}

#[test]
fn a_group_that_was_proven_and_is_no_longer_configured_is_not_missed() {
    let proven = vec![(CopyName("primary".into()), Series::Group("old".into()))];
    let told =
        told(&plan(None, &[view("primary", Some(&fleet()))], &Request { proven, ..request() }).unwrap());
    assert!(!told.iter().any(|name| name.contains("missing")), "{told:?}");
}
