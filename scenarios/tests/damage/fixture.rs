//! Repositories with three tags of three days each: one written by rustic_core and, where restic is at
//! hand, one by restic.
//!
//! | tag | what it holds |
//! |---|---|
//! | `alpha`, `beta` | texts, noise of equal sizes, folders in folders, twice the same content, an empty file |
//! | `twins` | one file of noise, new each day: its packs have the same layout |

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use firedrill_core::secret::Secret;
use firedrill_scenarios::fleet::{Job, TestRepository, copy_repository};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::place;
use crate::restic::Restic;
use crate::shared::Shared;
use crate::vault::Vault;

/// It must show up nowhere; every run is searched for it.
pub(crate) const PASSWORD: &str = "Fixture-Secret-7fd1c0";
/// All tags.
pub(crate) const TAGS: [&str; 3] = ["alpha", "beta", "twins"];
/// Snapshots of each tag.
pub(crate) const DAYS: u64 = 3;

/// The fixture, which stays as it is while this value lives.
pub(crate) struct Fixture(Shared);

impl Fixture {
    pub(crate) fn shared() -> Result<Self> {
        Shared::get("damage-fixture", make).map(Self)
    }

    /// The repository that rustic_core wrote.
    pub(crate) fn rustic(&self) -> PathBuf {
        self.0.root.join("rustic")
    }

    /// The repository that restic wrote, if there was one.
    pub(crate) fn restic(&self) -> Option<PathBuf> {
        Some(self.0.root.join("restic")).filter(|path| path.is_dir())
    }

    /// What was backed up last under `tag`: the folder that stands for `/` in the repository of rustic_core.
    pub(crate) fn source(&self, tag: &str) -> PathBuf {
        self.0.root.join("source").join(tag)
    }

    /// When the fixture was made; the newest snapshots are an hour or two older.
    pub(crate) fn made(&self) -> Result<Timestamp> {
        Ok(fs::read_to_string(self.0.root.join("made"))?.parse()?)
    }
}

fn make(root: &Path, now: Timestamp) -> Result<()> {
    // restic waits for the disk after each file.
    let work = place::folder()?;
    fill(work.path(), now)?;
    fs::remove_dir(root)?;
    copy_repository(work.path(), root)
}

fn fill(root: &Path, now: Timestamp) -> Result<()> {
    let password = Secret::new(PASSWORD);
    let rustic = TestRepository::init(&root.join("rustic"), &password)?;
    Vault::open(rustic.path(), PASSWORD)?.cheapen(PASSWORD)?;
    let restic = match Restic::find() {
        Some(restic) => {
            let path = root.join("restic");
            restic.init(&path)?;
            Vault::open(&path, PASSWORD)?.cheapen(PASSWORD)?;
            Some((restic, path))
        }
        None => None,
    };
    for day in 0..DAYS {
        let hours = i64::try_from((DAYS - day) * 24)? - 22;
        for (number, tag) in TAGS.into_iter().enumerate() {
            let time = now.checked_sub(SignedDuration::from_mins(hours * 60 - i64::try_from(number)?))?;
            let source = root.join("source").join(tag);
            evolve(&source, tag, day, time)?;
            rustic.snapshot(&Job {
                root: &source,
                paths: &[&format!("/backup/{tag}")],
                excludes: &[],
                tags: &[tag],
                host: tag,
                time,
            })?;
            if let Some((restic, path)) = &restic {
                restic.backup(path, &source, tag, time)?;
            }
        }
    }
    fs::write(root.join("made"), now.to_string())?;
    Ok(())
}

/// Makes what `tag` holds on `day`.
fn evolve(source: &Path, tag: &str, day: u64, time: Timestamp) -> Result<()> {
    let folder = source.join("backup").join(tag);
    let seed = tag.bytes().fold(day * 1000, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
    let write = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        let mut file = File::create(path)?;
        std::io::Write::write_all(&mut file, content)?;
        // Folders keep the real time, which no probe minds.
        file.set_modified(time.into())?;
        anyhow::Ok(())
    };
    if tag == "twins" {
        return write("twin.bin", &noise(seed, 64 << 10));
    }
    if day == 0 {
        for number in 0..4 {
            write(&format!("noise/old-{number}.bin"), &noise(seed + number, 5000))?;
        }
        write("empty", b"")?;
        write("deep/er/list.txt", format!("a list of {tag}\n").repeat(40).as_bytes())?;
        write("deep/copy-of-old-0.bin", &noise(seed, 5000))?;
    }
    write("noise/new-0.bin", &noise(seed + 10, 5000))?;
    write("noise/new-1.bin", &noise(seed + 11, 5000))?;
    let log = (0..=day).map(|day| format!("day {day} of {tag}\n").repeat(50)).collect::<String>();
    write("log.txt", log.as_bytes())?;
    write("deep/er/deepest/today.txt", format!("{tag} on day {day}\n").repeat(30).as_bytes())
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut noise);
    noise
}
