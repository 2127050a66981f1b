//! Programs in a container.
//!
//! The daemon passes standard output and standard error through one connection. When that ends, nothing says whether
//! the program ended or the connection broke; so programs that run to their end are started by a shell that writes
//! an end mark to both streams after them. A stream without its mark is a broken one.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use firedrill_core::cell::{Ended, Pipes, STDERR_MAX, STDOUT_MAX};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use futures_util::{Stream, StreamExt as _};
use testcontainers::bollard::Docker;
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::errors::Error as BollardError;
use testcontainers::bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::daemon::{self, REQUEST_TIME, ask};
use super::marked::UntilMark;
use crate::runtime::tail::Tail;

/// After its end, a program's exit code must be known within this time.
const CODE_TIME: Duration = Duration::from_secs(20);
/// Runs a program and marks the end of its output.
const RUN: &str = r#"mark=$1; shift; "$@"; code=$?; printf %s "$mark"; printf %s "$mark" >&2; exit "$code""#;
/// The same with a standard input. What the program left of it is read until nobody feeds it any more: Podman resets a
/// connection of which something is left to read, and what was said last would be lost.
const RUN_FED: &str = r#"mark=$1; shift; "$@"; code=$?; printf %s "$mark"; printf %s "$mark" >&2
cat >/dev/null; exit "$code""#;

/// What the daemon is to run.
#[derive(Clone, Debug, Default)]
pub(super) struct Command {
    arguments: Vec<String>,
    environment: Vec<String>,
    folder: Option<String>,
    fed: bool,
}

impl Command {
    pub(super) fn new<S: Into<String>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self { arguments: arguments.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// With an environment, in a folder.
    pub(super) fn within(mut self, environment: Vec<String>, folder: &str) -> Self {
        self.environment = environment;
        self.folder = Some(folder.to_owned());
        self
    }

    /// With a standard input.
    pub(super) fn fed(mut self) -> Self {
        self.fed = true;
        self
    }

    /// With a shell in front of it that runs `script`; the arguments become `$1` and so on, after `first`.
    pub(super) fn under(mut self, script: &str, first: &str) -> Self {
        let shell = ["/bin/sh", "-c", script, "sh", first].map(str::to_owned);
        self.arguments.splice(0..0, shell);
        self
    }
}

pub(super) type Frames = Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, BollardError>> + Send>>;
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// A program that was started in a container.
pub(super) struct Exec {
    pub(super) docker: Docker,
    pub(super) id: String,
    pub(super) output: Frames,
    pub(super) input: Input,
}

impl Exec {
    pub(super) async fn start(docker: &Docker, container: &str, command: Command) -> Result<Self> {
        let attempted = "start a program in a container";
        let options = CreateExecOptions {
            attach_stdin: Some(command.fed),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.arguments),
            env: Some(command.environment),
            working_dir: command.folder,
            ..CreateExecOptions::default()
        };
        let id = ask(attempted, docker.create_exec(container, options)).await?.id;
        let options = StartExecOptions { output_capacity: Some(64 << 10), ..StartExecOptions::default() };
        match ask(attempted, docker.start_exec(&id, Some(options))).await? {
            StartExecResults::Attached { output, input } => {
                Ok(Self { docker: docker.clone(), id, output, input })
            }
            StartExecResults::Detached => {
                Err(Error::new(ErrorKind::Internal, attempted).because("the daemon did not attach to it"))
            }
        }
    }

    /// The standard input, without whatever the program says.
    pub(super) fn into_input(self) -> Input {
        self.input
    }
}

/// What a program says next. `Ok(None)` is the end of the connection, which may not be the end of the program.
pub(super) enum Said {
    Out(bytes::Bytes),
    Err(bytes::Bytes),
}

/// Reads the next piece. Whatever does not come in frames comes from a broken connection.
pub(super) async fn next(output: &mut Frames) -> io::Result<Option<Said>> {
    match output.next().await {
        None => Ok(None),
        Some(Ok(LogOutput::StdOut { message })) => Ok(Some(Said::Out(message))),
        Some(Ok(LogOutput::StdErr { message })) => Ok(Some(Said::Err(message))),
        Some(Ok(_)) => Err(io::Error::other("the connection to the container daemon ended in the middle")),
        Some(Err(e)) => Err(io::Error::other(e)),
    }
}

/// The exit code of a program that has ended, or is about to. `None` is a program that still runs.
pub(super) async fn code(docker: &Docker, id: &str) -> Result<Option<i32>> {
    let seen = ask("ask how a program in a container ended", docker.inspect_exec(id)).await?;
    match (seen.running, seen.exit_code) {
        (Some(false), Some(code)) => Ok(Some(i32::try_from(code).unwrap_or(-1))),
        _ => Ok(None),
    }
}

