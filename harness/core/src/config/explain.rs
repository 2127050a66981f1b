//! Schema errors in plain words, with what to write instead.

use std::collections::BTreeSet;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::problem::{Place, Problem};
use super::schedule::{Cron, Timezone};
use super::schema;
use super::yaml::{Document, join};

const SPAN_HELP: &str = "write it like 90s, 26h or 7days";
const SIZE_HELP: &str = "write it like 10GiB or 500MB";

/// Checks the shape of the document.
pub(super) fn check(document: &Document, problems: &mut Vec<Problem>) {
    let (schema, validator) = match schema::compiled() {
        Ok(compiled) => compiled,
        Err(why) => {
            problems.push(Problem::error(
                Place::START,
                "",
                format!("the schema of the config is broken: {why}"),
            ));
            return;
        }
    };
    empty_values(document, &document.value, String::new(), problems);
    let mut errors: Vec<_> = validator.iter_errors(&document.value).collect();
    errors.sort_by_key(|e| rank(e.kind()));
    let mut explained = BTreeSet::new();
    for error in &errors {
        let pointer = error.instance_path().as_str();
        if error.instance().is_null() && !pointer.is_empty() {
            continue;
        }
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for key in unexpected {
                    problems.push(unknown_key(document, schema, error, key));
                }
            }
            ValidationErrorKind::Required { property } => {
                problems.push(missing_key(document, error, property))
            }
            // One sentence per value: a wrong unit, for example, breaks the pattern as well.
            _ if !explained.insert(pointer.to_owned()) => {}
            // Whatever stands here instead of a name may be the secret itself.
            _ if pointer.ends_with("_env") => problems.push(not_a_variable(document, pointer)),
            kind => {
                let (message, suggestion) = wrong_value(schema, error, kind);
                let mut problem = Problem::error(document.place(pointer).value, pointer, message);
                problem.suggestion = suggestion;
                problems.push(problem);
            }
        }
    }
}

/// Which of several errors in one value says most.
fn rank(kind: &ValidationErrorKind) -> u8 {
    match kind {
        ValidationErrorKind::Type { .. } => 0,
        ValidationErrorKind::Format { .. } => 1,
        ValidationErrorKind::MinLength { .. } => 2,
        _ => 3,
    }
}

/// A key without a value is mostly an accident: a promise that was never typed.
fn empty_values(document: &Document, value: &Value, pointer: String, problems: &mut Vec<Problem>) {
    match value {
        Value::Null if pointer.is_empty() => {}
        Value::Null => {
            let message = format!("{} has no value", label(&pointer));
            problems.push(
                Problem::error(document.key_place(&pointer), &pointer, message)
                    .suggest("write a value, or remove the line"),
            );
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                empty_values(document, item, join(&pointer, &i.to_string()), problems);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                empty_values(document, item, join(&pointer, key), problems);
            }
        }
        _ => {}
    }
}

/// The part of the schema that `error` comes from.
fn rule<'s>(schema: &'s Value, error: &ValidationError<'_>) -> &'s Value {
    let path = error.schema_path().as_str();
    let parent = path.rfind('/').map_or("", |end| &path[..end]);
    schema.pointer(parent).unwrap_or(&Value::Null)
}

fn unknown_key(document: &Document, schema: &Value, error: &ValidationError<'_>, key: &str) -> Problem {
    let parent = error.instance_path().as_str();
    let pointer = join(parent, key);
    let problem = Problem::error(document.key_place(&pointer), &pointer, format!("unknown key `{key}`"));
    let rule = rule(schema, error);
    let known: Vec<&str> = properties(rule).map(|(name, _)| name).collect();
    if key == "<<" {
        return problem.suggest(
            "merge keys are not supported; an alias can repeat a whole value: `objectives: *hourly`",
        );
    }
    if let Some(close) = closest(key, &known) {
        let secret = ["password", "key"].contains(&key);
        let hint = if secret { " A secret does not belong in this file." } else { "" };
        return problem.suggest(format!("did you mean `{close}`?{hint}"));
    }
    let nested =
        properties(rule).find(|(_, sub)| properties(resolve(schema, sub)).any(|(name, _)| name == key));
    if let Some((home, _)) = nested {
        return problem.suggest(format!("`{key}` belongs under `{home}:`"));
    }
    if !parent.is_empty() && properties(schema).any(|(name, _)| name == key) {
        return problem.suggest(format!("`{key}` belongs at the top level; check the indentation"));
    }
    problem.suggest(format!("known here: {}", list(&known)))
}

