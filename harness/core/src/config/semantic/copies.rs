//! Copies: where they are and how they are opened.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Check;
use crate::config::copies::BackupKind;
use crate::config::objects::ObjectPattern;
use crate::config::yaml::join;
use crate::secret::redact_urls;

/// What restic can read and this firedrill cannot.
const OTHER_SCHEMES: [&str; 7] = ["sftp", "b2", "azure", "gs", "swift", "rclone", "local"];

/// How a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Local,
    Rest,
    S3,
}

pub(super) fn check(check: &mut Check<'_, '_>) {
    check.unique_names("/copies", "copies");
    same_place(check);
    for copy in check.items("/copies") {
        let name = join(&copy, "name");
        if check.text(&name) == Some("control") {
            check.error(
                &name,
                "a copy cannot be called `control`",
                "that is the name of the negative control's drill; choose another",
            );
        }
        let repository = join(&copy, "repository");
        if let Some(text) = check.text(&repository) {
            let kind = kind_of(check.get(&join(&copy, "kind")));
            // Longhorn writes `s3://bucket@region/`: a name alone is no secret there.
            if kind != Some(BackupKind::Longhorn) || user_part(text).is_some_and(|user| user.contains(':')) {
                credentials(check, &repository, text);
            }
            if kind.is_some_and(BackupKind::drillable)
                && let Some(scheme) = location(check, &repository, text)
            {
                options(check, &copy, scheme, text);
                if scheme == Scheme::Rest && kind != Some(BackupKind::Restic) {
                    let help = "it can be a path or `s3:URL/bucket/prefix`";
                    check.error(
                        &repository,
                        "a rest-server holds restic repositories, not plain objects",
                        help,
                    );
                }
            }
        }
        passwords(check, &copy);
        objects(check, &copy);
    }
}

/// The kind, unless it is mistyped.
pub(super) fn kind_of(value: Option<&Value>) -> Option<BackupKind> {
    match value {
        None => Some(BackupKind::default()),
        Some(value) => serde_json::from_value(value.clone()).ok(),
    }
}

fn same_place(check: &mut Check<'_, '_>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for copy in check.items("/copies") {
        let at = join(&copy, "repository");
        let Some(text) = check.text(&at) else { continue };
        let line = check.line(&at);
        let place = text.trim_end_matches('/');
        match seen.get(place) {
            // Places of kinds that are not drilled are free text; several kinds can share a bucket.
            Some(first) if kind_of(check.get(&join(&copy, "kind"))) == Some(BackupKind::Restic) => {
                check.error(
                    &at,
                    format!("this is the same repository as the copy in line {first}"),
                    "two names for one repository are still one copy; remove one",
                );
            }
            _ => {
                seen.insert(place, line);
            }
        }
    }
}

fn credentials(check: &mut Check<'_, '_>, at: &str, text: &str) {
    if redact_urls(text) != text {
        check.warning(
            at,
            "the URL holds a user name or a password, which everybody who reads this file can see",
            "put them into environment variables and name these in `options: {username_env: ..., password_env: ...}`",
        );
    }
}

/// What stands in front of the `@` of a URL.
fn user_part(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit_once('@').map(|(user, _)| user)
}

/// Which scheme `text` has; reports what is not a location.
fn location(check: &mut Check<'_, '_>, at: &str, text: &str) -> Option<Scheme> {
    // Messages below quote the text; it may hold a password.
    let text = &redact_urls(text);
    if let Some(url) = text.strip_prefix("rest:") {
        if !is_http(url) {
            check.error(at, "`rest:` needs a URL", format!("write `rest:http://{}`", bare(url)));
            return None;
        }
        return Some(Scheme::Rest);
    }
    if let Some(rest) = text.strip_prefix("s3:") {
        let path = rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://")).unwrap_or(rest);
        let (host, bucket) = path.split_once('/').unwrap_or((path, ""));
        if host.is_empty() || bucket.trim_matches('/').is_empty() {
            let (message, host) = if rest.starts_with("//") {
                ("`s3://` is not how an S3 repository is written", "s3.REGION.amazonaws.com")
            } else {
                ("the location has no bucket", if host.is_empty() { "HOST" } else { host })
            };
            let tail = rest.strip_prefix("//").filter(|t| !t.is_empty()).unwrap_or("BUCKET/PREFIX");
            check.error(at, message, format!("write `s3:https://{host}/{tail}`"));
            return None;
        }
        return Some(Scheme::S3);
    }
    if is_http(text) {
        check.error(
            at,
            "a URL needs the kind of server in front",
            format!("write `rest:{text}` for a rest-server, or `s3:{text}` for S3"),
        );
        return None;
    }
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    if OTHER_SCHEMES.contains(&scheme) {
        let help = if scheme == "local" {
            format!("write the path alone: `{}`", text.trim_start_matches("local:"))
        } else {
            "it reads paths, `rest:URL` and `s3:URL/bucket/prefix`".to_owned()
        };
        check.error(at, format!("this version cannot read `{scheme}:` repositories"), help);
        return None;
    }
    if text.starts_with('~') {
        check.error(at, "`~` is not expanded here", "write the whole path");
        return None;
    }
    Some(Scheme::Local)
}

