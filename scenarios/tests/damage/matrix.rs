//! Every damage of the catalogue, on copies of a repository by rustic_core and of one by restic: the right
//! drills fail, for the right reason, and everything else comes back.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use firedrill_core::finding::{Class, Finding};
use firedrill_core::verdict::Verdict;
use firedrill_scenarios::damage;

use crate::anatomy::{Anatomy, Expected};
use crate::fixture::{DAYS, Fixture, PASSWORD, TAGS};
use crate::place::{self, Answer, Place};
use crate::restic::Restic;

/// What the damage means for the drills of the latest snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drills {
    /// What is lost is found in the snapshots that need it.
    Suffer,
    /// Nothing that the latest snapshots need is lost.
    Verified,
    /// The newest snapshot of the tag is gone: the one before it is verified.
    Older,
    /// Nobody can tell what the repository holds.
    None,
}

/// Which restores restic does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Nothing,
    /// Those of the tags that are hit.
    Hit,
    Everything,
}

/// One damage, and what has to come of it.
#[derive(Clone, Copy, Debug)]
struct Row {
    damage: &'static str,
    /// The code of the findings about the copy as a whole; none when it is empty.
    copy: &'static str,
    drills: Drills,
    restic: Refused,
}

const fn row(damage: &'static str, copy: &'static str, drills: Drills, restic: Refused) -> Row {
    Row { damage, copy, drills, restic }
}

const ROWS: [Row; 23] = [
    row("data-bit", "", Drills::Suffer, Refused::Hit),
    row("tree-bit", "", Drills::Suffer, Refused::Hit),
    row("header-bit", "repository.pack", Drills::Verified, Refused::Nothing),
    row("pack-truncated", "repository.pack_size", Drills::Suffer, Refused::Hit),
    row("pack-deleted", "repository.pack_missing", Drills::Suffer, Refused::Hit),
    row("tree-pack-deleted", "repository.pack_missing", Drills::Suffer, Refused::Hit),
    row("pack-zeroed", "", Drills::Suffer, Refused::Hit),
    row("pack-overwritten", "", Drills::Suffer, Refused::Hit),
    row("sector-zeroed", "", Drills::Suffer, Refused::Hit),
    row("packs-swapped", "", Drills::Suffer, Refused::Hit),
    row("blobs-swapped", "", Drills::Suffer, Refused::Hit),
    row("snapshot-replaced", "repository.snapshot", Drills::Older, Refused::Everything),
    row("snapshot-outdated", "repository.snapshot", Drills::Older, Refused::Everything),
    row("snapshot-deleted", "", Drills::Older, Refused::Nothing),
    row("snapshot-bit", "repository.snapshot", Drills::Older, Refused::Everything),
    row("snapshot-empty", "repository.snapshot", Drills::Older, Refused::Everything),
    row("index-replaced", "repository.index", Drills::Suffer, Refused::Everything),
    row("index-deleted", "", Drills::Suffer, Refused::Hit),
    row("index-bit", "repository.index", Drills::Suffer, Refused::Everything),
    row("key-bit", "repository.key", Drills::None, Refused::Everything),
    row("keys-deleted", "repository.key", Drills::None, Refused::Everything),
    row("config-bit", "repository.config", Drills::None, Refused::Everything),
    row("garbage", "", Drills::Verified, Refused::Nothing),
];

#[test]
fn no_damage_is_left_out() {
    let catalogue: BTreeSet<_> = damage::catalogue().iter().map(|operator| operator.name()).collect();
    let rows: BTreeSet<_> = ROWS.iter().map(|row| row.damage).collect();
    assert_eq!(rows, catalogue);
    assert_eq!(rows.len(), ROWS.len());
}

#[test]
fn in_a_repository_by_rustic() {
    let fixture = Fixture::shared().unwrap();
    matrix(&fixture.rustic());
}

#[test]
fn in_a_repository_by_restic() {
    let fixture = Fixture::shared().unwrap();
    match fixture.restic() {
        Some(repository) => matrix(&repository),
        None => crate::restic::skip("restic is not installed: no repository by restic"),
    }
}

