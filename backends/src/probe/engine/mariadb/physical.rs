//! Physical backups: streams and folders, prepared and started.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Instant;

use firedrill_core::cell::{Cell, Ended, Kit, Pipes, Version};
use firedrill_core::event::Phase;
use firedrill_core::finding::{Finding, RecoveryBasis, RecoveryPoint};
use firedrill_core::manifest::display_path;
use firedrill_core::subject::Subject;
use jiff::Timestamp;

use super::facts::{CHECKPOINTS, Facts, INFO, SETTINGS};
use super::server::{DATA, Listening, Server, TEMPORARY, Trouble, furnish, program};
use super::{expect, kit, log, unpack};
use crate::probe::bases::Bases;
use crate::probe::engine::dumps::Dump;
use crate::probe::engine::session::Session;
use crate::probe::restored::Restored;
use crate::probe::structure;

/// What it takes to start a server on files, to prepare them first, and to unpack them before that.
const SERVER: [&str; 2] = ["mariadbd", "mariadb"];
const PREPARING: [&str; 3] = ["mariadbd", "mariadb", "mariadb-backup"];
const UNPACKING: [&str; 4] = ["mariadbd", "mariadb", "mariadb-backup", "mbstream"];
/// What is read of a metadata file.
const META_MAX: usize = 64 << 10;
/// Memory for preparing and for asking.
const MEMORY: &str = "512M";
/// The clock of the backup and that of the file system agree within this, or say different zones.
const CLOCKS_MAX: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

/// Where a physical backup comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A stream.
    Stream(Dump),
    /// A folder: of mariadb-backup, or the data folder of a server.
    Folder(Folder),
}

/// A folder with the files of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) path: Vec<u8>,
    /// Whether mariadb-backup wrote it; otherwise it is a copy of a data folder.
    pub(super) is_backup: bool,
}

impl Source {
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::Stream(dump) => &dump.path,
            Self::Folder(folder) => &folder.path,
        }
    }

    pub(super) fn location(&self) -> String {
        match self {
            Self::Stream(dump) => dump.location.clone(),
            Self::Folder(folder) => display_path(&folder.path),
        }
    }
}

/// Folders with the files of a MariaDB server.
pub(super) fn folders(subject: &Subject) -> Vec<Folder> {
    let mut found = Vec::new();
    let names = |path: &[u8], name: &str| [path, b"/", name.as_bytes()].concat();
    let paths: std::collections::HashSet<&[u8]> =
        subject.manifest.entries().iter().map(|entry| entry.path.as_slice()).collect();
    for path in &paths {
        // An incremental backup has the changes of that file only.
        let delta = path.strip_suffix(b"/ibdata1.delta");
        let Some(folder) = path.strip_suffix(b"/ibdata1").or(delta) else { continue };
        let has = |name: &str| paths.contains(names(folder, name).as_slice());
        // The data folder of a MySQL 8 has its dictionary in this file.
        if has("mysql.ibd") {
            continue;
        }
        let is_backup = has(SETTINGS) && INFO.iter().chain(&CHECKPOINTS).any(|name| has(name));
        if is_backup || (has("ib_logfile0") && has("mysql") && has("aria_log_control")) {
            found.push(Folder { path: folder.to_vec(), is_backup });
        }
    }
    let bases = Bases::of(&subject.manifest, &subject.snapshot.paths);
    found.retain(|folder| !bases.name(&[folder.path.as_slice(), b"/ibdata1"].concat()).is_programs(&[]));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The software that a backup seems to need, as far as that shows without reading all of it.
pub(super) fn probable_software(subject: &Subject, source: &Source) -> Kit {
    let version = match source {
        Source::Stream(dump) => stream_version(subject, dump),
        Source::Folder(folder) => {
            return read_folder(subject, folder).map_or_else(|_| kit(None, None, &SERVER), |k| k.software);
        }
    };
    kit(version, version, &UNPACKING)
}

/// The information is the last file in a stream.
fn stream_version(subject: &Subject, dump: &Dump) -> Option<Version> {
    if !dump.layers.is_empty() {
        return None;
    }
    let mut file = dump.file(subject).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(META_MAX as u64))).ok()?;
    let mut end = Vec::new();
    file.take(META_MAX as u64).read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let (_, after) = text.rsplit_once("\nserver_version = ")?;
    after.lines().next().filter(|version| version.contains("MariaDB"))?.parse().ok()
}

/// What is known of a physical backup before anything is started.
pub(super) struct Known {
    pub(super) facts: Facts,
    /// Whether it is a copy of a data folder.
    pub(super) raw: bool,
    /// Whether it is a stream of which all pieces can be put in their places without the tool.
    pub(super) plain: bool,
    pub(super) software: Kit,
}

