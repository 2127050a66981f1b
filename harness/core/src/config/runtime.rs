//! Where restored software runs, and what it may use there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Size;
use crate::cell::{CellLimits, SealPart};

/// Which runtime makes cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeKind {
    /// For each engine the first that has it: `process`, then `container`.
    #[default]
    Auto,
    /// Programs of this machine, in namespaces of their own.
    Process,
    /// Containers.
    Container,
    /// Nothing restored is ever started.
    Off,
}

/// Where restored software runs, and what it may use there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeConfig {
    /// Which runtime.
    pub kind: RuntimeKind,
    /// Parts of the seal that need not hold. Restored software then runs all the same, and the report says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept_unsealed: Vec<SealPart>,
    /// Memory; default 4GiB. A cell of containers has one for each kit (an application and its database are two), and
    /// each has this much; programs of the `process` runtime have it each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Processes and threads; default 1024. For each container of a cell; in the `process` runtime for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 1_000_000))]
    pub processes: Option<u32>,
    /// Bytes that one cell may write, all of its programs together; default 200GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
    /// Settings of the `process` runtime.
    pub process: ProcessRuntimeConfig,
    /// Settings of the `container` runtime.
    pub container: ContainerRuntimeConfig,
}

impl RuntimeConfig {
    /// The limits of a cell, and of each container in it.
    pub fn limits(&self) -> CellLimits {
        let default = CellLimits::default();
        CellLimits {
            memory: self.memory.unwrap_or(default.memory),
            processes: self.processes.unwrap_or(default.processes),
            disk: self.disk.unwrap_or(default.disk),
        }
    }
}

/// Settings of the `process` runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessRuntimeConfig {
    /// Folders with the programs of an engine, before those that are looked for: `postgres: /opt/pg17/bin`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, PathBuf>,
    /// The unprivileged user id that programs run as when firedrill is root. Default: another one for each cell,
    /// from 1900000000 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub user: Option<u32>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// When it is not there.
    #[default]
    Missing,
    /// Never: what is not there is not used.
    Never,
    /// Before each use.
    Always,
}

/// Settings of the `container` runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerRuntimeConfig {
    /// When images are pulled.
    pub pull: Pull,
    /// Images of engines. `{major}` and `{version}` stand for the version that a backup asks for:
    /// `postgres: "postgres:{major}"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
}
