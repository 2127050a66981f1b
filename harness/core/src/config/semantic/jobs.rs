//! Jobs: whether firedrill can make the backups that it is told to make, and whether jobs know their copies.

use std::collections::BTreeMap;

use super::Check;
use super::copies::{is_http, kind_of};
use crate::config::copies::BackupKind;
use crate::config::explain::closest;
use crate::config::model::Config;
use crate::config::problem::Problem;
use crate::config::yaml::{Document, join};
use crate::pipeline::overlap::meetings;
use crate::pipeline::spec::{JobName, JobSpec};

/// What can be captured, by key.
const CAPTURES: [&str; 6] = ["files", "sqlite", "postgres", "mariadb", "etcd", "command"];
/// What a job can be, by key.
const JOBS: [&str; 5] = ["retention", "mirror", "check", "statistics", "restore_test"];

/// A copy, as far as it matters here.
#[derive(Clone, Copy)]
struct Copy<'d> {
    name: &'d str,
    kind: Option<BackupKind>,
    mirror: bool,
}

pub(super) fn check(check: &mut Check<'_, '_>) {
    let copies: Vec<Copy<'_>> = check
        .items("/copies")
        .iter()
        .filter_map(|copy| {
            Some(Copy {
                name: check.text(&join(copy, "name"))?,
                kind: kind_of(check.get(&join(copy, "kind"))),
                mirror: check.text(&join(copy, "role")) == Some("mirror"),
            })
        })
        .collect();
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for target in check.items("/targets") {
        if check.has(&join(&target, "backup")) {
            backup(check, &target, &copies);
            let name = join(&target, "name");
            if let Some(text) = check.text(&name) {
                taken.insert(text.to_owned(), check.line(&name));
            }
        }
    }
    check.unique_names("/jobs", "jobs");
    for job in check.items("/jobs") {
        let name = join(&job, "name");
        if let Some(line) = check.text(&name).and_then(|text| taken.get(text)) {
            let message =
                format!("the target in line {line} has this name, and its backup is a job of that name");
            check.error(&name, message, "give the job another name");
        }
        one_job(check, &job, &copies);
    }
    notify(check);
}

/// Exactly one of `keys` must be there.
fn exactly_one(check: &mut Check<'_, '_>, at: &str, keys: &[&str]) {
    let present: Vec<_> = keys.iter().filter(|key| check.has(&join(at, key))).collect();
    match present.as_slice() {
        [_] => {}
        [] => check.error_at_start(
            at,
            format!("it does nothing: one of {} is missing", list(keys)),
            "add the one that is meant",
        ),
        [_, second, ..] => {
            let message = format!("one of {} is enough", list(keys));
            check.error_at_key(&join(at, second), message, "write one item for each");
        }
    }
}

