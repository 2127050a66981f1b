//! Content that somebody made unreadable: mass renaming, random bytes where plain content was, starts
//! that do not fit the name. Judged by samples of the restored bytes, of bounded number and size.

use std::collections::{BTreeMap, HashMap, HashSet};

use firedrill_core::finding::{Examination, Finding};
use firedrill_core::manifest::Entry;
use firedrill_core::seed;
use firedrill_core::subject::Subject;
use serde::{Deserialize, Serialize};

use super::content::{Look, claims_start, claims_text, is_usual_end, look};
use super::past::{Past, examples};
use super::stored::Stored;
use super::view::{View, text};
use crate::probe::names;
use crate::probe::restored::Restored;

/// Files that are sampled, bytes of each, and bytes of all.
const SAMPLES_MAX: usize = 2000;
const SAMPLE_BYTES: usize = 64 << 10;
const SAMPLES_BYTES_MAX: u64 = 64 << 20;
/// Changed plain files that are sampled on top.
const CHANGED_MAX: usize = 300;
/// Fewer files than this are no mass.
const MASS_MIN: usize = 3;

/// What the samples looked like, for the next drill.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Looks {
    /// Files that were sampled.
    sampled: usize,
    /// The share of them that look random.
    random: f64,
    /// The share of files named as text that look random.
    random_text: f64,
    /// The share of files with a known format by name that do not start like any.
    misfits: f64,
}

