//! Programs that tests need, and a loud word where one is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// No command may take longer.
const LIMIT_SECONDS: &str = "180";

/// The program `name`: unpacked by `ci/setup`, or on PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/.tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(unpacked)
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The program `name`, or nothing after saying so.
pub(crate) fn need(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        skip(&format!("{name} is not installed"));
    }
    found
}

pub(crate) use firedrill_testing::skip;

/// Whether this process may change owners, make devices and read everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that is ended when it takes too long.
pub(crate) fn bounded(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT_SECONDS]).arg(program);
    command
}

/// Runs to the end and returns the output; fails the test when the command fails.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A place for one test, on the disk that holds the build (which knows extended attributes, where a
/// memory file system may not). Removed at the end, whatever permissions are inside.
pub(crate) struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("interop-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self { folder: folder.expect("the build folder can be written") }
    }

    /// The path of `name` in this place; nothing is made.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new folder.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a folder can be made");
        path
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if !is_root() {
            // Folders without permissions cannot be emptied by their owner.
            let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(self.folder.path()).output();
        }
    }
}
