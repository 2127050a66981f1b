//! Fixtures that are made once per build of a test program and shared by all of its processes: nextest
//! starts one per test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use firedrill_core::clock::{Clock as _, SystemClock};
use jiff::{SignedDuration, Timestamp};

/// Backups in a fixture are dated relative to when it was made, and an old one would rightly be found too old.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(6);

/// A fixture, which stays as it is while this value lives.
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    _shared: File,
}

impl Shared {
    /// Waits for the fixture `name`, or makes it: `make` gets its folder, which is empty, and the time.
    pub(crate) fn get(name: &str, make: impl Fn(&Path, Timestamp) -> Result<()>) -> Result<Self> {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&root)?;
        let lock = || File::create(root.join("lock")).context("open the lock of the fixture");
        for _ in 0..3 {
            let shared = lock()?;
            shared.lock_shared()?;
            if ready(&root)? {
                return Ok(Self { root: root.join("content"), _shared: shared });
            }
            drop(shared);
            let alone = lock()?;
            alone.lock()?;
            if !ready(&root)? {
                remake(&root, &make).context("make the fixture")?;
            }
        }
        bail!("the fixture does not stay: is something else working in {}?", root.display())
    }
}

/// Whether the fixture was made by this build, and lately.
fn ready(root: &Path) -> Result<bool> {
    let Ok(mark) = fs::read_to_string(root.join("ready")) else { return Ok(false) };
    let Some((build, made)) = mark.split_once(' ') else { return Ok(false) };
    let age = made.parse::<Timestamp>().map(|made| SystemClock.now().duration_since(made));
    Ok(build == this_build()? && age.is_ok_and(|age| age < AGE_MAX))
}

fn remake(root: &Path, make: &impl Fn(&Path, Timestamp) -> Result<()>) -> Result<()> {
    let (mark, content) = (root.join("ready"), root.join("content"));
    let absent = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    absent(fs::remove_file(&mark))?;
    absent(fs::remove_dir_all(&content))?;
    fs::create_dir(&content)?;
    let now = SystemClock.now();
    make(&content, now)?;
    Ok(fs::write(mark, format!("{} {now}", this_build()?))?)
}

/// What tells one build of this program from the next.
fn this_build() -> Result<String> {
    let built = fs::metadata(std::env::current_exe()?)?.modified()?;
    Ok(built.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos().to_string())
}