fn matrix(repository: &Path) {
    let anatomy = Anatomy::of(repository).unwrap();
    if Restic::recent().is_none() {
        crate::restic::skip("no restic from 0.17 on: damage is not held against what restic says of it");
    }
    let cases: Vec<_> = ROWS.iter().flat_map(|row| [(*row, false), (*row, true)]).collect();
    place::all(&cases, |(row, memory)| try_row(row, memory, repository, &anatomy));
}

/// With `memory` everything was verified once before the damage is done.
fn try_row(row: Row, memory: bool, repository: &Path, anatomy: &Anatomy) -> Result<()> {
    let place = Place::with(repository)?;
    if memory {
        place.drill()?.ends()?.expect(0)?;
    }
    let operator = damage::named(row.damage)?;
    // The other tags have no pack whose layout another one has.
    let tag = if row.damage == "packs-swapped" { "twins" } else { "alpha" };
    let guard = operator.apply_to(
        &place.repository(),
        PASSWORD,
        std::env::var("SEED").unwrap_or("11".into()).parse()?,
        tag,
    )?;
    let hits = guard.hits();
    let touched: Vec<String> =
        guard.touched().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();

    let answer = place.drill()?.ends()?;
    let age_of = |tag: &str| usize::from(row.drills == Drills::Older && hits.contains(tag));
    let copy = answer.copy()?;
    let (earlier, findings): (Vec<_>, Vec<_>) =
        copy.findings.iter().partition(|finding| finding.location.contains(" of snapshot "));
    about_the_copy(row, &findings, &touched).with_context(|| answer.told())?;
    let bad = !copy.findings.is_empty();
    let verdict = if bad { Verdict::Failed } else { Verdict::Verified };
    ensure!(copy.verdict == verdict && copy.errors.is_empty(), "the copy is {}", answer.told());
    let mut expected = Expected::new();
    for tag in TAGS.into_iter().filter(|_| row.drills != Drills::None) {
        expected.extend(damage_of_earlier(anatomy, &place.repository(), tag, age_of(tag))?);
    }
    let seen: Expected = earlier.iter().map(|f| (f.code.clone(), f.location.clone())).collect();
    ensure!(seen == expected, "of earlier snapshots expected {expected:?}: {}", answer.told());
    match row.drills {
        Drills::None => ensure!(answer.judgement()?.drills.is_empty(), "something was drilled"),
        _ => ensure!(answer.judgement()?.drills.len() == TAGS.len(), "not every tag was drilled"),
    }
    let mut failed = BTreeSet::new();
    for tag in TAGS.into_iter().filter(|_| row.drills != Drills::None) {
        let age = age_of(tag);
        let drill = answer.drill(tag)?;
        let seen = drill.snapshot.as_ref().map(|id| id.0.as_str());
        ensure!(seen == Some(anatomy.snapshot(tag, age)?), "{tag}: another snapshot: {}", answer.told());
        if row.drills == Drills::Suffer && hits.contains(tag) {
            suffers(&answer, &place, anatomy, tag).with_context(|| answer.told())?;
            failed.insert(tag.to_owned());
        } else if memory && age > 0 {
            misses_its_newest(&answer, anatomy, tag).with_context(|| answer.told())?;
            failed.insert(tag.to_owned());
        } else {
            answer.verified(tag)?;
        }
    }
    let nothing_wrong = !bad && failed.is_empty();
    let answer = answer.expect(i32::from(!nothing_wrong))?;
    ensure!(
        row.drills == Drills::None || answer.judgement()?.reasons.is_empty(),
        "the run itself: {}",
        answer.told()
    );
    if memory { Ok(()) } else { beside_restic(row, &place, &answer, hits, &failed) }
}

/// What an earlier snapshot lost is damage of the copy, as far as it is read for comparison: its folders.
fn damage_of_earlier(anatomy: &Anatomy, root: &Path, tag: &str, age: usize) -> Result<Expected> {
    let mut expected = Expected::new();
    for age in age + 1..usize::try_from(DAYS)? {
        let id = anatomy.snapshot(tag, age)?.get(..8).context("an id is long")?.to_owned();
        let (all, _) = anatomy.expected(root, tag, age)?;
        let trees = all.into_iter().filter(|(code, _)| code == "restore.tree");
        expected.extend(trees.map(|(code, folder)| (code, format!("{folder} of snapshot {id}"))));
    }
    Ok(expected)
}

