//! A MariaDB on a restored database, for an application or an invariant.

use std::collections::BTreeSet;

use firedrill_core::cell::{Cell, Kit, Service};
use firedrill_core::event::Phase;
use firedrill_core::finding::Finding;
use firedrill_core::manifest::{Entry, display_path};

use super::facts::Header;
use super::physical::{self, Chain};
use super::server::{Listening, Server, Trouble, quoted};
use super::{check, load, log, xml};
use crate::probe::engine::dumps::{Dump, DumpKind, Dumps};
use crate::probe::engine::served::{Account, Place, Unfound, Wanted, by_backup, nothing_in, only};
use crate::probe::engine::session::Session;
use crate::probe::rows::{NoRows, TextRow};

/// A question of a person may take this long, in seconds.
const SECONDS_MAX: u32 = 300;
/// What the server says when that time is over.
const TIMED_OUT: u32 = 1969;

/// A dump, or the files of a server.
pub(in crate::probe::engine) struct Source(Inner);

enum Inner {
    Sql(Dump, Header),
    Files(Box<Chain>),
}

impl Source {
    /// What `entry` is, or the only backup in it.
    pub(in crate::probe::engine) fn find(session: &mut Session<'_>, entry: &Entry) -> Result<Self, Unfound> {
        let subject = session.subject;
        let found = if entry.is_file() {
            let dump = Dump::named(subject, entry, DumpKind::MysqlSql)
                .map_err(|e| Unfound::Ours(format!("failed to read {}: {e}", entry.display())))?;
            dump.map(physical::Source::Stream)
        } else {
            let dumps = Dumps::of(subject, &[DumpKind::MysqlSql, DumpKind::Xbstream]);
            let folders = physical::folders(subject).into_iter().map(physical::Source::Folder);
            let all = folders.chain(dumps.chosen.into_iter().map(physical::Source::Stream)).collect();
            let found = only(entry, all, physical::Source::path)?;
            Some(found.ok_or_else(|| nothing_in(entry, &dumps.unreadable))?)
        };
        match found {
            Some(physical::Source::Stream(dump)) if dump.kind == DumpKind::MysqlSql => {
                let mut header = load::header(subject, &dump).map_err(|e| {
                    Unfound::Ours(format!("{}: its beginning cannot be read: {e}", dump.location))
                })?;
                // A dump that does not say where it comes from comes from where the config says.
                header.is_mysql &= !header.server.is_empty();
                Ok(Self(Inner::Sql(dump, header)))
            }
            Some(physical::Source::Stream(dump)) if dump.kind != DumpKind::Xbstream => {
                Err(Unfound::Other("a dump of something else".to_owned()))
            }
            Some(source) => {
                let known = physical::look(session, &source).ok_or(Unfound::Told)?;
                // One that builds on another is filed as one without it.
                let chain = physical::chains(session, vec![(source, known)]).pop().ok_or(Unfound::Told)?;
                Ok(Self(Inner::Files(Box::new(chain))))
            }
            None => Err(Unfound::Other("something else".to_owned())),
        }
    }

    /// The software that it needs.
    pub(in crate::probe::engine) fn kit(&self) -> Kit {
        match &self.0 {
            Inner::Sql(_, header) => load::software(header),
            Inner::Files(chain) => chain.base.1.software.clone(),
        }
    }

    fn location(&self) -> String {
        match &self.0 {
            Inner::Sql(dump, _) => dump.location.clone(),
            Inner::Files(chain) => chain.base.0.location(),
        }
    }
}

/// A server with what was wanted.
pub(in crate::probe::engine) struct Served<'c>(Server<'c>);

impl Served<'_> {
    /// Asks a single SELECT.
    pub(in crate::probe::engine) fn rows(&self, database: &str, sql: &str) -> Result<Vec<TextRow>, NoRows> {
        let sql = sql.trim().trim_end_matches(';');
        let sql = format!(
            "SET NAMES utf8mb4; SET SESSION TRANSACTION READ ONLY; SET max_statement_time={SECONDS_MAX}; USE {};\n{sql};\n",
            quoted(database)
        );
        match self.0.answer(&["--xml".to_owned(), "--quick".to_owned()], &sql) {
            Ok(output) => xml::rows(&output),
            Err(Trouble::Refused(refusal)) if refusal.code != TIMED_OUT => {
                Err(NoRows::Refused(refusal.describe()))
            }
            Err(trouble) => Err(NoRows::Ours(trouble.describe())),
        }
    }

    /// The program itself.
    pub(in crate::probe::engine) fn into_service(self) -> Box<dyn Service> {
        self.0.into_service()
    }
}