pub(super) fn examine(
    subject: &Subject,
    now: &View<'_>,
    past: &[Past<'_>],
    stored: Option<&Stored>,
    examination: &mut Examination,
) -> Result<Looks, String> {
    let mut sampler = Sampler::open(subject)?;
    let chosen = sampler.choose(now);
    let total = now.files().filter(|e| e.size > 0).count();
    let mut samples = Vec::new();
    for entry in chosen {
        if let Some(look) = sampler.look(entry)? {
            samples.push((entry, look));
        }
    }
    if samples.len() < total {
        examination.notes.push(format!("the content of {} of {total} files was sampled", samples.len()));
    }
    let ratio = subject.drill.probes.shape.entropy_jump_max_ratio;
    let before = stored.map(|s| s.looks);
    let looks = judge_samples(&samples, before, past, now, ratio, examination);
    changed(now, past, &samples, ratio, &mut sampler, examination)?;
    renamed(now, past, ratio, &mut sampler, examination)?;
    Ok(looks)
}

/// The files of `all` that are odd, and their share.
fn odd<'e>(
    all: &[(&'e Entry, Look)],
    counted: impl Fn(&str) -> bool,
    is_odd: impl Fn(Look) -> bool,
) -> (Vec<&'e [u8]>, f64) {
    let counted = |e: &&Entry| counted(&names::kind(e.name()).unwrap_or_default());
    let of_kind: Vec<_> = all.iter().filter(|(e, _)| counted(e)).collect();
    let odd: Vec<_> = of_kind.iter().filter(|(_, l)| is_odd(*l)).map(|(e, _)| e.path.as_slice()).collect();
    let share = Past::share(odd.len() as u64, of_kind.len() as u64);
    (odd, share)
}

/// Compares with what the samples of the last drill looked like. What was so before is how this data is:
/// another backup, an encrypted folder, pictures without their usual start.
fn judge_samples(
    samples: &[(&Entry, Look)],
    before: Option<Looks>,
    past: &[Past<'_>],
    view: &View<'_>,
    ratio: f64,
    examination: &mut Examination,
) -> Looks {
    let (random, random_share) = odd(samples, |_| true, is_random);
    let (random_text, text_share) = odd(samples, claims_text, is_random);
    let (misfits, misfit_share) = odd(samples, claims_start, is_misfit);
    let now = Looks {
        sampled: samples.len(),
        random: random_share,
        random_text: text_share,
        misfits: misfit_share,
    };
    let Some(was) = before.filter(|b| b.sampled >= MASS_MIN) else { return now };
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let mut report = |code: &str, paths: &[&[u8]], share: f64, was: f64, what: &str| {
        // The share also jumps when others are gone; somebody who is at work changes content.
        let changed: Vec<_> = paths.iter().filter(|path| !is_unchanged(view, past, path)).collect();
        let jumped = changed.len() >= MASS_MIN && share - was > ratio;
        if jumped {
            examination.find(Finding::anomaly(
                code,
                examples(changed.iter().map(|path| **path)),
                format!("about {} of {what}, as in the last drill", percent(was)),
                format!("{}: {} files of those sampled", percent(share), paths.len()),
            ));
        }
        jumped
    };
    if !report("shape.encrypted", &random_text, text_share, was.random_text, "texts that look random") {
        report("shape.encrypted", &random, random_share, was.random, "files that look random");
    }
    let what = "files that do not start as their names say";
    report("shape.magic", &misfits, misfit_share, was.misfits, what);
    now
}

/// Whether the newest state that has a tree holds the same content under this path.
fn is_unchanged(now: &View<'_>, past: &[Past<'_>], path: &[u8]) -> bool {
    let Some(tree) = past.iter().find_map(|p| p.tree.as_ref()) else { return false };
    let (Some(new), Some(old)) = (now.file(path), tree.file(path)) else { return false };
    now.manifest.same_content(new, tree.manifest, old)
}

/// Of the files whose content changed since an earlier snapshot, many look random now, and those that
/// did not change do not: somebody is at work, however small the share of everything still is.
fn changed(
    now: &View<'_>,
    past: &[Past<'_>],
    samples: &[(&Entry, Look)],
    ratio: f64,
    sampler: &mut Sampler<'_>,
    examination: &mut Examination,
) -> Result<(), String> {
    let Some((state, tree)) = past.iter().rev().find_map(|p| Some((p, p.tree.as_ref()?))) else {
        return Ok(());
    };
    let has_changed =
        |e: &Entry| tree.file(&e.path).map(|old| !now.manifest.same_content(e, tree.manifest, old));
    let checkable =
        |e: &Entry| names::kind(e.name()).is_some_and(|kind| claims_text(&kind) || claims_start(&kind));
    let mut changed = Vec::new();
    let files = now.files().filter(|e| e.size > 0 && checkable(e) && has_changed(e) == Some(true));
    for entry in files.take(CHANGED_MAX) {
        if let Some(look) = sampler.look(entry)? {
            changed.push((entry, look));
        }
    }
    let unchanged: Vec<_> = samples.iter().filter(|(e, _)| has_changed(e) == Some(false)).copied().collect();
    let mut report = |code: &str, claims: fn(&str) -> bool, is_odd: fn(Look) -> bool, expected: &str| {
        let (paths, share) = odd(&changed, claims, is_odd);
        let (_, usual) = odd(&unchanged, claims, is_odd);
        let known = examination.findings.iter().any(|f| f.code == code);
        if paths.len() >= MASS_MIN && share - usual > ratio && !known {
            examination.find(Finding::anomaly(
                code,
                examples(paths.iter().copied()),
                format!("{expected} in files that changed since {}", state.label),
                format!("{:.0} % of them are not: {} files", share * 100.0, paths.len()),
            ));
        }
    };
    report("shape.encrypted", claims_text, is_random, "text");
    report("shape.magic", claims_start, is_misfit, "content that starts as the name says");
    Ok(())
}

fn is_random(look: Look) -> bool {
    look == Look::Random
}

fn is_misfit(look: Look) -> bool {
    matches!(look, Look::Random | Look::Other)
}

/// Many files got one and the same unknown ending.
fn renamed(
    now: &View<'_>,
    past: &[Past<'_>],
    ratio: f64,
    sampler: &mut Sampler<'_>,
    examination: &mut Examination,
) -> Result<(), String> {
    for state in past {
        let Some(tree) = &state.tree else { continue };
        let had = tree.files().count();
        for (ending, files) in new_endings(now, tree) {
            let share = Past::share(files.len() as u64, had as u64);
            if files.len() < MASS_MIN || share <= ratio {
                continue;
            }
            // A name that was only extended says enough; with a replaced extension, the content decides.
            let extended = files.iter().filter(|(_, extended)| *extended).count() * 2 >= files.len();
            let mut random = 0;
            let sampled = files.len().min(50);
            for (entry, _) in files.iter().take(sampled) {
                random += usize::from(sampler.look(entry)? == Some(Look::Random));
            }
            if !extended && random * 2 < sampled {
                continue;
            }
            examination.find(Finding::anomaly(
                "shape.renamed",
                examples(files.iter().map(|(e, _)| e.path.as_slice())),
                format!("{had} files under their names, as in {}", state.label),
                format!("{} of them end in .{ending} now, {random} of {sampled} look random", files.len()),
            ));
            return Ok(());
        }
    }
    Ok(())
}

/// New files by unknown ending that took the place of one that is gone: `a.txt.x` or `a.x` for `a.txt`.
/// With each, whether its name was only extended.
fn new_endings<'a>(now: &View<'a>, tree: &View<'_>) -> BTreeMap<String, Vec<(&'a Entry, bool)>> {
    let gone = |path: &[u8]| tree.file(path).is_some() && !now.index.contains_key(path);
    let stems: HashSet<&[u8]> = tree
        .files()
        .filter(|old| !now.index.contains_key(old.path.as_slice()))
        .map(|old| names::stem(&old.path))
        .collect();
    let mut endings: BTreeMap<String, Vec<(&Entry, bool)>> = BTreeMap::new();
    for entry in now.files().filter(|e| !tree.index.contains_key(e.path.as_slice())) {
        let before = names::stem(&entry.path);
        if before == entry.path {
            continue;
        }
        let ending = text(entry.path.get(before.len() + 1..).unwrap_or_default()).to_lowercase();
        let extended = gone(before);
        if !is_usual_end(&ending)
            && !ending.bytes().all(|b| b.is_ascii_digit())
            && (extended || stems.contains(before))
        {
            endings.entry(ending).or_default().push((entry, extended));
        }
    }
    endings
}

/// Reads the start of files, each once, up to a total.
struct Sampler<'s> {
    subject: &'s Subject,
    restored: Restored,
    seen: HashMap<Vec<u8>, Option<Look>>,
    bytes: u64,
}

impl<'s> Sampler<'s> {
    fn open(subject: &'s Subject) -> Result<Self, String> {
        let restored = Restored::open(&subject.root).map_err(|e| format!("the restored data: {e}"))?;
        Ok(Self { subject, restored, seen: HashMap::new(), bytes: 0 })
    }

    /// A choice of files that is always the same for the seed of the drill.
    fn choose<'a>(&self, now: &View<'a>) -> Vec<&'a Entry> {
        let mut files: Vec<_> = now.files().filter(|e| e.size > 0).collect();
        if files.len() > SAMPLES_MAX {
            files.sort_by_cached_key(|e| seed::child(self.subject.drill.seed, &text(&e.path)));
            files.truncate(SAMPLES_MAX);
        }
        files
    }

    /// What the file looks like; `None` when it is not there or the total is used up.
    fn look(&mut self, entry: &Entry) -> Result<Option<Look>, String> {
        if let Some(seen) = self.seen.get(&entry.path) {
            return Ok(*seen);
        }
        self.subject.watch.check().map_err(|e| e.chain())?;
        if self.bytes >= SAMPLES_BYTES_MAX {
            return Ok(None);
        }
        let head = self
            .restored
            .head(&entry.path, SAMPLE_BYTES)
            .map_err(|e| format!("the restored file {}: {e}", entry.display()))?;
        self.bytes += head.as_ref().map_or(0, |h| h.len() as u64);
        let seen = head.map(|head| look(&head));
        self.seen.insert(entry.path.clone(), seen);
        Ok(seen)
    }
}
