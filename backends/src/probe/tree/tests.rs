//! One healthy tree with everything in it, and one damaged tree for each thing that can be wrong.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use firedrill_core::config::settings::Proof;
use firedrill_core::finding::{Class, Examination, FINDINGS_MAX};
use firedrill_core::manifest::{Attribute, Kind, Manifest, NewEntry};
use firedrill_core::ports::Probe;
use firedrill_core::subject::Subject;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timestamps, XattrFlags, chownat, lsetxattr, mkdirat, mkfifoat, openat,
    utimensat,
};
use rustix::time::Timespec;

use firedrill_testing::skip;

use super::TreeProbe;
use super::walk::compare_as;
use crate::probe::fixture::{Fixture, chunk, found};

fn examine(subject: &Subject) -> Examination {
    TreeProbe.examine(subject)
}

fn assert_green(examination: &Examination, checked: u64) {
    assert_eq!(examination.findings, []);
    assert_eq!(examination.interrupted, None);
    assert_eq!(examination.checked, checked);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn touch(path: &Path, seconds: i64, nanoseconds: u32) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A small tree with one of everything.
fn everything() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("app/config.ini", "key = value\n");
    fixture.write("app/empty", "");
    fixture.write("app/large.bin", (0..3_000_000_u32).map(|n| (n % 253) as u8).collect::<Vec<_>>());
    let sparse = File::create(fixture.path("app/sparse.img")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 3 << 20).unwrap();
    fs::hard_link(fixture.root.join("app/config.ini"), fixture.root.join("app/config.link")).unwrap();
    symlink("config.ini", fixture.root.join("app/symlink")).unwrap();
    symlink("/etc/../nowhere", fixture.root.join("app/dangling")).unwrap();
    mkfifoat(CWD, fixture.root.join("app/pipe"), Mode::from_raw_mode(0o640)).unwrap();
    fs::create_dir(fixture.root.join("app/empty.d")).unwrap();
    fixture.write(&format!("app/{}", "n".repeat(255)), "long name");
    fs::write(fixture.root.join(OsStr::from_bytes(b"app/b\xffd\nname")), "odd name").unwrap();
    fixture.write("app/secret", "s");
    chmod(&fixture.root.join("app/secret"), 0o400);
    chmod(&fixture.root.join("app/empty.d"), 0o3750);
    lsetxattr(fixture.root.join("app/config.ini"), "user.origin", b"test", XattrFlags::empty()).unwrap();
    touch(&fixture.root.join("app/symlink"), 1_000_000_000, 123_456_789);
    touch(&fixture.root.join("app/empty"), -86_400, 1);
    fixture
}

#[test]
fn a_faithful_restore_is_green() {
    let fixture = everything();
    let subject = fixture.subject();
    assert_green(&examine(&subject), 13);
    assert_eq!(fs::read_dir(&fixture.work).unwrap().count(), 0, "work is left empty");
}

#[test]
fn an_empty_snapshot_has_nothing_to_check() {
    assert_green(&examine(&Fixture::new().subject()), 0);
}

#[test]
fn acls_are_compared() {
    let fixture = Fixture::new();
    let path = fixture.write("shared", "x");
    let folder = fixture.path("team/plan").parent().unwrap().to_owned();
    let set = |arguments: &[&str], path: &Path| {
        Command::new("setfacl").args(arguments).arg(path).status().is_ok_and(|s| s.success())
    };
    if !set(&["-m", "u:1234:rw"], &path) || !set(&["-d", "-m", "g:4321:rx"], &folder) {
        return skip("setfacl or a file system with ACLs is missing");
    }
    let subject = fixture.subject();
    assert!(subject.manifest.entries().iter().all(|e| !e.attributes.is_empty()));
    assert_green(&examine(&subject), 2);
    assert!(set(&["-n", "-m", "u:1234:r"], &path));
    assert!(set(&["-k"], &folder));
    let examination = examine(&subject);
    let attributes = |path| ("tree.attributes", Class::Damage, path);
    assert_eq!(found(&examination), [attributes("shared"), attributes("team")]);
    assert_eq!(examination.findings[1].seen, "system.posix_acl_default is missing");
}

