//! What the names of tables say about their rows.

use std::collections::BTreeMap;

/// Tables in which applications note which changes of their schema were made. They only ever grow.
const MIGRATIONS: &[&str] = &[
    "versioninfo",
    "migration_log",
    "migrations",
    "schema_migrations",
    "django_migrations",
    "__efmigrationshistory",
    "flyway_schema_history",
    "knex_migrations",
    "_sqlx_migrations",
    "_prisma_migrations",
    "__diesel_schema_migrations",
    "alembic_version_history",
    "goose_db_version",
    "databasechangelog",
];

/// Words in the names of tables whose rows come and go: what is done, over or out of date is deleted.
const PASSING: &[&str] = &[
    "log",
    "logs",
    "session",
    "sessions",
    "history",
    "queue",
    "queues",
    "queued",
    "job",
    "jobs",
    "cache",
    "caches",
    "cached",
    "token",
    "tokens",
    "task",
    "tasks",
    "tmp",
    "temp",
    "temporary",
    "lock",
    "locks",
    "throttle",
    "nonce",
    "nonces",
    "outbox",
    "inbox",
    "notification",
    "notifications",
    "sess",
    "sqlite_sequence",
];

/// The name without its schema and quotes, in lower case.
fn bare(table: &str) -> String {
    let name = table.rsplit('.').next().unwrap_or(table);
    name.trim_matches(|c| matches!(c, '"' | '`' | '[' | ']')).to_ascii_lowercase()
}

/// Whether an application notes the changes of its schema here.
pub(crate) fn is_migrations(table: &str) -> bool {
    MIGRATIONS.contains(&bare(table).as_str())
}

/// Whether rows come and go here in healthy operation, also all at once.
pub(crate) fn is_passing(table: &str) -> bool {
    if is_migrations(table) {
        return false;
    }
    // A table of InnoDB is known by its file, `shop/orders.ibd`; temporary ones start with `#`.
    let name = table.strip_suffix(".ibd").unwrap_or(table);
    let name = name.rsplit(['.', '/']).next().unwrap_or(name);
    name.starts_with('#') || words(name).iter().any(|word| PASSING.contains(&word.as_str()))
}

/// The tables of `before` that held rows which matter, and are not in `now`; with their rows.
pub(crate) fn gone<'t>(
    before: &'t BTreeMap<String, u64>,
    now: &BTreeMap<String, u64>,
) -> Vec<(&'t str, u64)> {
    let gone = before.iter().filter(|(table, rows)| **rows > 0 && !now.contains_key(*table));
    gone.filter(|(table, _)| !is_passing(table)).map(|(table, rows)| (table.as_str(), *rows)).collect()
}

/// Whether the schema is a newer one: it has tables that were not there, or more changes are noted.
pub(crate) fn moved_on(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> bool {
    now.iter().any(|(table, rows)| match before.get(table) {
        None => true,
        Some(had) => is_migrations(table) && rows > had,
    })
}

/// Whether `gone` makes up much of `before`: no new version drops so much.
pub(crate) fn lost_much(gone: &[(&str, u64)], before: &BTreeMap<String, u64>) -> bool {
    let rows: u64 = gone.iter().map(|(_, rows)| *rows).sum();
    let whole = lasting_rows(before);
    rows.saturating_mul(4) >= whole || gone.len() * 2 >= before.len()
}

/// All rows but those that come and go.
pub(crate) fn lasting_rows(tables: &BTreeMap<String, u64>) -> u64 {
    tables.iter().filter(|(table, _)| !is_passing(table)).map(|(_, rows)| *rows).sum()
}

/// The words of a name in `snake_case`, `kebab-case` or `CamelCase`, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() && after_lower {
            words.push(String::new());
        }
        after_lower = c.is_lowercase();
        if let Some(word) = words.last_mut()
            && c.is_alphanumeric()
        {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_tables_are_known_by_their_words() {
        for table in [
            "Logs",
            "History",
            "public.sessions",
            "user_auth_token",
            "django_session",
            "DownloadHistory",
            "jobs",
            "shop/sessions.ibd",
            "shop/#sql-ib23.ibd",
        ] {
            assert!(is_passing(table), "{table}");
        }
        for table in [
            "users",
            "public.catalog",
            "blog",
            "Episodes",
            "dialog",
            "logistics",
            "migration_log",
            "log/users.ibd",
        ] {
            assert!(!is_passing(table), "{table}");
        }
        assert!(is_migrations("public.\"__EFMigrationsHistory\"") && !is_migrations("history"));
    }
}
