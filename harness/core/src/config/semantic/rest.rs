//! Everything besides copies and targets: sinks, restore tests, canary.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::Check;
use super::copies::is_http;
use crate::secret::redact_urls;

pub(super) fn check(check: &mut Check<'_, '_>) {
    files(check);
    pushgateway(check);
    scratch(check);
    if check.has("/canary/key_file") && check.has("/canary/key_env") {
        check.error_at_key(
            "/canary/key_env",
            "`key_env` and `key_file` both say where the key is",
            "keep one of them",
        );
    }
}

/// Two sinks that write to one file would leave only the later one.
fn files(check: &mut Check<'_, '_>) {
    let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for sink in ["json", "junit", "html", "prometheus_file"] {
        let at = format!("/sinks/{sink}");
        let Some(text) = check.text(&at) else { continue };
        if text.is_empty() || text.ends_with('/') {
            check.error(&at, format!("`{sink}` must be a file"), format!("write `{sink}: folder/file`"));
            continue;
        }
        let path: PathBuf = Path::new(text).components().filter(|c| *c != Component::CurDir).collect();
        if let Some(first) = seen.get(&path) {
            check.error(
                &at,
                format!("`{sink}` and `{first}` write to the same file"),
                "give each a file of its own",
            );
        } else {
            seen.insert(path, sink);
        }
    }
}

fn pushgateway(check: &mut Check<'_, '_>) {
    let url = "/sinks/pushgateway/url";
    if let Some(text) = check.text(url) {
        let safe = redact_urls(text);
        if !is_http(text) {
            let help = if text.contains("://") || text.is_empty() {
                "http://pushgateway:9091"
            } else {
                &format!("http://{safe}")
            };
            check.error(url, "`url` is not the URL of a Pushgateway", format!("write `{help}`"));
        } else if safe != text {
            check.warning(
                url,
                "the URL holds a user name or a password, which everybody who reads this file can see",
                "use `username` and `password_env`",
            );
        } else if text.contains("/metrics/job") {
            check.error(url, "`url` must end before `/metrics/job`", "set `job` and `instance` instead");
        }
    }
    for (here, missing) in [("username", "password_env"), ("password_env", "username")] {
        let at = format!("/sinks/pushgateway/{here}");
        if check.has(&at) && !check.has(&format!("/sinks/pushgateway/{missing}")) {
            check.error_at_key(&at, format!("`{here}` needs `{missing}`"), format!("add `{missing}: ...`"));
        }
    }
}

fn scratch(check: &mut Check<'_, '_>) {
    let at = "/restore_test/scratch";
    match check.text(at) {
        Some("/") => {
            check.error(at, "`scratch` cannot be the root of the file system", "name a folder of its own")
        }
        Some("") => check.error(at, "`scratch` is empty", "name a folder, or remove the key"),
        Some(path) if path.starts_with('~') => {
            check.error(at, "`~` is not expanded here", "write the whole path")
        }
        _ => {}
    }
    let limit = "/restore_test/scratch_limit";
    let size =
        check.get(limit).and_then(|v| serde_json::from_value::<crate::config::units::Size>(v.clone()).ok());
    if size.is_some_and(|s| s.0 == 0) {
        check.error(
            limit,
            "`scratch_limit` leaves no room at all",
            "write a size such as 50GiB, or remove the key",
        );
    }
}
