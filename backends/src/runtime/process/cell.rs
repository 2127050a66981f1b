//! Running programs in a cell made of namespaces.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firedrill_core::cell::{
    Address, CELL_FOLDER, Cell, CellFacts, CellLimits, CellRequest, Ended, Pipes, Program, Seal, SealState,
    Service, Wire, below,
};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use rustix::fs::{self as rfs, Mode, OFlags, ResolveFlags};
use rustix::process::{Resource, getrlimit};

use super::anchor::{self, Anchor, Identity};
use super::child;
use super::find::Found;
use super::service::ProcessService;
use crate::runtime::copying;
use crate::scratch;

/// How often the disk is looked at, at most: looking takes time itself.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// A cell made of namespaces.
pub(super) struct ProcessCell {
    anchor: Arc<Anchor>,
    facts: CellFacts,
    found: Vec<Found>,
    work: PathBuf,
    own: PathBuf,
    limits: CellLimits,
    watch: Watch,
    disk_full: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
}

impl ProcessCell {
    pub(super) fn new(
        request: &CellRequest<'_>,
        found: Vec<Found>,
        limits: CellLimits,
        user: u32,
    ) -> Result<Self> {
        let identity = Identity::new(user);
        let (root, own) = anchor::folders(request.work, identity)?;
        // Programs outside of `/usr` are shown with the folder that their own libraries are mostly in, too.
        let elsewhere = |found: &Found| {
            let folder =
                found.folder.parent().filter(|p| p.components().count() > 1).unwrap_or(&found.folder);
            (!found.folder.starts_with("/usr")).then(|| folder.to_owned())
        };
        let shown: Vec<PathBuf> = found.iter().filter_map(elsewhere).collect();
        let anchor = Arc::new(Anchor::new(&root, &own, identity, request.aliases, &shown)?);
        let facts = CellFacts {
            runtime: "process".to_owned(),
            software: found.iter().map(|f| f.software.clone()).collect(),
            seal: Seal::default(),
        };
        let cell = Self {
            anchor,
            facts,
            found,
            work: request.work.to_owned(),
            own,
            limits,
            watch: request.watch.within(Some(request.lifetime)),
            disk_full: Arc::default(),
            closed: Arc::default(),
        };
        cell.watch_disk();
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

    /// Kills the cell when it has written too much.
    fn watch_disk(&self) {
        let (own, max) = (self.own.clone(), self.limits.disk.0);
        let (anchor, full, closed) =
            (Arc::downgrade(&self.anchor), Arc::clone(&self.disk_full), Arc::clone(&self.closed));
        std::thread::spawn(move || {
            while !closed.load(Ordering::Relaxed) {
                let start = Instant::now();
                let used = used_bytes(&own);
                let Some(anchor) = anchor.upgrade() else { return };
                if used > max {
                    full.store(true, Ordering::SeqCst);
                    return anchor.kill();
                }
                drop(anchor);
                let mut left = DISK_PAUSE.max(start.elapsed() * 10);
                while !left.is_zero() && !closed.load(Ordering::Relaxed) {
                    let step = left.min(Duration::from_millis(100));
                    std::thread::sleep(step);
                    left -= step;
                }
            }
        });
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
        command.args(["--", "/usr/bin/env", "-i", "-C", folder]);
        let plain = [
            ("PATH", format!("{own}/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin")),
            ("HOME", CELL_FOLDER.to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TZ", "UTC".to_owned()),
        ];
        let mut environment: BTreeMap<_, _> = plain.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        environment.extend(program.environment.clone());
        command.args(environment.iter().map(|(name, value)| format!("{name}={value}")));
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

    /// The place of an inside path on this machine.
    fn outside(&self, inside: &str) -> Result<PathBuf> {
        below(inside).filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("find {inside} in a cell"))
                .because(format!("it is not below {CELL_FOLDER}"))
        })
    }

