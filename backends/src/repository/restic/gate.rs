//! A bound on the memory that all readers of one repository take together. Each is small; what a hostile
//! index makes of one is not, and several drills read at the same time.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use firedrill_core::error::Result;
use firedrill_core::watch::Watch;

/// Bytes that are held at a time, unless one reader needs more than that by itself.
const BYTES_MAX: u64 = 256 << 20;
/// How often somebody who waits looks at the watch.
const LOOK: Duration = Duration::from_millis(100);

/// Lets readers in as long as there is room.
#[derive(Default)]
pub(crate) struct Gate {
    used: Mutex<u64>,
    left: Condvar,
}

/// Room that is given back when it is dropped.
pub(crate) struct Room<'a> {
    gate: &'a Gate,
    bytes: u64,
}

impl Gate {
    /// Waits until there is room for `bytes`. Who needs more than all there is waits to be alone.
    pub(crate) fn enter(&self, bytes: u64, watch: &Watch) -> Result<Room<'_>> {
        let bytes = bytes.min(BYTES_MAX);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while used.saturating_add(bytes) > BYTES_MAX {
            watch.check()?;
            used = self.left.wait_timeout(used, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        *used += bytes;
        Ok(Room { gate: self, bytes })
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut used = self.gate.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = used.saturating_sub(self.bytes);
        self.gate.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use firedrill_core::watch::Watch;

    use super::{BYTES_MAX, Gate};

    #[test]
    fn no_more_than_the_bound_is_let_in() {
        let (gate, watch) = (Gate::default(), Watch::unlimited());
        let (inside, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for number in 0..8_u64 {
                let (gate, watch, inside, most) = (&gate, &watch, &inside, &most);
                scope.spawn(move || {
                    for _ in 0..20 {
                        // One of them needs more than there is.
                        let bytes = if number == 0 { BYTES_MAX * 3 } else { BYTES_MAX / 3 };
                        let _room = gate.enter(bytes, watch).unwrap();
                        let counted = bytes.min(BYTES_MAX);
                        most.fetch_max(
                            inside.fetch_add(counted, Ordering::SeqCst) + counted,
                            Ordering::SeqCst,
                        );
                        std::thread::yield_now();
                        inside.fetch_sub(counted, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= BYTES_MAX);
        assert_eq!(*gate.used.lock().unwrap(), 0);
    }

    #[test]
    fn who_waits_notices_a_deadline() {
        let gate = Gate::default();
        let _all = gate.enter(u64::MAX, &Watch::unlimited()).unwrap();
        let watch = Watch::unlimited().within(Some(Duration::from_millis(10)));
        assert!(gate.enter(1, &watch).is_err());
    }
}
