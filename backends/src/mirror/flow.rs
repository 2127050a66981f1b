//! How much may happen at a time: threads, memory, bytes in a second, attempts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::progress::Progress;
use firedrill_core::watch::Watch;
use rustic_core::RusticResult;

use crate::repository::error::{Trouble, trouble};

/// How often somebody who waits looks at the watch.
const LOOK: Duration = Duration::from_millis(100);
/// Further attempts after the first, besides those that the backends make on their own.
const RETRIES: usize = 3;

/// Waits for `pause`, or until the watch says stop.
pub(crate) fn sleep(pause: Duration, watch: &Watch) -> Result<()> {
    let start = Instant::now();
    loop {
        watch.check()?;
        let left = pause.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// Lets no more than so many bytes pass in a second, whoever they belong to. Each transfer waits until those before
/// it have had their time; a transfer itself goes as fast as it can, so what is limited is the average over some
/// files and not each moment.
#[derive(Debug)]
pub struct Throttle {
    rate: Option<f64>,
    /// When the next transfer may start.
    free: Mutex<Option<Instant>>,
}

impl Throttle {
    /// A limit in bytes per second; none without one.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        let rate = bytes_per_second.map(|rate| rate.max(1) as f64);
        Self { rate, free: Mutex::new(None) }
    }

    /// Waits until `bytes` may pass.
    pub fn pass(&self, bytes: u64, watch: &Watch) -> Result<()> {
        let Some(rate) = self.rate else { return watch.check() };
        let taken = Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX);
        let wait = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let start = free.unwrap_or(now).max(now);
            *free = start.checked_add(taken).or(Some(start));
            start.saturating_duration_since(now)
        };
        sleep(wait, watch)
    }

    /// What a transfer calls for each of its pieces: counts them, and lets no more than the limit pass.
    pub(super) fn counting<'a>(
        &'a self,
        progress: &'a Progress,
        watch: &'a Watch,
    ) -> impl Fn(u64) -> Result<()> + 'a {
        |bytes| {
            progress.advance(bytes);
            self.pass(bytes, watch)
        }
    }
}

/// Calls `attempt` until it succeeds, or fails in a way that another attempt will not change, or has failed often
/// enough. The inner error is that of the last attempt.
pub(crate) fn again<T>(
    watch: &Watch,
    mut attempt: impl FnMut() -> RusticResult<T>,
) -> Result<RusticResult<T>> {
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(RETRIES)
        .build();
    loop {
        watch.check()?;
        let result = attempt();
        let may_pass = |trouble| matches!(trouble, Trouble::Busy | Trouble::TimedOut | Trouble::Unreachable);
        match (&result, pauses.next()) {
            (Err(error), Some(pause)) if may_pass(trouble(error)) => sleep(pause, watch)?,
            _ => return Ok(result),
        }
    }
}

/// Calls `work` for each item on up to `workers` threads, until one of them fails.
pub(crate) fn each<T: Sync>(
    items: &[T],
    workers: usize,
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        while lock().is_none() {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(item)));
            let done = done.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Internal, "copy a file")
                    .because("a library panicked")
                    .advise("please report it; this is a bug"))
            });
            if let Err(error) = done {
                lock().get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers.min(items.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_spreads_transfers_of_all_threads() {
        let throttle = Throttle::new(Some(1000));
        let watch = Watch::unlimited();
        let start = Instant::now();
        // The last of ten transfers waits for the nine before it.
        each(&[50_u64; 10], 4, |bytes| throttle.pass(*bytes, &watch)).unwrap();
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(440), "{took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn nobody_waits_without_a_limit_or_after_a_stop() {
        let watch = Watch::unlimited();
        let start = Instant::now();
        Throttle::new(None).pass(u64::MAX, &watch).unwrap();
        assert!(start.elapsed() < Duration::from_secs(1));
        let throttle = Throttle::new(Some(1));
        throttle.pass(u64::MAX, &watch).unwrap();
        watch.stop();
        assert_eq!(throttle.pass(1, &watch).unwrap_err().kind, ErrorKind::Cancelled);
    }

    #[test]
    fn a_panic_is_an_error() {
        let error = each(&[1], 2, |_| panic!("on purpose")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
    }
}
