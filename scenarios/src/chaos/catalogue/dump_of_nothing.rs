//! A dump of another database, which is empty.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::sql::Sql;
use crate::chaos::staged::Kind;
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "dump-of-nothing",
    class: Class::Source,
    summary: "a dump of another database, which is empty",
    what: "The name of the database is wrong, or the application moved to another one. The dump is perfect, \
        and holds nothing.",
    notice: "Tables that were there are gone.",
    act: "Dump the database that the application uses.",
    seen: &[],
    not_verified: "A wrong database with the same tables.",
    codes: &["sql_dump.no_tables", "sql_dump.no_statement", "sql_dump.no_rows", "structure.tables_vanished", "structure.rows_fell", "postgres.tables_vanished", "mariadb.table_vanished", "shape.dump_shrank"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let dumps = staged.of_kind(&[Kind::Sql, Kind::SqlGz])?;
        let dump = dumps.choose(rng).ok_or_else(|| nothing("this tag has no SQL dump"))?;
        let mut sql = Sql::read(staged, dump)?;
        if !sql.is_postgres() {
            return Err(nothing("the dump is not by pg_dump"));
        }
        sql.text = EMPTY.as_bytes().to_vec();
        sql.write(staged, dump)?;
        Ok(format!("{} is a dump of an empty database", staged.name(&dump.path)))
    })
}

const EMPTY: &str = "--
-- PostgreSQL database dump
--

-- Dumped from database version 15.10
-- Dumped by pg_dump version 15.10

SET statement_timeout = 0;
SET client_encoding = 'UTF8';

--
-- PostgreSQL database dump complete
--

";
