//! Runtimes: where restored software runs, sealed in.
//!
//! | file | what lives there |
//! |---|---|
//! | `process` | programs of this machine, in namespaces of their own |
//! | `auto` | the first runtime that has what is asked for |
//! | `seal` | tries a seal from inside, the same way for all runtimes |
//! | `copying` | copies restored files, following nothing |

pub mod auto;
mod copying;
pub mod process;
mod seal;

use std::sync::Arc;

use firedrill_core::cell::Runtime;
use firedrill_core::config::runtime::{RuntimeConfig, RuntimeKind};

/// The runtime that the config asks for; `None` when nothing restored may be started.
pub fn from_config(config: &RuntimeConfig) -> Option<Arc<dyn Runtime>> {
    let process = || Arc::new(process::ProcessRuntime::new(config)) as Arc<dyn Runtime>;
    match config.kind {
        RuntimeKind::Off => None,
        RuntimeKind::Process => Some(process()),
        RuntimeKind::Container => None,
        RuntimeKind::Auto => Some(Arc::new(auto::AutoRuntime::new(vec![process()]))),
    }
}
