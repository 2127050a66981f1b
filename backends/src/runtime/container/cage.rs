//! One container: no network, no rights, nothing to write but its own folders, and a life as long as ours.
//!
//! Its first process waits for the end of the lifetime. A second one, the lifeline, reads from a connection to us: when
//! firedrill ends, however it ends, that connection breaks, the lifeline ends the first process, and the daemon
//! removes the container. `sweep` is for the case that the daemon died too.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use firedrill_core::cell::{CELL_FOLDER, CellLimits};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use rustix::process::{Resource, getrlimit};
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::HostConfig;
use testcontainers::bollard::query_parameters::RemoveContainerOptionsBuilder;
use testcontainers::core::{Healthcheck, Host, Mount};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt as _};
use tokio::io::AsyncWrite;

use super::daemon::{self, Daemon, REQUEST_TIME};
use super::exec::{Command, Exec};
use super::image::Image;
use super::owner;

/// What lives a little longer than its cell is ended by itself.
const SLACK: Duration = Duration::from_secs(60);
/// Starting a container may take this long.
pub(super) const START_TIME: Duration = Duration::from_secs(150);
/// A removed container must be gone within this time.
const GONE_TIME: Duration = Duration::from_secs(20);
/// At most this many files may be open in one program.
const FILES_MAX: u64 = 65_536;
/// Reads until its connection breaks, and then ends the first process.
const LIFELINE: &str = "while read -r _; do :; done; kill -TERM 1";

/// The network of a container.
#[derive(Clone, Debug)]
pub(super) enum Network {
    /// Its own, with nothing but a loopback address: `none`. Tests of the seal name others.
    Named(String),
    /// That of another container.
    Of(String),
}

/// What a container is made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) image: Image,
    pub(super) network: Network,
    /// The user and the group of everything that runs in it.
    pub(super) user: (u32, u32),
    pub(super) limits: CellLimits,
    pub(super) lease: String,
    pub(super) lifetime: Duration,
    /// Names that mean the container itself.
    pub(super) aliases: Vec<String>,
    /// The folder that is shown as the cell's own.
    pub(super) own: Option<PathBuf>,
    /// Files that are shown, read-only: here and inside.
    pub(super) files: Vec<(PathBuf, &'static str)>,
}

impl Plan {
    fn request(&self, name: &str, podman: bool) -> ContainerRequest<GenericImage> {
        let seconds = (self.lifetime + SLACK).as_secs();
        let (repository, tag) = self.image.id.split_once(':').unwrap_or((&self.image.id, "latest"));
        let image = GenericImage::new(repository, tag).with_entrypoint("/bin/sh");
        let mut request = image
            .with_cmd(["-c".to_owned(), format!("exec sleep {seconds}")])
            .with_container_name(name)
            .with_user(format!("{}:{}", self.user.0, self.user.1))
            .with_working_dir("/")
            .with_readonly_rootfs(true)
            .with_cap_drop("ALL")
            .with_security_opt("no-new-privileges")
            .with_health_check(Healthcheck::none())
            .with_ulimit("core", 0, Some(0))
            .with_ulimit("nofile", files(), Some(files()))
            .with_startup_timeout(REQUEST_TIME)
            .with_labels(owner::labels(&self.lease, self.lifetime));
        if self.own.is_some() {
            let disk = signed(self.limits.disk.0);
            request = request.with_ulimit("fsize", disk, Some(disk));
        }
        if let Network::Named(_) = self.network {
            request = request.with_hostname("cell");
            for alias in self.aliases.iter().filter(|alias| plain_name(alias)) {
                request = request.with_host(alias.as_str(), Host::Addr(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            }
        }
        // A mount, unlike a bind, is refused when the folder is not there: a daemon elsewhere would make it.
        if let Some(own) = &self.own {
            request = request.with_mount(Mount::bind_mount(own.to_string_lossy(), CELL_FOLDER));
        }
        for (here, inside) in &self.files {
            let mount = Mount::bind_mount(here.to_string_lossy(), *inside);
            request = request.with_mount(mount.with_access_mode(testcontainers::core::AccessMode::ReadOnly));
        }
        let plan = self.clone();
        request.with_host_config_modifier(move |host| plan.limit(host, podman))
    }

    /// What testcontainers has no words for.
    fn limit(&self, host: &mut HostConfig, podman: bool) {
        host.network_mode = Some(match &self.network {
            Network::Named(name) => name.clone(),
            Network::Of(other) => format!("container:{other}"),
        });
        host.publish_all_ports = Some(false);
        host.ipc_mode = Some("private".to_owned());
        host.auto_remove = Some(true);
        host.init = Some(true);
        host.memory = Some(signed(self.limits.memory.0));
        host.memory_swap = host.memory;
        host.pids_limit = Some(i64::from(self.limits.processes));
        let some = signed(self.limits.memory.0 / 4);
        host.shm_size = Some(some);
        let (user, group) = self.user;
        // Docker takes the mode of what lies below instead of ours, so that the owner counts; Podman knows no owner.
        let owner = if podman { String::new() } else { format!("uid={user},gid={group},") };
        let tmpfs = |options: &str| format!("rw,nosuid,nodev,{owner}{options}");
        let mut places = HashMap::from([
            ("/tmp".to_owned(), tmpfs(&format!("exec,mode=1777,size={some}"))),
            ("/var/tmp".to_owned(), tmpfs(&format!("exec,mode=1777,size={some}"))),
            ("/run".to_owned(), tmpfs("noexec,mode=1777,size=16m")),
        ]);
        // Docker makes a writable volume for each of these, on a disk that nobody watches.
        for volume in &self.image.volumes {
            if !volume.starts_with(CELL_FOLDER) {
                let nothing = "ro,nosuid,nodev,noexec,size=4k,mode=0555";
                places.entry(volume.clone()).or_insert_with(|| nothing.to_owned());
            }
        }
        host.tmpfs = Some(places);
        host.log_config = Some(testcontainers::bollard::models::HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        });
    }
}

/// A running container. It is removed when this is dropped.
pub(super) struct Cage {
    pub(super) docker: Docker,
    pub(super) id: String,
    made: Mutex<Option<ContainerAsync<GenericImage>>>,
    /// As long as this is open the container lives.
    _lifeline: Mutex<Pin<Box<dyn AsyncWrite + Send>>>,
}

impl Cage {
    /// Starts a container, and ties its life to ours.
    pub(super) async fn start(Daemon { docker, podman }: Daemon, plan: Plan) -> Result<Self> {
        let name = owner::name();
        let unfinished = Unfinished(Some((docker.clone(), name.clone())));
        let made = plan.request(&name, podman).start().await.map_err(|e| not_started(&plan, &e))?;
        let id = made.id().to_owned();
        let command = Command::new(["/bin/sh", "-c", LIFELINE]).fed();
        let lifeline = Exec::start(&docker, &id, command).await?.into_input();
        unfinished.finish();
        Ok(Self { docker, id, made: Mutex::new(Some(made)), _lifeline: Mutex::new(lifeline) })
    }

