//! What somebody who can write a backup can do to the machine that tests it: nothing, and every attempt
//! is named. Each story writes a repository that no backup program would write, drills it with every
//! probe, and looks at what came of it.
//!
//! | module | the story it tells |
//! |---|---|
//! | `names` | names that leave their folder, names given twice, links that are written through |
//! | `numbers` | sizes, ids, owners, modes and times that lie |
//! | `shapes` | trees that are too deep, too wide, or name each other too often |
//! | `kinds` | devices, pipes, privileges, attributes, hard links |
//! | `json` | trees, snapshots and indexes that are not what they should be |
//! | `bombs` | little that unpacks to much |
//! | `bait` | what a probe might follow, open or wait for |
//! | `support` | the writer of repositories, the drill, the watched process |
#![cfg(test)]

mod bait;
mod bombs;
mod json;
mod kinds;
mod names;
mod numbers;
mod shapes;
mod support;
