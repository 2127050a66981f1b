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
    BackupConfig, CaptureConfig, Compression, FilesCapture, IntegrityConfig, RetentionConfig, Rules,
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

use super::run::{kill_if_late, line};
use crate::args::BackupArgs;
use crate::{complain, note, state, stop};

/// The name of the copy that the variables name.
const COPY: &str = "repository";
/// The topic of messages, the server, and the tag, where no variable says otherwise.
const TOPIC: &str = "backup";
const SERVER: &str = "ntfy.sh";
const TAG: &str = "bangbang";
/// Names of jobs are not longer.
const NAME_MAX: usize = 100;

pub(crate) fn backup(args: &BackupArgs) -> Result<Exit> {
    let env = Environment::capture();
    let asked = Asked::from(&env)?;
    if let Some(deadline) = args.deadline {
        kill_if_late(deadline.0);
    }
    let state = state::folder(args.state.as_deref(), None);
    let ledger = Ledger::open(&state)?;
    let watch = Watch::unlimited().within(args.deadline.map(|deadline| deadline.0));
    stop::blocking(&watch, |watch| all(asked, &env, &ledger, &state.join("work"), watch))
}

fn all(
    asked: Asked,
    env: &Environment,
    ledger: &Ledger,
    work: &std::path::Path,
    watch: &Watch,
) -> Result<Exit> {
    let gateway = asked.pushgateway.as_ref();
    let metrics =
        |also: &[KnownNames]| gateway.map(|url| JobMetrics::new(PushgatewayOptions::new(url), also));
    // Dashboards of that script know the backup alone: what comes after it was a part of it.
    let (first, later) = (metrics(&[KnownNames::ByInstance]), metrics(&[]));
    let mut exit = Exit::Verified;
    let mut names = Vec::new();
    for (number, (spec, job)) in asked.jobs(env).into_iter().enumerate() {
        let metrics = if number == 0 { &first } else { &later };
        let observers: Vec<&dyn Observer> = metrics.iter().map(|metrics| metrics as &dyn Observer).collect();
        let bench = Bench { ledger, clock: &SystemClock, watch: watch.clone(), work, observers: &observers };
        let run = runner::run(&spec, job.as_ref(), Turn::BY_HAND, &bench)?;
        note(line(&spec, &run));
        names.push(spec.name.clone());
        if run.outcome != Outcome::Succeeded {
            // What comes after a backup that failed would only make it worse.
            exit = if run.outcome == Outcome::Cancelled { Exit::Inconclusive } else { Exit::Failed };
            break;
        }
    }
    let mut troubles: Vec<Error> = first.iter().chain(&later).flat_map(JobMetrics::troubles).collect();
    if let Some(messages) = asked.messages {
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
    compression: Compression,
    pushgateway: Option<String>,
    messages: Option<Messages>,
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
            compression: Compression::Auto,
            pushgateway: None,
            messages: None,
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
        if asked.host.trim().is_empty() {
            return Err(wrong("RESTIC_HOSTNAME").because("it is empty"));
        }
        asked.messages = messages(env, &asked.host)?;
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
                    // restic takes `a,b` for two tags.
                    if tag.contains(',') {
                        return Err(wrong("RESTIC_ADDITIONAL_BACKUP_PARAMETERS")
                            .because("it names several tags, and a backup is one series"));
                    }
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
                "--compression" => {
                    self.compression = match value()?.as_str() {
                        "off" => Compression::Off,
                        "auto" => Compression::Auto,
                        "max" => Compression::Max,
                        other => {
                            return Err(wrong("RESTIC_ADDITIONAL_BACKUP_PARAMETERS")
                                .because(format!("`{other}` is neither off, auto nor max")));
                        }
                    }
                }
                "-v" | "-vv" | "--verbose" | "-q" | "--quiet" | "--no-scan" | "--no-cache"
                | "--cleanup-cache" | "--json" => {}
                other => {
                    return Err(wrong("RESTIC_ADDITIONAL_BACKUP_PARAMETERS")
                        .because(format!("firedrill does not know {other}"))
                        .advise("it knows --tag, --exclude, --exclude-file, --exclude-caches, --one-file-system, --host, --compression"));
                }
            }
        }
        Ok(())
    }

    fn spec(&self, name: &str, kind: JobKind, mode: Mode) -> JobSpec {
        JobSpec {
            name: job_name(name),
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
            compression: self.compression,
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
                // There is no variable that would let somebody through.
                drop_max_ratio: 1.0,
                keep_verified: true,
                prune: true,
                // Whoever wants a check has it as a step of its own.
                check: false,
                detection: None,
            };
            let name = format!("{}-retention", self.host);
            jobs.push((
                self.spec(&name, JobKind::Retention(rules.clone()), Mode::Exclusive),
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
}

/// The name of a job is that of a file.
fn job_name(host: &str) -> JobName {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    JobName(host.chars().map(|c| if plain(c) { c } else { '_' }).take(NAME_MAX).collect())
}

fn messages(env: &Environment, host: &str) -> Result<Option<Messages>> {
    if !switch(env, "NTFY_ENABLED", false)? {
        return Ok(None);
    }
    let server = env.get("NTFY_SERVER").unwrap_or(SERVER);
    let server = if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
    // A title may be a command of the shell in that script. It is never run.
    let title = env.get("NTFY_TITLE").filter(|title| !title.contains("$(") && !title.contains('`'));
    let usual = format!("{host} - Backup failed");
    Ok(Some(Messages::new(vec![Way::Ntfy {
        server,
        topic: env.get("NTFY_TOPIC").unwrap_or(TOPIC).to_owned(),
        priority: priority(env.get("NTFY_PRIO"))?,
        tags: env.get("NTFY_TAG").unwrap_or(TAG).split(',').map(str::to_owned).collect(),
        title: Some(title.map_or(usual, |title| title.replace("${RESTIC_HOSTNAME}", host))),
        login: login(env.get("NTFY_CREDS"))?,
    }])))
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

/// `-u user:password`, as curl takes it. What it holds is repeated nowhere.
fn login(text: Option<&str>) -> Result<Login> {
    let unclear = || wrong("NTFY_CREDS").because("it is not `-u USER:PASSWORD`");
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(Login::None) };
    let words = shell_words::split(text).map_err(|_| unclear())?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let pair = match words.as_slice() {
        ["-u" | "--user", pair] => pair,
        [one] => one.strip_prefix("--user=").or_else(|| one.strip_prefix("-u")).unwrap_or(one),
        _ => return Err(unclear()),
    };
    match pair.split_once(':') {
        // ntfy takes a token as the password of nobody.
        Some(("", token)) => Ok(Login::Token(Secret::new(token))),
        Some((user, password)) => Ok(Login::User(user.to_owned(), Secret::new(password))),
        None => Err(unclear()),
    }
}

/// The name of this host, as `RESTIC_HOSTNAME` is by default.
fn own_name() -> Result<String> {
    first_part(&rustix::system::uname().nodename().to_string_lossy())
}

/// A name up to its first dash. Names of pods change from run to run behind it; where all that is left is what all
/// pods have in common, their snapshots would be taken for each other's.
fn first_part(name: &str) -> Result<String> {
    let first = name.split('-').next().unwrap_or_default();
    if first.is_empty() || (first == "backup" && name.contains('-')) {
        return Err(wrong("RESTIC_HOSTNAME")
            .because(format!(
                "it is not set, and of the name of this host, {name}, only `{first}` would be left"
            ))
            .advise("set it: snapshots of several targets under one host name are taken for each other's"));
    }
    Ok(first.to_owned())
}

#[cfg(test)]
mod tests {
    use firedrill_backends::repository::access::Environment;
    use firedrill_core::config::jobs::Compression;
    use firedrill_reports::jobs::messages::Login;

    use super::{Asked, first_part, job_name, keep, login};

    fn env(more: &[(&str, &str)]) -> Environment {
        let usual = [
            ("RESTIC_REPOSITORY", "/srv/restic"),
            ("RESTIC_PASSWORD", "p"),
            ("RESTIC_SOURCE", "/data/a '/data/b c'"),
            ("RESTIC_HOSTNAME", "grafana"),
        ];
        usual.iter().chain(more).fold(Environment::default(), |env, (name, value)| env.with(name, value))
    }

    /// The error for the variables that are usual and these.
    #[track_caller]
    fn refused(more: &[(&str, &str)]) -> String {
        match Asked::from(&env(more)) {
            Ok(_) => panic!("{more:?} is taken"),
            Err(error) => error.chain(),
        }
    }

    #[test]
    fn what_that_script_understands_is_understood() {
        let asked = Asked::from(&env(&[(
            "RESTIC_ADDITIONAL_BACKUP_PARAMETERS",
            "--tag grafana --exclude=lost+found -e '*.tmp' --compression max -v",
        )]))
        .unwrap();
        assert_eq!(asked.paths, ["/data/a", "/data/b c"]);
        assert_eq!(asked.tag.as_deref(), Some("grafana"));
        assert_eq!(asked.files.exclude, ["lost+found", "*.tmp"]);
        assert_eq!(asked.compression, Compression::Max);
        assert!(asked.keep.is_some() && !asked.check && asked.messages.is_none());
        assert_eq!(asked.jobs(&env(&[])).len(), 2);
        let alone = env(&[("RESTIC_RETENTION_POLICIES_ENABLED", "false"), ("KEEP_DAILY", "x")]);
        assert_eq!(Asked::from(&alone).unwrap().jobs(&alone).len(), 1, "KEEP_* is inert without retention");
        let rules = keep(&env(&[("KEEP_DAILY", "3"), ("KEEP_WEEKLY", "0")])).unwrap();
        assert_eq!((rules.daily, rules.hourly, rules.last), (Some(3), Some(24), Some(1)));
    }

    #[test]
    fn strange_variables_are_told_by_name() {
        for (name, value, told) in [
            ("RESTIC_SOURCE", "", "RESTIC_SOURCE"),
            ("RESTIC_SOURCE", "data", "not absolute"),
            ("RESTIC_SOURCE", "'/data", "RESTIC_SOURCE"),
            ("RESTIC_HOSTNAME", " ", "RESTIC_HOSTNAME"),
            ("RESTIC_RETENTION_POLICIES_ENABLED", "maybe", "neither true nor false"),
            ("KEEP_DAILY", "-1", "KEEP_DAILY"),
            ("RESTIC_ADDITIONAL_BACKUP_PARAMETERS", "--tag", "--tag needs a value"),
            ("RESTIC_ADDITIONAL_BACKUP_PARAMETERS", "--tag a --tag b", "two tags"),
            ("RESTIC_ADDITIONAL_BACKUP_PARAMETERS", "--tag a,b", "several tags"),
            ("RESTIC_ADDITIONAL_BACKUP_PARAMETERS", "--force", "does not know --force"),
            ("PUSHGATEWAY_ENABLED", "true", "PUSHGATEWAY_URL"),
            ("NTFY_ENABLED", "ja", "NTFY_ENABLED"),
        ] {
            let error = refused(&[(name, value)]);
            assert!(error.contains(told), "{name}={value}: {error}");
        }
        let ntfy = |name, value| refused(&[("NTFY_ENABLED", "true"), (name, value)]);
        assert!(ntfy("NTFY_PRIO", "6").contains("NTFY_PRIO"));
        let error = ntfy("NTFY_CREDS", "-u hunter2 -k");
        assert!(error.contains("NTFY_CREDS") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn credentials_are_read_as_curl_reads_them() {
        for text in ["-u me:s3:cret", "-ume:s3:cret", "--user=me:s3:cret", "-u 'me:s3:cret'", "me:s3:cret"] {
            match login(Some(text)).unwrap() {
                Login::User(user, password) => {
                    assert_eq!((user.as_str(), password.reveal()), ("me", "s3:cret"));
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(login(Some("-u :tk_1")).unwrap(), Login::Token(token) if token.reveal() == "tk_1"));
        assert!(matches!(login(Some(" ")).unwrap(), Login::None));
    }

    #[test]
    fn pods_are_named_by_what_tells_them_apart() {
        assert_eq!(first_part("grafana-6d4cf56db6-x7k2p").unwrap(), "grafana");
        assert_eq!(first_part("node04").unwrap(), "node04");
        assert_eq!(first_part("backup").unwrap(), "backup");
        let error = first_part("backup-grafana-28934-abcde").unwrap_err().chain();
        assert!(error.contains("RESTIC_HOSTNAME") && error.contains("set it"), "{error}");
        assert_eq!(job_name("../my host").0, ".._my_host");
    }
}
