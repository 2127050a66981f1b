//! The first runtime that has what is asked for.

use std::sync::Arc;

use firedrill_core::cell::{Cell, CellRequest, Kit, Runtime, Software};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::ports::Swept;

/// Asks several runtimes in order.
pub struct AutoRuntime {
    runtimes: Vec<Arc<dyn Runtime>>,
}

impl AutoRuntime {
    /// Prefers the first of `runtimes`.
    pub fn new(runtimes: Vec<Arc<dyn Runtime>>) -> Self {
        Self { runtimes }
    }

    fn choose(&self, kits: &[Kit]) -> Result<&Arc<dyn Runtime>> {
        let names: Vec<_> = kits.iter().map(Kit::to_string).collect();
        let mut error = Error::new(ErrorKind::Unavailable, format!("find {}", names.join(" and ")));
        for runtime in &self.runtimes {
            match kits.iter().try_for_each(|kit| runtime.offers(kit).map(drop)) {
                Ok(()) => return Ok(runtime),
                Err(e) => error = error.because(format!("{}: {}", runtime.name(), e.chain())),
            }
        }
        Err(error)
    }
}

impl Runtime for AutoRuntime {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn offers(&self, kit: &Kit) -> Result<Software> {
        self.choose(std::slice::from_ref(kit))?.offers(kit)
    }

    /// A runtime whose seal does not hold gives way to the next one that has the software.
    fn open(&self, request: &CellRequest<'_>) -> Result<Box<dyn Cell>> {
        let first = self.choose(request.kits)?;
        let mut unsealed = None;
        for runtime in self.runtimes.iter().skip_while(|r| !Arc::ptr_eq(r, first)) {
            if request.kits.iter().any(|kit| runtime.offers(kit).is_err()) {
                continue;
            }
            match runtime.open(request) {
                Err(error) if error.kind == ErrorKind::Unsealed => unsealed = unsealed.or(Some(error)),
                other => return other,
            }
        }
        Err(unsealed.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "find a runtime")))
    }

    fn sweep(&self) -> Result<Swept> {
        let mut swept = Swept::default();
        for runtime in &self.runtimes {
            let one = runtime.sweep()?;
            swept.removed.extend(one.removed);
            swept.in_use.extend(one.in_use);
            swept.failed.extend(one.failed);
        }
        Ok(swept)
    }
}
