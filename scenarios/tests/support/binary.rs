//! Where the command under test is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, ensure};

/// What the command is made of, relative to the workspace.
const SOURCES: [&str; 6] =
    ["harness", "backends/src", "reports/src", "scenarios/src", "Cargo.toml", "Cargo.lock"];

/// `FIREDRILL_BIN`, or the command that was built into the same target folder. It is built now when it is
/// missing or older than the sources: cargo does not build commands of other packages for a test.
pub(crate) fn binary() -> Result<PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.clone().map_err(|error| anyhow!(error))
}

fn find() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("FIREDRILL_BIN") {
        return Ok(binary.into());
    }
    // This program is in `deps` below the folder that commands are in.
    let here = std::env::current_exe()?;
    let folder = here.ancestors().nth(2).context("the test program is in a target folder")?;
    let binary = folder.join("firedrill");
    if is_current(&binary)? {
        return Ok(binary);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let release = folder.file_name().is_some_and(|name| name == "release").then_some("--release");
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "firedrill", "--bin", "firedrill"])
        .args(release)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("start cargo to build firedrill")?;
    let told = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "firedrill cannot be built: {told}");
    ensure!(
        binary.is_file(),
        "cargo built firedrill somewhere else than {}; set FIREDRILL_BIN",
        folder.display()
    );
    Ok(binary)
}

fn is_current(binary: &Path) -> Result<bool> {
    let Ok(built) = std::fs::metadata(binary).and_then(|meta| meta.modified()) else { return Ok(false) };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut newest = SystemTime::UNIX_EPOCH;
    for source in SOURCES {
        newest = newest.max(newest_below(&workspace.join(source))?);
    }
    Ok(newest < built)
}

fn newest_below(path: &Path) -> Result<SystemTime> {
    let meta = std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if !meta.is_dir() {
        return Ok(meta.modified()?);
    }
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in std::fs::read_dir(path)? {
        newest = newest.max(newest_below(&entry?.path())?);
    }
    Ok(newest)
}