pub(super) fn is_http(url: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.trim_start_matches('/').is_empty()))
}

fn bare(url: &str) -> &str {
    match url.trim_start_matches("http:").trim_start_matches("https:").trim_start_matches('/') {
        "" => "HOST:8000/",
        host => host,
    }
}

/// Options that mean nothing for this scheme would be silently without effect.
fn options(check: &mut Check<'_, '_>, copy: &str, scheme: Scheme, text: &str) {
    const S3: [&str; 5] = ["region", "path_style", "profile", "access_key_id_env", "secret_access_key_env"];
    const REST: [&str; 2] = ["username_env", "password_env"];
    let options = join(copy, "options");
    for (keys, own, word) in [(&S3[..], Scheme::S3, "s3:"), (&REST[..], Scheme::Rest, "rest:")] {
        for key in keys {
            let at = join(&options, key);
            if scheme != own && check.has(&at) {
                check.error_at_key(
                    &at,
                    format!("`{key}` means nothing here: it is for `{word}` repositories"),
                    "remove it, or correct `repository`",
                );
            }
        }
    }
    for (one, other) in [("username_env", "password_env"), ("access_key_id_env", "secret_access_key_env")] {
        for (here, missing) in [(one, other), (other, one)] {
            let at = join(&options, here);
            if check.has(&at) && !check.has(&join(&options, missing)) {
                check.error_at_key(
                    &at,
                    format!("`{here}` needs `{missing}`"),
                    format!("add `{missing}: ...`"),
                );
            }
        }
    }
    let ca = join(copy, "ca_cert");
    if check.has(&ca) && (scheme == Scheme::Local || text.contains("http://")) {
        check.error_at_key(
            &ca,
            "`ca_cert` means nothing here: nothing is encrypted with TLS",
            "use an https URL, or remove it",
        );
    }
}

/// How the names of plain objects are read.
fn objects(check: &mut Check<'_, '_>, copy: &str) {
    let kind = kind_of(check.get(&join(copy, "kind")));
    let Some(kind) = kind else { return };
    let at = join(copy, "objects");
    if !kind.is_plain_objects() {
        if check.has(&at) {
            check.error_at_key(
                &at,
                format!("`objects` means nothing here: it is for names of plain objects, not for {kind}"),
                "add `kind: object_dump` or `kind: etcd`, or remove it",
            );
        }
        return;
    }
    for key in ["password_file", "password_command", "password_env"] {
        let at = join(copy, key);
        if check.has(&at) {
            check.error_at_key(
                &at,
                format!("`{key}` means nothing here: plain objects are read without a password"),
                "remove it",
            );
        }
    }
    let mut some = false;
    let patterns = check.texts(&at);
    for (at, text) in &patterns {
        match text.parse::<ObjectPattern>() {
            Ok(pattern) => some |= !pattern.leaves_out(),
            Err(why) => {
                some = true;
                let help = "write it like `{name}/{namespace}-{time:%Y%m%d-%H%M%S}.sql.gz`";
                check.error(at, format!("this pattern cannot be read: {why}"), help);
            }
        }
    }
    if let Some((at, _)) = patterns.first()
        && !some
    {
        check.error(
            at,
            "all patterns leave something out, and none says what is drilled",
            "add one that does",
        );
    }
}

fn passwords(check: &mut Check<'_, '_>, copy: &str) {
    const SOURCES: [&str; 3] = ["password_file", "password_command", "password_env"];
    let given: Vec<&str> = SOURCES.into_iter().filter(|key| check.has(&join(copy, key))).collect();
    for extra in given.iter().skip(1) {
        check.error_at_key(
            &join(copy, extra),
            format!("`{extra}` and `{}` both say where the password is", given[0]),
            "keep one of them",
        );
    }
}
