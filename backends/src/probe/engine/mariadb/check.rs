//! Every table of a running server is read from end to end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use firedrill_core::manifest::display_path;
use firedrill_core::watch::Watch;

use super::log;
use super::server::{Refusal, Row, Server, Trouble, quoted, rows};

/// Tables that are asked for in one go: answers are short, but not without bound.
const BATCH: usize = 200;
/// Tables that are read at a time.
const LANES_MAX: usize = 4;
/// What a message is cut to.
const MESSAGE_MAX: usize = 240;
/// Schemas that belong to the server.
const SYSTEM: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];

/// Whether a schema belongs to the server.
pub(super) fn is_system(database: &str) -> bool {
    SYSTEM.iter().any(|name| name.eq_ignore_ascii_case(database))
}

/// What a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It holds rows.
    Rows,
    /// A view.
    View,
    /// A sequence, which has one row and cannot be checked.
    Sequence,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) database: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) engine: String,
}

impl Table {
    /// `database.name`, for people.
    pub(super) fn shown(&self) -> String {
        display_path(format!("{}.{}", self.database, self.name).as_bytes())
    }

    pub(super) fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.database), quoted(&self.name))
    }
}

/// What came of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The server read it and says that it is well.
    pub(super) well: bool,
    /// Its rows, where they were counted.
    pub(super) rows: Option<u64>,
    /// What the server said against it.
    pub(super) against: Vec<String>,
}

impl Outcome {
    /// In words.
    pub(super) fn seen(&self) -> String {
        let text = self.against.join("; ");
        if text.is_empty() { "no answer".to_owned() } else { text.chars().take(600).collect() }
    }

    fn says(&self, what: impl Fn(&str) -> bool) -> bool {
        self.against.iter().any(|text| what(text))
    }

    /// An account that a view belongs to is not there.
    pub(super) fn lacks_definer(&self) -> bool {
        self.says(|text| text.contains("specified as a definer") && text.contains("does not exist"))
    }

    /// The engine of the table is not part of this server.
    pub(super) fn lacks_engine(&self) -> bool {
        self.says(|text| text.contains("Unknown storage engine") || text.contains("Unknown table engine"))
    }

    /// The table is encrypted, and the key is elsewhere.
    pub(super) fn lacks_key(&self) -> bool {
        self.says(|text| {
            let text = log::without_names(text);
            text.contains("encrypted") || text.contains("decrypt")
        })
    }

    /// The server is newer than the table, and would convert it first.
    pub(super) fn wants_upgrade(&self) -> bool {
        self.says(|text| text.contains("upgrade required") || text.contains("Needs upgrade"))
    }

    /// What was said is about this machine.
    pub(super) fn is_ours(&self) -> bool {
        self.says(log::is_ours)
    }
}

/// All tables.
pub(super) fn list(server: &Server<'_>) -> Result<Vec<Table>, Trouble> {
    const SQL: &str = "SELECT HEX(TABLE_SCHEMA), HEX(TABLE_NAME), TABLE_TYPE, COALESCE(ENGINE, '') \
        FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema') \
        ORDER BY 1, 2;";
    Ok(server.ask(SQL)?.iter().filter_map(table).collect())
}

fn table(row: &Row) -> Option<Table> {
    let text = |at: usize| row.get(at).map(String::as_str);
    let name = |at: usize| String::from_utf8(hex::decode(text(at)?).ok()?).ok();
    let kind = match text(2)? {
        "VIEW" | "SYSTEM VIEW" => Kind::View,
        "SEQUENCE" => Kind::Sequence,
        _ => Kind::Rows,
    };
    Some(Table { database: name(0)?, name: name(1)?, kind, engine: text(3)?.to_owned() })
}

/// Checks `tables`, and counts their rows. When the server dies of it, the table that was asked for is named.
pub(super) fn check(
    server: &Server<'_>,
    tables: &[Table],
    watch: &Watch,
    mut seen: impl FnMut(&Table, Outcome),
) -> Result<(), Trouble> {
    let lanes = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, LANES_MAX);
    let size = (tables.len() / (lanes * 4)).clamp(8, BATCH);
    let batches: Vec<&[Table]> = tables.chunks(size).collect();
    let next = AtomicUsize::new(0);
    let lane = || -> Vec<(usize, Result<Vec<Outcome>, Trouble>)> {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(number) else { return done };
            let outcomes = watch.check().map_err(Trouble::from).and_then(|()| check_batch(server, batch));
            let stop = outcomes.is_err();
            done.push((number, outcomes));
            if stop {
                next.store(usize::MAX / 2, Ordering::Relaxed);
            }
        }
    };
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        let lost =
            || vec![(usize::MAX, Err(Trouble::Ours("a thread of the examination panicked".to_owned())))];
        lanes.into_iter().flat_map(|lane| lane.join().unwrap_or_else(|_| lost())).collect()
    });
    done.sort_by_key(|(number, _)| *number);
    let mut trouble = None;
    for (number, outcomes) in done {
        match outcomes {
            Ok(outcomes) => {
                let batch = batches.get(number).copied().unwrap_or_default();
                batch.iter().zip(outcomes).for_each(|(table, outcome)| seen(table, outcome));
            }
            // Whoever else talked to a server that died of a table has only lost it.
            Err(dead @ Trouble::Dead(_)) => trouble = Some(dead),
            Err(other) => trouble = trouble.or(Some(other)),
        }
    }
    trouble.map_or(Ok(()), Err)
}

