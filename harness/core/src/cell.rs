//! Cells: sealed places in which restored software runs, and the runtimes that make them.
//!
//! A cell is to a database what a lease is to files. It is modelled on a pod: one network in which its
//! programs see only each other, one folder that they may write to, and one or more kits of software.
//! Nothing here knows where a cell is. What a program needs is brought in, what it says comes out of its
//! standard output, and its servers are reached by [`Cell::dial`]: a cell may be a process on this machine, a
//! container, or a pod in a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::units::Size;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Phase;
use crate::ports::Swept;
use crate::watch::Watch;

/// The folder inside each cell that programs may write to, and the home of everything that is brought in.
pub const CELL_FOLDER: &str = "/cell";

/// The first two numbers of a version: `15.0` for PostgreSQL 15, `10.11` for MariaDB 10.11.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number; 0 where it says nothing, as in PostgreSQL since version 10.
    pub minor: u32,
}

impl Version {
    /// A version.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Reads the first `N` or `N.M` in a text such as `postgres (PostgreSQL) 15.18 (Debian ...)`.
impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let starts_word = |at: usize| {
            let before = text.get(..at).and_then(|t| t.chars().next_back());
            before.is_none_or(|c| !c.is_alphanumeric() || c == 'v')
        };
        let at = text.char_indices().find(|(at, c)| c.is_ascii_digit() && starts_word(*at)).map(|(at, _)| at);
        let rest = at.and_then(|at| text.get(at..)).unwrap_or_default();
        let (major, rest) = rest.split_at(number(rest));
        let minor = rest.strip_prefix('.').map_or("", |rest| rest.split_at(number(rest)).0);
        let unreadable = || Error::new(ErrorKind::Unavailable, format!("find a version in `{text}`"));
        Ok(Self {
            major: major.parse().map_err(|_| unreadable())?,
            minor: if minor.is_empty() { 0 } else { minor.parse().map_err(|_| unreadable())? },
        })
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|e: Error| serde::de::Error::custom(e.chain()))
    }
}

/// Software that a cell must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kit {
    /// Its name, which is also its key in the config: `postgres`, `mariadb`, `etcd`, or that of an app.
    pub name: String,
    /// The lowest version that will do; it is also the preferred one.
    pub at_least: Option<Version>,
    /// The highest version that will do.
    pub at_most: Option<Version>,
    /// Programs that must be there. The first one tells its version when it is called with `--version`.
    pub programs: Vec<String>,
}

impl Kit {
    /// Whether `version` will do.
    pub fn accepts(&self, version: Version) -> bool {
        self.at_least.is_none_or(|least| version >= least) && self.at_most.is_none_or(|most| version <= most)
    }
}

/// `postgres 15.0 or newer`.
impl fmt::Display for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) if (least.major, least.minor) == (most.major, most.minor) => {
                write!(f, " {least}")
            }
            (Some(least), Some(most)) => write!(f, " {least} to {most}"),
            (Some(least), None) => write!(f, " {least} or newer"),
            (None, Some(most)) => write!(f, " {most} or older"),
            (None, None) => Ok(()),
        }
    }
}

/// Software that was found for a [`Kit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Software {
    /// The name of the kit.
    pub kit: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Where it comes from: an image, or the folder of the programs.
    pub from: String,
}

/// What the programs of a cell may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellLimits {
    /// Bytes of memory: of all programs in one container together, and of each program where there are none.
    pub memory: Size,
    /// Processes and threads: of one container, or of the user that the programs of a cell run as.
    pub processes: u32,
    /// Bytes that may be written to the cell's folder.
    pub disk: Size,
}

impl Default for CellLimits {
    fn default() -> Self {
        Self { memory: Size(4 << 30), processes: 1024, disk: Size(200 << 30) }
    }
}

