//! A place for one case, and what firedrill answers there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use firedrill_core::finding::Finding;
use firedrill_core::judge::{CopyJudgement, DrillJudgement, Judgement};
use firedrill_core::verdict::Verdict;
use firedrill_scenarios::fleet::copy_repository;

use crate::binary::binary;
use crate::fixture::{PASSWORD, TAGS};

/// No run may take longer, whatever the input.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder for one case: a copy of a repository, state, scratch.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: folder()? })
    }

    /// A place with a copy of `repository`.
    pub(crate) fn with(repository: &Path) -> Result<Self> {
        let place = Self::new()?;
        copy_repository(repository, &place.repository())?;
        Ok(place)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// A folder whose content is searched for secrets, like the state folder.
    pub(crate) fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// A firedrill with nothing of this machine's settings.
    pub(crate) fn firedrill(&self) -> Result<Run<'_>> {
        let mut command = Command::new(binary()?);
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.folder.path())
            .env("NO_COLOR", "1")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(Run { place: self, command, secrets: vec![PASSWORD.to_owned()], limit: LIMIT })
    }

    /// `firedrill restore-test --json` with a state folder and a scratch folder of its own, and nothing said
    /// about the repository.
    pub(crate) fn restore_test(&self) -> Result<Run<'_>> {
        let scratch = self.path("scratch");
        Ok(self
            .firedrill()?
            .args(["restore-test", "--json", "--seed", "7", "--state"])
            .arg(self.state())
            .arg("--scratch")
            .arg(scratch))
    }

    /// The same for the repository of this place, with the right password.
    pub(crate) fn drill(&self) -> Result<Run<'_>> {
        Ok(self.restore_test()?.env("RESTIC_PASSWORD", PASSWORD).arg("--repository").arg(self.repository()))
    }

    /// The folders of all runs so far, oldest first.
    pub(crate) fn runs(&self) -> Result<Vec<PathBuf>> {
        let runs = self.state().join("runs");
        let mut found = if runs.is_dir() { crate::vault::files(&runs)? } else { Vec::new() };
        found.sort_by_key(|run| fs::metadata(run).and_then(|meta| meta.modified()).ok());
        Ok(found)
    }
}

/// A temporary folder in memory, if that works: these tests make and remove many thousand small files,
/// which takes most of the time on a disk.
pub(crate) fn folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?)
}

/// A command that is being put together.
pub(crate) struct Run<'p> {
    place: &'p Place,
    command: Command,
    secrets: Vec<String>,
    limit: Duration,
}

impl Run<'_> {
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// In the words of a shell that becomes this command by `exec "$@"`.
    pub(crate) fn in_shell(mut self, script: &str, more: &[&str]) -> Self {
        let shell = ["sh", "-c", script, "sh"];
        self.wrap(more.iter().copied().chain(shell));
        self
    }

    fn wrap<'w>(&mut self, mut words: impl Iterator<Item = &'w str>) {
        let mut command = Command::new(words.next().unwrap_or_default());
        command.env_clear().args(words).arg(self.command.get_program()).args(self.command.get_args());
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.place.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = command;
    }

    /// Without the powers of root to look past permissions; `None`, after saying so, where that cannot be
    /// taken away.
    pub(crate) fn unprivileged(mut self) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return Some(self);
        }
        const LESS: [&str; 2] =
            ["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"];
        if !Command::new("setpriv").args(LESS).arg("true").output().is_ok_and(|o| o.status.success()) {
            crate::restic::skip("setpriv cannot take powers from root: permissions are not tested");
            return None;
        }
        self.wrap(std::iter::once("setpriv").chain(LESS));
        Some(self)
    }

    /// Nothing may contain this.
    pub(crate) fn secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs to the end, and checks what holds for every run: it ends in time, nothing panics, no secret is
    /// told, scratch is empty afterwards, and the repository is as it was.
    pub(crate) fn ends(mut self) -> Result<Answer> {
        let repository = self.place.repository();
        let before = listing(&repository)?;
        let runs_before = self.place.runs()?;
        let mut child = self.command.spawn().with_context(|| format!("start {:?}", self.command))?;
        let out = read(child.stdout.take());
        let err = read(child.stderr.take());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if start.elapsed() > self.limit {
                child.kill()?;
                child.wait()?;
                bail!("{:?} did not end in {:?}", self.command, self.limit);
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
            reader.join().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let (Ok(stdout), Ok(stderr)) = (text(out), text(err)) else { bail!("a pipe could not be read") };
        let mut new_runs = self.place.runs()?;
        new_runs.retain(|run| !runs_before.contains(run));
        let run = new_runs.pop();
        let answer = Answer {
            code: status.code().ok_or_else(|| anyhow!("killed: {status}\n{stderr}"))?,
            judgement: serde_json::from_str(&stdout).ok(),
            html: run.as_ref().and_then(|run| fs::read_to_string(run.join("report.html")).ok()),
            run,
            stdout,
            stderr,
        };
        self.check(&answer).with_context(|| answer.told())?;
        let after = listing(&repository)?;
        ensure!(before == after, "the repository was touched: {}", difference(&before, &after));
        Ok(answer)
    }

    fn check(&self, answer: &Answer) -> Result<()> {
        let mut texts =
            vec![("stdout".into(), answer.stdout.clone()), ("stderr".into(), answer.stderr.clone())];
        let mut folders = vec![self.place.state(), self.place.out()];
        folders.retain(|folder| folder.is_dir());
        while let Some(folder) = folders.pop() {
            for path in crate::vault::files(&folder)? {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
                    texts.push((path.display().to_string(), text));
                }
            }
        }
        for (place, text) in &texts {
            for word in ["panicked", "RUST_BACKTRACE", "unwrap()"] {
                ensure!(!text.contains(word), "{word:?} in {place}");
            }
            for secret in &self.secrets {
                ensure!(!text.contains(secret.as_str()), "the secret {secret:?} in {place}");
            }
        }
        let scratch = self.place.path("scratch");
        let left = if scratch.is_dir() { crate::vault::files(&scratch)? } else { Vec::new() };
        ensure!(left.is_empty(), "left in scratch: {left:?}");
        Ok(())
    }
}

