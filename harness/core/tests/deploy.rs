//! The files in `ci/deploy` parse, and keep what their README promises.

#![expect(clippy::unwrap_used, reason = "this is all test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/deploy")
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(deploy().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// What is read so far: a list, or a map and the key that waits for its value.
enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// The documents of a YAML file; texts stay texts.
fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let (mut open, mut done): (Vec<Open>, Vec<Value>) = (Vec::new(), Vec::new());
    for event in Parser::new_from_str(&text) {
        let (event, _) = event.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let value = match event {
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop().unwrap() {
                Open::List(list) => Value::Array(list),
                Open::Map(map, _) => Value::Object(map),
            },
            Event::Alias(_) => panic!("{}: an alias", path.display()),
            _ => continue,
        };
        match open.last_mut() {
            None => done.push(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => match key.take() {
                None => *key = Some(value.as_str().unwrap().to_owned()),
                Some(name) => {
                    let before = map.insert(name.clone(), value);
                    assert!(before.is_none(), "{}: {name} is there twice", path.display());
                }
            },
        }
    }
    done
}

#[test]
fn what_kubernetes_runs_is_bounded_and_locked_down() {
    let mut kinds = Vec::new();
    for file in files("kubernetes") {
        for document in documents(&file) {
            let place = file.file_name().unwrap().to_string_lossy().into_owned();
            let kind = document["kind"].as_str().unwrap().to_owned();
            assert!(
                document["apiVersion"].is_string() && document["metadata"]["name"].is_string(),
                "{place}"
            );
            let pod = match kind.as_str() {
                "CronJob" => {
                    let (spec, job) = (&document["spec"], &document["spec"]["jobTemplate"]["spec"]);
                    assert_eq!(spec["concurrencyPolicy"], "Forbid", "{place}");
                    assert!(
                        spec["schedule"].as_str().unwrap().parse::<firedrill_core::config::Cron>().is_ok()
                    );
                    assert!(
                        job["activeDeadlineSeconds"].as_str().unwrap().parse::<u32>().unwrap() > 0,
                        "{place}"
                    );
                    assert_eq!(job["backoffLimit"], "0", "{place}");
                    assert_eq!(job["template"]["spec"]["restartPolicy"], "Never", "{place}");
                    &job["template"]["spec"]
                }
                "Deployment" => {
                    assert_eq!(
                        (&document["spec"]["replicas"], &document["spec"]["strategy"]["type"]),
                        (&"1".into(), &"Recreate".into())
                    );
                    &document["spec"]["template"]["spec"]
                }
                "PersistentVolumeClaim" => {
                    kinds.push(kind);
                    continue;
                }
                other => panic!("{place}: {other} is not known to this test"),
            };
            kinds.push(kind);
            assert_eq!(pod["automountServiceAccountToken"], "false", "{place}");
            let [container] = pod["containers"].as_array().unwrap().as_slice() else { panic!("{place}") };
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], "false", "{place}");
            assert_eq!(security["readOnlyRootFilesystem"], "true", "{place}");
            assert_eq!(security["capabilities"]["drop"][0], "ALL", "{place}");
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{place}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{place}");
            assert!(container["envFrom"][0]["secretRef"]["name"].is_string(), "{place}");
            for variable in container["env"].as_array().into_iter().flatten() {
                let name = variable["name"].as_str().unwrap();
                let secret =
                    ["PASSWORD", "SECRET", "TOKEN", "CREDS", "KEY"].iter().any(|word| name.contains(word));
                assert!(!secret || variable["value"].is_null(), "{place}: {name} is written down");
            }
            let volumes: Vec<_> =
                pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
            for mount in container["volumeMounts"].as_array().unwrap() {
                assert!(volumes.contains(&&mount["name"]), "{place}: {mount}");
            }
        }
    }
    assert_eq!(kinds, ["CronJob", "CronJob", "CronJob", "PersistentVolumeClaim", "Deployment"]);
}

#[test]
fn systemd_understands_the_units() {
    let units = files("systemd");
    assert_eq!(units.len(), 3);
    if !firedrill_testing::have(&["systemd-analyze"]) {
        return;
    }
    // It wants to see the program, and templates by the name of an instance.
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]);
    for unit in &units {
        let name = unit.file_name().unwrap().to_string_lossy().replace("@.", "@grafana.");
        let text = std::fs::read_to_string(unit).unwrap();
        assert!(text.contains("[Unit]") && !text.to_lowercase().contains("password="), "{name}");
        std::fs::write(folder.path().join(&name), text.replace("/usr/local/bin/firedrill", "/bin/true"))
            .unwrap();
        command.arg(folder.path().join(&name));
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("firedrill")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