/// What a cell is for.
#[derive(Clone, Debug)]
pub struct CellRequest<'a> {
    /// The id of the lease that the cell belongs to; it labels everything that the runtime makes.
    pub lease: &'a str,
    /// A folder in that lease that the runtime may use for the cell, and nobody else does.
    pub work: &'a Path,
    /// The software. The first kit is the one that programs run in unless they say otherwise.
    pub kits: &'a [Kit],
    /// Names that mean the cell itself inside it, such as that of the database server in an app's settings.
    pub aliases: &'a [String],
    /// After this much time the cell may be removed by whoever finds it.
    pub lifetime: Duration,
    /// Time limit and stop signal of everything that is done in the cell.
    pub watch: Watch,
}

/// Makes cells of one kind.
pub trait Runtime: Send + Sync {
    /// Its name in the config: `process`, `container`.
    fn name(&self) -> &'static str;

    /// Whether it has software for `kit`, without starting anything. `Err` says in words what is missing and
    /// how to get it.
    fn offers(&self, kit: &Kit) -> Result<Software>;

    /// Makes a cell and probes its seal, before anything is brought into it. [`ErrorKind::Unsealed`] means that
    /// the seal is breached or cannot be proven, and nobody accepted that by name.
    fn open(&self, request: &CellRequest<'_>) -> Result<Box<dyn Cell>>;

    /// Removes what dead runs left behind. Idempotent. Never touches what carries no label of ours.
    fn sweep(&self) -> Result<Swept>;
}

impl fmt::Debug for dyn Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} runtime", self.name())
    }
}

/// A program to run in a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The kit that it comes from; empty: the first one.
    pub kit: String,
    /// Its name, found in the kit, or an absolute path inside the cell.
    pub program: String,
    /// Its arguments. They are visible to others on the machine and hold no secret.
    pub arguments: Vec<String>,
    /// Its environment, on top of a minimal one (`PATH`, `HOME`, `LANG=C.UTF-8`, `TZ=UTC`).
    pub environment: BTreeMap<String, String>,
    /// Its working directory inside the cell; empty: [`CELL_FOLDER`].
    pub folder: String,
    /// Its own time limit.
    pub limit: Option<Duration>,
}

impl Program {
    /// `program` of the first kit with `arguments`.
    pub fn new<S: Into<String>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { program: program.to_owned(), arguments, ..Self::default() }
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// The name for messages.
    pub fn shown(&self) -> &str {
        self.program.rsplit('/').next().unwrap_or(&self.program)
    }
}

/// Standard input and output of a program that runs to its end.
#[derive(Default)]
pub struct Pipes<'a> {
    /// What it reads; nothing by default. An error of the reader ends the program and is returned.
    pub stdin: Option<Box<dyn Read + Send + 'a>>,
    /// Where its standard output goes; by default into [`Ended::stdout`]. An error of the writer ends the program.
    pub stdout: Option<Box<dyn Write + Send + 'a>>,
}

/// At most this much of a standard output that nobody takes is kept: its beginning.
pub const STDOUT_MAX: usize = 4 << 20;
/// At most this much of a standard error is kept: its end.
pub const STDERR_MAX: usize = 64 << 10;

/// How a program ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it, or when nobody knows.
    pub code: Option<i32>,
    /// The signal that ended it, if that is known.
    pub signal: Option<i32>,
    /// The beginning of its standard output, at most [`STDOUT_MAX`], unless it went elsewhere.
    pub stdout: Vec<u8>,
    /// Whether the standard output was longer.
    pub stdout_cut: bool,
    /// The end of its standard error, at most [`STDERR_MAX`].
    pub stderr: String,
}

impl Ended {
    /// Whether it ended with exit code 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Whether its end says nothing about what it worked on: nobody knows how it ended (its container is gone), it was
    /// killed, or it could not be executed.
    pub fn tells_nothing(&self) -> bool {
        match (self.code, self.signal) {
            (None, None) | (_, Some(9)) => true,
            (Some(code), _) => matches!(code, 126 | 127 | 137),
            (None, Some(_)) => false,
        }
    }

    /// `exit code 1: the last line of its standard error`.
    pub fn describe(&self) -> String {
        let how = match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit code".to_owned(),
        };
        match self.stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => format!("{how}: {line}"),
            None => how,
        }
    }
}

