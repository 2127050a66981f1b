//! The `process` runtime: programs of this machine, in namespaces of their own.
//!
//! A cell is a set of namespaces (mounts, network, processes, IPC, host name) that its first process holds open;
//! `anchor.sh` says what it sees. That process waits for the end of its standard input, so a cell dies with
//! firedrill, even when firedrill is killed. Programs enter with `nsenter`, lose every privilege with `setpriv`,
//! and are limited with `prlimit`; all of these, and `unshare`, are parts of util-linux. As root, programs run as
//! an unprivileged user; as anybody else, in a user namespace, where the kernel grants one.
//!
//! Memory is limited per process (`RLIMIT_DATA`), processes per user, the disk by watching it.
//!
//! | file | what lives there |
//! |---|---|
//! | `find` | which programs there are, and their versions |
//! | `anchor` | the first process of a cell |
//! | `cell` | running programs in it |
//! | `child` | pipes, time limits, how a program ended |
//! | `service` | servers |

mod anchor;
mod cell;
mod child;
mod find;
mod service;

use firedrill_core::cell::{Cell, CellLimits, CellRequest, Kit, Runtime, Seal, SealPart, Software};
use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::error::Result;
use firedrill_core::ports::Swept;

use super::seal;

/// Unless the config names a user, each cell has one of its own, from this number on: limits on processes count all
/// processes of a user.
const USERS: u32 = 1_900_000_000;

/// Makes cells out of namespaces and programs of this machine.
pub struct ProcessRuntime {
    finder: find::Finder,
    limits: CellLimits,
    accepted: Vec<SealPart>,
    user: Option<u32>,
}

impl ProcessRuntime {
    /// A runtime with these settings.
    pub fn new(config: &RuntimeConfig) -> Self {
        Self {
            finder: find::Finder::new(config.process.programs.clone()),
            limits: config.limits(),
            accepted: config.accept_unsealed.clone(),
            user: config.process.user,
        }
    }
}

impl Runtime for ProcessRuntime {
    fn name(&self) -> &'static str {
        "process"
    }

    fn offers(&self, kit: &Kit) -> Result<Software> {
        self.finder.find(kit).map(|found| found.software)
    }

    fn open(&self, request: &CellRequest<'_>) -> Result<Box<dyn Cell>> {
        let found = request.kits.iter().map(|kit| self.finder.find(kit)).collect::<Result<Vec<_>>>()?;
        let mut cell =
            cell::ProcessCell::new(request, found, self.limits, self.user.unwrap_or_else(own_user))?;
        let mut parts = seal::try_from_inside(&cell)?;
        parts.insert(SealPart::Limits, cell.limits_state());
        cell.sealed(Seal { parts, accepted: self.accepted.clone() })?;
        Ok(Box::new(cell))
    }

    /// Nothing outlives firedrill: the kernel ends a cell with its first process, and that one with us. What a cell
    /// wrote lies in its lease.
    fn sweep(&self) -> Result<Swept> {
        Ok(Swept::default())
    }
}

/// A user that no other cell of this machine has, unless thousands are open.
fn own_user() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let cell = NEXT.fetch_add(1, Ordering::Relaxed) & 0x1ff;
    USERS + (((std::process::id() & 0x7fff) << 9) | cell)
}
