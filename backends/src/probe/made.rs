//! Runtimes for tests that try an application, a check or a group in each of them, and dumps that real tools made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firedrill_core::cell::{CellRequest, Kit, Pipes, Program, Runtime};
use firedrill_core::config::runtime::{ContainerRuntimeConfig, Pull, RuntimeConfig};
use firedrill_core::finding::{Class, Examination};
use firedrill_core::watch::Watch;
use firedrill_testing::skip;

use crate::runtime::container::ContainerRuntime;
use crate::runtime::process::ProcessRuntime;

/// Images by `ci/images/build`, by the kit that tests know them as.
const IMAGES: [(&str, &str); 8] = [
    ("postgres", "firedrill-test/postgres:15"),
    ("mariadb", "firedrill-test/mariadb:10.11"),
    ("miniflux", "firedrill-test/miniflux:2.2"),
    ("powerdns", "firedrill-test/powerdns:4.7"),
    ("bash", "firedrill-test/base:12"),
    // Small applications of tests that need a client beside an interpreter.
    ("reader", "firedrill-test/postgres:15"),
    ("shop", "firedrill-test/mariadb:10.11"),
    ("perl", "firedrill-test/base:12"),
];

fn kit(name: &str, programs: &[&str]) -> Kit {
    let programs = programs.iter().map(|program| (*program).to_owned()).collect();
    Kit { name: name.to_owned(), at_least: None, at_most: None, programs }
}

/// The process runtime, if this machine has these programs.
pub(crate) fn processes(name: &str, programs: &[&str]) -> Option<Arc<dyn Runtime>> {
    offering(Arc::new(ProcessRuntime::new(&RuntimeConfig::default())), name, programs)
}

/// The container runtime, if this machine has one with the image of this kit.
pub(crate) fn containers(name: &str, programs: &[&str]) -> Option<Arc<dyn Runtime>> {
    let images: BTreeMap<_, _> = IMAGES.map(|(kit, image)| (kit.to_owned(), image.to_owned())).into();
    let container = ContainerRuntimeConfig { pull: Pull::Never, images };
    let config = RuntimeConfig { container, ..RuntimeConfig::default() };
    offering(Arc::new(ContainerRuntime::new(&config)), name, programs)
}

/// Both, as far as they are there.
pub(crate) fn runtimes(name: &str, programs: &[&str]) -> Vec<Arc<dyn Runtime>> {
    processes(name, programs).into_iter().chain(containers(name, programs)).collect()
}

fn offering(runtime: Arc<dyn Runtime>, name: &str, programs: &[&str]) -> Option<Arc<dyn Runtime>> {
    match runtime.offers(&kit(name, programs)) {
        Ok(_) => Some(runtime),
        Err(error) => {
            skip(&format!("the {} runtime has no {name}: {}", runtime.name(), error.chain()));
            None
        }
    }
}

/// Programs that a source of dumps needs.
pub(crate) const POSTGRES: [&str; 6] = ["postgres", "initdb", "pg_ctl", "psql", "createdb", "pg_dump"];
pub(crate) const MARIADB: [&str; 4] = ["mariadbd", "mariadb", "mariadb-install-db", "mariadb-dump"];

/// What a script says that runs in a cell of its own.
#[track_caller]
pub(crate) fn say(runtime: &dyn Runtime, name: &str, programs: &[&str], script: &str) -> Vec<u8> {
    let tokio = tokio::runtime::Runtime::new().unwrap();
    let _inside = tokio.enter();
    let folder = tempfile::tempdir().unwrap();
    let cell = runtime
        .open(&CellRequest {
            lease: "source",
            work: &folder.path().join("cell"),
            kits: &[kit(name, programs)],
            aliases: &[],
            lifetime: Duration::from_secs(600),
            watch: Watch::unlimited(),
        })
        .unwrap();
    let mut said = Vec::new();
    let program = Program::new("/bin/bash", ["-euc", script]);
    let ended = cell.run(&program, Pipes { stdin: None, stdout: Some(Box::new(&mut said)) }).unwrap();
    assert!(ended.succeeded(), "{}\n{}", ended.describe(), ended.stderr);
    cell.close().unwrap();
    said
}

/// Starts a PostgreSQL in a script, with a role and a database of one name.
pub(crate) fn start_postgres(name: &str) -> String {
    format!(
        "exec 3>&1 >&2\n\
         initdb -D /cell/source -U postgres --auth=trust --no-sync -E UTF8 --locale=C.UTF-8\n\
         pg_ctl -D /cell/source -w -l /cell/source.log -o \"-F -k /cell -c listen_addresses=''\" start\n\
         export PGHOST=/cell\n\
         psql -q -U postgres -c 'CREATE ROLE {name} LOGIN' postgres\n\
         createdb -U postgres -O {name} {name}\n"
    )
}

/// `pg_dump` of a database with this in it, which belongs to a role of its own name.
#[track_caller]
pub(crate) fn pg_dump(runtime: &dyn Runtime, name: &str, sql: &str, arguments: &str) -> Vec<u8> {
    let script = format!(
        "{}psql -q -v ON_ERROR_STOP=1 -U {name} {name} <<'EOF'\n{sql}\nEOF\npg_dump -U postgres {arguments} {name} >&3\n",
        start_postgres(name)
    );
    say(runtime, "postgres", &POSTGRES, &script)
}

/// `mariadb-dump` of a database with this in it.
#[track_caller]
pub(crate) fn mariadb_dump(runtime: &dyn Runtime, name: &str, sql: &str, arguments: &str) -> Vec<u8> {
    let script = format!(
        "exec 3>&1 >&2\n\
         mkdir /cell/source /cell/temporary; export TMPDIR=/cell/temporary\n\
         mariadb-install-db --no-defaults --auth-root-authentication-method=normal --skip-test-db \
           --skip-name-resolve --datadir=/cell/source\n\
         mariadbd --no-defaults --skip-networking --datadir=/cell/source --socket=/cell/s --pid-file=/cell/p \
           --innodb-log-file-size=4M --performance-schema=OFF &\n\
         mine() {{ program=$1; shift; \"$program\" --no-defaults --socket=/cell/s --user=root \"$@\"; }}\n\
         for n in {{1..300}}; do if mine mariadb -e 'select 1'; then break; fi; sleep 0.1; done\n\
         mine mariadb <<'EOF'\ncreate database {name}; use {name};\n{sql}\nEOF\n\
         mine mariadb-dump {arguments} {name} >&3\n"
    );
    say(runtime, "mariadb", &MARIADB, &script)
}

/// Green, but for what a recovery needs besides.
#[track_caller]
pub(crate) fn assert_good(examination: &Examination) {
    let wrong: Vec<_> = examination.findings.iter().filter(|f| f.class != Class::Gap).collect();
    assert!(wrong.is_empty(), "false alarm: {wrong:#?}\n{:#?}", examination.notes);
    assert_eq!(examination.interrupted, None);
    assert!(examination.checked > 0);
}
