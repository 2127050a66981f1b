//! The pipeline as a whole: real jobs into real repositories, where time passes, processes are killed and servers
//! are in bad weather. What it leaves is held against real restic.
//!
//! | module | the story it tells |
//! |---|---|
//! | `month` | weeks of five fleets on a simulated clock: who ran when, what was kept, what restores |
//! | `crash` | the command, killed at random moments |
//! | `weather` | servers that refuse, throttle, hang up and lose answers |
//! | `parts` | dumps that go into a bucket in parts |
//! | `fleet` | the configs of the five fleets |
//! | `proxy` | the bad weather |
//! | `place` | folders, repositories and real restic |
//!
//! What takes long is ignored; `make soak` runs it.
#![cfg(test)]

#[path = "../support/binary.rs"]
mod binary;
mod crash;
mod fleet;
mod month;
mod parts;
mod place;
mod proxy;
#[path = "../damage/vault.rs"]
#[expect(dead_code, reason = "the stories of damage use more of it")]
mod vault;
mod weather;
