//! What goes, what stays, and what a kill leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use firedrill_backends::repository::restic::write::{
    BackupRequest, ForgetRequest, PruneRequest, WriterOptions,
};
use firedrill_core::retention::Policy;
use firedrill_core::snapshot::SnapshotId;

use crate::support::awkward::Bytes;
use crate::support::compare::{Allow, assert_same_tree};
use crate::support::firedrill::restore_with_firedrill;
use crate::support::rest_server::{RestServer, Setup};
use crate::support::restic::{Access, Repository, Restic};
use crate::support::tools::{Workplace, run};
use crate::writing::{back_up, check, id, impatient, init, json, open, open_with, repository, watch};

/// Small packs, so that there are many.
fn in_small_packs() -> WriterOptions {
    WriterOptions { pack_size: 1 << 20, ..impatient() }
}

/// A history in which each day keeps some files and replaces others; returns the snapshots.
fn history(place: &Workplace, repository: &Repository, days: u64) -> Vec<String> {
    let source = place.folder("source");
    let writer = open_with(&repository.access, in_small_packs());
    fs::write(source.join("always"), Bytes(1).take(1_500_000)).expect("write");
    let backup = |day: u64| {
        for number in 0..4 {
            let path = source.join(format!("day {day} file {number}"));
            fs::write(path, Bytes(100 * day + number).take(400_000)).expect("write");
        }
        if day > 0 {
            for number in 0..3 {
                fs::remove_file(source.join(format!("day {} file {number}", day - 1))).expect("remove");
            }
        }
        // Half of the history is restic's.
        if day.is_multiple_of(2) {
            id(&back_up(&writer, &source, &BackupRequest::default()))
        } else {
            repository.backup(&source, &[], &["--pack-size", "4"])
        }
    };
    (0..days).map(backup).collect()
}

fn bytes_in(folder: &Path) -> u64 {
    let output = run(Command::new("du").args(["-sb", "--apparent-size"]).arg(folder));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
}

fn data(repository: &Repository) -> PathBuf {
    Path::new(&repository.access.url).join("data")
}

fn assert_restores(place: &Workplace, repository: &Repository, before: &BTreeMap<String, PathBuf>) {
    for (id, expected) in before {
        let into = place.folder(&format!("again-{}", &id[..8]));
        restore_with_firedrill(&repository.access, id, &into).expect_clean();
        assert_same_tree(expected, &into, Allow::WhatScratchWithholds);
        fs::remove_dir_all(into).expect("remove");
    }
}

/// What restic restores of each snapshot.
fn restored(place: &Workplace, repository: &Repository, ids: &[String]) -> BTreeMap<String, PathBuf> {
    let restore = |id: &String| {
        let into = place.folder(&format!("before-{}", &id[..8]));
        repository.restore(id, &into);
        (id.clone(), into)
    };
    ids.iter().map(restore).collect()
}

fn keep(last: u32) -> ForgetRequest {
    ForgetRequest { policy: Policy { last: Some(last), ..Policy::default() }, ..ForgetRequest::default() }
}

#[test]
fn what_nobody_needs_goes() {
    for generation in ["0.18", "0.19"] {
        let place = Workplace::new();
        let Some(repository) = repository(&place, generation, "2") else { continue };
        let ids = history(&place, &repository, 6);
        let before = restored(&place, &repository, &ids[4..]);
        let size = bytes_in(&data(&repository));
        let writer = open_with(&repository.access, in_small_packs());
        let request = PruneRequest { max_unused: 0.0, ..PruneRequest::default() };
        let done =
            writer.forget(&keep(2), Some(&request), &watch()).unwrap_or_else(|e| panic!("{}", e.chain()));
        let pruned = done.pruned.expect("it was pruned");
        assert_eq!(done.removed.len(), 4);
        assert!(pruned.packs_removed + pruned.packs_repacked > 0 && pruned.packs_repacked > 0, "{pruned:?}");
        assert!(
            pruned.bytes_after < pruned.bytes_before && bytes_in(&data(&repository)) < size,
            "{pruned:?}"
        );
        check(&repository);
        assert_restores(&place, &repository, &before);
        // restic finds nothing left to do.
        let output = repository.run(["prune", "--dry-run", "--max-unused", "0"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let nothing = ["total prune:", "0", "blobs", "/", "0", "B"].join(" ");
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&nothing), "{said}");
        // And a second time, nor do we.
        let again = writer.prune(&request, &watch()).expect("it is done");
        assert_eq!(
            (again.packs_repacked, again.packs_removed, again.packs_unindexed),
            (0, 0, 0),
            "{again:?}"
        );
        // Both go on from there.
        let source = place.path("source");
        let next = back_up(&writer, &source, &BackupRequest::default());
        assert_eq!(next.data_blobs, 0);
        repository.backup(&source, &[], &[]);
        check(&repository);
    }
}

#[test]
fn a_little_waste_is_left_alone() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    history(&place, &repository, 4);
    let writer = open(&repository.access);
    let lax = PruneRequest { max_unused: 1000.0, ..PruneRequest::default() };
    let done = writer.forget(&keep(1), Some(&lax), &watch()).expect("it is done").pruned.expect("pruned");
    assert_eq!(done.packs_repacked, 0, "{done:?}");
    let bounded = PruneRequest { max_unused: 0.0, max_repack: Some(0), ..PruneRequest::default() };
    assert_eq!(writer.prune(&bounded, &watch()).expect("it is done").packs_repacked, 0);
    check(&repository);
}

