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
    /// User name for basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Environment variable with the password for basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub password_env: Option<String>,
}

fn default_job() -> String {
    "firedrill".to_owned()
}
