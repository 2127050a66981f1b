//! Servers in a cell.

use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use firedrill_core::cell::{Ended, STDERR_MAX, Service};
use firedrill_core::error::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::runtime::tail::Tail;

/// A server that was started in a cell.
pub(super) struct ProcessService {
    state: Mutex<State>,
    log: Arc<Mutex<Tail>>,
}

struct State {
    child: Child,
    status: Option<ExitStatus>,
}

impl ProcessService {
    /// Takes over `child`, which enters the cell and becomes the server's parent.
    pub(super) fn new(mut child: Child) -> Self {
        let log = Arc::new(Mutex::new(Tail::new(STDERR_MAX)));
        if let Some(stdout) = child.stdout.take() {
            follow(stdout, &log);
        }
        if let Some(stderr) = child.stderr.take() {
            follow(stderr, &log);
        }
        Self { state: Mutex::new(State { child, status: None }), log }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, status: ExitStatus) -> Ended {
        // What it said last may still be on its way.
        std::thread::sleep(Duration::from_millis(20));
        Ended { code: status.code(), signal: status.signal(), stderr: self.log(), ..Ended::default() }
    }
}

impl State {
    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// The server: the only child of the process that entered the cell for it, which is not reaped yet.
    fn server(&self) -> Option<Pid> {
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }
}

impl Service for ProcessService {
    fn ended(&self) -> Option<Ended> {
        let status = self.state().poll()?;
        Some(self.describe(status))
    }

    fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).text()
    }

    fn stop(&self, fast: bool, grace: Duration) -> Result<Ended> {
        let mut asked = false;
        let start = Instant::now();
        loop {
            {
                let mut state = self.state();
                if let Some(status) = state.poll() {
                    drop(state);
                    return Ok(self.describe(status));
                }
                let late = start.elapsed() > grace;
                if let Some(server) = state.server().filter(|_| !asked || late) {
                    let signal = match (late, fast) {
                        (true, _) => Signal::KILL,
                        (false, true) => Signal::INT,
                        (false, false) => Signal::TERM,
                    };
                    asked |= kill_process(server, signal).is_ok();
                }
                if start.elapsed() > grace + Duration::from_secs(10) {
                    return Err(Error::new(ErrorKind::Timeout, "stop a server in a cell"));
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Keeps the end of what a server says.
fn follow(mut from: impl Read + Send + 'static, log: &Arc<Mutex<Tail>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => log
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
}
