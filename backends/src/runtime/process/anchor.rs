//! The first process of a cell.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use firedrill_core::error::{Error, ErrorKind, Result};

const SCRIPT: &str = include_str!("anchor.sh");
/// Making the namespaces may take this long.
const READY_TIME: Duration = Duration::from_secs(20);
/// Where the tools of util-linux are.
pub(super) const TOOL_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How programs become unprivileged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// firedrill is root: they run as another user.
    Other(u32),
    /// firedrill is not: they run as itself, under this number in a user namespace.
    Mapped(u32),
}

impl Identity {
    pub(super) fn new(user: u32) -> Self {
        if rustix::process::geteuid().is_root() { Self::Other(user) } else { Self::Mapped(user) }
    }

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Other(user) | Self::Mapped(user) => user,
        }
    }
}

/// The namespaces of a cell; they end with this.
pub(super) struct Anchor {
    unshare: Mutex<Option<Child>>,
    /// As long as this is open the cell lives.
    _alive: ChildStdin,
    /// The first process of the cell, as this machine numbers it.
    pub(super) process: u32,
    pub(super) identity: Identity,
}

impl Anchor {
    /// Makes namespaces that show `own` as the cell's folder. `root` is an empty folder to build the rest on.
    pub(super) fn new(
        root: &Path,
        own: &Path,
        identity: Identity,
        aliases: &[String],
        shown: &[PathBuf],
    ) -> Result<Self> {
        let failed = || Error::new(ErrorKind::Unsealed, "make namespaces for a cell");
        let mut command = Command::new("unshare");
        if matches!(identity, Identity::Mapped(_)) {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child=SIGKILL", "--"])
            .args(["/bin/sh", "-c", SCRIPT, "anchor"])
            .args([root, own])
            .args([identity.number().to_string(), identity.number().to_string(), aliases.join(" ")])
            .args(shown)
            .env_clear()
            .env("PATH", TOOL_PATH)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| {
            failed().from_source(&e).advise("install util-linux (unshare, nsenter, setpriv, prlimit)")
        })?;
        let taken = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(alive), Some(stdout), Some(stderr)) = taken else {
            return Err(failed().because("it has no pipes"));
        };
        // The script ends, or says that it is ready; a thread waits, because a pipe cannot be read with a limit.
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout.take(1024)).read_line(&mut line);
            let _ = tell.send(line);
        });
        let line = told.recv_timeout(READY_TIME).unwrap_or_default();
        let process = line.trim().strip_prefix("ready ").and_then(|number| number.parse().ok());
        let anchor =
            Self { unshare: Mutex::new(Some(child)), _alive: alive, process: process.unwrap_or(0), identity };
        if process.is_some() {
            return Ok(anchor);
        }
        drop(anchor);
        let mut said = String::new();
        let _ = stderr.take(4096).read_to_string(&mut said);
        let why = said.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        let why = if why.is_empty() { "it did not get ready in time".to_owned() } else { why };
        Err(failed().because(why).advise(
            "run firedrill as root or where the kernel grants user namespaces, or use the container runtime",
        ))
    }

    /// A command that enters the cell and loses every privilege; what is to be run comes after it.
    pub(super) fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.process.to_string()]);
        let number = self.identity.number().to_string();
        match self.identity {
            Identity::Other(_) => {
                command.args(["--mount", "--pid", "--net", "--ipc", "--uts", "--"]);
                command.args(["/usr/bin/setpriv", "--clear-groups"]);
                command.args([format!("--reuid={number}"), format!("--regid={number}")]);
            }
            Identity::Mapped(_) => {
                command.args(["--user", "--preserve-credentials"]);
                command.args(["--mount", "--pid", "--net", "--ipc", "--uts", "--"]);
                command.args(["/usr/bin/unshare", "--user"]);
                command.args([
                    format!("--map-user={number}"),
                    format!("--map-group={number}"),
                    "--".to_owned(),
                ]);
                command.arg("/usr/bin/setpriv");
            }
        }
        command.args(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]);
        command.env_clear().env("PATH", TOOL_PATH).env("LC_ALL", "C").current_dir("/");
        command
    }

    /// Kills everything in the cell.
    pub(super) fn kill(&self) {
        let child = self.unshare.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // The first process dies with `unshare`, and everything else in the cell with the first process.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        self.kill();
    }
}
