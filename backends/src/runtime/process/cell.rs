//! Running programs in a cell made of namespaces.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use firedrill_core::cell::{
    Address, CELL_FOLDER, Cell, CellFacts, CellLimits, CellRequest, Ended, Pipes, Program, Seal, SealState,
    Service, Wire,
};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use rustix::process::{Resource, getrlimit};

use super::anchor::{Anchor, Identity};
use super::child;
use super::find::Found;
use super::service::ProcessService;
use crate::runtime::folder::CellFolder;

/// A cell made of namespaces.
pub(super) struct ProcessCell {
    anchor: Arc<Anchor>,
    facts: CellFacts,
    found: Vec<Found>,
    folder: CellFolder,
    limits: CellLimits,
    watch: Watch,
}

/// How variables begin that change what a program loads.
const LOADERS: [&str; 6] = ["LD_", "GLIBC_", "GCONV_", "LOCPATH", "NLSPATH", "MALLOC_"];

/// What is shown of programs outside of `/usr`: their folder, and those beside it in which their own libraries are. Not
/// all that is beside it: that may be somebody's home.
fn elsewhere(folder: &Path) -> Result<Vec<PathBuf>> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.components().count() > 1);
    if folder.components().count() < 2 || home.is_some_and(|home| home.starts_with(folder)) {
        return Err(Error::new(
            ErrorKind::Unsealed,
            format!("show the programs in {} to a cell", folder.display()),
        )
        .because("everything else in that folder would be shown as well")
        .advise("install them in a folder of their own"));
    }
    let mut shown = vec![folder.to_owned()];
    if let Some(parent) = folder.parent() {
        let beside = ["lib", "lib64", "libexec", "share"].map(|name| parent.join(name));
        shown.extend(beside.into_iter().filter(|folder| folder.is_dir()));
    }
    Ok(shown)
}

impl ProcessCell {
    pub(super) fn new(
        request: &CellRequest<'_>,
        found: Vec<Found>,
        limits: CellLimits,
        user: u32,
    ) -> Result<Self> {
        let identity = Identity::new(user);
        let owner = matches!(identity, Identity::Other(_)).then_some(user);
        let folder = CellFolder::new(request.work, owner, limits.disk.0)?;
        let root = folder.beside("root")?;
        let mut shown = Vec::new();
        for found in found.iter().filter(|found| !found.folder.starts_with("/usr")) {
            shown.extend(elsewhere(&found.folder)?);
        }
        let anchor = Arc::new(Anchor::new(&root, folder.own(), identity, request.aliases, &shown)?);
        let facts = CellFacts {
            runtime: "process".to_owned(),
            software: found.iter().map(|f| f.software.clone()).collect(),
            seal: Seal::default(),
        };
        let cell = Self {
            anchor,
            facts,
            found,
            folder,
            limits,
            watch: request.watch.within(Some(request.lifetime)),
        };
        let anchor = Arc::downgrade(&cell.anchor);
        cell.folder.watch_disk(move || {
            if let Some(anchor) = anchor.upgrade() {
                anchor.kill();
            }
        });
        Ok(cell)
    }

    /// Takes over what was seen of the seal; `Err` when nothing may be started.
    pub(super) fn sealed(&mut self, seal: Seal) -> Result<()> {
        seal.verdict()?;
        self.facts.seal = seal;
        Ok(())
    }

    /// Asks a program in the cell which limits it has.
    pub(super) fn limits_state(&self) -> SealState {
        let program = Program::new("/bin/cat", ["/proc/self/limits"]);
        let said = match self.run(&program, Pipes::default()) {
            Ok(ended) => String::from_utf8_lossy(&ended.stdout).into_owned(),
            Err(error) => return SealState::Unproven(error.chain()),
        };
        let limit = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        match (limit("Max data size"), limit("Max processes"), limit("Max file size")) {
            (Some(memory), Some(processes), Some(disk))
                if memory <= self.limits.memory.0
                    && processes <= u64::from(self.limits.processes)
                    && disk <= self.limits.disk.0 =>
            {
                SealState::Holds(format!(
                    "{memory} bytes of memory per process, {processes} processes, {disk} bytes on disk (watched)"
                ))
            }
            _ => SealState::Unproven("programs are not limited".to_owned()),
        }
    }

