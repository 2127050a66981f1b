//! Permission bits, owner, times and extended attributes of one entry.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use firedrill_core::finding::Finding;
use firedrill_core::manifest::{Entry, Kind};
use jiff::Timestamp;
use rustix::fs::Stat;
use rustix::io::Errno;

use super::disk::{ATTRIBUTES_MAX, Handle};
use super::tally::Tally;
use super::trial::{Possible, Trial};

/// Attributes that give power to whoever runs the file. Scratch may withhold them like setuid bits.
pub(super) const PRIVILEGES: [&str; 1] = ["security.capability"];

/// The permission bits that scratch is expected to show for `entry`; `None` where they mean nothing.
pub(super) fn mode_of(entry: &Entry) -> Option<u32> {
    match entry.kind {
        Kind::Symlink(_) | Kind::Socket | Kind::Device => None,
        Kind::File => entry.mode.map(|mode| mode & 0o1777),
        Kind::Directory | Kind::Fifo => entry.mode.map(|mode| mode & 0o7777),
    }
}

/// The modification time in nanoseconds since 1970.
pub(super) fn mtime_of(stat: &Stat) -> i128 {
    i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec)
}

/// What all threads need to compare metadata.
pub(super) struct Metadata<'a> {
    work: &'a Path,
    root: bool,
    trial: Mutex<Option<Trial>>,
}

impl<'a> Metadata<'a> {
    pub(super) fn new(work: &'a Path, root: bool) -> Self {
        Self { work, root, trial: Mutex::new(None) }
    }

    /// Compares everything. `intact` says that the content is as it should be: where it is not, a
    /// modification time that differs says nothing more.
    pub(super) fn compare(
        &self,
        entry: &Entry,
        stat: &Stat,
        handle: Handle<'_>,
        intact: bool,
        buffers: &mut Buffers,
        tally: &mut Tally,
    ) {
        let differs = Differences {
            mode: mode_differs(entry, stat),
            owner: entry.uid.is_some_and(|uid| uid != stat.st_uid)
                || entry.gid.is_some_and(|gid| gid != stat.st_gid),
            time: intact && entry.mtime.is_some_and(|time| time.as_nanosecond() != mtime_of(stat)),
            attributes: match attributes(entry, handle, buffers) {
                Ok(difference) => difference,
                Err(errno) => {
                    tally.hinder(|| entry.display(), "read the extended attributes of", errno);
                    None
                }
            },
        };
        if entry.kind == Kind::File && withheld(entry, stat, &differs) {
            tally.withheld += 1;
        }
        if differs.mode || differs.owner || differs.time || differs.attributes.is_some() {
            match self.attempt(entry) {
                Ok(possible) => report(entry, stat, &differs, &possible, self.root, tally),
                Err(error) => tally.trouble.add(|| format!("cannot make a file in scratch: {error}")),
            }
        }
    }

    fn attempt(&self, entry: &Entry) -> io::Result<Possible> {
        let mut trial = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        if trial.is_none() {
            *trial = Some(Trial::below(self.work)?);
        }
        trial.as_mut().map_or_else(|| Ok(Possible::default()), |trial| trial.attempt(entry))
    }
}

/// Space that each thread keeps for attributes.
pub(super) struct Buffers {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { names: vec![0; ATTRIBUTES_MAX], value: vec![0; ATTRIBUTES_MAX] }
    }
}

#[derive(Debug, Default)]
struct Differences {
    mode: bool,
    owner: bool,
    time: bool,
    attributes: Option<Attributes>,
}

#[derive(Debug, Default)]
struct Attributes {
    missing: Vec<String>,
    different: Vec<String>,
    extra: Vec<Vec<u8>>,
    /// Missing, and meant to be.
    withheld: bool,
}

fn mode_differs(entry: &Entry, stat: &Stat) -> bool {
    let mask = if entry.kind == Kind::File { 0o1777 } else { 0o7777 };
    mode_of(entry).is_some_and(|mode| mode != stat.st_mode & mask)
}

fn withheld(entry: &Entry, stat: &Stat, differs: &Differences) -> bool {
    let bits = entry.mode.is_some_and(|mode| mode & 0o6000 & !stat.st_mode != 0);
    bits || differs.attributes.as_ref().is_some_and(|a| a.withheld)
}

