//! What the functions of a dump do while it is loaded, as the server itself tells it.
//!
//! An attempt to reach outside can hide in a function, a trigger, a `DO`, or a text that is put together and executed;
//! and a function can swallow the error that the cell gives it, so that nothing fails. But the server can be asked to
//! report each statement inside of a function at the moment at which it is about to run for the first time
//! (`log_parser_stats`), and every report names the statement itself, in its context. The reports go to the session
//! that loads, where they cannot be forged away: they are judged as they come, and forgotten.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::statement::{Statement, tokens, would_reach};
use super::wire::shown;

/// What makes the server report to the session, and to nobody else.
pub(super) const SETTINGS: [(&str, &str); 4] = [
    ("client_min_messages", "log"),
    ("log_parser_stats", "on"),
    ("log_min_messages", "fatal"),
    ("lc_messages", "C"),
];
/// Attempts that are kept until somebody asks.
const SEEN_MAX: usize = 10;
/// Attempts that are not told again.
const TOLD_MAX: usize = 100;
/// Definitions that are remembered.
const KNOWN_MAX: usize = 10_000;
/// Tokens of a statement inside of a function in which names of views are looked for.
const TOKENS_MAX: usize = 10_000;

/// What sets a definition off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Somebody calls it: the server tells.
    Call,
    /// Somebody reads it.
    View,
    /// Each row that goes in is checked with it.
    Check,
    /// A row may go in without a value.
    Default,
}

/// What a statement that is defined and not executed would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What it reaches for.
    pub(super) what: String,
    /// `function f`, for people.
    pub(super) shown: String,
    kind: Use,
    /// Whether it was set off.
    done: bool,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// What it reached for.
    pub(super) what: String,
    /// The statement, and where it stands, for people.
    pub(super) shown: String,
}

/// What is known of the functions of one dump.
#[derive(Debug, Default)]
pub(super) struct Witness {
    known: BTreeMap<String, Known>,
    seen: Vec<Seen>,
    /// What was told already, so that a loop does not tell it again.
    told: Vec<Seen>,
    silenced: bool,
}

/// A witness that several connections tell.
pub(super) type Shared = Arc<Mutex<Witness>>;

