//! Databases that applications and invariants need: whether it is clear which ones, and where they are looked for.

use super::Check;
use crate::config::databases::is_single_select;
use crate::config::explain::label;
use crate::config::trials::in_cell;
use crate::config::yaml::join;

/// Keys that name a dump or data folder.
pub(super) const ENGINES: [&str; 2] = ["postgres", "mariadb"];
/// Keys that name what a query is asked of.
pub(super) const SOURCES: [&str; 3] = ["sqlite", "postgres", "mariadb"];

/// The query of an invariant.
pub(super) fn query(check: &mut Check<'_, '_>, query: &str) {
    select(check, &join(query, "sql"));
    one_of(check, query, &SOURCES, "a query");
    let database = join(query, "database");
    if check.has(&database) && check.has(&join(query, "sqlite")) {
        check.error_at_key(&database, "an SQLite file is one database", "remove `database`");
    }
    name(check, &database);
}

/// Restored data is only read.
pub(super) fn select(check: &mut Check<'_, '_>, at: &str) {
    if let Some(sql) = check.text(at)
        && !is_single_select(sql)
    {
        let message = format!("{} must be a single SELECT", label(at));
        check.error(at, message, "restored data is only read");
    }
}

/// The databases of an application.
pub(super) fn of_application(check: &mut Check<'_, '_>, app: &str) {
    let mut places: [Option<Option<String>>; 2] = [None, None];
    for one in check.items(&join(app, "databases")) {
        one_of(check, &one, &ENGINES, "a database");
        for key in ["database", "user"] {
            name(check, &join(&one, key));
        }
        let password = join(&one, "password");
        if check.has(&password) && check.has(&join(&one, "postgres")) {
            check.error_at_key(&password, "PostgreSQL in a cell asks for no password", "remove it");
        }
        let listens = join(&one, "listens");
        for (key, taken) in ENGINES.iter().zip(&mut places) {
            if !check.has(&join(&one, key)) {
                continue;
            }
            let place = check.text(&listens).map(str::to_owned);
            if let Some(place) = &place {
                listening(check, &listens, key, place);
            }
            if taken.get_or_insert_with(|| place.clone()) != &place {
                check.error(
                    if place.is_some() { &listens } else { &one },
                    format!(
                        "all databases of `{key}` are in one server, which is to listen in two places here"
                    ),
                    "write the same `listens` for each of them",
                );
            }
        }
    }
}

fn one_of(check: &mut Check<'_, '_>, at: &str, keys: &[&str], what: &str) {
    if !check.has(at) {
        return;
    }
    let there: Vec<_> = keys.iter().filter(|key| check.has(&join(at, key))).collect();
    let all = keys.iter().map(|key| format!("`{key}: PATH`")).collect::<Vec<_>>().join(" or ");
    match there.as_slice() {
        [] => check.error_at_start(at, format!("{what} needs a backup to be in"), format!("add {all}")),
        [_] => {}
        [_, second, ..] => check.error_at_key(
            &join(at, second),
            format!("{what} is in one backup, and two are named"),
            format!("keep one of {all}"),
        ),
    }
}

/// Names end up in statements, and in what a person reads.
fn name(check: &mut Check<'_, '_>, at: &str) {
    if let Some(text) = check.text(at)
        && text.chars().any(char::is_control)
    {
        check.error(at, "a name has no control characters", "write it as the application does");
    }
}

fn listening(check: &mut Check<'_, '_>, at: &str, engine: &str, place: &str) {
    if place.parse::<u16>().is_ok_and(|port| port > 0) {
        return;
    }
    let socket = place.rsplit('/').next().unwrap_or_default();
    let port = socket.strip_prefix(".s.PGSQL.").and_then(|port| port.parse::<u16>().ok());
    let fits = engine != "postgres" || port.is_some_and(|port| port > 0);
    if in_cell(place).is_none() || !fits {
        let example = if engine == "postgres" { "/cell/.s.PGSQL.5432" } else { "/cell/mysqld.sock" };
        check.error(
            at,
            format!("`{place}` is neither a port nor a socket of this engine below `/cell`"),
            format!("write a port in quotes, or `{example}`"),
        );
    }
}
