//! What is known of jobs, as files, and the locks between processes.
//!
//! Locks are those of the kernel: they end with the process that holds them, however it ends, so that no lock ever
//! has to be removed by hand. The state folder must be on a file system of this machine.
//!
//! | file | what it is |
//! |---|---|
//! | `jobs/NAME.json` | what is known of a job, see [`crate::durable`] |
//! | `jobs/NAME.lock` | held while the job runs |
//! | `jobs/people/told.json`, `.lock` | what people were told last |
//! | `jobs/copies/NAME.lock`, `.gate` | held by jobs that need the copy; the gate lets those who wait to be alone go first |

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::news::Told;
use super::spec::{JobName, Mode, Need};
use super::state::JobState;
use crate::durable::{self, Trouble};
use crate::error::{Error, ErrorKind, Result};
use crate::watch::Watch;

/// What the files are.
const KIND: durable::Kind =
    durable::Kind { word: "job", called: "state of a job", version: 1, bytes_max: 8 << 20 };
/// The folder of the jobs in the state folder.
const FOLDER: &str = "jobs";
/// The folder of the locks of copies.
const COPIES: &str = "copies";
/// The folder of what people were told.
const PEOPLE: &str = "people";
/// What its file is.
const TOLD: durable::Kind =
    durable::Kind { word: "told", called: "record of what was told", version: 1, bytes_max: 8 << 20 };
/// How long a lock that somebody else holds is left alone.
const PAUSE: Duration = Duration::from_millis(50);

/// The state of all jobs of one fleet on this machine.
#[derive(Clone, Debug)]
pub struct Ledger {
    folder: PathBuf,
}

/// Held while a job runs. Nobody else writes its state meanwhile.
#[derive(Debug)]
pub struct JobLock {
    job: JobName,
    _file: File,
}

/// Held while a job needs its copies.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "the files are open as long as this lives")] Vec<File>);

/// Held while people are told something.
#[derive(Debug)]
pub struct ToldLock(#[expect(dead_code, reason = "the file is open as long as this lives")] File);

impl Ledger {
    /// Opens the jobs in the state folder `state`, and makes their folder when it is not there.
    pub fn open(state: &Path) -> Result<Self> {
        let folder = state.join(FOLDER);
        let make = |name| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join(name));
        make(COPIES).and_then(|()| make(PEOPLE)).map_err(|e| {
            Error::new(ErrorKind::Usage, format!("make the folder of jobs {}", folder.display()))
                .from_source(&e)
                .advise("choose a writable folder with --state")
        })?;
        Ok(Self { folder })
    }

    /// What is known of `job`. A damaged file is an error: nobody may take a job for new because of it.
    pub fn read(&self, job: &JobName) -> Result<JobState> {
        let path = self.path(job, "json");
        let failed = || Error::new(ErrorKind::Unavailable, format!("read the state of the job {job}"));
        let known: Option<JobState> = durable::read(&path, KIND).map_err(|trouble| match trouble {
            Trouble::Io(e) => failed().from_source(&e),
            Trouble::Damaged(why) => {
                failed().because(format!("{} is not sound: {why}", path.display())).advise(
                    "remove the file: the job then counts as never run, and runs when its schedule says so",
                )
            }
        })?;
        match known {
            Some(state) if &state.job != job => {
                Err(failed().because(format!("{} is about the job {}", path.display(), state.job)))
            }
            Some(state) => Ok(state),
            None => Ok(JobState::new(job.clone())),
        }
    }

    /// Keeps what is known of a job, durably.
    pub fn write(&self, lock: &JobLock, state: &JobState) -> Result<()> {
        let path = self.path(&lock.job, "json");
        durable::write(&path, KIND, state).map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("write the state of the job {}", lock.job))
                .from_source(&e)
                .advise("free some space in the state folder and make it writable")
        })
    }

    /// Takes the lock of a job; `None` when somebody else holds it.
    pub fn lock(&self, job: &JobName) -> Result<Option<JobLock>> {
        let path = self.path(job, "lock");
        let failed = |e: &std::io::Error| lock_trouble(&path, e);
        let file = durable::lock_file(&path).map_err(|e| failed(&e))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(JobLock { job: job.clone(), _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(failed(&e)),
        }
    }

    /// Takes what a job needs, and waits for it as long as `watch` allows.
    ///
    /// Who needs a copy alone waits behind the gate of that copy, where nobody who comes later overtakes: hourly
    /// backups that follow one upon the other cannot keep the retention out for ever.
    pub fn take(&self, needs: &[Need], watch: &Watch) -> Result<Held> {
        let mut held = Vec::new();
        for need in needs {
            let gate = self.copy_lock(need, "gate")?;
            gate.wait(Mode::Exclusive, watch)?;
            let copy = self.copy_lock(need, "lock")?;
            copy.wait(need.mode, watch)?;
            held.push(copy.file);
        }
        Ok(Held(held))
    }

    /// Takes what a job needs if nobody else has it; `None` when somebody has.
    pub fn try_take(&self, needs: &[Need]) -> Result<Option<Held>> {
        let mut held = Vec::new();
        for need in needs {
            let gate = self.copy_lock(need, "gate")?;
            let copy = self.copy_lock(need, "lock")?;
            if !gate.attempt(Mode::Exclusive)? || !copy.attempt(need.mode)? {
                return Ok(None);
            }
            held.push(copy.file);
        }
        Ok(Some(Held(held)))
    }

    /// Keeps others from telling people the same, until it is dropped.
    pub fn lock_told(&self, watch: &Watch) -> Result<ToldLock> {
        let path = self.folder.join(PEOPLE).join("told.lock");
        let file = durable::lock_file(&path).map_err(|e| lock_trouble(&path, &e))?;
        let lock = LockFile { path, file };
        lock.wait(Mode::Exclusive, watch)?;
        Ok(ToldLock(lock.file))
    }

    /// What people were told last, by job. What cannot be read was never told: twice is better than never.
    pub fn told(&self) -> Result<BTreeMap<JobName, Told>> {
        let path = self.told_path();
        match durable::read(&path, TOLD) {
            Ok(told) => Ok(told.unwrap_or_default()),
            Err(Trouble::Damaged(why)) => {
                tracing::warn!("{}: {why}; everything that is bad is told again", path.display());
                Ok(BTreeMap::new())
            }
            Err(Trouble::Io(e)) => {
                Err(Error::new(ErrorKind::Unavailable, format!("read {}", path.display())).from_source(&e))
            }
        }
    }

    /// Keeps what people were told.
    pub fn keep_told(&self, _lock: &ToldLock, told: &BTreeMap<JobName, Told>) -> Result<()> {
        let path = self.told_path();
        durable::write(&path, TOLD, told).map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("write {}", path.display())).from_source(&e)
        })
    }

    fn told_path(&self) -> PathBuf {
        self.folder.join(PEOPLE).join("told.json")
    }

    fn path(&self, job: &JobName, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", job.0))
    }

    fn copy_lock(&self, need: &Need, extension: &str) -> Result<LockFile> {
        let path = self.folder.join(COPIES).join(format!("{}.{extension}", need.copy));
        let file = durable::lock_file(&path).map_err(|e| lock_trouble(&path, &e))?;
        Ok(LockFile { path, file })
    }
}

struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    fn attempt(&self, mode: Mode) -> Result<bool> {
        let tried = match mode {
            Mode::Shared => self.file.try_lock_shared(),
            Mode::Exclusive => self.file.try_lock(),
        };
        match tried {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(lock_trouble(&self.path, &e)),
        }
    }

    fn wait(&self, mode: Mode, watch: &Watch) -> Result<()> {
        while !self.attempt(mode)? {
            watch.check()?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn lock_trouble(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("lock {}", path.display()))
        .from_source(error)
        .advise("choose a writable folder on a local file system with --state")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::job::{Facts, JobReport};
    use crate::pipeline::state::Attempt;

    fn need(copy: &str, mode: Mode) -> Need {
        Need { copy: copy.to_owned(), mode }
    }

    #[test]
    fn a_state_is_kept_and_a_damaged_one_is_no_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).unwrap();
        let job = JobName("grafana".to_owned());
        assert_eq!(ledger.read(&job).unwrap(), JobState::new(job.clone()));
        let lock = ledger.lock(&job).unwrap().unwrap();
        assert!(ledger.lock(&job).unwrap().is_none(), "two hold one lock");
        let mut state = JobState::new(job.clone());
        let slot = "2026-02-01T00:20:00Z".parse().unwrap();
        state.begin(Attempt { slot: Some(slot), number: 1, started: slot, process: 7 });
        ledger.write(&lock, &state).unwrap();
        assert_eq!(ledger.read(&job).unwrap(), state);
        state.end(JobReport::succeeded(Facts::None), slot, None).unwrap();
        ledger.write(&lock, &state).unwrap();
        drop(lock);
        assert!(ledger.lock(&job).unwrap().is_some());
        let file = folder.path().join("jobs/grafana.json");
        let whole = std::fs::read(&file).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&file, &whole[..cut]).unwrap();
            assert!(ledger.read(&job).is_err(), "cut at {cut}");
        }
        let mut flipped = whole.clone();
        let last = flipped.len() - 3;
        flipped[last] ^= 1;
        std::fs::write(&file, &flipped).unwrap();
        assert!(ledger.read(&job).is_err());
    }

    #[test]
    fn those_who_share_do_not_meet_who_wants_to_be_alone() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).unwrap();
        let shared = [need("local", Mode::Shared)];
        let alone = [need("local", Mode::Exclusive), need("offsite", Mode::Shared)];
        let one = ledger.try_take(&shared).unwrap().unwrap();
        let two = ledger.try_take(&shared).unwrap().unwrap();
        assert!(ledger.try_take(&alone).unwrap().is_none());
        drop((one, two));
        let held = ledger.try_take(&alone).unwrap().unwrap();
        assert!(ledger.try_take(&shared).unwrap().is_none());
        let watch = Watch::unlimited().within(Some(Duration::from_millis(200)));
        assert_eq!(ledger.take(&shared, &watch).unwrap_err().kind, ErrorKind::Timeout);
        drop(held);
        ledger.take(&shared, &Watch::unlimited()).unwrap();
    }

    #[test]
    fn who_waits_to_be_alone_is_not_overtaken() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).unwrap();
        let shared = [need("local", Mode::Shared)];
        let first = ledger.try_take(&shared).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| ledger.take(&[need("local", Mode::Exclusive)], &Watch::unlimited()).unwrap());
            let patience = std::time::Instant::now();
            while ledger.try_take(&shared).unwrap().is_some() {
                assert!(patience.elapsed() < Duration::from_secs(10), "it was overtaken all the time");
                std::thread::sleep(Duration::from_millis(5));
            }
            drop(first);
            drop(waiting.join().unwrap());
        });
        assert!(ledger.try_take(&shared).unwrap().is_some());
    }
}