#[test]
fn what_the_negative_control_does_is_found() {
    let fixture = everything();
    let subject = fixture.subject();
    let app = fixture.root.join("app");
    let large = File::options().write(true).open(app.join("large.bin")).unwrap();
    large.write_all_at(b"!", 2_000_000).unwrap();
    fs::remove_file(app.join("secret")).unwrap();
    fs::write(app.join("planted"), "new").unwrap();
    chmod(&app.join("empty"), 0o777);
    let examination = examine(&subject);
    let damage = |code, path| (code, Class::Damage, path);
    assert_eq!(
        found(&examination),
        [
            damage("tree.missing", "app/secret"),
            damage("tree.content", "app/large.bin"),
            damage("tree.extra", "app/planted"),
            damage("tree.mode", "app/empty"),
            damage("tree.time", "app"),
        ]
    );
    assert!(examination.findings[1].expected.contains("chunk 2 of 3, at byte 1048576"));
    assert_eq!(examination.interrupted, None);
}

#[test]
fn one_byte_at_any_place_is_found() {
    let fixture = Fixture::new();
    let path = fixture.write("f", vec![0; 2_500_000]);
    let subject = fixture.subject();
    for at in [0, 1, 262_143, 262_144, 1_048_575, 1_048_576, 2_499_999] {
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"\x01", at).unwrap();
        let time = subject.manifest.entries()[0].mtime.unwrap();
        touch(&path, time.as_second(), time.subsec_nanosecond().try_into().unwrap());
        assert_eq!(found(&examine(&subject)), [("tree.content", Class::Damage, "f")], "{at}");
        file.write_all_at(b"\0", at).unwrap();
    }
}

#[test]
fn sizes_are_compared_with_the_disk_and_with_the_chunks() {
    let fixture = Fixture::new();
    let path = fixture.write("short", "12345678");
    let subject = fixture.subject();
    File::options().write(true).open(&path).unwrap().set_len(5).unwrap();
    assert_eq!(found(&examine(&subject)), [("tree.size", Class::Damage, "short")]);

    let fixture = Fixture::new();
    fixture.write("f", "12345678");
    let mut manifest = Manifest::default();
    let entry = NewEntry { size: 8, ..NewEntry::bare("f", Kind::File) };
    manifest.push(entry, [chunk(b"12345678"), chunk(b"9")]);
    let examination = examine(&fixture.subject_of(manifest));
    assert_eq!(found(&examination), [("tree.size", Class::Damage, "f")]);
    assert!(examination.findings[0].seen.contains("add up to 9 bytes"));
}

#[test]
fn a_missing_folder_is_one_finding() {
    let fixture = Fixture::new();
    fixture.write("keep", "");
    fixture.write("gone/deep/er/a", "a");
    fixture.write("gone/b", "b");
    let subject = fixture.subject();
    fs::remove_dir_all(fixture.root.join("gone")).unwrap();
    let examination = examine(&subject);
    assert_eq!(found(&examination), [("tree.missing", Class::Damage, "gone")]);
    assert!(examination.findings[0].seen.contains("none of the 4 entries below"));
    assert_eq!(examination.checked, 1);
}

#[test]
fn a_restore_that_wrote_nothing_is_found() {
    let fixture = everything();
    let subject = fixture.subject();
    fs::remove_dir_all(fixture.root.join("app")).unwrap();
    let examination = examine(&subject);
    assert_eq!(found(&examination), [("tree.missing", Class::Damage, "app")]);
    assert_eq!(examination.checked, 0);
}

