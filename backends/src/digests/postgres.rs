//! Digests of a database of PostgreSQL, in SQL, over any connection.
//!
//! A row is hashed as text, with everything fixed that its text depends on: time zone, styles, digits, search path.
//! Columns are taken in the order of their names, so that it does not matter how the table came to be.

use std::collections::BTreeMap;

use firedrill_core::digests::{Database, Sequence, Sum, Table};

use super::{Ask, NAMES_MAX, single, too_many};

/// What the text of values depends on, and what must not interrupt a long transaction. The text of `money` depends on
/// the locale, that of `regclass` on the path.
const SETTINGS: [&str; 13] = [
    "DateStyle = 'ISO, YMD'",
    "IntervalStyle = 'postgres'",
    "TimeZone = 'UTC'",
    "extra_float_digits = 3",
    "bytea_output = 'hex'",
    "lc_monetary = 'C'",
    "search_path = ''",
    "quote_all_identifiers = off",
    "row_security = off",
    "statement_timeout = 0",
    "idle_in_transaction_session_timeout = 0",
    "client_min_messages = error",
    "standard_conforming_strings = on",
];

/// Tables and materialized views, of which extensions keep their own; a parent of partitions has no rows.
const RELATIONS: &str = "SELECT json_build_array(n.nspname, c.relname, c.relkind = 'm', coalesce((\
    SELECT json_agg(a.attname ORDER BY a.attname COLLATE \"C\") FROM pg_attribute a WHERE a.attrelid = c.oid \
    AND a.attnum > 0 AND NOT a.attisdropped AND coalesce(to_json(a)->>'attgenerated', '') = ''), '[]'::json))::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND c.relispopulated \
    AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
    AND d.deptype = 'e') ORDER BY c.oid";

/// Sequences that count in one direction.
const SEQUENCES: &str = "SELECT json_build_array(n.nspname, c.relname, q.seqincrement)::text FROM pg_sequence q \
    JOIN pg_class c ON c.oid = q.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT q.seqcycle \
    AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
    AND d.deptype = 'e') ORDER BY c.oid";

/// How many sequences are asked for, and tables locked, with one statement.
const TOGETHER: usize = 100;

#[derive(Clone, Debug)]
struct Relation {
    schema: String,
    name: String,
    materialized: bool,
    columns: Vec<String>,
}

impl Relation {
    fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// What there is to measure in a database.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    server: String,
    converts: bool,
    relations: Vec<Relation>,
    sequences: BTreeMap<String, Sequence>,
}

/// Begins the transaction in which everything is asked, and thereby chooses the moment.
pub(crate) fn begin(ask: &mut Ask<'_>) -> Result<(), String> {
    ask("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    SETTINGS.iter().try_for_each(|setting| ask(&format!("SET LOCAL {setting}")).map(drop))
}

/// Ends the transaction.
pub(crate) fn end(ask: &mut Ask<'_>) -> Result<(), String> {
    ask("ROLLBACK").map(drop)
}

/// Lists what there is, apart from what `leaves_out`.
pub(crate) fn list(ask: &mut Ask<'_>, leaves_out: &dyn Fn(&str) -> bool) -> Result<Listing, String> {
    let server = single(ask, "SHOW server_version")?;
    let converts = single(ask, "SHOW server_encoding")? != "SQL_ASCII";
    let mut relations = Vec::new();
    for line in ask(RELATIONS)? {
        let (schema, name, materialized, columns) = json(&line)?;
        let relation = Relation { schema, name, materialized, columns };
        if !leaves_out(&shown(&relation.schema, &relation.name)) {
            relations.push(relation);
        }
    }
    if relations.len() > NAMES_MAX {
        return Err(too_many());
    }
    let sequences = sequences(ask, leaves_out)?;
    Ok(Listing { server, converts, relations, sequences })
}

/// Keeps what is listed from being dropped or emptied until the transaction ends, as pg_dump does.
pub(crate) fn lock(ask: &mut Ask<'_>, listing: &Listing) -> Result<(), String> {
    let tables: Vec<_> = listing.relations.iter().filter(|relation| !relation.materialized).collect();
    for some in tables.chunks(TOGETHER) {
        let names: Vec<_> = some.iter().map(|relation| format!("ONLY {}", relation.sql())).collect();
        ask(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", ")))?;
    }
    Ok(())
}