fn read(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read so far is all there is.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// What firedrill answered.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) judgement: Option<Judgement>,
    /// The folder with the evidence of this run, if there is one.
    pub(crate) run: Option<PathBuf>,
    /// The report beside the evidence.
    pub(crate) html: Option<String>,
}

impl Answer {
    pub(crate) fn told(&self) -> String {
        let summary = self.judgement.as_ref().map_or_else(|| self.stdout.clone(), summary);
        format!("exit code {}\n{summary}\n{}", self.code, self.stderr)
    }

    /// Fails unless the exit code is `code`.
    pub(crate) fn expect(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "expected exit code {code}: {}", self.told());
        Ok(self)
    }

    /// Fails unless standard error tells all of `words`.
    pub(crate) fn says(self, words: &[&str]) -> Result<Self> {
        for word in words {
            ensure!(self.stderr.contains(word), "{word:?} is not said: {}", self.told());
        }
        Ok(self)
    }

    pub(crate) fn judgement(&self) -> Result<&Judgement> {
        self.judgement.as_ref().with_context(|| format!("there is no judgement: {}", self.told()))
    }

    /// The only copy.
    pub(crate) fn copy(&self) -> Result<&CopyJudgement> {
        self.judgement()?.copies.first().context("there is no copy")
    }

    /// The drill of the latest snapshot of `tag`.
    pub(crate) fn drill(&self, tag: &str) -> Result<&DrillJudgement> {
        let name = format!("primary::{tag}::latest");
        let drill = self.judgement()?.drills.iter().find(|drill| drill.name.0 == name);
        drill.with_context(|| format!("{name} was not drilled: {}", self.told()))
    }

    /// Fails unless the drill of `tag` is verified, with nothing to say against it.
    pub(crate) fn verified(&self, tag: &str) -> Result<&DrillJudgement> {
        let drill = self.drill(tag)?;
        let clean = drill.findings.is_empty() && drill.errors.is_empty() && drill.reasons.is_empty();
        ensure!(drill.verdict == Verdict::Verified && clean, "{tag} is not verified: {}", self.told());
        Ok(drill)
    }

    /// Fails unless the latest snapshot of every tag of the fixture is verified.
    pub(crate) fn all_verified(&self) -> Result<()> {
        TAGS.iter().try_for_each(|tag| self.verified(tag).map(drop))
    }
}

/// A judgement in a few lines.
pub(crate) fn summary(judgement: &Judgement) -> String {
    let mut lines = vec![format!("run {} {:?}", judgement.verdict, judgement.control.state)];
    lines.extend(judgement.reasons.iter().map(|reason| format!("  {}", reason.text)));
    for copy in &judgement.copies {
        lines.push(format!("copy {} {}", copy.name, copy.verdict));
        lines.extend(copy.findings.iter().map(told));
        lines.extend(copy.errors.iter().map(|error| format!("  {}", error.chain())));
    }
    for drill in &judgement.drills {
        lines.push(format!("drill {} {} ({} files)", drill.name, drill.verdict, drill.files));
        lines.extend(drill.findings.iter().map(told));
        lines.extend(drill.reasons.iter().map(|reason| format!("  reason: {}", reason.text)));
        lines.extend(drill.errors.iter().map(|error| format!("  error: {}", error.chain())));
    }
    lines.join("\n")
}

fn told(finding: &Finding) -> String {
    let Finding { code, class, location, expected, seen } = finding;
    format!("  {code} ({class:?}) {location}: expected {expected}, saw {seen}")
}

/// What tells whether a file was touched: size, modification time in nanoseconds, mode, content.
pub(crate) type Listing = BTreeMap<PathBuf, (u64, i64, i64, u32, Vec<u8>)>;

/// Everything below `root`, which may be missing.
pub(crate) fn listing(root: &Path) -> Result<Listing> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = BTreeMap::new();
    let mut rest: Vec<PathBuf> = root.exists().then(|| root.to_owned()).into_iter().collect();
    while let Some(path) = rest.pop() {
        let meta = fs::symlink_metadata(&path)?;
        let mut content = Vec::new();
        if meta.is_dir() {
            rest.extend(crate::vault::files(&path)?);
        } else if meta.is_file() {
            content = fs::read(&path)?;
        }
        found.insert(path, (meta.size(), meta.mtime(), meta.mtime_nsec(), meta.mode(), content));
    }
    Ok(found)
}

fn difference(before: &Listing, after: &Listing) -> String {
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    changed.map(|name| name.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Does all `cases` on a few threads, and fails with everything that went wrong.
pub(crate) fn all<C: Sync + Copy + std::fmt::Debug>(cases: &[C], work: impl Fn(C) -> Result<()> + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let problems = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    if let Err(error) = work(*case) {
                        problems.lock().unwrap().push(format!("{case:?}: {error:#}"));
                    }
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), cases.len(), problems.join("\n\n"));
}
