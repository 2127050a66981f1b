//! The output of a program, as a stream with an honest end.
//!
//! A pipe ends in the same way whether the program that wrote to it was done, failed or was killed. Here the end of
//! the stream is an error unless the program ended with 0.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::{Secret, redact_urls};
use firedrill_core::watch::Watch;
use rustix::process::{Pid, Signal, kill_process_group};

use super::ENDING;

/// This much of what a program complains about is kept: the end of it.
const COMPLAINTS_MAX: usize = 16 << 10;
/// How often a running program is looked after.
const GLANCE: Duration = Duration::from_millis(100);
/// So many of the last lines of complaints are told.
const LINES_TOLD: usize = 3;

/// A program with its arguments.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// What runs it elsewhere.
    pub(super) via: Vec<String>,
    /// Variables on top of ours; their values are secrets.
    pub(super) variables: Vec<(&'static str, Secret)>,
    /// What the last line of its complaints has to say, or it did not end well.
    pub(super) last_words: Option<&'static str>,
}

impl Program {
    pub(super) fn new(command: Vec<String>) -> Self {
        Self { command, ..Self::default() }
    }

    #[must_use]
    pub(super) fn via(mut self, via: &[String]) -> Self {
        self.via = via.to_vec();
        self
    }

    #[must_use]
    pub(super) fn with(mut self, variable: &'static str, value: Option<Secret>) -> Self {
        self.variables.extend(value.map(|value| (variable, value)));
        self
    }

    /// Its name, for people.
    pub(super) fn name(&self) -> String {
        let name = self.command.first().map_or("a program", |program| program.as_str());
        let name = name.rsplit('/').next().unwrap_or(name);
        match self.via.first() {
            Some(via) => format!("{name} (via {via})"),
            None => name.to_owned(),
        }
    }
}

/// A running program. It is killed, with all that it started, when this is dropped.
pub(super) struct Output {
    name: String,
    child: Child,
    stdout: Option<ChildStdout>,
    complaints: Option<JoinHandle<String>>,
    watch: Watch,
    ended: Arc<AtomicBool>,
    secrets: Vec<Secret>,
    last_words: Option<&'static str>,
    /// What came of it, once that is known.
    end: Option<std::result::Result<(), String>>,
}

impl Output {
    pub(super) fn start(program: Program, watch: &Watch) -> Result<Self> {
        let name = program.name();
        let failed = || Error::new(ErrorKind::Unavailable, format!("start {name}"));
        let mut words = program.via.iter().chain(&program.command);
        let first = words.next().ok_or_else(|| failed().because("there is no command"))?;
        let mut command = Command::new(first);
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        for (variable, value) in &program.variables {
            command.env(variable, value.reveal());
        }
        let mut child = command
            .spawn()
            .map_err(|e| failed().from_source(&e).advise(format!("is `{first}` installed, and on PATH?")))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let complaints = stderr.map(|stderr| std::thread::spawn(move || tail(stderr)));
        let ended = Arc::new(AtomicBool::new(false));
        guard(&child, watch.clone(), Arc::clone(&ended));
        Ok(Self {
            name,
            child,
            stdout,
            complaints,
            watch: watch.clone(),
            ended,
            secrets: program.variables.into_iter().map(|(_, value)| value).collect(),
            last_words: program.last_words,
            end: None,
        })
    }

    /// Runs a program whose output nobody needs, to its end.
    pub(super) fn run(program: Program, watch: &Watch) -> Result<()> {
        let name = program.name();
        let mut output = Self::start(program, watch)?;
        io::copy(&mut output, &mut io::sink())
            .map(drop)
            .map_err(|e| Error::new(ErrorKind::Unavailable, format!("run {name}")).because(e.to_string()))
    }

    fn close(&mut self) -> std::result::Result<(), String> {
        self.stdout = None;
        let status = self.status()?;
        self.ended.store(true, Ordering::SeqCst);
        let complaints = self.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        self.watch.check().map_err(|e| format!("{} was stopped: {}", self.name, e.chain()))?;
        if !status.success() {
            return Err(format!("{} ended with {}{}", self.name, ending(status), self.told(&complaints)));
        }
        if let Some(words) = self.last_words
            && !complaints.lines().last().is_some_and(|line| line.contains(words))
        {
            let told = self.told(&complaints);
            return Err(format!("{} ended without saying `{words}`{told}", self.name));
        }
        Ok(())
    }

    fn status(&mut self) -> std::result::Result<ExitStatus, String> {
        let patience = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if patience.elapsed() < ENDING => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    kill(&self.child);
                    return Err(format!("{} closed its output and did not end", self.name));
                }
                Err(e) => return Err(format!("nobody knows how {} ended: {e}", self.name)),
            }
        }
    }

    /// The end of what it complained about, without secrets.
    fn told(&self, complaints: &str) -> String {
        let lines: Vec<&str> = complaints.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(LINES_TOLD)..).unwrap_or_default().join("; ");
        let mut text = redact_urls(&last);
        for secret in self.secrets.iter().filter(|secret| !secret.reveal().is_empty()) {
            text = text.replace(secret.reveal(), "***");
        }
        if text.is_empty() { String::new() } else { format!(": {text}") }
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(stdout) = &mut self.stdout else {
                // Whoever asks again hears the same.
                let end = match &self.end {
                    Some(end) => end.clone(),
                    None => Err("its end is not known".to_owned()),
                };
                return end.map(|()| 0).map_err(io::Error::other);
            };
            match stdout.read(buffer) {
                Ok(0) => {
                    let end = self.close();
                    self.end = Some(end);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.ended.swap(true, Ordering::SeqCst) {
            kill(&self.child);
            let _ = self.child.wait();
        }
    }
}

/// Kills the program when its time is over: a read from its pipe would wait for ever.
fn guard(child: &Child, watch: Watch, ended: Arc<AtomicBool>) {
    let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    std::thread::spawn(move || {
        while !ended.load(Ordering::SeqCst) {
            if watch.check().is_err() {
                // It may have ended a moment ago; its number is not given away before we waited for it.
                let _ = kill_process_group(group, Signal::KILL);
                return;
            }
            std::thread::sleep(GLANCE);
        }
    });
}

fn kill(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => status.to_string(),
    }
}

/// The end of what comes; the rest is read and forgotten, so that nobody waits for us.
fn tail(mut from: impl Read) -> String {
    let mut kept = VecDeque::new();
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                kept.extend(buffer.get(..n).unwrap_or_default());
                let more = kept.len().saturating_sub(COMPLAINTS_MAX);
                kept.drain(..more);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&kept.into_iter().collect::<Vec<u8>>()).into_owned()
}
