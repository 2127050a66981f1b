//! A PostgreSQL to make backups of: in a cell, too, so that it dies with the test.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use firedrill_core::cell::{Cell, CellRequest, Kit, Pipes, Program};
use firedrill_core::config::runtime::RuntimeConfig;
use firedrill_core::watch::Watch;

use crate::probe::engine::postgres::server::{Listening, Server, block_on, initialise};
use crate::probe::engine::postgres::wire::Client;

/// Everything asynchronous runs here.
pub(super) static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());

/// Whether PostgreSQL is there; says so loudly when it is not.
pub(super) fn present() -> bool {
    let config = RuntimeConfig::default();
    let there = crate::runtime::from_config(&config).unwrap().offers(&kit());
    if let Err(error) = &there {
        firedrill_testing::skip(&error.chain());
    }
    there.is_ok()
}

fn kit() -> Kit {
    let programs =
        ["postgres", "initdb", "pg_dump", "pg_dumpall", "pg_restore", "pg_amcheck", "pg_checksums"];
    Kit {
        name: "postgres".to_owned(),
        at_least: None,
        at_most: None,
        programs: programs.map(str::to_owned).to_vec(),
    }
}

/// A server with databases.
pub(super) struct Source {
    server: Server<'static>,
    pub(super) cell: &'static dyn Cell,
    pub(super) folder: std::path::PathBuf,
}

impl Source {
    /// Starts one. It lives as long as the test.
    pub(super) fn new(settings: &[(&str, &str)]) -> Self {
        let _entered = RUNTIME.enter();
        let folder = tempfile::tempdir().unwrap().keep();
        let runtime = crate::runtime::from_config(&RuntimeConfig::default()).unwrap();
        let request = CellRequest {
            lease: "source",
            work: &folder.join("cell"),
            kits: &[kit()],
            aliases: &[],
            // As long as the tests of a loaded machine may take.
            lifetime: Duration::from_secs(6 * 3600),
            watch: Watch::unlimited(),
        };
        let cell: &'static dyn Cell = Box::leak(runtime.open(&request).unwrap());
        let data = initialise(cell).unwrap();
        let server =
            Server::start(cell, &data, settings, &Listening::default(), &Watch::unlimited()).unwrap();
        Self { server, cell, folder }
    }

    /// A connection to a database.
    pub(super) async fn connect(&self, database: &str) -> Client {
        self.server.connect(database, &Watch::unlimited(), &[("client_encoding", "UTF8")]).await.unwrap()
    }

    /// Runs statements in a database.
    #[track_caller]
    pub(super) fn sql(&self, database: &str, sql: &str) {
        let _entered = RUNTIME.enter();
        block_on(async {
            let mut client = self.connect(database).await;
            client.ask(sql).await.unwrap_or_else(|failure| panic!("{failure}\n{sql}"));
        });
    }

    /// What `firedrill digest` would record of a database.
    #[track_caller]
    pub(super) fn recorded(&self, database: &str) -> firedrill_core::digests::Digests {
        use crate::digests::postgres::{begin, list, measure};
        let _entered = RUNTIME.enter();
        let settings = [("client_encoding", "UTF8")];
        let mut client = block_on(self.server.connect(database, &Watch::unlimited(), &settings)).unwrap();
        let mut ask = |sql: &str| {
            let answer = block_on(client.ask(sql)).map_err(|failure| failure.to_string())?;
            Ok(answer.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
        };
        begin(&mut ask).unwrap();
        let listing = list(&mut ask, &|_| false).unwrap();
        let measured = measure(&mut ask, &listing, &mut || Ok(())).unwrap();
        let mut digests = firedrill_core::digests::Digests::new(jiff::Timestamp::UNIX_EPOCH);
        digests.postgres.insert(database.to_owned(), measured);
        digests
    }

    /// Makes a database with something in it, and returns its name.
    #[track_caller]
    pub(super) fn database(&self, sql: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("shop{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
        self.sql(&name, sql);
        name
    }

    /// The output of a program that talks to the server.
    #[track_caller]
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let mut output = Vec::new();
        let fixed = ["-h", "/cell", "-p", "5432", "-U", super::super::server::SUPERUSER];
        let program = Program::new(program, fixed.iter().chain(arguments).copied());
        let ended =
            self.cell.run(&program, Pipes { stdin: None, stdout: Some(Box::new(&mut output)) }).unwrap();
        assert!(ended.succeeded(), "{}: {}", ended.describe(), ended.stderr);
        output
    }

    /// `pg_dump` of a database.
    #[track_caller]
    pub(super) fn dump(&self, database: &str, arguments: &[&str]) -> Vec<u8> {
        self.run("pg_dump", &[arguments, &[database]].concat())
    }

    /// The place of an inside path on this machine.
    pub(super) fn outside(&self, path: &str) -> std::path::PathBuf {
        let found = walk(&self.folder, path, 4);
        found.unwrap_or_else(|| panic!("no {path} in {}", self.folder.display()))
    }

    /// The server itself.
    pub(super) fn server(&self) -> &Server<'static> {
        &self.server
    }

    /// The server itself, to be stopped.
    pub(super) fn into_server(self) -> Server<'static> {
        self.server
    }
}

fn walk(folder: &std::path::Path, path: &str, depth: u32) -> Option<std::path::PathBuf> {
    if folder.join(path).exists() {
        return Some(folder.join(path));
    }
    let inner = std::fs::read_dir(folder).ok()?.flatten().filter(|e| e.path().is_dir() && depth > 0);
    inner.map(|e| e.path()).find_map(|inner| walk(&inner, path, depth - 1))
}

/// The one that tests share, each with a database of its own.
pub(super) static SHARED: LazyLock<Source> = LazyLock::new(|| Source::new(&[]));
