//! A PostgreSQL on a restored database, for an application or an invariant.

use firedrill_core::cell::{Cell, Kit, Service};
use firedrill_core::finding::Finding;
use firedrill_core::manifest::Entry;
use firedrill_core::subject::Subject;

use super::examine::SCRATCH;
use super::fill::{Gathered, bring_in, post_restore, prepare, record, start_empty};
use super::load::Job;
use super::questions::Untaken;
use super::roster::{Candidate, Folder, Roster};
use super::server::{Listening, Server, block_on, kit, last_words};
use super::wire::{Failure, ServerError, identifier, literal, shown};
use super::{conclude, folder};
use crate::probe::engine::dumps::{Dump, DumpKind};
use crate::probe::engine::served::{Account, Place, Unfound, Wanted, by_backup, nothing_in, only};
use crate::probe::engine::session::Session;
use crate::probe::rows::{NoRows, TextRow};
use firedrill_core::event::Phase;

/// Limit for each query of a person.
const QUERY_TIMEOUT: &str = "SET statement_timeout = '300s'";
/// Names of databases that are shown.
const SHOWN: usize = 10;

/// A dump or a data folder.
pub(in crate::probe::engine) struct Source(Inner);

enum Inner {
    Dump(Box<Candidate>),
    Folder(Folder),
}

impl Source {
    /// What `entry` is, or the only backup in it.
    pub(in crate::probe::engine) fn find(subject: &Subject, entry: &Entry) -> Result<Self, Unfound> {
        if entry.is_file() {
            let dump = Dump::named(subject, entry, DumpKind::PostgresPlain)
                .map_err(|e| Unfound::Ours(format!("failed to read {}: {e}", entry.display())))?;
            return match dump {
                Some(dump) if is_postgres(dump.kind) => {
                    Ok(Self(Inner::Dump(Box::new(Candidate::of(subject, dump)))))
                }
                _ => Err(Unfound::Other("a dump of something else".to_owned())),
            };
        }
        let roster = Roster::of(subject);
        let folders = roster.folders.into_iter().map(Inner::Folder);
        let all = folders.chain(roster.dumps.into_iter().map(|one| Inner::Dump(Box::new(one)))).collect();
        let found = only(entry, all, |one| match one {
            Inner::Dump(candidate) => &candidate.dump.path,
            Inner::Folder(folder) => &folder.path,
        })?;
        found.map(Self).ok_or_else(|| nothing_in(entry, &roster.unreadable))
    }

    /// The software that it needs.
    pub(in crate::probe::engine) fn kit(&self) -> Kit {
        match &self.0 {
            Inner::Dump(candidate) => kit(candidate.major, false),
            Inner::Folder(folder) => folder.kit(),
        }
    }
}

fn is_postgres(kind: DumpKind) -> bool {
    matches!(kind, DumpKind::PostgresPlain | DumpKind::PostgresCluster | DumpKind::PostgresArchive)
}

/// A server with what was wanted.
pub(in crate::probe::engine) struct Served<'c>(Server<'c>);

impl Served<'_> {
    /// Asks a single SELECT.
    pub(in crate::probe::engine) fn rows(
        &self,
        subject: &Subject,
        database: &str,
        sql: &str,
    ) -> Result<Vec<TextRow>, NoRows> {
        let taken = block_on(async {
            let mut client = self.0.ask(database, &subject.watch).await?;
            client.ask(QUERY_TIMEOUT).await?;
            client.rows(sql).await
        });
        taken.map_err(|untaken| match untaken {
            Untaken::TooMuch(more) => more.into(),
            Untaken::Failed(Failure::Refused(error)) if is_about_data(&error) => {
                NoRows::Refused(error.to_string())
            }
            Untaken::Failed(failure) => {
                let log = last_words(&self.0.log());
                NoRows::Ours(format!("{failure} (the server's log: {log})"))
            }
        })
    }

    /// The program itself.
    pub(in crate::probe::engine) fn into_service(self) -> Box<dyn Service> {
        self.0.into_service()
    }
}

