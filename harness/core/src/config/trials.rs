//! What is tried on restored data beside the probes that know it by themselves: checks of a person's own, and the
//! application that the data belongs to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::databases::{AppDatabase, RowsQuery};
use super::model::Config;
use super::settings::Objectives;
use super::units::Span;
use crate::cell::{CELL_FOLDER, Kit};

/// A check of one's own: a program that looks at a copy of the restored data in a sealed cell. What it has to say
/// and how stands in the documentation of custom probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckConfig {
    /// Its name; the codes of its findings begin with `check.NAME.`.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// The program and its arguments: `[python3, invoices.py]`. It runs in the folder of `files`.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// The name under which `runtime` knows its programs or its image. Default: the name of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub kit: Option<String>,
    /// Files of this machine that it needs, such as its script; relative to the folder of this config.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// What it looks at: paths, absolute as backed up or relative to any backed-up path. Default: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// Variables for it, on top of the documented ones. They are no place for secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What it counts, plural, where it does not say so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub unit: Option<String>,
    /// At least this many items must have been checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_min: Option<u64>,
    /// Time for it; default: what is left of the drill's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// The application itself: it is started on a copy of the restored data, in a sealed cell, and must answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppConfig {
    /// The server and its arguments. It must stay in the foreground.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// The name under which `runtime` knows its programs or its image. Default: the name of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub kit: Option<String>,
    /// Variables for it. They are no place for secrets: the cell is thrown away, the config is not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What it gets, and where: paths in the snapshot to paths below `/cell`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Files for it, mostly its settings: paths below `/cell` to their text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Names that mean the cell itself inside it, such as that of the database server in its settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Databases that it needs, from dumps and data folders of the snapshot. They are there before the first step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<AppDatabase>,
    /// What happens in the cell before the server starts, in this order: another server, a migration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<StepConfig>,
    /// The port on which it listens, on the loopback address.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// What it is asked, in this order. The first one is repeated until it gets a good answer.
    #[schemars(length(min = 1))]
    pub http: Vec<HttpCheck>,
    /// Time for its first good answer.
    #[serde(default = "start_limit")]
    pub start_limit: Span,
}

fn start_limit() -> Span {
    Span(std::time::Duration::from_secs(120))
}

/// One step before an application starts: a program that must succeed, or a server that keeps running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    /// A program that runs to its end, and must succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub run: Option<Vec<String>>,
    /// A server that runs as long as the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub start: Option<Vec<String>>,
    /// Where the server listens: the next step waits for it. A unix socket below `/cell`, or a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub listens: Option<String>,
    /// The name under which `runtime` knows its programs or its image. Default: the name of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub kit: Option<String>,
    /// Variables for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

impl StepConfig {
    /// Its program and arguments.
    pub fn command(&self) -> &[String] {
        self.run.as_ref().or(self.start.as_ref()).map_or(&[], Vec::as_slice)
    }

    /// The name of its kit.
    pub fn kit(&self) -> &str {
        kit_of(self.kit.as_ref(), self.command())
    }
}

/// One request, and what a good answer looks like. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// The method.
    #[serde(default = "get", skip_serializing_if = "is_get")]
    #[schemars(length(min = 1))]
    pub method: String,
    /// The path with its query.
    #[schemars(length(min = 1))]
    pub path: String,
    /// Headers to send.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// The status, or those that are good; default 200.
    #[serde(default = "ok", skip_serializing_if = "is_ok")]
    pub status: Statuses,
    /// A regular expression that the body must match somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What the body holds, which must be JSON: pointers (`/0/name`; empty for all of it) to values or bounds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, JsonWanted>,
    /// Time for the answer.
    #[serde(default = "answer_limit")]
    pub timeout: Span,
}

fn get() -> String {
    "GET".to_owned()
}

fn is_get(method: &str) -> bool {
    method == "GET"
}

fn ok() -> Statuses {
    Statuses(vec![200])
}

fn is_ok(statuses: &Statuses) -> bool {
    *statuses == ok()
}

fn answer_limit() -> Span {
    Span(std::time::Duration::from_secs(30))
}

/// One status or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Statuses(pub Vec<u16>);

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Typed {
            One(u16),
            Many(Vec<u16>),
        }
        Ok(Self(match Typed::deserialize(deserializer)? {
            Typed::One(one) => vec![one],
            Typed::Many(many) => many,
        }))
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "array"],
            "minimum": 100,
            "maximum": 599,
            "items": { "type": "integer", "minimum": 100, "maximum": 599 },
            "minItems": 1,
            "description": "One status, or a list of them."
        })
    }
}

