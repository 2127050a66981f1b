//! Repositories: where backups are read from.

pub mod error;
pub mod location;
pub mod password;
pub mod restic;
pub mod s3;
