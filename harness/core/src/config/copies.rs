//! Where backups are kept: the copies of a repository.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::OneOrMany;
use super::objects::ObjectPattern;
use super::settings::Objectives;
use crate::error::{Error, ErrorKind};
use crate::secret::redact_address;
use crate::snapshot::CopyName;

/// What kind of backup a copy holds and a target is kept as.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum BackupKind {
    /// Snapshots in a restic repository.
    #[default]
    Restic,
    /// Dump files as plain objects or files, one per backup.
    ObjectDump,
    /// Snapshots of etcd, as plain objects or files.
    Etcd,
    /// Backups of Velero. Not drilled by this version.
    Velero,
    /// Backups of Longhorn volumes. Not drilled by this version.
    Longhorn,
    /// Base backups and WAL of CloudNativePG. Not drilled by this version.
    Cnpg,
}

impl BackupKind {
    /// Whether this version can restore-test it. What it cannot is planned all the same, and
    /// inconclusive: a backup that nobody tested must never look green.
    pub fn drillable(self) -> bool {
        self == Self::Restic || self.is_plain_objects()
    }

    /// Whether each backup is an object or a file of its own.
    pub fn is_plain_objects(self) -> bool {
        matches!(self, Self::ObjectDump | Self::Etcd)
    }

    /// The word in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Restic => "restic",
            Self::ObjectDump => "object_dump",
            Self::Etcd => "etcd",
            Self::Velero => "velero",
            Self::Longhorn => "longhorn",
            Self::Cnpg => "cnpg",
        }
    }
}

impl fmt::Display for BackupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a copy is to the other copies.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Backups are written to it.
    #[default]
    Primary,
    /// It is filled from a primary.
    Mirror,
}

/// One copy of a repository. Each copy is restore-tested on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyConfig {
    /// Its name in drills, reports and metrics, for example `primary` or `offsite`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), length(max = 63))]
    pub name: String,
    /// Where it is: a path, `rest:URL`, or `s3:URL/bucket/prefix`. For kinds that this version cannot
    /// drill: any text that helps a person to find it.
    #[schemars(length(min = 1))]
    pub repository: String,
    /// What kind of backup it holds.
    #[serde(default)]
    pub kind: BackupKind,
    /// For `object_dump` and `etcd`: how the names of the objects are read, below `repository`, for example
    /// `{name}/{namespace}-{time:%Y%m%d-%H%M%S}.sql.gz`. Each `{name}` is a series of its own, known by it as
    /// by a tag. The first pattern that fits counts; one that starts with `!` says what is left out on
    /// purpose. Without any, common names are recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<OneOrMany>,
    /// What it is to the other copies.
    #[serde(default)]
    pub role: Role,
    /// What was promised about this copy, where that differs from what was promised about its targets:
    /// a mirror that is filled once a day is older than the backups that it mirrors.
    #[serde(default)]
    pub objectives: Objectives,
    /// File whose first line is the password. Without any `password_*` the environment decides, as for
    /// restic: RESTIC_PASSWORD, RESTIC_PASSWORD_FILE, RESTIC_PASSWORD_COMMAND.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Command that prints the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub password_command: Option<String>,
    /// Environment variable that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub password_env: Option<String>,
    /// PEM file with the certificate authority of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<PathBuf>,
    /// How to reach it.
    #[serde(default)]
    pub options: CopyOptions,
}

/// How to reach a copy. Secrets are named by environment variable, never written here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CopyOptions {
    /// S3: the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// S3: whether the bucket goes into the path of the URL instead of its host. Without it, AWS gets
    /// the host form and everybody else the path form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// S3: the profile in the shared AWS config and credential files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// S3: environment variable with the access key id; default AWS_ACCESS_KEY_ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub access_key_id_env: Option<String>,
    /// S3: environment variable with the secret access key; default AWS_SECRET_ACCESS_KEY.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub secret_access_key_env: Option<String>,
    /// rest-server: environment variable with the user name; default RESTIC_REST_USERNAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub username_env: Option<String>,
    /// rest-server: environment variable with the password of that user; default
    /// RESTIC_REST_PASSWORD.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub password_env: Option<String>,
}

impl CopyConfig {
    /// The name as a noun.
    pub fn copy_name(&self) -> CopyName {
        CopyName(self.name.clone())
    }

    /// Where it is, without secrets.
    pub fn location(&self) -> String {
        redact_address(&self.repository)
    }

    /// How the names of its objects are read; empty: in the common ways. The config has been checked, so
    /// that each pattern is one.
    pub fn object_patterns(&self) -> Result<Vec<ObjectPattern>, Error> {
        let texts = self.objects.iter().flat_map(|objects| &objects.0);
        let parsed = texts.map(|text| {
            text.parse().map_err(|why: String| {
                Error::new(ErrorKind::Usage, format!("understand the pattern {text}")).because(why)
            })
        });
        parsed.collect()
    }

    /// Why this version cannot open the copy, if it cannot. Whoever opens copies asks this first and
    /// reports the error as the reason for which the copy could not be read.
    pub fn refusal(&self) -> Option<Error> {
        (!self.kind.drillable()).then(|| {
            Error::new(ErrorKind::Unavailable, format!("drill the copy {}", self.name))
                .because(format!("this version cannot drill {} backups yet", self.kind))
                .advise("it stays inconclusive until a later version can")
        })
    }
}
