//! Groups: whether their targets exist, and can be restored together.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use super::copies::kind_of;
use super::databases::{ENGINES, SOURCES};
use super::trials::trials;
use crate::config::explain::closest;
use crate::config::yaml::join;

pub(super) fn check(check: &mut Check<'_, '_>) {
    check.unique_names("/groups", "groups");
    let targets: BTreeMap<String, String> = check
        .items("/targets")
        .into_iter()
        .filter_map(|target| Some((check.text(&join(&target, "name"))?.to_owned(), target)))
        .collect();
    for group in check.items("/groups") {
        let name = join(&group, "name");
        if let Some(text) = check.text(&name)
            && targets.contains_key(text)
        {
            check.error(
                &name,
                format!("a target is called `{text}`, too"),
                "give the group a name of its own",
            );
        }
        let members = members(check, &group, &targets);
        trials(check, &group);
        if members.len() > 1 {
            one_copy(check, &group, &members, &targets);
            paths(check, &group, &members);
        }
    }
}

/// The targets of a group that exist.
fn members<'d>(check: &mut Check<'d, '_>, group: &str, targets: &BTreeMap<String, String>) -> Vec<&'d str> {
    let at = join(group, "targets");
    let known: Vec<&str> = targets.keys().map(String::as_str).collect();
    let mut members = Vec::new();
    for (item, name) in check.texts(&at) {
        if !targets.contains_key(name) {
            let help = match closest(name, &known) {
                Some(close) => format!("did you mean `{close}`?"),
                None if known.is_empty() => "add it to `targets`".to_owned(),
                None => format!("the targets are: {}", known.join(", ")),
            };
            check.error(&item, format!("there is no target called `{name}`"), help);
        } else if members.contains(&name) {
            check.error(&item, format!("`{name}` is named twice"), "keep one of them");
        } else {
            members.push(name);
        }
    }
    if check.items(&at).len() == 1 {
        check.error(
            &at,
            "a group of one is a target",
            "name at least two, or use the keys of the target itself",
        );
    }
    members
}

/// A group is restored from one copy.
fn one_copy(check: &mut Check<'_, '_>, group: &str, members: &[&str], targets: &BTreeMap<String, String>) {
    let copies: Vec<_> = check
        .items("/copies")
        .iter()
        .filter_map(|copy| Some((check.text(&join(copy, "name"))?, kind_of(check.get(&join(copy, "kind")))?)))
        .collect();
    let holds = |target: &String| -> BTreeSet<&str> {
        let named = join(target, "copies");
        if check.has(&named) {
            return check.texts(&named).into_iter().map(|(_, name)| name).collect();
        }
        let kind = kind_of(check.get(&join(target, "kind")));
        copies.iter().filter(|(_, own)| Some(*own) == kind).map(|(name, _)| *name).collect()
    };
    let held = members.iter().filter_map(|name| targets.get(*name)).map(holds);
    let all = held.reduce(|all, one| all.intersection(&one).copied().collect()).unwrap_or_default();
    if all.is_empty() && !copies.is_empty() {
        check.error_at_key(
            &join(group, "targets"),
            "no copy holds all of them, and a group is restored from one copy",
            "correct `copies` of the targets, or make the group smaller",
        );
    }
}

/// Paths in a group say which of its targets they are about.
fn paths(check: &mut Check<'_, '_>, group: &str, members: &[&str]) {
    let mut paths: Vec<(String, String)> = Vec::new();
    for invariant in check.items(&join(group, "invariants")) {
        let query = join(&invariant, "query");
        let named = SOURCES.map(|key| join(&query, key)).into_iter();
        let named = named.chain([join(&invariant, "file"), join(&invariant, "only")]);
        paths.extend(named.filter_map(|at| Some((at.clone(), check.text(&at)?.to_owned()))));
    }
    for database in check.items(&join(&join(group, "app"), "databases")) {
        let named = ENGINES.map(|key| join(&database, key)).into_iter();
        paths.extend(named.filter_map(|at| Some((at.clone(), check.text(&at)?.to_owned()))));
    }
    for own in check.items(&join(group, "checks")) {
        paths.extend(check.texts(&join(&own, "data")).into_iter().map(|(at, text)| (at, text.to_owned())));
    }
    let app = join(&join(group, "app"), "data");
    let data = check.get(&app).and_then(serde_json::Value::as_object);
    paths.extend(data.into_iter().flatten().map(|(path, _)| (join(&app, path), path.clone())));
    for (at, path) in paths {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        if path.is_empty() || (members.contains(&first) && !path.starts_with('/')) {
            continue;
        }
        let message = format!("`{path}` does not say which target it is about");
        let names: Vec<_> = members.iter().map(|name| format!("`{name}/...`")).collect();
        check.error(&at, message, format!("begin with one of {}", names.join(", ")));
    }
}