/// Reads every row. Asks `proceed` before each table.
pub(crate) fn measure(
    ask: &mut Ask<'_>,
    listing: &Listing,
    proceed: &mut dyn FnMut() -> Result<(), String>,
) -> Result<Database, String> {
    let mut database = Database {
        server: listing.server.clone(),
        exact: true,
        excluded: Vec::new(),
        tables: BTreeMap::new(),
        materialized_views: BTreeMap::new(),
        sequences: listing.sequences.clone(),
        large_objects: None,
    };
    for relation in &listing.relations {
        proceed()?;
        let columns: Vec<_> = relation.columns.iter().map(|column| quoted(column)).collect();
        let text = format!("ROW({})::text", columns.join(", "));
        // The bytes must not depend on the encoding of the database.
        let text = if listing.converts { format!("convert_to({text}, 'UTF8')") } else { text };
        let sum = sum(ask, &format!("SELECT md5({text}) AS h FROM ONLY {} OFFSET 0", relation.sql()))?;
        let table = sum.table(relation.columns.iter().map(String::as_str));
        let into =
            if relation.materialized { &mut database.materialized_views } else { &mut database.tables };
        into.insert(shown(&relation.schema, &relation.name), table);
    }
    proceed()?;
    database.large_objects = large_objects(ask)?;
    Ok(database)
}

fn large_objects(ask: &mut Ask<'_>) -> Result<Option<Table>, String> {
    const SQL: &str =
        "SELECT md5(oid::text || ':' || md5(lo_get(oid))) AS h FROM pg_largeobject_metadata OFFSET 0";
    let sum = sum(ask, SQL)?;
    Ok((sum.items() > 0).then(|| sum.table(["oid", "data"])))
}

/// Adds up hashes, the column `h` of `rows`. Without its OFFSET they would be computed twice.
fn sum(ask: &mut Ask<'_>, rows: &str) -> Result<Sum, String> {
    let half = |from: u32| format!("coalesce(sum(('x' || substr(h, {from}, 16))::bit(64)::bigint), 0)::text");
    let sql = format!("SELECT json_build_array(count(*), {}, {})::text FROM ({rows}) r", half(1), half(17));
    let (rows, high, low): (u64, String, String) = json(&single(ask, &sql)?)?;
    Sum::of_parts(rows, &high, &low).ok_or_else(|| "the server's sums are no numbers".to_owned())
}

fn sequences(
    ask: &mut Ask<'_>,
    leaves_out: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, Sequence>, String> {
    let mut sequences = BTreeMap::new();
    // Before version 10 sequences had no catalogue.
    if single(ask, "SELECT count(*) FROM pg_class WHERE oid = to_regclass('pg_catalog.pg_sequence')")? == "0"
    {
        return Ok(sequences);
    }
    let mut known: Vec<(String, String, i64)> = Vec::new();
    for line in ask(SEQUENCES)? {
        let sequence: (String, String, i64) = json(&line)?;
        if !leaves_out(&shown(&sequence.0, &sequence.1)) {
            known.push(sequence);
        }
    }
    if known.len() > NAMES_MAX {
        return Err(too_many());
    }
    for (at, some) in known.chunks(TOGETHER).enumerate() {
        let questions: Vec<_> = some
            .iter()
            .enumerate()
            .map(|(number, (schema, name, _))| {
                let sql = format!("{}.{}", quoted(schema), quoted(name));
                format!("SELECT json_build_array({number}, last_value, is_called)::text FROM {sql}")
            })
            .collect();
        for line in ask(&questions.join(" UNION ALL "))? {
            let (number, last, called): (usize, i64, bool) = json(&line)?;
            if let Some((schema, name, increment)) = known.get(at * TOGETHER + number) {
                sequences.insert(shown(schema, name), Sequence { last, called, increment: *increment });
            }
        }
    }
    Ok(sequences)
}

fn json<'t, T: serde::Deserialize<'t>>(line: &'t str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| format!("the server's answer is not understood: {error}"))
}

/// An identifier for SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.name`; a part that holds a dot or a quote is quoted.
pub(crate) fn shown(schema: &str, name: &str) -> String {
    let part = |part: &str| if part.contains(['.', '"']) { quoted(part) } else { part.to_owned() };
    format!("{}.{}", part(schema), part(name))
}
