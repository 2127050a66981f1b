//! Where results go.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where results go, besides the console. One failing sink never stops another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sinks {
    /// File for the judgement as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<PathBuf>,
    /// File for a JUnit report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub junit: Option<PathBuf>,
    /// File for the recovery report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<PathBuf>,
    /// File for metrics in the Prometheus text format, for the textfile collector of node_exporter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus_file: Option<PathBuf>,
    /// A Pushgateway for the same metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushgateway: Option<Pushgateway>,
}

/// Where and how metrics are pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pushgateway {
    /// Its URL, without `/metrics/job/...`.
    pub url: String,
    /// The label `job` of the group.
    #[serde(default = "default_job")]
    #[schemars(length(min = 1))]
    pub job: String,
    /// The label `instance` of the group: one per firedrill that pushes to the same gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub instance: Option<String>,
    /// Names under which dashboards and alerts of other tools know jobs: they are pushed besides, without a type, as
    /// scripts push them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<KnownNames>,
    /// User name for basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Environment variable with the password for basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub password_env: Option<String>,
}

/// Metrics that other tools push for the same jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KnownNames {
    /// One group for each job, `job="backup"` and `instance` its name: `backup_start_timestamp`,
    /// `backup_duration_seconds`, `backup_status`, `backup_mirror_status`.
    ByInstance,
    /// One group for each job, `job` its name: `backup_success`, `backup_duration_seconds`, `backup_timestamp`,
    /// `backup_files_new`, `backup_files_changed`, `pg_dump_*`, `oci_bucket_*`.
    ByJob,
}

fn default_job() -> String {
    "firedrill".to_owned()
}