    /// Removes the container with everything in it. Who calls it while another does waits for the other.
    pub(super) fn kill(&self) {
        let mut held = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(made), Ok(handle)) = (held.take(), daemon::handle()) else { return };
        let docker = self.docker.clone();
        let removal = async move {
            discard(&docker, made).await;
            Ok(())
        };
        // Who does the work cannot wait for it.
        if tokio::runtime::Handle::try_current().is_ok_and(|here| here.id() == handle.id()) {
            handle.spawn(removal);
            return;
        }
        if let Err(error) = daemon::wait(removal, GONE_TIME + REQUEST_TIME, &Watch::unlimited()) {
            tracing::warn!("container {}: {}", self.id, error.chain());
        }
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A container that may have been made, and that nothing ties to our life yet. It is removed with this: when it does
/// not start, and when nobody waits for it any more.
struct Unfinished(Option<(Docker, String)>);

impl Unfinished {
    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let (Some((docker, name)), Ok(handle)) = (self.0.take(), daemon::handle()) else { return };
        handle.spawn(async move {
            // A request that was given up may still be on its way.
            for _ in 0..5 {
                if let Err(error) = remove(&docker, &name).await {
                    tracing::warn!("{}", error.chain());
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
}

/// Removes a container, and waits until it is gone.
async fn discard(docker: &Docker, made: ContainerAsync<GenericImage>) {
    let id = made.id().to_owned();
    // The daemon may be about to remove it on its own.
    if let Err(error) = made.rm().await {
        tracing::debug!("container {id}: {error}");
    }
    if let Err(error) = remove(docker, &id).await {
        tracing::warn!("{}", error.chain());
    }
}

/// Removes a container by its name or id, and waits until it is gone.
pub(super) async fn remove(docker: &Docker, id: &str) -> Result<()> {
    let failed = || Error::new(ErrorKind::Scratch, format!("remove the container {id}"));
    let work = async {
        loop {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            match docker.remove_container(id, Some(options)).await {
                Err(e) if daemon::refusal(&e) == Some(404) => return Ok(()),
                // Somebody else is removing it.
                Ok(())
                | Err(testcontainers::bollard::errors::Error::DockerResponseServerError {
                    status_code: 409,
                    ..
                }) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(e) => return Err(failed().from_source(&e)),
            }
        }
    };
    tokio::time::timeout(GONE_TIME, work).await.unwrap_or_else(|_| {
        Err(failed().because(format!("it was still there after {} s", GONE_TIME.as_secs())))
    })
}

fn not_started(plan: &Plan, error: &testcontainers::TestcontainersError) -> Error {
    let mut failed =
        Error::new(ErrorKind::Unavailable, format!("start a container of {}", plan.image.reference))
            .from_source(error);
    let said = failed.chain();
    if said.contains("bind source path does not exist") {
        failed.kind = ErrorKind::Unsealed;
        return failed.advise(NOT_HERE);
    }
    if said.contains("docker-init") || said.contains("init binary") {
        return failed.advise("install the small init that the daemon puts into containers: tini for Docker, catatonit for Podman");
    }
    if said.contains("/bin/sh") {
        return failed
            .advise("the image needs /bin/sh and a few other programs; name another one in the config");
    }
    failed
}

/// What to do about a daemon that does not see our files.
pub(super) const NOT_HERE: &str = "the container daemon has to run on this machine and to see the scratch folder: \
    unset DOCKER_HOST, put scratch in a folder that is shared with it (--scratch), or use the process runtime";

/// How many files one program may open: as many as ours may, within reason. What daemons give by default differs by
/// orders of magnitude, and may be more than they may give.
fn files() -> i64 {
    signed(getrlimit(Resource::Nofile).maximum.unwrap_or(FILES_MAX).min(FILES_MAX))
}

/// Names that may stand in `/etc/hosts`.
fn plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 256
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
