//! Locks as restic has them: a file in `locks/` that everybody looks for before and after writing an own one.
//!
//! A shared lock lets others add, an exclusive one lets nobody do anything. A lock that is half an hour old, or
//! whose process on this host is dead, is stale and is removed. Holders renew theirs every five minutes; whoever
//! fails to do so for too long stops working ([`Lock::check`]), because others may take the lock for stale.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use firedrill_core::clock::Clock;
use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::watch::Watch;
use jiff::{SignedDuration, Timestamp};
use rustic_core::Id;
use serde::{Deserialize, Serialize};

use super::super::crypto::unpack;
use super::files::{Files, id_of};
use super::people::Myself;
use crate::repository::error::{Fault, Trouble};
use crate::repository::locks::{LOCK_MAX, LockFolder};

/// A lock is stale at this age.
const STALE: SignedDuration = SignedDuration::from_mins(30);
/// Between writing a lock and looking for those of others once more.
const SETTLE: Duration = Duration::from_millis(200);
/// More locks than this are not read.
const LOCKS_MAX: usize = 10_000;
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A lock that cannot be read may be one that is just being written or removed.
const READS: u32 = 4;

/// How locks are taken.
#[derive(Clone, Debug)]
pub struct LockOptions {
    /// How long to wait for the locks of others.
    pub wait: Duration,
    /// How often an own lock is renewed.
    pub refresh: Duration,
    /// The age at which an own lock that could not be renewed counts as lost.
    pub lost: Duration,
}

impl Default for LockOptions {
    fn default() -> Self {
        let refresh = Duration::from_secs(5 * 60);
        // As in restic, with some room before others see it as stale, for clocks that differ.
        Self { wait: Duration::from_secs(60), refresh, lost: Duration::from_secs(30 * 60) - refresh * 3 / 2 }
    }
}

/// What restic writes into a lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    time: Timestamp,
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    uid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    gid: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Note {
    fn own(exclusive: bool, now: Timestamp, me: &Myself) -> Self {
        Self {
            time: now,
            exclusive,
            hostname: me.host.clone(),
            username: me.user.clone(),
            pid: i64::from(std::process::id()),
            uid: me.uid,
            gid: me.gid,
        }
    }

    fn is_stale(&self, now: Timestamp, me: &Myself) -> bool {
        now.duration_since(self.time) > STALE || (self.hostname == me.host && !is_alive(self.pid))
    }

    fn describe(&self, now: Timestamp) -> String {
        let age = now.duration_since(self.time).as_secs().max(0).unsigned_abs();
        format!(
            "process {} of {} on {}, {} ago",
            self.pid,
            self.username,
            self.hostname,
            humantime_of(Duration::from_secs(age))
        )
    }
}

fn humantime_of(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds}s"),
        seconds => format!("{}min", seconds / 60),
    }
}

/// A restic on this host that finds our lock asks whether we are alive by sending us a hang-up, which ends every
/// process that does not expect it. From the first lock on, this process does.
fn survive_hangups() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    static EXPECTED: Mutex<bool> = Mutex::new(false);
    let mut expected = EXPECTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*expected {
        let expect = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            let _inside = runtime.enter();
            // The handler stays for as long as the process lives; nobody needs to listen to it.
            signal(SignalKind::hangup()).map(drop)
        };
        expect()
            .map_err(|error| Error::new(ErrorKind::Internal, "prepare to hold a lock").from_source(&error))?;
        *expected = true;
    }
    Ok(())
}

fn is_alive(pid: i64) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return false };
    // A process of somebody else may not be asked, but it is there.
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// The locks of one repository.
#[derive(Clone)]
pub(super) struct Locks {
    pub(super) folder: Arc<dyn LockFolder>,
    pub(super) files: Files,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) me: Myself,
    pub(super) options: LockOptions,
}

/// What is known of the locks of others.
enum Seen {
    /// Nobody is in the way.
    Free,
    /// Somebody is.
    Held(String),
}

