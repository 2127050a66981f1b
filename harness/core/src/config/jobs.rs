//! What firedrill does on schedule: the backups themselves, and the jobs around them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::Cron;
use super::units::{Size, Span};
use crate::retention::Policy;

/// How firedrill backs a target up. All captures go into one snapshot, or none does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupConfig {
    /// What is captured, in this order.
    #[schemars(length(min = 1))]
    pub capture: Vec<CaptureConfig>,
    /// The copy that it is written to. Default: the only primary copy that holds the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub to: Option<String>,
    /// How restic compresses: off, auto or max.
    #[serde(default)]
    pub compression: Compression,
    /// When and how often it is tried.
    #[serde(default)]
    pub rules: Rules,
}

/// How blobs are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    Off,
    /// As restic does by default.
    #[default]
    Auto,
    /// As small as it gets.
    Max,
}

/// One thing that is captured: exactly one of these keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureConfig {
    /// Files and folders of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesCapture>,
    /// A SQLite database, by its online backup: never a torn copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<SqliteCapture>,
    /// A database of PostgreSQL by pg_dump, or all of them by pg_dumpall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresCapture>,
    /// MariaDB: a physical backup as one stream, or a dump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mariadb: Option<MariadbCapture>,
    /// etcd, by etcdctl or k3s, with what a restore needs besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdCapture>,
    /// What a command writes to its standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandCapture>,
}

/// Files and folders of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesCapture {
    /// What is backed up, absolute.
    #[schemars(length(min = 1))]
    pub paths: Vec<String>,
    /// Patterns of what is left out, as restic's `--exclude` takes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Files with such patterns, one in a line: restic's `--exclude-file`, `.resticignore`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_files: Vec<PathBuf>,
    /// Whether folders with a CACHEDIR.TAG are left out.
    pub exclude_caches: bool,
    /// Whether other file systems below the paths are left out.
    pub one_file_system: bool,
    /// What cannot be read and is no reason to refuse the snapshot: patterns. Everything else is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// A SQLite database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteCapture {
    /// The file of the database, absolute.
    #[schemars(length(min = 1))]
    pub path: String,
    /// Its path in the snapshot. Default: the same.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub stored_as: Option<String>,
}

/// How a client reaches a server. Without a host: its unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Name or address of the host, or path of the unix socket: its folder for PostgreSQL, its file for MariaDB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment variable with the password of that user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub password_env: Option<String>,
    /// File whose first line is the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// A database of PostgreSQL, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresCapture {
    /// The database. Without it: all of them with roles and tablespaces, by pg_dumpall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// How it is written.
    pub format: PostgresFormat,
    /// Where the server is.
    pub server: Server,
    /// Further arguments, such as `--exclude-table-data=sessions`. They are no place for secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Path of the dump in the snapshot, absolute.
    #[serde(rename = "as")]
    #[schemars(length(min = 1))]
    pub stored_as: String,
    /// What runs the command elsewhere: `[kubectl, exec, -i, -n, databases, postgres-0, --]` or `[ssh, db01]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<String>,
    /// Whether digests of all tables are recorded beside the dump, of the same moment. It needs a database, and a
    /// server that is reached from here.
    pub digests: bool,
}

/// The form of a dump of PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PostgresFormat {
    /// An archive for pg_restore. It is not compressed: the repository does that, and finds what is the same.
    #[default]
    Custom,
    /// SQL.
    Plain,
}

/// A server of MariaDB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MariadbCapture {
    /// How it is captured.
    pub method: MariadbMethod,
    /// For `dump`: the database. Without it: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Where the server is.
    pub server: Server,
    /// Further arguments. They are no place for secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Path in the snapshot, absolute.
    #[serde(rename = "as")]
    #[schemars(length(min = 1))]
    pub stored_as: String,
    /// What runs the command elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<String>,
    /// For `dump`: whether digests of all tables are recorded beside it, of the same moment. It needs a server that is
    /// reached from here.
    pub digests: bool,
}

/// How MariaDB is captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MariadbMethod {
    /// `mariadb-backup --stream=xbstream`.
    #[default]
    Xbstream,
    /// `mariadb-dump`.
    Dump,
}

/// etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdCapture {
    /// Addresses of the members; the first one that answers is asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Certificate authority of the members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<PathBuf>,
    /// Certificate of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Key of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Data folder of k3s: `k3s etcd-snapshot save` is used, and the server token is captured beside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k3s: Option<PathBuf>,
    /// Folder of the certificates and keys of kubeadm, which is captured beside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pki: Option<PathBuf>,
    /// Path in the snapshot, absolute.
    #[serde(rename = "as")]
    #[schemars(length(min = 1))]
    pub stored_as: String,
}

/// What a command writes to its standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommandCapture {
    /// The program and its arguments. No shell is involved.
    #[schemars(length(min = 1))]
    pub run: Vec<String>,
    /// Path in the snapshot, absolute.
    #[serde(rename = "as")]
    #[schemars(length(min = 1))]
    pub stored_as: String,
    /// Less than this is a failed capture. Default: one byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_min: Option<Size>,
}

