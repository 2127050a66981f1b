//! What an empty engine lacks and a dump of one database cannot bring along.

use std::collections::BTreeSet;

use firedrill_core::watch::Watch;

use super::server::Server;
use super::statement::{Kind, Statement};
use super::wire::{Client, Failure, ServerError, identifier};

/// More roles than this are not supplied.
const ROLES_MAX: usize = 10_000;

/// What was supplied.
#[derive(Clone, Debug, Default)]
pub(super) struct Supplied {
    /// Roles.
    pub(super) roles: BTreeSet<String>,
    /// Tablespaces that the dump names and does not make.
    pub(super) tablespaces: BTreeSet<String>,
    /// Tablespaces that the dump makes, in another place.
    pub(super) moved: BTreeSet<String>,
    /// Locales and collations for which that of C stands in.
    pub(super) locales: BTreeSet<String>,
}

/// Supplies what the error says is missing. `Some(None)`: the statement can be tried again; `Some(Some(sql))`: this
/// can be tried instead; `None`: there is nothing that could be supplied.
pub(super) async fn supply(
    statement: &Statement<'_>,
    error: &ServerError,
    (server, database, client): (&Server<'_>, &str, &mut Client),
    watch: &Watch,
    supplied: &mut Supplied,
) -> Result<Option<Option<Vec<u8>>>, Failure> {
    if let Some(sql) = instead(statement, error, supplied) {
        return Ok(Some(Some(sql)));
    }
    let Some(sql) = missing(statement, error, supplied) else { return Ok(None) };
    // An open transaction does not see what others do, and what is made in it goes with it.
    if let Missing::Anywhere(sql) = &sql
        && client.in_transaction()
        && client.ask(format!("SAVEPOINT firedrill; {sql}; RELEASE firedrill")).await.is_ok()
    {
        return Ok(Some(None));
    }
    let settings: &[_] = match server.major() {
        15.. => &[("allow_in_place_tablespaces", "on"), ("allow_system_table_mods", "on")],
        _ => &[("allow_system_table_mods", "on")],
    };
    // A connection of its own, so that it lasts whatever becomes of the transaction.
    let database = if matches!(sql, Missing::Here(_)) { database } else { "postgres" };
    let mut client = server.connect(database, watch, settings).await?;
    let (Missing::Anywhere(sql) | Missing::Here(sql)) = sql;
    match client.ask(&sql).await {
        Ok(_) => Ok(Some(None)),
        Err(Failure::Refused(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

enum Missing {
    Anywhere(String),
    Here(String),
}

/// The name in a message such as `role "x" does not exist`.
fn named<'m>(message: &'m str, before: &str, after: &str) -> Option<&'m str> {
    message.strip_prefix(before)?.strip_suffix(after)
}

fn missing(statement: &Statement<'_>, error: &ServerError, supplied: &mut Supplied) -> Option<Missing> {
    let role = named(&error.message, "role \"", "\" does not exist").filter(|_| error.code == "42704");
    if let Some(role) = role {
        // The second time, supplying it did not help.
        if supplied.roles.len() >= ROLES_MAX || !supplied.roles.insert(role.to_owned()) {
            return None;
        }
        // What such roles may do is not known. Owners of materialized views read tables of others, owners of event
        // triggers are superusers: a role that may too little would make a good dump fail.
        return Some(Missing::Anywhere(format!("CREATE ROLE {} NOLOGIN SUPERUSER", identifier(role))));
    }
    if let Some((name, _)) =
        error.message.strip_prefix("collation \"").and_then(|m| m.split_once("\" for encoding"))
    {
        // The locales of this machine became collations when the cluster was made.
        let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
        supplied.locales.insert(name.to_owned()).then_some(())?;
        let name = identifier(name);
        return Some(Missing::Here(format!(
            "CREATE COLLATION pg_catalog.{name} (provider = libc, locale = 'C')"
        )));
    }
    let tablespace = named(&error.message, "tablespace \"", "\" does not exist")
        .filter(|_| error.code == "42704")
        .map(str::to_owned)
        .or_else(|| default_tablespace(statement, error));
    let tablespace = tablespace.filter(|name| supplied.tablespaces.insert(name.clone()))?;
    Some(Missing::Anywhere(format!("CREATE TABLESPACE {} LOCATION ''", identifier(&tablespace))))
}

fn default_tablespace(statement: &Statement<'_>, error: &ServerError) -> Option<String> {
    let sets = statement.begins(&["set", "default_tablespace"]) && error.code == "22023";
    sets.then(|| statement.head.iter().skip(2).find(|t| !t.is("=") && !t.is("to")).map(|t| t.text.clone()))?
}

/// Another statement that does the same as far as this engine can.
fn instead(statement: &Statement<'_>, error: &ServerError, supplied: &mut Supplied) -> Option<Vec<u8>> {
    if statement.begins(&["create", "tablespace"]) {
        let at = statement.head.iter().position(|token| token.is("location"))?;
        let place = statement.head.get(at + 1).filter(|t| t.kind == Kind::Text && !t.text.is_empty())?;
        supplied.moved.insert(statement.name_after(2)?);
        return Some(statement.replaced(place.place.clone(), "''"));
    }
    if statement.begins(&["create", "database"]) {
        return database_in_c(statement, error, supplied);
    }
    if statement.begins(&["create", "collation"])
        && matches!(error.code.as_str(), "22023" | "42704" | "42809")
    {
        let at = statement.head.iter().position(|token| token.is("("))?;
        let start = statement.head.get(at)?.place.start;
        let already = statement.sql.get(start..)?.ends_with(b"(provider = libc, locale = 'C')");
        supplied.locales.insert(statement.name_after(2)?);
        return (!already)
            .then(|| statement.replaced(start..statement.sql.len(), "(provider = libc, locale = 'C')"));
    }
    // Since version 16 a grantor must have been granted the role with the right to grant it on, unless it is the
    // superuser that came with the cluster, and that has another name here.
    if statement.begins(&["grant"]) && matches!(error.code.as_str(), "42501" | "0LP01") {
        let at = statement
            .head
            .windows(2)
            .position(|pair| matches!(pair, [a, b] if a.is("granted") && b.is("by")))?;
        let start = statement.head.get(at)?.place.start;
        return Some(statement.replaced(start..statement.sql.len(), ""));
    }
    None
}

fn database_in_c(statement: &Statement<'_>, error: &ServerError, supplied: &mut Supplied) -> Option<Vec<u8>> {
    let about_locale = ["locale", "LC_COLLATE", "encoding"].iter().any(|word| error.message.contains(word));
    if !about_locale || !matches!(error.code.as_str(), "22023" | "42809" | "42704") {
        return None;
    }
    let value_of = |word: &str| {
        let rest = statement.head.iter().skip_while(|token| !token.is(word)).skip(1);
        rest.clone().find(|token| !token.is("=")).map(|token| token.text.clone())
    };
    let name = statement.name_after(2)?;
    let encoding = value_of("encoding").unwrap_or_else(|| "UTF8".to_owned());
    let locale = ["locale", "lc_collate", "icu_locale"].into_iter().find_map(value_of).unwrap_or_default();
    if !supplied.locales.insert(format!("{locale} (database {name})")) {
        return None;
    }
    let encoding = encoding.replace('\'', "");
    Some(
        format!(
            "CREATE DATABASE {} WITH TEMPLATE = template0 ENCODING = '{encoding}' LOCALE = 'C'",
            identifier(&name)
        )
        .into_bytes(),
    )
}
