//! Shows and ships verdicts. Never decides one, and never touches a system under test.

pub mod console;
pub mod html;
pub mod json;
pub mod junit;
pub mod prometheus;
pub mod pushgateway;