fn missing_key(document: &Document, error: &ValidationError<'_>, property: &Value) -> Problem {
    let parent = error.instance_path().as_str();
    let key = property.as_str().unwrap_or_default();
    let owner = if parent.is_empty() { String::new() } else { format!(" in {}", label(parent)) };
    let place = Place { length: 1, ..document.place(parent).value };
    let problem = Problem::error(place, parent, format!("the key `{key}` is missing{owner}"));
    match (parent, key) {
        ("", "version") => problem.suggest("start the file with `version: 1`"),
        ("", "copies") => problem.suggest("name at least one copy of the repository"),
        _ => problem.suggest(format!("add `{key}: ...`")),
    }
}

fn not_a_variable(document: &Document, pointer: &str) -> Problem {
    let message = format!("{} must be the name of an environment variable", label(pointer));
    let mut problem = Problem::error(document.place(pointer).value, pointer, message)
        .suggest("write the name of the variable that holds the secret, not the secret");
    problem.conceal = true;
    problem
}

/// What is wrong with a value, and what to write instead.
fn wrong_value(
    schema: &Value,
    error: &ValidationError<'_>,
    kind: &ValidationErrorKind,
) -> (String, Option<String>) {
    let name = label(error.instance_path().as_str());
    let rule = rule(schema, error);
    let value = error.instance();
    match kind {
        ValidationErrorKind::Type { .. } => wrong_type(&name, rule, value),
        ValidationErrorKind::Format { format } => wrong_format(&name, format, value),
        ValidationErrorKind::Enum { options } => {
            let words: Vec<&str> =
                options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let close = value.as_str().and_then(|v| closest(v, &words));
            let help = match close {
                Some(close) => format!("did you mean `{close}`? It can be {}", choice(&words)),
                None => format!("it can be {}", choice(&words)),
            };
            (format!("{name} cannot be {}", shown(value)), Some(help))
        }
        ValidationErrorKind::Constant { expected_value } => (
            format!("{name} must be {expected_value}, not {}", shown(value)),
            Some("this firedrill reads version 1 of the format".to_owned()),
        ),
        ValidationErrorKind::Pattern { .. } => (
            format!("{name} cannot be {}", shown(value)),
            Some("use letters, digits, `.`, `_` and `-`, and start with a letter or a digit".to_owned()),
        ),
        ValidationErrorKind::Minimum { limit } => {
            (format!("{name} must be at least {}, not {}", number(limit), shown(value)), None)
        }
        ValidationErrorKind::Maximum { limit } => {
            let percent = limit.as_f64() == Some(1.0) && name.contains("_ratio");
            let help = percent.then(|| "a ratio is between 0 and 1: write 0.3 for 30 %".to_owned());
            (format!("{name} must be at most {}, not {}", number(limit), shown(value)), help)
        }
        ValidationErrorKind::MinLength { .. } | ValidationErrorKind::MinItems { .. } => {
            let needed = ["`copies`", "`name`", "`repository`"].contains(&name.as_str());
            let help = if needed { "it needs a value" } else { "write a value, or remove the key" };
            (format!("{name} is empty"), Some(help.to_owned()))
        }
        ValidationErrorKind::MaxLength { limit } => {
            (format!("{name} is longer than {limit} characters"), None)
        }
        _ => (format!("{name} is not right: {}", error.masked()), None),
    }
}

fn wrong_type(name: &str, rule: &Value, value: &Value) -> (String, Option<String>) {
    let format = rule.get("format").and_then(Value::as_str);
    let wanted: Vec<&str> = match rule.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let expected = match format {
        Some("span") => "a duration".to_owned(),
        Some("size") => "a size".to_owned(),
        Some("cron") => "a cron expression".to_owned(),
        _ => wanted.iter().map(|t| type_word(t)).collect::<Vec<_>>().join(" or "),
    };
    let help = match (format, wanted.first().copied(), value) {
        (Some("span"), _, Value::Number(n)) => Some(format!("give it a unit, for example `{n}h` or `{n}m`")),
        (Some("span"), _, _) => Some(SPAN_HELP.to_owned()),
        (Some("size"), _, _) => Some(SIZE_HELP.to_owned()),
        (None, Some("string"), Value::Number(_) | Value::Bool(_)) => {
            Some(format!("put it in quotes: \"{value}\""))
        }
        (None, Some("integer" | "number"), Value::String(text)) if text.parse::<f64>().is_ok() => {
            Some("remove the quotes".to_owned())
        }
        (None, Some("boolean"), _) => Some("write `true` or `false`".to_owned()),
        (None, Some("array"), Value::String(_) | Value::Object(_)) => {
            Some("write a list: one line per item, each starting with `- `".to_owned())
        }
        (None, Some("object"), _) => Some("write its keys below it, indented".to_owned()),
        _ => None,
    };
    (format!("{name} must be {expected}, not {}", shown(value)), help)
}