/// When a job is started, how long it may take, and what happens when it fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// It is stopped after this time, with all that it waited for; default 6h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// It is started up to this much later than planned, by chance: not all at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    /// What happens with runs that nobody was there to start.
    pub missed: Missed,
    /// What happens when a job that it must not overlap runs. Jobs wait for each other in any case; without this
    /// key a plan in which they meet is a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<OverlapRule>,
    /// How a failed run is repeated.
    pub retry: Retry,
    /// Environment variable with a URL that is told about each start and end, as healthchecks.io takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub ping_env: Option<String>,
    /// The label `job` (style `s0`) or `instance` (style `s1`) of its metrics, where dashboards expect another
    /// than its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub metrics_as: Option<String>,
}

/// What happens with runs that nobody was there to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// One run makes up for all of them.
    #[default]
    Run,
    /// The next one comes by plan.
    Skip,
}

/// What happens when a job that it must not overlap runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverlapRule {
    /// It waits, as long as its deadline allows.
    Wait,
    /// This run is left out.
    Skip,
}

/// How a failed run is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// So often, besides the first time; never past the next planned run.
    #[schemars(range(max = 20))]
    pub times: u32,
    /// After this time; twice as long after each further failure.
    pub wait: Span,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 2, wait: Span(std::time::Duration::from_secs(60)) }
    }
}

/// A job around the backups: exactly one of `retention`, `mirror`, `check`, `statistics`, `restore_test`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobConfig {
    /// Its name; no target may have the same.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), length(max = 63))]
    pub name: String,
    /// When it runs: a cron expression of five fields. Without it only by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Cron>,
    /// When and how often it is tried.
    #[serde(default)]
    pub rules: Rules,
    /// Old snapshots are dropped, and their space is given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionConfig>,
    /// A copy is filled from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorConfig>,
    /// A repository is read and compared with itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<IntegrityConfig>,
    /// Bytes, objects and settings of buckets are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<StatisticsConfig>,
    /// Everything is restored and examined, as `firedrill restore-test` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_test: Option<RestoreTestJob>,
}

/// What is kept of a copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionConfig {
    /// The copy.
    #[schemars(length(min = 1))]
    pub copy: String,
    /// What is kept of each series.
    pub keep: Policy,
    /// A run that would drop a larger share of the snapshots is refused.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub drop_max_ratio: f64,
    /// Whether the newest snapshot of each series that a restore test verified is never dropped.
    #[serde(default = "yes")]
    pub keep_verified: bool,
    /// Whether space is given back.
    #[serde(default = "yes")]
    pub prune: bool,
    /// Whether the repository is checked afterwards.
    #[serde(default = "yes")]
    pub check: bool,
    /// The longest time in which damage goes unseen, for the headroom that is told: mostly the interval of restore
    /// tests. Default: that of `restore_test.schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<Span>,
}

fn half() -> f64 {
    0.5
}

fn yes() -> bool {
    true
}

/// One copy is filled from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MirrorConfig {
    /// The copy that is read.
    #[schemars(length(min = 1))]
    pub from: String,
    /// The copy that is written.
    #[schemars(length(min = 1))]
    pub to: String,
    /// How.
    pub mode: MirrorMode,
    /// At most so many bytes in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Size>,
    /// Whether what the source has dropped is dropped here as well.
    pub delete: bool,
    /// Nothing is dropped when the source has fewer snapshots, or objects, than this share of those in the mirror: a
    /// source that lost its backups must not empty its mirror.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub keep_ratio_min: f64,
}

impl Default for MirrorConfig {
    fn default() -> Self {
        Self {
            from: String::new(),
            to: String::new(),
            mode: MirrorMode::default(),
            bandwidth: None,
            delete: false,
            keep_ratio_min: half(),
        }
    }
}

/// How a copy is filled from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MirrorMode {
    /// The same files, byte for byte: the same keys and passwords open it.
    #[default]
    Identical,
    /// The same snapshots, encrypted with the keys of the other repository.
    Reencrypted,
}

/// A repository is read and compared with itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IntegrityConfig {
    /// The copy.
    #[schemars(length(min = 1))]
    pub copy: String,
    /// Which share of the packs is read, in percent; another one each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub read_data_percent: Option<u32>,
}

/// Bytes, objects and settings of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StatisticsConfig {
    /// The copy whose bucket or folder it is: all of it is counted, not only below the copy's prefix.
    #[schemars(length(min = 1))]
    pub copy: String,
    /// What is counted apart. Default: the folders at the top.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// More bytes than this do not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Size>,
    /// More requests than this in a month cost too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_max: Option<u64>,
}

/// Everything is restored and examined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RestoreTestJob {
    /// Only these copies. Default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<String>,
}
