//! What a person typed.

pub mod settings;
pub mod units;