/// What is wanted of one place in a JSON document.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum JsonWanted {
    /// Bounds.
    Within(JsonBounds),
    /// Exactly this value.
    Equal(Value),
}

/// An object means bounds: whole objects are not compared.
impl<'de> Deserialize<'de> for JsonWanted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            bounds @ Value::Object(_) => {
                serde_json::from_value(bounds).map(Self::Within).map_err(serde::de::Error::custom)
            }
            value => Ok(Self::Equal(value)),
        }
    }
}

/// Bounds of one place in a JSON document. A number counts as itself; a list, an object or a text counts as long as
/// it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonBounds {
    /// At least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// At most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

impl JsonSchema for JsonWanted {
    fn schema_name() -> Cow<'static, str> {
        "JsonWanted".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number", "boolean", "array", "object"],
            "properties": {
                "min": { "type": "number", "description": "At least this number, or this many items." },
                "max": { "type": "number", "description": "At most this number, or this many items." }
            },
            "additionalProperties": false,
            "minProperties": 1,
            "description": "A value, or bounds: `{min: 1}`. A list, an object or a text counts as long as it is."
        })
    }
}

/// What holds between a database and files: every row has its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvariantConfig {
    /// Its name in findings.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What the database says.
    pub query: RowsQuery,
    /// The path of the file of a row, with `{1}` for the first column and so on. A row where such a column is NULL
    /// has no file.
    #[schemars(length(min = 1))]
    pub file: String,
    /// The MD5 of its content in hexadecimal digits, mostly a column: `{2}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub md5: Option<String>,
    /// The SHA-256 of its content in hexadecimal digits, mostly a column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub sha256: Option<String>,
    /// A folder in which every file must have its row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub only: Option<String>,
    /// At least this many rows.
    #[serde(default = "one")]
    pub rows_min: u64,
}

fn one() -> u64 {
    1
}

/// A text with `{1}` for the first column of a row and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// Counted from 0.
    Column(usize),
}

/// More columns than this nobody asks for.
const COLUMNS_MAX: usize = 100;

impl Template {
    /// Understands `text`. `Err` says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            pieces.push(Piece::Text(before.to_owned()));
            let (number, after) = after.split_once('}').ok_or_else(|| format!("`{{{after}` has no `}}`"))?;
            let column = number.parse::<usize>().ok().filter(|n| (1..=COLUMNS_MAX).contains(n));
            let column = column.ok_or_else(|| format!("`{{{number}}}` is no column"))?;
            pieces.push(Piece::Column(column - 1));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The columns that it uses, counted from 0.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Column(column) => Some(*column),
            Piece::Text(_) => None,
        })
    }

    /// The text for one row; `None` where a column is NULL or not there.
    pub fn fill(&self, row: &[Option<String>]) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(own) => text.push_str(own),
                Piece::Column(column) => text.push_str(row.get(*column)?.as_deref()?),
            }
        }
        Some(text)
    }
}

/// Targets that only mean something together. Paths begin with the name of a target: `paperless-db/db.sqlite3`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Its name in drills and reports.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), length(max = 63))]
    pub name: String,
    /// The targets, in the order in which they are restored: the database before its application.
    #[schemars(length(min = 1))]
    pub targets: Vec<String>,
    /// What was promised about the whole.
    #[serde(default)]
    pub objectives: Objectives,
    /// Snapshots may be this far apart in time. The latest ones that are near enough are restored; where there are
    /// none, that is a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_skew: Option<Span>,
    /// What holds between a database and files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invariants: Vec<InvariantConfig>,
    /// Checks of one's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckConfig>,
    /// The application, which is started on the restored data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppConfig>,
}

/// The name under which a runtime knows the software of `command`.
fn kit_of<'c>(kit: Option<&'c String>, command: &'c [String]) -> &'c str {
    let program = command.first().map_or("", String::as_str);
    kit.map_or_else(|| program.rsplit('/').next().unwrap_or(program), String::as_str)
}

impl CheckConfig {
    /// The name of its kit.
    pub fn kit(&self) -> &str {
        kit_of(self.kit.as_ref(), &self.command)
    }
}

