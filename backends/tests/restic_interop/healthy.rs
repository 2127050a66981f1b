//! What looks odd and is fine: a restore test must neither fail nor need help.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::awkward::{self, Bytes};
use crate::support::compare::{Allow, assert_same_tree};
use crate::support::firedrill::restore_with_firedrill;
use crate::support::restic::{Access, Repository, Restic};
use crate::support::tools::Workplace;

/// A repository on disk with one small snapshot.
fn small(place: &Workplace) -> Option<(Repository, String)> {
    let restic = Restic::need("0.19")?;
    let source = place.folder("source");
    std::fs::write(source.join("file"), Bytes(7).take(300_000)).expect("write");
    let access = Access::to(place.path("repository").display().to_string());
    let repository = Repository::init(&restic, access, "2");
    let id = repository.backup(&source, &["files"], &[]);
    Some((repository, id))
}

fn assert_restores(place: &Workplace, repository: &Repository, id: &str, source: &Path, name: &str) {
    let into = place.folder(name);
    restore_with_firedrill(&repository.access, id, &into).expect_clean();
    let below = source.strip_prefix("/").expect("an absolute path");
    assert_same_tree(source, &into.join(below), Allow::WhatScratchWithholds);
}

/// A backup that has stored `bytes` of its input and waits for more, holding its lock.
fn running_backup(repository: &Repository, bytes: usize) -> Child {
    let locks = Path::new(&repository.access.url).join("locks");
    let mut command = repository.command(["backup", "--quiet", "--stdin", "--pack-size", "4"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("restic starts");
    let stdin = child.stdin.as_mut().expect("a pipe");
    stdin.write_all(&Bytes(11).take(bytes)).expect("restic reads its input");
    let started = Instant::now();
    while std::fs::read_dir(&locks).expect("locks").count() == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "restic took no lock");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn another_backup_is_running() {
    let place = Workplace::new();
    let Some((repository, id)) = small(&place) else { return };
    let mut child = running_backup(&repository, 1_000_000);
    assert_restores(&place, &repository, &id, &place.path("source"), "meanwhile");
    drop(child.stdin.take());
    assert!(child.wait().expect("wait").success(), "the backup was disturbed");
}

#[test]
fn a_killed_backup_left_its_lock_and_packs_without_an_index() {
    let place = Workplace::new();
    let Some((repository, id)) = small(&place) else { return };
    let data = Path::new(&repository.access.url).join("data");
    let packs = || count_files(&data);
    let before = packs();
    let mut child = running_backup(&repository, 24_000_000);
    let started = Instant::now();
    while packs() == before {
        assert!(started.elapsed() < Duration::from_secs(60), "restic stored no pack");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The child is `timeout`, which could not hand such a signal on; restic is the child's child.
    let kill = std::process::Command::new("pkill").args(["-KILL", "-P", &child.id().to_string()]).status();
    assert!(kill.is_ok_and(|status| status.success()), "restic could not be killed");
    let _ = child.wait();
    assert!(count_files(&Path::new(&repository.access.url).join("locks")) > 0, "the lock is gone");
    assert_restores(&place, &repository, &id, &place.path("source"), "afterwards");
}

/// Files below `folder`.
fn count_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| if path.is_dir() { count_files(&path) } else { 1 })
        .sum()
}

#[test]
fn retention_has_been_at_work() {
    let place = Workplace::new();
    let Some((repository, _)) = small(&place) else { return };
    let source = place.path("source");
    for day in 0..4_u64 {
        std::fs::write(source.join(format!("day {day}")), Bytes(day).take(200_000)).expect("write");
        if day > 0 {
            std::fs::remove_file(source.join(format!("day {}", day - 1))).expect("remove");
        }
        repository.backup(&source, &["files"], &[]);
    }
    repository.run(["forget", "--keep-last", "2", "--prune", "--max-unused", "0", "--repack-small"]);
    let kept = repository.snapshots();
    assert_eq!(kept.len(), 2);
    let newest = kept.last().expect("two are left");
    assert_restores(&place, &repository, &newest.id, &source, "newest");
    // The older one is not what the source is now; restic says what it is.
    let (by_restic, by_firedrill) = (place.folder("by-restic"), place.folder("by-firedrill"));
    repository.restore(&kept[0].id, &by_restic);
    restore_with_firedrill(&repository.access, &kept[0].id, &by_firedrill).expect_clean();
    assert_same_tree(&by_restic, &by_firedrill, Allow::Nothing);
}

/// 32 MiB of which 0.1 MiB are data must not need 32 MiB of scratch.
#[test]
fn holes_stay_holes() {
    let place = Workplace::new();
    let Some((repository, _)) = small(&place) else { return };
    let source = place.folder("sparse");
    awkward::sparse(&source.join("image"));
    let id = repository.backup(&source, &["image"], &[]);
    assert_restores(&place, &repository, &id, &source, "restored");
    let restored = place.path("restored").join(source.strip_prefix("/").expect("absolute")).join("image");
    let allocated = std::fs::metadata(restored).expect("it is there").blocks() * 512;
    assert!(allocated < 4 << 20, "{allocated} bytes are allocated");
}

/// In scratch, everything lies deeper than it did in the source: a path that was just short enough there
/// is too long for any system call here.
#[test]
fn paths_that_become_too_long_in_scratch() {
    let place = Workplace::new();
    let Some((repository, _)) = small(&place) else { return };
    let source = place.folder("d");
    let room = 4000 - source.as_os_str().len();
    awkward::deep(&source, room / 201);
    let id = repository.backup(&source, &["deep"], &[]);
    assert_restores(&place, &repository, &id, &source, &format!("{0}/{0}/{0}", "scratch".repeat(30)));
}