fn check_batch(server: &Server<'_>, batch: &[Table]) -> Result<Vec<Outcome>, Trouble> {
    let mut sql = String::new();
    for (number, table) in batch.iter().enumerate() {
        let name = table.sql();
        // Each table has a line of its own: errors name the line.
        let _ = write!(sql, "SELECT '#',{number};");
        if table.kind != Kind::Sequence {
            let _ = write!(sql, "CHECK TABLE {name} EXTENDED;");
        }
        if table.kind != Kind::View {
            let _ = write!(sql, "SELECT '=',COUNT(*) FROM {name};");
        }
        sql.push('\n');
    }
    let ended = server.client(&["--force".to_owned()], Box::new(sql.as_bytes()), None)?;
    if ended.stdout_cut {
        return Err(Trouble::Ours("the server said more about its tables than firedrill reads".to_owned()));
    }
    let mut outcomes = vec![Outcome::default(); batch.len()];
    let last = read(&rows(&ended.stdout), batch, &mut outcomes);
    let refusals = Refusal::all(&ended.stderr);
    if let Some(lost) = refusals.iter().find(|r| matches!(r.code, 2002 | 2006 | 2013)) {
        let table = batch.get(last).map(Table::shown).unwrap_or_default();
        return Err(match server.dead() {
            Some(Trouble::Dead(words)) => Trouble::Dead(format!("while it read {table}: {words}")),
            Some(other) => other,
            None => Trouble::Ours(lost.describe()),
        });
    }
    for refusal in refusals {
        let at =
            refusal.line.and_then(|line| usize::try_from(line).ok()).and_then(|line| line.checked_sub(1));
        if let Some(outcome) = at.and_then(|at| outcomes.get_mut(at)) {
            outcome.well = false;
            outcome.against.push(refusal.describe());
        }
    }
    Ok(outcomes)
}

/// Reads the answers; the number of the last table that was reached.
fn read(rows: &[Row], batch: &[Table], outcomes: &mut [Outcome]) -> usize {
    let mut at = 0;
    for row in rows {
        let fields: Vec<&str> = row.iter().map(String::as_str).collect();
        match fields.as_slice() {
            ["#", number] => {
                at = number.parse().unwrap_or(at);
                // What cannot be checked is well when it can be read.
                let sequence = batch.get(at).is_some_and(|table| table.kind == Kind::Sequence);
                if let Some(outcome) = outcomes.get_mut(at) {
                    outcome.well = sequence;
                }
            }
            ["=", count] => {
                if let Some(outcome) = outcomes.get_mut(at) {
                    outcome.rows = count.parse().ok();
                }
            }
            [_, _, kind, text] => {
                if let Some(outcome) = outcomes.get_mut(at) {
                    said(outcome, kind, text);
                }
            }
            _ => {}
        }
    }
    at
}

fn said(outcome: &mut Outcome, kind: &str, text: &str) {
    let shown = || log::plain(text, MESSAGE_MAX);
    if kind.eq_ignore_ascii_case("status") {
        match text {
            "OK" | "Table is already up to date" => outcome.well = outcome.against.is_empty(),
            other if other.contains("doesn't support check") => outcome.well = outcome.against.is_empty(),
            _ => outcome.against.push(shown()),
        }
    } else if kind.eq_ignore_ascii_case("error") {
        outcome.well = false;
        outcome.against.push(shown());
    } else if kind.eq_ignore_ascii_case("note") {
        outcome.well |= text.contains("doesn't support check");
    } else if kind.eq_ignore_ascii_case("warning") && text.contains("orrupt") {
        outcome.against.push(shown());
    }
}

/// Tables that InnoDB knows and the server does not: their definitions (`.frm`) are lost.
pub(super) fn orphans(server: &Server<'_>, tables: &[Table]) -> Result<Vec<String>, Trouble> {
    let known: BTreeSet<(&str, &str)> =
        tables.iter().map(|t| (t.database.as_str(), t.name.as_str())).collect();
    let mut orphans = BTreeSet::new();
    let rows =
        server.ask("SELECT HEX(NAME) FROM information_schema.INNODB_SYS_TABLES WHERE NAME LIKE '%/%';")?;
    for name in rows.iter().flatten().filter_map(|name| String::from_utf8(hex::decode(name).ok()?).ok()) {
        if let Some((database, table)) = file_name(&name)
            && !known.contains(&(database.as_str(), table.as_str()))
        {
            orphans.insert(display_path(format!("{database}.{table}").as_bytes()));
        }
    }
    Ok(orphans.into_iter().collect())
}

