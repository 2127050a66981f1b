//! Targets: what they select, and whether the promises about them can be kept.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use super::copies::kind_of;
use crate::config::copies::BackupKind;
use crate::config::explain::closest;
use crate::config::schedule::Cron;
use crate::config::units::Span;
use crate::config::yaml::join;

pub(super) fn check(check: &mut Check<'_, '_>) {
    check.unique_names("/targets", "targets");
    let copies = known_copies(check);
    for target in check.items("/targets") {
        selector(check, &target);
        holders(check, &target, &copies);
        promises(check, &target);
        expectations(check, &target);
    }
    same_selector(check, &copies);
}

/// Names and kinds of the copies; `None` for a mistyped kind.
fn known_copies<'d>(check: &Check<'d, '_>) -> BTreeMap<&'d str, Option<BackupKind>> {
    check
        .items("/copies")
        .iter()
        .filter_map(|copy| Some((check.text(&join(copy, "name"))?, kind_of(check.get(&join(copy, "kind"))))))
        .collect()
}

fn selector(check: &mut Check<'_, '_>, target: &str) {
    let at = |key: &str| join(target, key);
    for (path, text) in check.texts(&at("paths")) {
        // A text instead of a list is reported by the schema.
        if path != at("paths") && !text.starts_with('/') {
            check.error(
                &path,
                format!("`{text}` is not absolute"),
                format!("write it as the backup saw it: `/{text}`"),
            );
        }
    }
    if let Some(tag) = check.text(&at("tag"))
        && (tag.contains(',') || tag.trim() != tag)
    {
        check.error(
            &at("tag"),
            "a restic tag has no comma in it, and no blank around it",
            "write one tag; make a target for each tag",
        );
    }
    if check.has(&at("tag")) || kind_of(check.get(&at("kind"))) != Some(BackupKind::Restic) {
        return;
    }
    let hosts = check.texts(&at("host"));
    match (hosts.len(), check.has(&at("paths"))) {
        (0, false) => {
            let name = check.text(&at("name")).unwrap_or("NAME").to_owned();
            check.error_at_start(
                target,
                "the target does not say which snapshots it is",
                format!("add `tag: {name}`, or for untagged snapshots `host` and `paths`"),
            );
        }
        (0, true) => check.error_at_key(
            &at("paths"),
            "untagged snapshots are known by host and paths, and `host` is missing",
            "add `host: ...`, or `tag: ...`",
        ),
        (_, false) => check.error_at_key(
            &at("host"),
            "untagged snapshots are known by host and paths, and `paths` is missing",
            "add `paths: [...]`, or `tag: ...`",
        ),
        (1, true) => {}
        (_, true) => check.error(
            &at("host"),
            "untagged snapshots of several hosts are several targets",
            "write one target per host, or give the snapshots a tag",
        ),
    }
}

/// Whether the copies that must hold the target exist, and can hold it.
fn holders(check: &mut Check<'_, '_>, target: &str, copies: &BTreeMap<&str, Option<BackupKind>>) {
    let Some(kind) = kind_of(check.get(&join(target, "kind"))) else { return };
    let at = join(target, "copies");
    if !check.has(&at) {
        if !copies.is_empty() && !copies.values().any(|k| k.is_none_or(|k| k == kind)) {
            check.error_at_start(
                target,
                format!("no copy holds backups of the kind `{kind}`"),
                format!("add a copy with `kind: {kind}`, so that the report can say where it is kept"),
            );
        }
        return;
    }
    let names: Vec<&str> = copies.keys().copied().collect();
    let mut seen = BTreeSet::new();
    for (at, name) in check.texts(&at) {
        match copies.get(name) {
            None => {
                let help = match closest(name, &names) {
                    Some(close) => format!("did you mean `{close}`?"),
                    None => format!("the copies are: {}", names.join(", ")),
                };
                check.error(&at, format!("there is no copy called `{name}`"), help);
            }
            Some(Some(other)) if *other != kind => check.error(
                &at,
                format!("the copy `{name}` holds `{other}` backups, and this target is of the kind `{kind}`"),
                "correct `kind` here or there",
            ),
            Some(_) if !seen.insert(name) => {
                check.error(&at, format!("`{name}` is named twice"), "keep one of them")
            }
            Some(_) => {}
        }
    }
}

