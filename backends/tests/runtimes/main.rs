//! What every runtime has to keep, whatever its cells are made of. Each test asks each runtime that this machine has.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod containers;
mod others;
mod suite;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use firedrill_backends::runtime::container::ContainerRuntime;
use firedrill_backends::runtime::process::ProcessRuntime;
use firedrill_core::cell::{Kit, Runtime};
use firedrill_core::config::runtime::{ContainerRuntimeConfig, Pull, RuntimeConfig};
use firedrill_core::config::units::Size;

/// An image with a shell, made by `ci/images/build`.
const IMAGE: &str = "firedrill-test/base:12";

/// Set where only the process runtime is asked.
const PROCESS_ONLY: &str = "FIREDRILL_TEST_PROCESS_ONLY";

/// Small limits, so that tests can reach them.
fn config() -> RuntimeConfig {
    RuntimeConfig {
        memory: Some(Size(256 << 20)),
        processes: Some(200),
        disk: Some(Size(32 << 20)),
        container: ContainerRuntimeConfig {
            pull: Pull::Never,
            images: BTreeMap::from([("shell".to_owned(), IMAGE.to_owned())]),
        },
        ..RuntimeConfig::default()
    }
}

/// A shell is in every image and on every machine.
fn shell() -> Kit {
    Kit { name: "shell".into(), at_least: None, at_most: None, programs: vec!["bash".into()] }
}

fn runtimes() -> Vec<Arc<dyn Runtime>> {
    let process: Arc<dyn Runtime> = Arc::new(ProcessRuntime::new(&config()));
    let mut runtimes = vec![process];
    runtimes.extend(containers().map(|runtime| runtime as Arc<dyn Runtime>));
    runtimes
}

/// The container runtime, if this machine can have one.
fn containers() -> Option<Arc<ContainerRuntime>> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    if std::env::var_os(PROCESS_ONLY).is_some() {
        return None;
    }
    let runtime = Arc::new(ContainerRuntime::new(&config()));
    let missing = MISSING.get_or_init(|| runtime.offers(&shell()).err().map(|e| e.chain()));
    let Some(why) = missing else { return Some(runtime) };
    firedrill_testing::skip(&format!("the container runtime: {why}; `ci/images/build` makes the image"));
    None
}

/// One ignored test, in a process of its own.
fn child(test: &str, variables: &[(&str, &str)]) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", test, "--nocapture"]).envs(variables.iter().copied());
    command
}
