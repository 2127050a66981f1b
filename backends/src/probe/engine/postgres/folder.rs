//! Data folders, copied from a volume.
//!
//! A copy is recovered as after a power failure, by a server that runs alone and talks to nobody; then its pages
//! are read and their checksums compared; then it is started with settings of ours. Its own settings stay out: they
//! name files, libraries and servers of another machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use firedrill_core::cell::{Cell, Ended, Pipes, inside};
use firedrill_core::config::settings::DatabaseExpectation;
use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::event::Phase;
use firedrill_core::finding::{Finding, RecoveryBasis, RecoveryPoint};
use firedrill_core::manifest::{Entry, Kind};
use firedrill_core::subject::Subject;
use jiff::Timestamp;

use super::amcheck;
use super::examine::{Asked, ask, compare_recorded};
use super::fill::Gathered;
use super::roster::{Folder, Unknown, join};
use super::server::{Listening, SUPERUSER, Server, block_on, ended_badly, is_ours, last_words, program};
use super::wire::{Failure, shown};
use crate::probe::engine::session::Session;
use crate::probe::names::last;

/// What is not taken over: marks of the server that ran there, and settings that lead elsewhere.
const LEFT_BEHIND: [&[u8]; 10] = [
    b"postmaster.pid",
    b"postmaster.opts",
    b"postgresql.conf",
    b"postgresql.auto.conf",
    b"pg_hba.conf",
    b"pg_ident.conf",
    b"standby.signal",
    b"recovery.signal",
    b"recovery.conf",
    b"conf.d",
];

/// Who may connect: whoever is in the cell.
const ACCESS: &str = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all ::1/128 trust\n";

/// The data inside the cell.
fn data() -> String {
    inside(".firedrill/pgdata")
}

/// Settings of a server on a copy, beyond those of all. What is in the copy may need the wide limits: replication
/// slots, prepared transactions, a log of any level.
fn settings() -> Vec<(&'static str, String)> {
    vec![
        ("config_file", inside(".firedrill/own/postgresql.conf")),
        ("hba_file", inside(".firedrill/own/pg_hba.conf")),
        ("ident_file", inside(".firedrill/own/pg_ident.conf")),
        ("wal_level", "logical".to_owned()),
        ("max_wal_senders", "0".to_owned()),
        ("max_replication_slots", "200".to_owned()),
        ("max_prepared_transactions", "200".to_owned()),
        ("shared_preload_libraries", String::new()),
        ("restart_after_crash", "off".to_owned()),
        ("ignore_invalid_pages", "off".to_owned()),
        ("zero_damaged_pages", "off".to_owned()),
    ]
}

/// Starts a copy of a data folder, and asks it.
pub(super) fn examine(session: &mut Session<'_>, folder: &Folder, gathered: &mut Gathered) {
    let subject = session.subject;
    let Some(cell) = session.open(&[folder.kit()]) else {
        return gathered.give_up();
    };
    match start(session, cell.as_ref(), folder, gathered) {
        Ok(true) => {}
        Ok(false) => {
            gathered.broken = true;
            for (number, expectation) in subject.drill.expectations.postgres.iter().enumerate() {
                // It is there, and says itself what is wrong with it.
                let file = expectation.file.as_ref();
                if file.is_none_or(|file| subject.meant_by(file).contains(&folder.path)) {
                    gathered.met.insert(number);
                }
            }
        }
        Err(error) => {
            gathered.give_up();
            session.examination.interrupt(format!("{}: {}", folder.location, error.chain()));
        }
    }
    if let Err(error) = cell.close() {
        session.trouble(&error);
    }
}

/// `false`: it cannot be started, which is on record.
fn start(
    session: &mut Session<'_>,
    cell: &dyn Cell,
    folder: &Folder,
    gathered: &mut Gathered,
) -> Result<bool, Error> {
    let Some(server) = boot(session, cell, folder, &Listening::default())? else { return Ok(false) };
    if let Err(failure) = ask_all(session, &server, folder, gathered) {
        let died = format!("{failure} (the server's log: {})", last_words(&server.log()));
        session.examination.interrupt(format!("{}: cannot ask what is in it: {died}", folder.location));
        gathered.give_up();
    }
    // Stopping saves nothing: the copy is thrown away.
    drop(server);
    Ok(true)
}

