//! Repositories: where backups are read from.

pub mod access;
pub mod error;
pub(crate) mod guard;
mod local;
pub mod location;
mod locks;
pub mod objects;
pub mod password;
mod rest;
pub mod restic;
pub mod s3;
