//! What a statement is, as far as the loader must know: it is never interpreted, only recognised.

use std::ops::Range;

use memchr::{memchr_iter, memchr2, memmem};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bare word, in lower case, or a number.
    Word,
    /// A quoted identifier, without its quotes.
    Name,
    /// A string, without its quotes; escapes are left as they are.
    Text,
    /// Anything else, one byte.
    Mark,
}

/// A part of a statement.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) place: Range<usize>,
}

impl Token {
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Mark) && self.text == word
    }

    pub(super) fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Name)
    }
}

/// The first `max` tokens of a statement.
pub(super) fn tokens(sql: &[u8], max: usize) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while tokens.len() < max {
        let rest = sql.get(at..).unwrap_or_default();
        let (kind, length, inner) = match rest {
            [] => break,
            [b' ' | b'\t' | b'\r' | b'\n' | 0x0c | 0x0b, ..] => {
                at += 1;
                continue;
            }
            [b'-', b'-', ..] => {
                // As for the server, also a lone carriage return ends it.
                at += memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                continue;
            }
            [b'/', b'*', ..] => {
                at += comment(rest);
                continue;
            }
            [b'"', ..] => quoted(rest, b'"', false, Kind::Name),
            [b'\'', ..] => {
                let escapes = matches!(tokens.last(), Some(Token { text, place, .. }) if text == "e" && place.end == at);
                quoted(rest, b'\'', escapes, Kind::Text)
            }
            [b'$', ..] => dollar(rest),
            [byte, ..] if is_word(*byte) => {
                let length = rest.iter().take_while(|byte| is_word(**byte) || **byte == b'$').count();
                (Kind::Word, length, 0..length)
            }
            [_, ..] => (Kind::Mark, 1, 0..1),
        };
        let text = String::from_utf8_lossy(rest.get(inner).unwrap_or_default()).into_owned();
        let text = match kind {
            Kind::Word => text.to_lowercase(),
            Kind::Name => text.replace("\"\"", "\""),
            Kind::Text | Kind::Mark => text,
        };
        tokens.push(Token { kind, text, place: at..at + length });
        at += length;
    }
    tokens
}

/// The length of the block comment that `rest` begins with. The server nests them.
fn comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_u64);
    while let Some(found) = rest.get(at..).and_then(|rest| memchr2(b'/', b'*', rest)) {
        at += found;
        match rest.get(at..at + 2) {
            Some(b"/*") => {
                depth += 1;
                at += 2;
            }
            Some(b"*/") => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn quoted(rest: &[u8], quote: u8, escapes: bool, kind: Kind) -> (Kind, usize, Range<usize>) {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        if *byte == b'\\' && escapes {
            at += 1;
        } else if *byte == quote {
            if rest.get(at + 1) != Some(&quote) {
                return (kind, at + 1, 1..at);
            }
            at += 1;
        }
        at += 1;
    }
    (kind, rest.len(), 1..rest.len())
}

fn dollar(rest: &[u8]) -> (Kind, usize, Range<usize>) {
    let length = rest.iter().skip(1).take_while(|byte| is_word(**byte)).count();
    let tag = rest.get(..length + 2).unwrap_or_default();
    if tag.last() != Some(&b'$') || tag.len() < 2 {
        return (Kind::Mark, 1, 0..1);
    }
    let body = rest.get(tag.len()..).unwrap_or_default();
    let end = memmem::find(body, tag).unwrap_or(body.len());
    (Kind::Text, (end + 2 * tag.len()).min(rest.len()), tag.len()..tag.len() + end)
}

/// A statement with its first tokens.
pub(super) struct Statement<'t> {
    pub(super) sql: &'t [u8],
    pub(super) head: Vec<Token>,
}

/// Where the data of a `COPY`, or the rows of an `INSERT`, go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The name for SQL, quoted.
    pub(super) sql: String,
    /// The name for people.
    pub(super) shown: String,
    /// The name without its schema.
    pub(super) name: String,
}

impl<'t> Statement<'t> {
    pub(super) fn new(sql: &'t [u8]) -> Self {
        Self { sql, head: tokens(sql, 64) }
    }

    fn word(&self, at: usize) -> &str {
        self.head.get(at).filter(|token| token.kind == Kind::Word).map_or("", |token| &token.text)
    }