/// Recovers a copy of the folder, and starts a server on it. `None`: it cannot be started, which is on record.
pub(super) fn boot<'c>(
    session: &mut Session<'_>,
    cell: &'c dyn Cell,
    folder: &Folder,
    listening: &Listening,
) -> Result<Option<Server<'c>>, Error> {
    if !is_a_version(session, folder)? {
        return Ok(None);
    }
    // Copying it is making a scratch copy: a person would start it where it was restored to.
    if !bring(session, cell, folder)? {
        return Ok(None);
    }
    let Some(control) = control(session, cell, folder)? else { return Ok(None) };
    tell_state(session, folder, &control);
    let start = Instant::now();
    let recovered = recover(session, cell, folder)?;
    session.spent(Phase::Start, start.elapsed());
    if !recovered {
        return Ok(None);
    }
    checksums(session, cell, folder, &control)?;
    let settings = settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let start = Instant::now();
    let server = Server::start(cell, &data(), &settings, listening, &session.subject.watch)?;
    session.spent(Phase::Start, start.elapsed());
    Ok(Some(server))
}

/// Whether the folder says which version it is of. `false`: it says nonsense, which is on record.
fn is_a_version(session: &mut Session<'_>, folder: &Folder) -> Result<bool, Error> {
    match &folder.version {
        Ok(_) => Ok(true),
        Err(Unknown::Unread(why)) => {
            Err(Error::new(ErrorKind::Scratch, "read its PG_VERSION").because(why.clone()))
        }
        Err(Unknown::Nonsense(seen)) => {
            session.find(Finding::damage(
                "postgres.recovery",
                format!("{}/PG_VERSION", folder.location),
                "the version of PostgreSQL that the folder belongs to",
                format!("`{seen}`"),
            ));
            session.examination.checked += 1;
            Ok(false)
        }
    }
}

/// Copies the folder into the cell. `false`: a part of it is elsewhere and not in the snapshot, which is on record.
fn bring(session: &mut Session<'_>, cell: &dyn Cell, folder: &Folder) -> Result<bool, Error> {
    let subject = session.subject;
    let children = children(subject, &folder.path);
    for (name, text) in [("postgresql.conf", ""), ("pg_hba.conf", ACCESS), ("pg_ident.conf", "")] {
        cell.bring(&mut text.as_bytes(), &inside(&format!(".firedrill/own/{name}")))?;
    }
    for entry in children.iter().filter(|entry| !LEFT_BEHIND.contains(&entry.name())) {
        let name = String::from_utf8_lossy(entry.name()).into_owned();
        let to = format!("{}/{name}", data());
        match &entry.kind {
            // The log, or the tablespaces below, may be on another volume.
            Kind::Symlink(target) => match elsewhere(subject, target) {
                Some(path) => cell.bring_tree(&on_disk(subject, &path), &to)?,
                None if name == "pg_wal" => {
                    session.find(Finding::damage(
                        "postgres.wal_missing",
                        format!("{}/pg_wal", folder.location),
                        "the write-ahead log, without which the data cannot be recovered",
                        format!(
                            "a link to {}, which is not in this snapshot",
                            shown(&String::from_utf8_lossy(target), 120)
                        ),
                    ));
                    return Ok(false);
                }
                None => {}
            },
            Kind::Directory if name == "pg_tblspc" && !self::children(subject, &entry.path).is_empty() => {
                if !tablespaces(session, cell, folder, &entry.path)? {
                    return Ok(false);
                }
            }
            Kind::Directory | Kind::File => cell.bring_tree(&on_disk(subject, &entry.path), &to)?,
            Kind::Fifo | Kind::Socket | Kind::Device => {}
        }
    }
    Ok(true)
}

