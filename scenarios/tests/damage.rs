//! The command on damaged repositories and bad input.
#![cfg(test)]

#[path = "damage/anatomy.rs"]
mod anatomy;
#[path = "support/binary.rs"]
mod binary;
#[path = "damage/fixture.rs"]
mod fixture;
#[path = "damage/forged.rs"]
mod forged;
#[path = "damage/input.rs"]
mod input;
#[path = "damage/matrix.rs"]
mod matrix;
#[path = "damage/place.rs"]
mod place;
#[path = "damage/replay.rs"]
mod replay;
#[path = "damage/restic.rs"]
mod restic;
#[path = "damage/secrets.rs"]
mod secrets;
#[path = "support/shared.rs"]
mod shared;
#[path = "damage/untouched.rs"]
mod untouched;
#[path = "damage/vault.rs"]
mod vault;
