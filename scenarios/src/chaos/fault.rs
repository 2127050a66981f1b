//! What a fault is: one known way in which a backup goes bad, and the detection that is expected of it.

use std::collections::BTreeSet;

use anyhow::Result;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::victim::Victim;

/// Where in the life of a backup a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// What is backed up, and how it was captured.
    Source,
    /// Somebody means harm.
    Security,
    /// Passwords and keys.
    Keys,
    /// The repository at rest.
    Repository,
    /// What is kept and what is dropped.
    Retention,
    /// When backups happen, and what time they claim.
    Schedule,
}

impl Class {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 6] =
        [Self::Source, Self::Security, Self::Keys, Self::Repository, Self::Retention, Self::Schedule];

    /// As people type it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Security => "security",
            Self::Keys => "keys",
            Self::Repository => "repository",
            Self::Retention => "retention",
            Self::Schedule => "schedule",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One known way in which a backup goes bad.
///
/// `what`, `notice` and `act` are for an operator who has never heard of it.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Unique, in kebab case.
    pub name: &'static str,
    /// Where it strikes.
    pub class: Class,
    /// It in one line.
    pub summary: &'static str,
    /// What happens, and why everybody believes that all is well.
    pub what: &'static str,
    /// How one would notice.
    pub notice: &'static str,
    /// What to do.
    pub act: &'static str,
    /// Where it was seen: issues of public projects, reports of incidents. May be empty.
    pub seen: &'static [&'static str],
    /// What striking with it does not show.
    pub not_verified: &'static str,
    /// The findings that explain it, any of them: `probe.what`, or `probe.` for all of a probe.
    pub codes: &'static [&'static str],
    /// Strikes a copy of a repository.
    pub strike: fn(&Victim<'_>, &mut StdRng) -> Result<Struck>,
}

impl Fault {
    /// Whether a finding with this code explains the fault.
    pub fn is_explained_by(&self, code: &str) -> bool {
        self.codes.iter().any(|own| code == *own || (own.ends_with('.') && code.starts_with(own)))
    }
}

/// What was done to a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// In words, with the place.
    pub what: String,
    /// The tags whose drills must tell. None: the copy as a whole must.
    pub tags: BTreeSet<String>,
}