    /// The command that runs `program` in the cell.
    fn command(&self, program: &Program) -> Result<Command> {
        let found = match program.kit.as_str() {
            "" => self.found.first(),
            kit => self.found.iter().find(|found| found.software.kit == kit),
        };
        let path = match found {
            _ if program.program.starts_with('/') => PathBuf::from(&program.program),
            Some(found) => match found.programs.get(&program.program) {
                Some(path) => path.clone(),
                None => found.folder.join(&program.program),
            },
            None => {
                return Err(Error::new(ErrorKind::Internal, format!("run {}", program.shown()))
                    .because(format!("the cell has no kit `{}`", program.kit)));
            }
        };
        let folder = if program.folder.is_empty() { CELL_FOLDER } else { &program.folder };
        let own = found.map(|found| format!("{}:", found.folder.display())).unwrap_or_default();
        let mut command = self.anchor.enter();
        command.args(["/usr/bin/prlimit", "--core=0"]);
        for (name, resource, limit) in [
            ("nproc", Resource::Nproc, u64::from(self.limits.processes)),
            ("data", Resource::Data, self.limits.memory.0),
            ("fsize", Resource::Fsize, self.limits.disk.0),
        ] {
            // A limit that was set for us cannot be raised for others.
            let limit = getrlimit(resource).maximum.map_or(limit, |own| own.min(limit));
            command.arg(format!("--{name}={limit}:{limit}"));
        }
        command.args(["--", "/usr/bin/env", "-C", folder]);
        let plain = [
            ("PATH", format!("{own}/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin")),
            ("HOME", CELL_FOLDER.to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TZ", "UTC".to_owned()),
        ];
        let mut environment: BTreeMap<_, _> = plain.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        environment.extend(program.environment.clone());
        // Arguments can be read by everybody on this machine, variables by us alone. Those that a loader listens to
        // must not reach the programs that lead into the cell: these are named to the last of them, which is inside.
        // So must the folders in which they themselves are looked for stay.
        command.env_remove("LC_ALL");
        for (name, value) in &environment {
            match name == "PATH" || LOADERS.iter().any(|start| name.starts_with(start)) {
                true => command.arg(format!("{name}={value}")),
                false => command.env(name, value),
            };
        }
        command.arg(path).args(&program.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    fn spawn(&self, program: &Program, mut command: Command) -> Result<std::process::Child> {
        self.watch.check()?;
        command.spawn().map_err(|e| self.failed(program).from_source(&e))
    }

    fn failed(&self, program: &Program) -> Error {
        Error::new(ErrorKind::Unavailable, format!("run {} in a cell", program.shown()))
    }
}

impl Cell for ProcessCell {
    fn facts(&self) -> &CellFacts {
        &self.facts
    }

    fn bring(&self, from: &mut dyn Read, to: &str) -> Result<u64> {
        self.folder.bring(from, to, &self.watch)
    }

    fn create(&self, to: &str) -> Result<Box<dyn Write + '_>> {
        Ok(Box::new(self.folder.create(to, &self.watch)?))
    }

    fn bring_tree(&self, from: &Path, to: &str) -> Result<()> {
        self.folder.bring_tree(from, to, &self.watch)
    }

    fn run(&self, program: &Program, pipes: Pipes<'_>) -> Result<Ended> {
        let mut command = self.command(program)?;
        if pipes.stdin.is_some() {
            command.stdin(Stdio::piped());
        }
        let child = self.spawn(program, command)?;
        // Only the whole cell can be killed for certain; what is left of it is of no use after that.
        let ended = child::finish(child, pipes, &self.watch.within(program.limit), &|| self.anchor.kill());
        self.folder.check_disk(|| self.failed(program))?;
        ended
    }

    fn start(&self, program: &Program) -> Result<Box<dyn Service>> {
        let command = self.command(program)?;
        Ok(Box::new(ProcessService::new(self.spawn(program, command)?)))
    }

    fn dial(&self, address: &Address) -> Result<Box<dyn Wire>> {
        let failed = |e: &dyn std::error::Error| {
            Error::new(ErrorKind::Unavailable, "connect to a server in a cell").from_source(e)
        };
        match address {
            Address::Unix(inside) => Ok(Box::new(self.folder.connect(inside)?)),
            Address::Tcp(port) => {
                // A relay inside: only there is the cell's network.
                let program = Program::new("/bin/bash", ["-c", super::super::RELAY, &port.to_string(), ""]);
                let mut command = tokio::process::Command::from(self.command(&program)?);
                command.stdin(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
                let mut child = command.spawn().map_err(|e| failed(&e))?;
                match (child.stdout.take(), child.stdin.take()) {
                    (Some(stdout), Some(stdin)) => Ok(Box::new(Relay { stdout, stdin, _child: child })),
                    _ => Err(failed(&std::io::Error::other("the relay has no pipes"))),
                }
            }
        }
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.end()
    }
}

impl ProcessCell {
    fn end(&self) -> Result<()> {
        self.anchor.kill();
        self.folder.remove()
    }
}

impl Drop for ProcessCell {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!("{}", error.chain());
        }
    }
}

/// A connection through a program in the cell, which dies with it.
struct Relay {
    stdout: tokio::process::ChildStdout,
    stdin: tokio::process::ChildStdin,
    _child: tokio::process::Child,
}

impl tokio::io::AsyncRead for Relay {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stdout).poll_read(context, into)
    }
}

impl tokio::io::AsyncWrite for Relay {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stdin).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stdin).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stdin).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_shown_without_what_else_lies_beside_them() {
        let place = tempfile::tempdir().unwrap();
        for folder in ["ann/bin", "ann/lib", "ann/.ssh"] {
            std::fs::create_dir_all(place.path().join(folder)).unwrap();
        }
        let shown = elsewhere(&place.path().join("ann/bin")).unwrap();
        assert_eq!(shown, [place.path().join("ann/bin"), place.path().join("ann/lib")]);
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        for open in [home.as_path(), Path::new("/")] {
            assert_eq!(elsewhere(open).unwrap_err().kind, ErrorKind::Unsealed, "{}", open.display());
        }
    }
}
