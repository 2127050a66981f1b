//! The output of a program, as a stream with an honest end.
//!
//! A pipe ends in the same way whether the program that wrote to it was done, failed or was killed. Here the end of
//! the stream is an error unless the program ended with 0. Nothing here waits longer than the watch allows: not for
//! output, not for the end, and not for what somebody else left open.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::{Secret, redact_urls};
use firedrill_core::watch::Watch;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::ENDING;

/// This much of what a program complains about is kept: the end of it.
const COMPLAINTS_MAX: usize = 16 << 10;
/// How often a running program is looked after.
const GLANCE: Duration = Duration::from_millis(50);
/// So many of the last lines of complaints are told.
const LINES_TOLD: usize = 3;
/// Bytes that are read at a time, and how many such pieces wait for whoever is slower.
const PIECE: usize = 64 << 10;
const PIECES: usize = 16;
/// When a program is gone, what it said last is read within this time. Only somebody whom it left behind could keep
/// us waiting longer.
const LISTENING: Duration = Duration::from_secs(10);

/// A program with its arguments.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// What runs it elsewhere.
    pub(super) via: Vec<String>,
    /// Variables on top of ours; their values are secrets.
    pub(super) variables: Vec<(&'static str, Secret)>,
    /// What it is given otherwise, and is not to be told.
    pub(super) secrets: Vec<Secret>,
    /// What the last line of its complaints has to say, or it did not end well.
    pub(super) last_words: Option<&'static str>,
    /// How long it may take to end after it closed its output.
    pub(super) ending: Duration,
}

impl Program {
    pub(super) fn new(command: Vec<String>) -> Self {
        Self {
            command,
            via: Vec::new(),
            variables: Vec::new(),
            secrets: Vec::new(),
            last_words: None,
            ending: ENDING,
        }
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
    pieces: Option<Receiver<io::Result<Vec<u8>>>>,
    /// What of the piece in hand was not taken yet.
    piece: io::Cursor<Vec<u8>>,
    complaints: Complaints,
    watch: Watch,
    secrets: Vec<Secret>,
    last_words: Option<&'static str>,
    ending: Duration,
    /// Whether it was waited for: its number may be somebody else's by now.
    gone: bool,
    /// What came of it, once that is known.
    end: std::result::Result<(), String>,
}

impl Output {
    pub(super) fn start(program: Program, watch: &Watch) -> Result<Self> {
        let name = program.name();
        let failed = || Error::new(ErrorKind::Unavailable, format!("start {name}"));
        watch.check()?;
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
        let pieces = child.stdout.take().map(|stdout| {
            let (give, take) = sync_channel(PIECES);
            std::thread::spawn(move || pump(stdout, &give));
            take
        });
        let complaints = Complaints::of(child.stderr.take());
        let mut secrets = program.secrets;
        secrets.extend(program.variables.into_iter().map(|(_, value)| value));
        Ok(Self {
            name,
            child,
            pieces,
            piece: io::Cursor::default(),
            complaints,
            watch: watch.clone(),
            secrets,
            last_words: program.last_words,
            ending: program.ending,
            gone: false,
            end: Err("its end is not known".to_owned()),
        })
    }

    /// Runs a program whose output nobody needs, to its end.
    pub(super) fn run(program: Program, watch: &Watch) -> Result<()> {
        let name = program.name();
        let mut output = Self::start(program, watch)?;
        let ran = io::copy(&mut output, &mut io::sink()).map(drop);
        // Being told to stop is another matter than failing.
        watch.check()?;
        ran.map_err(|e| Error::new(ErrorKind::Unavailable, format!("run {name}")).because(e.to_string()))
    }

