//! What a stream of SQL does besides filling tables, watched while it is loaded.
//!
//! A dump is text that somebody else's server executes. What reaches beyond that server (files, other machines,
//! libraries, programs) is contained by the cell; that it was tried is worth a finding.

use std::collections::BTreeMap;
use std::io::{self, Read};

use firedrill_core::manifest::display_path;

use super::lexer::{CALL, Depth, Lexer, Token};

/// Tokens of a statement that are remembered.
const TOKENS_MAX: usize = 24;
/// Tables that are counted.
const TABLES_MAX: usize = 100_000;
/// Kinds of attempts that are remembered.
const DEEDS_MAX: usize = 20;
/// Bodies that are remembered.
const HIDDEN_MAX: usize = 1000;
/// Engines whose tables are elsewhere.
const REMOTE_ENGINES: [&str; 6] = ["FEDERATED", "FEDERATEDX", "CONNECT", "SPIDER", "S3", "SPHINX"];
/// Statements that have a body, which does nothing by itself.
const BODIES: [&str; 6] = ["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE", "VIEW"];

/// What was tried, where first, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) what: String,
    pub(super) line: u64,
    pub(super) times: u64,
}

/// A body that reaches out when it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hidden {
    /// `PROCEDURE`, `TRIGGER` and so on.
    pub(super) kind: String,
    pub(super) database: String,
    pub(super) name: String,
    pub(super) what: String,
    pub(super) line: u64,
}

/// What is known of a stream of SQL.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Commands of the client.
    pub(super) commands: Vec<Deed>,
    /// Statements that reach beyond the server.
    pub(super) reaches: Vec<Deed>,
    /// Bodies that do nothing by themselves, and reach beyond the server when they are called.
    pub(super) hidden: Vec<Hidden>,
    /// Rows inserted, by database and table, as far as that can be told exactly.
    pub(super) rows: BTreeMap<(String, String), u64>,
    /// Statements.
    pub(super) statements: u64,
    /// Whether a header of a dump was seen.
    pub(super) header: bool,
    /// Whether the end marker of the last dump was seen.
    pub(super) marker: bool,
    /// Rows were changed in other ways too: counts say nothing.
    uncountable: bool,
    database: String,
    statement: Statement,
}

/// A remembered token.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Word(String),
    Name(String),
    Sign(u8),
}

/// The statement at hand.
#[derive(Debug, Default)]
struct Statement {
    parts: Vec<Part>,
    line: u64,
    begun: bool,
    body: bool,
    depth: u32,
    values: bool,
    rows: u64,
    inexact: bool,
    /// The word before.
    before: String,
    deeds: Vec<String>,
    /// What its body would do, first of all.
    within: Option<String>,
    host: bool,
}

impl Statement {
    /// The remembered word at `at`, in upper case.
    fn word(&self, at: usize) -> String {
        match self.parts.get(at) {
            Some(Part::Word(word)) => word.to_ascii_uppercase(),
            _ => String::new(),
        }
    }

    fn has(&self, word: &str) -> bool {
        self.parts.iter().any(|p| matches!(p, Part::Word(w) if w.eq_ignore_ascii_case(word)))
    }

    /// The name that begins at `at`: with its database, if that is said.
    fn name(&self, at: usize) -> Option<(Option<String>, String)> {
        let text = |at: usize| match self.parts.get(at) {
            Some(Part::Word(text) | Part::Name(text)) => Some(text.clone()),
            _ => None,
        };
        let first = text(at)?;
        match (self.parts.get(at + 1), text(at + 2)) {
            (Some(Part::Sign(b'.')), Some(second)) => Some((Some(first), second)),
            _ => Some((None, first)),
        }
    }

