//! The example configs and those in the documentation stay valid, complete and free of warnings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Config, load, read, schema};
use crate::plan::{Limits, Selection};
use crate::planner::{Filter, Request, plan};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn example(name: &str) -> Config {
    let text = read(&repository().join(format!("ci/examples/{name}.yaml"))).unwrap();
    accepted(&text, name)
}

fn accepted(text: &str, name: &str) -> Config {
    let loaded = load(text, name).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    loaded.config
}

/// The drills of a run that could open none of the copies.
fn drills(config: &Config) -> BTreeSet<String> {
    let request = Request {
        seed: 1,
        at: "2026-01-10T12:00:00Z".parse().unwrap(),
        filter: Filter::default(),
        limits: Limits::default(),
        proven: Vec::new(),
        control: true,
    };
    let plan = plan(Some(config), &[], &request).unwrap();
    assert!(plan.drills.iter().all(|d| d.selection == Selection::Unknown), "nothing looks tested");
    plan.drills.into_iter().map(|d| d.name.0).collect()
}

#[test]
fn every_example_is_valid_without_warnings() {
    let names: BTreeSet<String> = std::fs::read_dir(repository().join("ci/examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    for needed in ["minimal", "s0", "s1", "s2", "s3", "s4"] {
        assert!(names.contains(needed), "{needed}.yaml is missing");
    }
    for name in names {
        example(&name);
    }
}

#[test]
fn every_system_of_the_reference_setups_is_planned() {
    for (name, count) in [("minimal", 0), ("s0", 9), ("s1", 12), ("s2", 21), ("s3", 2), ("s4", 5)] {
        let config = example(name);
        assert_eq!(drills(&config).len(), count, "{name}");
        for target in &config.targets {
            assert!(target.schedule.is_some() && target.objectives.rpo.is_some(), "{name}: {}", target.name);
        }
    }
    let s1 = drills(&example("s1"));
    assert!(s1.contains("local::mariadb::latest") && s1.contains("wasabi::paperless::latest"), "{s1:?}");
    let s4 = drills(&example("s4"));
    assert!(s4.contains("etcd-offsite::etcd::latest") && !s4.contains("minio::weekly-offsite::latest"));
}

#[test]
fn the_documentation_shows_configs_that_work() {
    let text = read(&repository().join("harness/docs/config.md")).unwrap();
    let others = read(&repository().join("harness/docs/custom-probes.md")).unwrap();
    let all = format!("{text}{others}");
    let blocks: Vec<&str> = all.split("```yaml\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    let whole: Vec<&str> = blocks.iter().filter(|b| b.starts_with("version: 1")).copied().collect();
    assert!(!whole.is_empty());
    for block in &whole {
        accepted(block, "config.md");
    }
    for part in blocks.iter().filter(|b| !b.starts_with("version: 1")) {
        let mut text = format!("version: 1\n{part}");
        if !part.contains("copies:\n") {
            text.push_str("copies: [{name: primary, repository: /srv/restic}]\n");
        }
        accepted(&text, "a part of config.md");
    }
    let keys = schema()["properties"].as_object().unwrap().clone();
    for key in keys.keys() {
        assert!(text.contains(&format!("{key}:")), "config.md does not show `{key}`");
    }
}

/// Editors read the schema from a file; it must be the one that the config is checked against.
#[test]
fn the_schema_file_is_current() {
    let path = repository().join("harness/docs/firedrill.schema.json");
    let current = format!("{:#}\n", schema());
    if std::env::var_os("FIREDRILL_UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == current, "run this test once more with FIREDRILL_UPDATE_SCHEMA=1");
}
