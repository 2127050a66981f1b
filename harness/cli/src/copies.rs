//! Copies: from arguments or config to repositories that were asked what they hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use firedrill_backends::job::{ObjectPlace, Place};
use firedrill_backends::repository::location::{Access, Environment, Location, repository_address};
use firedrill_backends::repository::objects::{ObjectSettings, Objects};
use firedrill_backends::repository::password::PasswordSource;
use firedrill_backends::repository::restic::Restic;
use firedrill_core::canary;
use firedrill_core::clock::SystemClock;
use firedrill_core::config::{BackupKind, Config, CopyConfig, Cron, Role, TargetConfig};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::finding::Finding;
use firedrill_core::manifest::Manifest;
use firedrill_core::ports::{Inventory, Repository};
use firedrill_core::run::OpenCopy;
use firedrill_core::secret::{Secret, redact_urls};
use firedrill_core::snapshot::{CopyName, Series, Snapshot};
use firedrill_core::watch::Watch;
use jiff::tz::TimeZone;

use crate::args::RepositoryArgs;

/// Requests at a time to a repository that is not on a local disk.
const REMOTE_WORKERS: usize = 6;

/// How long a folder that is no repository is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// One copy, before anything was read from it.
pub(crate) struct CopySpec {
    pub(crate) name: CopyName,
    /// Without secrets.
    pub(crate) location: String,
    open: Result<Opening>,
}

struct Opening {
    location: Location,
    access: Access,
    /// What tells how to read it.
    format: Format,
    canary_key: Option<Secret>,
}

enum Format {
    Restic(PasswordSource),
    Objects(ObjectSettings),
}

/// The one copy that the arguments name. What is wrong with the arguments is an error at once.
pub(crate) fn from_arguments(args: &RepositoryArgs) -> Result<Vec<CopySpec>> {
    let env = Environment::capture();
    let address = repository_address(args.repository.as_deref(), args.repository_file.as_deref(), &env)?;
    let location = Location::parse(&address)?;
    let kind = args.kind.of_backup();
    let given =
        PasswordSource::resolve(args.password_file.as_deref(), args.password_command.as_deref(), &env);
    let mut access = Access::from_environment(env);
    access.ca_cert = args.cacert.clone().or(access.ca_cert);
    access.region = args.region.clone();
    access.path_style = args.path_style;
    access.options = options(&args.options)?;
    let format = if kind.is_plain_objects() {
        Format::Objects(ObjectSettings { kind, patterns: args.objects.clone(), schedules: Vec::new() })
    } else if !args.objects.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "read names of objects in a restic repository")
            .because("its files are named by their content")
            .advise("add --kind object-dump, or leave out --objects"));
    } else {
        Format::Restic(given.map_err(|error| needless(error, &location, &access))?)
    };
    Ok(vec![CopySpec {
        name: CopyName("primary".to_owned()),
        location: location.redacted(),
        open: Ok(Opening { location, access, format, canary_key: None }),
    }])
}

/// A password that is missing is beside the point where there is no repository, but dumps.
fn needless(error: Error, location: &Location, access: &Access) -> Error {
    let Location::Local(_) = location else { return error };
    let Some(other) = location.open(access).err() else { return error };
    let told = or_objects(other.clone(), location, access.clone(), &Watch::unlimited());
    if told == other { error } else { told }
}

fn options(pairs: &[String]) -> Result<BTreeMap<String, String>> {
    pairs
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Error::new(ErrorKind::Usage, format!("understand the option {pair}"))
                .because("it has no `=`")
                .advise("write --option KEY=VALUE")),
        })
        .collect()
}

