//! `firedrill backup`: one backup as the environment says, in place of a shell script around restic.
//!
//! The variables are those of a script that is widely copied; they are listed in `--help`. What they name is backed
//! up, old snapshots go if that is wanted, metrics are pushed, and a failure is told. Nothing in a variable is ever run
//! as a command of a shell.

use std::path::PathBuf;

use firedrill_backends::job::{BackupJob, CheckJob, Place, RetentionJob};
use firedrill_backends::repository::access::Environment;
use firedrill_backends::repository::location::{Access, Location, repository_address};
use firedrill_backends::repository::password::PasswordSource;
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::config::jobs::{
    BackupConfig, CaptureConfig, FilesCapture, IntegrityConfig, RetentionConfig, Rules,
};
use firedrill_core::config::sinks::KnownNames;
use firedrill_core::config::{OneOrMany, TargetConfig, Timezone};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::pipeline::job::{Job, Outcome};
use firedrill_core::pipeline::ledger::Ledger;
use firedrill_core::pipeline::news;
use firedrill_core::pipeline::runner::{self, Bench, Observer, Turn};
use firedrill_core::pipeline::spec::{JobKind, JobName, JobSpec, Mode, Need};
use firedrill_core::retention::Policy;
use firedrill_core::secret::Secret;
use firedrill_core::verdict::Exit;
use firedrill_core::watch::Watch;
use firedrill_reports::jobs::messages::{Login, Messages, Way};
use firedrill_reports::jobs::metrics::JobMetrics;
use firedrill_reports::pushgateway::PushgatewayOptions;

use super::run::line;
use crate::args::BackupArgs;
use crate::{complain, note, state, stop};

/// The name of the copy that the variables name.
const COPY: &str = "repository";
/// The topic of messages, the server, and the tag, where no variable says otherwise.
const TOPIC: &str = "backup";
const SERVER: &str = "ntfy.sh";
const TAG: &str = "bangbang";

pub(crate) fn backup(args: &BackupArgs) -> Result<Exit> {
    let env = Environment::capture();
    let asked = Asked::from(&env)?;
    let state = state::folder(args.state.as_deref(), None);
    let ledger = Ledger::open(&state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(ErrorKind::Internal, "start").from_source(&e))?;
    let exit = runtime.block_on(async {
        let watch = Watch::unlimited().within(args.deadline.map(|deadline| deadline.0));
        stop::on_signal(&watch);
        tokio::task::block_in_place(|| all(&asked, &env, &ledger, &state.join("work"), &watch))
    });
    runtime.shutdown_background();
    exit
}

fn all(
    asked: &Asked,
    env: &Environment,
    ledger: &Ledger,
    work: &std::path::Path,
    watch: &Watch,
) -> Result<Exit> {
    let metrics = asked.metrics();
    let observers: Vec<&dyn Observer> = metrics.iter().map(|metrics| metrics as &dyn Observer).collect();
    let bench = Bench { ledger, clock: &SystemClock, watch: watch.clone(), work, observers: &observers };
    let mut exit = Exit::Verified;
    let mut names = Vec::new();
    for (spec, job) in asked.jobs(env) {
        let run = runner::run(&spec, job.as_ref(), Turn::BY_HAND, &bench)?;
        note(line(&spec, &run));
        names.push(spec.name.clone());
        if run.outcome != Outcome::Succeeded {
            // What comes after a backup that failed would only make it worse.
            exit = Exit::Failed;
            break;
        }
    }
    let mut troubles: Vec<Error> = metrics.iter().flat_map(JobMetrics::troubles).collect();
    if let Some(messages) = asked.messages(env)? {
        troubles.extend(news::tell(ledger, &names, &messages, SystemClock.now(), news::REPEAT).err());
    }
    troubles.iter().for_each(complain);
    Ok(if troubles.is_empty() { exit } else { exit.or(Exit::SinkFailed) })
}

/// What the variables ask for.
struct Asked {
    host: String,
    place: Place,
    paths: Vec<String>,
    tag: Option<String>,
    files: FilesCapture,
    keep: Option<Policy>,
    check: bool,
    pushgateway: Option<String>,
}

