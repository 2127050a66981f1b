//! Backups of real servers, whole, damaged and hostile, drilled by the real command in both runtimes.
#![cfg(test)]

#[path = "engines/attacks.rs"]
mod attacks;
#[path = "support/binary.rs"]
mod binary;
#[path = "engines/cuts.rs"]
mod cuts;
#[path = "engines/digests.rs"]
mod digests;
#[path = "engines/fixture.rs"]
mod fixture;
#[path = "engines/kill.rs"]
mod kill;
#[path = "engines/need.rs"]
mod need;
#[path = "engines/off.rs"]
mod off;
#[path = "engines/place.rs"]
mod place;
#[path = "engines/served.rs"]
mod served;
#[path = "engines/servers.rs"]
mod servers;
#[path = "support/shared.rs"]
mod shared;
#[path = "engines/verdicts.rs"]
mod verdicts;