/// Runs `command` to its end. `kill` ends it with everything that it has started.
pub(super) fn run(
    docker: &Docker,
    container: &str,
    mut command: Command,
    pipes: Pipes<'_>,
    limits: &Watch,
    kill: &dyn Fn(),
) -> Result<Ended> {
    let mark = format!("\u{1e}end of {}\u{1e}", super::unique());
    command.fed = pipes.stdin.is_some();
    let script = if command.fed { RUN_FED } else { RUN };
    let command = command.under(script, &mark);
    let (docker, container) = (docker.clone(), container.to_owned());
    let started = async move { Exec::start(&docker, &container, command).await };
    let exec = daemon::wait(started, REQUEST_TIME * 2, limits).inspect_err(|_| {
        // It may have started all the same.
        kill();
    })?;
    let Exec { docker, id, output, input } = exec;
    let handle = daemon::handle()?;
    let mut ended = Ended::default();
    let (cancel, cancelled) = watch::channel(false);
    std::thread::scope(|scope| {
        let (stdin, stdout) = (pipes.stdin, pipes.stdout);
        let feeder_cancelled = cancelled.clone();
        let feeder = scope.spawn(move || match stdin {
            Some(mut from) => feed(handle, &mut from, input, feeder_cancelled),
            None => Ok(()),
        });
        let (tell, told) = mpsc::sync_channel(1);
        let taker = scope.spawn(move || {
            let taken = take(handle, output, stdout, mark.as_bytes(), cancelled);
            let _ = tell.send(());
            taken
        });
        let mut stopped = Ok(());
        while matches!(told.recv_timeout(Duration::from_millis(20)), Err(mpsc::RecvTimeoutError::Timeout)) {
            stopped = limits.check();
            if stopped.is_err() {
                kill();
                break;
            }
        }
        // Nobody reads any more what is still being fed.
        let _ = cancel.send(true);
        let taken = taker.join().unwrap_or_else(|_| Err(Broken::Us(io::Error::other("the writer panicked"))));
        let fed = feeder.join().unwrap_or_else(|_| Err(io::Error::other("the reader panicked")));
        stopped?;
        let failed = |what: &str| Error::new(ErrorKind::Unavailable, format!("{what} a program in a cell"));
        fed.map_err(|e| failed("feed").from_source(&e))?;
        let taken = taken.map_err(|broken| match broken {
            Broken::Us(e) => failed("read from").from_source(&e),
            Broken::Connection(e) => failed("run").because(BROKEN).from_source(&e),
            Broken::NoMark => failed("run").because(BROKEN),
        })?;
        (ended.stdout, ended.stdout_cut, ended.stderr) = (taken.stdout, taken.cut, taken.stderr);
        Ok(())
    })?;
    ended.code = Some(daemon::wait(async move { ended_code(&docker, &id).await }, CODE_TIME * 2, limits)?);
    Ok(ended)
}

const BROKEN: &str = "its output ended without an end mark: the cell was killed, or the connection to the container daemon broke";

async fn ended_code(docker: &Docker, id: &str) -> Result<i32> {
    let deadline = Instant::now() + CODE_TIME;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(code) = code(docker, id).await? {
            return Ok(code);
        }
        if Instant::now() > deadline {
            return Err(Error::new(ErrorKind::Unavailable, "ask how a program in a container ended")
                .because("it ended, and the daemon says that it runs"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Why there is no output.
enum Broken {
    /// Nobody takes it.
    Us(io::Error),
    Connection(io::Error),
    NoMark,
}

struct Taken {
    stdout: Vec<u8>,
    cut: bool,
    stderr: String,
}

/// Feeds a program. One that ends before it has read everything says why with its exit code.
fn feed(
    handle: &Handle,
    from: &mut dyn Read,
    mut input: Input,
    mut cancelled: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let read = loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => break Err(e),
        };
        let written = handle.block_on(async {
            tokio::select! {
                written = input.write_all(buffer.get(..n).unwrap_or_default()) => written.is_ok(),
                _ = cancelled.wait_for(|cancelled| *cancelled) => false,
            }
        });
        // A broken connection is noticed where the output is read.
        if !written {
            return Ok(());
        }
    };
    // The other half of the connection stays open, so that dropping this one does not end the input.
    handle.block_on(async {
        tokio::select! {
            _ = input.shutdown() => {}
            _ = cancelled.wait_for(|cancelled| *cancelled) => {}
        }
    });
    read
}

/// Takes what a program says up to its end mark, even when nobody wants it any more, so that the program does not hang.
fn take(
    handle: &Handle,
    mut output: Frames,
    mut stdout: Option<Box<dyn Write + Send + '_>>,
    mark: &[u8],
    mut cancelled: watch::Receiver<bool>,
) -> std::result::Result<Taken, Broken> {
    let mut taken = Taken { stdout: Vec::new(), cut: false, stderr: String::new() };
    let (mut out, mut err) = (UntilMark::new(mark), UntilMark::new(mark));
    let mut tail = Tail::new(STDERR_MAX);
    let mut refused = None;
    while !(out.found() && err.found()) {
        let said = handle.block_on(async {
            tokio::select! {
                said = next(&mut output) => said,
                _ = cancelled.wait_for(|cancelled| *cancelled) => Ok(None),
            }
        });
        match said.map_err(Broken::Connection)? {
            None => return Err(Broken::NoMark),
            Some(Said::Err(bytes)) => err.push(&bytes, |bytes| tail.push(bytes)),
            Some(Said::Out(bytes)) => out.push(&bytes, |bytes| match &mut stdout {
                Some(to) if refused.is_none() => refused = to.write_all(bytes).err(),
                Some(_) => {}
                None => {
                    let room = STDOUT_MAX - taken.stdout.len().min(STDOUT_MAX);
                    taken.cut |= bytes.len() > room;
                    taken.stdout.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                }
            }),
        }
    }
    taken.stderr = tail.text();
    refused.map_or(Ok(taken), |e| Err(Broken::Us(e)))
}