/// The database and table in a name such as `shop/parts#P#p0`; none for what the server makes for itself, and for
/// names in its own code for letters beyond ASCII.
fn file_name(name: &str) -> Option<(String, String)> {
    let (database, table) = name.split_once('/')?;
    let table = table.split("#P#").next()?.split("#p#").next()?;
    let own = table.starts_with("#sql") || table.starts_with("FTS_0") || table.is_empty();
    (!own).then(|| Some((decoded(database)?, decoded(table)?)))?
}

/// `we@002eird` is `we.ird`.
fn decoded(name: &str) -> Option<String> {
    let mut parts = name.split('@');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(4)?;
        text.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        text.push_str(rest);
    }
    Some(text)
}

/// An account that owns views, routines, triggers or events, and is not among the accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definer {
    pub(super) account: String,
    pub(super) of: Vec<String>,
}

/// The accounts and roles of the server, as `user@host`; roles have no host.
pub(super) fn accounts(server: &Server<'_>) -> Result<BTreeSet<String>, Trouble> {
    let rows = server.ask("SELECT User, Host FROM mysql.global_priv;")?;
    let account = |row: &Row| match (row.first(), row.get(1)) {
        (Some(user), Some(host)) if host.is_empty() => Some(user.clone()),
        (Some(user), Some(host)) => Some(format!("{user}@{host}")),
        _ => None,
    };
    Ok(rows.iter().filter_map(account).collect())
}

/// Definers that are no accounts.
pub(super) fn lost_definers(
    server: &Server<'_>,
    accounts: &BTreeSet<String>,
) -> Result<Vec<Definer>, Trouble> {
    const SQL: &str = "\
        SELECT DEFINER, 'views' FROM information_schema.VIEWS WHERE TABLE_SCHEMA NOT IN ('mysql', 'sys')\n\
        UNION SELECT DEFINER, 'triggers' FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA NOT IN ('mysql', 'sys')\n\
        UNION SELECT DEFINER, 'events' FROM information_schema.EVENTS WHERE EVENT_SCHEMA NOT IN ('mysql', 'sys')\n\
        UNION SELECT DEFINER, 'routines' FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA NOT IN ('mysql', 'sys');";
    // Every server has these from its first day on.
    const INBORN: [&str; 3] = ["root@localhost", "mariadb.sys@localhost", "mysql.sys@localhost"];
    let mut lost = BTreeMap::<String, Vec<String>>::new();
    for row in server.ask(SQL)? {
        if let [account, what] = row.as_slice()
            && !accounts.contains(account)
            && !INBORN.contains(&account.as_str())
            && !account.is_empty()
        {
            lost.entry(account.clone()).or_default().push(what.clone());
        }
    }
    Ok(lost.into_iter().map(|(account, of)| Definer { account, of }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(kinds: &[Kind], output: &str) -> (Vec<Outcome>, usize) {
        let batch: Vec<Table> = kinds
            .iter()
            .map(|kind| Table {
                database: "d".into(),
                name: "t".into(),
                kind: *kind,
                engine: "InnoDB".into(),
            })
            .collect();
        let mut outcomes = vec![Outcome::default(); batch.len()];
        let last = read(&rows(output.as_bytes()), &batch, &mut outcomes);
        (outcomes, last)
    }

    #[test]
    fn names_of_files_are_names_of_tables() {
        let of = |name: &str| file_name(name).map(|(database, table)| format!("{database}|{table}"));
        assert_eq!(of("shop/orders").as_deref(), Some("shop|orders"));
        assert_eq!(of("we@002eird@0060x/t@002ea@0060b").as_deref(), Some("we.ird`x|t.a`b"));
        assert_eq!(of("shop/parts#P#p0").as_deref(), Some("shop|parts"));
        for name in ["shop/#sql-ib23", "shop/FTS_0000000000000012_CONFIG", "SYS_FOREIGN", "shop/@zz"] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn answers_are_told_apart_table_by_table() {
        let (seen, last) = outcomes(
            &[Kind::Rows, Kind::Rows, Kind::View, Kind::Sequence, Kind::Rows],
            "#\t0\nd.t\tcheck\tstatus\tOK\n=\t7\n\
             #\t1\nd.t\tcheck\tWarning\tInnoDB: The B-tree of index PRIMARY is corrupted.\nd.t\tcheck\terror\tCorrupt\n\
             #\t2\nd.v\tcheck\tError\tThe user specified as a definer ('g'@'%') does not exist\nd.v\tcheck\terror\tCorrupt\n\
             #\t3\n=\t1\n",
        );
        assert!(seen[0].well && seen[0].rows == Some(7));
        assert!(!seen[1].well && seen[1].seen().contains("PRIMARY") && seen[1].rows.is_none());
        assert!(seen[2].lacks_definer());
        assert!(seen[3].well);
        // The last one was never reached: silence is not health.
        assert!(!seen[4].well && last == 3);
    }
}
