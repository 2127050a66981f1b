//! Servers on restored databases for somebody else than their own probe: an application connects to them, an
//! invariant asks them for rows.
//!
//! A backup is loaded as its probe loads it, by the same code: no psql, nothing of it reaches outside of the cell, and
//! what the engine says against it is filed under the same codes. What the probe asks afterwards is not asked here.

use firedrill_core::cell::{Cell, Kit, Service};
use firedrill_core::config::databases::Engine;
use firedrill_core::config::trials::in_cell;
use firedrill_core::manifest::{Entry, Kind, display_path};
use firedrill_core::subject::Subject;

use super::session::Session;
use super::{mariadb, postgres};
use crate::probe::bringing::meant;
use crate::probe::rows::{NoRows, TextRow};

/// A backup that a config names by its path.
pub(crate) struct Backup {
    path: Vec<u8>,
    source: Source,
}

enum Source {
    Postgres(postgres::served::Source),
    Mariadb(mariadb::served::Source),
}

/// Why a path names no backup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfound {
    /// There is nothing at this path in the snapshot.
    Nothing,
    /// There is something else. What it is.
    Other(String),
    /// We cannot tell, or must not choose.
    Ours(String),
    /// What is wrong is on record already.
    Told,
}

/// A database in a backup that somebody needs.
pub(crate) struct Wanted<'w> {
    pub(crate) backup: &'w Backup,
    /// Its name; without one it is the only one.
    pub(crate) database: Option<&'w str>,
    /// Who connects to it, if that is somebody else than we.
    pub(crate) account: Option<Account<'w>>,
}

/// Who connects to a database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'w> {
    pub(crate) user: &'w str,
    pub(crate) password: &'w str,
}

/// Where a server is looked for, besides by ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A port on the loopback address.
    Port(u16),
    /// A unix socket.
    Socket(String),
}

impl Place {
    /// What `listens` of a config means. `Err` says what is wrong with it.
    pub(crate) fn of(engine: Engine, listens: Option<&str>) -> Result<Self, String> {
        let Some(text) = listens else { return Ok(Self::Port(engine.usual_port())) };
        match (text.parse::<u16>(), in_cell(text)) {
            (Ok(port), _) if port > 0 => Ok(Self::Port(port)),
            (Err(_), Some(socket)) => Ok(Self::Socket(socket)),
            _ => Err(format!("nobody can listen at `{text}`")),
        }
    }
}

impl Backup {
    /// Finds the backup of `engine` at `path`: a dump, a data folder, or a folder with one of them in it.
    pub(crate) fn find(session: &mut Session<'_>, engine: Engine, path: &str) -> Result<Self, Unfound> {
        let subject = session.subject;
        let meant = meant(subject, path);
        let Some(one) = meant.first() else { return Err(Unfound::Nothing) };
        if meant.len() > 1 {
            let shown = display_path(one);
            session.note(format!("`{path}` means several things in the snapshot; {shown} was taken"));
        }
        let Some(entry) = subject.manifest.entries().iter().find(|entry| &entry.path == one) else {
            return Err(Unfound::Nothing);
        };
        if entry.is_file() && entry.size == 0 {
            return Err(Unfound::Other("an empty file".to_owned()));
        }
        let source = match engine {
            Engine::Postgres => Source::Postgres(postgres::served::Source::find(subject, entry)?),
            Engine::Mariadb => Source::Mariadb(mariadb::served::Source::find(session, entry)?),
        };
        Ok(Self { path: one.clone(), source })
    }

    /// The software that it needs.
    pub(crate) fn kit(&self) -> Kit {
        match &self.source {
            Source::Postgres(source) => source.kit(),
            Source::Mariadb(source) => source.kit(),
        }
    }
}