/// The copies of a config. A copy whose secrets cannot be had is reported like one that cannot be read:
/// the other copies are drilled all the same.
pub(crate) fn from_config(config: &Config, only: &[String]) -> Result<Vec<CopySpec>> {
    for name in only {
        if config.copy(&CopyName(name.clone())).is_none() {
            let known: Vec<_> = config.copies.iter().map(|c| c.name.as_str()).collect();
            return Err(Error::new(ErrorKind::Usage, format!("find the copy {name}"))
                .because(format!("the config has {}", known.join(", "))));
        }
    }
    let env = Environment::capture();
    let key = canary_key(config, &env);
    let chosen = config.copies.iter().filter(|c| only.is_empty() || only.contains(&c.name));
    Ok(chosen
        .map(|copy| CopySpec {
            name: copy.copy_name(),
            location: copy.location(),
            open: key.clone().and_then(|key| opening(config, copy, &env, key)),
        })
        .collect())
}

/// The key of canaries, if the config names one.
pub(crate) fn canary_key(config: &Config, env: &Environment) -> Result<Option<Secret>> {
    let fail = || Error::new(ErrorKind::Usage, "read the canary key");
    let text = match (&config.canary.key_file, &config.canary.key_env) {
        (Some(file), _) => std::fs::read_to_string(file)
            .map_err(|e| fail().because(file.display().to_string()).from_source(&e))?,
        (None, Some(name)) => {
            env.get(name).ok_or_else(|| fail().because(format!("the variable {name} is not set")))?.to_owned()
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(Secret::new(text.trim())))
}

/// The copy called `name`.
pub(crate) fn known_copy<'c>(config: &'c Config, name: &CopyName) -> Result<&'c CopyConfig> {
    config.copy(name).ok_or_else(|| {
        let known: Vec<_> = config.copies.iter().map(|c| c.name.as_str()).collect();
        Error::new(ErrorKind::Usage, format!("find the copy {name}"))
            .because(format!("the config has {}", known.join(", ")))
    })
}

/// A copy as a place of plain objects, or as the bucket that it is in.
pub(crate) fn object_place(copy: &CopyConfig, env: &Environment) -> Result<ObjectPlace> {
    let env = own_variables(copy, env)?;
    let location = Location::parse(&copy.repository)?;
    Ok(ObjectPlace { name: copy.name.clone(), location, access: access(copy, env) })
}

/// How the names of the objects of a copy are read.
pub(crate) fn object_settings(config: &Config, copy: &CopyConfig) -> Result<ObjectSettings> {
    Ok(ObjectSettings {
        kind: copy.kind,
        patterns: copy.object_patterns()?,
        schedules: schedules(config, copy),
    })
}

/// A copy as a place that jobs write to.
pub(crate) fn place(copy: &CopyConfig, env: &Environment) -> Result<Place> {
    let env = own_variables(copy, env)?;
    let location = Location::parse(&copy.repository)?;
    if copy.kind != BackupKind::Restic {
        return Err(Error::new(ErrorKind::Usage, format!("write to the copy {}", copy.name))
            .because(format!("it holds {} backups, and no restic repository", copy.kind)));
    }
    let password = password(copy, &env)?;
    Ok(Place { name: copy.name.clone(), location, access: access(copy, env), password, make: false })
}

fn opening(
    config: &Config,
    copy: &CopyConfig,
    env: &Environment,
    canary_key: Option<Secret>,
) -> Result<Opening> {
    if let Some(refusal) = copy.refusal() {
        return Err(refusal);
    }
    let location = Location::parse(&copy.repository)?;
    let env = own_variables(copy, env)?;
    let format = if copy.kind.is_plain_objects() {
        Format::Objects(object_settings(config, copy)?)
    } else {
        Format::Restic(password(copy, &env)?)
    };
    Ok(Opening { location, access: access(copy, env), format, canary_key })
}

/// The environment, with what the copy has under names of its own under the usual ones.
fn own_variables(copy: &CopyConfig, env: &Environment) -> Result<Environment> {
    let options = &copy.options;
    let mut env = env.clone();
    for (own, usual) in [
        (&options.access_key_id_env, "AWS_ACCESS_KEY_ID"),
        (&options.secret_access_key_env, "AWS_SECRET_ACCESS_KEY"),
        (&options.username_env, "RESTIC_REST_USERNAME"),
        (&options.password_env, "RESTIC_REST_PASSWORD"),
    ] {
        if let Some(own) = own {
            let value = env.get(own).map(str::to_owned).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("open the copy {}", copy.name))
                    .because(format!("the variable {own} is not set"))
            })?;
            env = env.with(usual, &value);
        }
    }
    if let Some(profile) = &options.profile {
        env = env.with("AWS_PROFILE", profile);
    }
    Ok(env)
}

