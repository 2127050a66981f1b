//! Folders, repositories whose keys cost little, and real restic.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use firedrill_core::canary;
use firedrill_core::secret::Secret;
use firedrill_scenarios::fleet::TestRepository;
use firedrill_testing::skip;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

use crate::vault::Vault;

pub(crate) const PASSWORD: &str = "pipeline-fixture";
/// No command of restic may take longer.
const LIMIT_SECONDS: &str = "600";

/// A folder for one test, in memory where that is possible: thousands of files are synced here.
pub(crate) fn workplace() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("pipeline-")
        .tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Makes a repository in the missing folder `path`, with a key that is derived in no time.
pub(crate) fn cheap_repository(path: &Path) {
    cheap_repository_of(path, PASSWORD);
}

/// Likewise, with this password.
pub(crate) fn cheap_repository_of(path: &Path, password: &str) {
    TestRepository::init(path, &Secret::new(password)).unwrap();
    Vault::open(path, password).and_then(|vault| vault.cheapen(password)).unwrap();
}

/// The program `name`: unpacked by `ci/setup`, or on PATH. Nothing after saying so.
pub(crate) fn need(name: &str) -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/.tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::iter::once(unpacked).chain(std::env::split_paths(&path));
    let found = folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()));
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

/// Real restic on one repository.
#[derive(Clone)]
pub(crate) struct Restic {
    program: PathBuf,
    repository: String,
    password: &'static str,
}

/// What `restic forget` would do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forgets {
    pub(crate) keep: BTreeSet<String>,
    pub(crate) remove: BTreeSet<String>,
}

impl Restic {
    /// The newest restic, on `repository`.
    pub(crate) fn need(repository: &str) -> Option<Self> {
        let program = need("restic-0.19")?;
        Some(Self { program, repository: repository.to_owned(), password: PASSWORD })
    }

    /// The same, with this password.
    pub(crate) fn opened_by(self, password: &'static str) -> Self {
        Self { password, ..self }
    }

    pub(crate) fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", LIMIT_SECONDS])
            .arg(&self.program)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("RESTIC_PASSWORD", self.password)
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .args(["--no-cache", "--repo", &self.repository])
            .args(arguments);
        command
    }

    pub(crate) fn output(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs to the end and returns what it prints; fails the test when it fails.
    #[track_caller]
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        let output = self.output(arguments);
        let arguments: Vec<_> = arguments.iter().map(|one| one.as_ref().to_string_lossy()).collect();
        let told = String::from_utf8_lossy(&output.stderr);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "restic {arguments:?}: {}\n{printed}{told}", output.status);
        printed
    }

    /// Fails the test unless the repository is whole, and says nothing of packs or index files that nobody needs.
    #[track_caller]
    pub(crate) fn check(&self, read_data: bool) -> String {
        let mut arguments = vec!["check"];
        arguments.extend(read_data.then_some("--read-data"));
        let printed = self.run(&arguments);
        assert!(printed.contains("no errors were found"), "{printed}");
        printed
    }

    /// What it would forget by these rules, by the clocks of `zone`.
    #[track_caller]
    pub(crate) fn would_forget(&self, flags: &[String], zone: &str) -> Forgets {
        let mut command = self.command(["forget", "--dry-run", "--json", "--no-lock"]);
        let output = command.env("TZ", zone).args(flags).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let groups: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let ids = |kind: &str| {
            let lists = groups.as_array().into_iter().flatten().filter_map(|group| group[kind].as_array());
            lists.flatten().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
        };
        Forgets { keep: ids("keep"), remove: ids("remove") }
    }

    /// The files of a snapshot below `path`, which was its source. `None` and why when it does not restore.
    pub(crate) fn restored(&self, id: &str, path: &Path) -> Result<Content, String> {
        let into = workplace();
        let into_text = into.path().to_str().unwrap();
        let snapshot = format!("{id}:{}", path.display());
        let output = self.output(["restore", "--no-lock", "--quiet", &snapshot, "--target", into_text]);
        match output.status.success() {
            true => Ok(content(into.path())),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

/// The ids of all snapshots in a local repository, by the names of their files.
pub(crate) fn snapshot_files(repository: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(repository.join("snapshots")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.len() == 64).collect()
}

/// Files by their path, with what is in them.
pub(crate) type Content = BTreeMap<PathBuf, Vec<u8>>;

/// All files below `root`, without the canary that a backup adds.
pub(crate) fn content(root: &Path) -> Content {
    let mut all = Content::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if path.ends_with(canary::FILE) {
                continue;
            }
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false => drop(all.insert(path, std::fs::read(entry.path()).unwrap())),
            }
        }
    }
    all
}

/// A service at work: some of its files change, one comes, at times one goes. `bytes` is the size of what changes.
pub(crate) fn change(root: &Path, bytes: usize, chance: &mut StdRng) {
    std::fs::create_dir_all(root.join("folder")).unwrap();
    let mut noise = vec![0; bytes];
    chance.fill_bytes(&mut noise);
    std::fs::write(root.join("live.db"), noise).unwrap();
    let number = chance.random_range(0..12);
    let mut text = vec![0; 300];
    chance.fill_bytes(&mut text);
    std::fs::write(root.join(format!("folder/file-{number}")), text).unwrap();
    if chance.random_range(0..4) == 0 {
        let _ = std::fs::remove_file(root.join(format!("folder/file-{}", chance.random_range(0..12))));
    }
}