#[test]
fn types_are_compared_and_links_are_not_followed() {
    let fixture = Fixture::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("inside"), "x").unwrap();
    fixture.write("folder/inside", "x");
    fixture.write("file", "x");
    let subject = fixture.subject();
    fs::remove_dir_all(fixture.root.join("folder")).unwrap();
    symlink(outside.path(), fixture.root.join("folder")).unwrap();
    fs::remove_file(fixture.root.join("file")).unwrap();
    fs::create_dir(fixture.root.join("file")).unwrap();
    let examination = examine(&subject);
    let wrong = |path| ("tree.type", Class::Damage, path);
    assert_eq!(found(&examination), [wrong("file"), wrong("folder")]);
}

#[test]
fn link_targets_are_compared_byte_by_byte() {
    let fixture = Fixture::new();
    symlink("a", fixture.root.join("link")).unwrap();
    let subject = fixture.subject();
    fs::remove_file(fixture.root.join("link")).unwrap();
    symlink("b", fixture.root.join("link")).unwrap();
    let codes: Vec<_> = examine(&subject).findings.into_iter().map(|f| f.code).collect();
    assert_eq!(codes, ["tree.link_target", "tree.time"]);
}

#[test]
fn times_are_compared_to_the_nanosecond() {
    let fixture = Fixture::new();
    for name in ["f", "d", "l"] {
        match name {
            "f" => drop(fixture.write(name, "x")),
            "d" => fs::create_dir(fixture.root.join(name)).unwrap(),
            _ => symlink("x", fixture.root.join(name)).unwrap(),
        }
        touch(&fixture.root.join(name), 1_700_000_000, 123_456_789);
    }
    let subject = fixture.subject();
    assert_green(&examine(&subject), 3);
    for name in ["f", "d", "l"] {
        touch(&fixture.root.join(name), 1_700_000_000, 123_456_788);
    }
    let late = |path| ("tree.time", Class::Damage, path);
    assert_eq!(found(&examine(&subject)), [late("d"), late("f"), late("l")]);
}

#[test]
fn times_that_the_file_system_cannot_keep_are_not_the_backups_fault() {
    let fixture = Fixture::new();
    let path = fixture.write("f", "x");
    touch(&path, 250_000_000_000, 5);
    let mut manifest = Manifest::default();
    let mtime = Some(jiff::Timestamp::new(250_000_000_000, 5).unwrap());
    manifest.push(NewEntry { size: 1, mtime, ..NewEntry::bare("f", Kind::File) }, [chunk(b"x")]);
    assert_green(&examine(&fixture.subject_of(manifest)), 1);
}

#[test]
fn withheld_setuid_bits_are_mentioned_and_other_bits_are_compared() {
    let fixture = Fixture::new();
    let tool = fixture.write("tool", "x");
    chmod(&tool, 0o6755);
    fs::create_dir(fixture.root.join("d")).unwrap();
    chmod(&fixture.root.join("d"), 0o2755);
    let subject = fixture.subject();
    chmod(&tool, 0o755);
    let examination = examine(&subject);
    assert_green(&examination, 2);
    assert!(examination.not_verified.iter().any(|n| n.contains("privileges of 1 files")));
    chmod(&tool, 0o711);
    chmod(&fixture.root.join("d"), 0o755);
    let wrong = |path| ("tree.mode", Class::Damage, path);
    assert_eq!(found(&examine(&subject)), [wrong("d"), wrong("tool")]);
}

