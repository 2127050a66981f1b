//! SQL dumps: an empty server, and the dump fed to the client.

use std::io::{self, Read};
use std::time::Instant;

use firedrill_core::cell::{Cell, Kit, Pipes};
use firedrill_core::event::Phase;
use firedrill_core::finding::Finding;
use firedrill_core::subject::Subject;

use super::facts::Header;
use super::log::plain;
use super::script::{Deed, Hidden, Script, Stream, Watched};
use super::server::{DATA, Listening, Refusal, Row, Server, TEMPORARY, Trouble, furnish, program, quoted};
use super::{check, kit, log};
use crate::probe::engine::dumps::{Dump, is_own_trouble};
use crate::probe::engine::session::Session;
use crate::probe::structure;

/// The account that loads: dumps bring every other one along, `root` included.
const LOADER: &str = "firedrill_loader";
/// Where statements go that name no database.
pub(super) const NOWHERE: &str = "firedrill_load";

/// Settings for loading much in little time.
const LOADING: [&str; 6] = [
    "--innodb-buffer-pool-size=1G",
    "--innodb-log-file-size=512M",
    "--innodb-stats-persistent=0",
    // The server counts how often each routine and each trigger runs, and nothing else.
    "--loose-performance-schema=ON",
    "--loose-performance-schema-instrument=%=OFF",
    "--loose-performance-schema-instrument=statement/%=ON",
];

/// Bodies that are named in one note.
const HIDDEN_TOLD: usize = 5;

/// Refusals that tell of another server than the one that was dumped: engines, character sets, plugins, settings.
const OTHER_SERVER: [u32; 6] = [1115, 1193, 1273, 1286, 1524, 1228];

/// Whether an account is the one that loads.
pub(super) fn is_loader(account: &str) -> bool {
    account.split('@').next() == Some(LOADER)
}

/// What the beginning of a dump says, and the software that can load it.
pub(super) fn header(subject: &Subject, dump: &Dump) -> io::Result<Header> {
    let mut head = Vec::new();
    dump.read(subject)?.take(structure::HEAD as u64).read_to_end(&mut head)?;
    Ok(Header::of(&head))
}

/// SQL loads into the version that wrote it, or a newer one.
pub(super) fn software(header: &Header) -> Kit {
    kit(header.version, None, &["mariadbd", "mariadb", "mariadb-install-db"])
}

/// A dump that was loaded.
pub(super) struct Loaded<'c> {
    pub(super) server: Server<'c>,
    pub(super) script: Script,
}

/// Loads `dump`. `None`: it could not be, which is on record.
pub(super) fn load<'c>(
    session: &mut Session<'_>,
    cell: &'c dyn Cell,
    dump: &Dump,
    header: &Header,
) -> Option<Loaded<'c>> {
    let start = Instant::now();
    let server = empty_server(session, cell, header, &Listening::default());
    session.spent(Phase::Start, start.elapsed());
    let server = match server {
        Ok(server) => server,
        Err(trouble) => {
            let words = trouble.describe();
            session
                .examination
                .interrupt(format!("{}: no empty server to load it into: {words}", dump.location));
            return None;
        }
    };
    let script = fill(session, &server, dump, header)?;
    match reachable(session, cell, server, &Listening::default()) {
        Ok((server, _)) => Some(Loaded { server, script }),
        Err(trouble) => {
            let words = trouble.describe();
            session.examination.interrupt(format!("{}: it was loaded, and then: {words}", dump.location));
            None
        }
    }
}

/// Feeds `dump` to a server. `None`: not all of it is there, which is on record.
pub(super) fn fill(
    session: &mut Session<'_>,
    server: &Server<'_>,
    dump: &Dump,
    header: &Header,
) -> Option<Script> {
    let mut script = Script::begin(header.database.as_deref().unwrap_or(NOWHERE));
    let start = Instant::now();
    // A dump of everything brings the tables of the server itself along, which only its own series has.
    let software = server.cell().facts().of(super::NAME).and_then(|software| software.version);
    let is_foreign_system = header.version.is_none() || software != header.version;
    let done = feed(session, server, dump, header, &mut script, is_foreign_system);
    session.spent(Phase::Load, start.elapsed());
    report_deeds(session, dump, &script);
    let programs = programs(server);
    if programs.as_ref().is_ok_and(|programs| !programs.is_empty()) {
        script.rows_are_changed();
        session.note(format!(
            "{}: routines or triggers ran, so rows were not counted against it",
            dump.location
        ));
    }
    report_hidden(session, dump, &script, programs.as_ref());
    done.then_some(script)
}

