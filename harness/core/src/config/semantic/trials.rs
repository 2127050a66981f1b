//! Checks of one's own, and applications: whether they can be started at all, and be judged.

use std::collections::BTreeMap;

use super::{Check, databases};
use crate::config::trials::{Template, in_cell};
use crate::config::yaml::join;

/// Variables that firedrill sets.
const OURS: &str = "FIREDRILL_";

pub(super) fn check(check: &mut Check<'_, '_>) {
    for target in check.items("/targets") {
        trials(check, &target);
    }
}

/// What is tried on the data of the target or group at `pointer`.
pub(super) fn trials(check: &mut Check<'_, '_>, pointer: &str) {
    let checks = join(pointer, "checks");
    check.unique_names(&checks, "checks");
    for one in check.items(&checks) {
        own_check(check, &one);
    }
    let app = join(pointer, "app");
    if check.has(&app) {
        application(check, &app);
    }
    for invariant in check.items(&join(pointer, "invariants")) {
        own_invariant(check, &invariant);
    }
    let invariants = join(pointer, "invariants");
    let loads =
        |one: &String| databases::ENGINES.iter().any(|key| check.has(&join(&join(one, "query"), key)));
    let loaded = check.items(&invariants).iter().any(loads).then_some(invariants);
    let first = [checks, app].into_iter().find(|at| check.has(at)).or(loaded);
    if let (Some(first), Some("off")) = (first, check.text("/runtime/kind")) {
        check.error_at_key(
            &first,
            "nothing restored may be started: `runtime: {kind: off}`",
            "allow a runtime, or remove this",
        );
    }
}

fn own_check(check: &mut Check<'_, '_>, one: &str) {
    let name = join(one, "name");
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if let Some(text) = check.text(&name)
        && !text.chars().all(plain)
    {
        check.error(
            &name,
            format!("`{text}` is part of the codes of findings, and no code"),
            "use lower-case letters, digits, `-` and `_`",
        );
    }
    command(check, &join(one, "command"));
    environment(check, &join(one, "environment"));
    let program = check.text(&join(&join(one, "command"), "0")).unwrap_or_default();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, file) in check.texts(&join(one, "files")) {
        let name = file.rsplit('/').next().unwrap_or_default();
        if matches!(name, "" | "." | "..") {
            check.error(&at, format!("`{file}` is no file"), "name files one by one");
        } else if program.trim_start_matches("./") == name {
            check.error(
                &join(&join(one, "command"), "0"),
                format!("`{name}` is brought in to be read, and cannot be executed"),
                format!("name its interpreter first: `[bash, {name}]`"),
            );
        }
        let line = check.line(&at);
        if let Some(first) = seen.insert(name, line) {
            check.error(
                &at,
                format!("two files are called `{name}` in the cell; the first is in line {first}"),
                "rename one of them",
            );
        }
    }
    for (at, path) in check.texts(&join(one, "data")) {
        if path.is_empty() {
            check.error(&at, "an empty path means nothing", "leave `data` out to look at everything");
        }
    }
}

fn own_invariant(check: &mut Check<'_, '_>, one: &str) {
    databases::query(check, &join(one, "query"));
    for key in ["file", "md5", "sha256"] {
        let at = join(one, key);
        match check.text(&at).map(Template::new) {
            Some(Err(why)) => check.error(&at, why, "write `{1}` for the first column of the query"),
            Some(Ok(template)) if key == "file" && template.columns().count() == 0 => check.error(
                &at,
                "it names the same file for every row",
                "write `{1}` where the first column of the query belongs",
            ),
            _ => {}
        }
    }
}

fn application(check: &mut Check<'_, '_>, app: &str) {
    command(check, &join(app, "command"));
    databases::of_application(check, app);
    for before in check.items(&join(app, "before")) {
        step(check, &before);
    }
    environment(check, &join(app, "environment"));
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for (at, key, value) in entries(check, &join(app, "data")) {
        match value.as_deref().map(in_cell) {
            Some(None) => check.error(
                &at,
                format!("`{}` is no path below `/cell`", value.unwrap_or_default()),
                "write it as the application finds it: `/cell/data.sqlite`",
            ),
            Some(Some(place)) => {
                if let Some(other) = taken.insert(place, key) {
                    check.error(&at, format!("`{other}` is already put there"), "choose another place");
                }
            }
            None => {}
        }
    }
    for (at, key, _) in entries(check, &join(app, "files")) {
        if in_cell(&key).is_none() {
            check.error_at_key(
                &at,
                format!("`{key}` is no path below `/cell`"),
                "write it as the application finds it: `/cell/app.conf`",
            );
        }
    }
    for (at, name) in check.texts(&join(app, "aliases")) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            check.error(&at, format!("`{name}` is no host name"), "write a name such as `shop-db`");
        }
    }
    for request in check.items(&join(app, "http")) {
        answer(check, &request);
    }
}