    /// Whether it begins with these words.
    pub(super) fn begins(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(at, word)| self.word(at) == *word)
    }

    /// Whether these words stand next to each other somewhere in its head.
    pub(super) fn has(&self, words: &[&str]) -> bool {
        self.head
            .windows(words.len())
            .any(|window| window.iter().zip(words).all(|(token, word)| token.is(word)))
    }

    /// The name behind the first words, over `IF [NOT] EXISTS`.
    pub(super) fn name_after(&self, words: usize) -> Option<String> {
        let skipped = ["if", "not", "exists", "only"];
        let mut rest =
            self.head.iter().skip(words).skip_while(|token| skipped.iter().any(|word| token.is(word)));
        rest.next().filter(|token| token.is_name()).map(|token| token.text.clone())
    }

    /// The table of a `COPY` or an `INSERT`.
    pub(super) fn target(&self) -> Option<Target> {
        let words = if self.begins(&["copy"]) { 1 } else { 2 };
        let mut target = Target { sql: String::new(), shown: String::new(), name: String::new() };
        let mut expects_name = true;
        for token in self.head.iter().skip(words).skip_while(|token| token.is("only")) {
            if expects_name && token.is_name() {
                target.sql.push_str(&super::wire::identifier(&token.text));
                target.shown.push_str(&token.text);
                target.name.clone_from(&token.text);
            } else if !expects_name && token.is(".") {
                target.sql.push('.');
                target.shown.push('.');
            } else {
                break;
            }
            expects_name = !expects_name;
        }
        (!target.sql.is_empty() && !expects_name).then_some(target)
    }

    /// The role or the user that it makes.
    pub(super) fn made_role(&self) -> Option<String> {
        let makes = self.begins(&["create"]) && matches!(self.word(1), "role" | "user" | "group");
        (makes && !self.has(&["user", "mapping"])).then(|| self.name_after(2)).flatten()
    }

    /// Whether it takes something away: of what was never there, that may fail.
    pub(super) fn drops(&self) -> bool {
        self.begins(&["drop"])
            || self.begins(&["alter"]) && self.head.iter().any(|token| token.is("drop"))
            || self.begins(&["revoke"])
    }

    /// Whether it is a setting of the session, a database or a role.
    pub(super) fn sets(&self) -> bool {
        self.begins(&["set"])
            || self.begins(&["alter"])
                && matches!(self.word(1), "role" | "user" | "database")
                && self.head.iter().any(|token| token.is("set"))
    }

    /// Whether several of its kind can be sent at once, as one transaction: it is cheap, and nothing about it
    /// depends on being alone.
    pub(super) fn goes_in_batches(&self) -> bool {
        const MADE: [&str; 14] = [
            "table",
            "sequence",
            "view",
            "function",
            "procedure",
            "type",
            "domain",
            "trigger",
            "rule",
            "policy",
            "aggregate",
            "operator",
            "unlogged",
            "cast",
        ];
        match self.word(0) {
            "insert" | "comment" | "grant" => true,
            "create" => {
                let what = if self.word(1) == "or" { self.word(3) } else { self.word(1) };
                MADE.contains(&what) && !self.has(&["as", "select"])
            }
            "alter" => {
                let what = ["table", "sequence", "view", "function", "type", "schema"];
                let sets_default = self.has(&["set", "default"]) && !self.has(&["add"]);
                what.contains(&self.word(1))
                    && (self.has(&["owner", "to"]) || self.has(&["owned", "by"]) || sets_default)
            }
            "select" => self.is_housekeeping() && self.has(&["setval", "("]),
            _ => false,
        }
    }

    /// Whether it may change rows that were loaded, in ways that nobody counts.
    pub(super) fn alters_rows(&self) -> bool {
        match self.word(0) {
            "delete" | "truncate" | "merge" | "do" | "call" | "with" | "execute" => true,
            "select" => !self.is_housekeeping(),
            "insert" => !self.head.iter().any(|token| token.is("values")) && self.has(&["select"]),
            _ => false,
        }
    }

    /// Whether it is one of the SELECTs that pg_dump writes.
    fn is_housekeeping(&self) -> bool {
        const OURS: [&str; 7] =
            ["set_config", "setval", "lo_create", "lo_open", "lowrite", "lo_close", "lo_unlink"];
        let called: Vec<_> =
            self.head.windows(2).filter(|pair| pair.last().is_some_and(|t| t.is("("))).collect();
        !called.is_empty()
            && called.iter().all(|pair| {
                pair.first().is_some_and(|t| t.kind != Kind::Word || OURS.contains(&t.text.as_str()))
            })
    }

    /// What it reaches for outside of the database, when it is executed and not merely defined.
    pub(super) fn reaches_out(&self) -> Option<String> {
        match self.word(0) {
            "copy" => copies_outside(&tokens(self.sql, TOKENS_MAX)),
            "alter" if self.word(1) == "system" => Some("ALTER SYSTEM".to_owned()),
            "load" => Some("LOAD of a library".to_owned()),
            "create" if self.word(1) == "subscription" && !self.connects_not() => {
                Some("CREATE SUBSCRIPTION that connects".to_owned())
            }
            "create" if self.fills() => called(self.sql),
            "do" => would_reach(self.sql),
            "create" | "alter" | "comment" | "grant" | "revoke" | "set" | "drop" | "" => None,
            _ => called(self.sql),
        }
    }

    /// Whether it executes a query.
    pub(super) fn reads(&self) -> bool {
        let queries = ["select", "insert", "with", "update", "delete", "merge", "copy", "do", "call"];
        queries.contains(&self.word(0)) || self.fills()
    }

    /// Whether it fills what it makes from a query.
    fn fills(&self) -> bool {
        let temporary = ["global", "local", "temporary", "temp", "unlogged", "materialized"];
        let what = self.head.iter().skip(1).find(|token| !temporary.iter().any(|word| token.is(word)));
        let from_query = self.head.windows(3).any(|window| match window {
            [before, a, query] => {
                let begins = ["select", "with", "values", "table", "execute", "("];
                a.is("as") && !before.is("always") && begins.iter().any(|word| query.is(word))
            }
            _ => false,
        });
        let fills_later = || self.sql.trim_ascii_end().to_ascii_lowercase().ends_with(b"with no data");
        let makes =
            what.is_some_and(|what| what.is("table")) || self.begins(&["create", "materialized", "view"]);
        makes && from_query && !fills_later()
    }

    /// What it defines without executing it: the kind, and the name without its schema.
    pub(super) fn defined(&self) -> Option<(&'static str, String)> {
        const KINDS: [&str; 4] = ["function", "procedure", "view", "table"];
        if self.word(0) != "create" && !self.begins(&["alter", "table"]) {
            return None;
        }
        const BEFORE: [&str; 9] = [
            "or",
            "replace",
            "global",
            "local",
            "temporary",
            "temp",
            "unlogged",
            "recursive",
            "materialized",
        ];
        let at = 1 + self.head.iter().skip(1).take_while(|token| BEFORE.iter().any(|w| token.is(w))).count();
        let kind = KINDS.into_iter().find(|kind| self.word(at) == *kind)?;
        let skipped = ["if", "not", "exists", "only"];
        let mut rest =
            self.head.iter().skip(at + 1).skip_while(|token| skipped.iter().any(|word| token.is(word)));
        let mut name = rest.next().filter(|token| token.is_name())?;
        while rest.next().is_some_and(|token| token.is(".")) {
            name = rest.next().filter(|token| token.is_name())?;
        }
        Some((kind, name.text.clone()))
    }

    fn connects_not(&self) -> bool {
        let mut words = self.head.iter().skip_while(|token| !token.is("connect")).skip(1);
        words.next().is_some_and(|token| token.is("="))
            && words.next().is_some_and(|token| token.is("false") || token.text == "false" || token.is("off"))
    }

    /// The same statement with what stands in `place` replaced.
    pub(super) fn replaced(&self, place: Range<usize>, with: &str) -> Vec<u8> {
        let mut sql = self.sql.get(..place.start).unwrap_or_default().to_vec();
        sql.extend_from_slice(with.as_bytes());
        sql.extend_from_slice(self.sql.get(place.end..).unwrap_or_default());
        sql
    }

    /// The first words for people, without what is in its strings and rows.
    pub(super) fn shown(&self) -> String {
        let head = self.sql.get(..400).unwrap_or(self.sql);
        let (mut text, mut at) = (Vec::new(), 0);
        for token in tokens(head, 400) {
            let before = head.get(at..token.place.start).unwrap_or_default();
            if self.begins(&["insert"]) && token.is("values") {
                text.extend_from_slice(before);
                text.extend_from_slice(b"VALUES ..");
                at = head.len();
                break;
            }
            if token.kind != Kind::Text {
                continue;
            }
            text.extend_from_slice(before);
            text.extend_from_slice(b"'..'");
            at = token.place.end;
            // Where such a string ends depends on settings.
            if token.text.contains('\\') {
                text.extend_from_slice(b" ..");
                at = head.len();
                break;
            }
        }
        text.extend_from_slice(head.get(at..).unwrap_or_default());
        let text = String::from_utf8_lossy(&text).split_whitespace().collect::<Vec<_>>().join(" ");
        super::wire::shown(&text, 120)
    }
}