/// Where a server in a cell listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket: an absolute path inside the cell.
    Unix(String),
    /// A TCP port on the cell's own loopback address.
    Tcp(u16),
}

/// A connection to a server in a cell.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A sealed place in which restored software runs. Everything in it dies with it.
///
/// Paths are paths inside the cell, absolute, below [`CELL_FOLDER`] where something is written.
pub trait Cell: Send + Sync {
    /// The runtime, the software and what was proven about the seal.
    fn facts(&self) -> &CellFacts;

    /// Writes what `from` gives into the file `to`, making its folders. Returns the bytes written.
    fn bring(&self, from: &mut dyn Read, to: &str) -> Result<u64>;

    /// Makes the new file `to` and its folders, for writing from its beginning. For what comes in pieces of many
    /// files; what is already there is an error.
    fn create(&self, to: &str) -> Result<Box<dyn Write + '_>>;

    /// Copies the restored file or folder `from`, whatever is in it except devices, sockets and pipes, to `to`.
    /// Symbolic links are copied as they are; they mean something else inside. Owners become the cell's user.
    fn bring_tree(&self, from: &Path, to: &str) -> Result<()>;

    /// Runs a program to its end.
    fn run(&self, program: &Program, pipes: Pipes<'_>) -> Result<Ended>;

    /// Starts a server, which runs until it is stopped or the cell is dropped.
    fn start(&self, program: &Program) -> Result<Box<dyn Service>>;

    /// Connects to a server in the cell. To be called within a tokio runtime.
    fn dial(&self, address: &Address) -> Result<Box<dyn Wire>>;

    /// Removes the cell with everything in it.
    fn close(self: Box<Self>) -> Result<()>;
}

/// A server in a cell.
pub trait Service: Send + Sync {
    /// How it ended, if it ended.
    fn ended(&self) -> Option<Ended>;

    /// The end of what it said on both outputs, at most [`STDERR_MAX`].
    fn log(&self) -> String;

    /// Asks it to end (SIGTERM; `fast` SIGINT, which PostgreSQL takes for a fast shutdown), and kills it after
    /// `grace`.
    fn stop(&self, fast: bool, grace: Duration) -> Result<Ended>;
}

/// One thing that a seal must keep.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SealPart {
    /// No way to any other machine, and none to servers of this one.
    Network,
    /// Nothing but the cell's own folder can be written, and no socket of this machine can be reached by name.
    Files,
    /// Programs are not root, and cannot become it.
    User,
    /// The environment holds nothing of ours.
    Environment,
    /// Memory, processes and disk are limited.
    Limits,
}

impl SealPart {
    /// All parts.
    pub const ALL: [Self; 5] = [Self::Network, Self::Files, Self::User, Self::Environment, Self::Limits];

    /// The word in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Files => "files",
            Self::User => "user",
            Self::Environment => "environment",
            Self::Limits => "limits",
        }
    }
}

/// What was seen when a part of a seal was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SealState {
    /// It was tried, and it held.
    Holds(String),
    /// It was tried, and it gave way.
    Breached(String),
    /// It could not be tried, or this runtime cannot keep it here.
    Unproven(String),
}

/// What was tried of a seal before anything was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Every part with what was seen.
    pub parts: BTreeMap<SealPart, SealState>,
    /// Parts that the config accepts although they do not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<SealPart>,
}

