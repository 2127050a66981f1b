//! A source tree with everything that has ever been difficult to back up.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, setxattr, utimensat,
};

use super::tools::{is_root, need, run, skip};

/// Random bytes that are the same on every run (splitmix64).
pub(crate) struct Bytes(pub(crate) u64);

impl Bytes {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// Fills the empty folder `root`. Parts that need root are left out, loudly, for everybody else.
pub(crate) fn build(root: &Path) {
    contents(&root.join("contents"));
    links(&root.join("links"));
    names(&root.join("names"));
    modes(&root.join("modes"));
    deep(&root.join("deep"), 12);
    attributes(&root.join("attributes"));
    access_lists(&root.join("access lists"));
    pipe(&root.join("pipe"));
    if is_root() {
        owners(&root.join("owners"));
        sockets_and_devices(&root.join("special"));
    } else {
        skip("trees with foreign owners, devices and closed folders need root");
    }
    // Last: everything above changes the times of its folder.
    times(&root.join("times"));
}

/// Changes the tree a little, as a day of use would.
pub(crate) fn age(root: &Path) {
    let contents = root.join("contents");
    write(&contents.join("new"), &Bytes(99).take(70_000));
    fs::remove_file(contents.join("one byte")).expect("the file is there");
    let mut grown = File::options().append(true).open(contents.join("3 MB")).expect("the file is there");
    grown.write_all(b"one more line\n").expect("it can grow");
    fs::set_permissions(root.join("modes/plain"), fs::Permissions::from_mode(0o640)).expect("chmod");
}

fn folder(path: &Path) -> &Path {
    fs::create_dir_all(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn contents(root: &Path) {
    folder(root);
    let mut bytes = Bytes(1);
    folder(&root.join("empty folder"));
    write(&root.join("empty"), b"");
    write(&root.join("one byte"), b"1");
    let large = bytes.take(3_000_000);
    write(&root.join("3 MB"), &large);
    write(&root.join("the same 3 MB"), &large);
    // The same pieces in another order: most chunks are shared, the file is not.
    write(&root.join("turned round"), &[&large[1_500_000..], &large[..1_500_000]].concat());
    for size in [511, 512, 513, 4096, 65_537, 524_288, 1_048_577] {
        write(&root.join(format!("{size} bytes")), &bytes.take(size));
    }
    write(&root.join("zeros"), &vec![0; 1 << 20]);
    write(&root.join("compressible"), "all work and no play\n".repeat(30_000).as_bytes());
    sparse(&root.join("sparse"));
}

/// 32 MiB with a little at the start and in the middle, and a hole at the end.
pub(crate) fn sparse(path: &Path) {
    let mut file = File::create(path).expect("a file can be made");
    file.write_all(b"head").expect("write");
    file.seek(SeekFrom::Start(17 << 20)).expect("seek");
    file.write_all(&Bytes(2).take(100_000)).expect("write");
    file.set_len(32 << 20).expect("a hole at the end");
}

fn links(root: &Path) {
    folder(&root.join("far/away"));
    write(&root.join("file"), b"three names");
    fs::hard_link(root.join("file"), root.join("hard link")).expect("hard link");
    fs::hard_link(root.join("file"), root.join("far/away/hard link")).expect("hard link");
    write(&root.join("first of another inode"), b"three names");
    fs::hard_link(root.join("first of another inode"), root.join("second of another inode")).expect("link");
    write(&root.join("empty"), b"");
    fs::hard_link(root.join("empty"), root.join("far/empty too")).expect("hard link");
    for (name, target) in [
        ("relative", &b"file"[..]),
        ("upwards", b"../links/far/../file"),
        ("absolute", b"/etc/hostname"),
        ("dangling", b"nothing/here"),
        ("to itself", b"to itself"),
        ("to a folder", b"far"),
        ("not UTF-8", b"caf\xe9\xff"),
        ("new line", b"a\nb\tc\\d\"e"),
    ] {
        symlink(OsStr::from_bytes(target), root.join(name)).expect("symbolic link");
    }
}

fn names(root: &Path) {
    folder(root);
    let long = [b'n'; 255];
    let names: [&[u8]; 17] = [
        b" ",
        b"-rf",
        b"...",
        b"~",
        b"new\nline",
        b"tab\there",
        b"carriage\rreturn",
        b"'single' \"double\" `back`",
        b"back\\slash \\x41 \\u0041 \\n",
        b"%41 %2e%2e%2f * ? [a] {b} $HOME ; & |",
        b"bell\x07 delete\x7f escape\x1b[31m",
        b"invalid \xff\xfe UTF-8 \xc3(",
        "composed \u{e9}".as_bytes(),
        "decomposed e\u{301}".as_bytes(),
        "\u{202e}right to left \u{200b} zero width \u{1f525}".as_bytes(),
        "\u{2028} line \u{85} separators \u{feff}".as_bytes(),
        &long,
    ];
    for (number, name) in names.iter().enumerate() {
        let name = OsStr::from_bytes(name);
        write(&root.join(name), format!("content {number}").as_bytes());
        write(&folder(&root.join("folders").join(name)).join(name), b"");
    }
}

fn modes(root: &Path) {
    folder(root);
    write(&root.join("plain"), b"plain");
    let mut modes = vec![0o400, 0o666, 0o777, 0o1644, 0o4755, 0o2755, 0o6711];
    if is_root() {
        modes.extend([0o000, 0o200, 0o4000]);
    }
    for mode in modes {
        let path = root.join(format!("file {mode:05o}"));
        write(&path, b"permissions");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let mut modes = vec![0o700, 0o555, 0o1777, 0o2775, 0o3770];
    if is_root() {
        modes.extend([0o000, 0o111]);
    }
    for mode in modes {
        let path = root.join(format!("folder {mode:05o}"));
        write(&folder(&path).join("inside"), b"inside");
        folder(&path.join("below"));
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
}

/// Folders in folders with names of 200 bytes each; returns the innermost.
pub(crate) fn deep(root: &Path, levels: usize) -> PathBuf {
    let mut path = root.to_path_buf();
    for level in 0..levels {
        path.push(format!("{level:02}").repeat(100));
    }
    write(&folder(&path).join("at the bottom"), b"deep");
    path
}

fn attributes(root: &Path) {
    folder(root);
    let file = root.join("file");
    write(&file, b"attributes");
    let binary: Vec<u8> = (0..=255).collect();
    for path in [file.as_path(), root] {
        for (name, value) in
            [("user.comment", &b"a remark"[..]), ("user.empty", b""), ("user.binary", &binary)]
        {
            if let Err(error) = setxattr(path, name, value, XattrFlags::empty()) {
                skip(&format!("this file system has no extended attributes: {error}"));
                return;
            }
        }
    }
    setxattr(&file, "user.large", &[b'v'; 2000], XattrFlags::empty()).expect("setxattr");
}

fn access_lists(root: &Path) {
    folder(root);
    let Some(setfacl) = need("setfacl") else { return };
    let (file, below) = (root.join("file"), root.join("inherits"));
    write(&file, b"access lists");
    run(Command::new(&setfacl).args(["-m", "u:1234:rw,g:5678:r,m::rw"]).arg(&file));
    run(Command::new(&setfacl).args(["-m", "u:1234:rx"]).arg(folder(&below)));
    run(Command::new(&setfacl).args(["-d", "-m", "u:1234:rwx,g:5678:rx,o::-"]).arg(&below));
    write(&below.join("inherited"), b"");
    folder(&below.join("inherited folder"));
    // Below a default list, and without one itself: a restore must not inherit what was not there.
    let bare = below.join("bare");
    write(&bare, b"");
    run(Command::new(&setfacl).arg("-b").arg(&bare));
}

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o640), 0).expect("a pipe can be made");
}

fn owners(root: &Path) {
    folder(root);
    for (uid, gid) in [(0, 0), (1, 2), (1000, 100), (65_534, 65_534), (1_000_000, 2_000_000_000)] {
        let file = root.join(format!("file {uid}:{gid}"));
        write(&file, b"owned");
        lchown(&file, Some(uid), Some(gid)).expect("chown");
        let link = root.join(format!("link {uid}:{gid}"));
        symlink("nowhere", &link).expect("symbolic link");
        lchown(&link, Some(uid), Some(gid)).expect("chown");
        let below = root.join(format!("folder {uid}:{gid}"));
        write(&folder(&below).join("of root"), b"");
        lchown(&below, Some(uid), Some(gid)).expect("chown");
    }
    // A change of owner clears these bits, so they come last.
    let program = root.join("set-user-id of another");
    write(&program, b"#!/bin/true\n");
    lchown(&program, Some(1000), Some(1000)).expect("chown");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).expect("chmod");
}

fn sockets_and_devices(root: &Path) {
    folder(root);
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, root.join("socket"), FileType::Socket, mode, 0).expect("a socket can be made");
    for (name, kind, device) in [
        ("character device", FileType::CharacterDevice, makedev(1, 3)),
        ("block device", FileType::BlockDevice, makedev(7, 200)),
    ] {
        if let Err(error) = mknodat(CWD, root.join(name), kind, mode, device) {
            skip(&format!("no {name} can be made here: {error}"));
        }
    }
}

fn times(root: &Path) {
    folder(root);
    let moments: [(&str, i64, i64); 6] = [
        ("1965 and a bit", -150_000_000, 123_456_789),
        ("the epoch", 0, 0),
        ("just before the epoch", -1, 999_999_999),
        ("nanoseconds", 1_700_000_000, 1),
        ("after 2038", 2_200_000_000, 500_000_000),
        ("2200", 7_258_118_400, 999_999_999),
    ];
    for (name, seconds, nanoseconds) in moments {
        let file = root.join(name);
        write(&file, b"time");
        let below = root.join(format!("folder of {name}"));
        write(&folder(&below).join("inside"), b"");
        let link = root.join(format!("link of {name}"));
        symlink("nowhere", &link).expect("symbolic link");
        let moment = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: moment, last_modification: moment };
        for path in [&file, &below, &link] {
            utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("the time can be set");
        }
    }
}
