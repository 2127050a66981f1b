//! Bounded everything: a deadline and a stop signal that long work asks from time to time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// A deadline and a stop flag. Clones share the flag; a child may have an earlier deadline.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    deadline: Option<Instant>,
    limit: Option<Duration>,
}

impl Watch {
    /// A watch without a deadline.
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// A watch with the same stop flag that ends `limit` from now, or with this one if that is sooner.
    #[must_use]
    pub fn within(&self, limit: Option<Duration>) -> Self {
        // A limit that overflows the clock is no limit.
        let own = limit.and_then(|l| Instant::now().checked_add(l).map(|deadline| (deadline, l)));
        let (deadline, limit) = match (self.deadline, own) {
            (Some(outer), Some((inner, l))) if inner < outer => (Some(inner), Some(l)),
            (None, Some((inner, l))) => (Some(inner), Some(l)),
            _ => (self.deadline, self.limit),
        };
        Self { stop: Arc::clone(&self.stop), deadline, limit }
    }

    /// Asks all work under this watch to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// The time that is left, if there is a deadline.
    pub fn left(&self) -> Option<Duration> {
        self.deadline.map(|d| d.saturating_duration_since(Instant::now()))
    }

    /// `Ok` while work may go on.
    pub fn check(&self) -> Result<(), Error> {
        if self.stopped() {
            return Err(Error::new(ErrorKind::Cancelled, "finish").because("the run was told to stop"));
        }
        if self.left().is_some_and(|left| left.is_zero()) {
            return Err(self.timed_out());
        }
        Ok(())
    }

    /// The error for a deadline that passed.
    pub fn timed_out(&self) -> Error {
        let limit = humantime::format_duration(self.limit.unwrap_or_default()).to_string();
        Error::new(ErrorKind::Timeout, "finish in time")
            .because(format!("the limit of {limit} passed"))
            .advise("raise --timeout, or find out what is slow")
    }
}
