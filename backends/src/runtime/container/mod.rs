//! The `container` runtime: a container for each kit, made by testcontainers.
//!
//! A cell is modelled on a pod: the first container owns a network that holds nothing but a loopback address
//! (`none`: on an internal network this machine can still be reached), the others live in it. They see one folder of
//! the lease, as `/cell`. Nothing else can be written but small file systems in memory. Programs run as a user of the
//! cell's own, without any rights. Memory and processes are limited per container, the disk by watching it.
//!
//! testcontainers makes, starts and removes containers, and pulls images; bollard, its client, does what it has
//! no words for: programs with a standard input, exit codes, labels of what others left.
//!
//! | file | what lives there |
//! |---|---|
//! | `daemon` | the daemon, and how blocking code asks it |
//! | `image` | which image has what a kit asks for |
//! | `cage` | one container, which dies with firedrill |
//! | `exec`, `marked` | programs in a container, and the true end of their output |
//! | `service` | servers |
//! | `wire` | connections to them |
//! | `cell` | a cell of several containers |
//! | `owner` | labels, and what a sweep may remove |

mod cage;
mod cell;
mod daemon;
mod exec;
mod image;
mod marked;
mod owner;
mod service;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use firedrill_core::cell::{Cell, CellLimits, CellRequest, Kit, Runtime, Seal, SealPart, Software};
use firedrill_core::config::runtime::{ContainerRuntimeConfig, RuntimeConfig};
use firedrill_core::error::{ErrorKind, Result};
use firedrill_core::ports::Swept;
use firedrill_core::watch::Watch;
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::ListContainersOptionsBuilder;

use super::{seal, unique};
use daemon::Daemon;

/// Makes cells out of containers.
pub struct ContainerRuntime {
    config: ContainerRuntimeConfig,
    limits: CellLimits,
    accepted: Vec<SealPart>,
    network: String,
    daemon: Mutex<Option<Daemon>>,
    /// What became of each image that was asked for. Pulling is not tried again in one run.
    images: Mutex<BTreeMap<String, Result<image::Image>>>,
    /// What was found in each image, by its id and what was looked for.
    found: Mutex<BTreeMap<String, Result<image::Found>>>,
}

impl ContainerRuntime {
    /// A runtime with these settings.
    pub fn new(config: &RuntimeConfig) -> Self {
        Self {
            config: config.container.clone(),
            limits: config.limits(),
            accepted: config.accept_unsealed.clone(),
            network: "none".to_owned(),
            daemon: Mutex::default(),
            images: Mutex::default(),
            found: Mutex::default(),
        }
    }

    /// With another network than none, to prove that the seal notices.
    #[doc(hidden)]
    #[must_use]
    pub fn on_network(mut self, name: &str) -> Self {
        self.network = name.to_owned();
        self
    }

    fn daemon(&self) -> Result<Daemon> {
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(daemon) = &*daemon {
            return Ok(daemon.clone());
        }
        let new = daemon::wait(daemon::find(), daemon::REQUEST_TIME, &Watch::unlimited())?;
        Ok(daemon.insert(new).clone())
    }

    fn find(&self, kit: &Kit, watch: &Watch) -> Result<image::Found> {
        let daemon = self.daemon()?;
        let reference = image::reference(kit, &self.config)?;
        let image = known(&self.images, reference.clone(), || {
            let (docker, pull) = (daemon.docker.clone(), self.config.pull);
            daemon::wait(
                async move { image::get(&docker, &reference, pull).await },
                image::PULL_TIME * 2,
                watch,
            )
        })?;
        let key = format!("{} {kit} {}", image.id, kit.programs.join(" "));
        known(&self.found, key, || image::look(&daemon, image, kit, watch))
    }
}

/// What is known of `key`; who asks first finds out. That somebody stopped waiting says nothing.
fn known<T: Clone>(
    all: &Mutex<BTreeMap<String, Result<T>>>,
    key: String,
    find: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = all.get(&key) {
        return known.clone();
    }
    let found = find();
    if !found.as_ref().is_err_and(|e| matches!(e.kind, ErrorKind::Cancelled | ErrorKind::Timeout)) {
        all.insert(key, found.clone());
    }
    found
}

impl Runtime for ContainerRuntime {
    fn name(&self) -> &'static str {
        "container"
    }

    /// Pulls the image if it has to, and asks the programs in it for their version: tags lie.
    fn offers(&self, kit: &Kit) -> Result<Software> {
        self.find(kit, &Watch::unlimited()).map(|found| found.software)
    }

    fn open(&self, request: &CellRequest<'_>) -> Result<Box<dyn Cell>> {
        let found =
            request.kits.iter().map(|kit| self.find(kit, &request.watch)).collect::<Result<Vec<_>>>()?;
        let mut cell = cell::ContainerCell::new(&self.daemon()?, request, found, self.limits, &self.network)?;
        let mut parts = BTreeMap::new();
        for kit in request.kits {
            let mut own = seal::try_from_inside(&cell, &kit.name)?;
            own.insert(SealPart::Limits, cell.limits_state(&kit.name));
            seal::merge(&mut parts, own);
        }
        // What could not be tried because somebody said stop says nothing about the seal.
        request.watch.check()?;
        cell.sealed(Seal { parts, accepted: self.accepted.clone() })?;
        Ok(Box::new(cell))
    }

    /// Where there is no daemon nothing was left behind.
    fn sweep(&self) -> Result<Swept> {
        let docker = match self.daemon() {
            Ok(daemon) => daemon.docker,
            Err(error) => {
                tracing::debug!("no containers to sweep: {}", error.chain());
                return Ok(Swept::default());
            }
        };
        daemon::wait(sweep(docker), daemon::REQUEST_TIME * 5, &Watch::unlimited())
    }
}

async fn sweep(docker: Docker) -> Result<Swept> {
    let labelled = ("label", vec![owner::OWNER]);
    // Podman has a state more than Docker, which the client cannot read: `stopped`, on the way to be removed.
    let states = ("status", vec!["created", "running", "paused"]);
    let list = async |filters: &HashMap<&str, Vec<&str>>| {
        let options = ListContainersOptionsBuilder::new().all(true).filters(filters).build();
        daemon::ask("list containers", docker.list_containers(Some(options))).await
    };
    let listed = match list(&HashMap::from([labelled.clone()])).await {
        Ok(listed) => listed,
        Err(_) => list(&HashMap::from([labelled, states])).await?,
    };
    let mut swept = Swept::default();
    for container in listed {
        let (Some(id), labels) = (container.id, container.labels.unwrap_or_default()) else { continue };
        let short: String = id.chars().take(12).collect();
        let lease = labels.get(owner::LEASE).map_or("", String::as_str);
        let name = format!("container {short} of {lease}");
        if !owner::abandoned(&labels) {
            swept.in_use.push(name);
            continue;
        }
        match cage::remove(&docker, &id).await {
            Ok(()) => swept.removed.push(name),
            Err(error) => swept.failed.push(format!("{name}: {}", error.chain())),
        }
    }
    Ok(swept)
}
