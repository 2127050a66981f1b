//! Two trees, byte for byte and attribute for attribute.
//!
//! *Compared*: names, kinds, content, size, mode, owner, group, modification time to the nanosecond,
//! extended attributes (access lists among them), targets of symbolic links, device numbers, which names
//! share an inode.
//!
//! *Not compared*: access and change times, how a file lies on the disk, and the attributes of the two
//! roots themselves, which no snapshot holds.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, getxattr, listxattr, openat, readlinkat, statat,
};
use sha2::{Digest as _, Sha256};

/// What firedrill keeps back on purpose.
#[derive(Clone, Copy)]
pub(crate) enum Allow {
    /// Nothing: the trees must be the same.
    Nothing,
    /// In the second tree, devices and sockets are absent, and regular files carry no set-user-id and
    /// no set-group-id bit: restored data must not become a way to more rights.
    WhatScratchWithholds,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    modified: (i64, i64),
    content: String,
    target: Vec<u8>,
    device: u64,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the same inode in this tree.
    first_name: Vec<u8>,
}

type Tree = BTreeMap<Vec<u8>, Entry>;

/// Fails with a list of all differences, unless `actual` is what `expected` is.
#[track_caller]
pub(crate) fn assert_same_tree(expected: &Path, actual: &Path, allow: Allow) {
    let differences = differences(expected, actual, allow);
    assert!(
        differences.is_empty(),
        "{} is not the same as {}:\n  {}",
        actual.display(),
        expected.display(),
        differences.join("\n  ")
    );
}

/// All differences, one line each.
pub(crate) fn differences(expected: &Path, actual: &Path, allow: Allow) -> Vec<String> {
    let (mut expected, actual) = (read(expected), read(actual));
    if matches!(allow, Allow::WhatScratchWithholds) {
        withhold(&mut expected);
    }
    let mut lines = Vec::new();
    for (path, entry) in &expected {
        match actual.get(path) {
            None => lines.push(format!("{} is missing ({})", show(path), entry.kind)),
            Some(other) => compare(path, entry, other, &mut lines),
        }
    }
    for (path, entry) in actual.iter().filter(|(path, _)| !expected.contains_key(*path)) {
        lines.push(format!("{} should not be there ({})", show(path), entry.kind));
    }
    lines
}

fn withhold(tree: &mut Tree) {
    tree.retain(|_, entry| !matches!(entry.kind, "socket" | "character device" | "block device"));
    for entry in tree.values_mut().filter(|entry| entry.kind == "file") {
        entry.mode &= !0o6000;
    }
}

fn compare(path: &[u8], a: &Entry, b: &Entry, lines: &mut Vec<String>) {
    let mut note = |what: &str, a: String, b: String| {
        if a != b {
            lines.push(format!("{}: {what} is {b}, not {a}", show(path)));
        }
    };
    note("kind", a.kind.to_owned(), b.kind.to_owned());
    note("mode", format!("{:05o}", a.mode), format!("{:05o}", b.mode));
    note("owner", format!("{:?}", a.owner), format!("{:?}", b.owner));
    note("size", a.size.to_string(), b.size.to_string());
    note("modification time", format!("{:?}", a.modified), format!("{:?}", b.modified));
    note("content", a.content.clone(), b.content.clone());
    note("target", show(&a.target), show(&b.target));
    note("device", a.device.to_string(), b.device.to_string());
    note("first name of the inode", show(&a.first_name), show(&b.first_name));
    for name in
        a.attributes.keys().chain(b.attributes.keys().filter(|name| !a.attributes.contains_key(*name)))
    {
        let value = |entry: &Entry| format!("{:02x?}", entry.attributes.get(name));
        note(&format!("attribute {}", show(name)), value(a), value(b));
    }
}

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn read(root: &Path) -> Tree {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags, Mode::empty())
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", root.display()));
    let mut tree = Tree::new();
    let mut inodes = BTreeMap::new();
    walk(&root, &[], &mut tree, &mut inodes);
    // Names were met in no certain order; the first in order stands for the inode.
    for entry in tree.values_mut() {
        if let Some(names) = inodes.get(&entry.first_name) {
            entry.first_name = Vec::clone(names);
        }
    }
    tree
}

