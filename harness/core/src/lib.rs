//! The nouns, the ports and the pure parts of firedrill.
//!
//! Data flows one way: `config -> plan -> run (events) -> evidence -> judge -> verdicts -> sinks`.
//!
//! | module | what lives there |
//! |---|---|
//! | [`config`] | what a person typed, and every mistake in it |
//! | [`plan`], [`planner`] | what will be restored, from where, and how it is examined; and the choice of it |
//! | [`ports`], [`cell`] | the traits that adapters implement |
//! | [`run`] | drills a plan and emits events |
//! | [`event`], [`evidence`] | timestamped facts, and the chained file that keeps them |
//! | [`judge`], [`verdict`] | evidence in, verdicts out |
//! | [`memory`] | what was proven, which is what the next drill expects |
//! | [`pipeline`] | the jobs that write backups: when they run, and what became of them |
//! | [`retention`] | which snapshots are kept, and which are not |
//!
//! This crate never talks to a repository, a cluster or a database, and never prints.

pub mod canary;
pub mod cell;
pub mod clock;
pub mod config;
pub mod digests;
mod durable;
pub mod error;
pub mod event;
pub mod evidence;
pub mod finding;
pub mod judge;
pub mod manifest;
pub mod memory;
pub mod pipeline;
pub mod plan;
pub mod planner;
pub mod ports;
pub mod progress;
pub mod retention;
pub mod run;
pub mod secret;
pub mod seed;
pub mod snapshot;
pub mod subject;
pub mod verdict;
pub mod watch;
