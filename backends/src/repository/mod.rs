//! Repositories: where backups are read from.

<<<<<<< HEAD
pub mod error;
=======
pub mod access;
pub mod error;
mod guard;
mod local;
>>>>>>> e82ffeb (Reach repositories in folders, on rest-servers and in S3)
pub mod location;
pub mod password;
mod rest;
pub mod restic;
pub mod s3;
