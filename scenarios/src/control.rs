//! The negative control: damage to restored data that the probes must find. If they do not, the run
//! cannot tell a damaged backup from a good one, and says so.
//!
//! Verified: each damage is read back. Everything happens below the lease: every component of a path is
//! opened without following links.
//!
//! Not verified: damage other than to content, presence and permissions of files.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use firedrill_core::error::{Error, ErrorKind, Result};
use firedrill_core::event::Injected;
use firedrill_core::manifest::{Entry, Kind, Manifest, display_path};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

/// How many files are tried for one damage before it is given up.
const TRIES: usize = 64;

/// Damages what was restored to `root` in up to four ways, each to another file: one byte flipped with
/// the time kept, one file removed, one added, the permissions of one changed. Returns what was done and
/// by which finding each must be noticed: at least one damage whenever there is a file.
pub fn damage_lease(root: &Path, manifest: &Manifest, seed: u64) -> Result<Vec<Injected>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, root, flags, Mode::empty())
        .map_err(|error| failed("open the lease of the negative control", error))?;
    let mut rng = StdRng::seed_from_u64(seed);
    // A file with several names would show the same damage several times.
    let mut files: Vec<&Entry> = manifest.files().filter(|file| file.link_group == 0).collect();
    files.shuffle(&mut rng);
    let mut lease = Lease { root, files, rng };

    let mut injected = Vec::new();
    injected.extend(lease.flip()?);
    injected.extend(lease.remove()?);
    injected.extend(lease.chmod()?);
    injected.extend(lease.add(manifest)?);
    if injected.is_empty() && manifest.files().next().is_some() {
        return Err(Error::new(ErrorKind::Scratch, "damage the lease of the negative control")
            .because("no restored file and no folder could be changed"));
    }
    Ok(injected)
}

/// The lease and the files in it that are still whole, in random order.
struct Lease<'a> {
    root: OwnedFd,
    files: Vec<&'a Entry>,
    rng: StdRng,
}

impl Lease<'_> {
    /// Takes files until `strike` has damaged one. What cannot be damaged (it did not come back, it is
    /// empty, we may not touch it) is passed over.
    fn strike(
        &mut self,
        what: &str,
        code: &str,
        strike: impl Fn(&OwnedFd, &Entry, &mut StdRng) -> Result<bool, Errno>,
    ) -> Result<Option<Injected>> {
        for number in 0..self.files.len().min(TRIES) {
            let Some(entry) = self.files.get(number).copied() else { break };
            match strike(&self.root, entry, &mut self.rng) {
                Ok(true) => {
                    self.files.remove(number);
                    return Ok(Some(injected(what, code, &entry.path)));
                }
                Ok(false)
                | Err(
                    Errno::ACCESS | Errno::PERM | Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO,
                ) => {}
                Err(error) => {
                    return Err(failed(
                        &format!("damage {} for the negative control", entry.display()),
                        error,
                    ));
                }
            }
        }
        Ok(None)
    }

    fn flip(&mut self) -> Result<Option<Injected>> {
        self.strike("one byte was flipped, the modification time kept", "tree.content", |root, entry, rng| {
            if entry.size == 0 {
                return Ok(false);
            }
            let (folder, name) = open_parent(root, &entry.path)?;
            let Some((reader, stat)) = open_file(&folder, name)? else { return Ok(false) };
            let length = stat.st_size.unsigned_abs();
            if length == 0 {
                return Ok(false);
            }
            let writer = open_for_writing(&folder, name, &reader, &stat)?;
            let at = rng.random_range(0..length);
            let byte = read_byte(&reader, at)?;
            rustix::io::pwrite(&writer, &[!byte], at)?;
            let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() };
            let access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            rustix::fs::futimens(&writer, &Timestamps { last_access: access, last_modification: mtime })?;
            Ok(read_byte(&reader, at)? == !byte)
        })
    }

    fn remove(&mut self) -> Result<Option<Injected>> {
        self.strike("the file was removed", "tree.missing", |root, entry, _| {
            let (folder, name) = open_parent(root, &entry.path)?;
            if open_file(&folder, name)?.is_none() {
                return Ok(false);
            }
            rustix::fs::unlinkat(&folder, name, AtFlags::empty())?;
            let gone = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
            Ok(gone.err() == Some(Errno::NOENT))
        })
    }

    fn chmod(&mut self) -> Result<Option<Injected>> {
        self.strike("the permissions were changed", "tree.mode", |root, entry, _| {
            let Some(recorded) = entry.mode else { return Ok(false) };
            let (folder, name) = open_parent(root, &entry.path)?;
            let Some((file, _)) = open_file(&folder, name)? else { return Ok(false) };
            let wrong = (recorded & 0o777) ^ 0o011;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(wrong))?;
            Ok(rustix::fs::fstat(&file)?.st_mode & 0o777 == wrong)
        })
    }

    fn add(&mut self, manifest: &Manifest) -> Result<Option<Injected>> {
        let mut folders: Vec<&[u8]> = manifest
            .entries()
            .iter()
            .filter(|e| e.kind == Kind::Directory)
            .map(|e| e.path.as_slice())
            .collect();
        folders.shuffle(&mut self.rng);
        folders.truncate(TRIES);
        // The root of the lease is always there.
        folders.push(b"");
        for folder in folders {
            let name = format!("firedrill-control-{:08x}", self.rng.random::<u32>());
            let path =
                if folder.is_empty() { name.into_bytes() } else { [folder, b"/", name.as_bytes()].concat() };
            let made = open_parent(&self.root, &path).and_then(|(folder, name)| {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644))?;
                rustix::io::write(&file, b"This file is in no backup.\n")
            });
            match made {
                Ok(_) => return Ok(Some(injected("a file was added", "tree.extra", &path))),
                Err(
                    Errno::ACCESS
                    | Errno::PERM
                    | Errno::NOENT
                    | Errno::NOTDIR
                    | Errno::LOOP
                    | Errno::NAMETOOLONG,
                ) => {}
                Err(error) => return Err(failed("add a file for the negative control", error)),
            }
        }
        Ok(None)
    }
}

