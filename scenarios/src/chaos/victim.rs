//! A copy of a repository that may be broken.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use firedrill_backends::repository::location::{Access, Environment, Location};
use firedrill_backends::repository::restic::Restic;
use firedrill_backends::repository::restic::write::{
    BackupRequest, ParentChoice, Source, Writer, WriterOptions,
};
use firedrill_backends::scratch::directory::DirectoryScratch;
use firedrill_core::clock::SystemClock;
use firedrill_core::plan::DrillName;
use firedrill_core::ports::{LeaseRequest, Order, Repository as _, Scratch as _};
use firedrill_core::secret::Secret;
use firedrill_core::snapshot::{CopyName, Series, Snapshot};
use firedrill_core::watch::Watch;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::fault::Struck;
use super::staged::Staged;
use crate::damage::{self, NotApplicable};

/// A restore of one tag takes no longer.
const RESTORE_MAX: Duration = Duration::from_secs(6 * 3600);

/// A copy of a repository that nobody needs, and what is known of it. Faults get nothing else to touch.
pub struct Victim<'a> {
    pub(super) repository: &'a Path,
    pub(super) password: &'a Secret,
    /// Tags whose latest snapshot was verified before.
    pub(super) tags: &'a [String],
    /// What new canaries are signed with, if that is known.
    pub(super) canary_key: Option<&'a Secret>,
    /// The time that new snapshots claim.
    pub(super) now: Timestamp,
    /// A folder for what is restored to be changed.
    pub(super) scratch: &'a Path,
    pub(super) watch: &'a Watch,
}

/// Whether an error means that there is nothing here that a fault could strike.
pub(super) fn is_not_applicable(error: &anyhow::Error) -> bool {
    error.is::<NotApplicable>()
}

/// There is nothing here that a fault could strike.
pub(super) fn nothing(why: impl Into<String>) -> anyhow::Error {
    NotApplicable(why.into()).into()
}

