//! Healthy databases as real applications leave them, and one damaged one for each thing that can be wrong.

mod damaged;
mod fixtures;
mod healthy;
mod hostile;
mod past;
mod wanted;
