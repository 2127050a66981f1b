//! What these tests need of the machine, and what is said where it is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where a runtime has its engines from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Process,
    Container,
}

impl Runtime {
    pub(crate) const ALL: [Self; 2] = [Self::Process, Self::Container];

    /// The word in the config.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Container => "container",
        }
    }
}

/// The images, by the name of the engine.
pub(crate) const IMAGES: [(&str, &str); 3] = [
    ("postgres", "firedrill-test/postgres:15"),
    ("mariadb", "firedrill-test/mariadb:10.11"),
    ("etcd", "firedrill-test/etcd:3.4"),
];

/// Everything that makes a fixture, which is everything that the `process` runtime needs, too.
const TOOLS: [&str; 14] = [
    "initdb",
    "postgres",
    "psql",
    "pg_dump",
    "pg_dumpall",
    "mariadb-install-db",
    "mariadbd",
    "mariadb",
    "mariadb-dump",
    "mariadb-backup",
    "mbstream",
    "etcd",
    "etcdctl",
    "setpriv",
];

/// The runtimes that can be tested here. Says so loudly when one cannot, and fails where nothing may be skipped.
pub(crate) fn runtimes() -> Vec<Runtime> {
    Runtime::ALL.into_iter().filter(|runtime| has(*runtime)).collect()
}

/// Whether fixtures can be made here, by the tools of the servers.
pub(crate) fn tools() -> bool {
    match TOOLS.iter().find(|tool| find(tool).is_none()) {
        Some(missing) => {
            skip(&format!("{missing} is missing: no backup of a real server can be made"));
            false
        }
        None => true,
    }
}

/// The path of a tool. Those of servers are seldom on PATH.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/lib/postgresql/15/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(tool)).find(|file| file.is_file())
}

fn has(runtime: Runtime) -> bool {
    if runtime == Runtime::Process {
        return true;
    }
    let mut docker = Command::new("docker");
    docker.args(["image", "inspect", "--format", "{{.Id}}"]).args(IMAGES.map(|(_, image)| image));
    let there = docker.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if !there {
        let names = IMAGES.map(|(_, image)| image).join(", ");
        skip(&format!("there is no Docker daemon with {names}: the container runtime is not tested"));
    }
    there
}

/// A folder that others may pass through: servers do not run as root.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("engines-").tempdir().unwrap();
    open_to_all(folder.path());
    folder
}

/// Lets everybody in.
pub(crate) fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

pub(crate) use firedrill_testing::skip;