fn injected(what: &str, code: &str, path: &[u8]) -> Injected {
    Injected { what: what.to_owned(), expected_code: code.to_owned(), location: display_path(path) }
}

fn failed(attempted: &str, error: Errno) -> Error {
    Error::new(ErrorKind::Scratch, attempted).from_source(&std::io::Error::from(error))
}

/// Opens the folder that holds `path`, one component at a time and through no link.
fn open_parent<'p>(root: &OwnedFd, path: &'p [u8]) -> Result<(OwnedFd, &'p OsStr), Errno> {
    let mut folder = root.try_clone().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() || part == b"." || part == b".." {
            break;
        }
        let part = OsStr::from_bytes(part);
        if parts.peek().is_none() {
            return Ok((folder, part));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = rustix::fs::openat(&folder, part, flags, Mode::empty())?;
    }
    // Not a path below the root. It cannot have been restored, so there is nothing to damage.
    Err(Errno::NOENT)
}

/// Opens a regular file that has one name. `None` for anything else.
fn open_file(folder: &OwnedFd, name: &OsStr) -> Result<Option<(OwnedFd, Stat)>, Errno> {
    // Opening a pipe must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
    Ok(plain.then_some((file, stat)))
}

/// Opens the same file for writing, even if its owner may only read it, and leaves its mode as it is.
fn open_for_writing(folder: &OwnedFd, name: &OsStr, file: &OwnedFd, stat: &Stat) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(folder, name, flags, Mode::empty());
    open().or_else(|error| {
        if error != Errno::ACCESS {
            return Err(error);
        }
        rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR)?;
        let opened = open();
        rustix::fs::fchmod(file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        opened
    })
}