impl Locks {
    /// Takes a lock, waiting for others at most as long as the options say.
    pub(super) fn take(&self, exclusive: bool, watch: &Watch) -> Result<Lock> {
        let started = Instant::now();
        let mut pause = SETTLE;
        loop {
            watch.check()?;
            let holder = match self.attempt(exclusive, watch)? {
                Ok(lock) => return Ok(lock),
                Err(holder) => holder,
            };
            let left = self.options.wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(Error::new(ErrorKind::Unavailable, "lock the repository")
                    .because(format!("it is locked by {holder}"))
                    .advise(
                        "wait until that ends; `restic unlock` removes locks that nobody holds any more",
                    ));
            }
            sleep(pause.min(left), watch)?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn attempt(&self, exclusive: bool, watch: &Watch) -> Result<Result<Lock, String>> {
        if let Seen::Held(holder) = self.others(exclusive, None, watch)? {
            return Ok(Err(holder));
        }
        let (id, time) = self.write(exclusive)?;
        let looked = sleep(SETTLE, watch).and_then(|()| self.others(exclusive, Some(&id), watch));
        match looked {
            Ok(Seen::Free) => Ok(Ok(Lock::hold(self.clone(), exclusive, id, time, watch))),
            Ok(Seen::Held(holder)) => {
                self.remove(&id)?;
                Ok(Err(holder))
            }
            Err(error) => {
                self.drop_lock(&id);
                Err(error)
            }
        }
    }

    fn write(&self, exclusive: bool) -> Result<(Id, Timestamp)> {
        survive_hangups()?;
        let note = Note::own(exclusive, self.clock.now(), &self.me);
        let json = serde_json::to_vec(&note)
            .map_err(|error| Error::new(ErrorKind::Internal, "write a lock").from_source(&error))?;
        let unit = self.files.seal(&json)?;
        let id = id_of(&unit)?;
        let written = self.folder.write(&id, unit.clone());
        // The answer may have been lost and the lock not; and what is there must be what was written.
        match (self.folder.read(&id), written) {
            (Ok(bytes), _) if *bytes == unit => Ok((id, note.time)),
            (_, Err(fault)) => Err(fault.into_error("write a lock")),
            (Err(fault), Ok(())) => Err(fault.into_error("read the lock that was just written")),
            (Ok(_), Ok(())) => Err(Error::new(ErrorKind::Unavailable, "write a lock")
                .because("what can be read there afterwards is not what was written")),
        }
    }

    fn remove(&self, id: &Id) -> Result<()> {
        self.folder.remove(id).map_err(|fault| fault.into_error("remove a lock"))
    }

    fn list(&self) -> Result<Vec<(Id, u32)>> {
        self.folder.list().map_err(|fault| fault.into_error("list the locks of the repository"))
    }

    fn drop_lock(&self, id: &Id) {
        if let Err(error) = self.remove(id) {
            tracing::warn!("{}", error.chain());
        }
    }

    /// Looks for locks in the way of an own one, and removes those that are stale.
    fn others(&self, exclusive: bool, own: Option<&Id>, watch: &Watch) -> Result<Seen> {
        let mut unreadable = String::new();
        for round in 0..READS {
            if round > 0 {
                sleep(SETTLE * 2_u32.pow(round), watch)?;
            }
            unreadable.clear();
            let listed = self.list()?;
            if listed.len() > LOCKS_MAX {
                return Err(Error::new(ErrorKind::Unavailable, "lock the repository")
                    .because(format!("it has {} locks", listed.len()))
                    .advise("`restic unlock` removes locks that nobody holds any more"));
            }
            // Some stores leave empty files behind when an upload breaks off.
            for (id, size) in listed.iter().filter(|(id, size)| Some(id) != own && *size > 0) {
                watch.check()?;
                match self.read(id, *size)? {
                    None => {}
                    Some(Err(why)) => unreadable = why,
                    Some(Ok(note)) if note.is_stale(self.clock.now(), &self.me) => {
                        tracing::info!(lock = %note.describe(self.clock.now()), "removing a stale lock");
                        self.remove(id)?;
                    }
                    Some(Ok(note)) if exclusive || note.exclusive => {
                        return Ok(Seen::Held(note.describe(self.clock.now())));
                    }
                    Some(Ok(_)) => {}
                }
            }
            if unreadable.is_empty() {
                return Ok(Seen::Free);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "lock the repository")
            .because(format!("there is a lock that cannot be read: {unreadable}"))
            .advise("`restic unlock --remove-all` removes it, when nobody uses the repository"))
    }

    /// A lock, or why it is none; nothing when it is gone.
    fn read(&self, id: &Id, size: u32) -> Result<Option<Result<Note, String>>> {
        if u64::from(size) > LOCK_MAX {
            return Ok(Some(Err(format!("{size} bytes"))));
        }
        let bytes = match self.folder.read(id) {
            Ok(bytes) => bytes,
            Err(Fault { trouble: Trouble::Missing, .. }) => return Ok(None),
            Err(fault) => return Err(fault.into_error("read a lock")),
        };
        let plain = self.files.cipher.decrypt(&bytes).and_then(|plain| unpack(plain, LOCK_MAX));
        let parse = |json: Vec<u8>| serde_json::from_slice(&json).map_err(|e| e.to_string());
        Ok(Some(plain.and_then(parse)))
    }

    fn exists(&self, id: &Id) -> Result<bool> {
        // A listing may lag behind; nobody is told of a loss for that.
        for last in [false, true] {
            if self.list()?.iter().any(|(other, _)| other == id) {
                return Ok(true);
            }
            if !last {
                std::thread::sleep(SETTLE);
            }
        }
        Ok(false)
    }
}

/// Sleeps in slices, so that a stop is noticed.
fn sleep(time: Duration, watch: &Watch) -> Result<()> {
    let until = Instant::now() + time;
    loop {
        watch.check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

/// A lock that is held, renewed from a thread of its own, and removed when it is dropped.
pub struct Lock {
    held: Arc<Held>,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    watch: Watch,
}

struct Held {
    locks: Locks,
    exclusive: bool,
    /// The file, and when it was written.
    file: Mutex<(Id, Timestamp)>,
    lost: AtomicBool,
}

impl Lock {
    fn hold(locks: Locks, exclusive: bool, id: Id, time: Timestamp, watch: &Watch) -> Self {
        let held =
            Arc::new(Held { locks, exclusive, file: Mutex::new((id, time)), lost: AtomicBool::new(false) });
        let (stop, stopped) = mpsc::sync_channel::<()>(1);
        let renewing = Arc::clone(&held);
        let thread = std::thread::Builder::new().name("lock".to_owned()).spawn(move || {
            let every = renewing.locks.options.refresh;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                renewing.renew();
            }
        });
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "a lock cannot be renewed")).ok();
        Self { held, stop: Some(stop), thread, watch: watch.clone() }
    }

