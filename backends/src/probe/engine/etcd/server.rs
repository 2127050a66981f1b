//! A single etcd in a cell: restoring a snapshot, starting, asking.
//!
//! It listens on the loopback network of its cell, which nobody else shares: not every etcd can serve a unix socket
//! by its path. Questions go to `etcdctl txn` by its standard input, where keys may hold any byte.

use std::io::{self, Read, Seek, Write};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firedrill_core::cell::{Cell, Ended, Kit, Pipes, Program, Service, Version, inside};
use firedrill_core::error::Error;
use firedrill_core::subject::Subject;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::unpack::Unpacked;
use crate::probe::engine::session::offered;

const CLIENT: &str = "http://127.0.0.1:2379";
const PEER: &str = "http://127.0.0.1:2380";
/// A single answer of `etcdctl` may be this long.
const ANSWER_MAX: usize = 128 << 20;
/// One question may take this long; large pages of keys come within a second.
const QUESTION_TIME: &str = "--command-timeout=120s";
/// An etcd without data is there within seconds; one with more reads it all.
const START_TIME: Duration = Duration::from_secs(90);
const START_BYTES_PER_SECOND: u64 = 10 << 20;
/// What programs say when it is not the snapshot that fails them.
const OWN_TROUBLE: [&str; 14] = [
    "no space left",
    "permission denied",
    "cannot allocate memory",
    "out of memory",
    "too many open files",
    "read-only file system",
    "quota exceeded",
    "file too large",
    "operation not permitted",
    "address already in use",
    "resource temporarily unavailable",
    "input/output error",
    "failed to create new os thread",
    "unknown flag",
];

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The software refuses the snapshot, and says this.
    Refused(String),
    /// The server is there, and a question was not answered.
    Unanswered(String),
    /// Something kept us from it.
    Trouble(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Trouble(error.chain())
    }
}

/// The software that can restore a snapshot of an etcd of version `least`: `etcdutl` since 3.5, `etcdctl` until
/// then. `Err` says in words what is missing.
pub(super) fn kit(subject: &Subject, least: Option<Version>) -> Result<Kit, String> {
    let kit = |programs: &[&str], at_most| Kit {
        name: "etcd".to_owned(),
        at_least: least,
        at_most,
        programs: programs.iter().map(|p| (*p).to_owned()).collect(),
    };
    let full = kit(&["etcd", "etcdctl", "etcdutl"], None);
    let old = kit(&["etcd", "etcdctl"], Some(Version::new(3, 5)));
    match (offered(subject, &full), offered(subject, &old)) {
        (Ok(()), _) => Ok(full),
        (Err(_), Ok(())) => Ok(old),
        (Err(why), Err(_)) => Err(why),
    }
}

/// Brings the snapshot into the cell and restores it there.
pub(super) fn restore(
    cell: &dyn Cell,
    kit: &Kit,
    unpacked: &mut Unpacked,
    skip_hash: bool,
) -> Result<(), Failure> {
    let source = inside("snapshot.db");
    unpacked.file.rewind().map_err(|e| Failure::Trouble(format!("failed to read a snapshot: {e}")))?;
    cell.bring(&mut unpacked.file, &source)?;
    let tool = if kit.programs.iter().any(|p| p == "etcdutl") { "etcdutl" } else { "etcdctl" };
    let data = inside("data");
    let mut arguments = vec!["snapshot".to_owned(), "restore".to_owned(), source];
    for (name, value) in [
        ("data-dir", data.as_str()),
        ("name", "drill"),
        ("initial-cluster", &format!("drill={PEER}")),
        ("initial-advertise-peer-urls", PEER),
    ] {
        arguments.push(format!("--{name}={value}"));
    }
    if skip_hash {
        arguments.push("--skip-hash-check=true".to_owned());
    }
    let ended = cell.run(&Program::new(tool, arguments).env("ETCDCTL_API", "3"), Pipes::default())?;
    if ended.succeeded() {
        return Ok(());
    }
    Err(refused(&format!("{tool} snapshot restore"), &ended))
}

