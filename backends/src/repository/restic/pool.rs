//! A few threads for reading, joined before the call returns. A panic in one of them (a library met data
//! that it did not expect) becomes an error, never a crash.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use firedrill_core::error::{Error, ErrorKind, Result};

/// Calls `work` for each item on up to `workers` threads. Stops handing out items after the first
/// error, which is returned; results are in the order of the items.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    workers: usize,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    let worker = || {
        while lock(&failed).is_none() {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(i) else { return };
            match catch_unwind(AssertUnwindSafe(|| work(item))).unwrap_or_else(|panic| Err(panicked(&*panic)))
            {
                Ok(result) => lock(&done).push((i, result)),
                Err(error) => {
                    lock(&failed).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers.min(items.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(i, _)| *i);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Error::new(ErrorKind::Internal, "read the repository")
        .because(format!("a reader panicked: {message}"))
        .advise("this is a bug in firedrill or in a library it uses; please report it")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::each;

    #[test]
    fn results_keep_their_order_and_a_panic_is_an_error() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(each(&items, 4, |n| Ok(n * 2)).unwrap()[99], 198);
        let error = each(&items, 4, |n| if *n == 50 { panic!("at fifty") } else { Ok(()) }).unwrap_err();
        assert!(error.chain().contains("at fifty"));
        assert!(each(&[] as &[u32], 4, |_| Ok(())).unwrap().is_empty());
    }
}
