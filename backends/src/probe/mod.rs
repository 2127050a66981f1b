//! Probes: what is looked at in restored data. Each file opens with what it verifies and what it does
//! not.

pub mod canary;
#[cfg(test)]
pub(crate) mod fixture;
pub mod freshness;
pub mod shape;
pub mod sqlite;
pub mod structure;
pub mod tree;

#[cfg(test)]
mod fleet;
mod names;
mod restored;