/// Functions that look outside: at files of the server, other servers, or its programs.
const OUTSIDE: [&str; 20] = [
    "dblink",
    "dblink_connect",
    "dblink_connect_u",
    "dblink_exec",
    "dblink_open",
    "dblink_send_query",
    "lo_import",
    "lo_export",
    "pg_read_file",
    "pg_read_binary_file",
    "pg_ls_dir",
    "pg_stat_file",
    "pg_ls_logdir",
    "pg_ls_waldir",
    "pg_ls_tmpdir",
    "pg_file_write",
    "pg_file_unlink",
    "pg_file_rename",
    "pg_reload_conf",
    "pg_terminate_backend",
];

/// Tokens of one statement that are looked at.
const TOKENS_MAX: usize = 100_000;

fn copies_outside(tokens: &[Token]) -> Option<String> {
    tokens.windows(2).find_map(|pair| match pair {
        [a, b] if (a.is("from") || a.is("to")) && b.is("program") => Some("COPY with a program".to_owned()),
        [a, b] if (a.is("from") || a.is("to")) && b.kind == Kind::Text => {
            Some("COPY with a file of the server".to_owned())
        }
        _ => None,
    })
}

/// Whether it may be worth to look at the tokens of `sql`. Most statements are sorted out by what stands before their
/// brackets.
fn is_suspicious(sql: &[u8]) -> bool {
    memchr_iter(b'(', sql).any(|at| {
        let before = sql.get(at.saturating_sub(40)..at).unwrap_or_default().trim_ascii_end();
        let before = before.strip_suffix(b"\"").unwrap_or(before);
        let start = before.iter().rposition(|byte| !is_word(*byte)).map_or(0, |at| at + 1);
        let word = before.get(start..).unwrap_or_default().to_ascii_lowercase();
        OUTSIDE.iter().any(|name| name.as_bytes() == word)
    })
}