/// Loads everything that is wanted into one server, and gives the names of the databases. `None`: that was not
/// possible, which is on record.
pub(in crate::probe::engine) fn serve<'c>(
    session: &mut Session<'_>,
    cell: &'c dyn Cell,
    wanted: &[(&Source, &Wanted<'_>)],
    place: Option<&Place>,
) -> Option<(Served<'c>, Vec<String>)> {
    let listening = match place {
        None => Listening::default(),
        Some(Place::Port(port)) => Listening { port: Some(*port), socket: None },
        Some(Place::Socket(path)) => Listening { port: None, socket: Some(path.clone()) },
    };
    let groups = by_backup(wanted);
    let chain = groups.iter().find_map(|(source, _)| match &source.0 {
        Inner::Files(chain) => Some(chain),
        Inner::Sql(..) => None,
    });
    // Whether the server lets everybody in, and asks nobody who he is.
    let (server, open) = match chain {
        Some(chain) if groups.len() == 1 => (files(session, cell, chain, &listening)?, true),
        Some(chain) => {
            let at = chain.base.0.location();
            let why = format!("{at}: a physical backup is a server of its own, and has no room for others");
            session.examination.interrupt(why);
            return None;
        }
        None => dumps(session, cell, wanted, &groups, &listening)?,
    };
    let mut names = Vec::new();
    for (source, one) in wanted {
        let at = source.location();
        match ready(session, &server, one, &at, open) {
            Ok(name) => names.push(name?),
            Err(trouble) => {
                session.examination.interrupt(format!("{at}: {}", trouble.describe()));
                return None;
            }
        }
    }
    Some((Served(server), names))
}

/// Starts a server on files.
fn files<'c>(
    session: &mut Session<'_>,
    cell: &'c dyn Cell,
    chain: &Chain,
    listening: &Listening,
) -> Option<Server<'c>> {
    let server = physical::start(session, cell, chain, listening)?;
    if let Some(line) = log::broken(&server.log()) {
        let expected = "a server that starts and reads without complaint";
        session.find(Finding::damage("mariadb.log", chain.base.0.location(), expected, line));
    }
    Some(server)
}

/// Loads dumps one after the other.
fn dumps<'c>(
    session: &mut Session<'_>,
    cell: &'c dyn Cell,
    wanted: &[(&Source, &Wanted<'_>)],
    groups: &[(&Source, Vec<usize>)],
    listening: &Listening,
) -> Option<(Server<'c>, bool)> {
    let mut server: Option<Server<'c>> = None;
    let mut last = String::new();
    for (source, wants) in groups {
        let Inner::Sql(dump, header) = &source.0 else { continue };
        let mut header = header.clone();
        let named = wants.iter().filter_map(|at| wanted.get(*at)?.1.database).next();
        header.database = named.map(str::to_owned).or(header.database);
        let begun = match server.take() {
            None => {
                session.timed(Phase::Start, |session| load::empty_server(session, cell, &header, listening))
            }
            Some(server) => {
                let database = quoted(header.database.as_deref().unwrap_or(load::NOWHERE));
                server.ask(&format!("CREATE DATABASE IF NOT EXISTS {database};")).map(|_| server)
            }
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(trouble) => {
                let why = format!("{}: no server to load it into: {}", dump.location, trouble.describe());
                session.examination.interrupt(why);
                return None;
            }
        };
        load::fill(session, &begun, dump, &header)?;
        last.clone_from(&dump.location);
        server = Some(begun);
    }
    match load::reachable(session, cell, server?, listening) {
        Ok(reached) => Some(reached),
        Err(trouble) => {
            session.examination.interrupt(format!("{last}: it was loaded, and then: {}", trouble.describe()));
            None
        }
    }
}

/// Finds the database that is wanted, and lets its user in. `None`: it is not there, which is on record.
fn ready(
    session: &mut Session<'_>,
    server: &Server<'_>,
    wanted: &Wanted<'_>,
    at: &str,
    open: bool,
) -> Result<Option<String>, Trouble> {
    let mut there: BTreeSet<String> = check::list(server)?.into_iter().map(|table| table.database).collect();
    there.retain(|name| !check::is_system(name));
    let shown = |there: &BTreeSet<String>| {
        let names: Vec<_> = there.iter().take(10).map(|name| display_path(name.as_bytes())).collect();
        if names.is_empty() { "no tables in any".to_owned() } else { format!("only {}", names.join(", ")) }
    };
    let name = match (wanted.database, there.len(), there.first()) {
        (Some(name), _, _) => name.to_owned(),
        (None, 1, Some(only)) => only.clone(),
        (None, ..) => {
            let why = format!("{at}: which of its databases is meant? There are {}", shown(&there));
            session.examination.interrupt(why);
            return Ok(None);
        }
    };
    if !there.contains(&name) {
        let expected = format!("tables in the database {}", display_path(name.as_bytes()));
        session.find(Finding::damage("mariadb.missing", at, expected, shown(&there)));
        return Ok(None);
    }
    if let Some(account) = wanted.account {
        let rights = format!("the rights of the account {}", display_path(account.user.as_bytes()));
        if open {
            let note = format!("{at}: {rights}: the server was started without asking for any");
            session.examination.not_verified.push(note);
        } else if !let_in(server, &name, account)? {
            session.examination.not_verified.push(format!("{at}: {rights}, which it does not bring along"));
        }
    }
    Ok(Some(name))
}

/// Lets the user of an application in; whether the backup brought it along.
fn let_in(server: &Server<'_>, database: &str, account: Account<'_>) -> Result<bool, Trouble> {
    let (user, password) = (literal(account.user), literal(account.password));
    let hosts = server.ask(&format!("SELECT Host FROM mysql.global_priv WHERE User = {user};"))?;
    let hosts: Vec<String> = hosts.into_iter().flatten().collect();
    // Only the password is another one here. The real one belongs in no config.
    let known = hosts.iter().filter(|host| !host.is_empty());
    let mut sql: String =
        known.map(|host| format!("ALTER USER {user}@{} IDENTIFIED BY {password};", literal(host))).collect();
    // The addresses of a cell are those of no source.
    let brought = hosts.iter().any(|host| host == "%");
    if !brought {
        let database = quoted(database).replace('_', "\\_").replace('%', "\\%");
        sql.push_str(&format!(
            "CREATE USER {user}@'%' IDENTIFIED BY {password}; GRANT ALL ON {database}.* TO {user}@'%';"
        ));
    }
    server.ask(&sql)?;
    Ok(brought)
}

/// A text for SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
