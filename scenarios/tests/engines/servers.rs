//! Real servers to make backups of. They end with the values that hold them.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::need::{find, folder};

/// The user that servers run as which refuse to be root.
const NOBODY: u32 = 65534;

fn tool(name: &str) -> Command {
    let mut command = Command::new(find(name).unwrap_or_else(|| name.into()));
    command.env("TZ", "UTC").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// What a tool says; an error when it fails.
pub(crate) fn said(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {told}", output.status);
    Ok(output.stdout)
}

/// A server that ends with this.
struct Running(Child);

impl Running {
    fn start(mut command: Command, mut answers: impl FnMut() -> bool) -> Result<Self> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut server = Self(child);
        let start = Instant::now();
        while !answers() {
            ensure!(server.0.try_wait()?.is_none(), "{command:?} ended");
            ensure!(start.elapsed() < Duration::from_secs(60), "{command:?} does not answer");
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(server)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // PostgreSQL leaves nothing behind when its first process is killed: the others see that and end.
        let _already_dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A PostgreSQL.
pub(crate) struct Postgres {
    server: Running,
    folder: tempfile::TempDir,
}

impl Postgres {
    pub(crate) fn start() -> Result<Self> {
        let folder = folder();
        let data = folder.path().join("data");
        let mut initdb = unprivileged("initdb", folder.path());
        initdb
            .args(["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data);
        said(&mut initdb)?;
        let mut postgres = unprivileged("postgres", folder.path());
        postgres.args(["-F", "-c", "listen_addresses=", "-k"]).arg(folder.path()).arg("-D").arg(&data);
        let answers = || {
            let mut psql = client("psql", folder.path());
            psql.args(["-c", "SELECT 1", "postgres"]).stdout(Stdio::null()).stderr(Stdio::null());
            psql.status().is_ok_and(|status| status.success())
        };
        Ok(Self { server: Running::start(postgres, answers)?, folder })
    }

    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<()> {
        let mut psql = client("psql", self.folder.path());
        said(psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-c", sql, database])).map(drop)
    }

    /// The folder of its socket.
    pub(crate) fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// Its first process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.0.id()
    }

    /// Ends it in order. What is left is its folder, with its data in `data`.
    pub(crate) fn stop(mut self) -> Result<tempfile::TempDir> {
        let mut stop = unprivileged("pg_ctl", self.folder.path());
        said(stop.args(["stop", "-w", "-m", "fast", "-D"]).arg(self.folder.path().join("data")))?;
        self.server.0.wait()?;
        Ok(self.folder)
    }

    /// Executes a statement on the data below `folder` without a server.
    pub(crate) fn alone(folder: &Path, database: &str, sql: &str) -> Result<()> {
        let mut single = unprivileged("postgres", folder);
        single.arg("--single").arg("-D").arg(folder.join("data")).arg(database).stdin(Stdio::piped());
        let mut child = single.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut stdin = child.stdin.take().context("it reads nothing")?;
        stdin.write_all(format!("{sql}\n").as_bytes())?;
        drop(stdin);
        let status = child.wait()?;
        ensure!(status.success(), "{single:?}: {status}");
        Ok(())
    }

    pub(crate) fn dump(&self, program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        said(client(program, self.folder.path()).args(arguments))
    }
}

fn client(program: &str, socket: &Path) -> Command {
    let mut command = tool(program);
    command.arg("-h").arg(socket).args(["-U", "postgres"]).current_dir(socket);
    command
}

fn unprivileged(program: &str, folder: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return tool(program);
    }
    let mut command = tool("setpriv");
    let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    command.args([&user, &group, "--clear-groups", "--"]).arg(find(program).unwrap_or_default());
    command.current_dir(folder);
    command
}

/// A MariaDB.
pub(crate) struct MariaDb {
    _server: Running,
    folder: tempfile::TempDir,
}

impl MariaDb {
    pub(crate) fn start() -> Result<Self> {
        let folder = folder();
        let data = folder.path().join("data");
        let user = rustix::process::geteuid().is_root().then_some("--user=root");
        let mut install = tool("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.arg("--skip-name-resolve").args(user).arg(format!("--datadir={}", data.display()));
        // A server that starts removes what it takes for leftovers in the shared temporary folder.
        install.env("TMPDIR", folder.path());
        said(&mut install)?;
        let mut server = tool("mariadbd");
        server.args(["--no-defaults", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"]);
        server.args(["--innodb-log-file-size=4M", "--performance-schema=OFF"]).args(user);
        server.arg(format!("--datadir={}", data.display()));
        server.arg(format!("--pid-file={}", folder.path().join("pid").display()));
        server.arg(format!("--socket={}", folder.path().join("s").display()));
        server.env("TMPDIR", folder.path());
        let answers = || {
            let mut mariadb = mariadb_client("mariadb", folder.path());
            mariadb.args(["-e", "select 1"]).stdout(Stdio::null()).stderr(Stdio::null());
            mariadb.status().is_ok_and(|status| status.success())
        };
        Ok(Self { _server: Running::start(server, answers)?, folder })
    }

    pub(crate) fn sql(&self, sql: &str) -> Result<()> {
        said(mariadb_client("mariadb", self.folder.path()).args(["-e", sql])).map(drop)
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    pub(crate) fn dump(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        said(mariadb_client("mariadb-dump", self.folder.path()).args(arguments))
    }

    /// A full backup as one stream.
    pub(crate) fn stream(&self) -> Result<Vec<u8>> {
        said(self.backup().arg("--stream=xbstream"))
    }

    /// A full backup as a folder in `target`, prepared.
    pub(crate) fn prepared(&self, target: &Path) -> Result<()> {
        let target = format!("--target-dir={}", target.display());
        said(self.backup().arg(&target))?;
        said(tool("mariadb-backup").args(["--no-defaults", "--prepare", &target])).map(drop)
    }

    fn backup(&self) -> Command {
        let mut command = mariadb_client("mariadb-backup", self.folder.path());
        command.arg("--backup").arg(format!("--datadir={}", self.folder.path().join("data").display()));
        command
    }
}

fn mariadb_client(program: &str, folder: &Path) -> Command {
    let mut command = tool(program);
    command.arg("--no-defaults").arg(format!("--socket={}", folder.join("s").display())).arg("--user=root");
    command
}

/// The files of a folder as one stream, with fitting checksums, as by a tool that read damaged files.
pub(crate) fn streamed(folder: &Path) -> Result<Vec<u8>> {
    let mut names: Vec<PathBuf> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => names.push(path.strip_prefix(folder)?.to_owned()),
            }
        }
    }
    names.sort();
    said(tool("mbstream").arg("-c").args(names).current_dir(folder))
}

/// An etcd.
pub(crate) struct Etcd {
    _server: Running,
    folder: tempfile::TempDir,
    client: String,
}

impl Etcd {
    pub(crate) fn start() -> Result<Self> {
        let folder = folder();
        let (client, peer) =
            (format!("http://127.0.0.1:{}", port()?), format!("http://127.0.0.1:{}", port()?));
        let mut etcd = tool("etcd");
        etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--data-dir"])
            .arg(folder.path().join("data"));
        let answers = || {
            let health = etcdctl(&client).args(["endpoint", "health"]).output();
            health.is_ok_and(|output| output.status.success())
        };
        let server = Running::start(etcd, answers)?;
        Ok(Self { _server: server, folder, client: client.clone() })
    }

    /// Puts keys, a hundred at a time.
    pub(crate) fn put(&self, keys: usize) -> Result<()> {
        let keys: Vec<usize> = (0..keys).collect();
        for some in keys.chunks(100) {
            let puts: Vec<_> = some.iter().map(|n| format!("put key/{n} \"value {n}\"\n")).collect();
            let file = self.folder.path().join("transaction");
            std::fs::write(&file, format!("\n{}\n\n\n", puts.concat()))?;
            said(etcdctl(&self.client).arg("txn").stdin(std::fs::File::open(file)?))?;
        }
        Ok(())
    }

    pub(crate) fn snapshot(&self) -> Result<Vec<u8>> {
        let path = self.folder.path().join("snapshot");
        said(etcdctl(&self.client).args(["snapshot", "save"]).arg(&path))?;
        Ok(std::fs::read(path)?)
    }
}

fn etcdctl(client: &str) -> Command {
    let mut command = tool("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", client, "--dial-timeout", "2s"]);
    command
}

fn port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
