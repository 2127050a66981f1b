//! The container daemon, and how blocking code asks it.
//!
//! The connections of a client belong to the tokio runtime that opened them. Cells are used from blocking threads of
//! any runtime, from tests without one, and while one shuts down; so everything that talks to the daemon runs on one
//! small runtime of its own, and callers wait for it.

use std::future::Future;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error as BollardError;
use tokio::runtime::{Builder, Handle, Runtime};

/// A daemon that takes longer than this to say that it is there is not there.
const PING_TIME: Duration = Duration::from_secs(5);
/// One request may take this long.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(60);
/// How often somebody who waits looks whether to go on.
const PAUSE: Duration = Duration::from_millis(20);

/// The runtime on which everything runs that talks to the daemon.
pub(super) fn handle() -> Result<&'static Handle> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread().worker_threads(2).thread_name("containers").enable_all().build()
    });
    runtime.as_ref().map(Runtime::handle).map_err(|e| {
        Error::new(ErrorKind::Unavailable, "start the threads that talk to the container daemon")
            .from_source(e)
    })
}

/// Does `work` on that runtime and waits for it: as long as `watch` lets it, and `limit` at most. What takes longer is
/// dropped.
pub(super) fn wait<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
    limit: Duration,
    watch: &Watch,
) -> Result<T> {
    let (tell, told) = mpsc::sync_channel(1);
    let task = handle()?.spawn(async move {
        let _ = tell.send(work.await);
    });
    let whole = Watch::unlimited().within(Some(limit));
    loop {
        match told.recv_timeout(PAUSE) {
            Ok(result) => return result,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Error::new(ErrorKind::Internal, "talk to the container daemon")
                    .because("the task that does it broke"));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let late = || Error::new(ErrorKind::Timeout, "wait for the container daemon");
        let stopped = watch.check().and_then(|()| {
            whole.check().map_err(|_| late().because(format!("it took longer than {} s", limit.as_secs())))
        });
        if let Err(stopped) = stopped {
            task.abort();
            return Err(stopped);
        }
    }
}

/// A daemon that has answered.
#[derive(Clone)]
pub(super) struct Daemon {
    pub(super) docker: Docker,
    /// Podman, which speaks Docker's language, and knows fewer words.
    pub(super) podman: bool,
}

/// The daemon that testcontainers finds: `DOCKER_HOST`, or a socket in one of the usual places.
pub(super) async fn find() -> Result<Daemon> {
    let docker = testcontainers::core::client::docker_client_instance().await.map_err(|e| absent(&e))?;
    match tokio::time::timeout(PING_TIME, docker.version()).await {
        Ok(Ok(version)) => {
            let podman = version.components.iter().flatten().any(|part| part.name.starts_with("Podman"));
            Ok(Daemon { docker, podman })
        }
        Ok(Err(e)) => Err(absent(&e)),
        Err(_) => Err(unreachable().because(format!("it did not answer in {} s", PING_TIME.as_secs()))),
    }
}

fn unreachable() -> Error {
    Error::new(ErrorKind::Unavailable, "reach a container daemon").advise(
        "start Docker (or Podman with its socket), let this user use the socket, or name it with DOCKER_HOST",
    )
}

fn absent(error: &dyn std::error::Error) -> Error {
    unreachable().from_source(error)
}

/// The status code with which the daemon refused, if it did.
pub(super) fn refusal(error: &BollardError) -> Option<u16> {
    match error {
        BollardError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Waits for the answer to one request.
pub(super) async fn ask<T>(
    attempted: &str,
    request: impl Future<Output = std::result::Result<T, BollardError>>,
) -> Result<T> {
    let failed = || Error::new(ErrorKind::Unavailable, attempted);
    match tokio::time::timeout(REQUEST_TIME, request).await {
        Ok(answer) => answer.map_err(|e| failed().from_source(&e)),
        Err(_) => {
            Err(failed()
                .because(format!("the container daemon took longer than {} s", REQUEST_TIME.as_secs())))
        }
    }
}
