//! Scratch: the places that drills restore into.

pub mod directory;
mod removal;
