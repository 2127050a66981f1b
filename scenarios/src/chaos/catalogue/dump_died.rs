//! A dump died half-way, and what packs it ended well.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::sql::Sql;
use crate::chaos::staged::Kind;
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "dump-died",
    class: Class::Source,
    summary: "a dump died half-way, and what packs it ended well",
    what: "Without `pipefail` the shell looks at the last program only. The file is a valid gzip of the \
        first half of a dump; of a dump that is not packed, the first half.",
    notice: "SQL dumps end with a line that says so.",
    act: "Make the job fail with the program that dumps (`set -o pipefail`, or a capture that firedrill \
        runs), and dump again.",
    seen: &["Security-Onion-Solutions/securityonion#15896", "frappe/frappe#18230", "reactive-tech/kubegres#36"],
    not_verified: "Dumps by programs that write no last line.",
    codes: &["sql_dump.truncated", "sql_dump.copy", "sql_dump.no_rows", "sql_dump.no_tables", "postgres.truncated"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let dumps = staged.of_kind(&[Kind::Sql, Kind::SqlGz])?;
        let dump = dumps.choose(rng).ok_or_else(|| nothing("this tag has no SQL dump"))?;
        let mut sql = Sql::read(staged, dump)?;
        let length = sql.text.len();
        sql.text.truncate(rng.random_range(length / 10..length * 9 / 10));
        sql.write(staged, dump)?;
        Ok(format!("{} ends after {} of {length} bytes of SQL", staged.name(&dump.path), sql.text.len()))
    })
}
