//! Indexes and heaps, looked through by pg_amcheck.

use std::time::Duration;

use firedrill_core::cell::Pipes;
use firedrill_core::finding::Finding;

use super::examine::Asked;
use super::server::block_on;
use super::verify::Counted;
use super::wire::shown;
use crate::probe::engine::session::Session;

/// Indexes of dumps are checked in databases of at most this size, and for at most this long: the engine has just
/// made them itself.
const DUMP_BYTES: u64 = 256 << 20;
const DUMP_MAX: Duration = Duration::from_secs(30);

/// Checks the indexes that the engine has made from a dump, as far as that is quick.
pub(super) fn check_dump(session: &mut Session<'_>, asked: &Asked<'_>, counted: &Counted) {
    const LEFT_OUT: &str = "the structure of indexes, which the engine made itself a moment ago";
    let size = block_on(async {
        let mut client = asked.server.ask(asked.database, &session.subject.watch).await?;
        client.ask("SELECT pg_database_size(current_database())").await
    });
    let small = size.ok().and_then(|a| a.first()?.parse::<u64>().ok()).is_some_and(|size| size <= DUMP_BYTES);
    let left_out = !small
        || counted.len() > 2000
        || check(asked, Some(DUMP_MAX)).map_or(true, |seen| {
            if let Some(seen) = seen {
                let expected = "indexes that fit their tables";
                session.find(Finding::damage("postgres.index", asked.location, expected, seen));
            }
            false
        });
    if left_out && !session.examination.not_verified.iter().any(|known| known == LEFT_OUT) {
        session.examination.not_verified.push(LEFT_OUT.to_owned());
    }
}

/// Runs pg_amcheck over a database. `Ok(Some(..))`: what it found wrong. `Err`: it could not look.
pub(super) fn check(asked: &Asked<'_>, limit: Option<Duration>) -> Result<Option<String>, String> {
    let host = firedrill_core::cell::inside("");
    let host = host.trim_end_matches('/');
    let fixed = [
        "--install-missing=pg_catalog",
        "--heapallindexed",
        "--parent-check",
        "-h",
        host,
        "-p",
        "5432",
        "-U",
    ];
    let arguments = fixed.into_iter().chain([super::server::SUPERUSER, "-d", asked.database]);
    let mut options = "-c session_replication_role=replica -c client_min_messages=error".to_owned();
    if asked.server.major() >= 17 {
        options.push_str(" -c event_triggers=off");
    }
    let mut program = super::server::program("pg_amcheck", arguments).env("PGOPTIONS", options);
    program.limit = limit;
    let ended = asked.server.cell().run(&program, Pipes::default()).map_err(|error| error.chain())?;
    match ended.code {
        Some(0) => Ok(None),
        Some(2) => {
            let said = String::from_utf8_lossy(&ended.stdout);
            let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).take(4).collect();
            Ok(Some(shown(&lines.join(": "), 400)))
        }
        _ => Err(ended.describe()),
    }
}