/// A dump of everything replaces the accounts too: then the server starts once more, and asks nobody who he is, which
/// is the second part of the answer.
pub(super) fn reachable<'c>(
    session: &mut Session<'_>,
    cell: &'c dyn Cell,
    server: Server<'c>,
    listening: &Listening,
) -> Result<(Server<'c>, bool), Trouble> {
    const ACCESS_DENIED: [u32; 4] = [1044, 1045, 1142, 1698];
    match server.ask("SELECT COUNT(*) FROM mysql.global_priv;") {
        Ok(_) => return Ok((server, false)),
        Err(Trouble::Refused(refusal)) if ACCESS_DENIED.contains(&refusal.code) => {}
        Err(trouble) => return Err(trouble),
    }
    let start = Instant::now();
    server.stop()?;
    let mut settings = LOADING.map(str::to_owned).to_vec();
    settings.push("--skip-grant-tables".to_owned());
    let server = Server::start(cell, &settings, LOADER, listening, &session.subject.watch);
    session.spent(Phase::Start, start.elapsed());
    Ok((server?, true))
}

/// Starts a server with nothing in it but the database that `header` begins in.
pub(super) fn empty_server<'c>(
    session: &Session<'_>,
    cell: &'c dyn Cell,
    header: &Header,
    listening: &Listening,
) -> Result<Server<'c>, Trouble> {
    furnish(cell)?;
    let data = format!("--datadir={DATA}");
    let temporary = format!("--tmpdir={TEMPORARY}");
    let install = program(
        "mariadb-install-db",
        [
            "--no-defaults",
            &data,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            &temporary,
            "--loose-debug-no-sync",
            "--innodb-flush-method=nosync",
            "--innodb-doublewrite=0",
        ],
    );
    let ended = cell.run(&install, Pipes::default())?;
    if !ended.succeeded() {
        let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &ended.stderr;
        let words = log::telling(&said).unwrap_or_else(|| ended.describe());
        return Err(Trouble::Ours(format!("mariadb-install-db: {words}")));
    }
    let settings = LOADING.map(str::to_owned);
    let mut server = Server::start(cell, &settings, "root", listening, &session.subject.watch)?;
    let database = quoted(header.database.as_deref().unwrap_or(NOWHERE));
    server.ask(&format!(
        "CREATE USER {LOADER}@localhost; GRANT ALL ON *.* TO {LOADER}@localhost WITH GRANT OPTION; \
         GRANT PROXY ON ''@'%' TO {LOADER}@localhost WITH GRANT OPTION; CREATE DATABASE IF NOT EXISTS {database};"
    ))?;
    server.become_user(LOADER);
    // A dump of accounts makes them all anew, those that every server has from its first day included.
    let drops = server.ask(&format!(
        "SELECT CONCAT('DROP USER ', QUOTE(User), '@', QUOTE(Host), ';') FROM mysql.global_priv \
         WHERE User <> '{LOADER}';"
    ))?;
    let drops: String = drops.into_iter().flatten().collect();
    server.ask(&drops)?;
    Ok(server)
}

/// Feeds the dump to the client; whether all of it is in the server now. What went wrong is on record.
fn feed(
    session: &mut Session<'_>,
    server: &Server<'_>,
    dump: &Dump,
    header: &Header,
    script: &mut Script,
    is_foreign_system: bool,
) -> bool {
    let at = &dump.location;
    let reader = match dump.read(session.subject) {
        Ok(reader) => reader,
        Err(error) => {
            session.examination.interrupt(format!("failed to read {at}: {error}"));
            return false;
        }
    };
    let mut stream = Stream::default();
    let database = format!("--database={}", header.database.as_deref().unwrap_or(NOWHERE));
    let stdin = Box::new(Watched::new(reader, script, &mut stream));
    let ended = server.client(&[database], stdin, Some(Box::new(io::sink())));
    if let Some(error) = stream.trouble {
        let why = if is_own_trouble(&error) {
            "failed to read"
        } else {
            "not loaded to its end, as it cannot be decompressed"
        };
        session.examination.interrupt(format!("{at}: {why}: {error}"));
        return false;
    }
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            session.examination.interrupt(format!("{at}: {}", error.describe()));
            return false;
        }
    };
    // The structure probe files a dump without an end; here nobody must take it for loaded.
    let cut = stream.ended && (!stream.whole || (script.header && !script.marker));
    let refusal = server.refusal(&ended);
    if cut {
        let words = refusal.map(|trouble| format!(" ({})", trouble.describe())).unwrap_or_default();
        let why = "it does not end as a dump ends: what stood behind its end is unknown";
        session.examination.interrupt(format!("{at}: {why}{words}"));
        return false;
    }
    if let Some(trouble) = refusal {
        report_refusal(session, server, (dump, header), script, trouble, is_foreign_system);
        return false;
    }
    true
}

