//! A PostgreSQL in a cell: made, started, asked.

use std::time::Duration;

use firedrill_core::cell::{Address, Cell, Ended, Kit, Pipes, Program, Service, Version, Wire, inside};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;

use super::questions::Questions;
use super::wire::{Client, Failure};

/// The superuser of our servers. No dump brings a role of this name along, so that `CREATE ROLE postgres` works.
pub(super) const SUPERUSER: &str = "firedrill_engine";
/// The name of the software in the config.
pub(super) const KIT: &str = "postgres";
/// A server that does not answer within this time does not start.
const START_MAX: Duration = Duration::from_secs(600);
/// How often a server that starts is asked.
const START_TICK: Duration = Duration::from_millis(20);
/// How long a server may take to shut down.
const STOP_MAX: Duration = Duration::from_secs(120);

/// Settings of all our servers: nothing of theirs has to last, and nobody but us talks to them.
const SETTINGS: [(&str, &str); 24] = [
    ("max_connections", "30"),
    ("superuser_reserved_connections", "3"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("autovacuum", "off"),
    ("archive_mode", "off"),
    ("ssl", "off"),
    ("jit", "off"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_min_messages", "warning"),
    ("lc_messages", "C"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "1h"),
    ("shared_buffers", "256MB"),
    ("maintenance_work_mem", "256MB"),
    ("work_mem", "32MB"),
    ("max_parallel_maintenance_workers", "2"),
    ("max_logical_replication_workers", "0"),
    ("max_locks_per_transaction", "1024"),
    ("dynamic_shared_memory_type", "mmap"),
    ("huge_pages", "off"),
    ("timezone", "UTC"),
];

/// The software that a dump of this major version, or an unknown one, needs.
pub(super) fn kit(major: Option<u32>, exactly: bool) -> Kit {
    let version = major.map(|major| Version::new(major, 0));
    Kit {
        name: KIT.to_owned(),
        at_least: version,
        // The second number is the patch level, and each reads the data of every other.
        at_most: version.filter(|_| exactly).map(|version| Version::new(version.major, u32::MAX)),
        programs: ["postgres", "initdb", "pg_restore", "pg_controldata"].map(str::to_owned).to_vec(),
    }
}

/// Where a server listens, besides a socket for ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) port: u16,
    /// Whether on the loopback address, too.
    pub(super) tcp: bool,
    /// The folder of another socket.
    pub(super) folder: Option<String>,
}

impl Default for Listening {
    fn default() -> Self {
        Self { port: 5432, tcp: false, folder: None }
    }
}

impl Listening {
    fn settings(&self) -> [(&'static str, String); 3] {
        let own = inside("");
        let own = own.trim_end_matches('/');
        let folders = match &self.folder {
            Some(folder) if folder != own => format!("{own},{folder}"),
            _ => own.to_owned(),
        };
        let addresses = if self.tcp { "127.0.0.1" } else { "" };
        [
            ("port", self.port.to_string()),
            ("listen_addresses", addresses.to_owned()),
            ("unix_socket_directories", folders),
        ]
    }
}

/// A server in a cell.
pub(super) struct Server<'c> {
    cell: &'c dyn Cell,
    service: Box<dyn Service>,
    major: u32,
    port: u16,
}

/// A program of PostgreSQL. In a cell with an application it is not the first kit that has it.
pub(super) fn program<S: Into<String>>(name: &str, arguments: impl IntoIterator<Item = S>) -> Program {
    Program { kit: KIT.to_owned(), ..Program::new(name, arguments) }
}

/// The major version of the software in a cell.
pub(super) fn major(cell: &dyn Cell) -> u32 {
    cell.facts().of(KIT).and_then(|software| software.version).map_or(0, |version| version.major)
}

/// Runs a program to its end; `Err` also when it did not succeed.
pub(super) fn run(cell: &dyn Cell, program: &Program) -> Result<Ended> {
    let ended = cell.run(program, Pipes::default())?;
    if ended.succeeded() {
        return Ok(ended);
    }
    let what = format!("run {} in the cell", program.shown());
    Err(Error::new(ErrorKind::Unavailable, what).because(ended.describe()))
}

/// Whether a program ended for a reason of this machine, and says nothing about the backup: it was killed, it is not
/// there, or there was no room for it.
pub(super) fn is_ours(ended: &Ended) -> bool {
    // What a shell and a container make of SIGKILL and SIGTERM, and of a program that cannot be started.
    const CODES: [i32; 5] = [125, 126, 127, 137, 143];
    // SIGKILL, SIGTERM, SIGXCPU, SIGXFSZ.
    const SIGNALS: [i32; 4] = [9, 15, 24, 25];
    const WORDS: [&str; 10] = [
        "No space left on device",
        "Disk quota exceeded",
        "File too large",
        "out of memory",
        "annot allocate memory",
        "Input/output error",
        "Read-only file system",
        "Too many open files",
        "could not fork",
        "Resource temporarily unavailable",
    ];
    match (ended.code, ended.signal) {
        (None, None) => true,
        (Some(code), _) if CODES.contains(&code) => true,
        (None, Some(signal)) if SIGNALS.contains(&signal) => true,
        _ => !ended.succeeded() && WORDS.iter().any(|words| ended.stderr.contains(words)),
    }
}

/// The error of a program that [`is_ours`].
pub(super) fn ended_badly(program: &str, ended: &Ended) -> Error {
    Error::new(ErrorKind::Unavailable, format!("run {program} in the cell")).because(ended.describe())
}

/// Makes an empty cluster, and says where.
pub(super) fn initialise(cell: &dyn Cell) -> Result<String> {
    let with_locale = |data: &str, locale: &str| {
        let data = inside(data);
        let locale = format!("--locale={locale}");
        let fixed =
            ["-E", "UTF8", "--auth=trust", "--no-sync", "--no-instructions", "-U", SUPERUSER, "-D", &data];
        let program = program("initdb", fixed.into_iter().chain([locale.as_str()]));
        run(cell, &program).map(|_| data)
    };
    // The ctype of C knows no letters beyond ASCII, so it is the second choice.
    with_locale(".firedrill/postgres", "C.UTF-8").or_else(|_| with_locale(".firedrill/postgres-c", "C"))
}

impl<'c> Server<'c> {
    /// Starts a server on `data` with settings beyond those of all.
    pub(super) fn start(
        cell: &'c dyn Cell,
        data: &str,
        settings: &[(&str, &str)],
        listening: &Listening,
        watch: &Watch,
    ) -> Result<Self> {
        if let Some(folder) = &listening.folder {
            // The file is there for its folder.
            cell.bring(&mut std::io::empty(), &format!("{folder}/.firedrill-keep"))?;
        }
        let mut arguments = vec!["-D".to_owned(), data.to_owned()];
        let places = listening.settings();
        let places = places.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in SETTINGS.iter().copied().chain(places).chain(settings.iter().copied()) {
            arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let service = cell.start(&program("postgres", arguments))?;
        let server = Self { cell, service, major: major(cell), port: listening.port };
        server.wait(&watch.within(Some(START_MAX)))?;
        Ok(server)
    }

    fn wait(&self, watch: &Watch) -> Result<()> {
        let failed =
            |why: String| Error::new(ErrorKind::Unavailable, "start PostgreSQL in the cell").because(why);
        loop {
            watch.check()?;
            if let Some(ended) = self.service.ended() {
                return Err(failed(ended.describe()).because(last_words(&self.service.log())));
            }
            match block_on(self.connect("postgres", watch, &[])) {
                Ok(_) => return Ok(()),
                // 57P03: it is starting up, or recovering.
                Err(Failure::Refused(error)) if error.code != "57P03" => {
                    return Err(failed(error.to_string()));
                }
                Err(Failure::Stopped(error)) => return Err(error),
                Err(_) => std::thread::sleep(START_TICK),
            }
        }
    }

    /// The major version.
    pub(super) fn major(&self) -> u32 {
        self.major
    }

    /// The cell.
    pub(super) fn cell(&self) -> &'c dyn Cell {
        self.cell
    }

    /// Connects to a database with these settings of the session.
    pub(super) async fn connect(
        &self,
        database: &str,
        watch: &Watch,
        settings: &[(&str, &str)],
    ) -> Result<Client, Failure> {
        Client::connect(self.dial()?, watch, SUPERUSER, database, settings).await
    }

    fn dial(&self) -> Result<Box<dyn Wire>, Failure> {
        let address = Address::Unix(inside(&format!(".s.PGSQL.{}", self.port)));
        self.cell.dial(&address).map_err(|error| Failure::Lost(error.chain()))
    }

    /// Connects for questions: nothing can be changed, and what the database would do by itself is kept from it
    /// as far as this version knows how.
    pub(super) async fn ask(&self, database: &str, watch: &Watch) -> Result<Questions, Failure> {
        let mut settings = vec![
            ("default_transaction_read_only", "on"),
            ("session_replication_role", "replica"),
            ("client_min_messages", "error"),
            ("row_security", "off"),
            ("statement_timeout", "0"),
            ("lock_timeout", "60000"),
            ("datestyle", "ISO, YMD"),
            ("timezone", "UTC"),
        ];
        if self.major >= 17 {
            settings.push(("event_triggers", "off"));
        }
        Questions::connect(self.dial()?, watch, SUPERUSER, database, &settings).await
    }

    /// What it said last.
    pub(super) fn log(&self) -> String {
        self.service.log()
    }

    /// The program itself, for whoever lets it run.
    pub(super) fn into_service(self) -> Box<dyn Service> {
        self.service
    }

    /// Shuts it down, so that its files are whole.
    pub(super) fn stop(self) -> Result<Ended> {
        self.service.stop(true, STOP_MAX)
    }
}

/// The last lines of a log that tell of trouble, else the last line.
pub(super) fn last_words(log: &str) -> String {
    let grave = |line: &&str| ["PANIC:", "FATAL:", "ERROR:"].iter().any(|word| line.contains(word));
    let line = log.lines().rev().find(grave).or_else(|| log.lines().last()).unwrap_or("it said nothing");
    super::wire::shown(line, 300)
}

/// Waits for something asynchronous, on a thread where one may.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Handle::current().block_on(future)
}
