//! Backups that firedrill makes itself, from live data to a restore test that proves them, and the command that
//! stands in for a shell script around restic.
#![expect(clippy::unwrap_used, reason = "this is all test")]

#[path = "support/binary.rs"]
mod binary;
#[path = "captures/dropin.rs"]
mod dropin;
#[path = "captures/k3s.rs"]
mod k3s;
#[path = "captures/listener.rs"]
mod listener;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use firedrill_testing::have;
use rusqlite::Connection;
use serde_json::Value;

/// Whom PostgreSQL runs as where we are root, which it refuses.
const NOBODY: u32 = 65_534;
const PASSWORD: &str = "correct horse battery staple";

pub(crate) fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A PostgreSQL on a socket in a folder.
struct Postgres(Child);

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Postgres {
    fn start(bin: &Path, folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        let is_root = chown(folder, Some(NOBODY), Some(NOBODY)).is_ok();
        let own = |program: &str| {
            let mut command = Command::new(bin.join(program));
            if is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let mut initdb = own("initdb");
        initdb.args(["-D", "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]);
        assert!(initdb.status().unwrap().success());
        let mut postgres = own("postgres");
        postgres.args(["-D", "data", "-F", "-c", "listen_addresses=", "-k"]).arg(folder);
        let server = Self(postgres.spawn().unwrap());
        let start = Instant::now();
        while !sql(folder, "postgres", "select 1") {
            assert!(start.elapsed() < Duration::from_secs(300), "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

fn sql(folder: &Path, database: &str, sql: &str) -> bool {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-c", sql, "-h"]);
    psql.arg(folder).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

fn firedrill(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary::binary().unwrap());
    command.args(arguments).env_remove("RESTIC_PASSWORD").stdin(Stdio::null()).output().unwrap()
}

fn config(work: &Path, command: &str) -> String {
    let work = work.display();
    format!(
        r#"version: 1
copies:
  - {{name: primary, repository: "{work}/repository", password_file: "{work}/password"}}
targets:
  - name: shop
    tag: shop
    host: shop-host
    schedule: "20 * * * *"
    objectives: {{rpo: 2h}}
    expect: {{canary: required, load: true, sqlite: [{{path: app.db, tables: [orders]}}]}}
    backup:
      capture:
        - postgres: {{database: shop, server: {{host: "{work}/pg", user: postgres}}, as: /backup/shop.dump, digests: true}}
        - files: {{paths: ["{work}/data"], exclude: ["*.db", "*.tmp"]}}
        - sqlite: {{path: "{work}/data/app.db"}}
        - command: {{run: [sh, -c, "{command}"], as: /backup/note.txt}}
jobs:
  - {{name: check, check: {{copy: primary, read_data_percent: 100}}}}
  - {{name: sunday, restore_test: {{}}}}
restore_test: {{scratch: "{work}/scratch"}}
runtime: {{kind: process}}
state: "{work}/state"
sinks: {{json: "{work}/judgement.json"}}
"#
    )
}

#[test]
fn what_is_captured_from_live_data_is_proven_by_a_restore_test() {
    let found = ["15", "16", "17"].map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    let bin = found.into_iter().find(|bin| bin.join("initdb").is_file()).unwrap_or_default();
    if !have(&[bin.join("initdb"), "pg_dump".into(), "restic".into()]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path();
    fs::set_permissions(work, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["data", "scratch"] {
        fs::create_dir(work.join(name)).unwrap();
    }
    fs::write(work.join("password"), PASSWORD).unwrap();
    fs::write(work.join("data/settings.ini"), "[shop]\nopen = yes\n").unwrap();
    fs::write(work.join("data/half.tmp"), "half").unwrap();
    let _postgres = Postgres::start(&bin, &work.join("pg"));
    assert!(sql(&work.join("pg"), "postgres", "create database shop"));
    assert!(sql(
        &work.join("pg"),
        "shop",
        "create table cards(id int primary key, name text, price numeric);
         insert into cards select x, 'card ' || x, x / 3.0 from generate_series(1, 3000) x"
    ));
    let app = Connection::open(work.join("data/app.db")).unwrap();
    app.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE orders(n); INSERT INTO orders VALUES (1), (2);",
    )
    .unwrap();

    let file = work.join("firedrill.yaml");
    let path = file.to_str().unwrap();
    fs::write(&file, config(work, "echo half; exit 1")).unwrap();
    let missing = firedrill(&["run", "shop", "--config", path]);
    assert_eq!(missing.status.code(), Some(1), "{}", told(&missing));
    assert!(told(&missing).contains("firedrill init primary"), "{}", told(&missing));
    let made = firedrill(&["init", "primary", "--config", path]);
    assert_eq!(made.status.code(), Some(0), "{}", told(&made));
    assert_ne!(firedrill(&["init", "primary", "--config", path]).status.code(), Some(0), "it is there");

    // A capture that fails at its end keeps all others out of the repository.
    let failed = firedrill(&["run", "shop", "--config", path]);
    assert_eq!(failed.status.code(), Some(1), "{}", told(&failed));
    assert!(told(&failed).contains("/backup/note.txt: sh ended with exit code 1"), "{}", told(&failed));
    assert_eq!(fs::read_dir(work.join("repository/snapshots")).unwrap().count(), 0);
    assert_eq!(firedrill(&["jobs", "--config", path]).status.code(), Some(1), "a job is failing");

    fs::write(&file, config(work, "echo whole")).unwrap();
    let backed_up = firedrill(&["run", "shop", "--config", path]);
    assert_eq!(backed_up.status.code(), Some(0), "{}", told(&backed_up));
    assert_eq!(firedrill(&["jobs", "--config", path]).status.code(), Some(0));
    assert_eq!(fs::read_dir(work.join("state/work")).unwrap().count(), 0, "nothing is left behind");
    let checked = firedrill(&["run", "check", "--config", path]);
    assert_eq!(checked.status.code(), Some(0), "{}", told(&checked));

    let tested = firedrill(&["run", "sunday", "--config", path]);
    let judgement = fs::read(work.join("judgement.json")).unwrap_or_default();
    let judgement: Value = serde_json::from_slice(&judgement).unwrap_or_default();
    let drill = &judgement["drills"][0];
    assert_eq!(drill["verdict"], "verified", "{}\n{drill:#}", told(&tested));
    assert_eq!(tested.status.code(), Some(0), "{}", told(&tested));
    assert_eq!(drill["rpa"]["basis"], "canary", "{:#}", drill["rpa"]);
    // What the engine holds was compared row by row with what the live server held.
    let text = drill["examinations"].to_string();
    assert!(text.contains("3000") && text.contains("digest"), "{text}");

    // The same promises, and a canary that is not there.
    let bare = Command::new("restic")
        .args(["--no-cache", "-q", "backup", "--tag", "shop", "--host", "shop-host", "-r"])
        .arg(work.join("repository"))
        .arg("--password-file")
        .arg(work.join("password"))
        .arg(work.join("data/settings.ini"))
        .output()
        .unwrap();
    assert!(bare.status.success(), "{}", told(&bare));
    let tested = firedrill(&["restore-test", "--config", path]);
    assert_eq!(tested.status.code(), Some(1), "{}", told(&tested));
    let judgement: Value = serde_json::from_slice(&fs::read(work.join("judgement.json")).unwrap()).unwrap();
    let findings = judgement["drills"][0]["findings"].to_string();
    assert!(findings.contains("canary.missing"), "{findings}");
}
