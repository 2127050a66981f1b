//! The `postgres` probe: dumps, archives and data folders of PostgreSQL come to life in a sealed cell, and answer.
//!
//! *Verified*: every statement of a dump is accepted by an empty engine of its version, and it goes on to its end;
//! pg_restore reads every archive to its end; data folders recover as after a power failure, and their page
//! checksums and indexes fit; every row of every table can be read, and there are as many as the dump brought;
//! foreign keys and unique indexes hold, because the engine made them anew; the next number of each sequence is
//! free; what the config expects of a database (tables, rows, answers, the newest row, roles) is so; canaries in a
//! table `firedrill_canary` are authentic. What a dump would need besides (roles, tablespaces, extensions) is told.
//! No dump can run a command of psql, and what openly reaches outside of the database is not executed. What tries it
//! from within functions, triggers, views and texts that are put together is contained by the cell, and the server
//! itself tells of it, also when the function swallows the error. Functions and views that would reach out, and were
//! not used, are noted: an application may do that every day.
//!
//! *Not verified*: constraints that were NOT VALID at the source; the order of text under a locale that the engine
//! lacks; what an application makes of the data; large objects beyond that the engine takes them; older
//! generations of a dump; materialized views over other servers; passwords of roles; what functions reach for that
//! are written in C, Python or Perl, that read tables of other servers by a foreign data wrapper, or that are bound to
//! their statements already (`BEGIN ATOMIC`); what a function does while a setting of its own silences the reports of
//! the server; whether a column's default that reaches out was used. All of that is contained all the same.
//!
//! | file | what lives there |
//! |---|---|
//! | `examine`, `roster` | one examination; which dumps and folders there are, and who is expected |
//! | `server`, `wire`, `questions` | an engine in a cell, its protocol for loading, and a client for questions |
//! | `split`, `shape`, `statement` | where statements end, and what they are |
//! | `witness` | what functions do while a dump is loaded, as the server tells it |
//! | `fill`, `load`, `crew`, `forgive`, `supply` | dumps on their way in, side by side, and what an empty engine lacks |
//! | `served` | a server for somebody else: an application, an invariant |
//! | `archive`, `folder` | pg_restore, and data folders |
//! | `verify`, `amcheck`, `expect` | questions: about every database, and by a person |
//! | `conclude`, `past` | what is missing in all, and what changed since the last drill |

mod amcheck;
mod archive;
mod conclude;
mod crew;
mod examine;
mod expect;
mod fill;
mod folder;
mod forgive;
mod load;
mod past;
mod questions;
mod roster;
pub(super) mod served;
mod server;
mod shape;
mod split;
mod statement;
mod supply;
mod verify;
mod wire;
mod witness;

#[cfg(test)]
mod tests;

use firedrill_core::finding::Examination;
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;

use super::session::{demanded, offered};
use roster::Roster;

/// The name of the probe.
const NAME: &str = "postgres";

/// Loads backups of PostgreSQL into PostgreSQL.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PostgresProbe;

impl Probe for PostgresProbe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recognises(&self, subject: &Subject) -> bool {
        // What is expected of a database must not be forgotten because there is no engine or no dump.
        if !subject.drill.expectations.postgres.is_empty() {
            return true;
        }
        if subject.runtime.is_none() && !demanded(subject) {
            return false;
        }
        let roster = Roster::of(subject);
        if roster.is_empty() {
            return false;
        }
        demanded(subject) || roster.kits().any(|kit| offered(subject, &kit).is_ok())
    }

    fn examine(&self, subject: &Subject) -> Examination {
        examine::examine(subject)
    }
}