/// Reads what a backup says about itself. `None`: it cannot be started, which is on record.
pub(super) fn look(session: &mut Session<'_>, source: &Source) -> Option<Known> {
    let at = source.location();
    let known = match source {
        Source::Stream(dump) => stream_facts(session, dump)?,
        Source::Folder(folder) => folder_facts(session, folder)?,
    };
    let refuse = |session: &mut Session<'_>, why: String| {
        session.examination.interrupt(format!("{at}: {why}"));
        None
    };
    let facts = &known.facts;
    if facts.is_foreign() {
        return refuse(session, format!("a backup of MySQL {}, which MariaDB cannot read", facts.server()));
    }
    if facts.is_partial() {
        let why = "a partial backup: its tables have to be imported into a server one by one, which this version \
                   cannot do";
        return refuse(session, why.to_owned());
    }
    if facts.is_compressed() {
        return refuse(
            session,
            "its files are compressed one by one, which this version cannot undo".to_owned(),
        );
    }
    Some(known)
}

fn stream_facts(session: &mut Session<'_>, dump: &Dump) -> Option<Known> {
    let at = &dump.location;
    let reader = match dump.read(session.subject) {
        Ok(reader) => reader,
        Err(error) => {
            session.examination.interrupt(format!("failed to read {at}: {error}"));
            return None;
        }
    };
    let (looked, metadata) = structure::read_stream(session.subject, at, reader);
    let damage = looked.findings.iter().find(|f| f.class == firedrill_core::finding::Class::Damage);
    let why = looked.interrupted.or_else(|| damage.map(|f| format!("{}: {}", f.code, f.seen)));
    let metadata = match (why, metadata) {
        (None, Some(metadata)) if metadata.climbs => {
            session.examination.interrupt(format!("{at}: not unpacked: paths in it lead elsewhere"));
            return None;
        }
        (None, Some(metadata)) => metadata,
        // The structure probe files it; a stream that is not whole is not worth a server.
        (why, _) => {
            let why = why.unwrap_or_else(|| "it cannot be followed".to_owned());
            session.examination.interrupt(format!("{at}: not started: {why}"));
            return None;
        }
    };
    let facts = Facts::of(&metadata.information, &metadata.checkpoints, &metadata.settings);
    if metadata.compressed && !facts.is_compressed() {
        session.examination.interrupt(format!("{at}: its files are compressed one by one"));
        return None;
    }
    let Some(version) = facts.version() else {
        if facts.is_foreign() {
            return Some(Known { facts, raw: false, plain: false, software: kit(None, None, &[]) });
        }
        session.examination.interrupt(format!("{at}: it does not say which server it comes from"));
        return None;
    };
    Some(Known {
        facts,
        raw: false,
        plain: metadata.plain,
        software: kit(Some(version), Some(version), &UNPACKING),
    })
}

fn folder_facts(session: &mut Session<'_>, folder: &Folder) -> Option<Known> {
    match read_folder(session.subject, folder) {
        Ok(known) => Some(known),
        Err(error) => {
            let at = display_path(&folder.path);
            session.examination.interrupt(format!("failed to read {at}: {error}"));
            None
        }
    }
}

fn read_folder(subject: &Subject, folder: &Folder) -> io::Result<Known> {
    let restored = Restored::open(&subject.root)?;
    let read = |names: &[&str]| -> io::Result<Vec<u8>> {
        for name in names {
            let path = [folder.path.as_slice(), b"/", name.as_bytes()].concat();
            if let Some(content) = restored.head(&path, META_MAX)? {
                return Ok(content);
            }
        }
        Ok(Vec::new())
    };
    let facts = Facts::of(&read(&INFO)?, &read(&CHECKPOINTS)?, &read(&[SETTINGS])?);
    let upgrade = read(&["mariadb_upgrade_info", "mysql_upgrade_info"])?;
    let version = facts.version().or_else(|| String::from_utf8_lossy(&upgrade).parse().ok());
    let unprepared = folder.is_backup && !facts.is_prepared();
    let programs = if unprepared { &PREPARING[..] } else { &SERVER[..] };
    Ok(Known { facts, raw: !folder.is_backup, plain: false, software: kit(version, version, programs) })
}

/// A full backup, and the incremental ones that build on it, in order.
pub(super) struct Chain {
    pub(super) base: (Source, Known),
    pub(super) increments: Vec<(Source, Known)>,
}

impl Chain {
    /// What is known of the state that all of them together lead to.
    pub(super) fn last(&self) -> &(Source, Known) {
        self.increments.last().unwrap_or(&self.base)
    }
}