    fn word_seen(&mut self, word: &[u8]) {
        if self.values {
            if word.eq_ignore_ascii_case(CALL) && self.deeds.len() < DEEDS_MAX {
                self.deeds.push("LOAD_FILE".to_owned());
            }
            self.inexact |= self.depth == 0 && !word.eq_ignore_ascii_case(b"VALUES");
            return;
        }
        let word = String::from_utf8_lossy(word).into_owned();
        let upper = word.to_ascii_uppercase();
        let creates = self.word(0) == "CREATE";
        let early = self.parts.len() < TOKENS_MAX;
        if self.body && self.within.is_none() {
            self.within = deed_within(&self.before, &upper);
        }
        self.body |= creates && early && BODIES.contains(&upper.as_str());
        let deed = match (self.before.as_str(), upper.as_str()) {
            (_, "SONAME") if creates && early => Some("CREATE FUNCTION .. SONAME".to_owned()),
            _ if self.body => None,
            ("INTO", "OUTFILE" | "DUMPFILE") => Some(format!("SELECT .. INTO {upper}")),
            (_, "LOAD_FILE") => Some(upper.clone()),
            ("ENGINE" | "TYPE", engine) if REMOTE_ENGINES.contains(&engine) => {
                Some(format!("a table with ENGINE={engine}"))
            }
            _ => None,
        };
        self.deeds.extend(deed);
        self.host |= matches!(upper.as_str(), "MASTER_HOST" | "SOURCE_HOST");
        let inserts = matches!(self.word(0).as_str(), "INSERT" | "REPLACE");
        if inserts && self.depth == 0 && matches!(upper.as_str(), "VALUES" | "VALUE") {
            self.values = true;
        }
        self.inexact |= inserts && matches!(upper.as_str(), "SELECT" | "IGNORE" | "SET" | "REPLACE");
        if early {
            self.parts.push(Part::Word(word));
        }
        self.before = upper;
    }

    fn sign(&mut self, sign: u8) {
        match sign {
            b'(' => {
                self.rows += u64::from(self.values && self.depth == 0);
                self.depth = self.depth.saturating_add(1);
            }
            b')' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        if !self.values && self.parts.len() < TOKENS_MAX {
            self.parts.push(Part::Sign(sign));
        }
    }

    /// What it makes that has a body: the kind, and its name.
    fn made(&self) -> Option<(String, (Option<String>, String))> {
        let at = (0..self.parts.len()).find(|at| BODIES.contains(&self.word(*at).as_str()))?;
        let mut name = at + 1;
        while matches!(self.word(name).as_str(), "IF" | "NOT" | "EXISTS") {
            name += 1;
        }
        Some((self.word(at), self.name(name)?))
    }

    /// What the statement does beyond its server.
    fn deeds(&self) -> Vec<String> {
        let (first, second) = (self.word(0), self.word(1));
        let mut deeds = self.deeds.clone();
        let deed = match (first.as_str(), second.as_str()) {
            ("LOAD", "DATA" | "XML" | "INDEX") if second != "INDEX" => Some(format!("LOAD {second}")),
            ("INSTALL", _) => Some(format!("INSTALL {second}")),
            ("START", "SLAVE" | "REPLICA" | "GROUP_REPLICATION" | "ALL") => Some(format!("START {second}")),
            // Without a host it only notes a position, as `mariadb-dump --master-data` does.
            ("CHANGE", _) if self.host => Some(format!("CHANGE {second} to a host")),
            ("CREATE", _) if self.word(1) == "SERVER" || self.word(3) == "SERVER" => {
                Some("CREATE SERVER".to_owned())
            }
            ("SHUTDOWN" | "KILL", _) => Some(first.clone()),
            ("SET", _) => self.global_file(),
            _ => None,
        };
        deeds.extend(deed);
        deeds
    }

    /// Settings that let a server write where it should not, or run what it should not.
    fn global_file(&self) -> Option<String> {
        const TELLING: [&str; 6] = [
            "GENERAL_LOG",
            "SLOW_QUERY_LOG",
            "EVENT_SCHEDULER",
            "INIT_CONNECT",
            "INIT_SLAVE",
            "LOCAL_INFILE",
        ];
        let global = self.has("GLOBAL") || self.has("@@GLOBAL");
        let named = self.parts.iter().find_map(|part| match part {
            Part::Word(word) => {
                let word = word.to_ascii_uppercase();
                TELLING.iter().any(|t| word.starts_with(t)).then_some(word)
            }
            _ => None,
        });
        named.filter(|_| global).map(|word| format!("SET GLOBAL {word}"))
    }
}

impl Script {
    /// One that begins in `database`.
    pub(super) fn begin(database: &str) -> Self {
        Self { database: database.to_owned(), ..Self::default() }
    }