fn wrong_format(name: &str, format: &str, value: &Value) -> (String, Option<String>) {
    let text = value.as_str().unwrap_or_default();
    match format {
        "span" => {
            let unitless = !text.trim().is_empty() && text.trim().bytes().all(|b| b.is_ascii_digit());
            let help = if unitless {
                format!("give it a unit, for example `{0}h` or `{0}m`", text.trim())
            } else {
                SPAN_HELP.to_owned()
            };
            (format!("{name} must be a duration, not `{text}`"), Some(help))
        }
        "size" => (format!("{name} must be a size, not `{text}`"), Some(SIZE_HELP.to_owned())),
        "cron" => {
            let why = text.parse::<Cron>().err().unwrap_or_default();
            let fields: Vec<&str> = text.split_whitespace().collect();
            let help = match fields.as_slice() {
                ["0", rest @ ..] if rest.len() == 5 => {
                    format!("there is no field for seconds: write \"{}\"", rest.join(" "))
                }
                [word] if format!("@{word}").parse::<Cron>().is_ok() => format!("write \"@{word}\""),
                [_, _, _, _, _] => "the fields are minute, hour, day of month, month, day of week".to_owned(),
                _ => "write five fields, for example \"20 * * * *\" (hourly) or \"0 4 * * SUN\" (weekly)"
                    .to_owned(),
            };
            (format!("{name}: `{text}` is not a cron expression: {why}"), Some(help))
        }
        "timezone" => {
            (format!("{name}: {}", text.parse::<Timezone>().err().unwrap_or_default()), Some(zone_help(text)))
        }
        _ => (format!("{name}: `{text}` is not a {format}"), None),
    }
}

fn zone_help(text: &str) -> String {
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match closest(text, &names) {
        Some(close) => format!("did you mean `{close}`?"),
        None => "write it like UTC or Europe/Zurich".to_owned(),
    }
}

/// The properties of an object in the schema.
fn properties(rule: &Value) -> impl Iterator<Item = (&str, &Value)> {
    rule.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(k, v)| (k.as_str(), v))
}

/// Follows a `$ref` once.
fn resolve<'s>(schema: &'s Value, rule: &'s Value) -> &'s Value {
    let reference = rule.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
    reference.and_then(|pointer| schema.pointer(pointer)).unwrap_or(rule)
}

/// The word that was probably meant.
pub(crate) fn closest<'w>(typed: &str, known: &[&'w str]) -> Option<&'w str> {
    let typed = typed.to_lowercase().replace('-', "_");
    let score = |word: &str| {
        let word = word.to_lowercase();
        let distance = strsim::damerau_levenshtein(&typed, &word);
        let extends =
            typed.len() >= 3 && word.len() >= 3 && (word.starts_with(&typed) || typed.starts_with(&word));
        (extends || distance <= 1 + word.len() / 4).then_some((distance, !extends))
    };
    known.iter().filter_map(|word| score(word).map(|s| (s, *word))).min().map(|(_, word)| word)
}

/// The value at `pointer` in words.
pub(super) fn label(pointer: &str) -> String {
    let mut steps = pointer.rsplit('/').filter(|s| !s.is_empty());
    let unescape = |step: &str| step.replace("~1", "/").replace("~0", "~");
    match (steps.next(), steps.next()) {
        (None, _) => "the file".to_owned(),
        (Some(last), Some(list)) if last.bytes().all(|b| b.is_ascii_digit()) => {
            let number = last.parse::<usize>().map_or_else(|_| last.to_owned(), |n| (n + 1).to_string());
            format!("item {number} of `{}`", unescape(list))
        }
        (Some(last), _) => format!("`{}`", unescape(last)),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.chars().count() <= 40 => format!("`{text}`"),
        Value::String(_) => "this text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// A limit as people write it: `1`, not `1.0`.
fn number(limit: &Value) -> String {
    limit.as_f64().map_or_else(|| limit.to_string(), |n| n.to_string())
}

fn type_word(word: &str) -> &str {
    match word {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

fn choice(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => format!("{} or `{last}`", list(first)),
    }
}
