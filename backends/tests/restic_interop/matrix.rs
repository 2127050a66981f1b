//! Every generation of restic, both repository versions, every compression: what firedrill restores is
//! what restic restores, and the repository is not touched.

use std::path::Path;

use crate::support::compare::{Allow, assert_same_tree, listing};
use crate::support::firedrill::restore_with_firedrill;
use crate::support::restic::{Access, Repository, Restic};
use crate::support::tools::Workplace;
use crate::support::{awkward, compare};

/// Four snapshots (two tags at once, one tag, none, and a later state), each restored by both.
fn restores_what_restic_restores(generation: &str, format: &str, compression: Option<&str>) {
    let Some(restic) = Restic::need(generation) else { return };
    let place = Workplace::new();
    let source = place.folder("source");
    awkward::build(&source);
    let access = Access::to(place.path("repository").display().to_string());
    let repository = Repository::init(&restic, access, format);
    let more: Vec<&str> = compression.into_iter().flat_map(|mode| ["--compression", mode]).collect();

    let first = repository.backup(&source, &["files", "nightly"], &more);
    assert_same(&place, &repository, &first, &source, generation);
    awkward::age(&source);
    let second = repository.backup(&source, &["files"], &more);
    assert_same(&place, &repository, &second, &source, generation);
    let untagged = repository.backup(&source.join("names"), &[], &more);
    assert_same(&place, &repository, &untagged, &source.join("names"), generation);
    let tags: Vec<_> = repository.snapshots().into_iter().map(|snapshot| snapshot.tags).collect();
    assert_eq!(tags, [vec!["files".to_owned(), "nightly".to_owned()], vec!["files".to_owned()], vec![]]);
}

fn assert_same(place: &Workplace, repository: &Repository, id: &str, source: &Path, generation: &str) {
    let (by_restic, by_firedrill) = (place.folder("by-restic"), place.folder("by-firedrill"));
    repository.restore(id, &by_restic);
    let before = listing(Path::new(&repository.access.url));
    restore_with_firedrill(&repository.access, id, &by_firedrill).expect_clean();
    assert_eq!(before, listing(Path::new(&repository.access.url)), "the restore touched the repository");
    assert_same_tree(&by_restic, &by_firedrill, Allow::WhatScratchWithholds);
    // The newest restic also stores all of it as it was.
    if generation == "0.19" {
        let below = source.strip_prefix("/").expect("an absolute path");
        assert!(compare::exists(&by_firedrill.join(below)));
        assert_same_tree(source, &by_firedrill.join(below), Allow::WhatScratchWithholds);
    }
    std::fs::remove_dir_all(by_restic).expect("remove");
    std::fs::remove_dir_all(by_firedrill).expect("remove");
}

macro_rules! matrix {
    ($($name:ident: $generation:literal, $format:literal, $compression:expr;)*) => {$(
        #[test]
        fn $name() {
            restores_what_restic_restores($generation, $format, $compression);
        }
    )*};
}

matrix! {
    restic_0_14_version_1: "0.14", "1", None;
    restic_0_14_version_2_auto: "0.14", "2", Some("auto");
    restic_0_14_version_2_off: "0.14", "2", Some("off");
    restic_0_14_version_2_max: "0.14", "2", Some("max");
    restic_0_18_version_1: "0.18", "1", None;
    restic_0_18_version_2_auto: "0.18", "2", Some("auto");
    restic_0_18_version_2_off: "0.18", "2", Some("off");
    restic_0_18_version_2_max: "0.18", "2", Some("max");
    restic_0_19_version_1: "0.19", "1", None;
    restic_0_19_version_2_auto: "0.19", "2", Some("auto");
    restic_0_19_version_2_off: "0.19", "2", Some("off");
    restic_0_19_version_2_max: "0.19", "2", Some("max");
}

