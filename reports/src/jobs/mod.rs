//! What becomes of the jobs of the pipeline, for machines and for people.
//!
//! | module | what it ships |
//! |---|---|
//! | [`metrics`] | what is known of each job, to a Pushgateway |
//! | [`messages`] | what went bad and what is well again, to ntfy and webhooks |
//! | [`pings`] | that a job began and how it ended, to a dead man's switch |

pub mod messages;
pub mod metrics;
pub mod pings;

#[cfg(test)]
mod tests;