fn read_byte(file: &OwnedFd, at: u64) -> Result<u8, Errno> {
    let mut byte = [0];
    match rustix::io::pread(file, &mut byte, at)? {
        1 => Ok(byte[0]),
        _ => Err(Errno::IO),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use firedrill_core::manifest::NewEntry;

    use super::*;

    fn restored(root: &Path, names: &[&str]) -> Manifest {
        let mut manifest = Manifest::default();
        manifest.push(NewEntry::bare("d", Kind::Directory), []);
        std::fs::create_dir(root.join("d")).unwrap();
        for name in names {
            let path = root.join(name);
            std::fs::write(&path, name.repeat(100)).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
            let size = path.metadata().unwrap().size();
            manifest.push(NewEntry { size, mode: Some(0o444), ..NewEntry::bare(*name, Kind::File) }, []);
        }
        manifest
    }

    fn codes(injected: &[Injected]) -> Vec<&str> {
        injected.iter().map(|one| one.expected_code.as_str()).collect()
    }

    #[test]
    fn each_damage_is_where_it_says() {
        let work = tempfile::tempdir().unwrap();
        let names = ["a", "d/b", "d/c", "e"];
        let manifest = restored(work.path(), &names);
        let times: Vec<_> =
            names.iter().map(|n| work.path().join(n).metadata().unwrap().mtime_nsec()).collect();
        let injected = damage_lease(work.path(), &manifest, 4).unwrap();
        assert_eq!(codes(&injected), ["tree.content", "tree.missing", "tree.mode", "tree.extra"]);
        let places: std::collections::BTreeSet<_> = injected.iter().map(|one| &one.location).collect();
        assert_eq!(places.len(), 4);
        for one in &injected {
            let path = work.path().join(&one.location);
            match one.expected_code.as_str() {
                "tree.content" => {
                    let (good, bad) = (one.location.repeat(100).into_bytes(), std::fs::read(&path).unwrap());
                    assert_eq!(good.iter().zip(&bad).filter(|(g, b)| g != b).count(), 1);
                    assert_eq!(good.len(), bad.len());
                    let number = names.iter().position(|name| *name == one.location).unwrap();
                    assert_eq!(path.metadata().unwrap().mtime_nsec(), times[number]);
                    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o444);
                }
                "tree.missing" => assert!(!path.exists()),
                "tree.mode" => assert_ne!(path.metadata().unwrap().mode() & 0o777, 0o444),
                _ => assert!(path.is_file() && !names.contains(&one.location.as_str())),
            }
        }
    }

    #[test]
    fn few_files_allow_few_damages_and_the_seed_decides() {
        let work = tempfile::tempdir().unwrap();
        let manifest = restored(work.path(), &["only"]);
        assert_eq!(codes(&damage_lease(work.path(), &manifest, 1).unwrap()), ["tree.content", "tree.extra"]);

        let run = |seed| {
            let work = tempfile::tempdir().unwrap();
            let manifest = restored(work.path(), &["a", "b", "c", "e", "f", "g"]);
            damage_lease(work.path(), &manifest, seed).unwrap()
        };
        assert_eq!(run(9), run(9));
        assert_ne!(run(9), run(10));
    }

    #[test]
    fn links_are_not_followed_and_shared_files_are_left_alone() {
        let work = tempfile::tempdir().unwrap();
        let (lease, outside) = (work.path().join("lease"), work.path().join("outside"));
        std::fs::create_dir_all(outside.join("sub")).unwrap();
        std::fs::create_dir(&lease).unwrap();
        std::fs::write(outside.join("sub/file"), b"precious").unwrap();
        std::os::unix::fs::symlink(&outside, lease.join("up")).unwrap();
        std::os::unix::fs::symlink(outside.join("sub/file"), lease.join("link")).unwrap();
        std::fs::write(lease.join("one"), b"shared").unwrap();
        std::fs::hard_link(lease.join("one"), lease.join("two")).unwrap();
        let mut manifest = Manifest::default();
        manifest.push(NewEntry::bare("up", Kind::Directory), []);
        for name in ["up/sub/file", "link", "../outside/sub/file", "one", "two"] {
            manifest.push(NewEntry { size: 8, mode: Some(0o644), ..NewEntry::bare(name, Kind::File) }, []);
        }
        let injected = damage_lease(&lease, &manifest, 1).unwrap();
        assert_eq!(codes(&injected), ["tree.extra"]);
        assert_eq!(std::fs::read(outside.join("sub/file")).unwrap(), b"precious");
        assert_eq!(std::fs::read(lease.join("two")).unwrap(), b"shared");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        assert!(lease.join(&injected[0].location).is_file());
    }

    #[test]
    fn a_lease_that_is_gone_is_an_error_of_ours() {
        let work = tempfile::tempdir().unwrap();
        let error = damage_lease(&work.path().join("gone"), &Manifest::default(), 1).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Scratch);
    }
}
