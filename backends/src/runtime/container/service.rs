//! Servers in a container.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use firedrill_core::cell::{Ended, STDERR_MAX, Service};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;

use super::cage::Cage;
use super::daemon;
use super::exec::{self, Command, Exec, Said};
use crate::runtime::tail::Tail;

/// Tells its own number, and becomes the server.
pub(super) const SERVE: &str = r#"echo $$ >"$1" && shift && exec "$@""#;
/// Sends the signal `$1` to the process of which `$2` holds the number.
const SIGNAL: &str = r#"read -r number <"$2" && kill -"$1" "$number""#;
/// How often the daemon is asked whether a silent server still runs.
const PAUSE: Duration = Duration::from_millis(500);
/// After its end, what a server has started may hold its outputs open for this long.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// The daemon may fail this many times in a row to say whether a server runs.
const FAILURES_MAX: u32 = 5;
/// Sending a signal may take this long.
const SIGNAL_TIME: Duration = Duration::from_secs(20);

/// A server that was started in a container.
pub(super) struct ContainerService {
    cage: Arc<Cage>,
    /// The file in the container that holds its number.
    number: String,
    state: Arc<Mutex<State>>,
    follower: tokio::task::JoinHandle<()>,
}

struct State {
    log: Tail,
    /// The exit code, if it is known, once it ended.
    ended: Option<Option<i32>>,
}

impl ContainerService {
    /// Starts `command`. `name` tells it from other servers of the cell.
    pub(super) fn start(cage: Arc<Cage>, command: Command, name: &str, watch: &Watch) -> Result<Self> {
        let number = format!("/dev/shm/{name}");
        let command = command.under(SERVE, &number);
        let (docker, id) = (cage.docker.clone(), cage.id.clone());
        let started = async move { Exec::start(&docker, &id, command).await };
        let exec = daemon::wait(started, daemon::REQUEST_TIME * 2, watch).inspect_err(|_| cage.kill())?;
        let state = Arc::new(Mutex::new(State { log: Tail::new(STDERR_MAX), ended: None }));
        let follower = daemon::handle()?.spawn(follow(exec, Arc::clone(&state)));
        Ok(Self { cage, number, state, follower })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the signal was sent.
    fn signal(&self, signal: &str) -> bool {
        let (docker, id) = (self.cage.docker.clone(), self.cage.id.clone());
        let command = Command::new(["/bin/sh", "-c", SIGNAL, "sh", signal, &self.number]);
        let sent = async move {
            let mut exec = Exec::start(&docker, &id, command).await?;
            while let Ok(Some(_)) = exec::next(&mut exec.output).await {}
            exec::code(&docker, &exec.id).await
        };
        matches!(daemon::wait(sent, SIGNAL_TIME, &Watch::unlimited()), Ok(Some(0)))
    }
}

impl Service for ContainerService {
    fn ended(&self) -> Option<Ended> {
        let state = self.state();
        state.ended.map(|code| Ended { code, stderr: state.log.text(), ..Ended::default() })
    }

    fn log(&self) -> String {
        self.state().log.text()
    }

    fn stop(&self, fast: bool, grace: Duration) -> Result<Ended> {
        let start = Instant::now();
        let mut asked = false;
        loop {
            if let Some(ended) = self.ended() {
                return Ok(ended);
            }
            let late = start.elapsed() > grace;
            if late || !asked {
                asked |= self.signal(match (late, fast) {
                    (true, _) => "KILL",
                    (false, true) => "INT",
                    (false, false) => "TERM",
                });
            }
            if start.elapsed() > grace + SIGNAL_TIME {
                return Err(Error::new(ErrorKind::Timeout, "stop a server in a cell"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for ContainerService {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Keeps the end of what a server says, and notices when it ended.
async fn follow(mut exec: Exec, state: Arc<Mutex<State>>) {
    let keep = |bytes: &[u8]| state.lock().unwrap_or_else(PoisonError::into_inner).log.push(bytes);
    let mut over: Option<Instant> = None;
    let mut open = true;
    let mut failures = 0;
    let code = loop {
        let said = if open {
            tokio::time::timeout(PAUSE, exec::next(&mut exec.output)).await
        } else {
            tokio::time::sleep(PAUSE / 10).await;
            Ok(Ok(None))
        };
        match said {
            Ok(Ok(Some(Said::Out(bytes) | Said::Err(bytes)))) if over.is_none() => {
                keep(&bytes);
                continue;
            }
            Ok(Ok(Some(Said::Out(bytes) | Said::Err(bytes)))) => keep(&bytes),
            Ok(Ok(None)) => open = false,
            Ok(Err(e)) => {
                open = false;
                keep(lost(&e).as_bytes());
            }
            Err(_) => {}
        }
        match exec::code(&exec.docker, &exec.id).await {
            Ok(None) => failures = 0,
            Ok(Some(code)) if !open => break Some(code),
            Ok(Some(code)) => {
                if over.get_or_insert_with(Instant::now).elapsed() > DRAIN_TIME {
                    break Some(code);
                }
            }
            Err(_) if failures < FAILURES_MAX => {
                failures += 1;
                tokio::time::sleep(PAUSE / 5).await;
            }
            // The container is gone, or the daemon is.
            Err(e) => {
                keep(format!("\n({})\n", e.chain()).as_bytes());
                break None;
            }
        }
    };
    state.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(code);
}

fn lost(error: &io::Error) -> String {
    format!("\n(the rest of what it said was lost: {error})\n")
}