/// Exactly the damaged files are named, and nothing else is said about the copy.
fn about_the_copy(row: Row, findings: &[&Finding], touched: &[String]) -> Result<()> {
    // The blob that was exchanged may be one that only older snapshots need, in a pack that is read whole.
    let by_the_way = row.damage == "blobs-swapped" && !findings.is_empty();
    let code = if by_the_way { "repository.pack" } else { row.copy };
    ensure!(code.is_empty() == findings.is_empty(), "the copy: expected {code:?}");
    for finding in findings {
        ensure!(finding.code == code && finding.class == Class::Damage, "{} is wrong", finding.code);
        let named = finding.location.rsplit('/').next().unwrap_or_default();
        let gone = row.damage == "keys-deleted" && finding.location == "keys/";
        ensure!(gone || touched.iter().any(|file| file == named), "{} is intact", finding.location);
    }
    Ok(())
}

/// Exactly what is lost is found, and everything else came back.
fn suffers(answer: &Answer, place: &Place, anatomy: &Anatomy, tag: &str) -> Result<()> {
    let (expected, whole) = anatomy.expected(&place.repository(), tag, 0)?;
    ensure!(!expected.is_empty(), "the damage of this test does no harm");
    let drill = answer.drill(tag)?;
    ensure!(drill.verdict == Verdict::Failed && drill.errors.is_empty(), "{tag} has not failed by findings");
    let (restore, others): (Vec<_>, Vec<_>) =
        drill.findings.iter().partition(|finding| finding.code.starts_with("restore."));
    let seen: BTreeSet<_> = restore.iter().map(|f| (f.code.clone(), f.location.clone())).collect();
    ensure!(seen == expected && seen.len() == restore.len(), "{tag}: expected {expected:?}");
    for finding in others {
        // The tree probe reads what came back, and sees the same.
        let lost = ("restore.content".to_owned(), finding.location.clone());
        let same = matches!(finding.code.as_str(), "tree.content" | "tree.size") && expected.contains(&lost);
        ensure!(same, "{tag}: {} at {} says nothing new, or nothing right", finding.code, finding.location);
    }
    ensure!(restore.iter().all(|finding| finding.class == Class::Damage), "this is damage");
    ensure!(drill.files == whole, "{tag}: {} files came back, {whole} are intact", drill.files);
    Ok(())
}

/// The data of the older snapshot is all right; that the newer one is gone is all there is to say.
fn misses_its_newest(answer: &Answer, anatomy: &Anatomy, tag: &str) -> Result<()> {
    let drill = answer.drill(tag)?;
    let [gone] = drill.findings.as_slice() else { bail!("{tag}: one finding is expected") };
    ensure!(gone.code == "shape.snapshot_gone" && gone.class == Class::Anomaly, "{tag}: {}", gone.code);
    ensure!(gone.location == anatomy.snapshot(tag, 0)?, "{tag}: another snapshot is missed");
    ensure!(drill.verdict == Verdict::Failed && drill.errors.is_empty(), "{tag} has not failed by it");
    Ok(())
}

/// What restic cannot restore, firedrill does not call restorable; and where firedrill sees a drill fail,
/// restic fails, too.
fn beside_restic(
    row: Row,
    place: &Place,
    answer: &Answer,
    hits: &BTreeSet<String>,
    failed: &BTreeSet<String>,
) -> Result<()> {
    let Some(restic) = Restic::recent() else { return Ok(()) };
    for tag in TAGS {
        let restores = restic.restores(&place.repository(), tag, &place.path("by-restic"))?;
        let refused = match row.restic {
            Refused::Nothing => false,
            Refused::Hit => hits.contains(tag),
            Refused::Everything => true,
        };
        ensure!(restores != refused, "restic restores {tag}: {restores}");
        ensure!(restores || answer.code == 1, "restic sees more in {tag}: {}", answer.told());
        ensure!(!restores || !failed.contains(tag), "restic restores {tag}: {}", answer.told());
    }
    Ok(())
}
