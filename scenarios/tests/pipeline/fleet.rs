//! The configs of the five reference fleets. Of what they capture a few small files are left, and what a server
//! would dump, a command writes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use firedrill_core::config::{Config, load};

/// Where a fleet keeps its things.
pub(crate) struct Site<'s> {
    /// A folder for everything.
    pub(crate) root: &'s Path,
    /// The address of its S3 server.
    pub(crate) s3: &'s str,
}

impl Site<'_> {
    fn source(&self, target: &str) -> PathBuf {
        self.root.join("sources").join(target)
    }

    fn folder(&self, copy: &str) -> String {
        self.root.join("repositories").join(copy).display().to_string()
    }

    fn load(&self, zone: &str, text: &str) -> Config {
        let text = format!("version: 1\ntimezone: {zone}\n{text}");
        load(&text, "firedrill.yaml").unwrap_or_else(|problems| panic!("{problems}\n{text}")).config
    }

    fn restic(&self, name: &str, role: &str) -> String {
        format!("  - {{name: {name}, role: {role}, repository: {}}}\n", self.folder(name))
    }

    /// A target whose files go into a restic repository, and what else is captured beside them.
    fn files(&self, name: &str, schedule: &str, to: &str, rules: &str, beside: &str) -> String {
        format!(
            "  - name: {name}\n    tag: {name}\n    host: {name}\n    schedule: '{schedule}'\n    backup: {{to: {to}, capture: [{{files: {{paths: [{}]}}}}{beside}], rules: {{{rules}}}}}\n",
            self.source(name).display()
        )
    }

    /// What a server would dump: one file of the source of `target`.
    fn dump(&self, target: &str) -> String {
        let file = self.source(target).join("live.db");
        format!(", {{command: {{run: [cat, {}], as: /backup/{target}.dump}}}}", file.display())
    }

    /// A target whose dump is one object.
    fn object(&self, kind: &str, (name, host): (&str, &str), schedule: &str, to: &str, run: &str) -> String {
        format!(
            "  - {{name: {name}, kind: {kind}, host: {host}, schedule: '{schedule}', backup: {{to: {to}, capture: [{{command: {{run: [{run}{}], as: /dump}}}}]}}}}\n",
            self.source(name).join("live.db").display()
        )
    }
}

/// S0. A single node: its volumes with a dump of its databases, and itself, each in a repository of its own, once a
/// day; statistics after all others. In spring one of these backups has a time that its day does not have.
pub(crate) fn single_node(site: &Site<'_>) -> Config {
    let copies = site.restic("volumes", "primary") + &site.restic("host", "primary");
    let dump = site.dump("volumes");
    let targets = site.files("volumes", "30 2 * * *", "volumes", "deadline: 1h", &dump)
        + &site.files("host", "15 3 * * *", "host", "deadline: 1h", "");
    let jobs = "
  - {name: retention-volumes, schedule: '5 4 * * *', retention: {copy: volumes, keep: {daily: 7, weekly: 4, monthly: 6}}}
  - {name: retention-host, schedule: '20 4 * * *', retention: {copy: host, keep: {last: 3, daily: 14}}}
  - {name: statistics, schedule: '30 5 * * *', statistics: {copy: volumes}}
  - {name: restore-test, schedule: '0 6 * * SUN', restore_test: {}}
  - {name: check, schedule: '0 8 * * SAT', check: {copy: volumes, read_data_percent: 100}}
";
    site.load("Europe/Zurich", &format!("copies:\n{copies}targets:\n{targets}jobs:{jobs}"))
}

/// The targets of the fleet that backs up every hour, with the minute and the hours.
const HOURLY: [(&str, &str, &str); 6] = [
    ("mariadb", "10 0-1,4-23 * * *", "540s"),
    ("grafana", "20 * * * *", "540s"),
    ("emby", "30 * * * *", "540s"),
    ("nextpvr", "40 * * * *", "540s"),
    ("downloader", "50 * * * *", "540s"),
    ("paperless", "0 * * * *", "7200s"),
];

/// S1. A cluster at home: six targets in one repository every hour, one retention, a mirror, a restore test.
pub(crate) fn hourly(site: &Site<'_>) -> Config {
    let copies = site.restic("local", "primary") + &site.restic("offsite", "mirror");
    let targets = HOURLY.map(|(name, schedule, deadline)| {
        site.files(name, schedule, "local", &format!("deadline: {deadline}"), "")
    });
    let jobs = "
  - name: retention
    schedule: '5 3 * * *'
    retention: {copy: local, keep: {hourly: 24, daily: 7, weekly: 4, monthly: 12}}
    rules: {overlap: wait}
  - {name: offsite, schedule: '0 5 * * *', mirror: {from: local, to: offsite}}
  - {name: restore-test, schedule: '0 4 * * SUN', restore_test: {}}
";
    site.load("Europe/Zurich", &format!("copies:\n{copies}targets:\n{}jobs:{jobs}", targets.concat()))
}

/// The databases of the fleet with many, with their namespaces and the minute after three.
pub(crate) const DATABASES: [(&str, &str, u32); 14] = [
    ("cardboard", "cardboard", 0),
    ("ham", "ham", 15),
    ("trade-bot", "trade-bot", 15),
    ("aja-recipes", "aja-recipes", 20),
    ("dnd", "dnd", 25),
    ("wiki", "wiki", 30),
    ("jellyfin", "media", 30),
    ("digital-signage", "digital-signage", 35),
    ("openclaw-ops", "openclaw-ops", 40),
    ("openclaw-personal", "openclaw-personal", 45),
    ("media-profiler", "media-profiler", 50),
    ("media-controller", "media", 60),
    ("authentik", "authentik", 60),
    ("polymarket-lab", "polymarket-lab", 65),
];

