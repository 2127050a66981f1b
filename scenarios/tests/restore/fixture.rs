//! A small fleet with three days of backups, made once per build of this program and shared by all of
//! its processes: nextest starts one per trial.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use firedrill_core::clock::{Clock as _, SystemClock};
use firedrill_core::secret::Secret;
use firedrill_scenarios::damage;
use firedrill_scenarios::fleet::{Config, Fleet, Scale, TestRepository, canary_key, write_secret};
use jiff::{SignedDuration, Timestamp};

use crate::firedrill::{self, Drill};

const SEED: u64 = 20;
const PASSWORD: &str = "firedrill-fixture";
/// The fleet promises that at most a day is lost, so that an old fixture would fail rightly.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(6);

/// Restore-tests the drill `name` of the fixture; it must be verified.
pub(crate) fn healthy(name: &str) -> Result<()> {
    let fixture = Fixture::shared()?;
    let drill = Drill::named(name).context("a fixture drill has three parts")?;
    let work = tempfile::tempdir()?;
    firedrill::verify(
        &fixture.config(work.path(), &fixture.repository())?,
        &drill,
        Some(&work.path().join("state")),
    )
}

/// Restore-tests `tag` in a copy with one flipped bit; it must fail.
pub(crate) fn damaged(tag: &str) -> Result<()> {
    let fixture = Fixture::shared()?;
    let work = tempfile::tempdir()?;
    let password = Secret::new(PASSWORD);
    let copy = TestRepository::open(&fixture.repository(), &password)?.copy_to(&work.path().join("copy"))?;
    let _damage = damage::named("data-bit")?.apply_to(copy.path(), PASSWORD, SEED, tag)?;
    let config = fixture.config(work.path(), copy.path())?;
    let drill =
        Drill::named(&format!("primary::{tag}::latest")).context("a fixture drill has three parts")?;
    let (verdict, output) = firedrill::run(&config, &drill, Some(&work.path().join("state")))?;
    ensure!(verdict == "failed", "the damaged {tag} is {verdict}");
    ensure!(output.status.code() == Some(1), "the damaged {tag} ended with {}", output.status);
    Ok(())
}

/// The fixture, which stays as it is while this value lives.
struct Fixture {
    root: PathBuf,
    _shared: File,
}

impl Fixture {
    /// Waits for the fixture, or makes it.
    fn shared() -> Result<Self> {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("restore-fixture");
        fs::create_dir_all(&root)?;
        let lock = || File::create(root.join("lock")).context("open the lock of the fixture");
        for _ in 0..3 {
            let shared = lock()?;
            shared.lock_shared()?;
            if ready(&root)? {
                return Ok(Self { root, _shared: shared });
            }
            drop(shared);
            let alone = lock()?;
            alone.lock()?;
            if !ready(&root)? {
                make(&root).context("make the fixture")?;
            }
        }
        bail!("the fixture does not stay: is something else working in {}?", root.display())
    }

    fn repository(&self) -> PathBuf {
        self.root.join("repository")
    }

    /// Writes a config for `repository` into `work`.
    fn config(&self, work: &Path, repository: &Path) -> Result<PathBuf> {
        let (scratch, password, key) = (work.join("scratch"), work.join("password"), work.join("canary.key"));
        fs::create_dir_all(&scratch)?;
        write_secret(&password, &Secret::new(PASSWORD))?;
        write_secret(&key, &canary_key(&Secret::new(PASSWORD)))?;
        let config = Config {
            copies: &[("primary", "primary", repository.display().to_string())],
            scratch: &scratch,
            canary_key_file: &key,
            // Not by the environment: trials are threads of one process when nextest does not run them.
            password_file: Some(&password),
        };
        let path = work.join("firedrill.yaml");
        fs::write(&path, config.to_yaml()?)?;
        Ok(path)
    }
}

/// Whether the fixture was made by this build, and lately.
fn ready(root: &Path) -> Result<bool> {
    let Ok(mark) = fs::read_to_string(root.join("ready")) else { return Ok(false) };
    let Some((build, made)) = mark.split_once(' ') else { return Ok(false) };
    let age = made.parse::<Timestamp>().map(|made| SystemClock.now().duration_since(made));
    Ok(build == this_build()? && age.is_ok_and(|age| age < AGE_MAX))
}

fn make(root: &Path) -> Result<()> {
    for old in ["ready", "repository", "fleet"] {
        let path = root.join(old);
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.or_else(
            |error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) },
        )?;
    }
    let (now, password) = (SystemClock.now(), Secret::new(PASSWORD));
    let start = now.checked_sub(SignedDuration::from_hours(2 * 24 + 2))?;
    let mut fleet = Fleet::create(&root.join("fleet"), Scale::Small, SEED, start, &password)?;
    let repository = TestRepository::init(&root.join("repository"), &password)?;
    fleet.back_up_all(&repository)?;
    for _ in 1..3 {
        fleet.next_day()?;
        fleet.back_up_all(&repository)?;
    }
    drop(fleet);
    fs::remove_dir_all(root.join("fleet"))?;
    Ok(fs::write(root.join("ready"), format!("{} {now}", this_build()?))?)
}

/// What tells one build of this program from the next.
fn this_build() -> Result<String> {
    let built = fs::metadata(std::env::current_exe()?)?.modified()?;
    Ok(built.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos().to_string())
}
