//! What went wrong with *us* or with the infrastructure. What is wrong with a *backup* is a
//! [`crate::finding::Finding`]; the two never mix.

use serde::{Deserialize, Serialize};

/// Why something could not be done, as far as a caller has to tell the cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A person has to change an argument, a file or a secret.
    Usage,
    /// The repository, the network or a server did not answer as it should.
    Unavailable,
    /// No key opens the repository with the given password.
    WrongPassword,
    /// There is no repository at the given place.
    NoRepository,
    /// Scratch is full, read-only, or refused an operation.
    Scratch,
    /// Restored software was not started, because what seals it in does not hold or cannot be proven.
    Unsealed,
    /// The time limit passed.
    Timeout,
    /// Somebody asked to stop.
    Cancelled,
    /// A library or a probe of ours panicked or broke its contract.
    Internal,
}

/// Something that firedrill could not do. `Display` completes "failed to ..." and leaves out the
/// source; [`Error::chain`] adds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{attempted}")]
pub struct Error {
    /// The kind, for exit codes and for deciding whether to go on.
    pub kind: ErrorKind,
    /// What was attempted, on what: a lowercase fragment that completes "failed to ...".
    pub attempted: String,
    /// The underlying causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What the reader can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Error {
    /// An error of `kind` while attempting to `attempted`.
    pub fn new(kind: ErrorKind, attempted: impl Into<String>) -> Self {
        Self { kind, attempted: attempted.into(), causes: Vec::new(), advice: None }
    }

    /// Adds one cause in words.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds `source` and all of its sources as causes.
    #[must_use]
    pub fn from_source(mut self, source: &dyn std::error::Error) -> Self {
        let mut next = Some(source);
        while let Some(error) = next {
            let text = error.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The whole story in one line: attempt, causes, advice.
    pub fn chain(&self) -> String {
        let mut line = format!("failed to {}", self.attempted);
        for cause in &self.causes {
            line.push_str(": ");
            line.push_str(cause);
        }
        if let Some(advice) = &self.advice {
            line.push_str(" (");
            line.push_str(advice);
            line.push(')');
        }
        line
    }
}

/// The result of an attempt.
pub type Result<T, E = Error> = std::result::Result<T, E>;
