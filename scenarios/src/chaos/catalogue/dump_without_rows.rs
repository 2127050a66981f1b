//! A dump holds tables and no rows.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::sql::Sql;
use crate::chaos::staged::Kind;
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "dump-without-rows",
    class: Class::Source,
    summary: "a dump holds tables and no rows",
    what: "An option for the schema alone was left behind after a test, or the user of the dump may not \
        read the rows.",
    notice: "Statements that make tables are there, and none that fill them.",
    act: "Dump with data, as somebody who may read everything.",
    seen: &[],
    not_verified: "A single table without rows, where others have some.",
    codes: &["sql_dump.no_rows", "structure.rows_fell", "postgres.rows_fell", "mariadb.rows_fell", "shape.dump_shrank"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let dumps = staged.of_kind(&[Kind::Sql, Kind::SqlGz])?;
        let dump = dumps.choose(rng).ok_or_else(|| nothing("this tag has no SQL dump"))?;
        let mut sql = Sql::read(staged, dump)?;
        if sql.drop_rows() == 0 {
            return Err(nothing("the dump has no rows"));
        }
        sql.write(staged, dump)?;
        Ok(format!("{} has no rows", staged.name(&dump.path)))
    })
}