    /// Opens something below the cell's folder. Programs of the cell may have put links there.
    fn open(&self, path: &Path, flags: OFlags) -> std::io::Result<OwnedFd> {
        let own = rfs::open(&self.own, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mode = if flags.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
        Ok(rfs::openat2(&own, path, flags | OFlags::CLOEXEC, mode, resolve)?)
    }

    /// Makes the folders that lead to `path`.
    fn make_parents(&self, path: &Path) -> std::io::Result<OwnedFd> {
        let mut here = self.open(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY)?;
        for part in path.parent().into_iter().flat_map(Path::components) {
            let name = part.as_os_str();
            match rfs::mkdirat(&here, name, Mode::RWXU) {
                Ok(()) => self.own(&here, name)?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            here = rfs::openat(&here, name, flags, Mode::empty())?;
        }
        Ok(here)
    }

    fn own(&self, folder: &OwnedFd, name: &std::ffi::OsStr) -> std::io::Result<()> {
        if let Some((uid, gid)) = self.owner() {
            rfs::chownat(folder, name, Some(uid), Some(gid), rfs::AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn owner(&self) -> copying::Owner {
        match self.anchor.identity {
            Identity::Other(user) => Some((rfs::Uid::from_raw(user), rfs::Gid::from_raw(user))),
            Identity::Mapped(_) => None,
        }
    }
}

impl Cell for ProcessCell {
    fn facts(&self) -> &CellFacts {
        &self.facts
    }

    fn bring(&self, from: &mut dyn Read, to: &str) -> Result<u64> {
        let path = self.outside(to)?;
        let failed = |e: std::io::Error| {
            Error::new(ErrorKind::Scratch, format!("write {to} in a cell")).from_source(&e)
        };
        let folder = self.make_parents(&path).map_err(failed)?;
        let name = path.file_name().unwrap_or_default();
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let mut file = options
            .open(format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), name.to_string_lossy()))
            .map_err(failed)?;
        let mut written = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            self.watch.check()?;
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        format!("read what becomes {to} in a cell"),
                    )
                    .from_source(&e));
                }
            };
            file.write_all(buffer.get(..n).unwrap_or_default()).map_err(failed)?;
            written += n as u64;
            if written > self.limits.disk.0 {
                return Err(failed(std::io::Error::other("it is larger than the disk limit of the cell")));
            }
        }
        self.own(&folder, name).map_err(failed)?;
        Ok(written)
    }

    fn bring_tree(&self, from: &Path, to: &str) -> Result<()> {
        let path = self.outside(to)?;
        self.make_parents(&path)
            .map_err(|e| Error::new(ErrorKind::Scratch, format!("make {to} in a cell")).from_source(&e))?;
        copying::tree(from, &self.own.join(path), self.owner(), &self.watch)
    }

    fn run(&self, program: &Program, pipes: Pipes<'_>) -> Result<Ended> {
        let mut command = self.command(program)?;
        if pipes.stdin.is_some() {
            command.stdin(Stdio::piped());
        }
        let child = self.spawn(program, command)?;
        // Only the whole cell can be killed for certain; what is left of it is of no use after that.
        let ended = child::finish(child, pipes, &self.watch.within(program.limit), &|| self.anchor.kill());
        if self.disk_full.load(Ordering::SeqCst) {
            return Err(self
                .failed(program)
                .because(format!("the cell wrote more than {} bytes", self.limits.disk.0))
                .advise("raise `runtime: { disk: ... }` in the config"));
        }
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
            Address::Unix(inside) => {
                // By way of a descriptor: paths of sockets have to be short, and links lead elsewhere.
                let socket = self.open(&self.outside(inside)?, OFlags::PATH).map_err(|e| failed(&e))?;
                let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
                let stream = std::os::unix::net::UnixStream::connect(path).map_err(|e| failed(&e))?;
                stream.set_nonblocking(true).map_err(|e| failed(&e))?;
                Ok(Box::new(tokio::net::UnixStream::from_std(stream).map_err(|e| failed(&e))?))
            }
            Address::Tcp(port) => {
                // A relay inside: only there is the cell's network.
                const RELAY: &str = "exec 3<>/dev/tcp/127.0.0.1/$0 || exit 1; cat <&3 & exec cat >&3";
                let program = Program::new("/bin/bash", ["-c", RELAY, &port.to_string()]);
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
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.anchor.kill();
        let (Some(parent), Some(name)) = (self.work.parent(), self.work.file_name().and_then(|n| n.to_str()))
        else {
            return Ok(());
        };
        scratch::remove(parent, name).map_err(|e| {
            Error::new(ErrorKind::Scratch, format!("remove the cell in {}", self.work.display()))
                .from_source(&e)
        })
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

/// Bytes on disk below `folder`. What vanishes meanwhile does not count.
fn used_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            total += meta.blocks() * 512;
            if meta.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    total
}