#[test]
fn owners_are_found_by_root_and_are_a_limit_for_others() {
    let fixture = Fixture::new();
    fixture.write("f", "x");
    let mut manifest = Manifest::default();
    let owner = NewEntry { uid: Some(4_000), gid: Some(4_001), size: 1, ..NewEntry::bare("f", Kind::File) };
    manifest.push(owner, [chunk(b"x")]);
    let mut subject = fixture.subject_of(manifest);
    if is_root() {
        let examination = examine(&subject);
        assert_eq!(found(&examination), [("tree.owner", Class::Damage, "f")]);
        assert_eq!(examination.findings[0].expected, "owner 4000:4001");
    } else {
        skip("only root can be expected to restore owners");
    }

    let as_other = |subject: &Subject| {
        let mut examination = Examination::new("tree", "entries");
        compare_as(subject, false).unwrap().settle(&subject.drill.probes.tree, &mut examination);
        examination
    };
    let examination = as_other(&subject);
    assert_eq!(examination.findings, []);
    assert!(examination.interrupted.unwrap().contains("1 entries belong to other users"));
    subject.drill.probes.tree.owner = Proof::Recorded;
    let examination = as_other(&subject);
    assert_green(&examination, 1);
    assert!(examination.not_verified.iter().any(|n| n.contains("the owners of 1 entries")));

    if is_root() {
        let (uid, gid) = (rustix::fs::Uid::from_raw(4_000), rustix::fs::Gid::from_raw(4_001));
        chownat(CWD, fixture.root.join("f"), Some(uid), Some(gid), AtFlags::empty()).unwrap();
        assert_green(&examine(&subject), 1);
    }
}

#[test]
fn attributes_are_compared_by_name_and_value() {
    let fixture = Fixture::new();
    let set = |path: &Path, name: &str, value: &str| {
        lsetxattr(path, name, value.as_bytes(), XattrFlags::empty()).unwrap();
    };
    let paths = ["different", "extra", "missing"].map(|name| fixture.write(name, "x"));
    set(&paths[0], "user.a", "1");
    set(&paths[2], "user.a", "1");
    let subject = fixture.subject();
    set(&paths[0], "user.a", "2");
    set(&paths[1], "user.b", "1");
    rustix::fs::lremovexattr(&paths[2], "user.a").unwrap();
    let examination = examine(&subject);
    let seen: Vec<_> = examination.findings.iter().map(|f| (f.code.as_str(), f.seen.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("tree.attributes", "user.a has another value"),
            ("tree.attributes", "user.b was added"),
            ("tree.attributes", "user.a is missing"),
        ]
    );
}

#[test]
fn attributes_that_cannot_be_set_here_are_not_the_backups_fault() {
    let fixture = Fixture::new();
    fixture.write("f", "x");
    let mut manifest = Manifest::default();
    let foreign = Attribute { name: "com.apple.FinderInfo".to_owned(), value: vec![1] };
    let entry = NewEntry { size: 1, attributes: vec![foreign], ..NewEntry::bare("f", Kind::File) };
    manifest.push(entry, [chunk(b"x")]);
    let mut subject = fixture.subject_of(manifest);
    let examination = examine(&subject);
    assert_eq!(examination.findings, []);
    assert!(examination.interrupted.unwrap().contains("com.apple.FinderInfo of f"));
    subject.drill.probes.tree.attributes = Proof::Recorded;
    let examination = examine(&subject);
    assert_green(&examination, 1);
    assert!(examination.not_verified.iter().any(|n| n.contains("attributes of 1 entries")));
}

#[test]
fn a_file_system_without_attributes_is_a_limit_of_ours() {
    let place = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "ramfs", "none"]).arg(place.path()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return skip("mounting a ramfs needs root");
    }
    let fixture = Fixture::below(place.path());
    fixture.write("f", "x");
    let mut manifest = fixture.manifest();
    let attribute = Attribute { name: "user.a".to_owned(), value: vec![1] };
    let entry = NewEntry { size: 1, attributes: vec![attribute], ..NewEntry::bare("g", Kind::File) };
    fixture.write("g", "x");
    manifest.push(entry, [chunk(b"x")]);
    let examination = examine(&fixture.subject_of(manifest));
    drop(fixture);
    Command::new("umount").arg(place.path()).status().unwrap();
    assert_eq!(examination.findings, []);
    assert!(examination.interrupted.unwrap().contains("1 entries have extended attributes that cannot"));
}

