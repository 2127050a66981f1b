//! Real restic, in the generations that people run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::tools::{bounded, find, is_root, need, run, skip};

/// A restic program.
#[derive(Clone, Debug)]
pub(crate) struct Restic {
    program: PathBuf,
}

impl Restic {
    /// restic of this generation, for example `0.14`: `restic-0.14`, or else a `restic` that is one.
    pub(crate) fn need(generation: &str) -> Option<Self> {
        let own = find(&format!("restic-{generation}")).or_else(|| {
            let plain = find("restic")?;
            let said = Command::new(&plain).arg("version").output().ok()?.stdout;
            String::from_utf8_lossy(&said).starts_with(&format!("restic {generation}.")).then_some(plain)
        });
        if own.is_none() {
            skip(&format!("restic {generation} is not installed"));
        }
        own.map(|program| Self { program })
    }

    /// The newest restic here, whose restore is what firedrill's is held against.
    pub(crate) fn newest() -> Option<Self> {
        ["restic-0.19", "restic-0.18"]
            .into_iter()
            .find_map(find)
            .or_else(|| need("restic"))
            .map(|program| Self { program })
    }
}

/// How a repository is reached.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) url: String,
    pub(crate) password: String,
    /// The certificate authority that the server's certificate is checked against.
    pub(crate) authority: Option<PathBuf>,
}

impl Access {
    pub(crate) fn to(url: impl Into<String>) -> Self {
        Self { url: url.into(), password: "correct horse battery staple".to_owned(), authority: None }
    }
}

/// A repository, and the restic that works on it.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) restic: Restic,
    pub(crate) access: Access,
}

/// What `restic snapshots` says of one.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct Listed {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
}

impl Repository {
    pub(crate) fn init(restic: &Restic, access: Access, format: &str) -> Self {
        let repository = Self { restic: restic.clone(), access };
        repository.run(["init", "--repository-version", format]);
        repository
    }

    /// A restic command on this repository: no cache, nothing of the environment's own settings.
    pub(crate) fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = bounded(&self.restic.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RESTIC_") {
                command.env_remove(name);
            }
        }
        command
            .env("RESTIC_REPOSITORY", &self.access.url)
            .env("RESTIC_PASSWORD", &self.access.password)
            .env("TZ", "UTC")
            .arg("--no-cache");
        if let Some(authority) = &self.access.authority {
            command.arg("--cacert").arg(authority);
        }
        command.args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        run(&mut self.command(arguments))
    }

    /// Backs `source` up under `tags` and returns the id of the snapshot.
    pub(crate) fn backup(&self, source: &Path, tags: &[&str], more: &[&str]) -> String {
        let mut command = self.command(["backup", "--json"]);
        for tag in tags {
            command.args(["--tag", tag]);
        }
        let output = run(command.args(more).arg(source));
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let summary: serde_json::Value =
            serde_json::from_str(lines.lines().last().unwrap_or_default()).expect("restic prints JSON");
        let id = summary["snapshot_id"].as_str().expect("one backup makes one snapshot").to_owned();
        // Older generations print the short form.
        if id.len() == 64 {
            return id;
        }
        let mut listed = self.snapshots();
        listed.retain(|snapshot| snapshot.id.starts_with(&id));
        assert_eq!(listed.len(), 1, "the snapshot {id} is listed once");
        listed.remove(0).id
    }

    pub(crate) fn snapshots(&self) -> Vec<Listed> {
        let output = self.run(["snapshots", "--json", "--no-lock"]);
        serde_json::from_slice::<Option<_>>(&output.stdout).expect("restic prints JSON").unwrap_or_default()
    }

    /// Restores by the newest restic: the truth that firedrill is held against. Restoring needs root
    /// wherever owners differ; restic says so and goes on.
    pub(crate) fn restore(&self, id: &str, into: &Path) {
        let newest = Restic::newest().expect("there is a restic, for it made this repository");
        let by_newest = Self { restic: newest, access: self.access.clone() };
        let mut command = by_newest.command(["restore", "--no-lock", "--quiet", id, "--target"]);
        command.arg(into);
        if is_root() {
            run(&mut command);
        } else {
            let _ = command.output().expect("restic runs");
        }
    }
}
