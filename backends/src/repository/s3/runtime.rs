//! A small runtime of its own for each S3 backend.
//!
//! rustic calls its backends from plain threads, from rayon, and from threads of tokio that may block.
//! `block_on` panics on some of these; handing the work to other threads and waiting for a message
//! works on all.

use std::future::Future;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::repository::error::{Fault, Trouble};

/// Two threads that talk to the server.
#[derive(Debug)]
pub(super) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    pub(super) fn new() -> std::io::Result<Self> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3")
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
    }

    /// Runs `work` elsewhere and waits for it, at most for `limit`.
    pub(super) fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let Some(runtime) = &self.0 else {
            return Err(Fault::new(Trouble::Other, "the backend is shutting down"));
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        let task = runtime.spawn(async move {
            // Nobody listens any more once the limit passed.
            let _ = sender.send(work.await);
        });
        receiver.recv_timeout(limit).unwrap_or_else(|error| {
            task.abort();
            Err(match error {
                RecvTimeoutError::Timeout => {
                    Fault::new(Trouble::TimedOut, format!("no answer within {} s", limit.as_secs()))
                }
                RecvTimeoutError::Disconnected => Fault::new(Trouble::Other, "the S3 client panicked"),
            })
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Waiting for the threads would panic inside another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