#[test]
fn hard_links_are_one_file_and_only_they_are() {
    let fixture = Fixture::new();
    let file = fixture.write("a", "x");
    fs::hard_link(&file, fixture.root.join("b")).unwrap();
    fs::hard_link(&file, fixture.root.join("c")).unwrap();
    let subject = fixture.subject();
    assert_green(&examine(&subject), 3);
    let time = subject.manifest.entries()[0].mtime.unwrap();
    let b = fixture.root.join("b");
    fs::remove_file(&b).unwrap();
    fs::copy(&file, &b).unwrap();
    touch(&b, time.as_second(), time.subsec_nanosecond().try_into().unwrap());
    assert_eq!(found(&examine(&subject)), [("tree.hardlink", Class::Damage, "b")]);

    let fixture = Fixture::new();
    fixture.write("a", "x");
    fixture.write("b", "x");
    let mut manifest = Manifest::default();
    for (name, link_group) in [("a", 0), ("b", 7)] {
        manifest.push(NewEntry { size: 1, link_group, ..NewEntry::bare(name, Kind::File) }, [chunk(b"x")]);
    }
    let subject = fixture.subject_of(manifest);
    assert_green(&examine(&subject), 2);
    fs::remove_file(fixture.root.join("b")).unwrap();
    fs::hard_link(fixture.root.join("a"), fixture.root.join("b")).unwrap();
    let examination = examine(&subject);
    assert_eq!(found(&examination), [("tree.hardlink", Class::Damage, "b")]);
    assert_eq!(examination.findings[0].seen, "one file with a");
}

#[test]
fn sockets_and_devices_must_be_absent() {
    let fixture = Fixture::new();
    let mut manifest = Manifest::default();
    for (name, kind) in [("run.sock", Kind::Socket), ("sda", Kind::Device), ("tty", Kind::Device)] {
        manifest.push(NewEntry::bare(name, kind), []);
    }
    let subject = fixture.subject_of(manifest);
    let examination = examine(&subject);
    assert_green(&examination, 0);
    assert_eq!(examination.notes, ["the snapshot lists 1 sockets", "the snapshot lists 2 devices"]);
    fixture.write("sda", "not a disk");
    assert_eq!(found(&examine(&subject)), [("tree.type", Class::Damage, "sda")]);
}

#[test]
fn what_the_backup_program_could_not_read_is_found_once() {
    let fixture = Fixture::new();
    fixture.write("locked", "");
    let mut manifest = Manifest::default();
    for name in ["gone", "locked"] {
        let read_error = Some("permission denied".to_owned());
        manifest.push(NewEntry { read_error, size: 100, ..NewEntry::bare(name, Kind::File) }, []);
    }
    let examination = examine(&fixture.subject_of(manifest));
    let unread = |path| ("tree.read_error", Class::Damage, path);
    assert_eq!(found(&examination), [unread("gone"), unread("locked")]);
}

#[test]
fn impossible_lists_are_found_without_leaving_the_root() {
    let fixture = Fixture::new();
    fixture.write("twice", "x");
    fixture.write("ok/file", "x");
    let mut manifest = fixture.manifest();
    for path in ["twice", "..", "ok/../../etc", "nowhere/file", "twice/below", "", "ok/zero\0byte"] {
        manifest.push(NewEntry::bare(path, Kind::Directory), []);
    }
    manifest.push(NewEntry::bare("../lost", Kind::File), []);
    let examination = examine(&fixture.subject_of(manifest));
    assert!(examination.findings.iter().all(|f| f.code == "tree.names"), "{examination:?}");
    let paths: Vec<_> = examination.findings.iter().map(|f| f.location.as_str()).collect();
    let expected = ["", "..", "nowhere/file", "ok/../../etc", "ok/zero\\u{0}byte", "twice", "twice/below"];
    assert_eq!(paths, expected);
    assert_eq!(examination.checked, 3);
}

