//! What file systems allow and backup tools stumble over.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Result;

use super::stage::Stage;

/// Names that are valid and that nobody expects.
const NAMES: &[&[u8]] = &[
    "Zo\u{eb} composed.nfo".as_bytes(),
    "Zoe\u{308} composed.nfo".as_bytes(),
    "日本語 字幕.srt".as_bytes(),
    b"two\nlines.txt",
    b"tab\there.txt",
    b"-rf",
    b" leading and trailing ",
    b"quote\"back\\slash'.txt",
    b"star*question?[x].txt",
    b"latin1-\xe9\xff.txt",
    b"escape\x1b[31m.txt",
];

/// Makes files with such names, links of every kind, and attributes below `folder`.
pub(super) fn plant(stage: &mut Stage, folder: &str) -> Result<()> {
    let folder = Path::new(folder);
    for name in NAMES {
        stage.write(folder.join(OsStr::from_bytes(name)), name)?;
    }
    stage.write(folder.join("n".repeat(255)), b"as long as a name can be\n")?;
    stage.write(folder.join("empty"), b"")?;
    stage.write_with_mode(folder.join("secret"), b"for one reader\n", 0o400)?;
    stage.write_with_mode(folder.join("script"), b"#!/bin/sh\n", 0o755)?;
    stage.folder(folder.join("empty folder"))?;

    stage.symlink(folder.join("link"), "script")?;
    stage.symlink(folder.join("dangling"), "nowhere/at all")?;
    stage.symlink(folder.join("absolute"), "/etc/hostname")?;
    stage.symlink(folder.join("outside"), "../../../../../../outside")?;
    stage.symlink(folder.join("raw"), OsStr::from_bytes(b"raw-\xfe"))?;
    stage.hard_link(folder.join("script"), folder.join("script again"))?;

    stage.attribute(folder.join("secret"), "user.origin", b"upload")?;
    stage.attribute(folder.join("empty folder"), "user.colour", b"green")
}