impl Victim<'_> {
    /// Damages files of the repository by the operator of this name, aimed at what the latest snapshot of some tag
    /// needs.
    pub(super) fn damage(&self, operator: &str, rng: &mut StdRng) -> Result<Struck> {
        let operator = damage::named(operator)?;
        let seed = rand::Rng::next_u64(rng);
        let guard = self
            .first_of(rng, |tag, _| operator.apply_to(self.repository, self.password.reveal(), seed, tag))?;
        let touched: Vec<_> = guard.touched().map(|path| path.display().to_string()).collect();
        Ok(Struck {
            what: format!("{}: {}", operator.what(), touched.join(", ")),
            tags: self.verified_of(guard.hits()),
        })
    }

    /// Restores the latest snapshot of some tag, lets `change` have its way with it, and backs it up as the next
    /// snapshot of that tag. `change` says what it did.
    pub(super) fn next_backup(
        &self,
        rng: &mut StdRng,
        change: impl Fn(&mut Staged, &mut StdRng) -> Result<String>,
    ) -> Result<Struck> {
        self.first_of(rng, |tag, rng| {
            let (what, tags) = self.rewrite(tag, |staged| change(staged, rng))?;
            Ok(Struck { what: format!("{tag}: {what}"), tags })
        })
    }

    /// The first of the tags, in random order, that offers what is needed.
    pub(super) fn first_of<T>(
        &self,
        rng: &mut StdRng,
        mut strike: impl FnMut(&str, &mut StdRng) -> Result<T>,
    ) -> Result<T> {
        let mut tags: Vec<_> = self.tags.iter().collect();
        tags.shuffle(rng);
        let mut last = nothing("no tag was verified before");
        for tag in tags {
            match strike(tag, rng) {
                Err(error) if is_not_applicable(&error) => last = error,
                struck => return struck,
            }
        }
        Err(last)
    }

    /// Removes snapshots of `tag`, as `restic forget` does. Not where that would hit other tags as well.
    pub(super) fn forget_of(&self, tag: &str, snapshots: &[Snapshot], what: &str) -> Result<Struck> {
        if snapshots.iter().any(|snapshot| snapshot.tags.len() > 1) {
            return Err(nothing(format!("snapshots of {tag} have other tags, too")));
        }
        self.forget(snapshots)?;
        Ok(Struck { what: format!("{tag}: {what}"), tags: BTreeSet::from([tag.to_owned()]) })
    }

    /// All snapshots of `tag`, newest first.
    pub(super) fn snapshots(&self, tag: &str) -> Result<Vec<Snapshot>> {
        let inventory = self.restic()?.snapshots(self.watch).map_err(told)?;
        let mut of_tag: Vec<_> =
            inventory.snapshots.into_iter().filter(|one| one.tags.iter().any(|own| own == tag)).collect();
        of_tag.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time));
        Ok(of_tag)
    }

    fn forget(&self, snapshots: &[Snapshot]) -> Result<()> {
        for snapshot in snapshots {
            let path = self.repository.join("snapshots").join(&snapshot.id.0);
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    fn restic(&self) -> Result<Restic> {
        let backend =
            self.location().open(&Access::from_environment(Environment::default())).map_err(told)?;
        Ok(Restic::new(backend, self.password.clone()))
    }

    fn location(&self) -> Location {
        Location::Local(self.repository.to_owned())
    }

    /// For what is written to the repository.
    pub(super) fn writer(&self) -> Result<Writer> {
        let access = Access::from_environment(Environment::default());
        Writer::open(&self.location(), &access, self.password, WriterOptions::default(), self.watch)
            .map_err(told)
    }

    fn rewrite(
        &self,
        tag: &str,
        change: impl FnOnce(&mut Staged) -> Result<String>,
    ) -> Result<(String, BTreeSet<String>)> {
        let restic = self.restic()?;
        let listed = restic.snapshots(self.watch).map_err(told)?.snapshots;
        let latest =
            listed.into_iter().filter(|one| one.tags.iter().any(|own| own == tag)).max_by_key(|one| one.time);
        let latest = latest.with_context(|| format!("{tag} has no snapshot"))?;
        if latest.has_more_paths() {
            return Err(nothing(format!("{tag} has more paths than are known")));
        }
        let series = Series::Tag(tag.to_owned());
        let drill = DrillName::new(&CopyName("chaos".to_owned()), &series, latest.id.short());
        let scratch = DirectoryScratch::new(self.scratch.to_owned(), std::sync::Arc::new(SystemClock));
        let request =
            LeaseRequest { run: "chaos", drill: &drill, lifetime: RESTORE_MAX, bytes: latest.bytes };
        let lease = scratch.provision(&request).map_err(told)?;
        let order = Order {
            drill: &drill,
            snapshot: &latest,
            lease: &lease,
            bytes_max: None,
            progress: std::sync::Arc::default(),
            watch: self.watch.within(Some(RESTORE_MAX)),
        };
        let restored = restic.restore(&[order]).pop().context("one order has one answer")?.map_err(told)?;
        if let Some(finding) = restored.findings.first() {
            bail!("{tag} does not restore: {} {}", finding.code, finding.seen);
        }
        let mut staged = Staged::new(lease.data().to_owned(), latest, self.now, self.canary_key.cloned())?;
        staged.next_canaries()?;
        let what = change(&mut staged)?;
        self.save(&staged)?;
        drop(lease);
        Ok((what, self.verified_of(&staged.tags)))
    }

    /// Those of some tags whose latest snapshot was verified before.
    pub(super) fn verified_of<'t>(&self, tags: impl IntoIterator<Item = &'t String>) -> BTreeSet<String> {
        tags.into_iter().filter(|tag| self.tags.contains(tag)).cloned().collect()
    }

    fn save(&self, staged: &Staged) -> Result<()> {
        let sources = staged
            .paths()
            .map(|path| Source::Path { path: staged.on_disk(path), as_path: Some(path.into()) })
            .collect();
        let request = BackupRequest {
            tags: staged.tags.clone(),
            host: Some(staged.host.clone()),
            paths: Some(staged.snapshot.paths.clone()),
            time: Some(staged.time),
            parent: ParentChoice::None,
            ..BackupRequest::default()
        };
        self.writer()?.backup(sources, &request, self.watch).map_err(told)?;
        Ok(())
    }
}

/// Core's errors have causes and advice; here one line is wanted.
pub(super) fn told(error: firedrill_core::error::Error) -> anyhow::Error {
    anyhow!(error.chain())
}
