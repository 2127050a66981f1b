//! firedrill's writer against real restic: what it writes, restic must check, restore and build upon, and the
//! other way round; each must respect the locks of the other.
//!
//! | module | the story it tells |
//! |---|---|
//! | `backups` | snapshots of folders and streams, on disk and through a rest-server |
//! | `unread` | what cannot be read is told, and makes no snapshot |
//! | `locks` | who waits for whom |
//! | `kills` | a backup and a prune that are killed |
//! | `retention` | rules against those of restic, on random snapshots |
//! | `pruning` | what goes, what stays, and what a kill leaves behind |
#![cfg(test)]

mod backups;
#[path = "../hostile/support/craft.rs"]
#[expect(dead_code, reason = "the stories of hostile repositories use more of it")]
mod craft;
mod kills;
mod locks;
mod pruning;
mod retention;
#[path = "../restic_interop/support/mod.rs"]
#[expect(dead_code, reason = "the other stories use more of it")]
mod support;
mod unread;
mod writing;