/// Finds for each full backup the incremental ones that build on it. Those that build on nothing here are filed.
pub(super) fn chains(session: &mut Session<'_>, all: Vec<(Source, Known)>) -> Vec<Chain> {
    let (mut increments, full): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, known)| known.facts.is_incremental());
    let mut chains: Vec<Chain> =
        full.into_iter().map(|base| Chain { base, increments: Vec::new() }).collect();
    for chain in &mut chains {
        // The folder of a server that ran on has left its backup's state behind.
        while let Some((_, end)) = chain.last().1.facts.lsns().filter(|_| !chain.base.1.raw)
            && let Some(next) =
                increments.iter().position(|(_, k)| k.facts.lsns().is_some_and(|l| l.0 == end && l.1 >= end))
        {
            chain.increments.push(increments.remove(next));
        }
    }
    for (source, _) in increments {
        session.find(Finding::damage(
            "mariadb.incremental",
            source.location(),
            "a full backup, or one that this one builds on",
            "an incremental backup, and nothing that it builds on",
        ));
    }
    chains
}

/// Brings a backup in, prepares it and starts a server on it. `None`: that failed, which is on record.
pub(super) fn start<'c>(
    session: &mut Session<'_>,
    cell: &'c dyn Cell,
    chain: &Chain,
    listening: &Listening,
) -> Option<Server<'c>> {
    let (source, known) = &chain.base;
    let at = source.location();
    let begin = Instant::now();
    let prepared = ready(session, cell, chain);
    session.spent(Phase::Load, begin.elapsed());
    if let Err(failure) = prepared {
        failure.file(session, &at, known);
        return None;
    }
    let begin = Instant::now();
    let server = boot(session, cell, known, listening);
    session.spent(Phase::Start, begin.elapsed());
    match server {
        Ok(server) => {
            note_start(session, &at, known, &server.log());
            if let Some(position) = chain.last().1.facts.position() {
                session.examination.notes.push(format!("{at}: it stands in the binary log at {position}"));
            }
            if !chain.increments.is_empty() {
                let count = chain.increments.len();
                session.examination.notes.push(format!("{at}: {count} incremental backups were applied"));
            }
            Some(server)
        }
        Err(failure) => {
            failure.file(session, &at, known);
            None
        }
    }
}

/// Why there is no server.
enum Failure {
    Ours(String),
    /// What the tool or server said, and what was expected of it.
    Backup {
        code: &'static str,
        expected: &'static str,
        said: String,
        words: String,
    },
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Ours(trouble.describe())
    }
}

impl From<firedrill_core::error::Error> for Failure {
    fn from(error: firedrill_core::error::Error) -> Self {
        Self::Ours(error.chain())
    }
}

impl Failure {
    fn file(self, session: &mut Session<'_>, at: &str, known: &Known) {
        match self {
            Self::Ours(why) => session.examination.interrupt(format!("{at}: {why}")),
            Self::Backup { said, .. } if log::lacks_key(&said) || known.facts.names_keys() => {
                session.examination.interrupt(format!(
                    "{at}: its tables are encrypted, and the key is not part of the backup: firedrill cannot start it \
                     (keep the key file where a recovery finds it, and restore one by hand)"
                ));
            }
            Self::Backup { code, expected, words, .. } => {
                session.find(Finding::damage(code, at, expected, words));
            }
        }
    }
}

/// Brings everything in, and makes a data folder of it.
fn ready(session: &Session<'_>, cell: &dyn Cell, chain: &Chain) -> Result<(), Failure> {
    let (source, known) = &chain.base;
    bring(session, cell, source, known, DATA)?;
    furnish(cell)?;
    if !known.raw && !known.facts.is_prepared() {
        prepare(cell, None)?;
    }
    for (number, (source, known)) in chain.increments.iter().enumerate() {
        let folder = format!("/cell/.firedrill/increment-{number}");
        bring(session, cell, source, known, &folder)?;
        prepare(cell, Some(&folder))?;
    }
    Ok(())
}

fn bring(
    session: &Session<'_>,
    cell: &dyn Cell,
    source: &Source,
    known: &Known,
    to: &str,
) -> Result<(), Failure> {
    match source {
        Source::Stream(dump) if known.plain => {
            let reader = dump.read(session.subject).map_err(|e| Failure::Ours(e.to_string()))?;
            // Our own reader found the stream whole: what fails now is the disk.
            unpack::unpack(cell, reader, to).map_err(|why| Failure::Ours(format!("unpack it: {why}")))
        }
        // A stream that moves or removes files, or goes back in one, takes the tool that knows all of that.
        Source::Stream(dump) => {
            // The file is there for its folder.
            cell.bring(&mut io::empty(), &format!("{to}/.keep"))?;
            let reader = dump.read(session.subject).map_err(|e| Failure::Ours(e.to_string()))?;
            let unpack = program("mbstream", ["-x", "-C", to]);
            let ended = cell.run(&unpack, Pipes { stdin: Some(reader), stdout: None })?;
            // Our own reader found the stream whole: what fails now is the disk, or the tool.
            match ended.succeeded() {
                true => Ok(()),
                false => Err(Failure::Ours(format!("mbstream ended with {}", ended.describe()))),
            }
        }
        Source::Folder(folder) => {
            use std::os::unix::ffi::OsStrExt as _;
            let path: PathBuf = session.subject.root.join(std::ffi::OsStr::from_bytes(&folder.path));
            Ok(cell.bring_tree(&path, to)?)
        }
    }
}