impl Asked {
    fn from(env: &Environment) -> Result<Self> {
        let address = repository_address(None, None, env)?;
        let place = Place {
            name: COPY.to_owned(),
            location: Location::parse(&address)?,
            access: Access::from_environment(env.clone()),
            password: PasswordSource::resolve(None, None, env)?,
            make: true,
        };
        let source = env.get("RESTIC_SOURCE").ok_or_else(|| {
            wrong("RESTIC_SOURCE").because("it is not set").advise("set it to the folders to back up")
        })?;
        let mut asked = Self {
            host: env.get("RESTIC_HOSTNAME").map_or_else(own_name, |host| Ok(host.to_owned()))?,
            place,
            paths: words("RESTIC_SOURCE", source)?,
            tag: None,
            files: FilesCapture::default(),
            keep: switch(env, "RESTIC_RETENTION_POLICIES_ENABLED", true)?.then(|| keep(env)).transpose()?,
            check: env.get("RESTIC_CACHE_DIR").is_some(),
            pushgateway: None,
        };
        for path in &asked.paths {
            if !path.starts_with('/') {
                return Err(wrong("RESTIC_SOURCE").because(format!("`{path}` is not absolute")));
            }
        }
        if let Some(more) = env.get("RESTIC_ADDITIONAL_BACKUP_PARAMETERS") {
            asked.parameters(words("RESTIC_ADDITIONAL_BACKUP_PARAMETERS", more)?)?;
        }
        asked.files.paths.clone_from(&asked.paths);
        if switch(env, "PUSHGATEWAY_ENABLED", false)? {
            let url = env
                .get("PUSHGATEWAY_URL")
                .ok_or_else(|| wrong("PUSHGATEWAY_URL").because("it is not set"))?;
            let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
            asked.pushgateway = Some(url);
        }
        Ok(asked)
    }

    /// What restic would understand, as far as it is about what is in a snapshot.
    fn parameters(&mut self, words: Vec<String>) -> Result<()> {
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, own) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let mut value = || {
                own.clone().or_else(|| words.next()).ok_or_else(|| {
                    wrong("RESTIC_ADDITIONAL_BACKUP_PARAMETERS").because(format!("{name} needs a value"))
                })
            };
            match name.as_str() {
                "--tag" => {
                    let tag = value()?;
                    if self.tag.replace(tag).is_some_and(|before| Some(before) != self.tag) {
                        return Err(wrong("RESTIC_ADDITIONAL_BACKUP_PARAMETERS")
                            .because("it names two tags, and a backup is one series"));
                    }
                }
                "-e" | "--exclude" => self.files.exclude.push(value()?),
                "--exclude-file" => self.files.exclude_files.push(PathBuf::from(value()?)),
                "--exclude-caches" => self.files.exclude_caches = true,
                "-x" | "--one-file-system" => self.files.one_file_system = true,
                "-H" | "--host" => self.host = value()?,
                "-v" | "--verbose" | "-q" | "--quiet" | "--no-scan" | "--cleanup-cache" => {}
                other => {
                    return Err(wrong("RESTIC_ADDITIONAL_BACKUP_PARAMETERS")
                        .because(format!("firedrill does not know {other}"))
                        .advise("it knows --tag, --exclude, --exclude-file, --exclude-caches, --one-file-system, --host"));
                }
            }
        }
        Ok(())
    }

    fn spec(&self, name: &str, kind: JobKind, mode: Mode) -> JobSpec {
        JobSpec {
            name: JobName(name.to_owned()),
            kind,
            schedule: None,
            zone: Timezone::default(),
            rules: Rules { metrics_as: Some(self.host.clone()), ..Rules::default() },
            needs: vec![Need { copy: COPY.to_owned(), mode }],
        }
    }

    fn jobs(&self, env: &Environment) -> Vec<(JobSpec, Box<dyn Job>)> {
        let target = TargetConfig {
            name: self.host.clone(),
            tag: self.tag.clone(),
            host: Some(OneOrMany(vec![self.host.clone()])),
            ..TargetConfig::default()
        };
        let backup = BackupConfig {
            capture: vec![CaptureConfig { files: Some(self.files.clone()), ..CaptureConfig::default() }],
            ..BackupConfig::default()
        };
        let kind = JobKind::Backup {
            target: Box::new(target.clone()),
            backup: Box::new(backup.clone()),
            copy: COPY.to_owned(),
        };
        let zone = jiff::tz::TimeZone::system();
        let mut jobs: Vec<(JobSpec, Box<dyn Job>)> = vec![(
            self.spec(&self.host, kind, Mode::Shared),
            Box::new(BackupJob {
                target,
                backup,
                place: self.place.clone(),
                environment: env.clone(),
                canary_key: None,
                zone: zone.clone(),
            }),
        )];
        if let Some(keep) = &self.keep {
            let rules = RetentionConfig {
                copy: COPY.to_owned(),
                keep: keep.clone(),
                drop_max_ratio: 0.5,
                keep_verified: true,
                prune: true,
                check: true,
                detection: None,
            };
            let name = format!("{}-retention", self.host);
            jobs.push((
                self.spec(&name, JobKind::Check(IntegrityConfig::default()), Mode::Exclusive),
                Box::new(RetentionJob {
                    place: self.place.clone(),
                    rules,
                    verified: std::collections::BTreeMap::new(),
                    detection: None,
                    zone,
                    only_hosts: vec![self.host.clone()],
                    dry_run: false,
                }),
            ));
        }
        if self.check {
            let name = format!("{}-check", self.host);
            jobs.push((
                self.spec(&name, JobKind::Check(IntegrityConfig::default()), Mode::Shared),
                Box::new(CheckJob { place: self.place.clone(), read_data_percent: 0 }),
            ));
        }
        jobs
    }

    fn metrics(&self) -> Option<JobMetrics> {
        let url = self.pushgateway.as_ref()?;
        Some(JobMetrics::new(PushgatewayOptions::new(url), &[KnownNames::ByInstance]))
    }

    fn messages(&self, env: &Environment) -> Result<Option<Messages>> {
        if !switch(env, "NTFY_ENABLED", false)? {
            return Ok(None);
        }
        let server = env.get("NTFY_SERVER").unwrap_or(SERVER);
        let server = if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
        // A title may be a command of the shell in that script. It is never run.
        let title = env.get("NTFY_TITLE").filter(|title| !title.contains("$(") && !title.contains('`'));
        let usual = format!("{} - Backup failed", self.host);
        Ok(Some(Messages::new(vec![Way::Ntfy {
            server,
            topic: env.get("NTFY_TOPIC").unwrap_or(TOPIC).to_owned(),
            priority: priority(env.get("NTFY_PRIO"))?,
            tags: env.get("NTFY_TAG").unwrap_or(TAG).split(',').map(str::to_owned).collect(),
            title: Some(title.map_or(usual, |title| title.replace("${RESTIC_HOSTNAME}", &self.host))),
            login: login(env.get("NTFY_CREDS"))?,
        }])))
    }
}

