//! rustic's errors in one line, without secrets.

use firedrill_core::error::{Error, ErrorKind};
use rustic_core::RusticError;

/// Flattens a rustic error.
pub fn to_error(kind: ErrorKind, attempted: impl Into<String>, error: &RusticError) -> Error {
    Error::new(kind, attempted).because(error.to_string())
}
