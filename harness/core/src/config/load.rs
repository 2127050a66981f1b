//! From text to a [`Config`], or to every mistake in it.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::model::Config;
use super::problem::{Place, Problem, Problems, Severity};
use super::{explain, semantic, yaml};
use crate::error::{Error, ErrorKind, Result};

/// A config that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What is probably not meant that way.
    pub warnings: Problems,
}

/// Reads the text of a config file, with a limit on its size.
pub fn read(path: &Path) -> Result<String> {
    let fail = |e: &dyn std::error::Error| {
        Error::new(ErrorKind::Usage, format!("read the config {}", path.display())).from_source(e)
    };
    let file = std::fs::File::open(path).map_err(|e| fail(&e))?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that `load` can tell that it is too much.
    file.take(yaml::TEXT_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
    if bytes.len() > yaml::TEXT_MAX {
        return Err(Error::new(ErrorKind::Usage, format!("read the config {}", path.display()))
            .because(format!("it is larger than {} MiB", yaml::TEXT_MAX >> 20))
            .advise("is this the right file?"));
    }
    String::from_utf8(bytes).map_err(|e| fail(&e.utf8_error()).advise("save it as UTF-8"))
}

/// Understands the text of a config. `origin` is what messages call it, mostly the file name. Looks
/// at no file and no environment variable.
pub fn load(text: &str, origin: &str) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let config = understand(text, &mut problems);
    let failed = problems.iter().any(|p| p.severity == Severity::Error);
    let problems = Problems::new(origin, text, problems);
    match config {
        Some(config) if !failed => Ok(Loaded { config, warnings: problems }),
        _ => Err(problems),
    }
}

fn understand(text: &str, problems: &mut Vec<Problem>) -> Option<Config> {
    let document = yaml::parse(text, problems)?;
    explain::check(&document, problems);
    semantic::check(&document, problems);
    if problems.iter().any(|p| p.severity == Severity::Error) {
        return None;
    }
    match serde_json::from_value(merge_probes(document.value.clone())) {
        Ok(config) => {
            semantic::jobs::overlaps(&config, &document, problems);
            Some(config)
        }
        Err(error) => {
            // The schema and the types disagree; say what the types said.
            problems.push(Problem::error(Place::START, "", error.to_string()));
            None
        }
    }
}

/// Lays the `probes` of each target over the top-level ones, field by field.
fn merge_probes(mut value: Value) -> Value {
    let Some(common) = value.get("probes").cloned() else { return value };
    if let Some(Value::Array(targets)) = value.get_mut("targets") {
        for target in targets.iter_mut().filter_map(Value::as_object_mut) {
            let mut probes = common.clone();
            if let Some(own) = target.remove("probes") {
                overlay(&mut probes, own);
            }
            target.insert("probes".to_owned(), probes);
        }
    }
    value
}

fn overlay(base: &mut Value, top: Value) {
    match (base, top) {
        (Value::Object(base), Value::Object(top)) => {
            for (key, value) in top {
                overlay(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, top) => *base = top,
    }
}
