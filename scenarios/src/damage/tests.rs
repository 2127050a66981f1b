//! Every operator takes effect and heals, on a fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use firedrill_core::secret::Secret;

use super::survey::Survey;
use super::{NotApplicable, catalogue, named};
use crate::fleet::{Fleet, Scale, TARGETS, TestRepository};

const PASSWORD: &str = "correct horse";

fn fleet_in(work: &Path) -> TestRepository {
    let password = Secret::new(PASSWORD);
    let start = "2026-03-02T01:00:00Z".parse().unwrap();
    let mut fleet = Fleet::create(&work.join("fleet"), Scale::Small, 3, start, &password).unwrap();
    let repository = TestRepository::init(&work.join("repository"), &password).unwrap();
    fleet.back_up_all(&repository).unwrap();
    fleet.next_day().unwrap();
    fleet.back_up_all(&repository).unwrap();
    repository
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn every_operator_takes_effect_and_heals() {
    let work = tempfile::tempdir().unwrap();
    let repository = fleet_in(work.path());
    repository.plant_twins(&work.path().join("twins"), "2026-03-02T02:00:00Z".parse().unwrap(), 5).unwrap();
    let before = files(repository.path());
    let survey = Survey::of(repository.path(), repository.password()).unwrap();
    let names: BTreeSet<_> = catalogue().iter().map(|operator| operator.name()).collect();
    assert_eq!(names.len(), catalogue().len());

    for (seed, operator) in catalogue().into_iter().enumerate() {
        let name = operator.name();
        let guard = operator.aim(repository.path(), &survey, seed as u64).unwrap();
        let damaged = files(repository.path());
        let touched: BTreeSet<_> = guard.touched().map(Path::to_owned).collect();
        let all: BTreeSet<_> = before.keys().chain(damaged.keys()).cloned().collect();
        for path in all {
            assert_eq!(before.get(&path) != damaged.get(&path), touched.contains(&path), "{name} {path:?}");
        }
        match name {
            "garbage" | "header-bit" => assert!(guard.hits().is_empty(), "{name}"),
            "key-bit" | "keys-deleted" | "config-bit" => {
                assert_eq!(guard.hits().len(), TARGETS.len() + 1, "{name}");
                assert!(TestRepository::open(repository.path(), repository.password()).is_err(), "{name}");
            }
            _ => assert!(!guard.hits().is_empty(), "{name}"),
        }
        guard.heal().unwrap();
        assert_eq!(files(repository.path()), before, "{name} did not heal");
    }
}

#[test]
fn the_same_seed_does_the_same_damage_and_aim_is_kept() {
    let work = tempfile::tempdir().unwrap();
    let repository = fleet_in(work.path());
    let strike = |seed, tag: &str| {
        let guard = named("data-bit").unwrap().apply_to(repository.path(), PASSWORD, seed, tag).unwrap();
        assert_eq!(guard.hits(), &BTreeSet::from([tag.to_owned()]));
        let damaged = files(repository.path());
        guard.heal().unwrap();
        damaged
    };
    let first = strike(1, "emby");
    assert_eq!(first, strike(1, "emby"));
    assert_ne!(first, strike(2, "emby"));
    assert_ne!(first, strike(1, "grafana"));
}

#[test]
fn what_cannot_be_done_is_said() {
    let work = tempfile::tempdir().unwrap();
    let password = Secret::new(PASSWORD);
    let repository = TestRepository::init(&work.path().join("repository"), &password).unwrap();
    repository.plant_twins(&work.path().join("twins"), "2026-03-02T02:00:00Z".parse().unwrap(), 5).unwrap();
    let replaced = named("snapshot-replaced").unwrap().apply(repository.path(), PASSWORD, 1);
    assert!(replaced.unwrap_err().is::<NotApplicable>());
    let wrong = named("data-bit").unwrap().apply(repository.path(), "wrong", 1);
    assert!(!wrong.unwrap_err().is::<NotApplicable>());
    assert!(named("no such damage").is_err());
}

/// What the original restic says of each kind of damage: the survey must have aimed well.
#[test]
fn restic_finds_aimed_damage_where_it_looks() {
    let work = tempfile::tempdir().unwrap();
    let repository = fleet_in(work.path());
    let check = |verb: &str| {
        std::process::Command::new("restic")
            .args(["--no-cache", "--repo"])
            .arg(repository.path())
            .args([verb, "--read-data"].into_iter().take(if verb == "check" { 2 } else { 1 }))
            .env("RESTIC_PASSWORD", PASSWORD)
            .output()
    };
    if let Err(error) = check("version") {
        firedrill_testing::skip(&format!("restic cannot be run: {error}"));
        return;
    }
    for name in ["data-bit", "header-bit", "blobs-swapped"] {
        let guard = named(name).unwrap().apply(repository.path(), PASSWORD, 11).unwrap();
        assert!(!check("check").unwrap().status.success(), "restic misses {name}");
        guard.heal().unwrap();
    }
    assert!(check("check").unwrap().status.success());
}
