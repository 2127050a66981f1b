//! `firedrill backup`, with the environment of the script that it stands in for.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use firedrill_testing::have;
use serde_json::Value;

use super::listener::Listener;
use super::{PASSWORD, told};
use crate::binary;

struct Pod {
    folder: tempfile::TempDir,
}

impl Pod {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config", "two words"] {
            fs::create_dir_all(folder.path().join("data").join(name)).unwrap();
            fs::write(folder.path().join("data").join(name).join("file"), name).unwrap();
        }
        fs::create_dir(folder.path().join("data/config/lost+found")).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// One run of a pod: nothing is left from the one before but the repository.
    fn run(&self, variables: &[(&str, &str)]) -> Output {
        let state = tempfile::tempdir_in(self.path()).unwrap();
        let data = self.path().join("data").display().to_string();
        let mut command = Command::new(binary::binary().unwrap());
        command.arg("backup").arg("--state").arg(state.path()).stdin(Stdio::null()).env_clear();
        command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RESTIC_REPOSITORY", self.path().join("repository"))
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("RESTIC_SOURCE", format!("{data}/config '{data}/two words'"))
            .env("RESTIC_HOSTNAME", "grafana")
            .env("RESTIC_ADDITIONAL_BACKUP_PARAMETERS", "--tag grafana --exclude lost+found")
            .env("RESTIC_RETENTION_POLICIES_ENABLED", "false");
        for (name, value) in variables {
            match *value {
                "UNSET" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        command.output().unwrap()
    }

    fn restic(&self, arguments: &[&str]) -> Output {
        let mut restic = Command::new("restic");
        restic.args(["--no-cache", "-q"]).args(arguments);
        restic.env("RESTIC_REPOSITORY", self.path().join("repository")).env("RESTIC_PASSWORD", PASSWORD);
        restic.output().unwrap()
    }

    fn snapshots(&self) -> Vec<Value> {
        serde_json::from_slice(&self.restic(&["snapshots", "--json"]).stdout).unwrap_or_default()
    }
}

#[test]
fn restic_reads_what_it_backs_up_and_dashboards_what_it_pushes() {
    if !have(&["restic"]) {
        return;
    }
    let (pod, gateway, ntfy) = (Pod::new(), Listener::start(), Listener::start());
    let cache = pod.path().join("cache").display().to_string();
    let usual = [
        ("PUSHGATEWAY_ENABLED", "true"),
        ("PUSHGATEWAY_URL", gateway.url.trim_start_matches("http://")),
        ("NTFY_ENABLED", "true"),
        ("NTFY_SERVER", ntfy.url.as_str()),
        ("NTFY_CREDS", "-u me:s3cret"),
    ];
    let with = |more: &[(&'static str, &str)]| {
        let all: Vec<(&str, &str)> = usual.iter().copied().chain(more.iter().copied()).collect();
        pod.run(&all)
    };
    let first = with(&[("RESTIC_CACHE_DIR", &cache)]);
    assert_eq!(first.status.code(), Some(0), "{}", told(&first));
    assert!(told(&first).contains("grafana-check succeeded"), "{}", told(&first));
    let snapshots = pod.snapshots();
    let [snapshot] = snapshots.as_slice() else { panic!("{snapshots:#?}") };
    assert_eq!((&snapshot["hostname"], &snapshot["tags"][0]), (&"grafana".into(), &"grafana".into()));
    let data = pod.path().join("data").display().to_string();
    assert_eq!(snapshot["paths"], serde_json::json!([format!("{data}/config"), format!("{data}/two words")]));
    let file = pod.restic(&["dump", "latest", &format!("{data}/two words/file")]);
    assert_eq!(file.stdout, b"two words");
    let list = told(&pod.restic(&["ls", "latest"]));
    assert!(list.contains("config/file") && !list.contains("lost+found"), "{list}");
    assert!(pod.restic(&["check", "--read-data"]).status.success());
    let pushed = gateway.heard();
    let own = pushed.iter().find(|(line, _)| line.contains("/metrics/job/backup/instance/grafana ")).unwrap();
    assert!(own.0.starts_with("PUT ") && own.1.contains("backup_status{status=\"success\"} 0\n"), "{own:?}");
    assert!(own.1.contains("\nbackup_duration_seconds ") && own.1.starts_with("backup_start_timestamp "));
    assert!(ntfy.heard().is_empty(), "nothing failed");

    // A title that is a command of the shell is not run.
    let bait = pod.path().join("bait");
    let title = format!("$(touch {})", bait.display());
    let failed =
        with(&[("RESTIC_SOURCE", "/there/is/nothing"), ("NTFY_TITLE", &title), ("NTFY_PRIO", "urgent")]);
    assert_eq!(failed.status.code(), Some(1), "{}", told(&failed));
    assert!(
        told(&failed).contains("/there/is/nothing") && !told(&failed).contains("s3cret"),
        "{}",
        told(&failed)
    );
    assert_eq!(pod.snapshots().len(), 1);
    assert!(!bait.exists());
    let heard = ntfy.heard();
    let [(line, body)] = heard.as_slice() else { panic!("{heard:?}") };
    let message: Value = serde_json::from_str(body).unwrap();
    assert_eq!(line, "POST / HTTP/1.1");
    assert_eq!(
        (&message["title"], &message["topic"], &message["priority"], &message["tags"][0]),
        (&"grafana - Backup failed".into(), &"backup".into(), &5.into(), &"bangbang".into())
    );
    let pushed = gateway.heard();
    assert!(
        pushed.iter().any(|(_, body)| body.contains("backup_status{status=\"failure\"} 1\n")),
        "{pushed:?}"
    );
    // A title that is text is taken; who is nobody to ntfy is not asked for.
    let titled = with(&[
        ("RESTIC_SOURCE", "/nothing"),
        ("NTFY_TITLE", "${RESTIC_HOSTNAME} is broken"),
        ("NTFY_CREDS", "UNSET"),
    ]);
    assert_eq!(titled.status.code(), Some(1));
    assert!(ntfy.heard()[0].1.contains("grafana is broken"));
    // A gateway that is gone is told, and the backup is made.
    let lonely = with(&[("PUSHGATEWAY_URL", "http://127.0.0.1:1")]);
    assert_eq!(lonely.status.code(), Some(5), "{}", told(&lonely));
    assert_eq!(pod.snapshots().len(), 2);
}

#[test]
fn retention_is_a_matter_of_one_host_and_only_where_it_is_wanted() {
    if !have(&["restic"]) {
        return;
    }
    let pod = Pod::new();
    for host in ["grafana", "grafana", "emby", "emby"] {
        let run = pod.run(&[("RESTIC_HOSTNAME", host)]);
        assert_eq!(run.status.code(), Some(0), "{}", told(&run));
    }
    assert_eq!(pod.snapshots().len(), 4, "retention is off");
    let keep = ["KEEP_HOURLY", "KEEP_DAILY", "KEEP_WEEKLY", "KEEP_MONTHLY"].map(|name| (name, "0"));
    let mut variables = vec![("RESTIC_RETENTION_POLICIES_ENABLED", "UNSET")];
    variables.extend(keep);
    let run = pod.run(&variables);
    assert_eq!(run.status.code(), Some(0), "{}", told(&run));
    let mut hosts: Vec<_> =
        pod.snapshots().iter().map(|one| one["hostname"].as_str().unwrap().to_owned()).collect();
    hosts.sort();
    assert_eq!(hosts, ["emby", "emby", "grafana"], "{}", told(&run));
    assert!(pod.restic(&["check", "--read-data"]).status.success());
}

#[test]
fn what_is_not_understood_is_said_before_anything_is_done() {
    let pod = Pod::new();
    for (name, value, said) in [
        ("RESTIC_SOURCE", "UNSET", "set it to the folders to back up"),
        ("RESTIC_SOURCE", "data", "not absolute"),
        ("RESTIC_REPOSITORY", "UNSET", "RESTIC_REPOSITORY"),
        ("RESTIC_PASSWORD", "UNSET", "RESTIC_PASSWORD"),
        ("RESTIC_RETENTION_POLICIES_ENABLED", "perhaps", "neither true nor false"),
        ("RESTIC_ADDITIONAL_BACKUP_PARAMETERS", "--stdin", "firedrill does not know --stdin"),
        ("PUSHGATEWAY_ENABLED", "yes", "PUSHGATEWAY_URL"),
        ("NTFY_ENABLED", "2", "NTFY_ENABLED"),
    ] {
        let run = pod.run(&[(name, value)]);
        assert_eq!(run.status.code(), Some(64), "{name}={value}: {}", told(&run));
        assert!(told(&run).contains(said) && !told(&run).contains(PASSWORD), "{name}: {}", told(&run));
        assert!(!pod.path().join("repository").exists());
    }
    let help = Command::new(binary::binary().unwrap()).args(["backup", "--help"]).output().unwrap();
    for name in [
        "RESTIC_SOURCE",
        "RESTIC_REPOSITORY",
        "RESTIC_PASSWORD",
        "RESTIC_HOSTNAME",
        "RESTIC_ADDITIONAL_BACKUP_PARAMETERS",
        "RESTIC_RETENTION_POLICIES_ENABLED",
        "RESTIC_CACHE_DIR",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "KEEP_HOURLY",
        "KEEP_DAILY",
        "KEEP_WEEKLY",
        "KEEP_MONTHLY",
        "KEEP_YEARLY",
        "KEEP_LAST",
        "NTFY_ENABLED",
        "NTFY_TITLE",
        "NTFY_CREDS",
        "NTFY_PRIO",
        "NTFY_TAG",
        "NTFY_SERVER",
        "NTFY_TOPIC",
        "PUSHGATEWAY_ENABLED",
        "PUSHGATEWAY_URL",
    ] {
        assert!(told(&help).contains(name), "{name} is not in the help");
    }
}