fn list(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

fn backup(check: &mut Check<'_, '_>, target: &str, copies: &[Copy<'_>]) {
    let at = join(target, "backup");
    let kind = kind_of(check.get(&join(target, "kind")));
    if kind.is_some_and(|kind| !kind.drillable()) {
        check.error_at_key(
            &at,
            "firedrill makes no backups of this kind",
            "remove `backup`: their own tools make them",
        );
        return;
    }
    let captures = check.items(&join(&at, "capture"));
    let mut stored: BTreeMap<String, usize> = BTreeMap::new();
    for capture in &captures {
        exactly_one(check, capture, &CAPTURES);
        one_capture(check, capture, &mut stored);
    }
    let Some(kind) = kind else { return };
    destination(check, target, &at, kind, copies);
    if kind == BackupKind::Restic {
        host(check, target, &at);
    } else if let [capture] = captures.as_slice() {
        // What comes along with a snapshot of etcd is a second thing.
        for key in ["files", "sqlite", "etcd/pki", "etcd/k3s"] {
            let key_at = format!("{capture}/{key}");
            if check.has(&key_at) {
                check.error_at_key(
                    &key_at,
                    "each backup of this kind is one object, which is one stream",
                    "capture a dump or the output of a command, or use `kind: restic`",
                );
            }
        }
    } else if let Some(second) = captures.get(1) {
        check.error_at_start(
            second,
            "each backup of this kind is one object",
            "write one target for each, or use `kind: restic`",
        );
    }
}

/// Snapshots of nobody in particular are how two writers come to overwrite each other's place.
fn host(check: &mut Check<'_, '_>, target: &str, backup: &str) {
    match check.texts(&join(target, "host")).as_slice() {
        [] => check.error_at_key(
            backup,
            "nobody says under which host the snapshots are written",
            "add `host: NAME` to the target; names of pods change from run to run",
        ),
        [_] => {}
        [_, (second, _), ..] => {
            check.error(second, "one backup writes under one host", "write one target for each host");
        }
    }
}

fn destination(check: &mut Check<'_, '_>, target: &str, backup: &str, kind: BackupKind, copies: &[Copy<'_>]) {
    let at = join(backup, "to");
    if check.has(&at) {
        if let Some(copy) = known(check, &at, copies) {
            written(check, &at, copy, Some(kind));
        }
        return;
    }
    let holders: Vec<&str> = check.texts(&join(target, "copies")).into_iter().map(|(_, name)| name).collect();
    let fits = |copy: &&Copy<'_>| match holders.is_empty() {
        true => copy.kind == Some(kind),
        false => holders.contains(&copy.name),
    };
    let primary: Vec<&str> =
        copies.iter().filter(fits).filter(|copy| !copy.mirror).map(|copy| copy.name).collect();
    match primary.as_slice() {
        [_] => {}
        [] => check.error_at_key(
            backup,
            "there is no primary copy that it could be written to",
            "add a copy, or remove `role: mirror` from one",
        ),
        several => check.error_at_key(
            backup,
            format!("it could be written to {}", list(several)),
            "add `to: NAME`; the others are filled by a mirror job",
        ),
    }
}

/// The copy that is named at `at`.
fn known<'c>(check: &mut Check<'_, '_>, at: &str, copies: &[Copy<'c>]) -> Option<Copy<'c>> {
    let name = check.text(at)?;
    let found = copies.iter().find(|copy| copy.name == name);
    if found.is_none() {
        let names: Vec<&str> = copies.iter().map(|copy| copy.name).collect();
        let help = match closest(name, &names) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("the copies are: {}", names.join(", ")),
        };
        check.error(at, format!("there is no copy called `{name}`"), help);
    }
    found.copied()
}

/// A copy that backups are written to.
fn written(check: &mut Check<'_, '_>, at: &str, copy: Copy<'_>, kind: Option<BackupKind>) {
    if copy.mirror {
        check.error(
            at,
            format!("`{}` is a mirror, and a mirror is filled from another copy alone", copy.name),
            "name the primary copy",
        );
    } else if copy.kind != kind
        && let (Some(other), Some(kind)) = (copy.kind, kind)
    {
        check.error(
            at,
            format!(
                "the copy `{}` holds `{other}` backups, and this target is of the kind `{kind}`",
                copy.name
            ),
            "correct `kind` here or there",
        );
    }
}

fn one_capture(check: &mut Check<'_, '_>, capture: &str, stored: &mut BTreeMap<String, usize>) {
    for (at, path) in check.texts(&format!("{capture}/files/paths")) {
        if at != format!("{capture}/files/paths") && !path.starts_with('/') {
            check.error(
                &at,
                format!("`{path}` is not absolute"),
                format!("write `/{path}`, or where it really is"),
            );
        }
    }
    let sqlite = format!("{capture}/sqlite/path");
    if let Some(path) = check.text(&sqlite)
        && !path.starts_with('/')
    {
        check.error(&sqlite, format!("`{path}` is not absolute"), "write the whole path");
    }
    for key in CAPTURES {
        let own = join(capture, key);
        place(check, &join(&own, "as"), stored);
        secrets(check, &own);
    }
    digests(check, capture);
}

/// Digests can only be taken of what can be asked at the moment of the dump.
fn digests(check: &mut Check<'_, '_>, capture: &str) {
    for key in ["postgres", "mariadb"] {
        let own = join(capture, key);
        let at = join(&own, "digests");
        if check.get(&at).and_then(serde_json::Value::as_bool) != Some(true) {
            continue;
        }
        if check.has(&join(&own, "via")) {
            check.error_at_key(
                &at,
                "digests are taken by a client here, and not where `via` leads",
                "remove `digests`, or use `firedrill digest` where the server is",
            );
        }
        let method = check.text(&join(&own, "method"));
        if key == "mariadb" && method != Some("dump") {
            check.error_at_key(&at, "a physical backup has no digests", "add `method: dump`");
        }
        if key == "postgres" && !check.has(&join(&own, "database")) {
            check.error_at_key(
                &at,
                "all databases together have no common moment",
                "add `database: NAME`, and one item for each",
            );
        }
    }
}

