//! What every runtime has to keep, whatever its cells are made of. Each test asks each runtime that this machine has.

mod suite;

use std::sync::Arc;

use firedrill_backends::runtime::process::ProcessRuntime;
use firedrill_core::cell::Runtime;
use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::config::units::Size;

/// Small limits, so that tests can reach them.
fn config() -> RuntimeConfig {
    RuntimeConfig {
        memory: Some(Size(256 << 20)),
        processes: Some(200),
        disk: Some(Size(32 << 20)),
        ..RuntimeConfig::default()
    }
}

fn runtimes() -> Vec<Arc<dyn Runtime>> {
    vec![Arc::new(ProcessRuntime::new(&config()))]
}