/// Whether `entry` is `found`, or the only one of `found` is in it. For backups in folders.
pub(super) fn only<T>(
    entry: &Entry,
    found: Vec<T>,
    path: impl Fn(&T) -> &[u8],
) -> Result<Option<T>, Unfound> {
    let within = [entry.path.as_slice(), b"/"].concat();
    let mut inside: Vec<T> = Vec::new();
    for one in found {
        if path(&one) == entry.path {
            return Ok(Some(one));
        }
        if path(&one).starts_with(&within) {
            inside.push(one);
        }
    }
    if inside.len() > 1 {
        let names: Vec<_> = inside.iter().take(3).map(|one| display_path(path(one))).collect();
        let why =
            format!("{} holds {} backups: name one of {}", entry.display(), inside.len(), names.join(", "));
        return Err(Unfound::Ours(why));
    }
    Ok(inside.pop())
}

/// For a folder in which nothing was found, or which could not be looked through.
pub(super) fn nothing_in(entry: &Entry, unreadable: &[String]) -> Unfound {
    match unreadable.first() {
        Some(why) => Unfound::Ours(why.clone()),
        None if entry.kind == Kind::Directory => {
            Unfound::Other("a folder with nothing of it inside".to_owned())
        }
        None => Unfound::Other("something else".to_owned()),
    }
}

/// A server with restored databases. It ends with its cell.
pub(crate) struct Served<'c> {
    server: Server<'c>,
    /// The databases, in the order of what was wanted.
    databases: Vec<String>,
}

enum Server<'c> {
    Postgres(postgres::served::Served<'c>),
    Mariadb(mariadb::served::Served<'c>),
}

/// Loads backups of one engine into one server. `None`: that was not possible, which is on record.
pub(crate) fn serve<'c>(
    session: &mut Session<'_>,
    cell: &'c dyn Cell,
    wanted: &[Wanted<'_>],
    place: Option<&Place>,
) -> Option<Served<'c>> {
    let mut postgres = Vec::new();
    let mut mariadb = Vec::new();
    for one in wanted {
        match &one.backup.source {
            Source::Postgres(source) => postgres.push((source, one)),
            Source::Mariadb(source) => mariadb.push((source, one)),
        }
    }
    if postgres.is_empty() {
        let (server, databases) = mariadb::served::serve(session, cell, &mariadb, place)?;
        return Some(Served { server: Server::Mariadb(server), databases });
    }
    let (server, databases) = postgres::served::serve(session, cell, &postgres, place)?;
    Some(Served { server: Server::Postgres(server), databases })
}

impl Served<'_> {
    /// Asks the database that was wanted as number `wanted` a single SELECT.
    pub(crate) fn rows(&self, subject: &Subject, wanted: usize, sql: &str) -> Result<Vec<TextRow>, NoRows> {
        if !firedrill_core::config::databases::is_single_select(sql) {
            return Err(NoRows::Ours("the query is not a single SELECT".to_owned()));
        }
        let Some(database) = self.databases.get(wanted) else { return Err(NoRows::Missing) };
        match &self.server {
            Server::Postgres(server) => server.rows(subject, database, sql),
            Server::Mariadb(server) => server.rows(database, sql),
        }
    }

    /// The program itself, for whoever lets it run.
    pub(crate) fn into_service(self) -> Box<dyn Service> {
        match self.server {
            Server::Postgres(server) => server.into_service(),
            Server::Mariadb(server) => server.into_service(),
        }
    }
}

/// Groups what is wanted by the backup that it is in, in order: each is loaded once.
pub(super) fn by_backup<'w, S>(wanted: &[(&'w S, &'w Wanted<'w>)]) -> Vec<(&'w S, Vec<usize>)> {
    let mut groups: Vec<(&'w S, &[u8], Vec<usize>)> = Vec::new();
    for (number, (source, one)) in wanted.iter().enumerate() {
        match groups.iter_mut().find(|(_, path, _)| *path == one.backup.path) {
            Some((_, _, numbers)) => numbers.push(number),
            None => groups.push((*source, &one.backup.path, vec![number])),
        }
    }
    groups.into_iter().map(|(source, _, numbers)| (source, numbers)).collect()
}