/// Where a stream goes in the snapshot.
fn place(check: &mut Check<'_, '_>, at: &str, stored: &mut BTreeMap<String, usize>) {
    let Some(path) = check.text(at) else { return };
    let plain = path.starts_with('/')
        && !path.ends_with('/')
        && !path.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
    if !plain {
        check.error(
            at,
            format!("`{path}` is no place in a snapshot"),
            "write an absolute path of a file: `/backup/shop.dump`",
        );
        return;
    }
    let line = check.line(at);
    if let Some(first) = stored.insert(path.to_owned(), line) {
        check.error(
            at,
            format!("`{path}` is written twice; first in line {first}"),
            "give each a path of its own",
        );
    }
}

/// Everybody on the machine can read the arguments of a process.
fn secrets(check: &mut Check<'_, '_>, own: &str) {
    for (at, argument) in
        check.texts(&join(own, "arguments")).into_iter().chain(check.texts(&join(own, "run")))
    {
        let low = argument.to_lowercase();
        let named =
            low.starts_with("--password=") || low.contains("pgpassword=") || low.contains("mysql_pwd=");
        let short = own.ends_with("/mariadb")
            && argument.len() > 2
            && argument.starts_with("-p")
            && !argument.starts_with("-p ");
        let url = crate::secret::redact_urls(argument) != argument;
        if named || short || url {
            let place = check.value_place(&at);
            let message = "a password in the arguments of a program can be read by everybody on the machine";
            let mut problem = Problem::error(place, &at, message)
                .suggest("use `server: {password_env: ...}` or `password_file`");
            problem.conceal = true;
            check.problems.push(problem);
        }
    }
    let server = join(own, "server");
    let (env, file) = (join(&server, "password_env"), join(&server, "password_file"));
    if check.has(&env) && check.has(&file) {
        check.error_at_key(
            &file,
            "`password_file` and `password_env` both say the password",
            "keep one of them",
        );
    }
    for at in [env, file] {
        if check.has(&at) && check.has(&join(own, "via")) {
            check.error_at_key(
                &at,
                "a password of this machine does not travel with `via`",
                "let the other side have its own: peer authentication, ~/.pgpass, ~/.my.cnf",
            );
        }
    }
}

fn one_job(check: &mut Check<'_, '_>, job: &str, copies: &[Copy<'_>]) {
    exactly_one(check, job, &JOBS);
    let restic = |check: &mut Check<'_, '_>, at: &str, copy: Option<Copy<'_>>| {
        if let Some(Copy { name, kind: Some(kind), .. }) = copy
            && kind != BackupKind::Restic
        {
            check.error(
                at,
                format!("the copy `{name}` holds `{kind}` backups, and no restic repository"),
                "name another copy",
            );
        }
    };
    for key in ["retention", "check"] {
        let at = join(&join(job, key), "copy");
        let copy = known(check, &at, copies);
        match key {
            "check" => restic(check, &at, copy),
            _ => ours(check, &at, copy, "their own tools drop what is old: remove the job"),
        }
    }
    known(check, &format!("{job}/statistics/copy"), copies);
    for (at, _) in check.texts(&format!("{job}/restore_test/copies")) {
        known(check, &at, copies);
    }
    let keep = format!("{job}/retention/keep");
    if check.get(&keep).and_then(serde_json::Value::as_object).is_some_and(serde_json::Map::is_empty) {
        check.error(&keep, "without a rule everything is kept", "add a rule, such as `daily: 7`");
    }
    mirror(check, &join(job, "mirror"), copies);
}

/// A copy whose backups firedrill can tell apart.
fn ours(check: &mut Check<'_, '_>, at: &str, copy: Option<Copy<'_>>, help: &str) {
    if let Some(Copy { name, kind: Some(kind), .. }) = copy
        && !kind.drillable()
    {
        let message =
            format!("the copy `{name}` holds `{kind}` backups, of which firedrill knows nothing yet");
        check.error(at, message, help);
    }
}

