//! Breaks copies of backups on purpose, and counts how much of that the restore test notices.
//!
//! A restore test that is always green proves nothing by itself. Here each fault of a catalogue is struck at a copy
//! of a repository, the same restore test as in production looks at that copy, and the share of faults that it
//! detects and explains is its *detection score*.
//!
//! | file | what it does |
//! |---|---|
//! | `fault` | what a fault is: in words, and as a strike at a [`Victim`] |
//! | `catalogue/` | the faults, one file each |
//! | `victim`, `staged`, `sql` | what a fault may touch, and how |
//! | `campaign` | copies, strikes, restore tests, and controls in between |
//! | `trial` | whether a restore test detected what was struck |
//! | `score` | the counts |
//!
//! Verified: each strike is read back by what makes it ([`crate::damage`]), or is a snapshot by the writer of real
//! backups. A copy shares with the others only files that nobody writes to.
//!
//! Not verified: faults of more than one copy (mirrors), of the transport, of the restore target and of monitoring;
//! repositories other than restic's; damage that only older snapshots suffer from.

mod campaign;
mod catalogue;
mod fault;
mod score;
mod sql;
mod staged;
mod trial;
mod victim;

pub use campaign::{Campaign, RestoreTest};
pub use catalogue::{FAULTS, named};
pub use fault::{Class, Fault, Struck};
pub use score::{Alarms, Report, Score};
pub use trial::{Outcome, Trial};
pub use victim::Victim;
