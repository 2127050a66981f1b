//! Digests of live and of restored data: the same code measures both, so that they can be compared exactly.
//!
//! | file | what it measures |
//! |---|---|
//! | [`files`] | trees of files |
//! | [`sqlite`] | tables in SQLite files |
//! | [`postgres`], [`mariadb`] | tables in databases, in SQL, over any connection |
//! | [`etcd`] | live keys in a snapshot of etcd |
//! | [`record`] | what `firedrill digest` does: connections to live servers, and the command that makes the dump |

pub(crate) mod etcd;
pub(crate) mod files;
pub(crate) mod mariadb;
pub(crate) mod postgres;
pub mod record;
pub(crate) mod sqlite;

#[cfg(test)]
pub(crate) mod tests;

/// Asks a server one statement. The answer is the first column of each row; none of them is ever NULL. An error is
/// why there is no answer, in words.
pub(crate) type Ask<'a> = dyn FnMut(&str) -> Result<Vec<String>, String> + 'a;

/// Tables whose rows are not read in one go with others.
const NAMES_MAX: usize = 100_000;

/// The only answer to a question that has one.
fn single(ask: &mut Ask<'_>, sql: &str) -> Result<String, String> {
    ask(sql)?.into_iter().next().ok_or_else(|| "the server gave no answer".to_owned())
}

fn too_many() -> String {
    format!("there are more than {NAMES_MAX} tables")
}
