//! What the present content is compared with.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet};

use firedrill_core::finding::Examination;
use firedrill_core::manifest::display_path;
use firedrill_core::snapshot::{Snapshot, is_more_paths};
use firedrill_core::subject::Subject;
use jiff::Timestamp;

use super::identity;
use super::stored::Stored;
use super::view::{Summary, View, text};
use crate::probe::names::{self, loose};

/// One state of the past: an earlier snapshot with its tree, or the counts that a baseline keeps.
pub(super) struct Past<'a> {
    pub(super) label: String,
    pub(super) time: Timestamp,
    pub(super) summary: Summary,
    pub(super) paths: Vec<String>,
    pub(super) tree: Option<View<'a>>,
    /// The program that made the snapshot; another one may cut content differently.
    pub(super) program: String,
    /// It lies before the last verified or accepted drill: it was judged then, is not held against anybody
    /// again, and only tells what comes and goes here.
    pub(super) judged: bool,
    fresh: OnceCell<Fresh>,
}

/// What the present content has that a state of the past had not.
#[derive(Default)]
pub(super) struct Fresh {
    /// Loose paths of its new files.
    pub(super) forms: HashSet<String>,
    /// Paths of its new files without the extension.
    pub(super) stems: HashSet<Vec<u8>>,
}

impl Past<'_> {
    /// What is new in `now`; nothing when this state has no tree.
    pub(super) fn fresh(&self, now: &View<'_>) -> &Fresh {
        self.fresh.get_or_init(|| {
            let Some(tree) = &self.tree else { return Fresh::default() };
            let mut fresh = Fresh::default();
            for entry in now.files().filter(|e| !tree.index.contains_key(e.path.as_slice())) {
                fresh.forms.insert(loose(&text(&entry.path)));
                fresh.stems.insert(names::stem(&entry.path).to_vec());
            }
            fresh
        })
    }

    /// The share of `part` in `whole`, 0 when there is nothing.
    pub(super) fn share(part: u64, whole: u64) -> f64 {
        if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
    }
}

/// All states that are known, newest first; those that were judged before come last.
pub(super) fn collect<'a>(
    subject: &'a Subject,
    now: &View<'_>,
    stored: Option<&Stored>,
    examination: &mut Examination,
) -> Vec<Past<'a>> {
    let baseline = subject.history.baseline.as_ref();
    let since = baseline.map(|b| b.snapshot_time).filter(|since| *since <= subject.snapshot.time);
    let lineage = Lineage::of(subject);
    let mut past = Vec::new();
    let mut others = 0;
    let mut baseline_has_tree = false;
    for earlier in &subject.history.earlier {
        let snapshot = &earlier.snapshot;
        let judged = since.is_some_and(|since| snapshot.time < since);
        let Ok(manifest) = &earlier.manifest else { continue };
        if snapshot.time > subject.snapshot.time || snapshot.id == subject.snapshot.id {
            continue;
        }
        let view = View::of(manifest, &snapshot.paths, subject);
        if !lineage.holds(&snapshot.host, &snapshot.paths, || similar(&now.summary, &view.summary)) {
            others += usize::from(!judged);
            continue;
        }
        baseline_has_tree |= baseline.is_some_and(|b| b.snapshot == snapshot.id);
        past.push(Past {
            label: format!("the snapshot {} of {:.0}", snapshot.id.short(), snapshot.time),
            time: snapshot.time,
            summary: view.summary.clone(),
            paths: folders_among(&snapshot.paths, &view),
            tree: Some(view),
            program: program(snapshot),
            judged,
            fresh: OnceCell::new(),
        });
    }
    if let (Some(baseline), Some(stored)) = (baseline, stored)
        && !baseline_has_tree
        && baseline.snapshot != subject.snapshot.id
        && baseline.snapshot_time <= subject.snapshot.time
    {
        let summary = stored.summary();
        if lineage.holds(&baseline.host, &stored.paths, || similar(&now.summary, &summary)) {
            past.push(Past {
                label: format!(
                    "the baseline of run {}, snapshot of {:.0}",
                    baseline.run, baseline.snapshot_time
                ),
                time: baseline.snapshot_time,
                summary,
                paths: stored.paths.clone(),
                tree: None,
                program: String::new(),
                judged: false,
                fresh: OnceCell::new(),
            });
        } else {
            others += 1;
        }
    }
    if others > 0 {
        examination.notes.push(format!(
            "{others} earlier snapshots are of other hosts or paths under the same tag, and were not compared"
        ));
    }
    past.sort_by_key(|p| std::cmp::Reverse(p.time));
    past
}

