//! The judgement as JSON, for programs: pretty in a file, compact on stdout.
//!
//! Fields are those of [`Judgement`]: added over time, never renamed.

use std::io::Write;
use std::path::PathBuf;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::judge::Judgement;
use firedrill_core::ports::Sink;
use firedrill_core::secret::redact_urls;
use serde_json::Value;

use crate::file;

/// Where the JSON goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Stdout,
}

/// Writes the judgement as JSON.
#[derive(Clone, Debug)]
pub struct Json(Place);

impl Json {
    /// Writes it to a file, pretty.
    pub fn to_file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// Writes it to stdout, on one line.
    pub fn to_stdout() -> Self {
        Self(Place::Stdout)
    }
}

impl Sink for Json {
    fn name(&self) -> String {
        match &self.0 {
            Place::File(path) => format!("json {}", path.display()),
            Place::Stdout => "json".to_owned(),
        }
    }

    fn preflight(&mut self) -> Result<()> {
        match &self.0 {
            Place::File(path) => file::check("the JSON report", path, file::Folder::Make),
            Place::Stdout => Ok(()),
        }
    }

    fn finish(&mut self, judgement: &Judgement) -> Result<()> {
        match &self.0 {
            Place::File(path) => {
                file::write("the JSON report", path, render(judgement, Layout::Pretty)?.as_bytes())
            }
            Place::Stdout => {
                let json = render(judgement, Layout::Compact)?;
                let mut stdout = std::io::stdout().lock();
                stdout
                    .write_all(json.as_bytes())
                    .and_then(|()| stdout.flush())
                    .map_err(|e| Error::new(ErrorKind::Unavailable, "write JSON to stdout").from_source(&e))
            }
        }
    }
}

/// How JSON is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// With line breaks and indents.
    Pretty,
    /// On one line.
    Compact,
}

/// The judgement as JSON text that ends in a newline. Credentials in URLs are hidden.
pub fn render(judgement: &Judgement, layout: Layout) -> Result<String> {
    let failed = |e: serde_json::Error| {
        Error::new(ErrorKind::Internal, "turn the judgement into JSON").from_source(&e)
    };
    let mut value = serde_json::to_value(judgement).map_err(failed)?;
    redact(&mut value);
    let mut text = match layout {
        Layout::Pretty => serde_json::to_string_pretty(&value),
        Layout::Compact => serde_json::to_string(&value),
    }
    .map_err(failed)?;
    text.push('\n');
    Ok(text)
}

/// Hides credentials in every string. The depth is that of a judgement, which is bounded by its type,
/// except for the JSON values in baselines; `serde_json` refuses to read those when they are nested deeply.
fn redact(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("://") => *text = redact_urls(text),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => fields.values_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_is_written_can_be_read_again() {
        for (name, judgement) in fixture::all() {
            for layout in [Layout::Pretty, Layout::Compact] {
                let text = render(&judgement, layout).unwrap();
                let read: Judgement = serde_json::from_str(&text).unwrap();
                assert_eq!(read.verdict, judgement.verdict, "{name}");
                assert_eq!(read.drills.len(), judgement.drills.len(), "{name}");
                assert!(!fixture::leaks(&text), "{name}");
            }
            assert_eq!(render(&judgement, Layout::Compact).unwrap().lines().count(), 1, "{name}");
        }
    }

    #[test]
    fn a_judgement_without_secrets_is_written_unchanged() {
        let judgement = fixture::two_copies();
        let read: Judgement = serde_json::from_str(&render(&judgement, Layout::Pretty).unwrap()).unwrap();
        assert_eq!(read, judgement);
    }

    #[test]
    fn the_file_is_written_and_a_bad_place_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/report.json");
        let mut sink = Json::to_file(&path);
        sink.preflight().unwrap();
        sink.finish(&fixture::all_verified()).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("{\n"));
        assert!(Json::to_file(folder.path()).preflight().is_err());
    }

    #[test]
    fn a_control_that_is_switched_off_has_a_state_of_its_own() {
        let text = render(&fixture::control_off(), Layout::Compact).unwrap();
        assert!(text.contains(r#""state":"switched_off""#), "{text}");
    }
}
