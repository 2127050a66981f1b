//! What a person can type.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use firedrill_core::config::runtime::RuntimeKind;
use firedrill_core::config::units::{Size, Span};
use firedrill_core::config::{BackupKind, ObjectPattern};
use firedrill_scenarios::chaos::Class;

const EXIT_CODES: &str = "\
Exit codes:
  0  all verified              4  nothing was selected
  1  a backup failed           5  a sink did not take the result
  2  something is inconclusive 64 wrong arguments or config
  3  an objective was missed   70 firedrill itself broke
Where several apply, the order is 70, 64, 1, 2, 4, 3, 5.";

const BACKUP_VARIABLES: &str = "\
Environment:
  RESTIC_REPOSITORY, RESTIC_PASSWORD  as for restic, with their _FILE and _COMMAND; made when it is not there
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY  as for restic, where the repository is in S3
  RESTIC_SOURCE                       folders to back up, absolute
  RESTIC_HOSTNAME                     host of the snapshots [default: this host's name up to the first dash]
  RESTIC_ADDITIONAL_BACKUP_PARAMETERS --tag (one), --exclude, --exclude-file, --exclude-caches, --one-file-system,
                                      --host, --compression
  RESTIC_RETENTION_POLICIES_ENABLED   drop old snapshots of this host [default: true]
  KEEP_LAST, KEEP_HOURLY, KEEP_DAILY, KEEP_WEEKLY, KEEP_MONTHLY, KEEP_YEARLY
                                      [default: 1, 24, 7, 4, 12, 0]
  RESTIC_CACHE_DIR                    if it is set, the repository is checked afterwards; there is no cache
  PUSHGATEWAY_ENABLED, PUSHGATEWAY_URL  push metrics [default: false]
  NTFY_ENABLED, NTFY_SERVER, NTFY_TOPIC, NTFY_TITLE, NTFY_PRIO, NTFY_TAG, NTFY_CREDS
                                      tell people when it fails [default: false]. A title that is a command of the
                                      shell is replaced, and nothing is ever run

Exit codes: 0 done; 1 the backup or a step after it failed; 2 it was stopped, or another one runs; 5 it is done, and
  metrics or a message did not arrive; 64 a variable is missing or not understood.";

/// Restore-tests every backup of a fleet, and proves its own proof.
#[derive(Debug, Parser)]
#[command(name = "firedrill", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Log more: -v, -vv, -vvv.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Restore every tag into scratch, examine what came back, and say what is proven.
    RestoreTest(Box<RestoreTestArgs>),
    /// Judge the evidence of an old run again.
    Judge(RunArgs),
    /// Write the reports of an old run again.
    Report(ReportArgs),
    /// Break copies of a repository on purpose, and count how much of that the restore test notices.
    Chaos(ChaosArgs),
    /// List the faults that `chaos` knows, or explain one.
    Faults(FaultsArgs),
    /// Record what the data is at the moment of the backup; restore tests compare with it without tolerance.
    Digest(DigestArgs),
    /// Accept what an anomaly showed ("yes, we deleted that"); the next drill is compared with it.
    Accept(AcceptArgs),
    /// List or drop what verified drills left behind.
    Baselines(BaselinesArgs),
    /// Start every job of the config at its time, until told to stop.
    Serve(ServeArgs),
    /// Run one job of the config now, as a timer or a CronJob does.
    Run(RunJobArgs),
    /// List the jobs of the config: when they run, and what became of them. Exits with 1 when one is failing.
    Jobs(JobsArgs),
    /// Make the repository of a copy, where there is none.
    Init(InitArgs),
    /// One backup as the environment says, in place of a shell script around restic.
    #[command(after_long_help = BACKUP_VARIABLES)]
    Backup(BackupArgs),
    /// Remove scratch folders that killed runs left behind.
    Sweep(SweepArgs),
    /// Check the config, or print its schema.
    Config(ConfigArgs),
}

/// A runtime, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RuntimeArg {
    /// The first of the others that has what is needed.
    Auto,
    /// Programs of this machine, in namespaces.
    Process,
    /// Containers.
    Container,
    /// Nothing restored is started.
    Off,
}