/// Goes down by file descriptors: paths here may be longer than any system call takes.
fn walk(folder: &OwnedFd, path: &[u8], tree: &mut Tree, inodes: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    let names: Vec<_> = Dir::read_from(folder)
        .expect("a folder can be listed")
        .map(|entry| entry.expect("a folder can be listed").file_name().to_owned())
        .filter(|name| name.as_bytes() != b"." && name.as_bytes() != b"..")
        .collect();
    for name in names {
        let mut below = path.to_vec();
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend(name.as_bytes());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let this = openat(folder, &name, flags, Mode::empty())
            .unwrap_or_else(|error| panic!("{}: {error}", show(&below)));
        let entry = look(folder, &name, &this, &below, inodes);
        if entry.kind == "folder" {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = openat(folder, &name, flags, Mode::empty())
                .unwrap_or_else(|error| panic!("{}: {error}", show(&below)));
            walk(&open, &below, tree, inodes);
        }
        tree.insert(below, entry);
    }
}

fn look(
    folder: &OwnedFd,
    name: &std::ffi::CStr,
    this: &OwnedFd,
    path: &[u8],
    inodes: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) -> Entry {
    let stat = fstat(this).expect("stat");
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "folder",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "something unknown",
    };
    let is_file = kind == "file";
    let inode = format!("\0{}:{}", stat.st_dev, stat.st_ino).into_bytes();
    let first = inodes.entry(inode.clone()).or_insert_with(|| path.to_vec());
    if path < first.as_slice() {
        *first = path.to_vec();
    }
    Entry {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        size: if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(-1)),
        content: if is_file { digest(folder, name) } else { String::new() },
        target: if kind == "symbolic link" {
            readlinkat(folder, name, Vec::new()).expect("readlink").into_bytes()
        } else {
            Vec::new()
        },
        device: if kind.ends_with("device") { stat.st_rdev } else { 0 },
        attributes: attributes(this),
        first_name: inode,
    }
}

