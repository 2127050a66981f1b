//! firedrill.
fn main() {}
