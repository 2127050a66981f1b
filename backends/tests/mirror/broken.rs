//! A source that is damaged, emptied, or another one.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use firedrill_backends::mirror::{MirrorRequest, Mirrored, identical};
use firedrill_core::progress::Progress;
use rustic_core::{FileType, WriteBackend};

use crate::place::{
    Asked, Moving, at, copy_folder, day_of_work, files, flip, mirror, newest, of_kind, refusal, replace,
    restic_is_happy, side, source, watch, well, with_key,
};
use crate::support::restic::{Access, Repository};
use crate::support::tools::Workplace;

#[test]
fn a_damaged_pack_is_not_carried_over_and_nothing_that_may_need_it() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let source = source(&place, &restic);
    let copy = at(&place.path("copy"));
    well(&mirror(&source.access, &copy, &with_key(&source.access)));
    day_of_work(&place.path("files"), 7);
    source.backup(&place.path("files"), &["fleet"], &[]);
    let new = of_kind(&place.path("source"), "data")
        .into_iter()
        .find(|path| !place.path("copy").join(path.strip_prefix(place.path("source")).unwrap()).exists())
        .expect("a new pack");
    let sound = fs::read(&new).expect("read");
    flip(&new);
    let before = files(&place.path("copy"));
    let done = mirror(&source.access, &copy, &with_key(&source.access));
    let told = refusal(&done);
    assert!(told.contains("SHA-256") && told.contains("no new snapshot was copied"), "{told}");
    assert_eq!(done.facts.files_copied, 1, "the other new pack is copied: {done:?}");
    let after = files(&place.path("copy"));
    assert!(before.iter().all(|file| after.contains(file)), "what was there stays as it was");
    let seen = Repository { restic, access: copy.clone() };
    assert_eq!(seen.snapshots().len(), 2);
    restic_is_happy(&seen, &place.path("restored"));
    replace(&new, &sound);
    well(&mirror(&source.access, &copy, &with_key(&source.access)));
    assert_eq!(seen.snapshots().len(), 3);
    restic_is_happy(&seen, &place.path("restored"));
}

#[test]
fn a_damaged_small_file_is_not_carried_over() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    source(&place, &restic);
    for (kind, snapshots) in [("index", 0), ("snapshots", 1), ("keys", 2)] {
        let broken = at(&place.path(&format!("broken {kind}")));
        copy_folder(&place.path("source"), broken.url.as_ref());
        flip(&of_kind(broken.url.as_ref(), kind)[0]);
        let copy = place.path(&format!("copy {kind}"));
        let done = mirror(&broken, &at(&copy), &MirrorRequest { password: None, ..with_key(&broken) });
        assert_eq!(of_kind(&copy, "snapshots").len(), snapshots, "{kind}: {done:?}");
        if kind == "keys" {
            assert!(done.notes.iter().any(|note| note.contains("damaged")), "{done:?}");
            assert!(of_kind(&copy, "keys").is_empty());
        } else {
            refusal(&done);
        }
    }
}

#[test]
fn a_copy_that_lost_or_cut_files_is_healed() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let source = source(&place, &restic);
    let copy = at(&place.path("copy"));
    well(&mirror(&source.access, &copy, &with_key(&source.access)));
    for kind in ["data", "index", "snapshots", "keys"] {
        let victims = of_kind(&place.path("copy"), kind);
        replace(&victims[0], b"cut");
        if let Some(other) = victims.get(1) {
            fs::remove_file(other).expect("remove");
        }
    }
    fs::remove_file(place.path("copy/config")).expect("remove");
    well(&mirror(&source.access, &copy, &with_key(&source.access)));
    assert!(files(&place.path("copy")) == files(&place.path("source")));
    // A source that was cut does not cut its copy.
    let victim = &of_kind(&place.path("source"), "data")[0];
    replace(victim, b"cut");
    let before = files(&place.path("copy"));
    refusal(&mirror(&source.access, &copy, &MirrorRequest { delete: true, ..with_key(&source.access) }));
    assert!(files(&place.path("copy")) == before);
}

#[test]
fn a_source_that_was_emptied_does_not_empty_its_copy() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let whole = source(&place, &restic);
    let copy = at(&place.path("copy"));
    well(&mirror(&whole.access, &copy, &with_key(&whole.access)));
    let before = files(&place.path("copy"));
    for (kind, told) in [
        ("snapshots", "has 0 snapshots"),
        ("index", "no index files"),
        ("data", "no packs"),
        ("keys", "no keys"),
        ("config", "no config"),
    ] {
        let broken = at(&place.path(&format!("broken {kind}")));
        copy_folder(&place.path("source"), broken.url.as_ref());
        for file in of_kind(broken.url.as_ref(), kind) {
            fs::remove_file(file).expect("remove");
        }
        for password in [None, with_key(&broken).password] {
            let request = MirrorRequest { delete: true, password, ..with_key(&broken) };
            let seen = refusal(&mirror(&broken, &copy, &request));
            assert!(seen.contains(told), "{kind}: {seen}");
            assert!(files(&place.path("copy")) == before, "{kind}");
        }
    }
}

