//! Digests of databases of MariaDB and MySQL, in SQL, over any connection.
//!
//! Every value is hashed on its own, so that none grows beyond what the server takes as one value, and the hashes of a
//! row, in the order of the names of its columns, are hashed again.

use std::collections::BTreeMap;

use firedrill_core::digests::{Database, Sum};

use super::{Ask, NAMES_MAX, single, too_many};

/// Settings of the session on which the text of values depends.
pub(crate) const SETTINGS: &str = "SET SESSION time_zone = '+00:00', sql_mode = '';";
/// The server's own.
const SYSTEM: &str = "('mysql', 'sys', 'information_schema', 'performance_schema')";

/// A table.
#[derive(Clone, Debug)]
struct Relation {
    name: String,
    /// Whether a snapshot of a transaction covers it.
    transactional: bool,
    /// Names and types of its columns, by name.
    columns: BTreeMap<String, String>,
}

/// What there is to measure in one database.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    server: String,
    database: String,
    relations: Vec<Relation>,
}

impl Listing {
    /// Whether the database has no table.
    pub(crate) fn is_empty(&self) -> bool {
        self.relations.is_empty()
    }
}

/// The databases that are not the server's own.
pub(crate) fn databases(ask: &mut Ask<'_>) -> Result<Vec<String>, String> {
    let sql = format!(
        "SELECT HEX(SCHEMA_NAME) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {SYSTEM} ORDER BY 1"
    );
    ask(&sql)?.iter().map(|name| unhex(name)).collect()
}

/// Lists the tables of a database, apart from what `leaves_out`. Views and sequences hold no rows.
pub(crate) fn list(
    ask: &mut Ask<'_>,
    database: &str,
    leaves_out: &dyn Fn(&str) -> bool,
) -> Result<Listing, String> {
    let server = single(ask, "SELECT VERSION()")?;
    let of = literal(database);
    let tables = format!(
        "SELECT CONCAT_WS(' ', HEX(t.TABLE_NAME), IFNULL(e.TRANSACTIONS, 'NO')) FROM information_schema.TABLES t \
         LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE WHERE t.TABLE_SCHEMA = {of} \
         AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY 1"
    );
    let mut relations = BTreeMap::new();
    for line in ask(&tables)? {
        let (name, transactions) = line.split_once(' ').ok_or_else(strange)?;
        let name = unhex(name)?;
        if !leaves_out(&name) {
            let transactional = transactions == "YES";
            relations.insert(name.clone(), Relation { name, transactional, columns: BTreeMap::new() });
        }
    }
    if relations.len() > NAMES_MAX {
        return Err(too_many());
    }
    let columns = format!(
        "SELECT CONCAT_WS(' ', HEX(TABLE_NAME), HEX(COLUMN_NAME), DATA_TYPE) FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = {of} AND EXTRA NOT LIKE '%GENERATED%'"
    );
    for line in ask(&columns)? {
        let mut parts = line.splitn(3, ' ');
        let (Some(table), Some(column), Some(kind)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(strange());
        };
        if let Some(relation) = relations.get_mut(&unhex(table)?) {
            relation.columns.insert(unhex(column)?, kind.to_ascii_lowercase());
        }
    }
    Ok(Listing { server, database: database.to_owned(), relations: relations.into_values().collect() })
}

/// Reads every row. Asks `proceed` before each table.
pub(crate) fn measure(
    ask: &mut Ask<'_>,
    listing: &Listing,
    proceed: &mut dyn FnMut() -> Result<(), String>,
) -> Result<Database, String> {
    let mut tables = BTreeMap::new();
    for relation in &listing.relations {
        proceed()?;
        let hashes: Vec<_> = relation.columns.iter().map(|(name, kind)| hash_of(name, kind)).collect();
        let hash = if hashes.is_empty() { "''".to_owned() } else { format!("CONCAT({})", hashes.join(", ")) };
        let half =
            |from: u32| format!("IFNULL(SUM(CAST(CONV(SUBSTR(h, {from}, 16), 16, 10) AS UNSIGNED)), 0)");
        let sql = format!(
            "SELECT CONCAT_WS(' ', COUNT(*), {}, {}) FROM (SELECT MD5({hash}) AS h FROM {}.{}) r",
            half(1),
            half(17),
            quoted(&listing.database),
            quoted(&relation.name)
        );
        let line = single(ask, &sql)?;
        let mut parts = line.split(' ');
        let mut next = || parts.next().unwrap_or_default();
        let (rows, high, low) = (next(), next(), next());
        let sum = rows.parse().ok().and_then(|rows| Sum::of_parts(rows, high, low)).ok_or_else(strange)?;
        let mut table = sum.table(relation.columns.keys().map(String::as_str));
        table.exact = relation.transactional;
        tables.insert(relation.name.clone(), table);
    }
    Ok(Database {
        server: listing.server.clone(),
        exact: true,
        excluded: Vec::new(),
        tables,
        materialized_views: BTreeMap::new(),
        sequences: BTreeMap::new(),
        large_objects: None,
    })
}

/// The hash of one value. Numbers and times as text, because dumps hold them as text; everything else as its bytes.
fn hash_of(column: &str, kind: &str) -> String {
    let name = quoted(column);
    let bytes =
        ["char", "text", "blob", "binary", "enum", "set", "json", "geometry", "point", "line", "polygon"];
    let value = if kind == "bit" {
        format!("CAST({name} AS UNSIGNED)")
    } else if bytes.iter().any(|part| kind.contains(part)) {
        name.clone()
    } else {
        format!("CAST({name} AS CHAR)")
    };
    // Something that cannot be hashed is not the same as NULL.
    format!("IF({name} IS NULL, 'N', IFNULL(MD5({value}), 'X'))")
}

fn strange() -> String {
    "the server's answer is not understood".to_owned()
}

fn unhex(text: &str) -> Result<String, String> {
    let bytes = hex::decode(text).map_err(|_| strange())?;
    String::from_utf8(bytes).map_err(|_| "a name is not UTF-8".to_owned())
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text for SQL, without any character that could mean something.
fn literal(text: &str) -> String {
    format!("CONVERT(X'{}' USING utf8mb4)", hex::encode(text))
}
