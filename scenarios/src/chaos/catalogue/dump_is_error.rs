//! A dump holds what the program said when it failed.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::chaos::fault::{Class, Fault, Struck};
use crate::chaos::sql::Sql;
use crate::chaos::staged::Kind;
use crate::chaos::victim::{Victim, nothing};

/// See [`Fault::summary`].
pub(super) const FAULT: Fault = Fault {
    name: "dump-is-error",
    class: Class::Source,
    summary: "a dump holds what the program said when it failed",
    what: "With `2>&1` the message goes into the file: often that the server is newer than the program.",
    notice: "The file holds no SQL, but a message.",
    act: "Make the job fail with the program that dumps (`set -o pipefail`, or a capture that firedrill \
        runs), and dump again.",
    seen: &["AmbitionEng/django-pgclone#38"],
    not_verified: "Messages of other programs than those of PostgreSQL.",
    codes: &["sql_dump.", "structure.", "shape.dump_shrank"],
    strike,
};

fn strike(victim: &Victim<'_>, rng: &mut StdRng) -> Result<Struck> {
    victim.next_backup(rng, |staged, rng| {
        let dumps = staged.of_kind(&[Kind::Sql, Kind::SqlGz])?;
        let dump = dumps.choose(rng).ok_or_else(|| nothing("this tag has no SQL dump"))?;
        let mut sql = Sql::read(staged, dump)?;
        sql.text = MESSAGE.as_bytes().to_vec();
        sql.write(staged, dump)?;
        Ok(format!("{} holds an error message", staged.name(&dump.path)))
    })
}

const MESSAGE: &str = "pg_dump: error: aborting because of server version mismatch
pg_dump: detail: server version: 17.2; pg_dump version: 15.10
";