fn tablespaces(
    session: &mut Session<'_>,
    cell: &dyn Cell,
    folder: &Folder,
    path: &[u8],
) -> Result<bool, Error> {
    let subject = session.subject;
    for entry in children(subject, path) {
        let to = format!("{}/pg_tblspc/{}", data(), String::from_utf8_lossy(entry.name()));
        let source = match &entry.kind {
            Kind::Directory => Some(entry.path.clone()),
            Kind::Symlink(target) => elsewhere(subject, target),
            _ => continue,
        };
        let Some(source) = source else {
            session.find(Finding::damage(
                "postgres.tablespace_missing",
                entry.display(),
                "the files of the tablespace",
                "a link to a folder that is not in this snapshot",
            ));
            return Ok(false);
        };
        session.examination.notes.push(format!("{}: a tablespace was brought along", folder.location));
        cell.bring_tree(&on_disk(subject, &source), &to)?;
    }
    Ok(true)
}

/// The entries directly in a folder.
fn children<'s>(subject: &'s Subject, folder: &[u8]) -> Vec<&'s Entry> {
    let inner = |entry: &&Entry| join(folder, last(&entry.path)) == entry.path && entry.path != folder;
    subject.manifest.entries().iter().filter(inner).collect()
}

/// The folder in the snapshot that an absolute link leads to.
fn elsewhere(subject: &Subject, target: &[u8]) -> Option<Vec<u8>> {
    let path = target.strip_prefix(b"/")?;
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let there = subject.manifest.entries().iter().any(|e| e.path == path && e.kind == Kind::Directory);
    there.then(|| path.to_vec())
}

fn on_disk(subject: &Subject, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    subject.root.join(Path::new(std::ffi::OsStr::from_bytes(path)))
}

/// What pg_controldata says, by the name of the line.
type Control = BTreeMap<String, String>;

fn control(session: &mut Session<'_>, cell: &dyn Cell, folder: &Folder) -> Result<Option<Control>, Error> {
    let ended = cell.run(&program("pg_controldata", ["-D", &data()]), Pipes::default())?;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    if is_ours(&ended) {
        return Err(ended_badly("pg_controldata", &ended));
    }
    let warned = format!("{said}\n{}", ended.stderr);
    if !ended.succeeded() || warned.contains("WARNING") {
        let seen = if ended.succeeded() { "its checksum does not fit".to_owned() } else { ended.describe() };
        let place = format!("{}/global/pg_control", folder.location);
        session.find(Finding::damage("postgres.control", place, "an intact control file", seen));
        return Ok(None);
    }
    let pairs = said.lines().filter_map(|line| line.split_once(':'));
    Ok(Some(pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()))
}

fn tell_state(session: &mut Session<'_>, folder: &Folder, control: &Control) {
    let subject = session.subject;
    let value = |name: &str| control.get(name).map_or("", String::as_str);
    let state = value("Database cluster state");
    let checkpoint = value("Time of latest checkpoint");
    session.examination.notes.push(format!("{}: {state}, last checkpoint {checkpoint}", folder.location));
    if let Some(time) = time(checkpoint)
        && session.examination.recovery_point.is_none()
    {
        session.examination.recovery_point = Some(RecoveryPoint { time, basis: RecoveryBasis::Data });
    }
    let has = |name: &[u8]| {
        let path = join(&folder.path, name);
        subject.manifest.entries().iter().any(|entry| entry.path == path)
    };
    let running = !state.starts_with("shut down") || has(b"postmaster.pid");
    if !running || has(b"backup_label") {
        return;
    }
    // The snapshot is dated when it began: what was written later was written while it was read.
    let below = join(&folder.path, b"");
    let mut files = subject.manifest.files().filter(|e| e.path.starts_with(&below));
    let torn = files.find(|e| e.mtime.is_some_and(|time| time > subject.snapshot.time));
    let seen = match torn {
        Some(entry) => format!("it was running ({state}), and wrote {} while it was copied", entry.display()),
        None => format!("it was running ({state}): only a snapshot of its volume at one moment can be used"),
    };
    session.find(Finding::anomaly(
        "postgres.live_copy",
        &folder.location,
        "a copy of a server that was stopped, or a base backup with its backup_label",
        seen,
    ));
}

