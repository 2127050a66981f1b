//! The pipeline that writes backups: its jobs, when they run, what they must not meet, and what became of them.
//!
//! Restore tests prove what this pipeline made. Nothing here talks to a repository: a [`Job`](job::Job) does, and is
//! handed in.
//!
//! | module | what lives there |
//! |---|---|
//! | [`spec`] | the jobs of a config, and what each of them needs for itself |
//! | [`overlap`] | jobs that the plan lets meet though they must not |
//! | [`job`] | the port that jobs implement, and what they tell |
//! | [`state`] | what is known of a job from run to run |
//! | [`ledger`] | that knowledge as files, and the locks between processes |
//! | [`runner`] | one run of one job, from its lock to its last word |
//! | [`news`] | what people have to be told |
//! | [`scheduler`] | what is to be started now: pure decisions |
//! | [`serve`] | one look of a server that starts jobs |

pub mod job;
pub mod ledger;
pub mod news;
pub mod overlap;
pub mod runner;
pub mod scheduler;
pub mod serve;
pub mod spec;
pub mod state;

#[cfg(test)]
mod tests;