/// Whether an error says something about the data, and not about other machines or libraries.
fn is_about_data(error: &ServerError) -> bool {
    !error.is_ours() && !["58", "08"].iter().any(|class| error.code.starts_with(class))
}

/// Loads everything that is wanted into one server, and gives the names of the databases. `None`: that was not
/// possible, which is on record.
pub(in crate::probe::engine) fn serve<'c>(
    session: &mut Session<'_>,
    cell: &'c dyn Cell,
    wanted: &[(&Source, &Wanted<'_>)],
    place: Option<&Place>,
) -> Option<(Served<'c>, Vec<String>)> {
    let listening = listening(session, place)?;
    let groups = by_backup(wanted);
    let mut folders = groups.iter().filter_map(|(source, _)| match &source.0 {
        Inner::Folder(folder) => Some(folder),
        Inner::Dump(_) => None,
    });
    let server = match (folders.next(), groups.len()) {
        (Some(folder), 1) => {
            let booted = folder::boot(session, cell, folder, &listening);
            booted.map_err(|e| session.trouble(&e)).ok().flatten()?
        }
        (Some(folder), _) => {
            let why = format!(
                "{}: a data folder is a server of its own, and has no room for others",
                folder.location
            );
            session.examination.interrupt(why);
            return None;
        }
        (None, _) => {
            let subject = session.subject;
            let started = session.timed(Phase::Start, |_| start_empty(cell, &listening, subject));
            started.map_err(|e| session.trouble(&e)).ok()?
        }
    };
    let mut databases = vec![String::new(); wanted.len()];
    let mut gathered = Gathered::default();
    for (number, (source, wants)) in groups.iter().enumerate() {
        let mut begun = None;
        if let Inner::Dump(candidate) = &source.0 {
            let named = wants.iter().filter_map(|at| wanted.get(*at)?.1.database).next();
            begun = Some(fill(session, &server, candidate, named, number as u64, &mut gathered)?);
        }
        for at in wants {
            let Some((_, one)) = wanted.get(*at) else { continue };
            let location = source.location();
            let name = ready(session, &server, one, location, begun.as_deref(), &gathered)?;
            if let Some(place) = databases.get_mut(*at) {
                *place = name;
            }
        }
    }
    conclude::lost_roles(session, &gathered);
    Some((Served(server), databases))
}

impl Source {
    fn location(&self) -> &str {
        match &self.0 {
            Inner::Dump(candidate) => &candidate.dump.location,
            Inner::Folder(folder) => &folder.location,
        }
    }
}

fn listening(session: &mut Session<'_>, place: Option<&Place>) -> Option<Listening> {
    match place {
        None => Some(Listening::default()),
        Some(Place::Port(port)) => Some(Listening { port: *port, tcp: true, folder: None }),
        Some(Place::Socket(path)) => {
            let known = path.rsplit_once("/.s.PGSQL.").and_then(|(folder, port)| {
                Some(Listening { port: port.parse().ok()?, tcp: false, folder: Some(folder.to_owned()) })
            });
            if known.is_none() {
                session.examination.interrupt(format!("PostgreSQL cannot listen at `{path}`"));
            }
            known
        }
    }
}

/// Loads a dump, and names the database that it was loaded into unless the dump says otherwise.
fn fill(
    session: &mut Session<'_>,
    server: &Server<'_>,
    candidate: &Candidate,
    named: Option<&str>,
    number: u64,
    gathered: &mut Gathered,
) -> Option<String> {
    let subject = session.subject;
    let location = candidate.dump.location.as_str();
    // A dump that makes its database itself would stumble over one of this name.
    let cluster = candidate.dump.kind == DumpKind::PostgresCluster;
    let makes = candidate.dump.kind == DumpKind::PostgresPlain && candidate.database.is_some();
    let begun = if cluster || makes { "postgres" } else { named.unwrap_or(SCRATCH) };
    if begun != "postgres"
        && let Err(failure) = block_on(prepare(server, subject, candidate, begun))
    {
        session.examination.interrupt(format!("{location}: cannot make a database: {failure}"));
        return None;
    }
    let job = Job { server, database: begun, location, watch: &subject.watch };
    let loaded = session.timed(Phase::Load, |session| bring_in(session, &job, candidate, number));
    if !record(session, location, &loaded, gathered) {
        return None;
    }
    for database in loaded.databases.keys() {
        if let Err(failure) = post_restore(server, subject, database, &loaded) {
            session.examination.interrupt(format!("{location}: cannot complete the load: {failure}"));
            return None;
        }
    }
    let mut others = loaded.databases.keys().filter(|name| name.as_str() != begun);
    Some(match (others.next(), others.next()) {
        // The only one that it made.
        (Some(other), None) if cluster || makes => other.clone(),
        _ => begun.to_owned(),
    })
}

/// Finds the database that is wanted, and lets its user in. `None`: that was not possible, which is on record.
fn ready(
    session: &mut Session<'_>,
    server: &Server<'_>,
    wanted: &Wanted<'_>,
    location: &str,
    begun: Option<&str>,
    gathered: &Gathered,
) -> Option<String> {
    let subject = session.subject;
    const SQL: &str =
        "SELECT datname FROM pg_database WHERE datallowconn AND datname NOT IN ('template0', 'template1')";
    let there = block_on(async {
        let mut client = server.connect("postgres", &subject.watch, &[]).await?;
        client.ask(SQL).await
    });
    let there: Vec<String> = match there {
        Ok(answer) => answer.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect(),
        Err(failure) => {
            session
                .examination
                .interrupt(format!("{location}: cannot ask which databases there are: {failure}"));
            return None;
        }
    };
    let name = match (wanted.database, begun) {
        (Some(name), _) => Some(name.to_owned()),
        (None, Some(begun)) if begun != "postgres" => Some(begun.to_owned()),
        (None, _) => there.iter().find(|name| folder::is_only(name, &there)).cloned(),
    };
    let Some(name) = name else {
        let why = format!("{location}: it holds {} databases: name one of {}", there.len(), list(&there));
        session.examination.interrupt(why);
        return None;
    };
    if !there.contains(&name) {
        let expected = format!("the database {}", shown(&name, 80));
        session.find(Finding::damage(
            "postgres.missing",
            location,
            expected,
            format!("only {}", list(&there)),
        ));
        return None;
    }
    if let Some(account) = wanted.account {
        match block_on(let_in(server, subject, &name, account, gathered)) {
            Ok(None) => {}
            Ok(Some(unproven)) => session.examination.not_verified.push(format!("{location}: {unproven}")),
            Err(failure) => {
                session
                    .examination
                    .interrupt(format!("{location}: cannot let {} in: {failure}", account.user));
                return None;
            }
        }
    }
    Some(name)
}

fn list(names: &[String]) -> String {
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    let names: Vec<_> = names.iter().take(SHOWN).map(|name| shown(name, 60)).collect();
    names.join(", ") + more
}

/// Lets the user of an application in. What it says is not proven by that.
async fn let_in(
    server: &Server<'_>,
    subject: &Subject,
    database: &str,
    account: Account<'_>,
    gathered: &Gathered,
) -> Result<Option<String>, Failure> {
    let mut client = server.connect("postgres", &subject.watch, &[]).await?;
    let user = identifier(account.user);
    let known = format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(account.user));
    let there = client.ask(known).await?.first().is_some();
    let brought = there && !gathered.missing.contains_key(account.user);
    if brought {
        client.ask(format!("ALTER ROLE {user} LOGIN")).await?;
        return Ok(None);
    }
    // What it may do at the source is not known: one that may too little would make a good backup fail.
    let make = if there { "ALTER" } else { "CREATE" };
    client.ask(format!("{make} ROLE {user} LOGIN SUPERUSER")).await?;
    client.ask(format!("ALTER DATABASE {} OWNER TO {user}", identifier(database))).await?;
    Ok(Some(format!("the rights of the role {}, which it does not bring along", shown(account.user, 80))))
}
