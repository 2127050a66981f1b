//! The config that a person would write for the fleet.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use firedrill_core::secret::Secret;

/// Where a fleet with a week of daily backups is kept and tested; [`Config::to_yaml`] makes a
/// `firedrill.yaml` of it.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// Name, role (`primary` or `mirror`) and repository of each copy.
    pub copies: &'a [(&'a str, &'a str, String)],
    /// The folder that restores go to.
    pub scratch: &'a Path,
    /// File with the key of the canaries; [`super::canary_key`] has it.
    pub canary_key_file: &'a Path,
    /// File with the password of all copies; without it the environment has to tell.
    pub password_file: Option<&'a Path>,
}

impl Config<'_> {
    /// The text of the config file.
    pub fn to_yaml(&self) -> Result<String> {
        // A JSON string is a YAML string, whatever is in it.
        let quoted = |path: &Path| serde_json::to_string(&path.display().to_string());
        let mut yaml = String::from("version: 1\n\ncopies:\n");
        for (name, role, repository) in self.copies {
            yaml.push_str(&format!("  - name: {name}\n    role: {role}\n"));
            yaml.push_str(&format!("    repository: {}\n", serde_json::to_string(repository)?));
            if let Some(file) = self.password_file {
                yaml.push_str(&format!("    password_file: {}\n", quoted(file)?));
            }
            if repository.starts_with("s3:") {
                yaml.push_str("    options: {region: us-east-1, path_style: true}\n");
            }
        }
        yaml.push_str(TARGETS);
        yaml.push_str(&format!("\ncanary:\n  key_file: {}\n", quoted(self.canary_key_file)?));
        yaml.push_str(&format!("\nrestore_test:\n  scratch: {}\n", quoted(self.scratch)?));
        Ok(yaml)
    }
}

/// Writes a secret to a new file that only its owner can read.
pub fn write_secret(path: &Path, secret: &Secret) -> Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| writeln!(file, "{}", secret.reveal()))
        .with_context(|| format!("write {}", path.display()))
}

const TARGETS: &str = r#"
targets:
  - name: mariadb
    tag: mariadb
    host: mariadb
    paths: [/backup/mariadb]
    objectives: {rpo: 26h, rto: 15m}
    expect:
      canary: required
      paths: [shop.sql]
      bytes_min: 20KiB

  - name: postgres
    tag: postgres
    host: postgres
    paths: [/backup/postgres]
    objectives: {rpo: 26h, rto: 15m}
    expect:
      canary: required
      paths: [cardboard.sql]
      newest_data_max: 26h

  - name: grafana
    tag: grafana
    host: grafana
    paths: [/backup/grafana]
    objectives: {rpo: 26h, rto: 15m}
    expect:
      canary: required
      files_min: 30
      sqlite:
        - path: grafana.db
          tables: [dashboard, user, org]
          rows_min: {dashboard: 10}
          queries: [{sql: "SELECT login FROM user WHERE id = 1", equals: admin}]

  - name: downloader
    tag: downloader
    host: downloader
    paths: [/backup/downloader]
    objectives: {rpo: 26h, rto: 30m}
    expect:
      canary: required
      files_min: 30
      sqlite:
        - {path: sonarr/sonarr.db, tables: [Items, History], rows_min: {History: 100}}
        - {path: radarr/radarr.db, tables: [Items, History], rows_min: {History: 100}}
        - {path: lidarr/lidarr.db, tables: [Items, History], rows_min: {History: 100}}

  - name: emby
    tag: emby
    host: emby
    paths: [/backup/emby]
    objectives: {rpo: 26h, rto: 30m}
    expect:
      canary: required
      files_min: 30
      sqlite:
        - {path: data/library.db, tables: [MediaItems]}

  - name: nextpvr
    tag: nextpvr
    host: nextpvr
    paths: [/backup/nextpvr]
    objectives: {rpo: 26h, rto: 30m}
    expect:
      canary: required
      files_min: 30
      sqlite:
        - {path: config/npvr.db3, tables: [channel, epg_event]}

  - name: paperless
    tag: paperless
    host: paperless
    paths: [/backup/paperless-data, /backup/paperless-export, /backup/paperless-media]
    objectives: {rpo: 26h, rto: 1h}
    expect:
      canary: required
      files_min: 30
      sqlite:
        - path: /backup/paperless-data/db.sqlite3
          tables: [documents_document]
          rows_min: {documents_document: 10}
"#;
