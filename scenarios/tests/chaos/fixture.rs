//! A small fleet with five days of backups, and what a person writes to have copies of it broken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use firedrill_core::secret::Secret;
use firedrill_scenarios::fleet::{Config, Fleet, Scale, TestRepository, canary_key, write_secret};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::shared::Shared;

const SEED: u64 = 30;
const DAYS: i64 = 5;
/// Hours since the last backup: nothing is too old yet, and the next backup would surprise nobody.
const SINCE: i64 = 19;
pub(crate) const PASSWORD: &str = "firedrill-chaos";

/// The fleet, which stays as it is while this value lives.
pub(crate) fn fleet() -> Result<Shared> {
    Shared::get("chaos-fleet", make)
}

fn make(root: &Path, now: Timestamp) -> Result<()> {
    let password = Secret::new(PASSWORD);
    let start = now.checked_sub(SignedDuration::from_hours((DAYS - 1) * 24 + SINCE))?;
    let mut fleet = Fleet::create(&root.join("fleet"), Scale::Small, SEED, start, &password)?;
    let repository = TestRepository::init(&root.join("repository"), &password)?;
    fleet.back_up_all(&repository)?;
    for _ in 1..DAYS {
        fleet.next_day()?;
        fleet.back_up_all(&repository)?;
    }
    drop(fleet);
    fs::remove_dir_all(root.join("fleet"))?;
    // Only packs of the same layout can be exchanged.
    fs::create_dir(root.join("twins"))?;
    repository.plant_twins(&root.join("twins"), start, SEED)?;
    Ok(fs::remove_dir_all(root.join("twins"))?)
}

/// Writes a config for `repository` into `work`.
pub(crate) fn config(work: &Path, repository: &Path) -> Result<PathBuf> {
    let (scratch, password, key) = (work.join("scratch"), work.join("password"), work.join("canary.key"));
    fs::create_dir_all(&scratch)?;
    write_secret(&password, &Secret::new(PASSWORD))?;
    write_secret(&key, &canary_key(&Secret::new(PASSWORD)))?;
    let config = Config {
        copies: &[("primary", "primary", repository.display().to_string())],
        scratch: &scratch,
        canary_key_file: &key,
        password_file: Some(&password),
    };
    let path = work.join("firedrill.yaml");
    fs::write(&path, config.to_yaml()?)?;
    Ok(path)
}

/// Every file below `root` with what it holds, and when it was written.
pub(crate) fn digests(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut digests = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                let written = entry.metadata()?.modified()?;
                let digest = hex::encode(Sha256::digest(fs::read(entry.path())?));
                digests.insert(entry.path(), format!("{digest} {written:?}"));
            }
        }
    }
    Ok(digests)
}
