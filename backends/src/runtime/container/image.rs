//! Which image has what a kit asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firedrill_core::cell::{CellLimits, Kit, Software, Version};
use firedrill_core::config::runtime::{ContainerRuntimeConfig, Pull};
use firedrill_core::config::units::Size;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use testcontainers::bollard::Docker;
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerRequest, GenericImage};

use super::cage::{Cage, Network, Plan, START_TIME};
use super::daemon::{self, Daemon};
use super::exec::{self, Command, Exec, Said};
use crate::runtime::process::find::USUAL;

const SCRIPT: &str = include_str!("find.sh");
/// Pulling one image may take this long.
pub(super) const PULL_TIME: Duration = Duration::from_secs(15 * 60);
/// Looking for programs in an image may take this long.
const LOOK_TIME: Duration = Duration::from_secs(60);
/// What the script says must not be longer than this.
const SAID_MAX: usize = 1 << 20;
/// Images of engines, unless the config names others. There is none for etcd: its official images hold etcd alone,
/// and what tries a seal needs a shell.
const USUAL_IMAGES: [(&str, &str); 2] = [("postgres", "postgres:{major}"), ("mariadb", "mariadb:{version}")];

/// An image that is there.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// What was asked for.
    pub(super) reference: String,
    /// `sha256:...`: names may mean something else tomorrow.
    pub(super) id: String,
    /// Folders for which a volume would be made.
    pub(super) volumes: Vec<String>,
    /// Its `PATH`.
    pub(super) path: Option<String>,
}

/// An image with the software of a kit.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) software: Software,
    pub(super) image: Image,
    /// The folder of the first program.
    pub(super) folder: String,
    /// Where each program is.
    pub(super) programs: BTreeMap<String, String>,
}

/// The image that the config or custom names for a kit.
pub(super) fn reference(kit: &Kit, config: &ContainerRuntimeConfig) -> Result<String> {
    let usual = USUAL_IMAGES.iter().find(|(name, _)| *name == kit.name).map(|(_, image)| *image);
    let configured = config.images.get(&kit.name).map(String::as_str);
    let failed = || Error::new(ErrorKind::Unavailable, format!("find an image of {kit}"));
    let Some(pattern) = configured.or(usual) else {
        return Err(failed().because("no image of it is known").advise(name_one(kit)));
    };
    let filled = match kit.at_least.or(kit.at_most) {
        Some(version) => fill(pattern, &kit.name, version),
        // Without a version the newest one has to do.
        None => match pattern.rsplit_once(':') {
            Some((repository, tag)) if tag.contains('{') => format!("{repository}:latest"),
            _ => pattern.to_owned(),
        },
    };
    if filled.is_empty() || filled.contains(['{', '}', ' ']) || filled.starts_with('-') {
        return Err(failed()
            .because(format!("`{pattern}` is no name of an image, even with a version in it"))
            .advise(name_one(kit)));
    }
    Ok(with_tag(&filled))
}

fn fill(pattern: &str, kit: &str, version: Version) -> String {
    // Before PostgreSQL 10 the first two numbers were the major version.
    let old = kit == "postgres" && version.major < 10;
    let major = if old { version.to_string() } else { version.major.to_string() };
    pattern.replace("{major}", &major).replace("{version}", &version.to_string())
}