/// A time as `%c` has it in the locale C and in UTC.
fn time(text: &str) -> Option<Timestamp> {
    let civil = jiff::fmt::strtime::parse("%a %b %e %H:%M:%S %Y", text).ok()?.to_datetime().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// Recovers the copy, and makes a superuser of ours in it. `false`: it cannot be recovered, which is on record.
fn recover(session: &mut Session<'_>, cell: &dyn Cell, folder: &Folder) -> Result<bool, Error> {
    let mut arguments = vec!["--single".to_owned(), "-D".to_owned(), data()];
    let fixed =
        [("fsync", "off"), ("lc_messages", "C"), ("dynamic_shared_memory_type", "mmap"), ("port", "5432")];
    let fixed = fixed.into_iter().map(|(name, value)| (name, value.to_owned()));
    for (name, value) in fixed.chain(settings()) {
        arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    let mut said = String::new();
    for database in ["postgres", "template1"] {
        let mut arguments = arguments.clone();
        arguments.push(database.to_owned());
        let sql = format!("CREATE ROLE {SUPERUSER} SUPERUSER LOGIN;\n");
        let stdin: Box<dyn std::io::Read + Send> = Box::new(std::io::Cursor::new(sql.into_bytes()));
        let ended = cell.run(&program("postgres", arguments), Pipes { stdin: Some(stdin), stdout: None })?;
        said = ended.stderr.clone();
        if ended.succeeded() {
            let recovery =
                said.lines().find(|line| line.contains("redo done") || line.contains("redo is not required"));
            if let Some(line) = recovery {
                let line = line.split("LOG:").last().unwrap_or(line).trim();
                session.examination.notes.push(format!(
                    "{}: recovered: {}",
                    folder.location,
                    shown(line, 160)
                ));
            }
            return Ok(true);
        }
        if is_ours(&ended) {
            return Err(ended_badly("postgres", &ended));
        }
        if !said.contains("does not exist") {
            break;
        }
    }
    let words = last_words(&said);
    if said.contains("incompatible with server") {
        session.examination.interrupt(format!("{}: cannot be recovered here: {words}", folder.location));
    } else {
        session.find(Finding::damage(
            "postgres.recovery",
            &folder.location,
            "a data folder that recovers as after a power failure",
            words,
        ));
        // It was seen to its end, such as that is.
        session.examination.checked += 1;
    }
    Ok(false)
}

fn checksums(
    session: &mut Session<'_>,
    cell: &dyn Cell,
    folder: &Folder,
    control: &Control,
) -> Result<(), Error> {
    let version = control.get("Data page checksum version").map_or("0", String::as_str);
    if version == "0" {
        let note = format!("{}: bits that flipped in pages: the cluster has no checksums", folder.location);
        session.examination.not_verified.push(note);
        return Ok(());
    }
    let start = Instant::now();
    let ended = cell.run(&program("pg_checksums", ["--check", "-D", &data()]), Pipes::default())?;
    session.spent(Phase::Verify, start.elapsed());
    match Checked::of(&ended) {
        Checked::Fit => {}
        Checked::Broken(said) => session.find(Finding::damage(
            "postgres.checksums",
            &folder.location,
            "pages that fit their checksums",
            said,
        )),
        // Before version 12 it has another name. The server itself compares what it reads.
        Checked::Absent => session.examination.not_verified.push(format!(
            "{}: checksums of pages that nobody reads: there is no pg_checksums",
            folder.location
        )),
        Checked::Unknown(why) => {
            session
                .examination
                .interrupt(format!("{}: cannot compare its checksums: {why}", folder.location));
        }
    }
    Ok(())
}

/// What pg_checksums has to say.
#[derive(Debug, PartialEq, Eq)]
enum Checked {
    Fit,
    Broken(String),
    Absent,
    Unknown(String),
}

impl Checked {
    fn of(ended: &Ended) -> Self {
        // `could not read block 3 in file "base/5/1259": read 100 of 8192`: a file was cut.
        let tells = |line: &&str| {
            line.contains("checksum verification failed")
                || line.contains("could not read block") && line.contains(": read ")
        };
        let said = ended.stderr.lines().find(tells);
        match (ended.succeeded(), said) {
            (true, _) => Self::Fit,
            (false, Some(said)) => Self::Broken(shown(said, 300)),
            (false, None) if matches!(ended.code, Some(126 | 127)) => Self::Absent,
            (false, None) => Self::Unknown(ended.describe()),
        }
    }
}

fn ask_all(
    session: &mut Session<'_>,
    server: &Server<'_>,
    folder: &Folder,
    gathered: &mut Gathered,
) -> Result<(), Failure> {
    let subject = session.subject;
    let start = Instant::now();
    let column = |sql: &'static str| {
        block_on(async {
            let mut client = server.ask("template1", &subject.watch).await?;
            let rows = client.ask(sql).await?.rows;
            Ok::<Vec<String>, Failure>(
                rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect(),
            )
        })
    };
    let databases = column(
        "SELECT datname FROM pg_database WHERE datallowconn AND datname NOT IN ('template0', 'template1') ORDER BY 1",
    )?;
    session.spent(Phase::Answer, start.elapsed());
    gathered.roles.extend(column("SELECT rolname FROM pg_roles WHERE rolname <> 'firedrill_engine'")?);
    let start = Instant::now();
    for database in &databases {
        let location = format!("{}: {}", folder.location, shown(database, 80));
        let asked = Asked { server, database, location: &location, filled: None };
        let meant =
            |expectation: &DatabaseExpectation| is_meant(subject, folder, expectation, database, &databases);
        let counted = ask(session, &asked, &meant, gathered)?;
        compare_recorded(session, &asked, (&folder.path, true), gathered)?;
        amcheck::check_folder(session, &asked);
        let rows = counted.iter().map(|(table, rows)| (table.shown(), *rows)).collect();
        gathered.rows.insert(location, rows);
        session.examination.checked += 1;
    }
    session.spent(Phase::Verify, start.elapsed());
    Ok(())
}

fn is_meant(
    subject: &Subject,
    folder: &Folder,
    expectation: &DatabaseExpectation,
    database: &str,
    all: &[String],
) -> bool {
    let by_file = expectation.file.as_ref().is_none_or(|file| subject.meant_by(file).contains(&folder.path));
    let by_name =
        expectation.database.as_ref().map_or_else(|| is_only(database, all), |name| name == database);
    by_file && by_name
}

/// Whether a database is the only one that is not the server's own.
pub(super) fn is_only<S: AsRef<str>>(database: &str, all: &[S]) -> bool {
    let mut others = all.iter().map(AsRef::as_ref).filter(|name| !matches!(*name, "postgres" | "template1"));
    match (others.next(), others.next()) {
        (None, _) => database == "postgres",
        (Some(only), None) => only == database,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_damaged_only_where_they_were_compared() {
        let ended = |code: Option<i32>, signal: Option<i32>, stderr: &str| {
            Checked::of(&Ended { code, signal, stderr: stderr.to_owned(), ..Ended::default() })
        };
        let failed =
            "pg_checksums: error: checksum verification failed in file \"base/5/1\", block 3: calculated";
        let cut = "pg_checksums: error: could not read block 3 in file \"base/5/1\": read 100 of 8192";
        let disk = "pg_checksums: error: could not read block 3 in file \"base/5/1\": Input/output error";
        assert_eq!(ended(Some(0), None, ""), Checked::Fit);
        assert!(matches!(ended(Some(1), None, failed), Checked::Broken(_)));
        assert!(matches!(ended(Some(1), None, cut), Checked::Broken(_)));
        assert!(matches!(ended(None, Some(9), failed), Checked::Broken(_)), "found before it was killed");
        for code in [126, 127] {
            assert_eq!(ended(Some(code), None, "pg_checksums: not found"), Checked::Absent);
        }
        for (code, signal, stderr) in
            [(Some(1), None, disk), (Some(137), None, ""), (None, Some(9), ""), (None, None, "")]
        {
            assert!(
                matches!(ended(code, signal, stderr), Checked::Unknown(_)),
                "{code:?} {signal:?} {stderr}"
            );
        }
    }
}