/// `None` when nothing differs.
fn attributes(entry: &Entry, handle: Handle<'_>, buffers: &mut Buffers) -> Result<Option<Attributes>, Errno> {
    let names = match handle.attribute_names(&mut buffers.names) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => &[],
        Err(errno) => return Err(errno),
    };
    if names.is_empty() && entry.attributes.is_empty() {
        return Ok(None);
    }
    let mut found = Attributes::default();
    for attribute in &entry.attributes {
        match handle.attribute(attribute.name.as_bytes(), &mut buffers.value) {
            Ok(value) if value == attribute.value => {}
            Ok(_) => found.different.push(attribute.name.clone()),
            Err(_) if PRIVILEGES.contains(&attribute.name.as_str()) => found.withheld = true,
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::INVAL) => {
                found.missing.push(attribute.name.clone());
            }
            Err(errno) => return Err(errno),
        }
    }
    // Kernels and security modules add names of their own outside these two spaces.
    let ours = |name: &[u8]| name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
    let known = |name: &[u8]| entry.attributes.iter().any(|a| a.name.as_bytes() == name);
    let extra = names.split(|b| *b == 0).filter(|name| ours(name) && !known(name));
    found.extra = extra.map(<[u8]>::to_vec).collect();
    let same = found.missing.is_empty() && found.different.is_empty() && found.extra.is_empty();
    Ok(if same && !found.withheld { None } else { Some(found) })
}

fn report(
    entry: &Entry,
    stat: &Stat,
    differs: &Differences,
    possible: &Possible,
    root: bool,
    tally: &mut Tally,
) {
    let shown = entry.display();
    if differs.mode && possible.mode {
        let expected = format!("permissions {:04o}", mode_of(entry).unwrap_or_default());
        let seen = format!("{:04o}", stat.st_mode & 0o7777);
        tally.find(&entry.path, Finding::damage("tree.mode", &shown, expected, seen));
    } else if differs.mode {
        tally.modes.add(|| shown.clone());
    }
    if differs.owner && root && possible.owner {
        let expected = format!("owner {}", owner(entry.uid, entry.gid));
        let seen = owner(Some(stat.st_uid), Some(stat.st_gid));
        tally.find(&entry.path, Finding::damage("tree.owner", &shown, expected, seen));
    } else if differs.owner {
        tally.owners.add(|| format!("{shown} to {}", owner(entry.uid, entry.gid)));
    }
    if differs.time && possible.time {
        let expected = format!("modified {}", entry.mtime.map(|t| t.to_string()).unwrap_or_default());
        let seen = Timestamp::from_nanosecond(mtime_of(stat))
            .map_or_else(|_| format!("{} s since 1970", stat.st_mtime), |t| t.to_string());
        tally.find(&entry.path, Finding::damage("tree.time", &shown, expected, seen));
    } else if differs.time {
        tally.times.add(|| shown.clone());
    }
    if let Some(attributes) = &differs.attributes {
        report_attributes(entry, attributes, possible, tally);
    }
}

fn owner(uid: Option<u32>, gid: Option<u32>) -> String {
    let part = |id: Option<u32>| id.map_or_else(|| "?".to_owned(), |id| id.to_string());
    format!("{}:{}", part(uid), part(gid))
}

fn report_attributes(entry: &Entry, attributes: &Attributes, possible: &Possible, tally: &mut Tally) {
    let shown = entry.display();
    let mut seen = Vec::new();
    if !attributes.missing.is_empty() || !attributes.different.is_empty() {
        if possible.attributes {
            seen.extend(attributes.missing.iter().map(|name| format!("{name} is missing")));
            seen.extend(attributes.different.iter().map(|name| format!("{name} has another value")));
        } else {
            let name = attributes.missing.first().or(attributes.different.first());
            tally.attributes.add(|| format!("{} of {shown}", name.map_or("some", String::as_str)));
        }
    }
    let extra = attributes.extra.iter().filter(|name| !possible.given.contains(name));
    seen.extend(extra.map(|name| format!("{} was added", String::from_utf8_lossy(name).escape_debug())));
    if !seen.is_empty() {
        let expected = match entry.attributes.len() {
            0 => "no extended attributes".to_owned(),
            1 => "its extended attribute".to_owned(),
            n => format!("its {n} extended attributes"),
        };
        tally.find(&entry.path, Finding::damage("tree.attributes", shown, expected, seen.join(", ")));
    }
}
