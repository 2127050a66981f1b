//! Adapters to the world: repositories, scratch, and the probes that look at restored data.
//!
//! | folder | what it adapts |
//! |---|---|
//! | [`capture`] | what a backup is made of, at the moment it is made |
//! | [`digests`] | digests of live and of restored data |
//! | [`job`] | jobs of the pipeline: captures and repositories put together |
//! | [`mirror`] | copies that are filled from others |
//! | [`repository`] | restic repositories on disk, on a rest-server and in S3 |
//! | [`runtime`] | where restored software runs, sealed in |
//! | [`statistics`] | what a bucket or a folder holds |
//! | [`scratch`] | the places that drills restore into |
//! | [`probe`] | what is looked at in restored data |
//!
//! Nothing here makes a verdict.

pub mod capture;
pub mod digests;
pub mod job;
pub mod mirror;
pub mod probe;
pub mod repository;
pub mod runtime;
pub mod scratch;
pub mod statistics;
