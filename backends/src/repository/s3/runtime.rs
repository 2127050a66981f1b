//! A small runtime of its own for each S3 backend.
//!
//! rustic calls its backends from plain threads, from rayon, and from threads of tokio that may block.
//! `block_on` panics on some of these; handing the work to other threads and waiting for a message
//! works on all.

use std::future::Future;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use firedrill_core::watch::Watch;

use crate::repository::error::{Fault, Trouble};

/// How often somebody who waits looks at the watch.
const LOOK: Duration = Duration::from_millis(100);
/// Who has no time left may still end what was begun: a lock is taken away.
const LAST: Duration = Duration::from_secs(5);

/// Two threads that talk to the server.
#[derive(Debug)]
pub(super) struct Runtime {
    runtime: Option<tokio::runtime::Runtime>,
    watch: Watch,
}

impl Runtime {
    pub(super) fn new(watch: Watch) -> std::io::Result<Self> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3")
            .enable_all()
            .build()
            .map(|runtime| Self { runtime: Some(runtime), watch })
    }

    /// Runs `work` elsewhere and waits for it, at most for `limit`, or until nobody has time for it any more.
    pub(super) fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let Some(runtime) = &self.runtime else {
            return Err(Fault::new(Trouble::Other, "the backend is shutting down"));
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        let task = runtime.spawn(async move {
            // Nobody listens any more once the limit passed.
            let _ = sender.send(work.await);
        });
        let started = Instant::now();
        loop {
            let spent = started.elapsed();
            let why = match receiver.recv_timeout(LOOK.min(limit.saturating_sub(spent))) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => Fault::new(Trouble::Other, "the S3 client panicked"),
                Err(RecvTimeoutError::Timeout) if spent >= limit => {
                    Fault::new(Trouble::TimedOut, format!("no answer within {} s", limit.as_secs()))
                }
                Err(RecvTimeoutError::Timeout) => match self.watch.check() {
                    Err(over) if spent >= LAST => Fault::new(
                        Trouble::TimedOut,
                        format!("no answer within {} s: {}", spent.as_secs(), over.causes.join(": ")),
                    ),
                    _ => continue,
                },
            };
            task.abort();
            return Err(why);
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Waiting for the threads would panic inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