    /// The database that statements without one mean now.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    fn see(&mut self, token: Token<'_>, line: u64) -> Depth {
        if !self.statement.begun && !matches!(token, Token::Comment(_) | Token::Command(_) | Token::End) {
            self.statement.begun = true;
            self.statement.line = line;
        }
        match token {
            Token::Word(word) => self.statement.word_seen(word),
            Token::Name(name) => {
                if self.statement.parts.len() < TOKENS_MAX {
                    self.statement.parts.push(Part::Name(String::from_utf8_lossy(name).into_owned()));
                }
                self.statement.before.clear();
            }
            Token::Text => self.statement.before.clear(),
            Token::Sign(b'=') => {}
            Token::Sign(sign) => self.statement.sign(sign),
            Token::End => self.end(),
            Token::Comment(comment) => self.comment(comment),
            Token::Command(command) => {
                let what = display_path(command);
                note(&mut self.commands, what, line);
            }
            Token::Rows { begun, depth } => {
                self.statement.rows = self.statement.rows.saturating_add(begun);
                self.statement.depth = depth;
            }
        }
        self.statement.values.then_some(self.statement.depth)
    }

    fn comment(&mut self, comment: &[u8]) {
        if self.statement.begun {
            return;
        }
        if comment.starts_with(b"-- MariaDB dump ") || comment.starts_with(b"-- MySQL dump ") {
            self.header = true;
            self.marker = false;
        }
        self.marker |= comment.starts_with(b"-- Dump completed");
    }

    fn end(&mut self) {
        let statement = std::mem::take(&mut self.statement);
        if !statement.begun {
            return;
        }
        self.statements += 1;
        for deed in statement.deeds() {
            note(&mut self.reaches, deed, statement.line);
        }
        if let Some(what) = &statement.within
            && let Some((kind, name)) = statement.made()
            && self.hidden.len() < HIDDEN_MAX
        {
            let (database, name) = self.key(name);
            self.hidden.push(Hidden { kind, database, name, what: what.clone(), line: statement.line });
        }
        match statement.word(0).as_str() {
            "USE" => {
                if let Some((_, name)) = statement.name(1) {
                    self.database = name;
                }
            }
            "INSERT" | "REPLACE" => self.insert(&statement),
            "CREATE" if !statement.body => self.table(&statement, false),
            "DROP" => self.table(&statement, true),
            "DELETE" | "UPDATE" | "TRUNCATE" | "CALL" | "EXECUTE" | "RENAME" | "LOAD" => {
                self.uncountable |= !matches!(self.database.as_str(), "mysql" | "sys");
            }
            _ => {}
        }
    }

    fn key(&self, name: (Option<String>, String)) -> (String, String) {
        (name.0.unwrap_or_else(|| self.database.clone()), name.1)
    }

    fn insert(&mut self, statement: &Statement) {
        let into =
            statement.parts.iter().position(|p| matches!(p, Part::Word(w) if w.eq_ignore_ascii_case("INTO")));
        let Some(name) = into.and_then(|at| statement.name(at + 1)) else {
            self.uncountable = true;
            return;
        };
        let key = self.key(name);
        if statement.inexact || !statement.values || statement.word(0) == "REPLACE" {
            self.rows.insert(key, u64::MAX);
        } else if let Some(rows) = self.rows.get_mut(&key) {
            *rows = rows.saturating_add(statement.rows);
        } else if self.rows.len() < TABLES_MAX {
            self.rows.insert(key, statement.rows);
        }
    }