impl AppConfig {
    /// The name of its kit.
    pub fn kit(&self) -> &str {
        kit_of(self.kit.as_ref(), &self.command)
    }

    /// All software that it needs, its own first. What its databases need depends on their dumps.
    pub fn kits(&self) -> Vec<Kit> {
        let mut kits: Vec<Kit> = Vec::new();
        let own = (self.kit(), self.command.as_slice());
        let commands =
            std::iter::once(own).chain(self.before.iter().map(|step| (step.kit(), step.command())));
        for (name, command) in commands {
            let Some(program) = command.first() else { continue };
            let known = kits.iter_mut().find(|kit| kit.name == name);
            match known {
                Some(kit) if kit.programs.contains(program) => {}
                Some(kit) => kit.programs.push(program.clone()),
                None => kits.push(Kit {
                    name: name.to_owned(),
                    at_least: None,
                    at_most: None,
                    programs: vec![program.clone()],
                }),
            }
        }
        kits
    }
}

/// A path that a config gives inside a cell, as it is there: below [`CELL_FOLDER`], whether or not that is written.
pub fn in_cell(path: &str) -> Option<String> {
    let rest = path.strip_prefix(CELL_FOLDER).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path);
    let inside = format!("{CELL_FOLDER}/{}", rest.trim_end_matches('/'));
    crate::cell::below(&inside).filter(|below| !below.as_os_str().is_empty()).map(|_| inside)
}

/// A file that the config names and that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFile {
    /// Who needs it.
    pub check: String,
    /// Where it was looked for.
    pub path: PathBuf,
}

impl Config {
    /// Looks the files of checks up from `folder`, that of the config, and returns those that are not there.
    /// Everything else in a config is understood without looking at any file.
    pub fn find_files(&mut self, folder: &Path) -> Vec<MissingFile> {
        let mut missing = Vec::new();
        for check in self.checks_mut() {
            for file in &mut check.files {
                let path = folder.join(&*file);
                let path = std::path::absolute(&path).unwrap_or(path);
                if !path.is_file() {
                    missing.push(MissingFile { check: check.name.clone(), path: path.clone() });
                }
                *file = path;
            }
        }
        missing
    }

    fn checks_mut(&mut self) -> impl Iterator<Item = &mut CheckConfig> {
        let groups = self.groups.iter_mut().flat_map(|group| &mut group.checks);
        self.targets.iter_mut().flat_map(|target| &mut target.checks).chain(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_a_cell_stay_in_it() {
        for (path, inside) in
            [("a/b", Some("/cell/a/b")), ("/cell/a", Some("/cell/a")), ("data/", Some("/cell/data"))]
        {
            assert_eq!(in_cell(path).as_deref(), inside, "{path}");
        }
        for path in ["", "/", "/cell", "/cell/", "../x", "a/../../x", "/etc/x", "/cell/../x"] {
            assert_eq!(in_cell(path), None, "{path}");
        }
    }

    #[test]
    fn an_object_means_bounds_and_everything_else_itself() {
        let wanted: JsonWanted = serde_json::from_str(r#"{"min": 1}"#).unwrap();
        assert_eq!(wanted, JsonWanted::Within(JsonBounds { min: Some(1.0), max: None }));
        let wanted: JsonWanted = serde_json::from_str(r#""x""#).unwrap();
        assert_eq!(wanted, JsonWanted::Equal("x".into()));
        assert!(serde_json::from_str::<JsonWanted>(r#"{"mni": 1}"#).is_err());
    }

    #[test]
    fn templates_are_filled_from_rows() {
        let row = [Some("a/b".to_owned()), None, Some("c".to_owned())];
        let fill = |text: &str| Template::new(text).unwrap().fill(&row);
        assert_eq!(fill("x/{1}.{3}").as_deref(), Some("x/a/b.c"));
        assert_eq!(fill("{2}"), None, "NULL");
        assert_eq!(fill("{4}"), None, "no such column");
        assert_eq!(fill("plain").as_deref(), Some("plain"));
        for text in ["{", "{}", "{0}", "{x}", "{1", "{101}"] {
            assert!(Template::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_kit_is_called_like_the_program() {
        let check = |command: &str| CheckConfig { command: vec![command.to_owned()], ..Default::default() };
        assert_eq!(check("/usr/bin/python3").kit(), "python3");
        assert_eq!(CheckConfig { kit: Some("py".into()), ..check("python3") }.kit(), "py");
    }
}
