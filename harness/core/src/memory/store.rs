//! Baselines as files: one per copy and series, readable by the owner alone, see [`crate::durable`]. A baseline with
//! one wrong digit would become a wrong expectation.

use std::fs::{File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::durable::{self, Trouble};
use crate::error::{Error, ErrorKind, Result};
use crate::snapshot::{CopyName, Series};

use super::Baseline;

/// The folder of the baselines in the state folder.
const FOLDER: &str = "memory";
/// What the files are.
const KIND: durable::Kind =
    durable::Kind { word: "memory", called: "baseline", version: 1, bytes_max: 4 << 20 };
/// How often, and how long apart, the lock of another process is waited for.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The store of baselines.
#[derive(Clone, Debug)]
pub struct Memory {
    folder: PathBuf,
}

impl Memory {
    /// Opens the store in the state folder `state`, and makes it when it is not there.
    pub fn open(state: &Path) -> Result<Self> {
        let folder = state.join(FOLDER);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| {
            Error::new(ErrorKind::Usage, format!("make the folder of baselines {}", folder.display()))
                .from_source(&e)
                .advise("choose a writable folder with --state")
        })?;
        Ok(Self { folder })
    }

    /// The baseline of `series` in `copy`. The key leaves the repository's id out, so that a copy that
    /// was made anew still finds its old baseline and the difference in [`Baseline::repository`] shows.
    /// A damaged file is an error, never an absent baseline.
    pub fn get(&self, copy: &CopyName, series: &Series) -> Result<Option<Baseline>> {
        let Some(baseline) = read(&self.path(copy, series))? else {
            return Ok(None);
        };
        if &baseline.copy != copy || &baseline.series != series {
            return Err(damaged(&self.path(copy, series), "it belongs to another copy or series"));
        }
        Ok(Some(baseline))
    }

    /// Keeps `baseline`, durably, in place of the one before. Refused when the one before is of a newer
    /// snapshot, see [`Baseline::supersedes`].
    pub fn put(&self, baseline: &Baseline) -> Result<()> {
        let _lock = self.lock()?;
        if let Some(old) = self.get(&baseline.copy, &baseline.series)?
            && !baseline.supersedes(&old)
        {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("keep the baseline of {} in {}", baseline.series, baseline.copy),
            )
            .because(format!(
                "it comes from the snapshot of {}, the present one from the newer snapshot of {}",
                baseline.snapshot_time, old.snapshot_time
            ))
            .advise("remove the present baseline first if the older one is what you want"));
        }
        let path = self.path(&baseline.copy, &baseline.series);
        durable::write(&path, KIND, baseline).map_err(|e| {
            Error::new(ErrorKind::Scratch, format!("write the baseline {}", path.display()))
                .from_source(&e)
                .advise(if e.kind() == std::io::ErrorKind::FileTooLarge {
                    "the one before stays; the next drill is compared with that"
                } else {
                    "free some space in the state folder and make it writable"
                })
        })
    }

    /// Every baseline, by copy and series; a damaged file is an error in its place.
    pub fn list(&self) -> Result<Vec<Result<Baseline>>> {
        let failed = |e: std::io::Error| {
            Error::new(ErrorKind::Unavailable, format!("list the baselines in {}", self.folder.display()))
                .from_source(&e)
        };
        let mut all = Vec::new();
        for file in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            if path.extension().is_some_and(|e| e == "json") {
                all.extend(read(&path).transpose());
            }
        }
        let key = |b: &Result<Baseline>| match b {
            Ok(b) => (0, b.copy.to_string(), b.series.to_string()),
            Err(e) => (1, e.attempted.clone(), String::new()),
        };
        all.sort_by_key(key);
        Ok(all)
    }

    /// Forgets the baseline of `series` in `copy`, damaged or not. Says whether there was one.
    pub fn remove(&self, copy: &CopyName, series: &Series) -> Result<bool> {
        let _lock = self.lock()?;
        let path = self.path(copy, series);
        match std::fs::remove_file(&path).and_then(|()| File::open(&self.folder)?.sync_all()) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => {
                Err(Error::new(ErrorKind::Unavailable, format!("remove the baseline {}", path.display()))
                    .from_source(&e))
            }
        }
    }

    fn path(&self, copy: &CopyName, series: &Series) -> PathBuf {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            // The length in front keeps ("a", "bc") and ("ab", "c") apart.
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        part(&copy.0);
        match series {
            Series::Tag(tag) => {
                part("tag");
                part(tag);
            }
            Series::Untagged { host, paths } => {
                part("untagged");
                part(host);
                paths.iter().for_each(|path| part(path));
            }
            Series::Group(name) => {
                part("group");
                part(name);
            }
        }
        let name: String = hex::encode(hash.finalize()).chars().take(32).collect();
        self.folder.join(format!("{name}.json"))
    }

    /// One writer at a time: two runs that end together must not undo each other.
    fn lock(&self) -> Result<File> {
        let path = self.folder.join(".lock");
        let failed = |e: &dyn std::error::Error| {
            Error::new(ErrorKind::Unavailable, format!("lock the baselines with {}", path.display()))
                .from_source(e)
                .advise("choose a writable folder on a local file system with --state")
        };
        let file = durable::lock_file(&path).map_err(|e| failed(&e))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(e)) => return Err(failed(&e)),
            }
        }
        Err(failed(&TryLockError::WouldBlock))
    }
}