/// The first word of the program and version that a snapshot names.
pub(super) fn program(snapshot: &Snapshot) -> String {
    snapshot.program.split_whitespace().next().unwrap_or_default().to_owned()
}

/// The newest state against which `compare` shows a loss. What exactly one state held, and at least two
/// older ones did not, came and went: a temporary file is no loss. Neither is what was gone before, and
/// came back, and was judged to be well.
pub(super) fn lost<'p, 'a, T>(
    past: &'p [Past<'a>],
    compare: impl Fn(&'p Past<'a>) -> Option<T>,
) -> Option<(&'p Past<'a>, T)> {
    let (open, judged) = past.split_at(past.partition_point(|p| !p.judged));
    let mut hits = open.iter().enumerate().filter_map(|(at, p)| compare(p).map(|loss| (at, p, loss)));
    let (at, state, loss) = hits.next()?;
    let came_and_went = hits.next().is_none() && open.len() - at > 2;
    let mut judged = judged.iter().skip_while(|p| compare(p).is_some());
    let was_gone_before = judged.next().is_some() && judged.any(|p| compare(p).is_some());
    (!came_and_went && !was_gone_before).then_some((state, loss))
}

fn folders_among(paths: &[String], view: &View<'_>) -> Vec<String> {
    let is_file = |p: &&String| view.file(&super::view::located(view, p)).is_some();
    paths.iter().filter(|p| !is_more_paths(p) && !is_file(p)).cloned().collect()
}

/// Which snapshots of the series continue one another. Several jobs may share a tag.
struct Lineage<'a> {
    snapshot: &'a Snapshot,
    /// Another host writes this series too, as a habit.
    hosts_share: bool,
    /// Another job with other paths writes this series too, in turn with this one.
    jobs_alternate: bool,
}

impl<'a> Lineage<'a> {
    fn of(subject: &'a Subject) -> Self {
        let snapshot = &subject.snapshot;
        let before: Vec<_> = identity::before(subject).collect();
        let first_own = before.iter().position(|s| overlap(&s.paths, &snapshot.paths));
        let jobs_alternate = first_own
            .is_some_and(|first| before.iter().skip(first).any(|s| !overlap(&s.paths, &snapshot.paths)));
        Self { snapshot, hosts_share: identity::hosts_share(subject), jobs_alternate }
    }

    fn holds(&self, host: &str, paths: &[String], similar: impl FnOnce() -> bool) -> bool {
        // A service that moves between hosts takes its data along; two machines have data of their own.
        let foreign_host = self.hosts_share && host != self.snapshot.host && !similar();
        let foreign_job = self.jobs_alternate && !overlap(paths, &self.snapshot.paths);
        !foreign_host && !foreign_job
    }
}

/// Whether two states have most of their folders in common.
fn similar(one: &Summary, other: &Summary) -> bool {
    let inner = |s: &Summary| s.folders.iter().filter(|(_, f)| f.depth > 0).count();
    let common = one.folders.iter().filter(|(p, f)| f.depth > 0 && other.folders.contains_key(*p)).count();
    common > 0 && common * 2 >= inner(one).min(inner(other))
}

/// Whether two sets of paths have something in common, counting generations of a path as the same.
fn overlap(one: &[String], other: &[String]) -> bool {
    let forms: BTreeSet<_> = one.iter().map(|p| loose(p.trim_end_matches('/'))).collect();
    let related = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    other.iter().any(|path| {
        let form = loose(path.trim_end_matches('/'));
        forms.contains(&form) || forms.iter().any(|f| related(f, &form) || related(&form, f))
    })
}

/// Up to three of `all`, for a sentence.
pub(super) fn examples<'p>(all: impl IntoIterator<Item = &'p [u8]>) -> String {
    let mut all = all.into_iter();
    let shown: Vec<_> = all.by_ref().take(3).map(display_path).collect();
    let more = all.count();
    let list = shown.join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

/// Whether something new has the loose form of what vanished, that is, took its place.
pub(super) fn replaced<'k>(
    vanished: &str,
    now: impl Iterator<Item = &'k String>,
    is_old: impl Fn(&str) -> bool,
) -> bool {
    let form = loose(vanished);
    now.filter(|path| !is_old(path)).any(|path| loose(path) == form)
}

/// `path` as a key of a summary.
pub(super) fn key(path: &[u8]) -> String {
    text(path)
}