#[test]
fn packs_that_the_source_lost_stay_in_the_copy() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let source = source(&place, &restic);
    let copy = at(&place.path("copy"));
    well(&mirror(&source.access, &copy, &with_key(&source.access)));
    let before = files(&place.path("copy"));
    fs::remove_file(&of_kind(&place.path("source"), "data")[0]).expect("remove");
    let request = MirrorRequest { delete: true, ..with_key(&source.access) };
    let told = refusal(&mirror(&source.access, &copy, &request));
    assert!(told.contains("lost 1 packs"), "{told}");
    let done = mirror(&source.access, &copy, &MirrorRequest { password: None, ..request });
    assert!(done.notes.iter().any(|note| note.contains("may have lost")), "{done:?}");
    assert!(files(&place.path("copy")) == before);
}

/// Mirrors while `hook` does something to the source before it answers.
fn mirror_moving(
    source: &Repository,
    copy: &Access,
    hook: impl Fn(Asked) + Send + Sync + 'static,
) -> Mirrored {
    let inner = side(&source.access).open().expect("the source opens");
    let from: Arc<dyn WriteBackend> = Arc::new(Moving { inner, before: Box::new(hook) });
    let to = side(copy).open_writable().expect("the copy opens");
    identical(&from, &to, &with_key(&source.access), &Progress::default(), &watch())
}

#[test]
fn a_source_that_grows_meanwhile_gives_a_whole_copy() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let source = source(&place, &restic);
    for (number, moment) in
        [FileType::Config, FileType::Key, FileType::Snapshot, FileType::Index, FileType::Pack]
            .into_iter()
            .enumerate()
    {
        let copy = at(&place.path(&format!("copy {number}")));
        let (growing, folder) = (source.clone(), place.path("files"));
        let done = mirror_moving(&source, &copy, move |asked| {
            if asked == Asked::List(moment) {
                day_of_work(&folder, 20 + number as u64);
                growing.backup(&folder, &["fleet"], &[]);
            }
        });
        well(&done);
        let seen = Repository { restic: restic.clone(), access: copy };
        assert!(seen.snapshots().len() >= 2 + number);
        restic_is_happy(&seen, &place.path("restored"));
    }
}

#[test]
fn a_source_that_shrinks_meanwhile_leaves_a_copy_that_opens() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let source = source(&place, &restic);
    let copy = at(&place.path("copy"));
    well(&mirror(&source.access, &copy, &with_key(&source.access)));
    day_of_work(&place.path("files"), 30);
    source.backup(&place.path("files"), &["fleet"], &[]);
    for (kind, folder) in
        [(FileType::Pack, "data"), (FileType::Index, "index"), (FileType::Snapshot, "snapshots")]
    {
        let had = of_kind(&place.path("copy"), folder);
        let is_new = |path: &PathBuf| !had.iter().any(|old| old.file_name() == path.file_name());
        let victim = of_kind(&place.path("source"), folder).into_iter().find(is_new).expect("something new");
        let content = fs::read(&victim).expect("read");
        let gone = victim.clone();
        let done = mirror_moving(&source, &copy, move |asked| {
            if asked == Asked::Read(kind) {
                let _ = fs::remove_file(&gone);
            }
        });
        let told = refusal(&done);
        assert!(told.contains("vanished"), "{folder}: {told}");
        let seen = Repository { restic: restic.clone(), access: copy.clone() };
        assert_eq!(seen.snapshots().len(), 2, "{folder}");
        restic_is_happy(&seen, &place.path("restored"));
        fs::write(&victim, content).expect("write");
    }
    well(&mirror(&source.access, &copy, &with_key(&source.access)));
}

#[test]
fn another_repository_or_folder_is_not_written_into() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let source = source(&place, &restic);
    let other = Repository::init(&restic, at(&place.path("other")), "2");
    let before = files(&place.path("other"));
    let told = refusal(&mirror(&source.access, &other.access, &with_key(&source.access)));
    assert!(told.contains("another repository"), "{told}");
    assert!(files(&place.path("other")) == before);
    let home = place.folder("home");
    fs::write(home.join("letter"), "dear").expect("write");
    assert!(side(&at(&home)).open_writable().is_err());
}

#[test]
fn a_changed_password_and_a_raised_format_follow() {
    let Some(restic) = newest() else { return };
    let place = Workplace::new();
    let files_folder = place.folder("files");
    let mut source = Repository::init(&restic, at(&place.path("source")), "1");
    day_of_work(&files_folder, 0);
    source.backup(&files_folder, &["fleet"], &[]);
    let copy = at(&place.path("copy"));
    well(&mirror(&source.access, &copy, &with_key(&source.access)));
    source.run(["migrate", "upgrade_repo_v2"]);
    day_of_work(&files_folder, 1);
    source.backup(&files_folder, &["fleet"], &[]);
    well(&mirror(&source.access, &copy, &with_key(&source.access)));
    let mut seen = Repository { restic, access: copy.clone() };
    restic_is_happy(&seen, &place.path("restored"));
    fs::write(place.path("new"), "another one\n").expect("write");
    let mut change = source.command(["key", "passwd", "--new-password-file"]);
    crate::support::tools::run(change.arg(place.path("new")));
    source.access.password = "another one".to_owned();
    seen.access.password = "another one".to_owned();
    well(&mirror(&source.access, &copy, &MirrorRequest { delete: true, ..with_key(&source.access) }));
    assert_eq!(of_kind(&place.path("copy"), "keys").len(), 1, "the old key opens it no more");
    restic_is_happy(&seen, &place.path("restored"));
}
