//! Mirrors against real restic: whatever moment a run is stopped at, restic opens, checks and restores the copy.
//!
//! | module | the story it tells |
//! |---|---|
//! | `stops` | a run is stopped after each single file, or killed |
//! | `broken` | a source that is damaged, emptied, or another one |
//! | `reencrypted` | snapshots with other keys, beside `restic copy` |
//! | `servers` | from and to a rest-server; bandwidth; how far behind |
#![cfg(test)]

mod broken;
mod place;
mod reencrypted;
mod servers;
mod stops;
#[path = "../restic_interop/support/mod.rs"]
#[expect(dead_code, reason = "the other stories use more of it")]
mod support;
