//! A client of a database as a process that answers one question after the other, and the command that makes a dump.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::secret::redact_urls;
use firedrill_core::watch::Watch;

/// What the client says at the end of each answer.
const END: &str = "firedrill: end of answer";
/// More bytes than this of one answer are not kept.
const ANSWER_MAX: usize = 256 << 20;
/// More bytes than this of complaints are not kept.
const STDERR_MAX: u64 = 16 << 10;
/// How often the client and the command that makes the dump are looked after.
const GLANCE: Duration = Duration::from_millis(10);

/// A running client.
pub(in crate::digests) struct Client {
    name: String,
    child: Arc<Mutex<Child>>,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
    /// Ends the client when its time is over, so that nobody waits for an answer that does not come.
    guard: Option<JoinHandle<()>>,
    done: Arc<AtomicBool>,
}

impl Client {
    /// Starts the first of `programs` that is there. It does not outlive the watch.
    pub(in crate::digests) fn start(
        programs: &[&str],
        watch: &Watch,
        prepare: impl Fn(&mut Command),
    ) -> Result<Self> {
        let mut last = None;
        for name in programs {
            let mut command = Command::new(name);
            prepare(&mut command);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            match command.spawn() {
                Ok(child) => return Self::over(name, child, watch.clone()),
                Err(error) => last = Some(error),
            }
        }
        let names = programs.join(" or ");
        let mut error =
            Error::new(ErrorKind::Usage, format!("start {names}")).advise("install the database's client");
        if let Some(cause) = last {
            error = error.from_source(&cause);
        }
        Err(error)
    }

    fn over(name: &str, mut child: Child, watch: Watch) -> Result<Self> {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let Some(stdout) = stdout else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::new(ErrorKind::Internal, format!("read from {name}")));
        };
        let complaints = move || {
            let mut kept = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(STDERR_MAX).read_to_end(&mut kept);
                // Whoever is not listened to waits for ever.
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            }
            String::from_utf8_lossy(&kept).into_owned()
        };
        let stderr = Some(std::thread::spawn(complaints));
        let (child, done) = (Arc::new(Mutex::new(child)), Arc::new(AtomicBool::new(false)));
        let (guarded, over) = (Arc::clone(&child), Arc::clone(&done));
        let guard = Some(std::thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                if watch.check().is_err() {
                    let _ = lock(&guarded).kill();
                    return;
                }
                std::thread::sleep(GLANCE);
            }
        }));
        let stdout = BufReader::new(stdout);
        Ok(Self { name: name.to_owned(), child, stdin, stdout, stderr, guard, done })
    }

    /// Asks one statement.
    pub(in crate::digests) fn ask(&mut self, sql: &str) -> Result<Vec<String>, String> {
        let question = format!("{sql};\nSELECT '{END}';\n");
        let sent = match &mut self.stdin {
            Some(stdin) => stdin.write_all(question.as_bytes()).and_then(|()| stdin.flush()).is_ok(),
            None => false,
        };
        if !sent {
            return Err(self.last_words());
        }
        let (mut lines, mut size) = (Vec::new(), 0);
        loop {
            let mut line = Vec::new();
            match (&mut self.stdout).take(ANSWER_MAX as u64).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return Err(self.last_words()),
                Ok(n) => size += n,
            }
            if size > ANSWER_MAX {
                return Err("the answer is longer than firedrill reads".to_owned());
            }
            let line = String::from_utf8_lossy(&line);
            match line.trim_end_matches('\n') {
                END => return Ok(lines),
                "" => {}
                line => lines.push(line.to_owned()),
            }
        }
    }

    /// Why the client has ended.
    fn last_words(&mut self) -> String {
        self.stdin = None;
        // Whoever guards it must get at it meanwhile.
        while matches!(lock(&self.child).try_wait(), Ok(None)) {
            std::thread::sleep(GLANCE);
        }
        let said = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let said: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).take(4).collect();
        let said = if said.is_empty() { "it ended without a word".to_owned() } else { said.join("; ") };
        format!("{}: {}", self.name, redact_urls(&said))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stdin = None;
        self.done.store(true, Ordering::Release);
        if let Some(guard) = self.guard.take() {
            let _ = guard.join();
        }
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of it; when there is no time left, that is why it failed.
pub(super) fn in_time<T>(watch: &Watch, done: Result<T>) -> Result<T> {
    done.map_err(|error| watch.check().err().unwrap_or(error))
}

/// The command that makes the dump, while it runs.
pub(super) struct Dumping {
    shown: String,
    child: Option<Child>,
    watch: Watch,
}

impl Dumping {
    /// Measures beside the command, if there is one, and gives up as soon as that one fails.
    pub(super) fn beside<T>(
        dumping: &mut Option<Self>,
        failed: impl FnOnce(String) -> Error,
        measure: impl FnOnce(&mut dyn FnMut() -> Result<(), String>) -> Result<T, String>,
    ) -> Result<T> {
        let mut broken = None;
        let mut proceed = || match dumping.as_mut().map_or(Ok(()), Self::check) {
            Ok(()) => Ok(()),
            Err(error) => {
                let text = error.chain();
                broken = Some(error);
                Err(text)
            }
        };
        let measured = measure(&mut proceed);
        match broken {
            Some(error) => Err(error),
            None => measured.map_err(failed),
        }
    }

    /// Starts it; `fill` replaces what stands for something in its words. It shares our streams.
    pub(super) fn start(
        command: &[String],
        environment: &[(String, String)],
        fill: impl Fn(&str) -> String,
        watch: &Watch,
    ) -> Result<Self> {
        let mut words = command.iter().map(|word| fill(word));
        let program = words.next().unwrap_or_default();
        // Arguments may hold what is nobody's business.
        let fail = || Error::new(ErrorKind::Usage, format!("start {program}"));
        let child = Command::new(&program)
            .args(words)
            .envs(environment.iter().cloned())
            .spawn()
            .map_err(|error| fail().from_source(&error))?;
        Ok(Self { shown: program, child: Some(child), watch: watch.clone() })
    }

    /// Ends with an error when the command has failed already, or may not go on.
    pub(super) fn check(&mut self) -> Result<()> {
        self.watch.check()?;
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait() {
            Ok(Some(status)) if !status.success() => {
                self.child = None;
                Err(self.failed(&status.to_string()))
            }
            Ok(Some(_)) => {
                self.child = None;
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.child.is_none()
    }

    /// Waits for its end.
    pub(super) fn finish(mut self) -> Result<()> {
        loop {
            self.check()?;
            if self.is_over() {
                return Ok(());
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn failed(&self, how: &str) -> Error {
        Error::new(ErrorKind::Unavailable, "record digests")
            .because(format!("the command that makes the dump failed: {}: {how}", self.shown))
    }
}

impl Drop for Dumping {
    fn drop(&mut self) {
        // Without its snapshot a dump is worth nothing.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