fn refused(what: &str, ended: &Ended) -> Failure {
    let said = ended.stderr.to_lowercase();
    // SIGKILL and SIGXFSZ are limits, ours or the machine's; a container that is gone says nothing.
    let limited = ended.tells_nothing() || ended.signal == Some(25) || ended.code == Some(153);
    let own = limited || OWN_TROUBLE.iter().any(|text| said.contains(text));
    let text = format!("{what}: {}", clip(&describe(ended)));
    if own { Failure::Trouble(text) } else { Failure::Refused(text) }
}

/// What it said that matters: Go programs panic with a long trace after the reason.
fn describe(ended: &Ended) -> String {
    let telling = |line: &&str| {
        let line = line.to_lowercase();
        ["panic:", "\"level\":\"fatal\"", "error:", " c | ", "fatal error"].iter().any(|t| line.contains(t))
    };
    match ended.stderr.lines().find(telling) {
        Some(line) => {
            let how = Ended { stderr: String::new(), ..ended.clone() };
            format!("{}: {}", how.describe(), line.trim())
        }
        None => ended.describe(),
    }
}

fn clip(text: &str) -> String {
    let mut clipped: String = text.chars().filter(|c| !c.is_control()).take(400).collect();
    if clipped.len() < text.len() {
        clipped.push_str(" ...");
    }
    clipped
}

/// Starts an etcd on what was restored, and waits until it answers.
pub(super) fn start<'c>(cell: &'c dyn Cell, subject: &Subject, bytes: u64) -> Result<Server<'c>, Failure> {
    let data = inside("data");
    let arguments = [
        "--name=drill".to_owned(),
        format!("--data-dir={data}"),
        format!("--listen-client-urls={CLIENT}"),
        format!("--advertise-client-urls={CLIENT}"),
        format!("--listen-peer-urls={PEER}"),
        // Nothing is written here, and a large snapshot must not raise an alarm.
        "--quota-backend-bytes=-1".to_owned(),
    ];
    let service = cell.start(&Program::new("etcd", arguments))?;
    let server = Server { cell, service };
    let limit = START_TIME + Duration::from_secs(bytes / START_BYTES_PER_SECOND);
    let begin = Instant::now();
    loop {
        subject.watch.check()?;
        if let Some(ended) = server.service.ended() {
            return Err(refused("etcd did not start", &ended));
        }
        let first = ["get --from-key --keys-only --limit=1 -- \"\\x00\"".to_owned()];
        match server.transaction(&first, "--command-timeout=3s") {
            Ok(_) => return Ok(server),
            Err(Failure::Unanswered(why)) if begin.elapsed() > limit => {
                let log = server.service.log();
                let last = log.lines().next_back().unwrap_or_default();
                return Err(Failure::Trouble(format!(
                    "etcd did not answer within {} s: {why}; it said: {}",
                    limit.as_secs(),
                    clip(last)
                )));
            }
            Err(Failure::Unanswered(_)) => std::thread::sleep(Duration::from_millis(100)),
            Err(other) => return Err(other),
        }
    }
}

/// A running etcd.
pub(super) struct Server<'c> {
    cell: &'c dyn Cell,
    service: Box<dyn Service>,
}

/// One key as etcd tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Pair {
    key: String,
    #[serde(default)]
    pub(super) create_revision: u64,
    #[serde(default)]
    pub(super) mod_revision: u64,
    #[serde(default)]
    pub(super) version: u64,
    #[serde(default)]
    value: String,
}

impl Pair {
    pub(super) fn key(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.key).ok()
    }

    pub(super) fn value(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.value).ok()
    }
}

/// One answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Range {
    #[serde(default)]
    pub(super) kvs: Vec<Pair>,
    #[serde(default)]
    pub(super) more: bool,
    #[serde(default)]
    pub(super) count: u64,
}

#[derive(Debug, Deserialize)]
struct Header {
    #[serde(default)]
    revision: u64,
}

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(rename = "ResponseRange", alias = "response_range", default)]
    range: Range,
}

#[derive(Debug, Deserialize)]
struct Wrapped {
    #[serde(rename = "Response", alias = "response")]
    response: Response,
}

#[derive(Debug, Deserialize)]
struct Transaction {
    header: Header,
    #[serde(default)]
    responses: Vec<Wrapped>,
}