fn wrong(name: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("understand the variable {name}"))
}

fn words(name: &str, text: &str) -> Result<Vec<String>> {
    let words = shell_words::split(text).map_err(|e| wrong(name).from_source(&e))?;
    if words.is_empty() { Err(wrong(name).because("it is empty")) } else { Ok(words) }
}

fn switch(env: &Environment, name: &str, usual: bool) -> Result<bool> {
    match env.get(name).map(str::to_lowercase).as_deref() {
        None => Ok(usual),
        Some("true" | "1" | "yes" | "on") => Ok(true),
        Some("false" | "0" | "no" | "off") => Ok(false),
        Some(other) => Err(wrong(name).because(format!("`{other}` is neither true nor false"))),
    }
}

fn keep(env: &Environment) -> Result<Policy> {
    let count = |name: &str, usual: u32| match env.get(name) {
        None => Ok(Some(usual)),
        Some(text) => match text.trim().parse::<u32>() {
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(wrong(name).because(format!("`{text}` is no number"))),
        },
    };
    Ok(Policy {
        last: count("KEEP_LAST", 1)?,
        hourly: count("KEEP_HOURLY", 24)?,
        daily: count("KEEP_DAILY", 7)?,
        weekly: count("KEEP_WEEKLY", 4)?,
        monthly: count("KEEP_MONTHLY", 12)?,
        yearly: count("KEEP_YEARLY", 0)?,
        ..Policy::default()
    })
}

fn priority(text: Option<&str>) -> Result<u8> {
    match text.map(str::to_lowercase).as_deref() {
        None => Ok(4),
        Some("min") => Ok(1),
        Some("low") => Ok(2),
        Some("default") => Ok(3),
        Some("high") => Ok(4),
        Some("max" | "urgent") => Ok(5),
        Some(other) => match other.parse() {
            Ok(number @ 1..=5) => Ok(number),
            _ => Err(wrong("NTFY_PRIO").because(format!("`{other}` is not between 1 and 5"))),
        },
    }
}

/// `-u user:password`, as curl takes it.
fn login(text: Option<&str>) -> Result<Login> {
    let Some(text) = text else { return Ok(Login::None) };
    let text = text.trim();
    let pair = text.strip_prefix("--user").or_else(|| text.strip_prefix("-u")).unwrap_or(text);
    let pair = pair.trim_start_matches([' ', '=']).trim_matches(['"', '\'']);
    match pair.split_once(':') {
        // curl takes a token as the password of nobody.
        Some(("", token)) => Ok(Login::Token(Secret::new(token))),
        Some((user, password)) => Ok(Login::User(user.to_owned(), Secret::new(password))),
        None => Err(wrong("NTFY_CREDS").because("it is not `-u USER:PASSWORD`")),
    }
}

/// The name of this host up to its first dash. Names of pods change from run to run behind it; where all that is left
/// is what all pods have in common, their snapshots would be taken for each other's.
fn own_name() -> Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let first = name.split('-').next().unwrap_or_default().to_owned();
    if first.is_empty() || (first == "backup" && name.contains('-')) {
        return Err(wrong("RESTIC_HOSTNAME")
            .because(format!(
                "it is not set, and of the name of this host, {name}, only `{first}` would be left"
            ))
            .advise("set it: snapshots of several targets under one host name are taken for each other's"));
    }
    Ok(first)
}
