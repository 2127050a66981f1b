//! Removes snapshots by rules.

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::retention::{Candidate, Decided, GroupBy, Guard, Policy, apply};
use firedrill_core::snapshot::SnapshotId;
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustic_core::repofile::SnapshotFile;
use rustic_core::{FileType, Id};

use super::super::catalog::{SNAPSHOT_MAX, read_all, snapshot};
use super::Writer;
use super::lock::Lock;
use super::prune::{PruneRequest, Pruned};

/// What is to be forgotten.
#[derive(Clone, Debug)]
pub struct ForgetRequest {
    /// The rules.
    pub policy: Policy,
    /// What tells series apart.
    pub by: GroupBy,
    /// Only snapshots that carry all of one of these tag lists (`a,b`); all snapshots without any.
    pub only_tags: Vec<String>,
    /// Only snapshots of one of these hosts; all snapshots without any.
    pub only_hosts: Vec<String>,
    /// What must stay.
    pub guard: Guard,
    /// Where the rules are applied.
    pub zone: TimeZone,
    /// When they are applied; by default now.
    pub now: Option<Timestamp>,
    /// Whether nothing is removed.
    pub dry_run: bool,
}

impl Default for ForgetRequest {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            by: GroupBy::default(),
            only_tags: Vec::new(),
            only_hosts: Vec::new(),
            guard: Guard::default(),
            zone: TimeZone::UTC,
            now: None,
            dry_run: false,
        }
    }
}

/// What was forgotten.
#[derive(Clone, Debug, Default)]
pub struct Forgotten {
    /// What the rules said of each snapshot.
    pub decided: Vec<Decided>,
    /// The snapshots that are gone.
    pub removed: Vec<SnapshotId>,
    /// What was pruned afterwards, if that was asked for.
    pub pruned: Option<Pruned>,
}

impl Writer {
    /// All snapshots, with the clocks that they were made by. An error when one of them cannot be read: rules
    /// that do not see everything remove the wrong ones.
    pub fn candidates(&self, watch: &Watch) -> Result<Vec<Candidate>> {
        let read = read_all::<SnapshotFile>(
            &self.store,
            &self.files.cipher,
            FileType::Snapshot,
            SNAPSHOT_MAX,
            watch,
        )?;
        if let Some(finding) = read.findings.first() {
            return Err(Error::new(ErrorKind::Unavailable, "read all snapshots")
                .because(format!("{}: {}", finding.location, finding.seen))
                .advise("remove or repair it first; a restore test says what else is damaged"));
        }
        let candidate = |(id, file): &(Id, SnapshotFile)| {
            let (snapshot, _) = snapshot(id, file);
            let offset = file.time.offset();
            Candidate { offset, ..Candidate::in_zone(&snapshot, &TimeZone::UTC) }
        };
        Ok(read.files.iter().map(candidate).collect())
    }

    /// Applies rules under an exclusive lock, and prunes afterwards if `prune` is given.
    pub fn forget(
        &self,
        request: &ForgetRequest,
        prune: Option<&PruneRequest>,
        watch: &Watch,
    ) -> Result<Forgotten> {
        let lock = self.lock_exclusive(watch)?;
        let now = request.now.unwrap_or_else(|| self.clock.now());
        let candidates: Vec<_> =
            self.candidates(watch)?.into_iter().filter(|one| is_wanted(one, request)).collect();
        let mut decided = apply(&candidates, request.by, &request.policy, now, &request.zone);
        request.guard.spare(&mut decided);
        request.guard.check(&decided, now).map_err(|refusal| {
            Error::new(ErrorKind::Usage, "apply retention rules")
                .from_source(&refusal)
                .advise("nothing was removed; check the rules, the clocks and what was verified lately")
        })?;
        let mut forgotten = Forgotten { decided, ..Forgotten::default() };
        if !request.dry_run {
            let gone = forgotten.decided.iter().filter(|one| one.is_removed());
            for one in gone.map(|one| one.candidate.id.clone()) {
                self.remove_snapshot(&one, &lock)?;
                forgotten.removed.push(one);
            }
            forgotten.pruned = prune.map(|prune| self.prune_locked(prune, &lock, watch)).transpose()?;
        }
        Ok(forgotten)
    }

    /// Removes these snapshots under an exclusive lock, whatever rules there are.
    pub fn remove_snapshots(&self, ids: &[SnapshotId], watch: &Watch) -> Result<()> {
        let lock = self.lock_exclusive(watch)?;
        ids.iter().try_for_each(|id| self.remove_snapshot(id, &lock))
    }

    fn remove_snapshot(&self, id: &SnapshotId, lock: &Lock) -> Result<()> {
        lock.check()?;
        let parsed: Id = id.0.parse().map_err(|_| {
            Error::new(ErrorKind::Usage, format!("remove snapshot {id}")).because("that is no id")
        })?;
        self.files.remove(FileType::Snapshot, &parsed)
    }
}

fn is_wanted(one: &Candidate, request: &ForgetRequest) -> bool {
    let tagged = request.only_tags.is_empty() || request.only_tags.iter().any(|list| one.has_tags(list));
    tagged && (request.only_hosts.is_empty() || request.only_hosts.contains(&one.host))
}
