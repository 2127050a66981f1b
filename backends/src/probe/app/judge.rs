//! Whether an answer is a good one.

use firedrill_core::config::trials::{HttpCheck, JsonBounds, JsonWanted};
use serde_json::Value;

use super::http::Answer;

/// At most this much of an answer is shown.
const SHOWN_MAX: usize = 300;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub(super) location: String,
    pub(super) expected: String,
    pub(super) seen: String,
}

/// The name of a request in findings.
pub(super) fn name(check: &HttpCheck) -> String {
    format!("{} {}", check.method, check.path)
}

/// Everything in `answer` that is not as `check` wants it. After a wrong status the body is another one anyway.
pub(super) fn mismatches(check: &HttpCheck, answer: &Answer) -> Vec<Mismatch> {
    let at = |place: &str| match place {
        "" => name(check),
        place => format!("{} {place}", name(check)),
    };
    let wrong =
        |place: &str, expected: String, seen: String| Mismatch { location: at(place), expected, seen };
    if !check.status.0.contains(&answer.status) {
        let wanted: Vec<_> = check.status.0.iter().map(u16::to_string).collect();
        let seen = format!("status {}: {}", answer.status, shown(&answer.body));
        return vec![wrong("", format!("status {}", wanted.join(" or ")), seen)];
    }
    let mut found = Vec::new();
    if let Some(pattern) = &check.body {
        let text = String::from_utf8_lossy(&answer.body);
        match regex::Regex::new(pattern) {
            Ok(regex) if regex.is_match(&text) => {}
            Ok(_) => found.push(wrong("", format!("a body that matches `{pattern}`"), shown(&answer.body))),
            // The config was checked; a plan from elsewhere was not.
            Err(_) => {
                found.push(wrong("", format!("a regular expression, not `{pattern}`"), "a mistake".into()))
            }
        }
    }
    if check.json.is_empty() {
        return found;
    }
    let document: Value = match serde_json::from_slice(&answer.body) {
        Ok(document) => document,
        Err(error) => {
            found.push(wrong("", "a body of JSON".to_owned(), format!("{error}: {}", shown(&answer.body))));
            return found;
        }
    };
    for (pointer, wanted) in &check.json {
        let Some(value) = document.pointer(pointer) else {
            found.push(wrong(pointer, described(wanted), "nothing there".to_owned()));
            continue;
        };
        if !fits(wanted, value) {
            found.push(wrong(pointer, described(wanted), shown(value.to_string().as_bytes())));
        }
    }
    found
}

fn fits(wanted: &JsonWanted, value: &Value) -> bool {
    match wanted {
        JsonWanted::Equal(wanted) => match (wanted.as_f64(), value.as_f64()) {
            // 1 and 1.0 are the same number.
            (Some(wanted), Some(value)) => wanted == value,
            _ => wanted == value,
        },
        JsonWanted::Within(JsonBounds { min, max }) => size(value)
            .is_some_and(|size| min.is_none_or(|min| size >= min) && max.is_none_or(|max| size <= max)),
    }
}

fn size(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Array(items) => Some(items.len() as f64),
        Value::Object(entries) => Some(entries.len() as f64),
        Value::String(text) => Some(text.chars().count() as f64),
        Value::Null | Value::Bool(_) => None,
    }
}

fn described(wanted: &JsonWanted) -> String {
    match wanted {
        JsonWanted::Equal(value) => value.to_string(),
        JsonWanted::Within(JsonBounds { min: Some(min), max: Some(max) }) => format!("{min} to {max}"),
        JsonWanted::Within(JsonBounds { min: Some(min), .. }) => format!("at least {min}"),
        JsonWanted::Within(JsonBounds { max: Some(max), .. }) => format!("at most {max}"),
        JsonWanted::Within(_) => "a value".to_owned(),
    }
}

/// The beginning of what somebody else wrote, on one line and without addresses that hold a password.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(8 * SHOWN_MAX)).unwrap_or_default());
    let text = firedrill_core::secret::redact_urls(text.trim());
    let mut short: String = text.chars().take(SHOWN_MAX).flat_map(plain).collect();
    if text.chars().count() > SHOWN_MAX {
        short.push('…');
    }
    if short.is_empty() { "an empty body".to_owned() } else { short }
}

fn plain(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(check: &str, status: u16, body: &str) -> Vec<String> {
        let check: HttpCheck = serde_json::from_str(check).unwrap();
        let answer = Answer { status, body: body.as_bytes().to_vec().into() };
        let told = |m: Mismatch| format!("{}: {} | {}", m.location, m.expected, m.seen);
        mismatches(&check, &answer).into_iter().map(told).collect()
    }

    #[test]
    fn good_answers_are_good() {
        for (check, body) in [
            (r#"{"path": "/"}"#, ""),
            (r#"{"path": "/", "body": "^O.$"}"#, "OK"),
            (
                r#"{"path": "/", "json": {"": {"min": 2, "max": 2}, "/0/n": 1, "/1": "x"}}"#,
                r#"[{"n": 1.0}, "x"]"#,
            ),
            (
                r#"{"path": "/", "json": {"/a": {"min": 3}, "/b": true, "/c": {"max": 0}}}"#,
                r#"{"a": "abc", "b": true, "c": []}"#,
            ),
        ] {
            assert!(wanted(check, 200, body).is_empty(), "{check}");
        }
        assert!(wanted(r#"{"path": "/", "status": [301, 302]}"#, 302, "").is_empty());
    }

    #[test]
    fn bad_answers_are_told() {
        for (check, status, body, told) in [
            (r#"{"path": "/x"}"#, 500, "no database", "GET /x: status 200 | status 500: no database"),
            (
                r#"{"path": "/", "status": [200, 204]}"#,
                302,
                "",
                "GET /: status 200 or 204 | status 302: an empty body",
            ),
            (r#"{"path": "/", "body": "^OK$"}"#, 200, "OK?\n", "GET /: a body that matches `^OK$` | OK?"),
            (r#"{"path": "/", "json": {"": {"min": 1}}}"#, 200, "[]", "GET /: at least 1 | []"),
            (r#"{"path": "/", "json": {"/a": 1}}"#, 200, "{\"a\": \"1\"}", "GET / /a: 1 | \"1\""),
            (
                r#"{"path": "/", "json": {"/a": {"min": 1}}}"#,
                200,
                "{}",
                "GET / /a: at least 1 | nothing there",
            ),
            (
                r#"{"path": "/", "json": {"/a": {"min": 0}}}"#,
                200,
                "{\"a\": null}",
                "GET / /a: at least 0 | null",
            ),
        ] {
            assert_eq!(wanted(check, status, body), [told]);
        }
        let told = wanted(r#"{"path": "/", "json": {"": {"min": 1}}}"#, 200, "<html>");
        assert!(told[0].starts_with("GET /: a body of JSON | "), "{told:?}");
    }

    #[test]
    fn what_is_shown_is_bounded_and_holds_no_password() {
        let text = shown(format!("postgres://me:hunter2@db/x {}", "y".repeat(10_000)).as_bytes());
        assert!(!text.contains("hunter2") && text.chars().count() <= SHOWN_MAX + 1, "{text}");
        assert_eq!(shown(b"a\x1b[31m"), "a\\u{1b}[31m");
    }
}