fn access(copy: &CopyConfig, env: Environment) -> Access {
    let mut access = Access::from_environment(env);
    access.ca_cert = copy.ca_cert.clone().or(access.ca_cert);
    access.region = copy.options.region.clone();
    access.path_style = copy.options.path_style;
    access
}

/// When the series of a copy are written. A mirror is filled when it is filled: about it, promises count.
fn schedules(config: &Config, copy: &CopyConfig) -> Vec<(String, Cron, TimeZone)> {
    if copy.role == Role::Mirror {
        return Vec::new();
    }
    let targets = config.targets.iter().filter(|t| t.belongs_in(&copy.copy_name(), copy.kind));
    let schedule = |target: &TargetConfig| match (target.series(), &target.schedule) {
        (Series::Tag(name), Some(cron)) => Some((name, cron.clone(), config.timezone.get().clone())),
        _ => None,
    };
    targets.filter_map(schedule).collect()
}

fn password(copy: &CopyConfig, env: &Environment) -> Result<PasswordSource> {
    match &copy.password_env {
        Some(name) => {
            let value = env.get(name).map(str::to_owned).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("open the copy {}", copy.name))
                    .because(format!("the variable {name} is not set"))
            })?;
            PasswordSource::resolve(None, None, &Environment::default().with("RESTIC_PASSWORD", &value))
        }
        None => PasswordSource::resolve(copy.password_file.as_deref(), copy.password_command.as_deref(), env),
    }
}

/// Makes sure that nothing is written into a repository: a restore test leaves it as it was, whatever
/// paths somebody types.
pub(crate) fn keep_out<'p>(specs: &[CopySpec], places: impl IntoIterator<Item = &'p Path>) -> Result<()> {
    let local = |spec: &CopySpec| match &spec.open {
        Ok(Opening { location: Location::Local(path), .. }) => path.canonicalize().ok(),
        _ => None,
    };
    let repositories: Vec<PathBuf> = specs.iter().filter_map(local).collect();
    for place in places {
        let real = place.ancestors().find_map(|folder| {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            folder.canonicalize().ok()
        });
        if real.is_some_and(|real| repositories.iter().any(|repository| real.starts_with(repository))) {
            return Err(Error::new(ErrorKind::Usage, format!("write to {}", place.display()))
                .because("it is in the repository, which is only read")
                .advise("choose another place"));
        }
    }
    Ok(())
}

/// Fails when a copy cannot be opened for a reason that a person has to change in the arguments.
pub(crate) fn refuse_unusable(copies: &BTreeMap<CopyName, OpenCopy>) -> Result<()> {
    let unusable = |copy: &OpenCopy| {
        copy.inventory.as_ref().err().filter(|error| error.kind == ErrorKind::Usage).cloned()
    };
    copies.values().find_map(unusable).map_or(Ok(()), Err)
}

