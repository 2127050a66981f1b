//! Shows and ships verdicts. Never decides one, and never touches a system under test.
//!
//! | module | what it makes of a judgement |
//! |---|---|
//! | [`console`] | progress on stderr while the run goes on, then a table on stdout |
//! | [`json`] | the judgement itself |
//! | [`junit`] | one test case per drill, for CI systems |
//! | [`prometheus`] | metrics, and a file for node-exporter's textfile collector |
//! | [`pushgateway`] | the same metrics, pushed |
//! | [`html`] | the recovery report: one page without external resources |
//! | [`jobs`] | not of a judgement, but of the jobs of the pipeline: metrics, messages to people, pings |
//!
//! All others are [`firedrill_core::ports::Sink`]s, and independent of each other.

pub mod console;
mod file;
#[cfg(test)]
mod fixture;
pub mod html;
mod http;
pub mod jobs;
pub mod json;
pub mod junit;
pub mod prometheus;
pub mod pushgateway;
mod story;
mod text;
