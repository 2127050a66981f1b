//! A place for one case, and what firedrill answers there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use firedrill_core::finding::{Class, Examination};
use firedrill_core::judge::{DrillJudgement, Judgement};
use firedrill_core::secret::Secret;
use firedrill_scenarios::fleet::{TestRepository, copy_repository};

use crate::binary::binary;
use crate::fixture::{Fixture, PASSWORD};
use crate::need::IMAGES;

/// No run may take longer.
const LIMIT: Duration = Duration::from_secs(240);

/// A folder for one case: a copy of the repository, a config, state, scratch.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A place with a copy of the repository. `more` is added to the config.
    pub(crate) fn new(fixture: &Fixture, more: &str) -> Result<Self> {
        let place = Self { folder: crate::need::folder() };
        copy_repository(&fixture.repository(), &place.path("repository"))?;
        for name in ["scratch", "temporary", "home"] {
            fs::create_dir(place.path(name))?;
        }
        let images = IMAGES.map(|(engine, image)| format!("{engine}: \"{image}\"")).join(", ");
        let quoted = |name: &str| serde_json::to_string(&place.path(name).display().to_string());
        let config = format!(
            "version: 1\ncopies:\n  - name: primary\n    repository: {}\nrestore_test:\n  scratch: {}\n  control: false\n\
             runtime:\n  container:\n    pull: never\n    images: {{{images}}}\n{more}",
            quoted("repository")?,
            quoted("scratch")?
        );
        fs::write(place.path("firedrill.yaml"), config)?;
        Ok(place)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A name that nothing else on this machine has in its paths.
    pub(crate) fn name(&self) -> String {
        self.folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The repository of this place, to back up into.
    pub(crate) fn repository(&self) -> Result<TestRepository> {
        TestRepository::open(&self.path("repository"), &Secret::new(PASSWORD))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("temporary"))
            .env("NO_COLOR", "1")
            .env("RESTIC_PASSWORD", PASSWORD)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        Ok(command)
    }

    /// `firedrill restore-test --runtime .. --json`, of the latest snapshots of `tags`.
    pub(crate) fn restore_test(&self, runtime: &str, tags: &[&str]) -> Result<Command> {
        let mut command = self.command(&["restore-test", "--json", "--seed", "7", "--jobs", "2"])?;
        command.args(["--runtime", runtime, "--config", "firedrill.yaml", "--state"]);
        // What was seen in one runtime must not be known in the other.
        command.arg(self.path(&format!("state-{runtime}")));
        for tag in tags {
            command.args(["--tag", tag]);
        }
        Ok(command)
    }

    /// Runs to the end, and checks what holds for every run: it ends in time, nothing panics, the repository is as
    /// it was, and nothing is left.
    pub(crate) fn drill(&self, runtime: &str, tags: &[&str]) -> Result<Answer> {
        self.finish(self.restore_test(runtime, tags)?)
    }

    /// The same, of targets and groups of the config.
    pub(crate) fn drill_targets(&self, runtime: &str, targets: &[&str]) -> Result<Answer> {
        let mut command = self.restore_test(runtime, &[])?;
        for target in targets {
            command.args(["--target", target]);
        }
        self.finish(command)
    }

    fn finish(&self, mut command: Command) -> Result<Answer> {
        let before = listing(&self.path("repository"))?;
        let (out, err) = (self.path("out"), self.path("err"));
        command.stdout(fs::File::create(&out)?).stderr(fs::File::create(&err)?);
        let mut child = command.spawn()?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if start.elapsed() > LIMIT {
                child.kill()?;
                child.wait()?;
                bail!("{command:?} did not end in {LIMIT:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let (stdout, stderr) = (fs::read_to_string(out)?, fs::read_to_string(err)?);
        ensure!(!stderr.contains("panicked"), "{stderr}");
        let judgement = serde_json::from_str(&stdout).with_context(|| format!("{status}: {stderr}"))?;
        ensure!(listing(&self.path("repository"))? == before, "the repository was touched");
        self.nothing_left()?;
        Ok(Answer { code: status.code().context("it was killed")?, judgement, stderr })
    }

    /// Fails when a run left something below this place.
    pub(crate) fn nothing_left(&self) -> Result<()> {
        for name in ["scratch", "temporary", "home"] {
            let left = listing(&self.path(name))?;
            ensure!(left.len() == 1, "left in {name}: {left:?}");
        }
        Ok(())
    }
}

/// What firedrill answered.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) judgement: Judgement,
    stderr: String,
}

impl Answer {
    /// The drill of `tag`.
    pub(crate) fn drill(&self, tag: &str) -> Result<&DrillJudgement> {
        let name = format!("primary::{tag}::latest");
        let drill = self.judgement.drills.iter().find(|drill| drill.name.0 == name);
        drill.with_context(|| format!("{name} was not drilled: {}", self.stderr))
    }

    /// What `probe` says of `tag`.
    pub(crate) fn examination(&self, tag: &str, probe: &str) -> Result<&Examination> {
        let drill = self.drill(tag)?;
        let found = drill.examinations.iter().find(|examination| examination.probe == probe);
        found.with_context(|| format!("{tag} was not examined by {probe}: {}", told(drill)))
    }

    /// The codes of all findings of `tag`.
    pub(crate) fn codes(&self, tag: &str) -> Result<BTreeSet<&str>> {
        Ok(self.drill(tag)?.findings.iter().map(|finding| finding.code.as_str()).collect())
    }
}

/// A drill in a few lines.
pub(crate) fn told(drill: &DrillJudgement) -> String {
    let mut lines = vec![format!("{} is {}", drill.name, drill.verdict)];
    lines.extend(drill.reasons.iter().map(|reason| format!("  because {}", reason.text)));
    lines.extend(drill.errors.iter().map(|error| format!("  error: {}", error.chain())));
    for finding in &drill.findings {
        let gap = if finding.class == Class::Gap { " (gap)" } else { "" };
        lines.push(format!("  {}{gap} {}: {}", finding.code, finding.location, finding.seen));
    }
    for examination in &drill.examinations {
        let (probe, checked, unit) = (&examination.probe, examination.checked, &examination.unit);
        lines.push(format!("  {probe}: {checked} {unit}, interrupted: {:?}", examination.interrupted));
    }
    lines.join("\n")
}

/// Everything below `root`, which must be there: sizes, times, modes.
pub(crate) fn listing(root: &Path) -> Result<BTreeSet<String>> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = BTreeSet::new();
    let mut rest = vec![root.to_owned()];
    while let Some(path) = rest.pop() {
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                rest.push(entry?.path());
            }
        }
        let (size, mode) = (meta.size(), meta.mode());
        found.insert(format!("{} {size} {mode:o} {}.{}", path.display(), meta.mtime(), meta.mtime_nsec()));
    }
    Ok(found)
}
