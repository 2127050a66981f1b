//! The canaries of the fleet. The only place that knows how they are made.

use anyhow::Result;
use firedrill_core::canary::{self, Canary};
use firedrill_core::secret::Secret;
use jiff::Timestamp;

/// The name of a canary file.
pub(super) const FILE_NAME: &str = canary::FILE;

/// The key that signs the canaries of a repository with this password.
pub fn key(password: &Secret) -> Secret {
    canary::derive_key(password)
}

/// The line to plant in `target`.
pub(super) fn line(key: &Secret, target: &str, sequence: u64, time: Timestamp) -> Result<String> {
    Ok(Canary::sign(key, target, sequence, time)?.to_line())
}
