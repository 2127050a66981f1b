//! Running programs in a cell made of containers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Buf as _;
use firedrill_core::cell::{
    Address, CELL_FOLDER, Cell, CellFacts, CellLimits, CellRequest, Ended, Pipes, Program, Seal, SealState,
    Service, Wire, inside,
};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use testcontainers::bollard::Docker;

use super::cage::{Cage, NOT_HERE, Network, Plan, START_TIME};
use super::daemon::{self, Daemon};
use super::exec::{self, Command, Exec, Said};
use super::image::Found;
use super::service::ContainerService;
use super::wire::Relay;
use crate::runtime::folder::CellFolder;
use crate::runtime::{RELAY, user};

/// A server must take a connection within this time.
const DIAL_TIME: Duration = Duration::from_secs(30);
/// Says which limits the kernel keeps, where that can be seen: of memory, of processes, of files, of files' sizes.
const LIMITS: &str = "for place in memory.max memory/memory.limit_in_bytes; do
  [ ! -r /sys/fs/cgroup/$place ] || echo \"memory $(cat /sys/fs/cgroup/$place)\"; done
for place in pids.max pids/pids.max; do
  [ ! -r /sys/fs/cgroup/$place ] || echo \"processes $(cat /sys/fs/cgroup/$place)\"; done
while read -r line; do case $line in \"Max file size\"*) echo \"disk ${line#Max file size}\";; esac; done \
</proc/self/limits; echo done";

/// A cell made of containers: one for each kit, in one network.
pub(super) struct ContainerCell {
    facts: CellFacts,
    /// In the order of the kits; all of them live in the network of the first.
    members: Vec<Member>,
    folder: CellFolder,
    limits: CellLimits,
    watch: Watch,
    servers: AtomicU32,
}

struct Member {
    found: Found,
    cage: Arc<Cage>,
}

impl ContainerCell {
    pub(super) fn new(
        daemon: &Daemon,
        request: &CellRequest<'_>,
        found: Vec<Found>,
        limits: CellLimits,
        network: &str,
    ) -> Result<Self> {
        let watch = request.watch.within(Some(request.lifetime));
        let own = user::for_containers();
        // The daemon has a working directory of its own.
        let work = std::path::absolute(request.work).unwrap_or_else(|_| request.work.to_owned());
        let folder = CellFolder::new(&work, user::root().then_some(own.0), limits.disk.0)?;
        let files = names(&folder, own)?;
        let software = found.iter().map(|f| f.software.clone()).collect();
        let mut members: Vec<Member> = Vec::new();
        for found in found {
            let network = match members.first() {
                None => Network::Named(network.to_owned()),
                Some(first) => Network::Of(first.cage.id.clone()),
            };
            let plan = Plan {
                image: found.image.clone(),
                network,
                user: own,
                limits,
                lease: request.lease.to_owned(),
                lifetime: request.lifetime,
                aliases: request.aliases.to_vec(),
                own: Some(folder.own().to_owned()),
                files: files.clone(),
            };
            let cage = daemon::wait(Cage::start(daemon.clone(), plan), START_TIME, &watch)?;
            members.push(Member { found, cage: Arc::new(cage) });
        }
        let facts = CellFacts { runtime: "container".to_owned(), software, seal: Seal::default() };
        let servers = AtomicU32::new(0);
        let cell = Self { facts, members, folder, limits, watch, servers };
        cell.check_folder()?;
        let cages: Vec<_> = cell.members.iter().map(|member| Arc::downgrade(&member.cage)).collect();
        cell.folder.watch_disk(move || {
            cages.iter().filter_map(std::sync::Weak::upgrade).for_each(|cage| cage.kill());
        });
        Ok(cell)
    }

    /// Takes over what was seen of the seal; `Err` when nothing may be started.
    pub(super) fn sealed(&mut self, seal: Seal) -> Result<()> {
        seal.verdict()?;
        self.facts.seal = seal;
        Ok(())
    }

    /// Asks a program in the container of `kit` which limits it has. What it cannot see the daemon is believed,
    /// which was asked to keep the same limits and did not refuse.
    pub(super) fn limits_state(&self, kit: &str) -> SealState {
        let program = Program { kit: kit.to_owned(), ..Program::new("/bin/sh", ["-c", LIMITS]) };
        let said = match self.run(&program, Pipes::default()) {
            Ok(ended) => String::from_utf8_lossy(&ended.stdout).into_owned(),
            Err(error) => return SealState::Unproven(error.chain()),
        };
        let promised = match self.promised(kit) {
            Ok(promised) => promised,
            Err(error) => return SealState::Unproven(error.chain()),
        };
        limits_state(&said, promised, self.limits)
    }