fn step(check: &mut Check<'_, '_>, step: &str) {
    let at = |key: &str| join(step, key);
    match (check.has(&at("run")), check.has(&at("start"))) {
        (true, true) => check.error_at_key(
            &at("start"),
            "a step either runs to its end or is a server",
            "keep `run` or `start`",
        ),
        (false, false) => check.error_at_start(
            step,
            "the step does nothing",
            "add `run: [program, ...]` or `start: [server, ...]`",
        ),
        _ => {}
    }
    for key in ["run", "start"] {
        command(check, &at(key));
    }
    environment(check, &at("environment"));
    if check.has(&at("listens")) && !check.has(&at("start")) {
        check.error_at_key(&at("listens"), "only a server listens", "use `start` instead of `run`");
    }
    if let Some(place) = check.text(&at("listens"))
        && place.parse::<u16>().is_err()
        && in_cell(place).is_none()
    {
        check.error(
            &at("listens"),
            format!("`{place}` is neither a port nor a socket below `/cell`"),
            "write `\"5432\"` or `/cell/.s.PGSQL.5432`",
        );
    }
}

fn answer(check: &mut Check<'_, '_>, request: &str) {
    let body = join(request, "body");
    if let Some(pattern) = check.text(&body)
        && let Err(error) = regex::Regex::new(pattern)
    {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
        check.error(
            &body,
            format!("`body` is no regular expression: {why}"),
            "write `\\` before a character that means itself",
        );
    }
    for (at, pointer, _) in entries(check, &join(request, "json")) {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            check.error_at_key(
                &at,
                format!("`{pointer}` is no JSON pointer"),
                format!("write `/{}`", pointer.replace('.', "/")),
            );
        }
    }
    let method = join(request, "method");
    if let Some(text) = check.text(&method)
        && !text.chars().all(|c| c.is_ascii_uppercase())
    {
        check.error(&method, format!("`{text}` is no method"), "write `GET`, `POST` or the like");
    }
    let path = join(request, "path");
    if let Some(text) = check.text(&path)
        && !text.starts_with('/')
    {
        let suggestion = format!("write `/{text}`: the server is the one in the cell");
        check.error(&path, "a path begins with `/`", suggestion);
    } else if let Some(text) = check.text(&path)
        && text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#')
    {
        check.error(&path, "a path in a request has no blanks and no `#`", "write them as `%20` and `%23`");
    }
    for (at, name, value) in entries(check, &join(request, "headers")) {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let text = |c: char| !c.is_control() && c.is_ascii();
        if name.is_empty() || !name.chars().all(token) || !value.is_some_and(|value| value.chars().all(text))
        {
            check.error_at_key(&at, format!("`{name}` is no header"), "write `Name: value` in plain ASCII");
        }
    }
}

fn command(check: &mut Check<'_, '_>, at: &str) {
    let words = check.items(at);
    let Some(first) = words.first() else { return };
    let Some(program) = check.text(first) else { return };
    if program.trim().is_empty() {
        check.error(first, "the command names no program", "write `[program, argument, ...]`");
    } else if words.len() == 1 && program.split_whitespace().count() > 1 {
        let list = program.split_whitespace().collect::<Vec<_>>().join(", ");
        check.error(
            first,
            "the whole command is in one word, and no shell reads it",
            format!("write `[{list}]`"),
        );
    } else if program.contains('/') && !program.starts_with('/') {
        check.error(
            first,
            format!("`{program}` is neither a name nor an absolute path"),
            "write the name of an installed program",
        );
    }
}

fn environment(check: &mut Check<'_, '_>, at: &str) {
    for (at, name, _) in entries(check, at) {
        if name.is_empty() || name.contains(['=', '\0']) {
            check.error_at_key(&at, format!("`{name}` is no name of a variable"), "write `NAME: value`");
        } else if name.starts_with(OURS) {
            check.error_at_key(
                &at,
                format!("variables that begin with `{OURS}` are set by firedrill"),
                "choose another name",
            );
        }
    }
}

/// The entries of a mapping: pointer, key, and the value if it is a text.
fn entries(check: &Check<'_, '_>, at: &str) -> Vec<(String, String, Option<String>)> {
    let map = check.get(at).and_then(serde_json::Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(key, value)| (join(at, key), key.clone(), value.as_str().map(str::to_owned)))
        .collect()
}
