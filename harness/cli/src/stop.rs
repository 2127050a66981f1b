//! Ctrl-C and SIGTERM stop a run in good order: drills end, leases are released, evidence says why.

use firedrill_core::verdict::Exit;
use firedrill_core::watch::Watch;
use tokio::signal::unix::{SignalKind, signal};

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
