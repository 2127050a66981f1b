//! A small fleet with three days of backups.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use firedrill_core::secret::Secret;
use firedrill_scenarios::damage;
use firedrill_scenarios::fleet::{Config, Fleet, Scale, TestRepository, canary_key, write_secret};
use jiff::{SignedDuration, Timestamp};

use crate::firedrill::{self, Drill};
use crate::shared::Shared;

const SEED: u64 = 20;
const PASSWORD: &str = "firedrill-fixture";

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
struct Fixture(Shared);

impl Fixture {
    fn shared() -> Result<Self> {
        Shared::get("restore-fixture", make).map(Self)
    }

    fn repository(&self) -> PathBuf {
        self.0.root.join("repository")
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

fn make(root: &Path, now: Timestamp) -> Result<()> {
    let password = Secret::new(PASSWORD);
    let start = now.checked_sub(SignedDuration::from_hours(2 * 24 + 2))?;
    let mut fleet = Fleet::create(&root.join("fleet"), Scale::Small, SEED, start, &password)?;
    let repository = TestRepository::init(&root.join("repository"), &password)?;
    fleet.back_up_all(&repository)?;
    for _ in 1..3 {
        fleet.next_day()?;
        fleet.back_up_all(&repository)?;
    }
    drop(fleet);
    Ok(fs::remove_dir_all(root.join("fleet"))?)
}