/// The reference with a tag, if it has neither a tag nor a digest.
fn with_tag(reference: &str) -> String {
    let name = reference.rsplit_once('/').map_or(reference, |(_, name)| name);
    if name.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

fn name_one(kit: &Kit) -> String {
    format!("name one in the config: `runtime: {{ container: {{ images: {{ {}: ... }} }} }}`", kit.name)
}

/// Makes sure that an image is there, and says what is in it.
pub(super) async fn get(docker: &Docker, reference: &str, pull: Pull) -> Result<Image> {
    if pull == Pull::Always {
        pull_now(reference).await?;
    }
    match inspect(docker, reference).await? {
        Some(image) => Ok(image),
        None if pull == Pull::Never => {
            Err(Error::new(ErrorKind::Unavailable, format!("find the image {reference}"))
                .because("there is no such image, and the config says never to pull one")
                .advise(LOAD))
        }
        None => {
            pull_now(reference).await?;
            inspect(docker, reference).await?.ok_or_else(|| {
                Error::new(ErrorKind::Unavailable, format!("find the image {reference}"))
                    .because("it was pulled, and is not there")
            })
        }
    }
}

const LOAD: &str = "bring it here with `docker load` or `docker pull`, or name another one in the config: \
    `runtime: { container: { images: ..., pull: ... } }`";

async fn pull_now(reference: &str) -> Result<()> {
    let failed = || {
        Error::new(ErrorKind::Unavailable, format!("pull the image {reference}"))
            .because("it cannot be pulled")
            .advise(LOAD)
    };
    let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
    tracing::info!("pulling the image {reference}");
    let request: ContainerRequest<GenericImage> = GenericImage::new(repository, tag).into();
    match tokio::time::timeout(PULL_TIME, request.pull_image()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(failed().from_source(&e)),
        Err(_) => Err(failed().because(format!("it took longer than {} s", PULL_TIME.as_secs()))),
    }
}

async fn inspect(docker: &Docker, reference: &str) -> Result<Option<Image>> {
    let attempted = format!("look at the image {reference}");
    let failed = || Error::new(ErrorKind::Unavailable, attempted.clone());
    let seen = match tokio::time::timeout(daemon::REQUEST_TIME, docker.inspect_image(reference)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(e)) if daemon::refusal(&e) == Some(404) => return Ok(None),
        Ok(Err(e)) => return Err(failed().from_source(&e)),
        Err(_) => return Err(failed().because("the container daemon did not answer in time")),
    };
    let id = seen.id.ok_or_else(|| failed().because("it has no id"))?;
    // Podman leaves out the name of the digest.
    let id = if id.contains(':') { id } else { format!("sha256:{id}") };
    let config = seen.config.unwrap_or_default();
    let path = config.env.iter().flatten().find_map(|line| line.strip_prefix("PATH=")).map(str::to_owned);
    let volumes = config.volumes.into_iter().flatten().collect();
    Ok(Some(Image { reference: reference.to_owned(), id, volumes, path }))
}

/// Looks for the programs of `kit` in `image`, in a container that is sealed like a cell.
pub(super) fn look(daemon: &Daemon, image: Image, kit: &Kit, watch: &Watch) -> Result<Found> {
    let plan = Plan {
        image: image.clone(),
        network: Network::Named("none".to_owned()),
        user: (65534, 65534),
        limits: CellLimits { memory: Size(1 << 30), processes: 256, disk: Size(0) },
        lease: "offers".to_owned(),
        lifetime: LOOK_TIME,
        aliases: Vec::new(),
        own: None,
        files: Vec::new(),
    };
    let cage = Arc::new(daemon::wait(Cage::start(daemon.clone(), plan), START_TIME, watch)?);
    let mut arguments = vec!["/bin/sh".to_owned(), "-c".to_owned(), SCRIPT.to_owned(), "find".to_owned()];
    arguments.push(USUAL.join(" "));
    arguments.extend(kit.programs.iter().cloned());
    let (listened, command) = (Arc::clone(&cage), Command::new(arguments));
    let listening = async move { listen(&listened, command).await };
    let said = daemon::wait(listening, LOOK_TIME, watch);
    cage.kill();
    let said = said?;
    let failed =
        || Error::new(ErrorKind::Unavailable, format!("look for {kit} in the image {}", image.reference));
    if !said.lines().any(|line| line == "done") {
        return Err(failed().because(format!("what looks there did not end well: {}", said.trim())));
    }
    choose(kit, &image, &said).map_err(|why| failed().because(why).advise(name_one(kit)))
}

