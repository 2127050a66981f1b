//! Objectives, expectations and probe thresholds: typed by a person, carried by the plan, read by the
//! judge and the probes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Size, Span};

/// What a person promised about one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Objectives {
    /// Recovery point objective: at most this much time may be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpo: Option<Span>,
    /// Recovery time objective: the restore may take at most this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto: Option<Span>,
}

/// Whether something must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// Its absence is a finding.
    Required,
    /// It is examined where it is found.
    #[default]
    Optional,
}

/// What a good backup of one target holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expectations {
    /// At least this many regular files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_min: Option<u64>,
    /// At least this many bytes in regular files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_min: Option<Size>,
    /// Paths that must be in the snapshot: absolute as backed up, or relative to any backed-up path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// The newest modification time of any file may be at most this old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_data_max: Option<Span>,
    /// Whether the target must hold a canary.
    pub canary: Demand,
    /// Databases in SQLite files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sqlite: Vec<SqliteExpectation>,
    /// Dumps must be loaded into an engine: where none can be had, the target is inconclusive. Without it they are
    /// loaded where a runtime has the engine, and otherwise examined for structure only.
    pub load: bool,
    /// Databases in dumps and data folders of PostgreSQL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub postgres: Vec<DatabaseExpectation>,
    /// Databases in dumps and physical backups of MariaDB.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mariadb: Vec<DatabaseExpectation>,
    /// What snapshots of etcd hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdExpectation>,
}

/// What one SQLite file holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteExpectation {
    /// Path of the file: absolute as backed up, or relative to any backed-up path.
    pub path: String,
    /// Tables that must exist.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// At least this many rows, per table.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rows_min: BTreeMap<String, u64>,
    /// Queries and the first column of their first row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<Query>,
}

/// What one database holds, once it is loaded into its engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseExpectation {
    /// The dump or data folder, absolute as backed up or relative to any backed-up path. Without it: every one
    /// that has the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The database. Without it: the only one of a dump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Tables that must exist, with their schema where it is not the default one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// At least this many rows, per table.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rows_min: BTreeMap<String, u64>,
    /// Queries and the first column of their first row.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<Query>,
    /// A query for the time of the newest data. It becomes the recovery point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<NewestRow>,
    /// Roles and accounts that the backup itself must bring along.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// How old the newest data in a database may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewestRow {
    /// A single SELECT whose first column is a time: `SELECT max(created_at) FROM events`.
    pub sql: String,
    /// It may be at most this old. Without it, it is only measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
}

/// What snapshots of etcd hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdExpectation {
    /// At least this many live keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_min: Option<u64>,
    /// At least this many live keys below each prefix, for example `/registry/secrets/`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub prefixes: BTreeMap<String, u64>,
    /// Whether the snapshot must hold the server token of k3s beside the etcd snapshot: without it a new host
    /// cannot use it.
    pub token: Demand,
    /// Whether the snapshot must hold the certificate authorities and keys of kubeadm beside the etcd snapshot.
    pub pki: Demand,
}

/// One query with its expected answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// A single SELECT.
    pub sql: String,
    /// The first column of the first row, as text.
    pub equals: String,
}

/// Where a property of an entry has to be proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It must be set on the restored file; where it cannot be set, the drill is inconclusive.
    #[default]
    Applied,
    /// It is enough that the snapshot records it.
    Recorded,
}

/// Thresholds of all probes. Every field has a default that suits most targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Probes {
    /// Every entry is there, with its content and metadata.
    pub tree: TreeSettings,
    /// The content looks like what this tag held before.
    pub shape: ShapeSettings,
    /// The data is recent.
    pub freshness: FreshnessSettings,
    /// SQLite files are intact.
    pub sqlite: SqliteSettings,
}

/// Settings of the `tree` probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TreeSettings {
    /// Owner and group: setting them needs root.
    pub owner: Proof,
    /// Extended attributes and ACLs: setting them needs a file system that keeps them.
    pub attributes: Proof,
}

/// Settings of the `shape` probe. Ratios are between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShapeSettings {
    /// A larger share of files that vanished since the baseline is a finding.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub files_drop_max_ratio: f64,
    /// A larger share of bytes that vanished since the baseline is a finding.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub bytes_drop_max_ratio: f64,
    /// A larger growth of the share of files that look encrypted is a finding.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub entropy_jump_max_ratio: f64,
    /// Paths (absolute as backed up, or relative to any backed-up path) whose changes mean nothing: caches, logs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// How many earlier snapshots are compared.
    pub history: usize,
}

impl Default for ShapeSettings {
    fn default() -> Self {
        Self {
            files_drop_max_ratio: 0.5,
            bytes_drop_max_ratio: 0.5,
            entropy_jump_max_ratio: 0.3,
            ignore: Vec::new(),
            history: 3,
        }
    }
}

/// Settings of the `freshness` probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FreshnessSettings {
    /// A snapshot may be dated at most this far in the future.
    pub future_max: Span,
    /// Gaps between snapshots are looked for this far back.
    pub gap_window: Span,
}

impl Default for FreshnessSettings {
    fn default() -> Self {
        Self {
            future_max: Span(std::time::Duration::from_secs(15 * 60)),
            gap_window: Span(std::time::Duration::from_secs(30 * 24 * 3600)),
        }
    }
}

/// Settings of the `sqlite` probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteSettings {
    /// Larger files get `quick_check` instead of `integrity_check`.
    pub integrity_check_max: Size,
    /// Limit for each statement.
    pub statement_timeout: Span,
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self {
            integrity_check_max: Size(8 << 30),
            statement_timeout: Span(std::time::Duration::from_secs(300)),
        }
    }
}