/// Opens all copies at the same time and asks what they hold.
pub(crate) async fn open(specs: Vec<CopySpec>, watch: &Watch) -> BTreeMap<CopyName, OpenCopy> {
    let mut waiting = Vec::new();
    for spec in specs {
        let watch = watch.clone();
        let name = spec.name.clone();
        waiting.push((name, tokio::task::spawn_blocking(move || open_one(spec, &watch))));
    }
    let mut copies = BTreeMap::new();
    for (name, task) in waiting {
        let limited = async {
            match watch.left() {
                Some(left) => tokio::time::timeout(left, task).await.map_err(|_| watch.timed_out()),
                None => Ok(task.await),
            }
        };
        let stopped = async {
            while !watch.stopped() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let result = tokio::select! {
            done = limited => done,
            () = stopped => Err(watch.check().err().unwrap_or_else(|| watch.timed_out())),
        };
        let copy = match result {
            Ok(Ok(copy)) => copy,
            Ok(Err(join)) => unreadable(panicked(join)),
            Err(error) => unreadable(error),
        };
        copies.insert(name, copy);
    }
    copies
}

fn panicked(join: tokio::task::JoinError) -> Error {
    let error = Error::new(ErrorKind::Internal, "open the repository");
    error.because(format!("a library panicked: {join}")).advise("please report it")
}

fn open_one(spec: CopySpec, watch: &Watch) -> OpenCopy {
    let opened = spec.open.and_then(|opening| match opening.format {
        Format::Restic(password) => {
            let remote = !matches!(opening.location, Location::Local(_));
            let backend = match opening.location.open(&opening.access) {
                Ok(backend) => backend,
                Err(error) => return Err(or_objects(error, &opening.location, opening.access, watch)),
            };
            let password = password.read()?;
            let canary_key = opening.canary_key.unwrap_or_else(|| canary::derive_key(&password));
            let mut restic = Restic::new(backend, password);
            if remote {
                restic = restic.with_workers(REMOTE_WORKERS);
            }
            Ok((Arc::new(restic) as Arc<dyn Repository>, Some(canary_key)))
        }
        Format::Objects(settings) => {
            let clock = Arc::new(SystemClock);
            let objects = Objects::open(opening.location, &opening.access, settings, clock)?;
            Ok((Arc::new(objects) as Arc<dyn Repository>, opening.canary_key))
        }
    });
    match opened {
        Ok((repository, canary_key)) => {
            let inventory = repository.snapshots(watch);
            OpenCopy { repository, inventory, canary_key }
        }
        Err(error) => unreadable(error),
    }
}

/// Where there is no restic repository, but a folder full of dumps, says how these are drilled.
fn or_objects(error: Error, location: &Location, access: Access, watch: &Watch) -> Error {
    if error.kind != ErrorKind::NoRepository || !matches!(location, Location::Local(_)) {
        return error;
    }
    // A hint is not worth a long wait.
    let watch = watch.within(Some(LOOK));
    let counted = [BackupKind::Etcd, BackupKind::ObjectDump].into_iter().filter_map(|kind| {
        let settings = ObjectSettings { kind, ..ObjectSettings::default() };
        let objects = Objects::open(location.clone(), &access, settings, Arc::new(SystemClock)).ok()?;
        let count = objects.snapshots(&watch).ok()?.snapshots.len();
        (count > 0).then_some((kind, count))
    });
    let found = counted.max_by_key(|(_, count)| *count);
    let Some((kind, count)) = found else { return error };
    let (what, option) = match kind {
        BackupKind::Etcd => ("snapshots of etcd", "etcd"),
        _ => ("dump files", "object-dump"),
    };
    error.advise(format!(
        "it holds {count} {what}: drill these with --kind {option} (in a config: kind: {kind})"
    ))
}

fn unreadable(mut error: Error) -> OpenCopy {
    error.attempted = redact_urls(&error.attempted);
    OpenCopy { repository: Arc::new(Closed), inventory: Err(error), canary_key: None }
}

/// Stands where no repository could be opened. Nothing is planned for it.
struct Closed;

impl Closed {
    fn error() -> Error {
        Error::new(ErrorKind::Internal, "read a repository that could not be opened")
    }
}

impl Repository for Closed {
    fn snapshots(&self, _: &Watch) -> Result<Inventory> {
        Err(Self::error())
    }

    fn manifest(&self, _: &Snapshot, _: &Watch) -> Result<(Manifest, Vec<Finding>)> {
        Err(Self::error())
    }

    fn restore(
        &self,
        orders: &[firedrill_core::ports::Order<'_>],
    ) -> Vec<Result<firedrill_core::ports::Restored>> {
        orders.iter().map(|_| Err(Self::error())).collect()
    }
}
