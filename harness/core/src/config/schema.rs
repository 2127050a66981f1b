//! The JSON schema of `firedrill.yaml`: it checks the file, explains mistakes, and lets editors
//! complete and document keys.

use std::sync::OnceLock;

use jsonschema::Validator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::model::Config;
use super::schedule::{Cron, Timezone};
use super::units::{Size, Span};

/// The schema, with descriptions. Put it in a file and point your editor to it with a first line
/// `# yaml-language-server: $schema=FILE`.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    simplify(&mut schema);
    if let Value::Object(root) = &mut schema {
        root.insert("title".to_owned(), json!("firedrill.yaml"));
    }
    schema
}

/// The schema and what checks against it; made once.
pub(super) fn compiled() -> Result<(&'static Value, &'static Validator), String> {
    static COMPILED: OnceLock<Result<(Value, Validator), String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        let schema = schema();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .with_format("span", |text: &str| text.parse::<Span>().is_ok())
            .with_format("size", |text: &str| text.parse::<Size>().is_ok())
            .with_format("cron", |text: &str| text.parse::<Cron>().is_ok())
            .with_format("timezone", |text: &str| text.parse::<Timezone>().is_ok())
            .build(&schema)
            .map_err(|e| e.to_string())?;
        Ok((schema, validator))
    });
    compiled.as_ref().map(|(schema, validator)| (schema, validator)).map_err(Clone::clone)
}

/// Makes the schema say what the parser accepts, in the plainest form: an absent key is not `null`, a
/// choice of words is an `enum`, and the sizes of Rust's integers mean nothing to a reader.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(simplify),
        Value::Object(object) => {
            object.values_mut().for_each(simplify);
            drop_null(object);
            drop_width(object);
            unwrap_lines(object);
            collect_words(object);
        }
        _ => {}
    }
}

fn drop_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|t| t != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice != &json!({ "type": "null" }));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
    if object.get("default") == Some(&Value::Null) {
        object.remove("default");
    }
}

fn drop_width(object: &mut Map<String, Value>) {
    let width = |format: &str| format.starts_with("uint") || format.starts_with("int") || format == "double";
    if object.get("format").and_then(Value::as_str).is_some_and(width) {
        object.remove("format");
    }
}

/// Descriptions come from wrapped comments.
fn unwrap_lines(object: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.split("\n\n").map(|p| p.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
}

/// `oneOf: [{const: a, description: A}, ..]` becomes `enum: [a, ..]` with the descriptions in one.
fn collect_words(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get("oneOf") else { return };
    let mut words = Vec::new();
    let mut lines = Vec::new();
    for choice in choices {
        let Some(word) = choice.get("const").and_then(Value::as_str) else { return };
        words.push(json!(word));
        if let Some(text) = choice.get("description").and_then(Value::as_str) {
            lines.push(format!("`{word}`: {text}"));
        }
    }
    let description = match object.get("description").and_then(Value::as_str) {
        Some(own) => format!("{own}\n{}", lines.join("\n")),
        None => lines.join("\n"),
    };
    object.remove("oneOf");
    object.insert("type".to_owned(), json!("string"));
    object.insert("enum".to_owned(), Value::Array(words));
    object.insert("description".to_owned(), json!(description));
}