fn report_refusal(
    session: &mut Session<'_>,
    server: &Server<'_>,
    (dump, header): (&Dump, &Header),
    script: &Script,
    trouble: Trouble,
    is_foreign_system: bool,
) {
    let at = &dump.location;
    let refusal = match trouble {
        Trouble::Refused(refusal) => refusal,
        Trouble::Ours(why) => return session.examination.interrupt(format!("{at}: failed to load: {why}")),
        Trouble::Dead(words) => {
            // A statement may have asked for it; then that is on record.
            let why = format!("{at}: the server ended while it was loaded: {words}");
            return session.examination.interrupt(why);
        }
    };
    let ran = programs(server).is_ok_and(|rows| script.hidden.iter().any(|hidden| has_run(&rows, hidden)));
    if ran || is_contained(&refusal, script) {
        let why = format!(
            "{at}: not loaded beyond a statement that reaches out of its server: {}",
            refusal.message
        );
        return session.examination.interrupt(why);
    }
    let line = refusal.line.map(|line| format!(" at line {line}")).unwrap_or_default();
    let words = format!("{}{line}", refusal.describe());
    if header.is_mysql {
        return session.examination.interrupt(format!(
            "{at}: a dump of MySQL {}, which MariaDB could not load: {words}; only a MySQL can tell whether it is good",
            header.server
        ));
    }
    if OTHER_SERVER.contains(&refusal.code) {
        return session.examination.interrupt(format!(
            "{at}: it needs something that this server does not have: {words} (use a runtime with the server that it \
             was made with: {})",
            header.server
        ));
    }
    if is_foreign_system && check::is_system(script.database()) {
        return session.examination.interrupt(format!(
            "{at}: its tables of the server itself do not fit this server: {words} (use a runtime with the server that \
             it was made with: {})",
            header.server
        ));
    }
    session.find(Finding::damage(
        "mariadb.load",
        at,
        "statements that a server executes to the last one",
        words,
    ));
}

/// Whether what was refused is filed already as something that reaches out.
fn is_contained(refusal: &Refusal, script: &Script) -> bool {
    let near = |deed: &Deed| refusal.line.is_some_and(|line| line.abs_diff(deed.line) <= 1);
    (refusal.code == 0 && refusal.message.contains("Unknown command"))
        || script.commands.iter().chain(&script.reaches).any(near)
}

/// The routines and triggers that have run, as the server itself has counted: their kind, database and name.
fn programs(server: &Server<'_>) -> Result<Vec<Row>, Trouble> {
    let counted = server.ask("SELECT @@performance_schema;")?;
    if counted.first().and_then(|row| row.first()).is_none_or(|on| on != "1") {
        return Err(Trouble::Ours("the server does not count what runs".to_owned()));
    }
    server.ask(
        "SELECT OBJECT_TYPE, OBJECT_SCHEMA, OBJECT_NAME FROM performance_schema.events_statements_summary_by_program \
         WHERE COUNT_STAR > 0 AND OBJECT_SCHEMA NOT IN ('sys', 'mysql') LIMIT 10000;",
    )
}

/// Whether a body is among those that have run.
fn has_run(programs: &[Row], hidden: &Hidden) -> bool {
    let names = [&hidden.kind, &hidden.database, &hidden.name].map(|name| name.to_lowercase());
    programs.iter().any(|row| row.iter().map(|name| name.to_lowercase()).eq(names.iter().cloned()))
}

/// Tells of bodies that reach out: those that ran while the dump was loaded, and those that somebody may call.
fn report_hidden(
    session: &mut Session<'_>,
    dump: &Dump,
    script: &Script,
    programs: Result<&Vec<Row>, &Trouble>,
) {
    let at = &dump.location;
    let name = |hidden: &Hidden| {
        let name = plain(&format!("{}.{}", hidden.database, hidden.name), 120);
        format!("the {} {name} ({})", hidden.kind.to_lowercase(), hidden.what)
    };
    if let Err(trouble) = programs
        && !script.hidden.is_empty()
    {
        let why = trouble.describe();
        session.examination.not_verified.push(format!("{at}: whether a body that reaches out ran: {why}"));
    }
    let programs = programs.map(Vec::as_slice).unwrap_or_default();
    let mut idle = Vec::new();
    for hidden in &script.hidden {
        if has_run(programs, hidden) {
            session.find(Finding::anomaly(
                "mariadb.reaches_out",
                format!("{at}, line {}", hidden.line),
                "statements that stay within their server",
                format!("{}, which ran while the dump was loaded; it was contained", name(hidden)),
            ));
        } else {
            idle.push(name(hidden));
        }
    }
    if !idle.is_empty() {
        let more = idle.len().saturating_sub(HIDDEN_TOLD);
        idle.truncate(HIDDEN_TOLD);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        session.note(format!("{at}: would reach out when called: {}{more}", idle.join(", ")));
    }
}

fn report_deeds(session: &mut Session<'_>, dump: &Dump, script: &Script) {
    let place = |deed: &Deed| format!("{}, line {}", dump.location, deed.line);
    let times = |deed: &Deed| if deed.times > 1 { format!(", {} times", deed.times) } else { String::new() };
    for deed in &script.commands {
        session.find(Finding::anomaly(
            "mariadb.meta_command",
            place(deed),
            "SQL alone",
            format!(
                "`{}`, a command of the client, which runs where the dump is loaded{}",
                deed.what,
                times(deed)
            ),
        ));
    }
    for deed in &script.reaches {
        session.find(Finding::anomaly(
            "mariadb.reaches_out",
            place(deed),
            "statements that stay within their server",
            format!("{}{}; it was contained", deed.what, times(deed)),
        ));
    }
}
