//! Workloads to back up, faults to break copies with, and the servers that tests and the demo need.

pub mod chaos;
pub mod control;
pub mod damage;
pub mod fleet;
pub mod s3_server;
