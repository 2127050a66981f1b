//! SQLite on a leash: one file, no extensions, nothing attached, nothing trusted, and every statement ends
//! in time.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use firedrill_core::config::units::Span;
use firedrill_core::subject::Subject;
use firedrill_core::watch::Watch;
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, Row};

/// How often a statement asks whether it may go on, in instructions of SQLite's machine.
const ASKED: i32 = 4_000;
/// A single value may be this long.
const VALUE_MAX: i32 = 256 << 20;

/// What kept a statement from its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The database is bad.
    Damaged { code: &'static str, seen: String },
    /// This SQLite cannot do it: an extension is missing, or the statement does not fit the schema.
    Unsupported(String),
    /// We or the machine.
    Ours(String),
}

/// A connection to a private copy.
pub(super) struct Engine {
    connection: Connection,
    watch: Watch,
    timeout: Span,
    current: Arc<Mutex<Watch>>,
    strict: Arc<AtomicBool>,
}

impl Engine {
    pub(super) fn open(path: &Path, subject: &Subject) -> Result<Self, Trouble> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut engine = Self {
            connection: Connection::open_with_flags(path, flags)
                .map_err(|error| Trouble::Ours(error.to_string()))?,
            watch: subject.watch.clone(),
            timeout: subject.drill.probes.sqlite.statement_timeout,
            current: Arc::new(Mutex::new(subject.watch.clone())),
            strict: Arc::new(AtomicBool::new(false)),
        };
        engine.leash().map_err(|error| engine.trouble(error))?;
        // The first look at the schema replays the log or the journal.
        engine.statement(|connection| {
            connection.execute_batch("PRAGMA locking_mode=EXCLUSIVE; PRAGMA synchronous=OFF")?;
            connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
        })?;
        Ok(engine)
    }

    fn leash(&mut self) -> rusqlite::Result<()> {
        let connection = &mut self.connection;
        for (config, value) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
            // The copy is thrown away: there is no use in tidying it up.
            (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
        ] {
            connection.set_db_config(config, value)?;
        }
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_MAX)?;
        let strict = Arc::clone(&self.strict);
        let authorize = move |context: AuthContext<'_>| authorize(&context, strict.load(Ordering::Relaxed));
        connection.authorizer(Some(authorize))?;
        let current = Arc::clone(&self.current);
        let over = move || current.lock().unwrap_or_else(PoisonError::into_inner).check().is_err();
        connection.progress_handler(ASKED, Some(over))?;
        connection.execute_batch("PRAGMA cell_size_check=ON; PRAGMA mmap_size=0")
    }

    /// Runs one statement of ours within the time limit.
    pub(super) fn statement<T>(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Trouble> {
        let limit = self.watch.within(Some(self.timeout.0));
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = limit;
        run(&self.connection).map_err(|error| self.trouble(error))
    }

    /// Runs a query by somebody else, which must be a single SELECT.
    pub(super) fn select<T>(
        &self,
        sql: &str,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Trouble> {
        self.strict.store(true, Ordering::Relaxed);
        let answer = self.statement(|connection| {
            let mut statement = connection.prepare(sql)?;
            if !statement.readonly() || statement.column_count() == 0 {
                return Err(Error::InvalidQuery);
            }
            let mut rows = statement.query([])?;
            rows.next()?.map(read).transpose()
        });
        self.strict.store(false, Ordering::Relaxed);
        answer
    }

    /// Runs a query by somebody else, which must be a single SELECT, and gives each row to `take` until it has enough.
    pub(super) fn each<B>(
        &self,
        sql: &str,
        mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<ControlFlow<B>>,
    ) -> Result<ControlFlow<B>, Trouble> {
        self.strict.store(true, Ordering::Relaxed);
        let taken = self.statement(|connection| {
            let mut statement = connection.prepare(sql)?;
            if !statement.readonly() || statement.column_count() == 0 {
                return Err(Error::InvalidQuery);
            }
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if let ControlFlow::Break(why) = take(row)? {
                    return Ok(ControlFlow::Break(why));
                }
            }
            Ok(ControlFlow::Continue(()))
        });
        self.strict.store(false, Ordering::Relaxed);
        taken
    }

    fn trouble(&self, error: Error) -> Trouble {
        let (code, text) = match error {
            Error::SqliteFailure(failure, text) => {
                let known = failure.to_string();
                (failure.code, text.unwrap_or(known))
            }
            Error::SqlInputError { error, msg, .. } => (error.code, msg),
            Error::InvalidQuery | Error::MultipleStatement => {
                return Trouble::Ours("it is not a single SELECT".to_owned());
            }
            other => return Trouble::Ours(other.to_string()),
        };
        // What the application brought along is not in this SQLite.
        let foreign = ["no such module", "no such collation", "no such tokenizer", "no such function"];
        match code {
            ErrorCode::DatabaseCorrupt if foreign.iter().any(|part| text.contains(part)) => {
                Trouble::Unsupported(text)
            }
            ErrorCode::DatabaseCorrupt if text.starts_with("malformed database schema") => {
                Trouble::Damaged { code: "sqlite.schema", seen: text }
            }
            ErrorCode::DatabaseCorrupt => Trouble::Damaged { code: "sqlite.integrity", seen: text },
            ErrorCode::NotADatabase => Trouble::Damaged { code: "sqlite.not_a_database", seen: text },
            ErrorCode::OperationInterrupted => Trouble::Ours(match self.watch.check() {
                Err(error) => error.chain(),
                Ok(()) => format!(
                    "a statement took longer than {}: raise probes.sqlite.statement_timeout",
                    self.timeout
                ),
            }),
            ErrorCode::Unknown if text.starts_with("not authorized") => {
                Trouble::Ours(format!("it is not a plain SELECT: {text}"))
            }
            // Values beyond our limit are within that of SQLite.
            ErrorCode::TooBig => Trouble::Ours(text),
            ErrorCode::Unknown | ErrorCode::SchemaChanged => Trouble::Unsupported(text),
            ErrorCode::AuthorizationForStatementDenied => {
                Trouble::Ours(format!("it is not a plain SELECT: {text}"))
            }
            _ => Trouble::Ours(text),
        }
    }
}

/// Nothing is ever attached. In other people's queries nothing but reading is allowed.
fn authorize(context: &AuthContext<'_>, strict: bool) -> Authorization {
    let allowed = match &context.action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => false,
        AuthAction::Function { function_name } => {
            !function_name.eq_ignore_ascii_case("load_extension")
                && !function_name.eq_ignore_ascii_case("fts3_tokenizer")
        }
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        // Full-text indexes ask for these two when they are first used.
        AuthAction::Pragma { pragma_name, pragma_value: None } => {
            !strict || matches!(*pragma_name, "page_size" | "data_version")
        }
        _ => !strict,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}