/// Prepares the data folder, with the changes in `increment`.
fn prepare(cell: &dyn Cell, increment: Option<&str>) -> Result<(), Failure> {
    let target = format!("--target-dir={DATA}");
    let memory = format!("--use-memory={MEMORY}");
    let temporary = format!("--tmpdir={TEMPORARY}");
    let mut arguments = vec!["--no-defaults", "--prepare", &target, &memory, &temporary];
    // Nothing has to survive this machine's end.
    arguments.push("--loose-innodb-flush-method=nosync");
    let folder = increment.map(|folder| format!("--incremental-dir={folder}"));
    arguments.extend(folder.as_deref());
    let ended = cell.run(&program("mariadb-backup", arguments), Pipes::default())?;
    // It has been seen to end with 0 without being done.
    if ended.succeeded() && ended.stderr.lines().any(|line| line.ends_with("completed OK!")) {
        return Ok(());
    }
    let words = log::telling(&ended.stderr).unwrap_or_else(|| ended.describe());
    if was_killed(&ended) || log::is_ours(&ended.stderr) {
        return Err(Failure::Ours(format!("mariadb-backup --prepare: {words}")));
    }
    let expected = "a backup that can be prepared";
    Err(Failure::Backup { code: "mariadb.prepare", expected, said: ended.stderr, words })
}

fn was_killed(ended: &Ended) -> bool {
    ended.signal == Some(9) || ended.code == Some(137)
}

fn boot<'c>(
    session: &Session<'_>,
    cell: &'c dyn Cell,
    known: &Known,
    listening: &Listening,
) -> Result<Server<'c>, Failure> {
    let mut arguments = known.facts.arguments();
    arguments.push("--skip-grant-tables".to_owned());
    arguments.push(format!("--innodb-buffer-pool-size={MEMORY}"));
    let mut started = Server::start(cell, &arguments, "root", listening, &session.subject.watch);
    // A data folder does not tell the size of its pages to anybody but the server.
    if let Err(Trouble::Dead(words)) = &started
        && let Some(size) = words.split_once(log::PAGE_SIZE).and_then(|(_, size)| size.split(',').next())
        && let Ok(size) = size.trim().parse::<u32>()
    {
        arguments.push(format!("--innodb-page-size={size}"));
        started = Server::start(cell, &arguments, "root", listening, &session.subject.watch);
    }
    match started {
        Ok(server) => Ok(server),
        Err(Trouble::Dead(words)) => {
            let expected = "a server that starts on the data";
            Err(Failure::Backup { code: "mariadb.start", expected, said: format!("[ERROR] {words}"), words })
        }
        Err(trouble) => Err(trouble.into()),
    }
}

/// What the start itself tells.
fn note_start(session: &mut Session<'_>, at: &str, known: &Known, said: &str) {
    if known.raw && said.contains("Starting crash recovery") {
        session.find(Finding::anomaly(
            "mariadb.live_copy",
            at,
            "the data folder of a server that was shut down, or a backup by mariadb-backup",
            "the files of a running server: they are sound only if all of them were copied at one instant",
        ));
    }
}

/// The end of the backup as its recovery point, when the time of the file shows that it was noted in UTC.
pub(super) fn recovery_point(session: &mut Session<'_>, (source, known): &(Source, Known)) {
    let Some(end) = known.facts.end() else { return };
    let Ok(end) = end.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp()) else { return };
    let written: Option<Timestamp> = match source {
        Source::Stream(dump) => dump.mtime,
        Source::Folder(folder) => {
            let info = |name: &&str| [folder.path.as_slice(), b"/", name.as_bytes()].concat();
            let paths: Vec<_> = INFO.iter().map(info).collect();
            session.subject.manifest.files().find(|e| paths.contains(&e.path)).and_then(|e| e.mtime)
        }
    };
    let agrees = written.is_some_and(|written| written.duration_since(end).abs() <= CLOCKS_MAX);
    let at = source.location();
    if agrees {
        expect::point(session, RecoveryPoint { time: end, basis: RecoveryBasis::Data });
    } else {
        let note = format!("{at}: it ended at {end}, if its server speaks UTC, which nothing confirms");
        session.examination.notes.push(note);
    }
}