fn digest(folder: &OwnedFd, name: &std::ffi::CStr) -> String {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(openat(folder, name, flags, Mode::empty()).expect("open"));
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 17]);
    loop {
        match file.read(&mut buffer).expect("read") {
            0 => return hex::encode(hash.finalize()),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn attributes(this: &OwnedFd) -> BTreeMap<Vec<u8>, Vec<u8>> {
    // The link stands for the opened inode, even when that is a symbolic link itself.
    let path = PathBuf::from(format!("/proc/self/fd/{}", this.as_raw_fd()));
    let mut buffer = vec![0_u8; 1 << 16];
    let Ok(length) = listxattr(&path, &mut buffer) else { return BTreeMap::new() };
    let mut value = vec![0_u8; 1 << 16];
    buffer[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let length = getxattr(&path, name, &mut value).expect("getxattr");
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// The SHA-256 of every file below `root` and its name: whether anything there was touched.
pub(crate) fn listing(root: &Path) -> BTreeMap<Vec<u8>, (u64, String)> {
    read(root).into_iter().map(|(path, entry)| (path, (entry.size, entry.content))).collect()
}

/// Whether `name` in `folder` is there, without following it.
pub(crate) fn exists(path: &Path) -> bool {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// A comparator that finds nothing would make every story here end well.
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, setxattr, utimensat};

    use super::super::{awkward, tools};
    use super::{Allow, Path, assert_same_tree, differences};

    /// A copy of `from` that is the same in all that is compared.
    fn copy(from: &Path, to: &Path) {
        let mut command = std::process::Command::new("cp");
        tools::run(command.args(["-a", "--no-target-directory"]).args([from, to]));
    }

    fn keeping_its_time(path: &Path, change: impl FnOnce()) {
        let stat = rustix::fs::lstat(path).expect("stat");
        change();
        let time =
            Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).expect("fits") };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
    }

    #[test]
    fn a_copy_is_the_same_and_every_change_is_seen() {
        let place = tools::Workplace::new();
        let (one, two) = (place.folder("one"), place.path("two"));
        awkward::build(&one);
        copy(&one, &two);
        assert_same_tree(&one, &two, Allow::Nothing);

        let flip = |path: &Path| {
            let mut bytes = fs::read(path).expect("read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).expect("write");
        };
        type Change<'a> = (&'a str, &'a str, Box<dyn Fn(&Path) + 'a>);
        let changes: Vec<Change<'_>> = vec![
            ("contents/3 MB", "content", Box::new(|p| keeping_its_time(p, || flip(p)))),
            (
                "contents/513 bytes",
                "modification time",
                Box::new(|p| {
                    let content = fs::read(p).expect("read");
                    fs::write(p, content).expect("write");
                }),
            ),
            (
                "modes/plain",
                "mode",
                Box::new(|p| fs::set_permissions(p, Permissions::from_mode(0o604)).expect("chmod")),
            ),
            ("contents/empty", "missing", Box::new(|p| fs::remove_file(p).expect("remove"))),
            ("contents/more", "should not be there", Box::new(|p| fs::write(p, b"").expect("write"))),
            (
                "links/far/away/hard link",
                "first name",
                Box::new(|p| {
                    let same = p.with_file_name("same");
                    copy(p, &same);
                    fs::rename(same, p).expect("rename");
                }),
            ),
            (
                "attributes/file",
                "user.comment",
                Box::new(|p| setxattr(p, "user.comment", b"other", XattrFlags::empty()).expect("setxattr")),
            ),
            (
                "links/dangling",
                "target",
                Box::new(|p| {
                    fs::remove_file(p).expect("remove");
                    std::os::unix::fs::symlink("elsewhere", p).expect("symlink");
                }),
            ),
            (
                "contents/one byte",
                "kind",
                Box::new(|p| {
                    fs::remove_file(p).expect("remove");
                    fs::create_dir(p).expect("mkdir");
                }),
            ),
        ];
        for (path, word, change) in changes {
            let target = two.join(path);
            let parent = target.parent().expect("below the root").to_owned();
            keeping_its_time(&parent, || change(&target));
            let seen = differences(&one, &two, Allow::Nothing);
            assert!(seen.iter().any(|line| line.contains(word)), "{path}: no {word} in {seen:#?}");
            fs::remove_dir_all(&two).expect("remove");
            copy(&one, &two);
        }
    }

    #[test]
    fn only_what_scratch_withholds_may_differ() {
        let place = tools::Workplace::new();
        let (one, two) = (place.folder("one"), place.path("two"));
        fs::write(one.join("program"), b"x").expect("write");
        fs::set_permissions(one.join("program"), Permissions::from_mode(0o4755)).expect("chmod");
        fs::create_dir(one.join("folder")).expect("mkdir");
        copy(&one, &two);
        keeping_its_time(&two, || {
            fs::set_permissions(two.join("program"), Permissions::from_mode(0o755)).expect("chmod");
        });
        assert_eq!(differences(&one, &two, Allow::Nothing).len(), 1);
        assert_same_tree(&one, &two, Allow::WhatScratchWithholds);
        // The other way round is more than was stored.
        assert_eq!(differences(&two, &one, Allow::WhatScratchWithholds).len(), 1);
        fs::set_permissions(two.join("folder"), Permissions::from_mode(0o2755)).expect("chmod");
        assert_eq!(differences(&one, &two, Allow::WhatScratchWithholds).len(), 1);
    }
}
