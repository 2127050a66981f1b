//! Scratch: the places that drills restore into.

pub mod directory;
mod removal;

pub(crate) use removal::remove;