fn read(path: &Path) -> Result<Option<Baseline>> {
    durable::read(path, KIND).map_err(|trouble| match trouble {
        Trouble::Io(e) => Error::new(ErrorKind::Unavailable, format!("read the baseline {}", path.display()))
            .from_source(&e),
        Trouble::Damaged(why) => damaged(path, &why),
    })
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("read the baseline {}", path.display()))
        .because(format!("the file is not a sound baseline: {why}"))
        .advise("remove the file; the next verified drill writes a new one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Acceptance;
    use crate::snapshot::SnapshotId;
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    fn baseline(tag: &str, id: &str, time: &str) -> Baseline {
        Baseline {
            repository: "r1".into(),
            copy: CopyName("primary".into()),
            series: Series::Tag(tag.into()),
            run: "run-1".into(),
            snapshot: SnapshotId(id.into()),
            snapshot_time: time.parse().unwrap(),
            host: "h".into(),
            accepted: None,
            probes: BTreeMap::from([(
                "shape".to_owned(),
                BTreeMap::from([("share".to_owned(), serde_json::json!(0.1 + 0.2))]),
            )]),
        }
    }

    fn only_file(state: &Path) -> PathBuf {
        let files: Vec<_> = std::fs::read_dir(state.join(FOLDER))
            .unwrap()
            .map(|f| f.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "json"))
            .collect();
        assert_eq!(files.len(), 1);
        files[0].clone()
    }

    #[test]
    fn what_is_put_is_got_and_listed_and_removed() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::open(state.path()).unwrap();
        let kept = baseline("grafana", "aa", "2026-01-02T00:00:00Z");
        assert_eq!(memory.get(&kept.copy, &kept.series), Ok(None));
        memory.put(&kept).unwrap();
        memory.put(&baseline("emby", "bb", "2026-01-02T00:00:00Z")).unwrap();
        let got = memory.get(&kept.copy, &kept.series).unwrap().unwrap();
        assert_eq!(got.snapshot, kept.snapshot);
        assert_eq!(memory.get(&CopyName("mirror".into()), &kept.series), Ok(None));
        let names: Vec<_> =
            memory.list().unwrap().into_iter().map(|b| b.unwrap().series.to_string()).collect();
        assert_eq!(names, ["emby", "grafana"]);
        assert_eq!(memory.remove(&kept.copy, &kept.series), Ok(true));
        assert_eq!(memory.remove(&kept.copy, &kept.series), Ok(false));
        assert_eq!(memory.list().unwrap().len(), 1);
    }

    #[test]
    fn only_the_owner_can_read_it_and_no_temporary_file_stays() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::open(state.path()).unwrap();
        memory.put(&baseline("grafana", "aa", "2026-01-02T00:00:00Z")).unwrap();
        let file = only_file(state.path());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!file.with_extension("new").exists());
    }

    #[test]
    fn an_older_snapshot_never_replaces_a_newer_one_unless_that_is_accepted_as_gone() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::open(state.path()).unwrap();
        let new = baseline("grafana", "bb", "2026-01-03T00:00:00Z");
        memory.put(&new).unwrap();
        let mut old = baseline("grafana", "aa", "2026-01-02T00:00:00Z");
        assert!(memory.put(&old).unwrap_err().chain().contains("newer snapshot"));
        let accept = |gone: &str| {
            Some(Acceptance {
                time: "2026-01-04T00:00:00Z".parse().unwrap(),
                reason: "cleaned up".into(),
                gone: Some(SnapshotId(gone.into())),
            })
        };
        old.accepted = accept("cc");
        assert!(memory.put(&old).is_err());
        old.accepted = accept("bb");
        memory.put(&old).unwrap();
        assert_eq!(memory.get(&new.copy, &new.series).unwrap().unwrap().snapshot.0, "aa");
    }

    #[test]
    fn a_re_initialised_repository_still_finds_its_old_baseline() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::open(state.path()).unwrap();
        let kept = baseline("grafana", "aa", "2026-01-02T00:00:00Z");
        memory.put(&kept).unwrap();
        assert_eq!(memory.get(&kept.copy, &kept.series).unwrap().unwrap().repository, "r1");
    }

    #[test]
    fn damage_anywhere_in_the_file_is_an_error_with_advice() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::open(state.path()).unwrap();
        let kept = baseline("grafana", "aa", "2026-01-02T00:00:00Z");
        memory.put(&kept).unwrap();
        let file = only_file(state.path());
        let sound = std::fs::read(&file).unwrap();
        for at in 0..sound.len() {
            let mut bad = sound.clone();
            bad[at] ^= 1;
            std::fs::write(&file, &bad).unwrap();
            let error = memory.get(&kept.copy, &kept.series).unwrap_err();
            assert!(error.chain().contains("remove the file"), "bit {at}: {}", error.chain());
            std::fs::write(&file, &sound[..at]).unwrap();
            assert!(memory.get(&kept.copy, &kept.series).is_err(), "cut at {at}");
        }
        assert_eq!(memory.list().unwrap().iter().filter(|b| b.is_err()).count(), 1);
        assert!(memory.put(&kept).is_err(), "a damaged file is not overwritten silently");
        assert_eq!(memory.remove(&kept.copy, &kept.series), Ok(true));
        memory.put(&kept).unwrap();
    }

    #[test]
    fn a_baseline_under_the_wrong_name_is_damage() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::open(state.path()).unwrap();
        let kept = baseline("grafana", "aa", "2026-01-02T00:00:00Z");
        memory.put(&kept).unwrap();
        let other = Series::Tag("emby".into());
        std::fs::rename(only_file(state.path()), memory.path(&kept.copy, &other)).unwrap();
        assert!(memory.get(&kept.copy, &other).is_err());
    }

    #[test]
    fn a_baseline_that_could_not_be_read_again_is_not_written() {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::open(state.path()).unwrap();
        let small = baseline("a", "aa", "2026-01-01T00:00:00Z");
        memory.put(&small).unwrap();
        let mut large = baseline("a", "bb", "2026-01-02T00:00:00Z");
        large.host = "h".repeat(4 << 20);
        let error = memory.put(&large).unwrap_err();
        assert!(error.chain().contains("no baseline may have more"), "{}", error.chain());
        assert_eq!(memory.get(&small.copy, &small.series).unwrap(), Some(small));
        large.host.truncate((4 << 20) - 1000);
        memory.put(&large).unwrap();
        assert_eq!(memory.get(&large.copy, &large.series).unwrap(), Some(large));
    }
}