    /// What came of the program, after its output ended with `read`.
    fn close(&mut self, read: io::Result<()>) -> std::result::Result<(), String> {
        self.pieces = None;
        let status = self.status()?;
        self.watch.check().map_err(|e| self.stopped(&e))?;
        let complaints = self.complaints.hear(LISTENING);
        if !status.success() {
            return Err(format!("{} ended with {}{}", self.name, ending(status), self.told(&complaints)));
        }
        read.map_err(|e| format!("read what {} wrote: {e}", self.name))?;
        if let Some(words) = self.last_words
            && !complaints.lines().rfind(|line| !line.trim().is_empty()).is_some_and(|l| l.contains(words))
        {
            let told = self.told(&complaints);
            return Err(format!("{} ended without saying `{words}`{told}", self.name));
        }
        Ok(())
    }

    fn stopped(&self, why: &Error) -> String {
        format!("{} was stopped: {}", self.name, why.chain())
    }

    /// Waits for the end of the program.
    fn status(&mut self) -> std::result::Result<ExitStatus, String> {
        let patience = Instant::now();
        let mut pause = Duration::from_millis(1);
        while !has_ended(&self.child) {
            if let Err(e) = self.watch.check() {
                self.kill();
                return Err(self.stopped(&e));
            }
            if patience.elapsed() > self.ending {
                self.kill();
                let told = self.told(&self.complaints.hear(Duration::ZERO));
                return Err(format!("{} closed its output and did not end{told}", self.name));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(GLANCE);
        }
        self.kill()
            .ok_or_else(|| format!("nobody knows how {} ended: somebody else waited for it", self.name))
    }

    /// Kills the program and all that it started, as far as they still run; how the program ended.
    fn kill(&mut self) -> Option<ExitStatus> {
        // Until somebody waits for it, its number and that of its group belong to nobody else.
        if !std::mem::replace(&mut self.gone, true)
            && let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.child.wait().ok()
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
            let n = self.piece.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            let Some(pieces) = &self.pieces else {
                // Whoever asks again hears the same.
                return self.end.clone().map(|()| 0).map_err(io::Error::other);
            };
            match pieces.recv_timeout(GLANCE) {
                Ok(Ok(piece)) => self.piece = io::Cursor::new(piece),
                Ok(Err(error)) => self.end = self.close(Err(error)),
                Err(RecvTimeoutError::Disconnected) => self.end = self.close(Ok(())),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(e) = self.watch.check() {
                        self.kill();
                        self.pieces = None;
                        self.end = Err(self.stopped(&e));
                    }
                }
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.gone {
            self.kill();
        }
    }
}

/// Whether the program has ended. It is not waited for yet.
fn has_ended(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(Pid::from_child(child)), options) {
        Ok(ended) => ended.is_some(),
        Err(error) => error != rustix::io::Errno::INTR,
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

/// Reads until the end, or until nobody takes it.
fn pump(mut from: impl Read, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let read = match from.read(&mut piece) {
            Ok(0) => return,
            Ok(n) => {
                piece.truncate(n);
                Ok(piece)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => Err(e),
        };
        let failed = read.is_err();
        if to.send(read).is_err() || failed {
            return;
        }
    }
}

/// The end of what a program complains about.
struct Complaints {
    kept: Arc<Mutex<VecDeque<u8>>>,
    /// Its other end is dropped when there is nothing more to hear.
    over: Receiver<()>,
}

impl Complaints {
    /// The rest is read and forgotten, so that nobody waits for us.
    fn of(from: Option<impl Read + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let (open, over) = sync_channel(1);
        if let Some(mut from) = from {
            let keep = Arc::clone(&kept);
            std::thread::spawn(move || {
                let _open: SyncSender<()> = open;
                let mut buffer = [0; 4096];
                loop {
                    match from.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(n) => {
                            let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
                            kept.extend(buffer.get(..n).unwrap_or_default());
                            let more = kept.len().saturating_sub(COMPLAINTS_MAX);
                            kept.drain(..more);
                        }
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(_) => break,
                    }
                }
            });
        }
        Self { kept, over }
    }

    /// What was heard until the end, or until `patience` is over.
    fn hear(&self, patience: Duration) -> String {
        let _ = self.over.recv_timeout(patience);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept.iter().copied().collect::<Vec<u8>>()).into_owned()
    }
}
