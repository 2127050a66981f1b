//! The house rules, as tests: what a reviewer would otherwise have to say again and again.
//!
//! They look at files that git knows and at `cargo metadata`, so a rule holds for code that nobody has
//! written yet. An exception stands in a list here, with its reason.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which crates of this workspace a crate may depend on.
const DIRECTIONS: [(&str, &[&str]); 6] = [
    ("firedrill-testing", &[]),
    ("firedrill-core", &["firedrill-testing"]),
    ("firedrill-backends", &["firedrill-core", "firedrill-testing"]),
    ("firedrill-reports", &["firedrill-core", "firedrill-testing"]),
    ("firedrill-scenarios", &["firedrill-core", "firedrill-backends", "firedrill-testing"]),
    ("firedrill", &["firedrill-core", "firedrill-backends", "firedrill-reports", "firedrill-scenarios"]),
];

/// What the core must never pull in, not even through others: it only knows nouns and rules.
const CORE_MUST_NOT_NEED: [&str; 13] = [
    "rustic_core",
    "rustic_backend",
    "kube",
    "k8s-openapi",
    "aws-config",
    "aws-sdk-s3",
    "aws-smithy-runtime",
    "tokio-postgres",
    "mysql_async",
    "testcontainers",
    "libtest-mimic",
    "rusqlite",
    "reqwest",
];

/// Licences that may be combined with "MIT OR Apache-2.0" in a program that is given away. `deny.toml`
/// holds the same list.
const LICENCES: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

const LINES_MAX: usize = 800;

/// Files that may be longer, and why.
const LONG_FILES: [(&str, &str); 2] = [
    ("Cargo.lock", "written by cargo"),
    ("harness/docs/firedrill.schema.json", "written from the types of the config"),
];

/// Files in which tabs are syntax.
const TAB_FILES: [&str; 1] = ["Makefile"];

const ROOMS: [&str; 5] = ["harness", "backends", "scenarios", "reports", "ci"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace exists")
}

/// Paths of all files that git tracks and that still exist. Fails outside a git checkout: a rule that
/// looks at nothing would always hold.
fn tracked() -> Vec<String> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("tidy needs git");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths: Vec<String> = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty())
        .map(|path| String::from_utf8(path.to_vec()).expect("file names in the repository are UTF-8"))
        .filter(|path| root().join(path).is_file())
        .collect();
    assert!(!paths.is_empty(), "git tracks no file here");
    paths
}

/// Whether the content is given from outside (recorded output, fixtures) rather than written by hand.
fn is_data(path: &str) -> bool {
    path.ends_with(".snap") || path.ends_with(".svg") || path.split('/').any(|part| part == "fixtures")
}

/// Path and text of every tracked text file that is written by hand.
fn texts() -> Vec<(String, String)> {
    tracked()
        .into_iter()
        .filter(|path| !is_data(path))
        .filter_map(|path| {
            let text = String::from_utf8(std::fs::read(root().join(&path)).ok()?).ok()?;
            (!text.contains('\0')).then_some((path, text))
        })
        .collect()
}

/// Fails with one line per offence, so that all are seen at once.
fn none(offences: Vec<String>, rule: &str) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

/// Every line of every text for which `offends` gives a reason.
fn offences_by_line(offends: impl Fn(&str, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            if let Some(reason) = offends(&path, line) {
                found.push(format!("{path}:{}: {reason}", number + 1));
            }
        }
    }
    found
}

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--all-features"])
        // What other platforms would pull in is neither downloaded nor shipped.
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn members(metadata: &Value) -> Vec<&Value> {
    let ids: BTreeSet<&str> = list(metadata, "workspace_members").filter_map(Value::as_str).collect();
    list(metadata, "packages").filter(|package| ids.contains(text(package, "id"))).collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let metadata = metadata();
    let members = members(&metadata);
    let names: BTreeSet<&str> = members.iter().map(|package| text(package, "name")).collect();
    let allowed: BTreeMap<&str, &[&str]> = DIRECTIONS.into_iter().collect();
    assert_eq!(names, allowed.keys().copied().collect(), "DIRECTIONS must name every crate of the workspace");
    let mut offences = Vec::new();
    for package in members {
        let name = text(package, "name");
        for dependency in list(package, "dependencies") {
            let other = text(dependency, "name");
            if names.contains(other) && !allowed.get(name).is_some_and(|to| to.contains(&other)) {
                offences.push(format!("{name} depends on {other}"));
            }
        }
    }
    none(offences, "dependencies run cli -> {scenarios, backends, reports} -> core, scenarios -> backends");
}

