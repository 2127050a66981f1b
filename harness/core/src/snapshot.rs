//! What a repository holds: immutable facts.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The id of a snapshot, as the repository prints it (64 hexadecimal digits for restic).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub String);

impl SnapshotId {
    /// The short form that people use.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of one copy of a repository: `primary`, or the name of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CopyName(pub String);

impl fmt::Display for CopyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One snapshot: an immutable fact about a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// When it was made, by the clock of the host that made it.
    pub time: Timestamp,
    /// The host that made it.
    pub host: String,
    /// Its tags; may be empty.
    pub tags: Vec<String>,
    /// The paths that were backed up. Of very many only the first are kept, and the last of these says how
    /// many more there are, see [`more_paths`].
    pub paths: Vec<String>,
    /// The id of its root tree. Equal ids mean equal content and equal metadata.
    pub tree: String,
    /// The program that made it, if it said so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// Number of files by its own summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Number of bytes by its own summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// How the last of [`Snapshot::paths`] begins when it stands for further ones that are not kept.
const MORE_PATHS: &str = "… and ";

/// What stands for `count` further paths of a snapshot; `hash` tells other paths apart.
pub fn more_paths(count: u64, hash: &str) -> String {
    format!("{MORE_PATHS}{count} more paths ({hash})")
}

impl Snapshot {
    /// The backed-up paths that are known.
    pub fn known_paths(&self) -> impl Iterator<Item = &String> {
        self.paths.iter().filter(|path| !is_more_paths(path))
    }

    /// Whether further paths were backed up than are known.
    pub fn has_more_paths(&self) -> bool {
        self.paths.iter().any(|path| is_more_paths(path))
    }
}

/// Whether this is no path but stands for further ones, see [`more_paths`].
pub fn is_more_paths(path: &str) -> bool {
    path.starts_with(MORE_PATHS)
}

/// What one series of snapshots is known by: its tag or, where there is none, its host and paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    /// All snapshots that carry this tag.
    Tag(String),
    /// All untagged snapshots of this host with exactly these paths.
    Untagged {
        /// The host.
        host: String,
        /// The paths, sorted.
        paths: Vec<String>,
    },
    /// Several targets that only mean something together: the group of this name in the config. No snapshot
    /// belongs to it alone.
    Group(String),
}

impl Series {
    /// Whether `snapshot` belongs to this series.
    pub fn holds(&self, snapshot: &Snapshot) -> bool {
        match self {
            Self::Tag(tag) => snapshot.tags.iter().any(|t| t == tag),
            Self::Untagged { host, paths } => {
                let mut own = snapshot.paths.clone();
                own.sort();
                snapshot.tags.is_empty() && &snapshot.host == host && &own == paths
            }
            Self::Group(_) => false,
        }
    }

    /// Every series that `snapshot` belongs to: one per tag, or the untagged one.
    pub fn all_of(snapshot: &Snapshot) -> Vec<Self> {
        if snapshot.tags.is_empty() {
            let mut paths = snapshot.paths.clone();
            paths.sort();
            return vec![Self::Untagged { host: snapshot.host.clone(), paths }];
        }
        let mut tags = snapshot.tags.clone();
        tags.sort();
        tags.dedup();
        tags.into_iter().map(Self::Tag).collect()
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Untagged { host, paths } => write!(f, "{host}:{}", paths.join(",")),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}