/// Everything that a short program says on its standard output.
async fn listen(cage: &Cage, command: Command) -> Result<String> {
    let mut exec = Exec::start(&cage.docker, &cage.id, command).await?;
    let mut all = Vec::new();
    while let Some(said) = exec::next(&mut exec.output)
        .await
        .map_err(|e| Error::new(ErrorKind::Unavailable, "read from a container").from_source(&e))?
    {
        if let Said::Out(bytes) = said
            && all.len() < SAID_MAX
        {
            all.extend_from_slice(&bytes);
        }
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// The lowest version that will do, with every program. `Err` says in words what is missing.
fn choose(kit: &Kit, image: &Image, said: &str) -> std::result::Result<Found, String> {
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.splitn(3, '\t').collect()).collect();
    let mut fitting = Vec::new();
    let mut refused = Vec::new();
    for line in &lines {
        let ["first", path, said] = line.as_slice() else { continue };
        match said.parse::<Version>() {
            Ok(version) if kit.accepts(version) => fitting.push((Some(version), *path)),
            Ok(version) => refused.push(format!("{path} is version {version}")),
            // Where any version will do, one that is not told will do too.
            Err(_) if kit.at_least.is_none() && kit.at_most.is_none() && fitting.is_empty() => {
                fitting.push((None, *path));
            }
            Err(_) => refused.push(format!("{path} does not tell its version")),
        }
    }
    fitting.sort();
    let Some((version, path)) = fitting.first() else {
        let first = kit.programs.first().map_or("", String::as_str);
        refused.dedup();
        return Err(if refused.is_empty() { format!("there is no `{first}`") } else { refused.join("; ") });
    };
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder).to_owned();
    let mut programs = BTreeMap::new();
    for (rank, name) in kit.programs.iter().enumerate() {
        let places = lines.iter().filter_map(|line| match line.as_slice() {
            ["other", other, path] if other == name => Some(*path),
            _ => None,
        });
        let beside = format!("{folder}/");
        let mut places: Vec<_> = if rank == 0 { vec![*path] } else { places.collect() };
        places.sort_by_key(|path| !path.starts_with(&beside));
        let place = places.first().ok_or_else(|| format!("`{name}` is missing beside {path}"))?;
        programs.insert(name.clone(), (*place).to_owned());
    }
    let short: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
    let from = format!("{} ({short})", image.reference);
    let software = Software { kit: kit.name.clone(), version: *version, from };
    Ok(Found { software, image: image.clone(), folder, programs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit(name: &str, at_least: Option<Version>) -> Kit {
        let programs = vec!["postgres".to_owned(), "psql".to_owned()];
        Kit { name: name.to_owned(), at_least, at_most: None, programs }
    }

    #[test]
    fn references_are_filled_with_the_version_that_a_backup_asks_for() {
        let images = [("app", "example.com:5000/app:{major}"), ("fixed", "fixed"), ("odd", "{major}/x")];
        let config = ContainerRuntimeConfig {
            images: images.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..ContainerRuntimeConfig::default()
        };
        for (name, version, expected) in [
            ("postgres", Some(Version::new(15, 0)), "postgres:15"),
            ("postgres", Some(Version::new(9, 6)), "postgres:9.6"),
            ("postgres", None, "postgres:latest"),
            ("mariadb", Some(Version::new(10, 11)), "mariadb:10.11"),
            ("app", Some(Version::new(3, 1)), "example.com:5000/app:3"),
            ("fixed", None, "fixed:latest"),
        ] {
            assert_eq!(reference(&kit(name, version), &config).unwrap(), expected);
        }
        for name in ["etcd", "odd"] {
            let error = reference(&kit(name, None), &config).unwrap_err().chain();
            assert!(error.contains("images: {"), "{error}");
        }
        assert_eq!(with_tag("a:5000/b"), "a:5000/b:latest");
        assert_eq!(with_tag("a/b@sha256:00"), "a/b@sha256:00");
    }

    #[test]
    fn the_lowest_version_that_fits_is_chosen_with_its_own_programs() {
        let image = Image {
            reference: "i:1".into(),
            id: "sha256:0123456789abcdef".into(),
            volumes: vec![],
            path: None,
        };
        let said = "first\t/usr/bin/postgres\tpostgres (PostgreSQL) 17.1\n\
            first\t/opt/15/postgres\tpostgres (PostgreSQL) 15.2\nother\tpsql\t/usr/bin/psql\n\
            other\tpsql\t/opt/15/psql\ndone\n";
        let wanted = kit("postgres", Some(Version::new(15, 0)));
        let found = choose(&wanted, &image, said).unwrap();
        assert_eq!((found.software.version, found.folder.as_str()), (Some(Version::new(15, 2)), "/opt/15"));
        assert_eq!(found.programs.get("psql").unwrap(), "/opt/15/psql");
        assert_eq!(found.software.from, "i:1 (0123456789ab)");
        let why = choose(&kit("postgres", Some(Version::new(18, 0))), &image, said).unwrap_err();
        assert!(why.contains("is version 15.2"), "{why}");
        assert!(choose(&wanted, &image, "done\n").unwrap_err().contains("there is no `postgres`"));
        let mute = "first\t/usr/bin/postgres\t\nother\tpsql\t/usr/bin/psql\ndone\n";
        assert!(choose(&wanted, &image, mute).unwrap_err().contains("does not tell its version"));
        assert_eq!(choose(&kit("postgres", None), &image, mute).unwrap().software.version, None);
        let alone = "first\t/usr/bin/postgres\tpostgres 15.1\ndone\n";
        assert!(choose(&wanted, &image, alone).unwrap_err().contains("`psql` is missing"));
    }
}
