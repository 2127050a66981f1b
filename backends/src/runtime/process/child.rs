//! Pipes, time limits, and how a program ended.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use firedrill_core::cell::{Ended, Pipes, STDERR_MAX, STDOUT_MAX};
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;

use crate::runtime::tail::Tail;

/// After its end, what a program has started may hold its outputs open for this long.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Runs `child` to its end. `kill` ends it with everything that it has started.
pub(super) fn finish(mut child: Child, pipes: Pipes<'_>, watch: &Watch, kill: &dyn Fn()) -> Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut ended = Ended::default();
    let result = std::thread::scope(|scope| {
        let feeder = scope.spawn(move || match (pipes.stdin, stdin) {
            (Some(mut from), Some(mut to)) => copy(&mut from, &mut to),
            _ => Ok(()),
        });
        let taker = scope.spawn(move || match (stdout, pipes.stdout) {
            (Some(mut from), Some(mut to)) => copy_out(&mut from, &mut to).map(|()| (Vec::new(), false)),
            (Some(mut from), None) => beginning(&mut from, STDOUT_MAX),
            (None, _) => Ok((Vec::new(), false)),
        });
        let listener =
            scope.spawn(move || stderr.map(|mut from| end(&mut from, STDERR_MAX)).unwrap_or_default());
        let status = wait(&mut child, watch, kill, || taker.is_finished() && listener.is_finished());
        let fed = feeder.join().unwrap_or_else(|_| Err(io::Error::other("the reader panicked")));
        let taken = taker.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
        ended.stderr = listener.join().unwrap_or_default();
        let status = status?;
        ended.code = status.code();
        ended.signal = status.signal();
        let broken = |what: &str, e: &io::Error| {
            Error::new(ErrorKind::Unavailable, format!("{what} a program in a cell")).from_source(e)
        };
        fed.map_err(|e| broken("feed", &e))?;
        let (stdout, cut) = taken.map_err(|e| broken("read from", &e))?;
        (ended.stdout, ended.stdout_cut) = (stdout, cut);
        Ok(())
    });
    result.map(|()| ended)
}

fn wait(child: &mut Child, watch: &Watch, kill: &dyn Fn(), drained: impl Fn() -> bool) -> Result<ExitStatus> {
    let failed = |e: io::Error| Error::new(ErrorKind::Internal, "wait for a program").from_source(&e);
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            let deadline = Instant::now() + DRAIN_TIME;
            while !drained() {
                if Instant::now() > deadline {
                    // Something that it left behind keeps talking.
                    kill();
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            return Ok(status);
        }
        if let Err(stopped) = watch.check() {
            kill();
            let _ = child.kill();
            let _ = child.wait();
            return Err(stopped);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Feeds a program. One that ends before it has read everything says why with its exit code.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        match to.write_all(buffer.get(..n).unwrap_or_default()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// Reads to the end even when nobody takes it any more, so that the program does not hang.
fn copy_out(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut refused = None;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return refused.map_or(Ok(()), Err),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if refused.is_none() {
            refused = to.write_all(buffer.get(..n).unwrap_or_default()).err();
        }
    }
}

/// The beginning of a stream, which is read to its end; and whether there was more.
fn beginning(from: &mut dyn Read, max: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    from.take(max as u64).read_to_end(&mut kept)?;
    let more = io::copy(from, &mut io::sink())? > 0;
    Ok((kept, more))
}

/// The end of a stream, as text.
fn end(from: &mut dyn Read, max: usize) -> String {
    let mut tail = Tail::new(max);
    let mut buffer = vec![0; 16 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return tail.text(),
            Ok(n) => tail.push(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return tail.text(),
        }
    }
}
