//! The configs of two fleets, as far as restic goes. Of what they capture a few small files are left.

use std::path::Path;

use firedrill_core::config::{Config, load};

/// The targets of the fleet that backs up every hour, with the minute and the hours.
const HOURLY: [(&str, &str, &str); 6] = [
    ("mariadb", "10 0-1,4-23 * * *", "540s"),
    ("grafana", "20 * * * *", "540s"),
    ("emby", "30 * * * *", "540s"),
    ("nextpvr", "40 * * * *", "540s"),
    ("downloader", "50 * * * *", "540s"),
    ("paperless", "0 * * * *", "7200s"),
];

/// A single node: its volumes and itself, each in a repository of its own, once a day. In spring one of these
/// backups has a time that its day does not have.
pub(crate) fn single_node(root: &Path) -> Config {
    let copies = [("volumes", "primary"), ("host", "primary")];
    let targets = [
        target(root, "volumes", "30 2 * * *", "volumes", "1h"),
        target(root, "host", "15 3 * * *", "host", "1h"),
    ];
    let jobs = "
  - {name: retention-volumes, schedule: '5 4 * * *', retention: {copy: volumes, keep: {daily: 7, weekly: 4, monthly: 6}}}
  - {name: retention-host, schedule: '20 4 * * *', retention: {copy: host, keep: {last: 3, daily: 14}}}
  - {name: check, schedule: '0 8 * * SAT', check: {copy: volumes, read_data_percent: 100}}
";
    config(root, &copies, &targets, jobs)
}

/// A cluster at home: six targets in one repository every hour, one retention, a mirror, a restore test.
pub(crate) fn hourly(root: &Path) -> Config {
    let targets = HOURLY.map(|(name, schedule, deadline)| target(root, name, schedule, "local", deadline));
    let jobs = "
  - name: retention
    schedule: '5 3 * * *'
    retention: {copy: local, keep: {hourly: 24, daily: 7, weekly: 4, monthly: 12}}
    rules: {overlap: wait}
  - {name: offsite, schedule: '0 5 * * *', mirror: {from: local, to: offsite}}
  - {name: restore-test, schedule: '0 4 * * SUN', restore_test: {copies: [local]}}
";
    config(root, &[("local", "primary"), ("offsite", "mirror")], &targets, jobs)
}

fn target(root: &Path, name: &str, schedule: &str, to: &str, deadline: &str) -> String {
    let source = root.join("sources").join(name);
    format!(
        "
  - name: {name}
    tag: {name}
    host: {name}
    schedule: '{schedule}'
    backup:
      to: {to}
      capture: [{{files: {{paths: [{}]}}}}]
      rules: {{deadline: {deadline}}}",
        source.display()
    )
}

fn config(root: &Path, copies: &[(&str, &str)], targets: &[String], jobs: &str) -> Config {
    let copies: String = copies
        .iter()
        .map(|(name, role)| {
            let repository = root.join("repositories").join(name);
            format!("\n  - {{name: {name}, role: {role}, repository: {}}}", repository.display())
        })
        .collect();
    let text = format!(
        "version: 1\ntimezone: Europe/Zurich\ncopies:{copies}\ntargets:{}\njobs:{jobs}",
        targets.concat()
    );
    load(&text, "firedrill.yaml").unwrap_or_else(|problems| panic!("{problems}\n{text}")).config
}