/// A recovery point objective that is shorter than the time between two backups cannot be kept.
fn promises(check: &mut Check<'_, '_>, target: &str) {
    let rpo_at = join(&join(target, "objectives"), "rpo");
    let rpo = check.text(&rpo_at).and_then(|text| text.parse::<Span>().ok());
    let cron = check.text(&join(target, "schedule")).and_then(|text| text.parse::<Cron>().ok());
    if let (Some(rpo), Some(gap)) = (rpo, cron.as_ref().and_then(Cron::longest_gap))
        && rpo < gap
    {
        check.warning(
            &rpo_at,
            format!("an `rpo` of {rpo} cannot be kept: the schedule leaves up to {gap} between two backups"),
            "back up more often, or promise less",
        );
    }
}

fn expectations(check: &mut Check<'_, '_>, target: &str) {
    let expect = join(target, "expect");
    // Without a key of its own a restic repository gives one: its password.
    let keyed = check.has("/canary/key_file")
        || check.has("/canary/key_env")
        || kind_of(check.get(&join(target, "kind"))) == Some(BackupKind::Restic);
    let canary = join(&expect, "canary");
    if check.text(&canary) == Some("required") && !keyed {
        check.warning(
            &canary,
            "without a key a canary cannot be told from a forged one",
            "set `canary: {key_file: ...}` at the top level",
        );
    }
    for file in check.items(&join(&expect, "sqlite")) {
        let path = join(&file, "path");
        if !check.has(&path) || check.text(&path) == Some("") {
            check.error_at_start(
                &file,
                "the expectation does not say which file it is about",
                "add `path: ...`",
            );
        }
        for query in check.items(&join(&file, "queries")) {
            super::databases::select(check, &join(&query, "sql"));
        }
    }
}

/// Two targets that mean the same snapshots would contradict each other.
fn same_selector(check: &mut Check<'_, '_>, copies: &BTreeMap<&str, Option<BackupKind>>) {
    type Seen<'d> = (usize, &'d str, BTreeSet<&'d str>, BTreeSet<&'d str>);
    let mut seen: BTreeMap<String, Vec<Seen<'_>>> = BTreeMap::new();
    for target in check.items("/targets") {
        let at = |key: &str| join(&target, key);
        if kind_of(check.get(&at("kind"))) != Some(BackupKind::Restic) {
            continue;
        }
        let texts = |key: &str| check.texts(&at(key)).into_iter().map(|(_, t)| t).collect::<BTreeSet<_>>();
        let hosts = texts("host");
        let paths = texts("paths");
        let series = match check.text(&at("tag")) {
            Some(tag) => format!("tag {tag}"),
            None if hosts.is_empty() || paths.is_empty() => continue,
            None => format!("paths {paths:?}"),
        };
        let held = if check.has(&at("copies")) { texts("copies") } else { copies.keys().copied().collect() };
        let line = check.line(&target);
        let name = check.text(&at("name")).unwrap_or_default();
        let others = seen.entry(series).or_default();
        let same = others.iter().find(|(_, _, their_hosts, their_copies)| {
            let hosts_meet = hosts.is_empty() || their_hosts.is_empty() || !hosts.is_disjoint(their_hosts);
            hosts_meet && !held.is_disjoint(their_copies)
        });
        if let Some((first, their_name, _, _)) = same {
            let message = format!("the target means the same snapshots as `{their_name}` in line {first}");
            check.error_at_start(&target, message, "remove one, or tell them apart by `host` or `copies`");
        }
        others.push((line, name, hosts, held));
    }
}