/// Lets somebody look at a witness. A panic elsewhere does not make it worthless.
pub(super) fn with<T>(witness: &Shared, look: impl FnOnce(&mut Witness) -> T) -> T {
    look(&mut witness.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The statement that makes the server report again, after something has changed that.
pub(super) fn listen() -> String {
    SETTINGS.map(|(name, value)| format!("SET {name} = '{value}';")).concat()
}

/// Whether a statement may keep the server from reporting.
pub(super) fn silences(sql: &[u8]) -> bool {
    let head = sql.get(..4096).unwrap_or(sql).to_ascii_lowercase();
    let statement = head.trim_ascii_start();
    let names = || SETTINGS.iter().any(|(name, _)| memchr::memmem::find(&head, name.as_bytes()).is_some());
    statement.starts_with(b"reset") || statement.starts_with(b"discard") || names()
}

impl Witness {
    /// Remembers a definition that would reach out when it is used.
    pub(super) fn learn(&mut self, statement: &Statement<'_>) {
        let Some((kind, name)) = statement.defined() else { return };
        let Some(what) = would_reach(statement.sql) else { return };
        let shown = format!("{kind} {}", shown(&name, 60));
        let kind = match kind {
            "view" => Use::View,
            "table" if tokens(statement.sql, TOKENS_MAX).iter().any(|token| token.is("check")) => Use::Check,
            "table" => Use::Default,
            _ => Use::Call,
        };
        if self.known.len() < KNOWN_MAX {
            self.known.insert(name, Known { what, shown, kind, done: false });
        }
    }

    /// Takes the context of a report.
    pub(super) fn hear(&mut self, context: &str) {
        if let Some(rest) = context.strip_prefix("SQL function \"") {
            // Without more behind the name, the function is only made, and not called.
            let called = rest
                .split_once('"')
                .filter(|(_, more)| more.starts_with(" during") || more.starts_with(" statement"));
            return called.map_or((), |(name, _)| self.use_of(name, "called"));
        }
        let Some((_, text)) = context.split_once('"') else { return };
        // A statement may hold what looks like its end, so it is judged up to the first and up to the last one.
        let (first, last) = (text.find("\"\nPL/"), text.rfind("\"\nPL/"));
        let ends = [first, last.filter(|last| Some(*last) != first)];
        if first.is_none() {
            self.judge(text.strip_suffix('"').unwrap_or(text), "");
        }
        for end in ends.into_iter().flatten() {
            let within = text.get(end + 2..).unwrap_or_default().lines().next().unwrap_or_default();
            self.judge(text.get(..end).unwrap_or_default(), within);
        }
    }

    fn judge(&mut self, sql: &str, within: &str) {
        self.silenced |= silences(sql.as_bytes());
        let statement = Statement::new(sql.as_bytes());
        if let Some(what) = statement.reaches_out() {
            let function =
                within.split_once("function ").and_then(|(_, rest)| rest.split_once('(')).map(|f| f.0);
            let name = function.map(|name| name.rsplit('.').next().unwrap_or(name).trim_matches('"'));
            if let Some(known) = name.and_then(|name| self.known.get_mut(name)) {
                known.done = true;
            }
            let within =
                if within.is_empty() { String::new() } else { format!(" in {}", shown(within, 120)) };
            return self.note(Seen { what, shown: format!("`{}`{within}", statement.shown()) });
        }
        self.views(&statement);
    }

    /// Sees which views a statement reads that reach outside.
    pub(super) fn views(&mut self, statement: &Statement<'_>) {
        if !statement.reads() || !self.known.values().any(|known| known.kind == Use::View && !known.done) {
            return;
        }
        let tokens = tokens(statement.sql, TOKENS_MAX);
        let mut reads = false;
        for (at, token) in tokens.iter().enumerate() {
            let starts = ["from", "join", "only"].iter().any(|word| token.is(word));
            let is_schema = tokens.get(at + 1).is_some_and(|next| next.is("."));
            let is_view = || self.known.get(&token.text).is_some_and(|known| known.kind == Use::View);
            if reads && !is_schema && is_view() {
                self.use_of(&token.text, "read");
            }
            reads = starts || reads && (is_schema || token.is("."));
        }
    }

    /// Rows went into a table. `Some`: whether that made it reach out, nobody knows.
    pub(super) fn rows_into(&mut self, table: &str) -> Option<String> {
        let known = self.known.get(table)?;
        match known.kind {
            Use::Check if !known.done => {
                self.use_of(table, "filled");
                None
            }
            Use::Default => {
                Some(format!("{} in the definition of the {}, which was filled", known.what, known.shown))
            }
            _ => None,
        }
    }

    /// Whether the table is known to reach out when it is filled.
    pub(super) fn knows(&self, table: &str) -> bool {
        self.known.contains_key(table)
    }

    /// Something that is known was used.
    fn use_of(&mut self, name: &str, how: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.done = true;
            let seen = Seen { what: known.what.clone(), shown: format!("{}, which was {how}", known.shown) };
            self.note(seen);
        }
    }

    fn note(&mut self, seen: Seen) {
        let is_known = self.seen.contains(&seen) || self.told.contains(&seen);
        if self.seen.len() < SEEN_MAX && !is_known {
            self.seen.push(seen);
        }
    }

    /// What was seen since somebody asked last.
    pub(super) fn take(&mut self) -> Vec<Seen> {
        let seen = std::mem::take(&mut self.seen);
        if self.told.len() < TOLD_MAX {
            self.told.extend_from_slice(&seen);
        }
        seen
    }

    /// Whether there is something to take.
    pub(super) fn has_seen(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Whether something kept the server from reporting, since somebody asked last.
    pub(super) fn was_silenced(&mut self) -> bool {
        std::mem::take(&mut self.silenced)
    }

    /// Definitions that reach out and were not used.
    pub(super) fn unused(&self) -> impl Iterator<Item = &Known> {
        self.known.values().filter(|known| !known.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(definitions: &[&str], context: &str) -> Vec<String> {
        let mut witness = Witness::default();
        for definition in definitions {
            witness.learn(&Statement::new(definition.as_bytes()));
        }
        witness.hear(context);
        witness.take().into_iter().map(|seen| seen.what).collect()
    }

    #[test]
    fn statements_inside_of_functions_are_judged() {
        let within = "\"\nPL/pgSQL function f() line 1 at SQL statement";
        for (sql, what) in [
            ("SQL statement \"copy t to program 'touch /x'", "COPY with a program"),
            ("SQL statement \"SELECT dblink_connect('host=1')", "a call of dblink_connect"),
            ("SQL expression \"pg_read_file('/etc/passwd') is null", "a call of pg_read_file"),
            ("PL/pgSQL assignment \"x := pg_read_file('/etc/passwd')", "a call of pg_read_file"),
            ("SQL statement \"create table x as select pg_read_file('x')", "a call of pg_read_file"),
            ("SQL statement \"SELECT '\"\nPL/pgSQL' || pg_read_file('x')", "a call of pg_read_file"),
        ] {
            assert_eq!(seen(&[], &format!("{sql}{within}")), [what], "{sql}");
        }
        assert_eq!(seen(&[], "SQL statement \"COPY t FROM PROGRAM 'id'\""), ["COPY with a program"]);
        for sql in [
            "SQL statement \"INSERT INTO audit SELECT now(), 'pg_read_file(x)'",
            "SQL expression \"NEW.a",
            "SQL statement \"CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT dblink_exec(1)'",
        ] {
            assert!(seen(&[], &format!("{sql}{within}")).is_empty(), "{sql}");
        }
    }

    #[test]
    fn functions_and_views_are_seen_when_they_are_used() {
        let function =
            "CREATE FUNCTION public.g() RETURNS text LANGUAGE sql AS $$ SELECT pg_read_file('x') $$";
        for context in
            ["SQL function \"g\" during inlining", "SQL function \"g\" statement 1\nCOPY t, line 1"]
        {
            assert_eq!(seen(&[function], context), ["a call of pg_read_file"], "{context}");
        }
        // Its body is looked at when it is made, and another one is none of our business.
        assert!(seen(&[function], "SQL function \"g\"").is_empty());
        assert!(seen(&[function], "SQL function \"h\" during startup").is_empty());
        // One of the same name and other arguments hides nothing.
        let harmless = "CREATE FUNCTION g(a int) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$";
        assert!(!seen(&[function, harmless], "SQL function \"g\" during startup").is_empty());
        let view = "CREATE VIEW public.v AS SELECT pg_read_file('x')";
        let reads =
            "SQL statement \"SELECT * from v\"\nPL/pgSQL function inline_code_block line 1 at PERFORM";
        assert_eq!(seen(&[view], reads), ["a call of pg_read_file"]);
        assert!(seen(&["CREATE VIEW v AS SELECT 1"], reads).is_empty());
    }

    #[test]
    fn silence_is_noticed() {
        for sql in [
            "SET client_min_messages = warning",
            "RESET ALL",
            "select set_config('log_parser_stats','off',false)",
        ] {
            assert!(silences(sql.as_bytes()), "{sql}");
        }
        assert!(!silences(b"INSERT INTO t VALUES (1)"));
        let mut witness = Witness::default();
        witness.hear("SQL statement \"SELECT set_config('client_min_messages', 'error', false)\"\nPL/pgSQL function f()");
        assert!(witness.was_silenced() && !witness.was_silenced());
    }
}
