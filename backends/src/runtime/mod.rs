//! Runtimes: where restored software runs, sealed in.
//!
//! | file | what lives there |
//! |---|---|
//! | `process` | programs of this machine, in namespaces of their own |
//! | `container` | containers, made by testcontainers |
//! | `auto` | the first runtime that has what is asked for |
//! | `seal` | tries a seal from inside, the same way for all runtimes |
//! | `folder` | the folder of a cell, as this machine sees it |
//! | `copying` | copies restored files, following nothing |
//! | `user` | the user that programs of a cell run as |
//! | `tail` | the last bytes of what a program says |
//! | `relay.sh` | reaches a port in a cell, for all runtimes |

pub mod auto;
pub mod container;
mod copying;
mod folder;
pub mod process;
mod seal;
mod tail;
mod user;

use std::sync::Arc;

use firedrill_core::cell::Runtime;
use firedrill_core::config::runtime::{RuntimeConfig, RuntimeKind};

/// Reaches a port in a cell.
const RELAY: &str = include_str!("relay.sh");

/// The runtime that the config asks for; `None` when nothing restored may be started.
pub fn from_config(config: &RuntimeConfig) -> Option<Arc<dyn Runtime>> {
    let process = || Arc::new(process::ProcessRuntime::new(config)) as Arc<dyn Runtime>;
    let container = || Arc::new(container::ContainerRuntime::new(config)) as Arc<dyn Runtime>;
    match config.kind {
        RuntimeKind::Off => None,
        RuntimeKind::Process => Some(process()),
        RuntimeKind::Container => Some(container()),
        RuntimeKind::Auto => Some(Arc::new(auto::AutoRuntime::new(vec![process(), container()]))),
    }
}

/// A text that nothing else on this machine has right now.
fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
