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
pub(in crate::runtime) mod find;
mod service;

use firedrill_core::cell::{Cell, CellLimits, CellRequest, Kit, Runtime, Seal, SealPart, Software};
use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::error::Result;
use firedrill_core::ports::Swept;

use super::{seal, user};

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
            cell::ProcessCell::new(request, found, self.limits, self.user.unwrap_or_else(user::unused))?;
        let mut parts = seal::try_from_inside(&cell, "")?;
        parts.insert(SealPart::Limits, cell.limits_state());
        // What could not be tried because somebody said stop says nothing about the seal.
        request.watch.check()?;
        cell.sealed(Seal { parts, accepted: self.accepted.clone() })?;
        Ok(Box::new(cell))
    }

    /// Nothing outlives firedrill: the kernel ends a cell with its first process, and that one with us. What a cell
    /// wrote lies in its lease.
    fn sweep(&self) -> Result<Swept> {
        Ok(Swept::default())
    }
}
