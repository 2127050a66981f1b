//! Databases in dumps and data folders that something besides their own probe needs: an application, an invariant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which engine a dump belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
}

impl Engine {
    /// Its key in the config, and the name of its kit.
    pub fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
        }
    }

    /// The port on which clients look for it.
    pub fn usual_port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Mariadb => 3306,
        }
    }

    /// Of the keys `postgres` and `mariadb` the one that is there, with its path. A config has exactly one.
    fn named<'c>(postgres: Option<&'c String>, mariadb: Option<&'c String>) -> Option<(Self, &'c str)> {
        let postgres = postgres.map(|path| (Self::Postgres, path.as_str()));
        postgres.or(mariadb.map(|path| (Self::Mariadb, path.as_str())))
    }
}

/// For people.
impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Mariadb => "MariaDB",
        })
    }
}

/// A database that an application needs. It is loaded before the application and its steps start, by an engine in
/// the same cell, and as the probes of engines load it. Each engine runs once in a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppDatabase {
    /// Of PostgreSQL: the dump or data folder, absolute as backed up or relative to any backed-up path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub postgres: Option<String>,
    /// Of MariaDB: the dump, physical backup or data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub mariadb: Option<String>,
    /// Its name, as the application knows it. A dump that makes no database itself is loaded into one of this name.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// The role or account that the application uses. It is made where the backup does not bring it along.
    #[schemars(length(min = 1, max = 63))]
    pub user: String,
    /// The password that the application gives to MariaDB; PostgreSQL in a cell asks for none. It is no place for
    /// secrets: make one up for the cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Where the application looks for the server: a port on the loopback address, or a unix socket below `/cell`.
    /// Default: the usual port. PostgreSQL always listens on `/cell/.s.PGSQL.PORT`, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub listens: Option<String>,
}

impl AppDatabase {
    /// The engine and the path of the backup.
    pub fn backup(&self) -> Option<(Engine, &str)> {
        Engine::named(self.postgres.as_ref(), self.mariadb.as_ref())
    }
}

/// A query for rows: of an SQLite file, or of a database in a dump or data folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowsQuery {
    /// The SQLite file that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub sqlite: Option<String>,
    /// The dump or data folder of PostgreSQL that is loaded and asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub postgres: Option<String>,
    /// The dump, physical backup or data folder of MariaDB that is loaded and asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub mariadb: Option<String>,
    /// The database in it. Default: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub database: Option<String>,
    /// A single SELECT.
    #[schemars(length(min = 1))]
    pub sql: String,
}

impl RowsQuery {
    /// The engine and the path of the backup, unless an SQLite file is asked.
    pub fn backup(&self) -> Option<(Engine, &str)> {
        Engine::named(self.postgres.as_ref(), self.mariadb.as_ref())
    }
}

/// Whether `sql` is one statement, and one that reads. It is no proof of that, and whoever asks a database keeps it
/// from writing besides; it saves a person from mistakes.
pub fn is_single_select(sql: &str) -> bool {
    let first: String = sql.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    let reads = ["SELECT", "WITH", "VALUES"].iter().any(|word| word.eq_ignore_ascii_case(&first));
    // Whether a backslash hides a quote depends on the engine; where one of the two ways finds a single statement, the
    // engine has the last word.
    reads && (is_single(sql.as_bytes(), false) || is_single(sql.as_bytes(), true))
}

/// Whether nothing but blanks and comments stands behind the first semicolon outside of quotes and comments.
fn is_single(sql: &[u8], backslashes: bool) -> bool {
    let mut ended = false;
    let mut rest = sql;
    while let Some((first, after)) = rest.split_first() {
        let find = |end: &[u8]| after.windows(end.len().max(1)).position(|window| window == end);
        let skip =
            |at: Option<usize>, length: usize| at.and_then(|at| after.get(at + length..)).unwrap_or_default();
        rest = match first {
            b'-' if after.starts_with(b"-") => skip(find(b"\n"), 1),
            b'/' if after.starts_with(b"*") => skip(find(b"*/"), 2),
            b';' => {
                ended = true;
                after
            }
            blank if blank.is_ascii_whitespace() => after,
            _ if ended => return false,
            quote @ (b'\'' | b'"' | b'`') => quoted(after, *quote, backslashes),
            b'$' => match dollar_tag(after) {
                Some(tag) => skip(find(&[b"$", tag, b"$"].concat()), tag.len() + 2),
                None => after,
            },
            _ => after,
        };
    }
    true
}

/// What follows the end of a quoted text. Two quotes in a row end one and begin another, which comes to the same.
fn quoted(text: &[u8], quote: u8, backslashes: bool) -> &[u8] {
    let mut hidden = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if hidden => hidden = false,
            b'\\' if backslashes => hidden = true,
            byte if *byte == quote => return text.get(at + 1..).unwrap_or_default(),
            _ => {}
        }
    }
    &[]
}

/// The tag in `tag$ ...`, which follows a dollar sign.
fn dollar_tag(after: &[u8]) -> Option<&[u8]> {
    let end = after.iter().position(|b| *b == b'$')?;
    let tag = after.get(..end)?;
    tag.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_').then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_select_is_told_from_everything_else() {
        for sql in [
            "SELECT 1",
            "  select 1 ; ",
            "WITH a AS (SELECT 1) SELECT * FROM a; -- done; really\n",
            "VALUES (1)",
            "SELECT(1)",
            "SELECT ';DROP TABLE a', \"x;y\", `a;b` FROM t",
            "SELECT 'it''s; fine'",
            "SELECT 'C:\\'",
            "SELECT 'it\\'s; fine'",
            "SELECT $$a;b$$, $x$ ; $$ ; $x$",
            "SELECT 1 /* ; DROP */ -- ;\n;",
        ] {
            assert!(is_single_select(sql), "{sql}");
        }
        for sql in [
            "",
            "DELETE FROM a",
            "SELECTION",
            "SELECT 1; DELETE FROM a",
            "SELECT 1;;\n SELECT 2",
            "SELECT ';'; DROP TABLE a",
            "SELECT $$a$$; DROP TABLE a",
            "COPY a FROM PROGRAM 'x'",
            "SELECT 1 -- x\n; SET a = 1",
        ] {
            assert!(!is_single_select(sql), "{sql}");
        }
    }
}
