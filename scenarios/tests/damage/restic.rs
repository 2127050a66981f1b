//! Real restic, if there is one: what it says of the same damage.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::fixture::PASSWORD;

/// A restic program.
#[derive(Clone, Debug)]
pub(crate) struct Restic(PathBuf);

impl Restic {
    /// The newest restic here: unpacked by `ci/setup`, or on PATH.
    pub(crate) fn find() -> Option<Self> {
        let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/.tools/bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = std::iter::once(unpacked).chain(std::env::split_paths(&path)).collect();
        let find = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        ["restic-0.19", "restic-0.18", "restic"].into_iter().find_map(find).map(Self)
    }

    /// A restic that gives up on damage soon. Older ones try again for minutes.
    pub(crate) fn recent() -> Option<Self> {
        static FOUND: OnceLock<Option<Restic>> = OnceLock::new();
        let found = || Self::find().filter(|restic| restic.generation().is_some_and(|minor| minor >= 17));
        FOUND.get_or_init(found).clone()
    }

    /// The second part of its version, which starts with a zero.
    fn generation(&self) -> Option<u32> {
        let said = Command::new(&self.0).arg("version").output().ok()?.stdout;
        let said = String::from_utf8(said).ok()?;
        said.strip_prefix("restic 0.")?.split('.').next()?.parse().ok()
    }

    /// Makes a repository in the missing folder `path`.
    pub(crate) fn init(&self, path: &Path) -> Result<()> {
        succeeded(&self.run(path, ["init", "--quiet"])?)
    }

    /// Backs up what is below `source`, under `tag` and dated `time`.
    pub(crate) fn backup(&self, path: &Path, source: &Path, tag: &str, time: Timestamp) -> Result<()> {
        let time = time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let mut command =
            self.command(path, ["backup", "--quiet", "--host", tag, "--tag", tag, "--time", &time]);
        let output = command.arg("backup").current_dir(source).output().context("start restic")?;
        succeeded(&output)
    }

    /// Whether the newest snapshot of `tag` restores, by restic's exit code.
    pub(crate) fn restores(&self, path: &Path, tag: &str, into: &Path) -> Result<bool> {
        let arguments = ["restore", "--no-lock", "--quiet", "latest", "--tag", tag, "--target"];
        let output = self.run(path, arguments.map(OsStr::new).into_iter().chain([into.as_os_str()]))?;
        Ok(output.status.success())
    }

    fn run(&self, path: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
        self.command(path, arguments).output().context("start restic")
    }

    fn command(&self, path: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        // A damaged repository must not make restic hang or wait for somebody to type a password.
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", "120"])
            .arg(&self.0)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("TZ", "UTC")
            .stdin(std::process::Stdio::null())
            .args(["--no-cache", "--repo"])
            .arg(path)
            .args(arguments);
        command
    }
}

fn succeeded(output: &Output) -> Result<()> {
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "restic: {}: {told}", output.status);
    Ok(())
}

pub(crate) use firedrill_testing::skip;