    /// The limits that the daemon says it keeps: of memory, and of processes.
    fn promised(&self, kit: &str) -> Result<(Option<i64>, Option<i64>)> {
        let cage = Arc::clone(&self.member(kit)?.cage);
        let asked = async move {
            let seen = cage.docker.inspect_container(&cage.id, None);
            let host = daemon::ask("look at a container", seen).await?.host_config.unwrap_or_default();
            Ok((host.memory, host.pids_limit))
        };
        daemon::wait(asked, daemon::REQUEST_TIME, &self.watch)
    }

    /// A daemon on another machine shows the cell another folder than ours.
    fn check_folder(&self) -> Result<()> {
        let nonce = crate::runtime::unique();
        self.folder.bring(&mut nonce.as_bytes(), &inside(".firedrill-here"), &self.watch)?;
        for member in &self.members {
            let kit = member.found.software.kit.clone();
            let script = "cat /cell/.firedrill-here";
            let program = Program { kit, ..Program::new("/bin/sh", ["-c", script]) };
            let ended = self.run(&program, Pipes::default())?;
            if ended.stdout != nonce.as_bytes() {
                return Err(Error::new(ErrorKind::Unsealed, "show a folder to a container")
                    .because(format!("what was written here is not to be read there: {}", ended.describe()))
                    .advise(NOT_HERE));
            }
        }
        let _ = std::fs::remove_file(self.folder.own().join(".firedrill-here"));
        Ok(())
    }

    fn member(&self, kit: &str) -> Result<&Member> {
        let found = match kit {
            "" => self.members.first(),
            kit => self.members.iter().find(|member| member.found.software.kit == kit),
        };
        found.ok_or_else(|| {
            Error::new(ErrorKind::Internal, "run a program in a cell")
                .because(format!("the cell has no kit `{kit}`"))
        })
    }

    /// The command that runs `program`, and where.
    fn command(&self, program: &Program) -> Result<(&Member, Command)> {
        self.watch.check()?;
        let member = self.member(&program.kit)?;
        let found = &member.found;
        let path = match found.programs.get(&program.program) {
            _ if program.program.starts_with('/') => program.program.clone(),
            Some(path) => path.clone(),
            None => program.program.clone(),
        };
        let usual = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin";
        let image_path = found.image.path.as_deref().unwrap_or(usual);
        let plain = [
            ("PATH", format!("{}:{image_path}", found.folder)),
            ("HOME", CELL_FOLDER.to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TZ", "UTC".to_owned()),
        ];
        let mut environment: BTreeMap<_, _> = plain.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        environment.extend(program.environment.clone());
        let environment = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let folder = if program.folder.is_empty() { CELL_FOLDER } else { &program.folder };
        let arguments = std::iter::once(path).chain(program.arguments.clone());
        Ok((member, Command::new(arguments).within(environment, folder)))
    }

    fn failed(program: &Program) -> Error {
        Error::new(ErrorKind::Unavailable, format!("run {} in a cell", program.shown()))
    }

    fn kill(&self) {
        self.members.iter().rev().for_each(|member| member.cage.kill());
    }

    fn end(&self) -> Result<()> {
        self.kill();
        self.folder.remove()
    }
}

impl Cell for ContainerCell {
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
        let (member, command) = self.command(program)?;
        let watch = self.watch.within(program.limit);
        // Only the whole cell can be killed for certain; what is left of it is of no use after that.
        let ended = exec::run(&member.cage.docker, &member.cage.id, command, pipes, &watch, &|| self.kill());
        self.folder.check_disk(|| Self::failed(program))?;
        ended
    }

    fn start(&self, program: &Program) -> Result<Box<dyn Service>> {
        let (member, command) = self.command(program)?;
        let name = format!("firedrill-{}", self.servers.fetch_add(1, Ordering::Relaxed));
        let cage = Arc::clone(&member.cage);
        Ok(Box::new(ContainerService::start(cage, command, &name, &self.watch)?))
    }

    fn dial(&self, address: &Address) -> Result<Box<dyn Wire>> {
        match address {
            Address::Unix(inside) => Ok(Box::new(self.folder.connect(inside)?)),
            Address::Tcp(port) => {
                // A relay inside: only there is the cell's network.
                let program = Program::new("/bin/bash", ["-c", RELAY, &port.to_string(), "+"]);
                let (member, command) = self.command(&program)?;
                let (docker, id) = (member.cage.docker.clone(), member.cage.id.clone());
                let relay = async move { relay(&docker, &id, command.fed()).await };
                Ok(Box::new(daemon::wait(relay, DIAL_TIME, &self.watch)?))
            }
        }
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.end()
    }
}