fn mirror(check: &mut Check<'_, '_>, at: &str, copies: &[Copy<'_>]) {
    let (from_at, to_at) = (join(at, "from"), join(at, "to"));
    let (from, to) = (known(check, &from_at, copies), known(check, &to_at, copies));
    ours(check, &from_at, from, "mirror its bucket as a copy of the kind `object_dump` without `objects`");
    let (Some(from), Some(to)) = (from, to) else { return };
    if from.name == to.name {
        check.error(&to_at, "a copy cannot be filled from itself", "name the other copy");
    } else if !to.mirror {
        check.error(
            &to_at,
            format!("`{}` is no mirror: somebody else writes to it, or deletes from it", to.name),
            format!("add `role: mirror` to the copy `{}`", to.name),
        );
    } else if from.kind != to.kind {
        check.error(
            &to_at,
            "the two copies hold different kinds of backups",
            "correct `kind` of one of them",
        );
    } else if from.kind.is_some_and(|kind| kind != BackupKind::Restic)
        && check.text(&join(at, "mode")) == Some("reencrypted")
    {
        check.error(&join(at, "mode"), "only restic repositories are encrypted", "remove `mode`");
    }
}

fn notify(check: &mut Check<'_, '_>) {
    for hook in check.items("/notify/webhooks") {
        let (url, env) = (join(&hook, "url"), join(&hook, "url_env"));
        match (check.has(&url), check.has(&env)) {
            (true, true) => {
                check.error_at_key(&env, "`url` and `url_env` both say the URL", "keep one of them")
            }
            (false, false) => {
                check.error_at_start(&hook, "it has no URL", "add `url: ...` or `url_env: ...`")
            }
            _ => {}
        }
        http(check, &url);
    }
    http(check, "/notify/ntfy/server");
    let (token, user, password) =
        ("/notify/ntfy/token_env", "/notify/ntfy/username", "/notify/ntfy/password_env");
    if check.has(token) && check.has(user) {
        check.error_at_key(token, "`token_env` and `username` both log in", "keep one of them");
    }
    for (here, missing) in [(user, password), (password, user)] {
        if check.has(here) && !check.has(missing) {
            let name = |at: &str| at.rsplit('/').next().unwrap_or_default().to_owned();
            check.error_at_key(
                here,
                format!("`{}` needs `{}`", name(here), name(missing)),
                format!("add `{}: ...`", name(missing)),
            );
        }
    }
}

fn http(check: &mut Check<'_, '_>, at: &str) {
    let Some(text) = check.text(at) else { return };
    if !is_http(text) {
        check.error(at, "it is not the URL of a web server", "write `https://...`");
    } else if crate::secret::redact_urls(text) != text {
        check.error(
            at,
            "the URL holds a password, which everybody who reads this file can see",
            "name an environment variable",
        );
    }
}

/// Jobs that meet by plan, in a config without mistakes.
pub(in crate::config) fn overlaps(config: &Config, document: &Document, problems: &mut Vec<Problem>) {
    let jobs = JobSpec::all(config);
    let chosen = |name: &JobName| jobs.iter().any(|job| &job.name == name && job.rules.overlap.is_some());
    for met in meetings(&jobs) {
        if chosen(&met.first) || chosen(&met.second) {
            continue;
        }
        let pointer = schedule_of(config, &met.second.0);
        let may = match met.lasts_for_sure {
            true => format!("may run {} (its deadline)", met.lasts),
            false => format!("has no deadline ({} are assumed)", met.lasts),
        };
        let message = format!(
            "`{}` is started on {} while `{}`, started on {}, {may}: they must not use `{}` at the same time",
            met.second, met.second_at, met.first, met.first_at, met.copy
        );
        let help = format!(
            "one waits for the other. Move a schedule, shorten the deadline of `{}`, or say that this is meant: `rules: {{overlap: wait}}`",
            met.first
        );
        problems.push(Problem::warning(document.place(&pointer).value, &pointer, message).suggest(help));
    }
}

fn schedule_of(config: &Config, name: &str) -> String {
    let job = config.jobs.iter().position(|job| job.name == name).map(|i| format!("/jobs/{i}/schedule"));
    let target = || {
        config.targets.iter().position(|target| target.name == name).map(|i| format!("/targets/{i}/schedule"))
    };
    job.or_else(target).unwrap_or_default()
}