/// What several questions in one transaction bring.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) revision: u64,
    pub(super) ranges: Vec<Range>,
}

#[derive(Debug, Deserialize)]
struct Alarms {
    #[serde(default)]
    alarms: Vec<Alarm>,
}

#[derive(Debug, Deserialize)]
struct Alarm {
    #[serde(default)]
    alarm: u64,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    #[serde(rename = "HashKV")]
    hash: HashKv,
}

#[derive(Debug, Deserialize)]
struct HashKv {
    hash: u32,
}

impl Server<'_> {
    /// Asks several `get`s at once.
    pub(super) fn ask(&self, questions: &[String]) -> Result<Answers, Failure> {
        self.transaction(questions, QUESTION_TIME)
    }

    fn transaction(&self, questions: &[String], limit: &str) -> Result<Answers, Failure> {
        // No comparisons, the questions, nothing otherwise.
        let input = format!("\n{}\n\n\n", questions.join("\n"));
        let answer: Transaction = self.etcdctl(&["txn", limit], input)?;
        let ranges = answer.responses.into_iter().map(|wrapped| wrapped.response.range).collect();
        Ok(Answers { revision: answer.header.revision, ranges })
    }

    /// The numbers of alarms that are raised.
    pub(super) fn alarms(&self) -> Result<Vec<u64>, Failure> {
        let answer: Alarms = self.etcdctl(&["alarm", "list", QUESTION_TIME], String::new())?;
        Ok(answer.alarms.into_iter().map(|alarm| alarm.alarm).collect())
    }

    /// The checksum of everything up to `revision`.
    pub(super) fn hash(&self, revision: u64) -> Result<Option<u32>, Failure> {
        let revision = format!("--rev={revision}");
        let answer: Vec<Endpoint> =
            self.etcdctl(&["endpoint", "hashkv", &revision, QUESTION_TIME], String::new())?;
        Ok(answer.first().map(|endpoint| endpoint.hash.hash))
    }

    fn etcdctl<T: DeserializeOwned>(&self, arguments: &[&str], input: String) -> Result<T, Failure> {
        let fixed = [format!("--endpoints={CLIENT}"), "--dial-timeout=2s".to_owned(), "-w=json".to_owned()];
        let arguments = arguments.iter().map(|a| (*a).to_owned()).chain(fixed);
        let mut program = Program::new("etcdctl", arguments).env("ETCDCTL_API", "3");
        program.limit = Some(Duration::from_secs(300));
        let mut said = Bounded::default();
        let pipes = Pipes {
            stdin: Some(Box::new(io::Cursor::new(input.into_bytes())) as Box<dyn Read + Send>),
            stdout: Some(Box::new(&mut said)),
        };
        let ended = self.cell.run(&program, pipes)?;
        if !ended.succeeded() {
            if let Some(died) = self.service.ended() {
                return Err(refused("etcd ended while it was asked", &died));
            }
            return Err(Failure::Unanswered(format!("etcdctl: {}", clip(&describe(&ended)))));
        }
        serde_json::from_slice(&said.0)
            .map_err(|e| Failure::Trouble(format!("failed to understand what etcdctl says: {e}")))
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // The cell ends it in any case.
        let _ended = self.service.stop(false, Duration::from_secs(1));
    }
}

/// An answer, as long as it is not too long.
#[derive(Default)]
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > ANSWER_MAX {
            return Err(io::Error::other(format!("the answer is longer than {ANSWER_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A key as a quoted word for the standard input of `etcdctl txn`.
pub(super) fn quoted(key: &[u8]) -> String {
    let mut word = String::with_capacity(key.len() + 2);
    word.push('"');
    for byte in key {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b':' => {
                word.push(char::from(*byte));
            }
            _ => word.push_str(&format!("\\x{byte:02x}")),
        }
    }
    word.push('"');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_bytes_become_one_word() {
        assert_eq!(quoted(b"/registry/a-b"), "\"/registry/a-b\"");
        assert_eq!(quoted(b"a\"b\\ \n\xff\0"), r#""a\x22b\x5c\x20\x0a\xff\x00""#);
    }
}