/// A function of [`OUTSIDE`] that is called among `tokens`.
fn calls_outside(tokens: &[Token]) -> Option<String> {
    tokens.windows(2).find_map(|pair| match pair {
        [name, bracket] if bracket.is("(") && name.is_name() && OUTSIDE.contains(&name.text.as_str()) => {
            Some(format!("a call of {}", name.text))
        }
        _ => None,
    })
}

/// A function of [`OUTSIDE`] that is called in `sql`.
fn called(sql: &[u8]) -> Option<String> {
    is_suspicious(sql).then(|| calls_outside(&tokens(sql, TOKENS_MAX)))?
}

/// What a definition would reach for outside of the database when it is used, in its own words or in its body. What
/// is put together and executed cannot be told from here; the server tells.
pub(super) fn would_reach(sql: &[u8]) -> Option<String> {
    let copies = || memmem::find(&sql.to_ascii_lowercase(), b"copy").is_some();
    if !is_suspicious(sql) && !copies() {
        return None;
    }
    let outer = tokens(sql, TOKENS_MAX);
    calls_outside(&outer).or_else(|| {
        let bodies = outer.iter().filter(|token| token.kind == Kind::Text);
        bodies.map(|body| tokens(body.text.as_bytes(), TOKENS_MAX)).find_map(|inner| {
            let copies = || {
                let begins = inner.iter().enumerate().filter(|(_, token)| token.is("copy"));
                // What a COPY is about stands before the end of its statement.
                begins.map(|(at, _)| inner.get(at..).unwrap_or_default()).find_map(|rest| {
                    copies_outside(rest.split(|token| token.is(";")).next().unwrap_or_default())
                })
            };
            calls_outside(&inner).or_else(copies)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches(sql: &str) -> bool {
        Statement::new(sql.as_bytes()).reaches_out().is_some()
    }

    #[test]
    fn what_reaches_out_is_told_from_what_is_merely_defined() {
        for sql in [
            "COPY t FROM PROGRAM 'id'",
            "copy (select 1) to program $$id$$",
            "COPY t TO '/tmp/x'",
            "COPY t FROM '/etc/passwd'",
            "ALTER SYSTEM SET archive_command = 'id'",
            "SELECT lo_export(1, '/tmp/x')",
            "SELECT * FROM public.DBLINK('host=1.2.3.4', 'select 1') AS t(i int)",
            "SELECT \"dblink_connect\" ('x')",
            "INSERT INTO t SELECT pg_read_file('/etc/passwd')",
            "CREATE TABLE u AS SELECT pg_read_file('/etc/passwd')",
            "CREATE TEMP TABLE u (a) AS (SELECT pg_read_file('/etc/passwd'))",
            "CREATE MATERIALIZED VIEW m AS SELECT * FROM dblink('host=x', 'select 1') AS t(i int)",
            "DO $x$ BEGIN PERFORM dblink_exec('x', 'y'); END $x$",
            "DO $x$ BEGIN EXECUTE 'x'; COPY t TO PROGRAM 'id'; END $x$",
            "CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p",
            "LOAD 'evil'",
        ] {
            assert!(reaches(sql), "{sql}");
        }
        for sql in [
            "COPY public.t (program, a) FROM stdin",
            "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ SELECT dblink_exec('x') $$",
            "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'x')",
            "CREATE VIEW v AS SELECT pg_read_file('x')",
            "CREATE MATERIALIZED VIEW m AS SELECT * FROM dblink('host=x', 'select 1') AS t(i int)\n  WITH NO DATA",
            "CREATE TABLE u (a text DEFAULT pg_read_file('x'), b int GENERATED ALWAYS AS (1) STORED)",
            "CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p WITH (connect = false, slot_name = 's')",
            "INSERT INTO t VALUES ('lo_export(1)', 'dblink(')",
            "SELECT pg_catalog.setval('s', 5, true)",
            "COMMENT ON FUNCTION f IS 'pg_read_file(x)'",
        ] {
            assert!(!reaches(sql), "{sql}");
        }
    }

    #[test]
    fn what_would_reach_out_when_it_is_used_is_known() {
        for sql in [
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN COPY t TO PROGRAM 'id'; END $$",
            "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT pg_read_file(x)'",
            "CREATE VIEW v AS SELECT * FROM public.dblink('host=x', 'select 1') AS t(i int)",
            "CREATE TABLE t (a text DEFAULT pg_read_file('x'))",
        ] {
            assert!(would_reach(sql.as_bytes()).is_some(), "{sql}");
        }
        for sql in [
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN COPY t FROM stdin; END $$",
            "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'dblink(x)' || substring(a from 'x') FROM t $$",
            "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'a copy to x'; SELECT a FROM 'x' $$",
        ] {
            assert_eq!(would_reach(sql.as_bytes()), None, "{sql}");
        }
    }

    #[test]
    fn definitions_have_names() {
        for (sql, defined) in [
            ("CREATE OR REPLACE FUNCTION public.\"F\"(a int) RETURNS int", Some(("function", "F"))),
            ("CREATE VIEW v WITH (security_barrier='true') AS SELECT 1", Some(("view", "v"))),
            ("CREATE UNLOGGED TABLE IF NOT EXISTS a.t (a int)", Some(("table", "t"))),
            ("ALTER TABLE ONLY a.t ADD CONSTRAINT c CHECK (true)", Some(("table", "t"))),
            ("CREATE OR REPLACE RECURSIVE VIEW v (a) AS SELECT 1", Some(("view", "v"))),
            ("CREATE INDEX i ON t (a)", None),
            ("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()", None),
        ] {
            let found = Statement::new(sql.as_bytes()).defined();
            assert_eq!(found.as_ref().map(|(kind, name)| (*kind, name.as_str())), defined, "{sql}");
        }
    }

    #[test]
    fn comments_end_where_the_server_ends_them() {
        for sql in [
            "COPY /* /* */ ' */ (SELECT 1) TO PROGRAM 'id'",
            "COPY /* /* /* */ */ ' */ (SELECT 1) TO PROGRAM 'id'",
            "COPY (SELECT 1) --\r TO PROGRAM 'id'",
            "/* /* */ ' */ SELECT pg_read_file('x')",
        ] {
            assert!(reaches(sql), "{sql}");
        }
        for sql in ["COPY t /* /* */ TO PROGRAM 'id' */ FROM stdin", "SELECT 1 /* pg_read_file('x')"] {
            assert!(!reaches(sql), "{sql}");
        }
    }

    #[test]
    fn what_is_shown_of_a_statement_holds_no_value() {
        for (sql, shown) in [
            ("CREATE ROLE anna PASSWORD 'se''cret' LOGIN", "CREATE ROLE anna PASSWORD '..' LOGIN"),
            ("INSERT INTO users VALUES (9, 'anna', 5551234)", "INSERT INTO users VALUES .."),
            ("ALTER ROLE a PASSWORD E'x\\'secret' b", "ALTER ROLE a PASSWORD E'..' .."),
            ("DO $x$ secret $x$", "DO '..'"),
            ("SELECT 'secret", "SELECT '..'"),
            ("CREATE  TABLE\n\"a b\" (i int)", "CREATE TABLE \"a b\" (i int)"),
        ] {
            assert_eq!(Statement::new(sql.as_bytes()).shown(), shown);
        }
        let long = format!("INSERT INTO t SELECT '{}secret'", "x".repeat(390));
        assert!(!Statement::new(long.as_bytes()).shown().contains('x'));
    }

    #[test]
    fn targets_are_named_with_their_quotes() {
        for (sql, target, shown) in [
            ("COPY public.\"Ro\"\"w\" (a) FROM stdin", "\"public\".\"Ro\"\"w\"", "public.Ro\"w"),
            ("INSERT INTO a.B VALUES (1)", "\"a\".\"b\"", "a.b"),
            ("COPY t FROM stdin", "\"t\"", "t"),
        ] {
            let found = Statement::new(sql.as_bytes()).target().unwrap();
            assert_eq!((found.sql.as_str(), found.shown.as_str()), (target, shown));
        }
    }

    #[test]
    fn what_pg_dump_writes_for_each_table_goes_in_batches() {
        for sql in [
            "CREATE TABLE public.t (i int)",
            "ALTER SEQUENCE public.t_id_seq OWNED BY public.t.id",
            "ALTER TABLE ONLY public.t ALTER COLUMN id SET DEFAULT nextval('public.t_id_seq'::regclass)",
            "SELECT pg_catalog.setval('public.t_id_seq', 5, true)",
        ] {
            assert!(Statement::new(sql.as_bytes()).goes_in_batches(), "{sql}");
        }
        for sql in [
            "SELECT pg_catalog.set_config('search_path', '', false)",
            "SELECT f(), setval('s', 1)",
            "ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY (id)",
            "ALTER TABLE t ADD COLUMN a int, ALTER COLUMN b SET DEFAULT 1",
            "CREATE TABLE u AS SELECT 1",
        ] {
            assert!(!Statement::new(sql.as_bytes()).goes_in_batches(), "{sql}");
        }
    }

    #[test]
    fn what_pg_dump_writes_changes_no_row() {
        for sql in [
            "SELECT pg_catalog.set_config('search_path', '', false)",
            "SELECT pg_catalog.setval('public.t_id_seq', 5, true)",
            "INSERT INTO t VALUES (1)",
            "CREATE TABLE t (i int)",
        ] {
            assert!(!Statement::new(sql.as_bytes()).alters_rows(), "{sql}");
        }
        for sql in ["SELECT purge()", "DELETE FROM t", "DO $$ BEGIN END $$", "TRUNCATE t"] {
            assert!(Statement::new(sql.as_bytes()).alters_rows(), "{sql}");
        }
    }
}