impl From<RuntimeArg> for RuntimeKind {
    fn from(typed: RuntimeArg) -> Self {
        match typed {
            RuntimeArg::Auto => Self::Auto,
            RuntimeArg::Process => Self::Process,
            RuntimeArg::Container => Self::Container,
            RuntimeArg::Off => Self::Off,
        }
    }
}

/// What a repository on the command line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RepositoryKind {
    /// A restic repository.
    #[default]
    Restic,
    /// Dump files, one per backup.
    ObjectDump,
    /// Snapshots of etcd.
    Etcd,
}

impl RepositoryKind {
    pub(crate) fn of_backup(self) -> BackupKind {
        match self {
            Self::Restic => BackupKind::Restic,
            Self::ObjectDump => BackupKind::ObjectDump,
            Self::Etcd => BackupKind::Etcd,
        }
    }
}

/// Where the repository is, and how to open it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RepositoryArgs {
    /// A path, rest:URL, or s3:URL/BUCKET/PREFIX [env: RESTIC_REPOSITORY].
    #[arg(short, long, value_name = "URL", conflicts_with = "config")]
    pub(crate) repository: Option<String>,
    /// Read the address of the repository from a file [env: RESTIC_REPOSITORY_FILE].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "repository"])]
    pub(crate) repository_file: Option<PathBuf>,
    /// What the repository is: a restic repository, or a place where each backup is an object of its own.
    #[arg(long, value_name = "KIND", default_value = "restic", conflicts_with = "config")]
    pub(crate) kind: RepositoryKind,
    /// How the names of objects are read, for example '{name}-{time:%Y%m%d-%H%M%S}.sql.gz'; may be repeated
    /// [default: in the common ways].
    #[arg(long, value_name = "PATTERN", conflicts_with = "config")]
    pub(crate) objects: Vec<ObjectPattern>,
    /// Read the password from a file [env: RESTIC_PASSWORD_FILE; or RESTIC_PASSWORD].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Run a command that prints the password [env: RESTIC_PASSWORD_COMMAND].
    #[arg(long, value_name = "COMMAND", conflicts_with = "password_file")]
    pub(crate) password_command: Option<String>,
    /// Trust the certificate authorities in this file (PEM), too [env: RESTIC_CACERT].
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// The region of an S3 bucket [env: AWS_REGION, AWS_DEFAULT_REGION].
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Whether the bucket goes into the path of an S3 URL (true) or into its host (false).
    #[arg(long, value_name = "BOOL")]
    pub(crate) path_style: Option<bool>,
    /// An option as restic takes it, for example s3.bucket-lookup=path.
    #[arg(short = 'o', long = "option", value_name = "KEY=VALUE")]
    pub(crate) options: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RestoreTestArgs {
    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,
    /// The fleet, its copies and objectives.
    #[arg(short, long, value_name = "FILE", env = "FIREDRILL_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Only this copy; may be repeated.
    #[arg(long, value_name = "NAME", requires = "config", help_heading = "Selection")]
    pub(crate) copy: Vec<String>,
    /// Test a clone of this copy, in another place: a folder or URL. Nobody is told but the files named here, and what
    /// is learned goes to --state, which should not be that of the copy itself.
    #[arg(long, value_name = "NAME=URL", requires_all = ["config", "state"], conflicts_with = "copy",
          help_heading = "Selection")]
    pub(crate) clone: Option<CloneArg>,
    /// Only this target of the config; may be repeated.
    #[arg(long, value_name = "NAME", requires = "config", help_heading = "Selection")]
    pub(crate) target: Vec<String>,
    /// Only snapshots with this tag; may be repeated.
    #[arg(long, value_name = "TAG", help_heading = "Selection")]
    pub(crate) tag: Vec<String>,
    /// Only snapshots of this host; may be repeated.
    #[arg(long, value_name = "HOST", help_heading = "Selection")]
    pub(crate) host: Vec<String>,
    /// The latest snapshots at or before this time; ages are measured against it, too.
    #[arg(long, value_name = "TIME", help_heading = "Selection")]
    pub(crate) at: Option<String>,
    /// This snapshot, by id or the beginning of it; may be repeated.
    #[arg(long, value_name = "ID", conflicts_with_all = ["all_snapshots", "at"], help_heading = "Selection")]
    pub(crate) snapshot: Vec<String>,
    /// Every snapshot, not only the latest of each tag.
    #[arg(long, help_heading = "Selection")]
    pub(crate) all_snapshots: bool,

    /// Show what would be done, and do nothing.
    #[arg(long, help_heading = "Run")]
    pub(crate) dry_run: bool,
    /// Drills at a time.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Run")]
    pub(crate) jobs: Option<u16>,
    /// Restore below this folder [default: a private one in the temporary folder].
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    pub(crate) scratch: Option<PathBuf>,
    /// Write at most this much to scratch at a time, for example 20GiB.
    #[arg(long, value_name = "BYTES", help_heading = "Run")]
    pub(crate) scratch_limit: Option<Size>,
    /// Time for opening the repository, and for each drill, for example 2h [default: 6h].
    #[arg(long, value_name = "TIME", help_heading = "Run")]
    pub(crate) timeout: Option<Span>,
    /// Where restored databases run: in processes, in containers, in whichever has the engine, or nowhere.
    #[arg(long, value_enum, value_name = "RUNTIME", help_heading = "Run")]
    pub(crate) runtime: Option<RuntimeArg>,
    /// Keep what was restored; its place is printed.
    #[arg(long, help_heading = "Run")]
    pub(crate) keep: bool,
    /// Repeat the choices of an earlier run.
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub(crate) seed: Option<u64>,
    /// Accept that only root can set owners: it is enough that the snapshot records them.
    #[arg(long, help_heading = "Run")]
    pub(crate) accept_recorded_owners: bool,
    /// Where evidence and baselines are kept [default: $XDG_STATE_HOME/firedrill].
    #[arg(long, value_name = "DIR", env = "FIREDRILL_STATE", help_heading = "Run")]
    pub(crate) state: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) sinks: SinkArgs,
}

