//! The restore test that is put to the test: this very command, in a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use firedrill_core::error::{Error, ErrorKind};
use firedrill_core::judge::Judgement;
use firedrill_core::watch::Watch;
use firedrill_scenarios::chaos::RestoreTest;

use crate::args::ChaosArgs;

/// How often it is asked whether it has ended.
const GLANCE: Duration = Duration::from_millis(20);
/// So long it has to end in good order.
const TO_END: Duration = Duration::from_secs(60);
/// So much of its complaints is told.
const TOLD_MAX: usize = 2000;

/// `firedrill restore-test` on a clone of a copy.
pub(super) struct Command {
    program: PathBuf,
    config: PathBuf,
    copy: String,
    /// Where it restores to, and what it says goes.
    work: PathBuf,
    timeout: Duration,
    watch: Watch,
    number: AtomicU64,
}

impl Command {
    pub(super) fn new(
        args: &ChaosArgs,
        copy: &str,
        work: &Path,
        watch: &Watch,
    ) -> firedrill_core::error::Result<Self> {
        let program = std::env::current_exe()
            .map_err(|error| Error::new(ErrorKind::Internal, "find this command").from_source(&error))?;
        Ok(Self {
            program,
            config: args.config.clone(),
            copy: copy.to_owned(),
            work: work.to_owned(),
            timeout: args.test_timeout.0,
            watch: watch.clone(),
            number: AtomicU64::new(0),
        })
    }
}

/// Ends a restore test, which ends what it started and gives its leases back before.
fn end(child: &mut Child) -> Result<()> {
    if let Ok(pid) = i32::try_from(child.id())
        && let Some(pid) = rustix::process::Pid::from_raw(pid)
    {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    let asked = std::time::Instant::now();
    while child.try_wait()?.is_none() {
        if asked.elapsed() > TO_END {
            child.kill()?;
            child.wait()?;
            break;
        }
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

impl RestoreTest for Command {
    fn run(&self, repository: &Path, state: &Path) -> Result<Judgement> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = |what: &str| self.work.join(format!("{number}.{what}"));
        let (json, complaints) = (path("json"), path("log"));
        let mut clone = std::ffi::OsString::from(format!("{}=", self.copy));
        clone.push(repository);
        let mut child = Process::new(&self.program)
            .arg("restore-test")
            .arg("--config")
            .arg(&self.config)
            .arg("--clone")
            .arg(clone)
            .arg("--state")
            .arg(state)
            .arg("--scratch")
            .arg(self.work.join("scratch"))
            .arg("--json-file")
            .arg(&json)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&complaints).context("write the log of a restore test")?)
            .spawn()
            .context("start a restore test")?;
        let started = std::time::Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            let late = started.elapsed() > self.timeout;
            if late || self.watch.check().is_err() {
                end(&mut child)?;
                bail!("{}", if late { "the restore test took too long" } else { "it was stopped" });
            }
            std::thread::sleep(GLANCE);
        };
        let Ok(judgement) = std::fs::read(&json) else {
            let said = std::fs::read_to_string(&complaints).unwrap_or_default();
            let said: String = said.chars().take(TOLD_MAX).collect();
            bail!("the restore test ended with {status} and no judgement: {said}");
        };
        let judgement = serde_json::from_slice(&judgement).context("read the judgement of a restore test")?;
        for file in [json, complaints] {
            std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        }
        Ok(judgement)
    }
}