/// S2. Fifteen databases, each dumped to an object a day, one of them into another bucket; etcd once a day into the
/// bucket, and every six hours to the node, whose retention comes while the restore test reads.
pub(crate) fn many_databases(site: &Site<'_>) -> Config {
    let mut text = format!(
        "copies:
  - {{name: dumps, kind: object_dump, repository: 's3:{0}/backups', objects: 'postgres-backups/{{name}}/{{namespace}}-{{time:%Y%m%d-%H%M%S}}.sql.gz'}}
  - {{name: memory, kind: object_dump, repository: 's3:{0}/second/openclaw-memory', objects: '{{namespace}}-{{time:%Y%m%d-%H%M%S}}.sql.gz'}}
  - {{name: etcd-s3, kind: etcd, repository: 's3:{0}/backups/etcd-snapshots'}}
  - {{name: etcd-node, kind: etcd, repository: {1}}}
targets:
",
        site.s3,
        site.folder("etcd-node")
    );
    for (name, host, minute) in DATABASES {
        let schedule = format!("{} {} * * *", minute % 60, 3 + minute / 60);
        text += &site.object("object_dump", (name, host), &schedule, "dumps", "gzip, -nc, ");
    }
    // Its command does not compress, as the name of the object says: whoever stores it has to.
    let memory = ("open-webui", "open-webui");
    text += &site.object("object_dump", memory, "0 3 * * *", "memory", "cat, ");
    // Nothing in this name says what it is: the name of the object has to.
    text += &site.object("etcd", ("control-plane", "server"), "0 2 * * *", "etcd-s3", "cat, ");
    text += &site.object("etcd", ("etcd-six-hourly", "server"), "0 */6 * * *", "etcd-node", "cat, ");
    text += "jobs:
  - {name: retention-dumps, schedule: '30 4 * * *', retention: {copy: dumps, keep: {within: 7d}}}
  - {name: retention-memory, schedule: '35 4 * * *', retention: {copy: memory, keep: {daily: 7}}}
  - {name: retention-etcd-s3, schedule: '40 4 * * *', retention: {copy: etcd-s3, keep: {daily: 7}}}
  - {name: retention-etcd-node, schedule: '45 */6 * * *', retention: {copy: etcd-node, keep: {last: 5}}}
  - {name: statistics, schedule: '30 6 * * *', statistics: {copy: dumps, prefixes: [postgres-backups, etcd-snapshots]}}
  - {name: restore-test, schedule: '35 6 * * SUN', restore_test: {}}
";
    site.load("UTC", &text)
}

/// S3. Velero writes into a bucket on a NAS, and drops what is old itself. The bucket is copied and counted.
pub(crate) fn velero(site: &Site<'_>) -> Config {
    let text = format!(
        "copies:
  - {{name: minio, kind: object_dump, repository: {}}}
  - {{name: second-nas, kind: object_dump, role: mirror, repository: {}}}
jobs:
  - {{name: mirror, schedule: '30 5 * * *', mirror: {{from: minio, to: second-nas, delete: true}}}}
  - {{name: statistics, schedule: '30 6 * * *', statistics: {{copy: minio}}}}
  - {{name: restore-test, schedule: '0 8 * * SUN', restore_test: {{}}}}
",
        site.folder("minio"),
        site.folder("second-nas")
    );
    site.load("UTC", &text)
}

/// S4. One control plane: a snapshot of etcd every day as a file, seven of them, the same off-site; and the snapshot
/// with the keys of the control plane in a repository, which goes off-site once a week under another password.
pub(crate) fn control_plane(site: &Site<'_>) -> Config {
    let mut text = String::from("copies:\n");
    text += &(site.restic("control-plane", "primary") + &site.restic("vault", "mirror"));
    let _ = write!(
        text,
        "  - {{name: etcd-nfs, kind: etcd, repository: {}}}
  - {{name: etcd-offsite, kind: etcd, role: mirror, repository: 's3:{}/offsite/etcd-snapshots'}}
targets:
",
        site.folder("etcd-nfs"),
        site.s3
    );
    text += &site.object("etcd", ("etcd", "server"), "0 2 * * *", "etcd-nfs", "cat, ");
    let dump = site.dump("pki");
    text += &site.files("pki", "0 2 * * *", "control-plane", "deadline: 30m", &dump);
    text += "jobs:
  - {name: retention-etcd, schedule: '45 2 * * *', retention: {copy: etcd-nfs, keep: {last: 7}}}
  - {name: retention-pki, schedule: '50 2 * * *', retention: {copy: control-plane, keep: {last: 7}}}
  - {name: offsite-etcd, schedule: '30 3 * * *', mirror: {from: etcd-nfs, to: etcd-offsite, delete: true}}
  - {name: offsite-pki, schedule: '0 4 * * SUN', mirror: {from: control-plane, to: vault, mode: reencrypted}}
  - {name: retention-vault, schedule: '0 7 * * SUN', retention: {copy: vault, keep: {last: 14}}}
  - {name: check, schedule: '0 9 * * SUN', check: {copy: vault, read_data_percent: 100}}
  - {name: restore-test, schedule: '0 8 * * SUN', restore_test: {}}
";
    site.load("UTC", &text)
}