/// A clone of a copy, as typed.
#[derive(Clone, Debug)]
pub(crate) struct CloneArg {
    /// The copy in the config.
    pub(crate) name: String,
    /// Where the clone is.
    pub(crate) place: String,
}

impl std::str::FromStr for CloneArg {
    type Err = &'static str;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        match typed.split_once('=') {
            Some((name, place)) if !name.is_empty() && !place.is_empty() => {
                Ok(Self { name: name.to_owned(), place: place.to_owned() })
            }
            _ => Err("write it as NAME=URL, with the name of a copy in the config"),
        }
    }
}

const CHAOS_EXIT_CODES: &str = "\
Exit codes: 0 everything that was struck was detected, and nothing else failed; 1 something was not, or something
  healthy failed; 2 nothing could be shown; 64 wrong arguments or config.";

/// A class of faults, as typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ClassArg {
    /// What is backed up, and how it was captured.
    Source,
    /// Somebody means harm.
    Security,
    /// Passwords and keys.
    Keys,
    /// The repository at rest.
    Repository,
    /// What is kept and what is dropped.
    Retention,
    /// When backups happen, and what time they claim.
    Schedule,
}

impl ClassArg {
    pub(crate) fn as_class(self) -> Class {
        match self {
            Self::Source => Class::Source,
            Self::Security => Class::Security,
            Self::Keys => Class::Keys,
            Self::Repository => Class::Repository,
            Self::Retention => Class::Retention,
            Self::Schedule => Class::Schedule,
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = CHAOS_EXIT_CODES)]
pub(crate) struct ChaosArgs {
    /// The fleet and its copies.
    #[arg(short, long, value_name = "FILE", env = "FIREDRILL_CONFIG", default_value = "firedrill.yaml")]
    pub(crate) config: PathBuf,
    /// Break a copy of this copy [default: the first primary restic repository].
    #[arg(long, value_name = "NAME")]
    pub(crate) copy: Option<String>,
    /// Only faults of this class; may be repeated.
    #[arg(long, value_enum, value_name = "CLASS")]
    pub(crate) class: Vec<ClassArg>,
    /// Only this fault; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) fault: Vec<String>,
    /// Only so many of them, chosen at random.
    #[arg(long, value_name = "N")]
    pub(crate) sample: Option<NonZeroUsize>,
    /// Strike so many times with each, each time elsewhere.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) rounds: NonZeroU64,
    /// Repeat the strikes of an earlier campaign.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Work below this folder [default: as for restore-test]. It needs room for the repository and what is restored.
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// Time for all of it.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(crate) timeout: Span,
    /// Time for one restore test.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub(crate) test_timeout: Span,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct FaultsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<FaultsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FaultsCommand {
    /// What happens, how one would notice, and what to do.
    Show {
        /// The fault.
        name: String,
    },
}

/// Where results go, besides the console.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SinkArgs {
    /// Print the result (with --dry-run: the plan) as JSON instead of a table.
    #[arg(long, help_heading = "Results")]
    pub(crate) json: bool,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) json_file: Option<PathBuf>,
    /// Write a JUnit report.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) junit: Option<PathBuf>,
    /// Write the recovery report here, too; it is always written beside the evidence.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) html: Option<PathBuf>,
    /// Write metrics for the textfile collector of node_exporter.
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub(crate) prometheus_file: Option<PathBuf>,
    /// Push metrics to this Pushgateway.
    #[arg(long, value_name = "URL", help_heading = "Results")]
    pub(crate) pushgateway: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The folder of the run, the one that holds evidence.jsonl.
    #[arg(value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// The folder of the run, the one that holds evidence.jsonl.
    #[arg(value_name = "DIR")]
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) sinks: SinkArgs,
}