/// Names of everything that `name` needs to be built, through others too.
fn needs(metadata: &Value, name: &str) -> BTreeSet<String> {
    let packages: BTreeMap<&str, &str> =
        list(metadata, "packages").map(|package| (text(package, "id"), text(package, "name"))).collect();
    let nodes: BTreeMap<&str, &Value> = metadata
        .get("resolve")
        .map(|resolve| list(resolve, "nodes").map(|node| (text(node, "id"), node)).collect())
        .unwrap_or_default();
    let mut open: Vec<&str> =
        packages.iter().filter(|(_, package)| **package == name).map(|(id, _)| *id).collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes.get(id).into_iter().flat_map(|node| list(node, "deps")) {
            if list(dependency, "dep_kinds").any(|kind| text(kind, "kind") != "dev") {
                open.push(text(dependency, "pkg"));
            }
        }
    }
    seen.iter().filter_map(|id| packages.get(id)).map(|package| (*package).to_owned()).collect()
}

#[test]
fn the_core_needs_no_outside_system() {
    let metadata = metadata();
    let needed = needs(&metadata, "firedrill-core");
    assert!(needed.contains("serde"), "the walk through the dependencies found nothing");
    assert!(needs(&metadata, "firedrill-backends").contains("rustic_core"), "the walk misses what is there");
    let offences =
        CORE_MUST_NOT_NEED.into_iter().filter(|name| needed.contains(*name)).map(str::to_owned).collect();
    none(offences, "the core must not need these crates");
}

#[test]
fn crates_share_the_licence_and_the_lints_of_the_workspace() {
    let metadata = metadata();
    let mut offences = Vec::new();
    for package in members(&metadata) {
        let name = text(package, "name");
        if text(package, "license") != "MIT OR Apache-2.0" {
            offences.push(format!("{name}: license = {:?}", text(package, "license")));
        }
        let manifest =
            std::fs::read_to_string(text(package, "manifest_path")).expect("the manifest is there");
        if !manifest.contains("[lints]\nworkspace = true") {
            offences.push(format!("{name}: `[lints] workspace = true` is missing"));
        }
    }
    for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
        if !root().join(file).is_file() {
            offences.push(format!("{file} is missing"));
        }
    }
    none(offences, "every crate has the workspace's licence and lints");
}

/// Whether an SPDX expression can be satisfied with allowed licences alone. `/` is an old way to write OR.
fn acceptable(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let accepted = any_of(&words, &mut at);
    accepted && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize) -> bool {
    let mut accepted = all_of(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        accepted |= all_of(words, at);
    }
    accepted
}

fn all_of(words: &[&str], at: &mut usize) -> bool {
    let mut accepted = licence(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        accepted &= licence(words, at);
    }
    accepted
}

fn licence(words: &[&str], at: &mut usize) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let accepted = any_of(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return accepted && closed;
    }
    let mut name = (*word).to_owned();
    if let (Some(&"WITH"), Some(exception)) = (words.get(*at), words.get(*at + 1)) {
        name = format!("{name} WITH {exception}");
        *at += 2;
    }
    LICENCES.contains(&name.as_str())
}

#[test]
fn licence_expressions_are_understood() {
    for good in
        ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-2.0) AND Zlib", "MIT AND (ISC OR 0BSD)"]
    {
        assert!(acceptable(good), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "GPL-2.0 WITH LLVM-exception", "(MIT", "MIT MIT", "OR MIT"]
    {
        assert!(!acceptable(bad), "{bad}");
    }
}

#[test]
fn dependencies_have_allowed_licences() {
    let metadata = metadata();
    let offences: Vec<String> = list(&metadata, "packages")
        .filter(|package| !acceptable(text(package, "license")))
        .map(|package| {
            format!("{} {}: {:?}", text(package, "name"), text(package, "version"), text(package, "license"))
        })
        .collect();
    none(offences, "these dependencies have a licence that is not in the list");
}

#[test]
fn dependencies_come_from_a_registry() {
    let metadata = metadata();
    let members: BTreeSet<&str> = members(&metadata).iter().map(|package| text(package, "id")).collect();
    let offences: Vec<String> = list(&metadata, "packages")
        .filter(|package| !members.contains(text(package, "id")))
        .filter(|package| !text(package, "source").starts_with("registry+"))
        .map(|package| format!("{} from {:?}", text(package, "name"), text(package, "source")))
        .collect();
    none(offences, "a dependency from git or from a folder cannot be built from a fresh clone for ever");
}