    /// `CREATE TABLE` begins a count, `DROP TABLE` ends it.
    fn table(&mut self, statement: &Statement, drop: bool) {
        let at = statement
            .parts
            .iter()
            .position(|p| matches!(p, Part::Word(w) if w.eq_ignore_ascii_case("TABLE")));
        if drop && statement.has("DATABASE") {
            self.uncountable = true;
        }
        let Some(mut at) = at.filter(|at| *at <= 3) else { return };
        while matches!(statement.word(at + 1).as_str(), "IF" | "NOT" | "EXISTS") {
            at += 1;
        }
        let Some(name) = statement.name(at + 1) else { return };
        let key = self.key(name);
        if drop {
            self.rows.remove(&key);
        } else if statement.has("SELECT") || statement.has("TEMPORARY") {
            self.rows.insert(key, u64::MAX);
        } else if self.rows.len() < TABLES_MAX {
            self.rows.entry(key).or_insert(0);
        }
    }

    /// Something else than the script has changed rows, so that its own count says nothing.
    pub(super) fn rows_are_changed(&mut self) {
        self.uncountable = true;
    }

    /// The rows that a table must have now, where the script tells.
    pub(super) fn rows_of(&self, database: &str, table: &str) -> Option<u64> {
        let rows = self.rows.get(&(database.to_owned(), table.to_owned())).copied()?;
        (rows != u64::MAX && !self.uncountable).then_some(rows)
    }
}

/// What a body does beyond its server with this word, behind the word before.
fn deed_within(before: &str, word: &str) -> Option<String> {
    match (before, word) {
        ("INTO", "OUTFILE" | "DUMPFILE") => Some(format!("SELECT .. INTO {word}")),
        ("LOAD", "DATA" | "XML") | ("INSTALL", "SONAME" | "PLUGIN") => Some(format!("{before} {word}")),
        ("ENGINE", engine) if REMOTE_ENGINES.contains(&engine) => {
            Some(format!("a table with ENGINE={engine}"))
        }
        (_, "SONAME") => Some("CREATE FUNCTION .. SONAME".to_owned()),
        (_, "LOAD_FILE" | "SYS_EXEC" | "SYS_EVAL" | "MASTER_HOST") => Some(word.to_owned()),
        _ => None,
    }
}

fn note(deeds: &mut Vec<Deed>, what: String, line: u64) {
    if let Some(deed) = deeds.iter_mut().find(|deed| deed.what == what) {
        deed.times += 1;
    } else if deeds.len() < DEEDS_MAX {
        deeds.push(Deed { what, line, times: 1 });
    }
}

/// What is known of the stream itself.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The reader's error: whoever reads may keep it for himself.
    pub(super) trouble: Option<io::Error>,
    /// It was read to its end.
    pub(super) ended: bool,
    /// Its end is the end of a statement.
    pub(super) whole: bool,
}

/// Reads a script, and watches what is read.
pub(super) struct Watched<'s, R> {
    reader: R,
    lexer: Lexer,
    script: &'s mut Script,
    stream: &'s mut Stream,
}