#[derive(Args, Debug)]
pub(crate) struct AcceptArgs {
    /// The folder of the run, the one that holds evidence.jsonl.
    #[arg(value_name = "DIR")]
    pub(crate) run: PathBuf,
    /// The drill, for example primary::grafana::latest.
    #[arg(value_name = "DRILL")]
    pub(crate) drill: String,
    /// Why the change was meant; it stays with the baseline.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Where baselines are kept.
    #[arg(long, value_name = "DIR", env = "FIREDRILL_STATE")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct BaselinesArgs {
    /// Forget the baselines of this copy.
    #[arg(long, value_name = "NAME")]
    pub(crate) drop_copy: Option<String>,
    /// With --drop-copy: only the baseline of this tag.
    #[arg(long, value_name = "TAG", requires = "drop_copy")]
    pub(crate) tag: Option<String>,
    /// Where baselines are kept.
    #[arg(long, value_name = "DIR", env = "FIREDRILL_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DigestArgs {
    #[command(subcommand)]
    pub(crate) command: DigestCommand,
}

/// Where digests go.
#[derive(Args, Debug)]
pub(crate) struct DigestOutput {
    /// Write the digests here; the name has to end with .firedrill-digests.json [default: a file of that name in the
    /// folder, beside the file, or here].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Sign with the canary key in this file [default: the key that RESTIC_PASSWORD, RESTIC_PASSWORD_FILE or
    /// RESTIC_PASSWORD_COMMAND gives].
    #[arg(long, value_name = "FILE", env = "FIREDRILL_CANARY_KEY_FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DigestCommand {
    /// Trees of files: names and content of every folder.
    Files {
        /// Folders, or single files.
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<PathBuf>,
        /// Leave out names, or paths below PATH, that fit this pattern with *; may be repeated.
        #[arg(long, value_name = "PATTERN")]
        exclude: Vec<String>,
        #[command(flatten)]
        output: DigestOutput,
    },
    /// Every table of SQLite files, which nobody may write to before they are backed up.
    Sqlite {
        /// The files.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        output: DigestOutput,
    },
    /// Every table of a database of PostgreSQL, in the same snapshot as pg_dump. Where the server is, PGHOST, PGPORT,
    /// PGUSER, PGPASSFILE and their like say.
    Postgres {
        /// The database [env: PGDATABASE].
        #[arg(short, long, value_name = "NAME")]
        dbname: Option<String>,
        /// Leave out tables (schema.table) that fit this pattern with *, as the dump does; may be repeated.
        #[arg(long, value_name = "PATTERN")]
        exclude_table: Vec<String>,
        /// Nothing writes between this and the dump.
        #[arg(long)]
        quiet: bool,
        #[command(flatten)]
        output: DigestOutput,
        /// The command that makes the dump, with {snapshot} in it:
        /// pg_dump --snapshot={snapshot} -f shop.sql shop
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Every table of databases of MariaDB, at the moment of the dump. Where the server is, ~/.my.cnf, MYSQL_HOST,
    /// MYSQL_PWD and their like say.
    Mariadb {
        /// Only this database; may be repeated.
        #[arg(short, long, value_name = "NAME")]
        database: Vec<String>,
        /// Options of the client, read after its usual files.
        #[arg(long, value_name = "FILE")]
        defaults_extra_file: Option<PathBuf>,
        /// Leave out tables (table or database.table) that fit this pattern with *, as the dump does; may be repeated.
        #[arg(long, value_name = "PATTERN")]
        exclude_table: Vec<String>,
        /// Nothing writes between this and the dump.
        #[arg(long)]
        quiet: bool,
        #[command(flatten)]
        output: DigestOutput,
        /// The command that makes the dump: mariadb-dump --single-transaction --result-file=shop.sql shop
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Live keys in a snapshot of etcd, from the file itself.
    Etcd {
        /// The snapshot, not packed.
        #[arg(value_name = "SNAPSHOT")]
        snapshot: PathBuf,
        #[command(flatten)]
        output: DigestOutput,
    },
}

/// Which fleet.
#[derive(Args, Clone, Debug)]
pub(crate) struct FleetArgs {
    /// The fleet and its jobs.
    #[arg(short, long, value_name = "FILE", env = "FIREDRILL_CONFIG", default_value = "firedrill.yaml")]
    pub(crate) config: PathBuf,
    /// Where the state of jobs is kept [default: `state` of the config, or $XDG_STATE_HOME/firedrill].
    #[arg(long, value_name = "DIR", env = "FIREDRILL_STATE")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// Jobs at a time.
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
}

#[derive(Args, Debug)]
pub(crate) struct RunJobArgs {
    /// The job: the name of a target that has `backup`, or of one of `jobs`.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// When it was meant to start; the scheduler says so.
    #[arg(long, value_name = "TIME", hide = true)]
    pub(crate) slot: Option<jiff::Timestamp>,
    /// Which try it is; the scheduler says so.
    #[arg(long, value_name = "N", hide = true, default_value = "1")]
    pub(crate) attempt: u32,
}

#[derive(Args, Debug)]
pub(crate) struct JobsArgs {
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// The copy.
    #[arg(value_name = "COPY")]
    pub(crate) copy: String,
    /// The fleet and its copies.
    #[arg(short, long, value_name = "FILE", env = "FIREDRILL_CONFIG", default_value = "firedrill.yaml")]
    pub(crate) config: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    /// Where the state of jobs is kept [default: $XDG_STATE_HOME/firedrill].
    #[arg(long, value_name = "DIR", env = "FIREDRILL_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Time for everything [default: none but that of each step].
    #[arg(long, value_name = "TIME")]
    pub(crate) deadline: Option<Span>,
}

#[derive(Args, Debug)]
pub(crate) struct SweepArgs {
    /// The scratch folder of the runs [default: the same as for restore-test].
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// Remove leases that were kept on purpose, too.
    #[arg(long)]
    pub(crate) kept: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// List every mistake with its line and what to write instead.
    Check {
        /// The config.
        #[arg(value_name = "FILE", env = "FIREDRILL_CONFIG", default_value = "firedrill.yaml")]
        file: PathBuf,
    },
    /// Print the JSON schema, which editors use for completion.
    Schema,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::Cli;

    #[test]
    fn deployed_commands_have_the_flags_that_they_are_given() {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/deploy");
        let mut commands: Vec<Vec<String>> = Vec::new();
        for folder in ["systemd", "kubernetes"] {
            for file in std::fs::read_dir(deploy.join(folder)).unwrap() {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                commands.extend(text.lines().filter_map(|line| {
                    if let Some(list) = line.trim().strip_prefix("args: ") {
                        return Some(serde_json::from_str(list).unwrap());
                    }
                    let words = line.strip_prefix("ExecStart=/usr/local/bin/firedrill ")?;
                    Some(words.split(' ').map(str::to_owned).collect())
                }));
            }
        }
        assert_eq!(commands.len(), 6);
        for words in commands {
            let all = std::iter::once("firedrill".to_owned()).chain(words.iter().cloned());
            assert!(Cli::try_parse_from(all).is_ok(), "{words:?}");
        }
    }
}
