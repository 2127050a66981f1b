//! Where commands run that can be stopped: Ctrl-C and SIGTERM stop a run in good order: drills end, leases are released, evidence says why.

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::verdict::Exit;
use firedrill_core::watch::Watch;
use tokio::signal::unix::{SignalKind, signal};

/// Runs `work` to its end. What hangs in a library must not keep the command from ending.
pub(crate) fn until_done<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(ErrorKind::Internal, "start").from_source(&e))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

/// The same for work that waits by blocking its thread, and that `watch` stops at a signal.
pub(crate) fn blocking<T>(watch: &Watch, work: impl FnOnce(&Watch) -> Result<T>) -> Result<T> {
    until_done(async {
        on_signal(watch);
        tokio::task::block_in_place(|| work(watch))
    })
}

/// Stops `watch` at the first signal. The listener ends with the runtime.
pub(crate) fn on_signal(watch: &Watch) {
    let watch = watch.clone();
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            tracing::warn!("signals cannot be caught; a killed run is cleaned up by `firedrill sweep`");
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        crate::note("stopping: what is running is given up and cleaned up; once more to leave at once");
        watch.stop();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        leave();
    });
}

/// Ends the process without cleaning up; `firedrill sweep` does that later.
#[expect(clippy::disallowed_methods, reason = "somebody who asks twice wants no destructor to run")]
pub(crate) fn leave() {
    std::process::exit(i32::from(Exit::Inconclusive.code()));
}