#[test]
fn a_name_too_long_for_this_file_system_is_a_limit_of_ours() {
    let mut manifest = Manifest::default();
    manifest.push(NewEntry::bare("n".repeat(256), Kind::File), []);
    let examination = examine(&Fixture::new().subject_of(manifest));
    assert_eq!(examination.findings, []);
    assert!(examination.interrupted.unwrap().contains("File name too long"));
}

#[test]
fn paths_longer_than_the_kernel_takes_are_walked() {
    let fixture = Fixture::new();
    let name = "d".repeat(200);
    let mut manifest = Manifest::default();
    let mut here = openat(CWD, &fixture.root, OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut path = String::new();
    for depth in 0..150 {
        for (sibling, content) in [("before", "1"), ("z-behind", "2")] {
            let flags = OFlags::CREATE | OFlags::WRONLY;
            let file = openat(&here, sibling, flags, Mode::from_raw_mode(0o600)).unwrap();
            // One file far down is damaged.
            let written = if depth == 120 && sibling == "before" { "?" } else { content };
            rustix::io::write(&file, written.as_bytes()).unwrap();
            let entry = NewEntry { size: 1, ..NewEntry::bare(format!("{path}{sibling}"), Kind::File) };
            manifest.push(entry, [chunk(content.as_bytes())]);
        }
        for folder in [name.as_str(), "empty"] {
            mkdirat(&here, folder, Mode::from_raw_mode(0o700)).unwrap();
            manifest.push(NewEntry::bare(format!("{path}{folder}"), Kind::Directory), []);
        }
        here = openat(&here, name.as_str(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        path = format!("{path}{name}/");
    }
    let examination = examine(&fixture.subject_of(manifest));
    assert_eq!(examination.interrupted, None);
    assert_eq!(examination.checked, 150 * 4);
    let expected = format!("{}before", format!("{name}/").repeat(120));
    assert_eq!(found(&examination), [("tree.content", Class::Damage, expected.as_str())]);
    // The ordinary way to remove a tree uses paths that are too long here.
    Command::new("rm").arg("-rf").arg(fixture.root.join(&name)).status().unwrap();
}

#[test]
fn damaged_content_is_kept_among_many_lesser_findings() {
    let fixture = Fixture::new();
    for n in 0..500 {
        fixture.write(&format!("d/{n:03}"), n.to_string());
    }
    let subject = fixture.subject();
    for n in 0..500 {
        touch(&fixture.root.join(format!("d/{n:03}")), 1_000_000, 0);
    }
    fixture.write("d/499", "!!!");
    let first = examine(&subject);
    assert_eq!(found(&first)[0], ("tree.content", Class::Damage, "d/499"));
    assert_eq!(first.findings.len(), FINDINGS_MAX);
    assert_eq!(first.findings_omitted, 400);
    assert_eq!(first.checked, 501);
    assert_eq!(first, examine(&subject), "the same findings whichever thread is faster");
}

#[test]
fn what_keeps_us_from_looking_interrupts() {
    let fixture = everything();
    let subject = fixture.subject();
    subject.watch.stop();
    let examination = examine(&subject);
    assert_eq!(examination.findings, []);
    assert!(examination.interrupted.unwrap().contains("told to stop"));

    let mut subject = fixture.subject();
    subject.root.push("not there");
    let examination = examine(&subject);
    assert_eq!(examination.findings, []);
    assert!(examination.interrupted.unwrap().contains("cannot open the restored root"));
}

#[test]
fn a_file_that_cannot_be_read_back_interrupts() {
    if is_root() {
        println!("not for root, who may read everything");
        return;
    }
    let fixture = Fixture::new();
    chmod(&fixture.write("f", "x"), 0o200);
    let mut manifest = Manifest::default();
    manifest.push(NewEntry { size: 1, ..NewEntry::bare("f", Kind::File) }, [chunk(b"x")]);
    let examination = examine(&fixture.subject_of(manifest));
    assert_eq!(examination.findings, []);
    assert!(examination.interrupted.unwrap().contains("cannot read f"));
}