#[test]
fn the_licence_list_of_deny_toml_is_the_same() {
    let deny = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml is there");
    let (_, rest) = deny.split_once("allow = [").expect("deny.toml lists licences");
    let (list, _) = rest.split_once(']').expect("the list ends");
    let listed: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    assert_eq!(listed, LICENCES.into_iter().collect());
}

/// The module documentation at the head of a Rust file.
fn module_doc(text: &str) -> String {
    text.lines().map_while(|line| line.strip_prefix("//!")).collect::<Vec<_>>().join("\n")
}

#[test]
fn probes_say_what_they_do_not_verify() {
    let mut offences = Vec::new();
    let mut probes = 0;
    for (path, text) in texts() {
        let Some(below) = path.strip_prefix("backends/src/probe/") else { continue };
        let module = below.strip_suffix("/mod.rs").or_else(|| below.strip_suffix(".rs")).unwrap_or("/");
        if module.contains('/') || !text.contains("\nimpl Probe for ") {
            continue;
        }
        probes += 1;
        let doc = module_doc(&text);
        if !(doc.contains("Not verified") && doc.replace("Not verified", "").contains("Verified")) {
            offences.push(path);
        }
    }
    assert!(probes >= 6, "the probes have moved; this test looks at {probes} of them");
    none(offences, "the module doc of a probe needs *Verified* and *Not verified*");
}

#[test]
fn files_stay_short() {
    let offences = texts()
        .into_iter()
        .filter(|(path, _)| !LONG_FILES.iter().any(|(long, _)| long == path))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    none(offences, "no file is longer than 800 lines; split it, or give a reason in LONG_FILES");
}

#[test]
fn nothing_is_left_to_be_done() {
    // Spelt in pieces, so that this file does not offend against itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let macros = [concat!("todo", "!("), concat!("unimplemented", "!(")];
    let offences = offences_by_line(|path, line| {
        let word = line.split(|c: char| !c.is_alphanumeric() && c != '_').find(|word| words.contains(word));
        let found = word.or_else(|| macros.into_iter().find(|name| line.contains(name)))?;
        (path != "Cargo.lock").then(|| found.to_owned())
    });
    none(offences, "finish it, or write down in words what is missing");
}

#[test]
fn no_path_of_one_machine() {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let offences = offences_by_line(|_, line| {
        let found = places.into_iter().find(|place| {
            line.match_indices(place).any(|(at, _)| {
                // In the middle of a path it is a folder like any other.
                let before = line.get(..at).and_then(|head| head.chars().last());
                !before.is_some_and(|c| c.is_alphanumeric() || "._-})]>*".contains(c))
            })
        })?;
        Some(found.to_owned())
    });
    none(offences, "an absolute path of one machine means nothing elsewhere; use another one in examples");
}

#[test]
fn lines_are_clean() {
    let offences = offences_by_line(|path, line| {
        if line.ends_with([' ', '\t']) {
            return Some("space at the end".to_owned());
        }
        if line.ends_with('\r') {
            return Some("carriage return".to_owned());
        }
        (line.contains('\t') && !TAB_FILES.contains(&path)).then(|| "tab".to_owned())
    });
    none(offences, "no tabs, no spaces at the end of a line");
    let unfinished = texts()
        .into_iter()
        .filter(|(_, text)| !text.is_empty() && !text.ends_with('\n'))
        .map(|(path, _)| path);
    none(unfinished.collect(), "a text file ends with a new line");
}

#[test]
fn warnings_are_expected_with_a_reason_not_allowed() {
    let needles = [concat!("#[al", "low("), concat!("#![al", "low(")];
    let offences = offences_by_line(|path, line| {
        (path.ends_with(".rs") && needles.iter().any(|needle| line.contains(needle)))
            .then(|| line.trim().to_owned())
    });
    none(offences, "use #[expect(..., reason = \"...\")]: it tells when it is no longer needed");
}

#[test]
fn every_room_has_a_readme() {
    let tracked = tracked();
    let rooms: BTreeSet<&str> = tracked
        .iter()
        .filter_map(|path| path.split_once('/'))
        .map(|(folder, _)| folder)
        .filter(|folder| !folder.starts_with('.'))
        .collect();
    assert_eq!(rooms, ROOMS.into_iter().collect(), "ROOMS must name every top-level folder");
    let mut offences = Vec::new();
    for room in rooms {
        let readme = std::fs::read_to_string(root().join(room).join("README.md")).unwrap_or_default();
        for section in ["## Owns", "## Must never", "## How to add"] {
            if !readme.contains(section) {
                offences.push(format!("{room}/README.md: no section {section:?}"));
            }
        }
    }
    none(offences, "each room says what it owns, what it must never do, and how to add to it");
}