impl Seal {
    /// Why nothing may be started, if that is so. A part that nobody tried is one that does not hold.
    pub fn verdict(&self) -> Result<()> {
        let refused = |part: &SealPart| {
            let why = match self.parts.get(part) {
                Some(SealState::Holds(_)) => return None,
                Some(SealState::Breached(why)) => format!("the seal is breached ({}): {why}", part.word()),
                Some(SealState::Unproven(why)) => format!("the seal is not proven ({}): {why}", part.word()),
                None => format!("the seal was not tried ({})", part.word()),
            };
            (!self.accepted.contains(part)).then_some((*part, why))
        };
        let refused: Vec<_> = SealPart::ALL.iter().filter_map(refused).collect();
        if refused.is_empty() {
            return Ok(());
        }
        let words: Vec<_> = refused.iter().map(|(part, _)| part.word()).collect();
        let whys: Vec<_> = refused.iter().map(|(_, why)| why.as_str()).collect();
        Err(Error::new(ErrorKind::Unsealed, "start restored software").because(whys.join("; ")).advise(format!(
            "use another runtime, or accept it by name in the config: `runtime: {{ accept_unsealed: [{}] }}`",
            words.join(", ")
        )))
    }
}

/// What is known of a cell, for the evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CellFacts {
    /// The name of the runtime.
    pub runtime: String,
    /// The software in it.
    pub software: Vec<Software>,
    /// What was proven about its seal.
    pub seal: Seal,
}

impl CellFacts {
    /// The software of a kit.
    pub fn of(&self, kit: &str) -> Option<&Software> {
        self.software.iter().find(|s| s.kit == kit)
    }
}

/// What an engine was, and how long it took: part of an examination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// The cells, one for each thing that was loaded.
    pub cells: Vec<CellFacts>,
    /// Seconds by phase, summed over what was loaded.
    pub phases: BTreeMap<Phase, f64>,
}

/// A path in a cell: [`CELL_FOLDER`] and `name`.
pub fn inside(name: &str) -> String {
    format!("{CELL_FOLDER}/{name}")
}

/// The part of an inside path below [`CELL_FOLDER`]; `None` for any other path and for one that climbs.
pub fn below(inside: &str) -> Option<PathBuf> {
    let rest = inside.strip_prefix(CELL_FOLDER)?;
    let rest = if rest.is_empty() { rest } else { rest.strip_prefix('/')? };
    let path = Path::new(rest);
    path.components().all(|c| matches!(c, std::path::Component::Normal(_))).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, version) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Version::new(15, 18)),
            ("mariadbd  Ver 10.11.19-MariaDB for debian-linux-gnu on x86_64", Version::new(10, 11)),
            ("etcd Version: 3.4.23\nGit SHA: Not provided", Version::new(3, 4)),
            ("v3.5.16", Version::new(3, 5)),
            ("17", Version::new(17, 0)),
        ] {
            assert_eq!(text.parse::<Version>().ok(), Some(version), "{text}");
        }
        for text in ["", "no version", "99999999999999", "x86"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_seal_holds_when_each_part_holds_or_is_accepted() {
        let holds = |part: &SealPart| (*part, SealState::Holds("tried".into()));
        let all: BTreeMap<_, _> = SealPart::ALL.iter().map(holds).collect();
        assert!(Seal { parts: all.clone(), accepted: vec![] }.verdict().is_ok());
        assert!(Seal::default().verdict().is_err(), "a seal that nobody tried");
        for part in SealPart::ALL {
            for state in [SealState::Breached("x".into()), SealState::Unproven("x".into())] {
                let mut parts = all.clone();
                parts.insert(part, state);
                let seal = Seal { parts, accepted: vec![] };
                let error = seal.verdict().unwrap_err();
                assert_eq!(error.kind, ErrorKind::Unsealed);
                assert!(error.chain().contains(&format!("[{}]", part.word())), "{}", error.chain());
                assert!(Seal { accepted: vec![part], ..seal.clone() }.verdict().is_ok());
                let other = SealPart::ALL.into_iter().find(|p| *p != part).unwrap();
                assert!(Seal { accepted: vec![other], ..seal }.verdict().is_err());
            }
        }
    }

    #[test]
    fn only_paths_below_the_folder_are_inside() {
        assert_eq!(below("/cell/a/b"), Some("a/b".into()));
        assert_eq!(below("/cell"), Some("".into()));
        for path in ["/etc/passwd", "/cell/../etc", "cell/a", "/cellar", "/cell//../x"] {
            assert_eq!(below(path), None, "{path}");
        }
    }
}