    /// `Ok` while work under this lock may go on: the watch allows it and the lock is not lost.
    pub fn check(&self) -> Result<()> {
        self.watch.check()?;
        if self.held.is_lost() {
            return Err(Error::new(ErrorKind::Unavailable, "keep the repository locked")
                .because("the lock could not be renewed in time, or somebody removed it")
                .advise("check the connection, and that nobody runs `restic unlock --remove-all`"));
        }
        Ok(())
    }

    /// Whether nobody else may do anything meanwhile.
    pub fn is_exclusive(&self) -> bool {
        self.held.exclusive
    }
}

impl Held {
    fn file(&self) -> (Id, Timestamp) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares wall clocks, because others do, and because other clocks stand still while a machine sleeps.
    fn is_lost(&self) -> bool {
        let age = self.locks.clock.now().duration_since(self.file().1);
        let limit = SignedDuration::try_from(self.locks.options.lost).unwrap_or(STALE);
        if age > limit {
            self.lost.store(true, Ordering::SeqCst);
        }
        self.lost.load(Ordering::SeqCst)
    }

    fn renew(&self) {
        if self.is_lost() {
            return;
        }
        let (old, _) = self.file();
        let renewed = self.locks.exists(&old).and_then(|exists| match exists {
            true => self.locks.write(self.exclusive).map(Some),
            false => Ok(None),
        });
        match renewed {
            Ok(Some(new)) => {
                *self.file.lock().unwrap_or_else(PoisonError::into_inner) = new;
                self.locks.drop_lock(&old);
            }
            Ok(None) => self.lost.store(true, Ordering::SeqCst),
            Err(error) => tracing::warn!("{}", error.chain()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say: it never panics on what it reads.
            let _ = thread.join();
        }
        self.held.locks.drop_lock(&self.held.file().0);
    }
}