impl Drop for ContainerCell {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!("{}", error.chain());
        }
    }
}

/// Starts a relay, and waits until it has the server.
async fn relay(docker: &Docker, container: &str, command: Command) -> Result<Relay> {
    let failed = || Error::new(ErrorKind::Unavailable, "connect to a server in a cell");
    let mut exec = Exec::start(docker, container, command).await?;
    let mut why = String::new();
    loop {
        match exec::next(&mut exec.output).await.map_err(|e| failed().from_source(&e))? {
            Some(Said::Out(mut bytes)) if bytes.first() == Some(&b'+') => {
                bytes.advance(1);
                return Ok(Relay::new(exec, bytes));
            }
            Some(Said::Err(bytes)) if why.len() < 1024 => why.push_str(&String::from_utf8_lossy(&bytes)),
            Some(Said::Out(_) | Said::Err(_)) => {}
            None => {
                let why = why.lines().next_back().unwrap_or("the relay ended").to_owned();
                return Err(failed().because(why));
            }
        }
    }
}

/// Files with the names of the cell's user, to be shown in each container.
fn names(folder: &CellFolder, own: (u32, u32)) -> Result<Vec<(std::path::PathBuf, &'static str)>> {
    use std::os::unix::fs::PermissionsExt as _;
    let beside = folder.beside("etc")?;
    let (users, groups) = user::names(own.0, own.1);
    let mut files = Vec::new();
    for (name, text, inside) in [("passwd", users, "/etc/passwd"), ("group", groups, "/etc/group")] {
        let path = beside.join(name);
        std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)))
            .map_err(|e| {
                Error::new(ErrorKind::Scratch, "write the names of a cell's user").from_source(&e)
            })?;
        files.push((path, inside));
    }
    Ok(files)
}

/// What a program sees of the kernel's limits, and what the daemon promised, against what was asked for.
fn limits_state(said: &str, promised: (Option<i64>, Option<i64>), asked: CellLimits) -> SealState {
    let seen = |word: &str| {
        let text = said.lines().find_map(|line| line.strip_prefix(word))?;
        // `max` and `unlimited` are larger than any number.
        Some(text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(u64::MAX))
    };
    let parts = [
        ("bytes of memory", seen("memory "), promised.0, asked.memory.0),
        ("processes", seen("processes "), promised.1, u64::from(asked.processes)),
        ("bytes in one file", seen("disk "), None, asked.disk.0),
    ];
    let mut words = Vec::new();
    for (what, seen, promised, asked) in parts {
        let promised = promised.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        match (seen, promised) {
            (Some(seen), _) if seen > asked => {
                return SealState::Breached(format!("the limit of {asked} {what} is not kept by the kernel"));
            }
            (Some(seen), _) => words.push(format!("{seen} {what}")),
            (None, Some(promised)) if promised <= asked => {
                words.push(format!("{promised} {what} (as the daemon says)"));
            }
            (None, _) => return SealState::Unproven(format!("nobody limits {what}")),
        }
    }
    SealState::Holds(format!(
        "{} for each container, {} bytes on disk (watched)",
        words.join(", "),
        asked.disk.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use firedrill_core::config::units::Size;

    #[test]
    fn limits_that_nobody_keeps_do_not_hold() {
        let asked = CellLimits { memory: Size(1000), processes: 10, disk: Size(50) };
        let holds = |said: &str, promised| matches!(limits_state(said, promised, asked), SealState::Holds(_));
        let all = "memory 1000\nprocesses 10\ndisk     50     50   bytes\ndone\n";
        assert!(holds(all, (None, None)));
        assert!(holds("disk 50\n", (Some(1000), Some(10))));
        assert!(!holds("disk 50\n", (Some(1000), None)));
        assert!(!holds("disk 50\n", (Some(0), Some(10))), "0 is no limit");
        assert!(!holds("disk 50\n", (Some(1000), Some(-1))), "and neither is -1");
        for (from, to) in [
            ("memory 1000", "memory max"),
            ("processes 10", "processes 11"),
            ("disk     50", "disk unlimited"),
        ] {
            assert!(!holds(&all.replace(from, to), (Some(1000), Some(10))), "{to}");
        }
    }
}