impl<'s, R: Read> Watched<'s, R> {
    pub(super) fn new(reader: R, script: &'s mut Script, stream: &'s mut Stream) -> Self {
        Self { reader, lexer: Lexer::default(), script, stream }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let script = &mut *self.script;
        match self.reader.read(into) {
            Ok(0) => {
                if !self.stream.ended {
                    self.stream.ended = true;
                    self.stream.whole = self.lexer.finish(&mut |token, line| script.see(token, line));
                }
                Ok(0)
            }
            Ok(n) => {
                let bytes = into.get(..n).unwrap_or_default();
                self.lexer.feed(bytes, &mut |token, line| script.see(token, line));
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.stream.trouble.get_or_insert(error);
                Err(copy)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(text: &str) -> (Script, bool) {
        let mut script = Script::begin("shop");
        let mut stream = Stream::default();
        io::copy(&mut Watched::new(text.as_bytes(), &mut script, &mut stream), &mut io::sink()).unwrap();
        assert!(stream.trouble.is_none() && stream.ended);
        (script, stream.whole)
    }

    /// What is known of `text` when every token of it is looked at.
    fn looked_at(text: &str) -> (Script, bool) {
        let mut script = Script::begin("shop");
        let mut lexer = Lexer::default();
        let mut see = |token: Token<'_>, line: u64| {
            script.see(token, line);
            None
        };
        text.as_bytes().chunks(1).for_each(|piece| lexer.feed(piece, &mut see));
        let whole = lexer.finish(&mut see);
        (script, whole)
    }

    /// What is known of it when rows are skimmed, and how many tokens there were.
    fn skimmed(text: &str, piece: usize) -> (Script, bool, u32) {
        let (mut script, mut lexer, mut tokens) = (Script::begin("shop"), Lexer::default(), 0);
        let mut see = |token: Token<'_>, line: u64| {
            tokens += 1;
            script.see(token, line)
        };
        text.as_bytes().chunks(piece).for_each(|piece| lexer.feed(piece, &mut see));
        let whole = lexer.finish(&mut see);
        (script, whole, tokens)
    }

    /// What rows may be made of, and what only looks like it.
    #[rustfmt::skip]
    const PIECES: [&str; 48] = [
        "INSERT INTO t VALUES ", "INSERT INTO `t` (`a`) VALUES\n", "(1,'a',NULL),", "(", "(", ")", ")", ",", ",", "1",
        "-1.5e3", "--x", "-- c\n", "-", "'a'", "'it''s'", "'\\''", "'\\\\'", "'a\nb'", "\"q\"", "\"'\"", "''", "''''",
        "'''", "'", "\"", "\\", "NULL", "LOAD_FILE('x')", "load_file", "123456789", "_binary '\\0'", "0xAB", ";", ";\n",
        "\n", "/*!40101 ", "*/", "/* c */", "#x\n", "`n`", "DELIMITER //\n", "//", "é", " ON DUPLICATE KEY UPDATE a=1",
        "SELECT", "\\! id\n", "system x\n",
    ];

    proptest::proptest! {
        #[test]
        fn rows_are_skimmed_as_they_are_looked_at(
            chosen in proptest::collection::vec(0..PIECES.len(), 1..80),
            piece in proptest::prop_oneof![1..40_usize, 41..2000_usize],
        ) {
            let text: String = chosen.iter().filter_map(|number| PIECES.get(*number).copied()).collect();
            let text = format!("INSERT INTO t VALUES {text}");
            let (mut looked, whole) = looked_at(&text);
            let (mut skim, skim_whole, _) = skimmed(&text, piece);
            // The word before means nothing among values.
            for script in [&mut looked, &mut skim] {
                script.statement.before.clear();
            }
            proptest::prop_assert_eq!(format!("{looked:?}"), format!("{skim:?}"), "{}", text);
            proptest::prop_assert_eq!(whole, skim_whole, "{}", text);
        }
    }

    #[test]
    fn most_of_the_rows_is_skimmed() {
        let rows: String =
            (0..5000).map(|n| format!("({n},'it''s row {n}\\n',NULL,_binary '\0',0xab,-1.5),\n")).collect();
        let text = format!("INSERT INTO `t` VALUES\n{rows}(1);\n");
        let (script, whole, tokens) = skimmed(&text, 16 << 10);
        assert!(whole && tokens < 800, "{tokens} tokens");
        assert_eq!(script.rows_of("shop", "t"), Some(5001));
    }

    fn reaches(text: &str) -> Vec<String> {
        watched(text).0.reaches.into_iter().map(|deed| format!("{}@{}", deed.what, deed.line)).collect()
    }

    #[test]
    fn rows_are_counted_per_table() {
        let (script, whole) = watched(
            "-- MariaDB dump 10.19\nDROP TABLE IF EXISTS `t`;\nCREATE TABLE `t` (\n  `a` int DEFAULT (1)\n) ENGINE=InnoDB;\n\
             INSERT INTO `t` VALUES\n(1,'a;(b'),\n(2,NULL);\nINSERT INTO `t` (`a`) VALUES (3);\n\
             CREATE TABLE `e``x` (a int);\nUSE `other`;\nINSERT INTO t VALUES (1),(2);\n\
             INSERT INTO `x`.`y` VALUES (_binary 'a)(');\nINSERT IGNORE INTO z VALUES (1);\n-- Dump completed on x\n",
        );
        assert!(whole && script.header && script.marker);
        assert_eq!(script.rows_of("shop", "t"), Some(3));
        assert_eq!(script.rows_of("shop", "e`x"), Some(0));
        assert_eq!(script.rows_of("other", "t"), Some(2));
        assert_eq!(script.rows_of("x", "y"), Some(1));
        assert_eq!(script.rows_of("other", "z"), None);
        let (script, _) = watched("INSERT INTO t VALUES (1);DELETE FROM t;");
        assert_eq!(script.rows_of("shop", "t"), None);
    }

    #[test]
    fn what_reaches_out_is_seen() {
        for (text, what) in [
            ("LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t;", "LOAD DATA@1"),
            ("\nSELECT 1 INTO OUTFILE '/x';", "SELECT .. INTO OUTFILE@2"),
            ("select 'a' into dumpfile '/x';", "SELECT .. INTO DUMPFILE@1"),
            ("INSERT INTO t VALUES (LOAD_FILE('/etc/passwd'));", "LOAD_FILE@1"),
            ("CREATE FUNCTION sys_exec RETURNS int SONAME 'x.so';", "CREATE FUNCTION .. SONAME@1"),
            ("INSTALL SONAME 'ha_connect';", "INSTALL SONAME@1"),
            ("CHANGE MASTER TO MASTER_HOST='10.0.0.1', MASTER_USER='u';", "CHANGE MASTER to a host@1"),
            ("START SLAVE;", "START SLAVE@1"),
            (
                "create table f (a int) engine=federated connection='mysql://u@h/x';",
                "a table with ENGINE=FEDERATED@1",
            ),
            ("/*!50000 CREATE SERVER s FOREIGN DATA WRAPPER mysql */;", "CREATE SERVER@1"),
            ("SET GLOBAL general_log_file='/x';", "SET GLOBAL GENERAL_LOG_FILE@1"),
            ("SET @@global.event_scheduler=1;", "SET GLOBAL EVENT_SCHEDULER@1"),
            ("SHUTDOWN;", "SHUTDOWN@1"),
        ] {
            assert_eq!(reaches(text), [what], "{text}");
        }
    }

    #[test]
    fn bodies_that_would_reach_out_are_remembered() {
        let (script, _) = watched(
            "DELIMITER ;;\nCREATE DEFINER=`a`@`%` PROCEDURE `p`()\nBEGIN IF 1 THEN SELECT 1 INTO OUTFILE '/x'; END IF; END ;;\n\
             CREATE TRIGGER x.t BEFORE INSERT ON u FOR EACH ROW SET NEW.a = LOAD_FILE('/x') ;;\n\
             CREATE FUNCTION IF NOT EXISTS f() RETURNS int RETURN (SELECT COUNT(*) FROM outfile) ;;\nDELIMITER ;\n",
        );
        let hidden: Vec<_> = script
            .hidden
            .iter()
            .map(|h| (h.kind.as_str(), h.database.as_str(), h.name.as_str(), h.what.as_str()))
            .collect();
        assert_eq!(
            hidden,
            [("PROCEDURE", "shop", "p", "SELECT .. INTO OUTFILE"), ("TRIGGER", "x", "t", "LOAD_FILE")]
        );
        assert!(script.reaches.is_empty());
    }

    #[test]
    fn what_dumps_do_every_day_is_no_reach() {
        for text in [
            "CHANGE MASTER TO MASTER_LOG_FILE='a.000001', MASTER_LOG_POS=4;",
            "SET GLOBAL gtid_slave_pos='0-1-5';",
            "SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '';",
            "INSERT INTO t VALUES ('select 1 into outfile \"/x\"','INSTALL SONAME');",
            "CREATE TABLE `load` (`outfile` int, `master_host` text) ENGINE=InnoDB;",
            "DELIMITER ;;\nCREATE DEFINER=`a`@`%` PROCEDURE `p`()\nBEGIN SELECT 1 INTO OUTFILE '/x'; SHUTDOWN; END ;;\nDELIMITER ;\n",
            "/*!50106 CREATE*/ /*!50117 DEFINER=`a`@`b`*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO LOAD DATA INFILE 'x' INTO TABLE t */ ;",
        ] {
            assert_eq!(reaches(text), Vec::<String>::new(), "{text}");
            assert!(watched(text).1, "{text}");
        }
    }
}