/// A repository that one generation began and another went on with, after an upgrade of its version.
#[test]
fn a_repository_that_grew_old_with_its_restic() {
    let (Some(old), Some(new)) = (Restic::need("0.14"), Restic::need("0.19")) else { return };
    let place = Workplace::new();
    let source = place.folder("source");
    awkward::build(&source);
    let access = Access::to(place.path("repository").display().to_string());
    let by_old = Repository::init(&old, access.clone(), "1");
    let first = by_old.backup(&source, &["files"], &[]);
    by_old.run(["migrate", "upgrade_repo_v2"]);
    awkward::age(&source);
    let by_new = Repository { restic: new, access };
    let second = by_new.backup(&source, &["files"], &["--compression", "max"]);
    assert_same(&place, &by_new, &first, &source, "mixed");
    assert_same(&place, &by_new, &second, &source, "mixed");
}

#[test]
fn every_key_opens_the_repository_and_no_other() {
    let Some(restic) = Restic::need("0.19") else { return };
    let place = Workplace::new();
    let source = place.folder("source");
    std::fs::write(source.join("file"), b"behind several doors").expect("write");
    let access = Access::to(place.path("repository").display().to_string());
    let repository = Repository::init(&restic, access, "2");
    let id = repository.backup(&source, &["files"], &[]);
    let other = place.path("other password");
    // Only one end of line belongs to the file and not to the password.
    std::fs::write(&other, "pässword with spaces \n").expect("write");
    repository.run([
        std::ffi::OsStr::new("key"),
        "add".as_ref(),
        "--new-password-file".as_ref(),
        other.as_ref(),
    ]);

    let restored = |password: &str, name: &str| {
        let access = Access { password: password.to_owned(), ..repository.access.clone() };
        let into = place.folder(name);
        let outcome = restore_with_firedrill(&access, &id, &into);
        (outcome.is_clean(), into.join(source.strip_prefix("/").expect("absolute")).join("file").is_file())
    };
    assert_eq!(restored(&repository.access.password, "first"), (true, true));
    let accepted = restored("pässword with spaces", "second");
    let with_space = restored("pässword with spaces ", "third");
    assert!(accepted == (true, true) || with_space == (true, true), "the second key opens nothing");
    assert_eq!(restored("wrong", "wrong"), (false, false));
    assert_eq!(restored("", "empty"), (false, false));
}

/// Several folders at once, and relative paths: what restic stores below the root differs each time.
#[test]
fn several_paths_in_one_snapshot() {
    let Some(restic) = Restic::need("0.19") else { return };
    let place = Workplace::new();
    let (one, two) = (place.folder("one/inner"), place.folder("two"));
    std::fs::write(one.join("file"), b"one").expect("write");
    std::fs::write(two.join("file"), b"two").expect("write");
    let access = Access::to(place.path("repository").display().to_string());
    let repository = Repository::init(&restic, access, "2");
    let absolute = repository.backup(&two, &["absolute"], &[one.to_str().expect("UTF-8")]);
    assert_restored_alike(&place, &repository, &absolute);
    let mut relative = repository.command(["backup", "--quiet", "--tag", "relative", "inner", "../two/file"]);
    crate::support::tools::run(relative.current_dir(place.path("one")));
    let newest = repository.snapshots().pop().expect("a snapshot");
    assert_restored_alike(&place, &repository, &newest.id);
    // A stream from standard input has no folder at all.
    let dump = std::fs::File::open(one.join("file")).expect("open");
    let mut stdin = repository.command(["backup", "--quiet", "--stdin", "--stdin-filename", "dump.sql"]);
    crate::support::tools::run(stdin.stdin(dump));
    let newest = repository.snapshots().pop().expect("a snapshot");
    assert_restored_alike(&place, &repository, &newest.id);
}

fn assert_restored_alike(place: &Workplace, repository: &Repository, id: &str) {
    let (by_restic, by_firedrill) =
        (place.folder(&format!("restic-{id}")), place.folder(&format!("firedrill-{id}")));
    repository.restore(id, &by_restic);
    restore_with_firedrill(&repository.access, id, &by_firedrill).expect_clean();
    assert_same_tree(&by_restic, &by_firedrill, Allow::WhatScratchWithholds);
    assert!(!listing(&by_firedrill).is_empty(), "nothing was restored");
}