#[test]
fn through_a_rest_server() {
    let Some(restic) = Restic::need("0.19") else { return };
    let place = Workplace::new();
    let Some(server) = RestServer::start(&place, Setup::default()) else { return };
    let access = Access::to(server.url("fleet"));
    init(&access);
    let repository = Repository { restic, access };
    let ids = history(&place, &repository, 4);
    let before = restored(&place, &repository, &ids[3..]);
    let writer = open_with(&repository.access, in_small_packs());
    let request = PruneRequest { max_unused: 0.0, ..PruneRequest::default() };
    writer.forget(&keep(1), Some(&request), &watch()).unwrap_or_else(|e| panic!("{}", e.chain()));
    check(&repository);
    assert_restores(&place, &repository, &before);
}

/// rustic marks packs for deletion in a part of the index that restic does not know.
#[test]
fn what_rustic_marked_for_deletion() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let ids = history(&place, &repository, 4);
    let before = restored(&place, &repository, &ids[3..]);
    let gone: Vec<_> = ids[..3].iter().map(|id| SnapshotId(id.clone())).collect();
    open(&repository.access).remove_snapshots(&gone, &watch()).expect("they are removed");
    let (location, way, _) = crate::writing::way(&repository.access);
    let backends =
        rustic_core::RepositoryBackends::new(location.open_writable(&way).expect("it opens"), None);
    let rustic = rustic_core::Repository::new(&rustic_core::RepositoryOptions::default(), &backends)
        .and_then(|new| new.open(&rustic_core::Credentials::password(&repository.access.password)))
        .expect("rustic opens it");
    let mut options = rustic_core::PruneOptions::default();
    options.max_unused = rustic_core::LimitOption::Percentage(0);
    options.max_repack = rustic_core::LimitOption::Unlimited;
    let plan = rustic.prune_plan(&options).expect("rustic has a plan");
    rustic.prune(&options, plan).expect("rustic prunes");
    let marked = || {
        let index = run(&mut repository.command(["list", "index"])).stdout;
        let index = String::from_utf8_lossy(&index).into_owned();
        let says = |id: &str| json(&repository, &["cat", "index", id])["packs_to_delete"].is_array();
        index.split_whitespace().any(says)
    };
    assert!(marked(), "rustic marked nothing, so nothing is shown here");
    // restic accepts it; the marked packs are packs without an index to it.
    repository.run(["check", "--read-data"]);
    assert_restores(&place, &repository, &before);

    // What is backed up now must not rely on packs that are about to go.
    let source = place.path("source");
    fs::write(source.join("day 0 file 0"), Bytes(0).take(400_000)).expect("write");
    let writer = open_with(&repository.access, in_small_packs());
    let made = back_up(&writer, &source, &BackupRequest::default());
    assert!(made.data_blobs > 0, "{made:#?}");
    let done = writer.prune(&PruneRequest { max_unused: 0.0, ..PruneRequest::default() }, &watch());
    assert!(done.is_ok_and(|done| done.packs_removed > 0));
    assert!(!marked());
    check(&repository);
    assert_restores(&place, &repository, &before);
}

/// A server that lets nobody delete: retention says so and the repository stays whole.
#[test]
fn append_only_servers_refuse() {
    let Some(restic) = Restic::need("0.19") else { return };
    let place = Workplace::new();
    let setup = Setup { append_only: true, ..Setup::default() };
    let Some(server) = RestServer::start(&place, setup) else { return };
    let access = Access::to(server.url("fleet"));
    init(&access);
    let repository = Repository { restic, access };
    history(&place, &repository, 2);
    let writer = open(&repository.access);
    assert!(writer.forget(&keep(1), Some(&PruneRequest::default()), &watch()).is_err());
    assert_eq!(repository.snapshots().len(), 2);
    check(&repository);
}

#[test]
fn damage_ends_it_before_anything_is_removed() {
    let place = Workplace::new();
    let Some(repository) = repository(&place, "0.19", "2") else { return };
    let ids = history(&place, &repository, 3);
    let root = PathBuf::from(&repository.access.url);
    let index = fs::read_dir(root.join("index")).expect("index").next().expect("one").expect("one").path();
    let content = fs::read(&index).expect("read");
    fs::remove_file(&index).expect("remove");
    fs::write(&index, &content[..content.len() - 1]).expect("write");
    let count = || run(Command::new("find").arg(&root).args(["-type", "f"])).stdout.len();
    let before = count();
    let writer = open(&repository.access);
    let error = writer.prune(&PruneRequest::default(), &watch()).expect_err("an index file is damaged");
    assert!(error.chain().contains("nothing was removed"), "{}", error.chain());
    assert_eq!(count(), before);
    fs::remove_file(&index).expect("remove");
    fs::write(&index, content).expect("write");
    // A pack with trees is gone.
    let trees = run(&mut repository.command(["list", "packs"])).stdout;
    let mut refused = 0;
    for pack in String::from_utf8_lossy(&trees).split_whitespace() {
        let path = root.join("data").join(&pack[..2]).join(pack);
        let away = place.path("away");
        fs::rename(&path, &away).expect("rename");
        refused += usize::from(writer.prune(&PruneRequest::default(), &watch()).is_err());
        fs::rename(&away, &path).expect("rename");
    }
    assert!(refused > 2, "{refused} were refused");
    assert_eq!(count(), before);
    writer.remove_snapshots(&[SnapshotId(ids[0].clone())], &watch()).expect("it is removed");
    check(&repository);
}
